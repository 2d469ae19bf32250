//! Logs as firmware writes them: crypto-agile (PC Client Platform Firmware Profile, section 10.2) and, of TPM 1.2 and of kernels
//! that only know that, SHA-1 alone (section 10.2.1).

use touchmark_crypto::HashAlg;

use super::{
    Header, LogError, MAX_EVENTS, Trailing,
    event::{Content, Digests, EV_NO_ACTION, Event},
    last_run,
    little::Little,
};
use crate::public_area::{digest_size, hash_alg};

/// Most algorithms in a header.
const MAX_ALGORITHMS: u32 = 16;

/// What was read of a log.
pub(super) struct Read<'a> {
    pub(super) events: Vec<Event<'a>>,
    pub(super) banks: Vec<HashAlg>,
    pub(super) trailing: Option<Trailing>,
    /// The Spec ID event, where it came first.
    pub(super) header: Option<Header>,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Read<'_>, LogError> {
    let mut rest = Little(bytes);
    let first = legacy_event(&mut rest, 0)?;
    // In register 0, and of confidential VMs in their measurement register 1.
    let spec_id =
        first.kind == EV_NO_ACTION && first.register < 2 && first.data.starts_with(b"Spec ID Event03\0");
    if !spec_id {
        return legacy(bytes);
    }
    let sizes = algorithms(first.data)?;
    let run = last_run(bytes);
    let mut events = Vec::new();
    let mut trailing = None;
    while !rest.is_empty() {
        let at = bytes.len() - rest.0.len();
        if at >= run {
            trailing = Trailing::from(bytes, at);
            if trailing.is_some() {
                break;
            }
        }
        if events.len() >= MAX_EVENTS {
            return Err(LogError::Limit("events"));
        }
        events.push(agile_event(&mut rest, &sizes, events.len() + 1)?);
    }
    Ok(Read {
        events,
        banks: sizes.iter().filter_map(|(alg, _)| hash_alg(*alg)).collect(),
        trailing,
        header: Some(Header {
            register: first.register,
            digested: first
                .digests
                .iter()
                .any(|(_, digest)| digest.iter().any(|byte| *byte != 0)),
        }),
    })
}

fn legacy(bytes: &[u8]) -> Result<Read<'_>, LogError> {
    let mut rest = Little(bytes);
    let run = last_run(bytes);
    if run == 0 {
        return Err(LogError::Header("nothing but filling"));
    }
    let mut events = Vec::new();
    let mut trailing = None;
    while !rest.is_empty() {
        let at = bytes.len() - rest.0.len();
        if at >= run {
            trailing = Trailing::from(bytes, at);
            if trailing.is_some() {
                break;
            }
        }
        if events.len() >= MAX_EVENTS {
            return Err(LogError::Limit("events"));
        }
        events.push(legacy_event(&mut rest, events.len())?);
    }
    Ok(Read {
        events,
        banks: vec![HashAlg::Sha1],
        trailing,
        header: None,
    })
}

/// TCG_PCClientPCREvent: one SHA-1 digest.
fn legacy_event<'a>(reader: &mut Little<'a>, number: usize) -> Result<Event<'a>, LogError> {
    let short = LogError::Truncated { event: number };
    let register = reader.u32().ok_or(short.clone())?;
    let kind = reader.u32().ok_or(short.clone())?;
    let digest = reader.take(20).ok_or(short.clone())?;
    let size = reader.size().ok_or(short.clone())?;
    let data = reader.take(size).ok_or(short)?;
    let mut digests = Digests::default();
    digests.add(HashAlg::Sha1, digest);
    Ok(Event {
        number,
        register: check_register(register, kind, number)?,
        kind,
        content: Content::PcClient,
        digests,
        data,
    })
}

/// What is never extended may name no register: Windows writes 0xffffffff.
fn check_register(register: u32, kind: u32, event: usize) -> Result<u32, LogError> {
    if register < 24 || kind == EV_NO_ACTION {
        Ok(register)
    } else {
        Err(LogError::Register { event, register })
    }
}

/// TCG_EfiSpecIDEvent: the algorithms and their digest sizes, which are never those that a log claims.
fn algorithms(data: &[u8]) -> Result<Vec<(u16, usize)>, LogError> {
    const SHORT: LogError = LogError::Header("a Spec ID event that ends too early");
    let mut data = Little(data);
    // Signature, platform class, versions and the size of UINTN.
    data.take(16 + 4 + 4).ok_or(SHORT)?;
    let count = data.u32().ok_or(SHORT)?;
    if count == 0 || count > MAX_ALGORITHMS {
        return Err(LogError::Header("number of algorithms"));
    }
    let mut sizes: Vec<(u16, usize)> = Vec::new();
    for _ in 0..count {
        let alg = data.u16().ok_or(SHORT)?;
        let size = usize::from(data.u16().ok_or(SHORT)?);
        match digest_size(alg) {
            None => {
                return Err(LogError::Header(
                    "an algorithm whose digests are of no known size",
                ));
            }
            Some(known) if known != size => {
                return Err(LogError::Header(
                    "digest size that does not go with its algorithm",
                ));
            }
            Some(_) => {}
        }
        if sizes.iter().any(|(other, _)| *other == alg) {
            return Err(LogError::Header("algorithm listed twice"));
        }
        sizes.push((alg, size));
    }
    let vendor = usize::from(data.u8().ok_or(SHORT)?);
    data.take(vendor).ok_or(SHORT)?;
    if !data.is_empty() {
        return Err(LogError::Header("bytes after the vendor information"));
    }
    Ok(sizes)
}

/// TCG_PCR_EVENT2. Each digest is of another algorithm of the header; some of them may be missing, which is held against the log
/// where their bank is asked about.
fn agile_event<'a>(
    reader: &mut Little<'a>,
    sizes: &[(u16, usize)],
    number: usize,
) -> Result<Event<'a>, LogError> {
    let short = || LogError::Truncated { event: number };
    let wrong = |what| LogError::Digests { event: number, what };
    let register = reader.u32().ok_or_else(short)?;
    let kind = reader.u32().ok_or_else(short)?;
    let register = check_register(register, kind, number)?;
    let count = reader.u32().ok_or_else(short)?;
    if count > MAX_ALGORITHMS {
        return Err(wrong("more digests than there are algorithms"));
    }
    let mut digests = Digests::default();
    // By their positions in the header, of which there are few.
    let mut seen = 0_u32;
    for _ in 0..count {
        let alg = reader.u16().ok_or_else(short)?;
        let listed = sizes.iter().position(|(known, _)| *known == alg);
        let (at, (_, size)) = listed
            .and_then(|at| Some((at, sizes.get(at)?)))
            .ok_or(wrong("digest of an algorithm that the header does not list"))?;
        let digest = reader.take(*size).ok_or_else(short)?;
        if seen >> at & 1 == 1 {
            return Err(wrong("two digests of one algorithm"));
        }
        seen |= 1 << at;
        if let Some(hash) = hash_alg(alg) {
            digests.add(hash, digest);
        }
    }
    let size = reader.size().ok_or_else(short)?;
    let data = reader.take(size).ok_or_else(short)?;
    Ok(Event {
        number,
        register,
        kind,
        content: Content::PcClient,
        digests,
        data,
    })
}
