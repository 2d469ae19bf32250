//! `touchmark-device`: the only process that touches hardware or loads a vendor's library.
//!
//! A daemon starts it with one end of a socket pair as standard input and speaks [`touchmark_api::device`] over it. It
//! exits when that socket closes. It takes no configuration from its command line or environment: what it needs,
//! authorizations included, comes over the socket.

mod fault;
mod queue;
mod serve;
mod token;
mod tpm;

use std::process::ExitCode;

const USAGE: &str = "touchmark-device: hardware access for Touchmark's daemons

Started by `touchmark agent run` and `touchmark server run` with a socket as standard input; it is not run by hand.
It needs read and write access to the TPM device (usually membership in group `tss`), or what a vendor's PKCS#11 module needs.

Usage: touchmark-device serve | --version | --help";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("serve"), None) => serve::run(),
        (Some("--version" | "-V"), None) => {
            println!("touchmark-device {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        (Some("--help" | "-h"), None) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}
