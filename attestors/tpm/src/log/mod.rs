//! Boot logs: TCG2 crypto-agile (TCG PC Client Platform Firmware Profile, section 10), replayed per bank before anything
//! in them is used.

mod describe;
mod events;
mod replay;

pub use events::{BootLog, LogError, MAX_EVENTS, MAX_LOG};
pub(crate) use replay::{Explained, explain};
