//! The list of what the kernel measured (Integrity Measurement Architecture): entries of files, policies and buffers, each extended into a
//! register as the digest of its template data. Read in the binary form and in the ASCII form, replayed, and held against signatures.

mod entry;
mod follow;
mod judge;
mod read;
mod replay;
mod signature;

pub use entry::{Entry, FileDigest};
pub(crate) use follow::Followed;
pub use judge::{ImaExpected, ImaJudged, judge_ima};
pub use read::{Binary, ImaError, read_ascii, read_binary};
pub use replay::{Extends, Replay};
pub use signature::{SignatureError, SignatureKeys};

/// Largest list that is read at once, in bytes.
pub const MAX_LIST: usize = 64 * 1024 * 1024;
/// Most entries that are read at once.
pub const MAX_ENTRIES: usize = 1_000_000;
/// Longest template data, in bytes.
pub const MAX_TEMPLATE: usize = 512 * 1024;
/// The register that the kernel extends unless its policy says otherwise.
pub const IMA_PCR: u32 = 10;
