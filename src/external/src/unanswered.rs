//! Why a verifier gave no result.

/// Why there is no result. None of these says anything about the host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// No connection, or one that broke.
    #[error("not reachable: {0}")]
    Unreachable(String),
    /// Too late.
    #[error("no result within {0} s")]
    Slow(u64),
    /// Too many hosts wait for it already.
    #[error("too many requests wait for it")]
    Busy,
    /// A status that the API has no result under.
    #[error("status {status}: {detail}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// What the verifier says, cut short.
        detail: String,
    },
    /// It does not take the media type.
    #[error("does not accept {asked}, but {accepted}")]
    MediaType {
        /// What it would have been given.
        asked: String,
        /// What it takes.
        accepted: String,
    },
    /// An answer that the API does not have.
    #[error("{0}")]
    Protocol(String),
}

/// Longest text of a verifier that is passed on, in characters.
const MAX_TEXT: usize = 200;

/// A verifier's own words: of printable characters, and short.
pub(crate) fn quoted(text: &str) -> String {
    text.trim()
        .chars()
        .take(MAX_TEXT)
        .collect::<String>()
        .escape_debug()
        .to_string()
}
