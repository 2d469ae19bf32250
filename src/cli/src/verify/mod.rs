//! `touchmark verify`: recorded evidence, appraised offline, with the anchors, nonces and times that the caller brings.
//!
//! Exit codes: 0 affirming, 1 refused, 2 unusable input, the evidence itself included where it cannot be read.

mod endorsement;
mod eventlog;
pub(crate) mod input;
mod key;
mod manifest;
mod measurements;
mod module;
mod outcome;
mod policy;
mod quote;
mod result;
mod story;
mod wrapper;

pub(crate) use eventlog::references;
pub(crate) use measurements::of_list;
pub(crate) use policy::{nobody_vouches, of_boot};

use std::process::ExitCode;

/// What to appraise.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verify {
    /// A quote of a TPM, with the boot log that explains it.
    Tpm(Box<quote::Arguments>),
    /// An endorsement certificate: whether a maker vouches for a chip.
    Ek(endorsement::Arguments),
    /// What a hardware security module says of a key.
    Hsm(module::Arguments),
    /// A key reference: where a private key is, and who can use it.
    Key(key::Arguments),
    /// A boot log: how the machine booted.
    Eventlog(eventlog::Arguments),
    /// A list of what the kernel measured while it ran.
    Ima(measurements::Arguments),
    /// A result of another verifier.
    Ear(result::Arguments),
    /// A wrapper of evidence, results or reference values.
    Cmw(wrapper::Arguments),
    /// Every case of a manifest of evidence and tokens, against the verdicts that it expects.
    Manifest(manifest::Arguments),
}

pub(crate) fn run(command: &Verify) -> ExitCode {
    match command {
        Verify::Tpm(arguments) => quote::run(arguments),
        Verify::Ek(arguments) => endorsement::run(arguments),
        Verify::Hsm(arguments) => module::run(arguments),
        Verify::Key(arguments) => key::run(arguments),
        Verify::Eventlog(arguments) => eventlog::run(arguments),
        Verify::Ima(arguments) => measurements::run(arguments),
        Verify::Ear(arguments) => result::run(arguments),
        Verify::Cmw(arguments) => wrapper::run(arguments),
        Verify::Manifest(arguments) => manifest::run(arguments),
    }
}
