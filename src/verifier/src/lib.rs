//! Verification as a state machine: challenge, message, appraisal, verdict.
//!
//! The caller drives it and does all input and output; nothing here reads a clock, draws a random number that it was not
//! given the source of, or knows a platform by name. An [`Attested`] can be made only here, and only from evidence in
//! which every check passed.

mod challenge;
mod continuity;
mod files;
mod possession;
mod reference;
mod renewal;
mod reported;
mod trust;
mod verdict;

pub use challenge::{Challenge, ChallengeError, Challenger, Issued, Subject, Wanted};
pub use continuity::{Continuity, LastSeen, continuity};
pub use files::{FileList, FileListError, KnownLists, MAX_FILE_LIST, MAX_FILES};
pub use reference::{MAX_VALUES, ReferenceError, ReferenceSet, ReferenceValue, check as check_references};
pub use renewal::{Certified, renew};
pub use reported::{MAX_REPORT, reported};
pub use trust::{Standing, trust_vector};
pub use verdict::{Admission, Attested, Believed, ByReferences, Message, Refused, appraise};
