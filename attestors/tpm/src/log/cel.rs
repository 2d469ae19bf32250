//! The canonical event log in its TLV form (TCG CEL, section 5.1): a type byte, a 32-bit length, big-endian.

use touchmark_crypto::HashAlg;

use super::{
    LogError, MAX_EVENTS,
    event::{Content, Digests, Event},
    little::Little,
    tcg::Read,
};
use crate::public_area::hash_alg;

const RECNUM: u8 = 0;
const PCR: u8 = 1;
const NV_INDEX: u8 = 2;
const DIGESTS: u8 = 3;
/// A measurement register of a confidential VM, as Google's logs have it.
const CC_REGISTER: u8 = 108;
const PC_CLIENT: u8 = 5;
const IMA_TEMPLATE: u8 = 7;

/// Whether bytes begin like a record: its number in eight bytes, then a register in four.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [
            RECNUM,
            0,
            0,
            0,
            8,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            PCR | NV_INDEX | CC_REGISTER,
            0,
            0,
            0,
            4,
            ..
        ]
    )
}

pub(super) fn parse(bytes: &[u8]) -> Result<Read<'_>, LogError> {
    let mut rest = Tlv(bytes);
    let mut events = Vec::new();
    let mut banks: Vec<HashAlg> = Vec::new();
    let mut before = None;
    while !rest.0.is_empty() {
        if events.len() >= MAX_EVENTS {
            return Err(LogError::Limit("events"));
        }
        let number = events.len() + 1;
        let short = || LogError::Truncated { event: number };
        let record = rest.take(RECNUM).ok_or_else(short)?;
        let record = u64::from_be_bytes(record.try_into().map_err(|_| short())?);
        if before.is_some_and(|before| record <= before) {
            return Err(LogError::Event {
                event: number,
                what: "record numbers that do not grow",
            });
        }
        before = Some(record);
        let (kind, index) = rest.any().ok_or_else(short)?;
        let register = u32::from_be_bytes(index.try_into().map_err(|_| short())?);
        if !matches!(kind, PCR | NV_INDEX | CC_REGISTER) || (kind != NV_INDEX && register >= 24) {
            return Err(LogError::Register {
                event: number,
                register,
            });
        }
        let digests = digests(rest.take(DIGESTS).ok_or_else(short)?, number)?;
        let (content, data) = rest.any().ok_or_else(short)?;
        if kind == NV_INDEX {
            // An extend of an NV index says nothing about the registers.
            continue;
        }
        for (bank, _) in digests.iter() {
            if !banks.contains(&bank) {
                banks.push(bank);
            }
        }
        events.push(event(number, register, digests, content, data)?);
    }
    Ok(Read {
        events,
        banks,
        trailing: None,
        header: None,
    })
}

fn event<'a>(
    number: usize,
    register: u32,
    digests: Digests<'a>,
    content: u8,
    data: &'a [u8],
) -> Result<Event<'a>, LogError> {
    let malformed = || LogError::Event {
        event: number,
        what: "content that is not of its type",
    };
    let (kind, content, data) = match content {
        PC_CLIENT => {
            // Nested: event type (T 0), event data (T 1).
            let mut inner = Tlv(data);
            let kind = inner.take(0).ok_or_else(malformed)?;
            let kind = u32::from_be_bytes(kind.try_into().map_err(|_| malformed())?);
            let data = inner.take(1).ok_or_else(malformed)?;
            if !inner.0.is_empty() {
                return Err(malformed());
            }
            (kind, Content::PcClient, data)
        }
        IMA_TEMPLATE => (0, Content::Ima, data),
        other => (0, Content::Other(other), data),
    };
    Ok(Event {
        number,
        register,
        kind,
        content,
        digests,
        data,
    })
}

fn digests(bytes: &[u8], event: usize) -> Result<Digests<'_>, LogError> {
    let wrong = |what| LogError::Digests { event, what };
    let mut rest = Tlv(bytes);
    let mut out = Digests::default();
    let mut seen: Vec<u8> = Vec::new();
    while !rest.0.is_empty() {
        let (alg, digest) = rest.any().ok_or(wrong("digests that end too early"))?;
        if seen.contains(&alg) {
            return Err(wrong("two digests of one algorithm"));
        }
        seen.push(alg);
        if let Some(hash) = hash_alg(u16::from(alg)) {
            if digest.len() != hash.len() {
                return Err(wrong("a digest that is not as long as its algorithm's"));
            }
            out.add(hash, digest);
        }
    }
    Ok(out)
}

struct Tlv<'a>(&'a [u8]);

impl<'a> Tlv<'a> {
    fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let mut reader = Little(self.0);
        let kind = reader.u8()?;
        let length = u32::from_be_bytes(reader.take(4)?.try_into().ok()?);
        let value = reader.take(usize::try_from(length).ok()?)?;
        self.0 = reader.0;
        Some((kind, value))
    }

    fn take(&mut self, kind: u8) -> Option<&'a [u8]> {
        self.any()
            .filter(|(found, _)| *found == kind)
            .map(|(_, value)| value)
    }
}
