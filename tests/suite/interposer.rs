//! Somebody who sits between a host and its TPM and changes what crosses the bus (TPM Genie; E20).

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use touchmark_api::device::{Activation, Settings};
use touchmark_attestor_tpm::{RecordedKey, RecordedQuote, TpmAppraiser};
use touchmark_crypto::Secret;
use touchmark_helper::{Device, DeviceError};
use touchmark_rats::{Appraiser, Check, PcrSelection, cbor};
use touchmark_tests::{
    ports,
    sim::{Sim, binary},
};

const DOMAIN: &str = "spiffe://example.org";
const EXTEND: u32 = 0x182;
const ACTIVATE_CREDENTIAL: u32 = 0x147;
const QUOTE: u32 = 0x158;

/// What is done to a command that goes to the TPM; an answer of its own keeps the command from it.
type OnCommand = dyn Fn(u32, &mut Vec<u8>) -> Option<Vec<u8>> + Send + Sync;
/// What is done to the answer to a command.
type OnAnswer = dyn Fn(u32, &mut Vec<u8>) + Send + Sync;

fn frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 6];
    stream.read_exact(&mut head).ok()?;
    let size = u32::from_be_bytes(head[2..].try_into().unwrap());
    let mut rest = vec![0; usize::try_from(size).unwrap() - 6];
    stream.read_exact(&mut rest).ok()?;
    Some([&head[..], &rest].concat())
}

