//! The wire between a host and its TPM, as somebody reads it who tapped it.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex},
};

use touchmark_api::{
    Guarded,
    device::{Activation, Settings},
};
use touchmark_crypto::Secret;
use touchmark_helper::Device;
use touchmark_rats::{Appraiser, PcrSelection, cbor};
use touchmark_tests::{
    ports,
    sim::{Sim, binary},
};

const DOMAIN: &str = "spiffe://example.org";

/// TPM2_StartAuthSession.
const START_AUTH_SESSION: [u8; 4] = 0x0000_0176_u32.to_be_bytes();
/// No key: an unsalted session.
const NULL: [u8; 4] = 0x4000_0007_u32.to_be_bytes();

/// What crossed the wire, a record for each direction of each connection.
type Records = Arc<Mutex<Vec<Vec<u8>>>>;

/// Two ports in a row, since the TCTI finds swtpm's control channel behind its data channel; both lead to the simulator.
fn tap(sim: &Sim) -> (u16, Records) {
    let records = Records::default();
    let (data, control, port) = ports::pair();
    for (listener, target) in [(data, sim.port(1)), (control, sim.port(1) + 1)] {
        let records = Arc::clone(&records);
        // It serves until the test's process ends.
        std::thread::spawn(move || {
            for host in listener.incoming() {
                let (host, tpm) = (host.unwrap(), TcpStream::connect(("127.0.0.1", target)).unwrap());
                pass(&host, &tpm, &records);
                pass(&tpm, &host, &records);
            }
        });
    }
    (port, records)
}

fn pass(from: &TcpStream, to: &TcpStream, records: &Records) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let records = Arc::clone(records);
    let record = {
        let mut records = records.lock().unwrap();
        records.push(Vec::new());
        records.len() - 1
    };
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            records.lock().unwrap()[record].extend_from_slice(&buffer[..read]);
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// Of each HMAC session that was started: whether it is salted to a key.
fn hmac_sessions(records: &[Vec<u8>]) -> Vec<bool> {
    let mut salted = Vec::new();
    for record in records {
        // tag, size, code, tpmKey, bind, nonceCaller, encryptedSalt, sessionType
        for command in record.windows(18).enumerate() {
            let (at, head) = command;
            if head[..2] != [0x80, 0x01] || head[6..10] != START_AUTH_SESSION {
                continue;
            }
            let sized = |at: usize| 2 + usize::from(u16::from_be_bytes([record[at], record[at + 1]]));
            let salt = at + 18 + sized(at + 18);
            if record[salt + sized(salt)] == 0 {
                salted.push(head[10..14] != NULL);
            }
        }
    }
    salted
}

#[test]
fn secrets_and_authorizations_cross_the_bus_in_salted_sessions_only() {
    let sim = Sim::start(&["--tpm", "1"]);
    let (owner, endorsement) = ("the-owners-own-secret", "the-endorsements-own-secret");
    sim.tool("tpm2_changeauth", &["-c", "o", owner]);
    sim.tool("tpm2_changeauth", &["-c", "e", endorsement]);
    let (port, records) = tap(&sim);
    let settings = Settings {
        owner_auth: Guarded::new(owner.as_bytes().to_vec()),
        endorsement_auth: Guarded::new(endorsement.as_bytes().to_vec()),
        ..Settings::at(format!("swtpm:host=127.0.0.1,port={port}"))
    };
    let device = Device::new(&binary("touchmark-device"), settings);
    // Storage primary, attestation key, activation: all that takes an authorization or returns a secret.
    device.create_key(Some(&PcrSelection::boot())).unwrap();
    let appraiser = touchmark_attestor_tpm::TpmAppraiser::new(Vec::new());
    let opening = cbor::encode(&touchmark_helper::opening(&device, DOMAIN).unwrap());
    let opened = appraiser.open(&opening).unwrap();
    let secret: Vec<u8> = (0x40..0x60).collect();
    for candidate in &opened.candidates {
        let sealed = appraiser
            .seal(candidate, &opened.attestation_name, &Secret::new(secret.clone()))
            .unwrap();
        let found = device.activate(Activation {
            trust_domain: DOMAIN.into(),
            endorsement_name: candidate.name.clone().into(),
            credential_blob: sealed.credential_blob.into(),
            encrypted_secret: sealed.encrypted_secret.into(),
        });
        assert_eq!(found.unwrap().expose(), secret);
    }
    drop(device);
    let records = records.lock().unwrap();
    assert!(records.concat().len() > 2_000, "the tap saw the commands");
    for (name, text) in [
        ("owner authorization", owner.as_bytes()),
        ("endorsement authorization", endorsement.as_bytes()),
        ("activated secret", &secret),
    ] {
        let seen = records
            .iter()
            .any(|record| record.windows(text.len()).any(|window| window == text));
        assert!(!seen, "{name} crossed the bus in the clear");
    }
    let sessions = hmac_sessions(&records);
    assert!(sessions.len() >= 4, "{sessions:?}");
    assert!(sessions.iter().all(|salted| *salted), "{sessions:?}");
}
