//! A stream of the service, in pieces: frames come off whole, or it is refused; nothing panics, nothing grows beyond its limit.

#![no_main]

use libfuzzer_sys::fuzz_target;
use touchmark_api::host::take_push;

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let mut arrived = Vec::new();
    for piece in pieces {
        arrived.extend(piece);
        loop {
            let before = arrived.len();
            match take_push(&mut arrived) {
                Ok(Some(_)) => assert!(arrived.len() < before),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});
