//! Reading a crypto-agile log into events. Little-endian, bounded, algorithm sizes from a table of ours.

use std::collections::BTreeMap;

use touchmark_crypto::HashAlg;

use crate::public_area::hash_alg;

/// Largest log accepted, in bytes.
pub const MAX_LOG: usize = 4 * 1024 * 1024;
/// Most events accepted.
pub const MAX_EVENTS: usize = 10_000;

/// EV_NO_ACTION: never extended.
pub(crate) const EV_NO_ACTION: u32 = 0x0000_0003;

/// Why a log cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Over [`MAX_LOG`] or [`MAX_EVENTS`].
    #[error("log exceeds the limit on {0}")]
    Limit(&'static str),
    /// The bytes end within an event.
    #[error("log ends within event {event}")]
    Truncated {
        /// Number of the event, from 0.
        event: usize,
    },
    /// The first event is not a Spec ID event of a crypto-agile log.
    #[error("not a crypto-agile log: {0}")]
    Header(&'static str),
    /// An event does not have exactly one digest of each algorithm that the header lists.
    #[error("event {event}: {what}")]
    Digests {
        /// Number of the event, from 0.
        event: usize,
        /// What is wrong with them.
        what: &'static str,
    },
    /// An event of a register that does not exist.
    #[error("event {event}: {what}")]
    Event {
        /// Number of the event, from 0.
        event: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// One record of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    /// Position in the log; the header is 0.
    pub(crate) number: usize,
    pub(crate) pcr: u8,
    pub(crate) kind: u32,
    /// One digest per bank of the header.
    pub(crate) digests: BTreeMap<HashAlg, &'a [u8]>,
    pub(crate) data: &'a [u8],
}

/// A boot log, read but not yet held against any register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootLog<'a> {
    pub(crate) events: Vec<Event<'a>>,
    banks: Vec<HashAlg>,
}

impl<'a> BootLog<'a> {
    /// Reads a whole log.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, LogError> {
        if bytes.len() > MAX_LOG {
            return Err(LogError::Limit("bytes"));
        }
        let mut reader = Little {
            rest: bytes,
            event: 0,
        };
        let sizes = header(&mut reader)?;
        let mut events = Vec::new();
        while !reader.rest.is_empty() {
            if events.len() >= MAX_EVENTS {
                return Err(LogError::Limit("events"));
            }
            reader.event += 1;
            events.push(event(&mut reader, &sizes)?);
        }
        let banks = sizes.iter().filter_map(|(alg, _)| hash_alg(*alg)).collect();
        Ok(Self { events, banks })
    }

    /// Number of events after the header.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there is no event after the header.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Whether the log has digests of this bank.
    pub fn has_bank(&self, bank: HashAlg) -> bool {
        self.banks.contains(&bank)
    }

    /// The locality that TPM2_Startup came from, which is what register 0 starts at (StartupLocality event).
    pub(crate) fn startup_locality(&self) -> u8 {
        self.events
            .iter()
            .filter(|event| event.kind == EV_NO_ACTION && event.pcr == 0)
            .find_map(|event| match event.data.strip_prefix(b"StartupLocality\0") {
                Some([locality]) => Some(*locality),
                _ => None,
            })
            .unwrap_or(0)
    }
}

/// TCG_PCR_EVENT (SHA-1 form) holding TCG_EfiSpecIDEvent: the algorithms and their digest sizes.
fn header(reader: &mut Little<'_>) -> Result<Vec<(u16, usize)>, LogError> {
    let pcr = reader.u32()?;
    let kind = reader.u32()?;
    let _digest = reader.take(20)?;
    let size = reader.size()?;
    let mut data = Little {
        rest: reader.take(size)?,
        event: 0,
    };
    if kind != EV_NO_ACTION || pcr != 0 {
        return Err(LogError::Header("first event is not EV_NO_ACTION in register 0"));
    }
    if data.take(16)? != b"Spec ID Event03\0" {
        return Err(LogError::Header("no Spec ID Event03"));
    }
    let _platform_class_and_version = data.take(8)?;
    let count = data.u32()?;
    if count == 0 || count > 16 {
        return Err(LogError::Header("number of algorithms"));
    }
    let mut sizes: Vec<(u16, usize)> = Vec::new();
    for _ in 0..count {
        let (alg, size) = (data.u16()?, usize::from(data.u16()?));
        if hash_alg(alg).is_some_and(|hash| hash.len() != size) || size > 64 {
            return Err(LogError::Header(
                "digest size that does not go with its algorithm",
            ));
        }
        if sizes.iter().any(|(other, _)| *other == alg) {
            return Err(LogError::Header("algorithm listed twice"));
        }
        sizes.push((alg, size));
    }
    Ok(sizes)
}

/// TCG_PCR_EVENT2.
fn event<'a>(reader: &mut Little<'a>, sizes: &[(u16, usize)]) -> Result<Event<'a>, LogError> {
    let number = reader.event;
    let digests_wrong = |what| LogError::Digests { event: number, what };
    let register = u8::try_from(reader.u32()?).ok().filter(|pcr| *pcr < 24);
    let kind = reader.u32()?;
    // What is never extended may name no register: Windows writes 0xffffffff.
    let pcr = match (register, kind) {
        (Some(pcr), _) => pcr,
        (None, EV_NO_ACTION) => u8::MAX,
        (None, _) => {
            return Err(LogError::Event {
                event: number,
                what: "register does not exist",
            });
        }
    };
    let count = reader.u32()?;
    if usize::try_from(count).ok() != Some(sizes.len()) {
        return Err(digests_wrong("number of digests is not that of the header"));
    }
    let mut digests = BTreeMap::new();
    let mut seen = Vec::new();
    for _ in 0..count {
        let alg = reader.u16()?;
        let size = sizes
            .iter()
            .find(|(known, _)| *known == alg)
            .map(|(_, size)| *size);
        let digest = reader.take(size.ok_or(digests_wrong(
            "digest of an algorithm that the header does not list",
        ))?)?;
        if seen.contains(&alg) {
            return Err(digests_wrong("two digests of one algorithm"));
        }
        seen.push(alg);
        if let Some(hash) = hash_alg(alg) {
            digests.insert(hash, digest);
        }
    }
    let size = reader.size()?;
    let data = reader.take(size)?;
    Ok(Event {
        number,
        pcr,
        kind,
        digests,
        data,
    })
}

struct Little<'a> {
    rest: &'a [u8],
    event: usize,
}

impl<'a> Little<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], LogError> {
        let (head, tail) = self
            .rest
            .split_at_checked(length)
            .ok_or(LogError::Truncated { event: self.event })?;
        self.rest = tail;
        Ok(head)
    }

    fn u16(&mut self) -> Result<u16, LogError> {
        Ok(u16::from_le_bytes(self.take(2)?.try_into().unwrap_or_default()))
    }

    fn u32(&mut self) -> Result<u32, LogError> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().unwrap_or_default()))
    }

    fn size(&mut self) -> Result<usize, LogError> {
        usize::try_from(self.u32()?).map_err(|_| LogError::Truncated { event: self.event })
    }
}
