//! Replay: does the log explain the registers that were quoted?

use std::collections::BTreeMap;

use touchmark_crypto::HashAlg;
use touchmark_rats::{MeasuredEvent, Reason};

use super::{
    BootLog,
    describe::describe,
    event::{EV_EFI_ACTION, EV_SEPARATOR, EV_VARIABLE_DRIVER_CONFIG, Event, kind},
};

/// Events whose digest is, by the profile, the hash of their data. EV_EFI_VARIABLE_AUTHORITY is not among them: shim
/// measured the certificate alone, and genuine logs show it so.
const COVERED: [u32; 3] = [EV_SEPARATOR, EV_VARIABLE_DRIVER_CONFIG, EV_EFI_ACTION];

/// A log that explains registers.
#[derive(Debug)]
pub(crate) struct Explained {
    /// The events behind the quoted values, in order, without words; events that came after the quote are left out.
    pub(crate) events: Vec<MeasuredEvent>,
    /// The registers, ascending, and whether anything was measured into each.
    pub(crate) measured: Vec<(u8, bool)>,
    /// The values of the registers that were explained.
    pub(crate) values: BTreeMap<(HashAlg, u8), Vec<u8>>,
}

/// Why a log explains nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unexplained {
    pub(crate) reason: Reason,
    pub(crate) found: String,
}

/// Holds the log against the registers of one bank. `values` are the quoted values where they are known; without them
/// `matches` is asked about the digest over all replayed values in ascending order.
pub(crate) fn explain(
    log: &BootLog<'_>,
    bank: HashAlg,
    indices: &[u8],
    values: Option<&BTreeMap<u8, Vec<u8>>>,
    matches: impl FnOnce(&[Vec<u8>]) -> bool,
) -> Result<Explained, Unexplained> {
    if !log.has_bank(bank) {
        return Err(Unexplained {
            reason: Reason::EventDigestSet,
            found: format!("a log without {} digests", bank.name()),
        });
    }
    let mut events = Vec::new();
    let mut replayed = Vec::new();
    let mut measured = Vec::new();
    for index in indices {
        let register = Register {
            log,
            bank,
            index: *index,
        };
        let (value, register_events) = match values.and_then(|values| values.get(index)) {
            Some(quoted) => (quoted.clone(), register.up_to(quoted)?),
            None => register.whole()?,
        };
        measured.push((*index, !register_events.is_empty()));
        replayed.push(value);
        events.extend(register_events);
    }
    if values.is_none() && !matches(&replayed) {
        return Err(Unexplained {
            reason: Reason::LogMismatch,
            found: "register values that the log does not lead to; the host sent no values, so which is not known"
                .to_owned(),
        });
    }
    for event in &events {
        check_data(event, bank)?;
    }
    let mut events: Vec<MeasuredEvent> = events
        .into_iter()
        .map(|event| MeasuredEvent {
            number: event.number,
            pcr: u8::try_from(event.register).unwrap_or(u8::MAX),
            digest: event.digest(bank).unwrap_or_default().to_vec(),
            description: String::new(),
        })
        .collect();
    events.sort_by_key(|event| event.number);
    let values = indices.iter().map(|index| (bank, *index)).zip(replayed).collect();
    Ok(Explained {
        events,
        measured,
        values,
    })
}

struct Register<'a, 'b> {
    log: &'a BootLog<'b>,
    bank: HashAlg,
    index: u8,
}

impl<'a, 'b> Register<'a, 'b> {
    /// The value before the first extension: zero, the startup locality in register 0, ones in 17 to 22.
    fn start(&self) -> Vec<u8> {
        let mut value = vec![if (17..=22).contains(&self.index) { 0xff } else { 0 }; self.bank.len()];
        if let (0, Some(last)) = (self.index, value.last_mut()) {
            *last = self.log.startup_locality();
        }
        value
    }

    fn events(&self) -> impl Iterator<Item = &'a Event<'b>> {
        let index = u32::from(self.index);
        self.log
            .events
            .iter()
            .filter(move |event| event.register == index && event.is_extended())
    }

    fn extend(&self, value: &mut Vec<u8>, event: &Event<'_>) -> Result<(), Unexplained> {
        let digest = event.digest(self.bank).ok_or_else(|| Unexplained {
            reason: Reason::EventDigestSet,
            found: format!(
                "event {}: PCR {}, {}: no {} digest",
                event.number,
                self.index,
                kind(event.kind),
                self.bank.name()
            ),
        })?;
        self.bank.extend(value, digest);
        Ok(())
    }

    /// The value after all events.
    fn whole(&self) -> Result<(Vec<u8>, Vec<&'a Event<'b>>), Unexplained> {
        let events: Vec<_> = self.events().collect();
        let mut value = self.start();
        for event in &events {
            self.extend(&mut value, event)?;
        }
        Ok((value, events))
    }

    /// The events that lead to `quoted`: the log is read after the quote, so that there may be more.
    fn up_to(&self, quoted: &[u8]) -> Result<Vec<&'a Event<'b>>, Unexplained> {
        let mut value = self.start();
        let mut passed = Vec::new();
        if value == quoted {
            return match self.events().count() {
                0 => Ok(passed),
                // Boot registers are written long before anybody quotes: an empty one beside a full log was emptied.
                events => Err(Unexplained {
                    reason: Reason::LogMismatch,
                    found: format!(
                        "PCR {}: quoted as never extended, while the log has {events} events for it: the TPM was reset \
                         after this boot, or never measured it",
                        self.index
                    ),
                }),
            };
        }
        for event in self.events() {
            self.extend(&mut value, event)?;
            passed.push(event);
            if value == quoted {
                return Ok(passed);
            }
        }
        let last = passed
            .last()
            .map_or("no event".to_owned(), |event| describe(event));
        Err(Unexplained {
            reason: Reason::LogMismatch,
            found: format!(
                "PCR {}: quoted {}, the log's {} events lead to {} (last: {last})",
                self.index,
                hex::encode(quoted),
                passed.len(),
                hex::encode(value),
            ),
        })
    }
}

/// Where the digest is the hash of the data, the data must be what was hashed: otherwise the log says one thing and
/// measured another.
pub(super) fn check_data(event: &Event<'_>, bank: HashAlg) -> Result<(), Unexplained> {
    if COVERED.contains(&event.kind) && !event.is_digest_of(bank, event.data) {
        return Err(Unexplained {
            reason: Reason::EventDataMismatch,
            found: format!(
                "event {}: PCR {}, {}: data whose digest is not the one that was extended",
                event.number,
                event.register,
                kind(event.kind)
            ),
        });
    }
    Ok(())
}

/// What every register that the log extends holds after all of its events, in one bank.
pub(super) fn replay_all(log: &BootLog<'_>, bank: HashAlg) -> Result<BTreeMap<u8, Vec<u8>>, Unexplained> {
    let mut registers: Vec<u8> = log
        .events
        .iter()
        .filter(|event| event.is_extended())
        .filter_map(|event| u8::try_from(event.register).ok())
        .collect();
    registers.sort_unstable();
    registers.dedup();
    registers
        .into_iter()
        .map(|index| Ok((index, Register { log, bank, index }.whole()?.0)))
        .collect()
}

/// The values that a log leads to, in each of its banks that it has all digests of.
pub fn boot_values(log: &BootLog<'_>) -> BTreeMap<HashAlg, BTreeMap<u8, Vec<u8>>> {
    let banks = log.banks().iter();
    banks
        .filter_map(|bank| Some((*bank, replay_all(log, *bank).ok()?)))
        .collect()
}
