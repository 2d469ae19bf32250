//! Refusals on the wire (RFC 9457): an id and whether trying again can help. Nothing else leaves for the peer.

use serde::{Deserialize, Serialize};

/// Media type.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// A refusal as the refused peer sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Always the same word.
    pub title: String,
    /// The HTTP status, repeated.
    pub status: u16,
    /// What an operator can look up with `touchmark why`.
    pub refusal: String,
    /// `never`, `fresh` (with a new challenge) or `later`.
    pub retry: String,
}

impl Problem {
    /// A refusal with this id.
    pub fn new(status: u16, refusal: &str, retry: &str) -> Self {
        Self {
            title: "refused".to_owned(),
            status,
            refusal: refusal.to_owned(),
            retry: retry.to_owned(),
        }
    }
}
