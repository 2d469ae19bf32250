//! Boot logs: of firmware (crypto-agile, and SHA-1 alone), of confidential VMs (CCEL, the same format over measurement registers), and
//! canonical (CEL). They are replayed per bank before anything in them is used; `eventType` is covered by no digest, so that nothing is
//! believed from an event whose digest does not commit to what is read.

mod boot;
mod cel;
mod describe;
mod event;
mod judge;
pub(crate) mod little;
mod oddities;
mod replay;
mod rules;
mod secure_boot;
mod stub;
mod tcg;
mod uefi;

pub(crate) use boot::Detail;
pub use boot::{Boot, Image};
pub(crate) use judge::unreadable as unreadable_log;
pub use judge::{Judged, LogUse, Registers, judge_log};
pub use replay::boot_values;
pub(crate) use replay::{Explained, explain};
pub(crate) use rules::rules;
pub use secure_boot::{BootCertificate, SecureBoot, SignatureDatabases};

use std::collections::BTreeSet;

use touchmark_crypto::HashAlg;
use touchmark_rats::MeasuredEvent;

use describe::describe;
use event::Event;

/// Largest log accepted, in bytes.
pub const MAX_LOG: usize = 4 * 1024 * 1024;
/// Most events accepted.
pub const MAX_EVENTS: usize = 10_000;

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
    /// A Spec ID event that cannot be one.
    #[error("Spec ID event: {0}")]
    Header(&'static str),
    /// An event does not have at most one digest of each algorithm that the header lists.
    #[error("event {event}: {what}")]
    Digests {
        /// Number of the event, from 0.
        event: usize,
        /// What is wrong with them.
        what: &'static str,
    },
    /// An event of a register that does not exist.
    #[error("event {event}: there is no register {register}")]
    Register {
        /// Number of the event, from 0.
        event: usize,
        /// The register it names.
        register: u32,
    },
    /// An event that cannot be one.
    #[error("event {event}: {what}")]
    Event {
        /// Number of the event, from 0.
        event: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// What the Spec ID event of a crypto-agile log is besides its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The register that it names.
    pub(crate) register: u32,
    /// Whether it has a digest, though it is never extended.
    pub(crate) digested: bool,
}

/// What fills a log's area up behind its last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trailing {
    Zeros(usize),
    Ones(usize),
}

impl Trailing {
    /// What of `bytes` from `at` on is filling, given where the run at their end begins. What is shorter than the shortest event is what
    /// is left of one that was cut.
    fn from(bytes: &[u8], at: usize) -> Option<Self> {
        let length = bytes.len().checked_sub(at).filter(|length| *length >= 16)?;
        match bytes.last()? {
            0 => Some(Self::Zeros(length)),
            0xff => Some(Self::Ones(length)),
            _ => None,
        }
    }
}

/// Where the run of equal bytes at the end begins.
fn last_run(bytes: &[u8]) -> usize {
    let last = bytes.last().copied().unwrap_or_default();
    bytes
        .iter()
        .rposition(|byte| *byte != last)
        .map_or(0, |at| at + 1)
}

/// A boot log, read but not yet held against any register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootLog<'a> {
    pub(crate) events: Vec<Event<'a>>,
    pub(crate) trailing: Option<Trailing>,
    /// The Spec ID event, of a crypto-agile log.
    pub(crate) header: Option<Header>,
    banks: Vec<HashAlg>,
}

impl<'a> BootLog<'a> {
    /// Reads a whole log of whatever format.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, LogError> {
        if bytes.len() > MAX_LOG {
            return Err(LogError::Limit("bytes"));
        }
        let read = if cel::is_one(bytes) {
            cel::parse(bytes)?
        } else {
            tcg::parse(bytes)?
        };
        Ok(Self {
            events: read.events,
            banks: read.banks,
            trailing: read.trailing,
            header: read.header,
        })
    }

    /// The log as far as it explains what was quoted: only those of its events are believed.
    pub(crate) fn explained_by(mut self, explained: &Explained) -> Self {
        let last = explained.events.iter().map(|event| event.number).max();
        let mut there = vec![false; last.map_or(0, |last| last + 1)];
        for event in &explained.events {
            if let Some(there) = there.get_mut(event.number) {
                *there = true;
            }
        }
        self.events
            .retain(|event| !event.is_extended() || there.get(event.number) == Some(&true));
        self
    }

    /// The log without the events of other registers than these.
    pub(crate) fn of_registers(&self, registers: &[u32]) -> Self {
        let mut out = self.clone();
        out.events
            .retain(|event| !event.is_extended() || registers.contains(&event.register));
        out
    }

    /// Says in words what events of this log are.
    pub(crate) fn describe(&self, events: &mut [MeasuredEvent]) {
        for told in events {
            let found = self.events.iter().find(|event| event.number == told.number);
            told.description = found.map(describe).unwrap_or_default();
        }
    }

    /// Number of events after the header.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there is no event after the header.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The registers that it extends.
    pub fn registers(&self) -> BTreeSet<u32> {
        self.events
            .iter()
            .filter(|event| event.is_extended())
            .map(|event| event.register)
            .collect()
    }

    /// Whether the log has digests of this bank.
    pub fn has_bank(&self, bank: HashAlg) -> bool {
        self.banks.contains(&bank)
    }

    /// The banks that the log has digests of.
    pub fn banks(&self) -> &[HashAlg] {
        &self.banks
    }

    /// The locality that TPM2_Startup came from, which is what register 0 starts at (StartupLocality event).
    pub(crate) fn startup_locality(&self) -> u8 {
        self.events
            .iter()
            .filter(|event| !event.is_extended() && event.register == 0)
            .find_map(|event| match event.data.strip_prefix(b"StartupLocality\0") {
                Some([locality]) => Some(*locality),
                _ => None,
            })
            .unwrap_or(0)
    }
}
