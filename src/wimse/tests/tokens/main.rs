//! Tokens and proofs as attackers would have them: each is refused for the reason that it fails by.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod proof;
mod scene;
mod token;
