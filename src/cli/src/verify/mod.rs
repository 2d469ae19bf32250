//! `touchmark verify`: recorded evidence, appraised offline, with the anchors, nonces and times that the caller brings.

mod manifest;

use std::process::ExitCode;

/// What to appraise.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verify {
    /// Every case of a manifest of evidence and tokens, against the verdicts that it expects.
    Manifest(manifest::Arguments),
}

pub(crate) fn run(command: &Verify) -> ExitCode {
    match command {
        Verify::Manifest(arguments) => manifest::run(arguments),
    }
}
