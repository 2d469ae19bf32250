//! `touchmark-sim` as its users see it: the real binary, with stock tools as oracles.
//!
//! Needs the Debian packages swtpm, swtpm-tools, tpm2-abrmd, dbus, tpm2-tools, tpm2-openssl, openssl, softhsm2 and opensc.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod boot;
mod certificates;
mod faults;
mod hsm;
mod lifecycle;
mod sharing;
mod support;
