//! Adversarial tests of the appraiser: evidence that is wrong in one way each, from a TPM made of software keys. Names
//! begin with the attack's id in the attack catalogue, where it has one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail loudly"
)]

mod attestation_certificate;
mod attestation_key;
mod boot_log;
mod boot_rules;
mod control;
mod endorsement;
mod exchange;
mod forge;
mod formats;
mod judged_log;
mod log_format;
mod messages;
mod offered_key;
mod properties;
mod quote;
mod recorded;
mod runtime;
mod signatures;