/// A TPM whose bus somebody sits on, and the port that leads to it.
fn interposed(sim: &Sim, on_command: Box<OnCommand>, on_answer: Box<OnAnswer>) -> (Device, u16) {
    let (data, control, port) = ports::pair();
    let (target, on_command, on_answer) = (sim.port(1), Arc::new(on_command), Arc::new(on_answer));
    std::thread::spawn(move || {
        for host in data.incoming() {
            let (mut host, mut tpm) = (host.unwrap(), TcpStream::connect(("127.0.0.1", target)).unwrap());
            let (on_command, on_answer) = (Arc::clone(&on_command), Arc::clone(&on_answer));
            std::thread::spawn(move || {
                while let Some(mut command) = frame(&mut host) {
                    let code = u32::from_be_bytes(command[6..10].try_into().unwrap());
                    let answer = on_command(code, &mut command).or_else(|| {
                        tpm.write_all(&command).ok()?;
                        frame(&mut tpm)
                    });
                    let Some(mut answer) = answer else { break };
                    on_answer(code, &mut answer);
                    if host.write_all(&answer).is_err() {
                        break;
                    }
                }
            });
        }
    });
    std::thread::spawn(move || {
        for host in control.incoming() {
            let (host, tpm) = (
                host.unwrap(),
                TcpStream::connect(("127.0.0.1", target + 1)).unwrap(),
            );
            for (mut from, mut to) in [(host.try_clone().unwrap(), tpm.try_clone().unwrap()), (tpm, host)] {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    let settings = Settings::at(format!("swtpm:host=127.0.0.1,port={port}"));
    (Device::new(&binary("touchmark-device"), settings), port)
}

/// What an activation through this device brings of a secret that was sealed to its keys.
fn activated(device: &Device, secret: &[u8]) -> Result<Vec<u8>, DeviceError> {
    let appraiser = TpmAppraiser::new(Vec::new());
    let opening = cbor::encode(&touchmark_helper::opening(device, DOMAIN)?);
    let opened = appraiser.open(&opening).unwrap();
    let candidate = &opened.candidates[0];
    let sealed = appraiser
        .seal(candidate, &opened.attestation_name, &Secret::new(secret.to_vec()))
        .unwrap();
    let found = device.activate(Activation {
        trust_domain: DOMAIN.into(),
        endorsement_name: candidate.name.clone().into(),
        credential_blob: sealed.credential_blob.into(),
        encrypted_secret: sealed.encrypted_secret.into(),
    });
    found.map(|secret| secret.expose().to_vec())
}

#[test]
fn e20_an_answer_to_a_command_of_ours_that_was_changed_on_the_bus_is_noticed() {
    let secret: Vec<u8> = (0x40..0x60).collect();
    let sim = Sim::start(&["--tpm", "1"]);
    let (straight, _) = interposed(&sim, Box::new(|_, _| None), Box::new(|_, _| {}));
    assert_eq!(activated(&straight, &secret).unwrap(), secret);
    drop(straight);
    // Each byte of what is returned, encrypted: the session's HMAC covers all of it.
    for at in [14, 20, 30, 46] {
        let change = move |code: u32, answer: &mut Vec<u8>| {
            if code == ACTIVATE_CREDENTIAL && answer.len() > at {
                answer[at] ^= 1;
            }
        };
        let (device, _) = interposed(&sim, Box::new(|_, _| None), Box::new(change));
        let found = activated(&device, &secret);
        assert!(found.is_err(), "byte {at}: {found:?}");
    }
}

#[test]
fn e20_a_quote_that_was_changed_on_the_bus_has_no_valid_signature_and_a_dropped_extension_is_not_seen() {
    let sim = Sim::start(&["--tpm", "1"]);
    let selection = PcrSelection::sha256([11]);
    let nonce = [7; 32];
    let quoted = |device: &Device| -> Result<Vec<Check>, DeviceError> {
        let public = device.attestation_key(DOMAIN)?.public;
        let key = TpmAppraiser::new(Vec::new()).attestation_key(&public).unwrap();
        let key = RecordedKey::with_area(key, &public).unwrap();
        let quote = device.quote(DOMAIN, &selection, &nonce)?;
        let judged = RecordedQuote {
            attest: &quote.attest,
            signature: &quote.signature,
            key: &key,
            nonce: Some(&nonce),
            selection: Some(&selection),
            values: None,
            log: None,
        };
        Ok(judged.judge().checks)
    };
    let failure = |checks: Vec<Check>| checks.iter().find_map(Check::reason);
    let (honest, _) = interposed(&sim, Box::new(|_, _| None), Box::new(|_, _| {}));
    assert_eq!(failure(quoted(&honest).unwrap()), None);
    drop(honest);
    // A byte of the clock, one of the digest, one of the signature: the helper looks before it passes anything on.
    for at in [70, 100, 140] {
        let change = move |code: u32, answer: &mut Vec<u8>| {
            if code == QUOTE && answer.len() > at {
                answer[at] ^= 1;
            }
        };
        let (device, _) = interposed(&sim, Box::new(|_, _| None), Box::new(change));
        let error = quoted(&device).unwrap_err().to_string();
        assert!(error.contains("signature does not verify"), "byte {at}: {error}");
    }
    // What never reaches the chip is in no quote: the register is as it was, and the quote of it is genuine.
    let value = || sim.tool("tpm2_pcrread", &["sha256:11"]);
    let before = value();
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dropped);
    let drops = move |code: u32, _: &mut Vec<u8>| {
        let answered = [0x80, 0x02, 0, 0, 0, 0x13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        (code == EXTEND).then(|| {
            count.fetch_add(1, Ordering::SeqCst);
            answered.to_vec()
        })
    };
    let (device, port) = interposed(&sim, Box::new(drops), Box::new(|_, _| {}));
    let measured = format!("11:sha256={}", "ab".repeat(32));
    let status = std::process::Command::new("tpm2_pcrextend")
        .args(["-T", &format!("swtpm:host=127.0.0.1,port={port}"), &measured])
        .status()
        .unwrap();
    assert!(status.success() && dropped.load(Ordering::SeqCst) == 1);
    assert_eq!(failure(quoted(&device).unwrap()), None);
    assert_eq!(value(), before);
    drop(device);
    // One that does reach it shows.
    sim.tool("tpm2_pcrextend", &[&measured]);
    assert_ne!(value(), before);
}
