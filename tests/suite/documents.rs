//! Documents that peers send: cut anywhere, with any bit flipped, with times beyond reason.

use std::path::PathBuf;

use touchmark_crypto::{
    Signer, SigningAlg, SoftwareKey,
    cose::CoseMessage,
    jose::{VerifyingKey, json, jws::Jws},
    x509::DeviceCertificate,
};
use touchmark_rats::{
    cmw::Cmw,
    corim::{read_comid, read_corim},
    ear::{AttestationResult, HostAppraisal, Profile, Tier},
    eat::{ClaimsSet, check_document},
};
use touchmark_tls::clock;

use crate::architecture::repository;

/// Files of this name in the recorded cases, not longer than what a test has time for.
fn recorded(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let cases = std::fs::read_dir(repository().join("tests/vectors/rats")).unwrap();
    let mut found: Vec<(PathBuf, Vec<u8>)> = cases
        .map(|case| case.unwrap().path().join(name))
        .filter_map(|path| Some((path.clone(), std::fs::read(path).ok()?)))
        .filter(|(_, bytes)| bytes.len() <= 3_000)
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no recorded {name}");
    found
}

/// Whether bytes are such a document.
type Reads = fn(&[u8]) -> bool;

const KINDS: [(&str, Reads); 5] = [
    ("claims.json", |bytes| {
        ClaimsSet::from_json(bytes).is_ok_and(|claims| claims.check().is_ok())
    }),
    ("claims.cbor", |bytes| check_document(bytes).is_ok()),
    ("cmw.json", |bytes| Cmw::parse(bytes).is_ok()),
    ("cmw.cbor", |bytes| Cmw::parse(bytes).is_ok()),
    ("item.cbor", |bytes| {
        read_comid(bytes).is_ok() || read_corim(bytes).is_ok()
    }),
];

#[test]
fn p03_documents_that_are_cut_are_refused_and_flipped_ones_harm_nobody() {
    for (name, reads) in KINDS {
        let mut whole = 0;
        for (path, bytes) in recorded(name) {
            let end = bytes
                .iter()
                .rposition(|byte| !byte.is_ascii_whitespace())
                .map_or(0, |at| at + 1);
            if !reads(&bytes) {
                continue;
            }
            whole += 1;
            for length in 0..end {
                // JSON that ends in blanks is whole before them; CBOR never is.
                assert!(!reads(&bytes[..length]), "{}: {length}", path.display());
            }
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << (at % 8);
                reads(&flipped);
            }
        }
        assert!(whole > 0, "none of {name} reads");
    }
}

#[test]
fn every_flipped_bit_of_a_signed_message_is_refused_or_outside_of_what_is_signed() {
    let case = repository().join("tests/vectors/cose-jose/resigned-plain");
    let bytes = std::fs::read(case.join("msg.cbor")).unwrap();
    let jwk = std::fs::read(case.join("key.jwk")).unwrap();
    let jwk = json::object(&jwk).unwrap();
    let verified = |bytes: &[u8]| -> Result<Vec<u8>, String> {
        let message = CoseMessage::parse(bytes).map_err(|error| error.to_string())?;
        let key = VerifyingKey::for_alg(&jwk, message.alg()).map_err(|error| error.to_string())?;
        let payload = message.verify(&key, &[], None);
        payload.map(<[u8]>::to_vec).map_err(|error| error.to_string())
    };
    let payload = verified(&bytes).expect("the message verifies");
    let begin = bytes
        .windows(payload.len())
        .position(|window| window == payload)
        .unwrap();
    // Behind the payload: the head of the signature's byte string, and the signature to the end.
    let signed = (begin..begin + payload.len()).chain(bytes.len() - 64..bytes.len());
    for bit in signed.flat_map(|at| at * 8..at * 8 + 8) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            verified(&flipped).unwrap_err(),
            "the signature does not verify",
            "bit {bit}"
        );
    }
    // Around them are heads of items and headers: where it verifies all the same, it says the same.
    for bit in (0..begin).flat_map(|at| at * 8..at * 8 + 8) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(found) = verified(&flipped) {
            assert_eq!(found, payload, "bit {bit}");
        }
    }
    let key = SoftwareKey::generate(SigningAlg::Es256).unwrap();
    let token = result(1_800_000_000, 1_800_000_600).sign(&key).unwrap();
    let pinned = VerifyingKey::new(key.public_key().clone()).unwrap();
    let holds = |token: &str| Jws::parse(token).is_ok_and(|jws| jws.verify_signature(&pinned).is_ok());
    assert!(holds(&token));
    // In the payload and the signature every flip that leaves base64url is a signature that does not verify.
    let payload = token.find('.').unwrap() + 1;
    for at in payload..token.len() {
        let mut flipped = token.clone().into_bytes();
        flipped[at] = if flipped[at] == b'A' { b'B' } else { b'A' };
        let flipped = String::from_utf8(flipped).unwrap();
        if token.as_bytes()[at] == b'.' {
            continue;
        }
        let error = match Jws::parse(&flipped) {
            Ok(jws) => jws.verify_signature(&pinned).unwrap_err().to_string(),
            // The last character of a part has bits that have to be zero.
            Err(error) => error.to_string(),
        };
        assert!(
            error.contains("signature") || token.as_bytes().get(at + 1).is_none_or(|next| *next == b'.'),
            "{at}: {error}"
        );
    }
    for at in 0..token.len() {
        for bit in 0..7 {
            let mut flipped = token.clone().into_bytes();
            flipped[at] ^= 1 << bit;
            assert!(!holds(&String::from_utf8(flipped).unwrap()), "{at}, bit {bit}");
        }
        assert!(!holds(&token[..at]), "{at}");
    }
}

fn result(issued_at: u64, expires_at: u64) -> HostAppraisal {
    HostAppraisal {
        identifier: "spiffe://example.org/host/1".into(),
        issued_at,
        expires_at,
        build: "1".into(),
        status: Tier::Affirming,
        vector: vec![(0, 2)],
        policies: Vec::new(),
        simulated: false,
        refusal: None,
        nonce: None,
    }
}

#[test]
fn p09_times_and_lengths_beyond_reason_are_refused_or_shown_and_never_harm() {
    for seconds in [0, 253_402_300_799, 253_402_300_800, u64::MAX / 2, u64::MAX] {
        clock::rfc3339(seconds);
    }
    let claims = |exp: &str| {
        format!(
            r#"{{"eat_profile":"tag:ietf.org,2026:rats/ear#03","iat":1,"exp":{exp},"ear_verifier_id":{{"developer":"d","build":"b"}},
            "submods":{{"host":{{"ear_status":"affirming","ear_trustworthiness_vector":{{"instance-identity":2}}}}}}}}"#
        )
    };
    let read = |exp: &str| {
        let claims = ClaimsSet::from_json(claims(exp).as_bytes())?;
        claims.check()?;
        AttestationResult::read(&claims, Profile::Ear03)
    };
    read("1800000000").unwrap();
    read("1.8e9").unwrap();
    for exp in [
        "1e300",
        "-1e300",
        "1.5",
        "18446744073709551616",
        "\"1\"",
        "null",
        "[]",
        "1e400",
    ] {
        assert!(read(exp).is_err(), "{exp}");
    }
    for exp in ["9223372036854775807", "-9223372036854775808"] {
        read(exp).unwrap();
    }
    // A certificate whose validity has been overwritten by what is no time, or one of another age.
    let cases = std::fs::read_dir(repository().join("tests/vectors/tpm-ek-cert")).unwrap();
    let files = cases.flat_map(|case| std::fs::read_dir(case.unwrap().path()).unwrap());
    let mut tried = 0;
    for file in files {
        let Ok(der) = std::fs::read(file.unwrap().path()) else {
            continue;
        };
        let Ok(read) = DeviceCertificate::parse(&der) else {
            continue;
        };
        assert!(read.facts.not_before < read.facts.not_after);
        // UTCTime and GeneralizedTime.
        let Some(at) = der
            .windows(2)
            .position(|head| head == [0x17, 13] || head == [0x18, 15])
        else {
            continue;
        };
        let digits = usize::from(der[at + 1]);
        for text in [
            "999999999999999",
            "000000000000000",
            "991231235959ZZZ",
            "-12345678901234",
            "20239931250000Z",
        ] {
            let mut hostile = der.clone();
            hostile[at + 2..at + 2 + digits].copy_from_slice(&text.as_bytes()[..digits]);
            if let Ok(read) = DeviceCertificate::parse(&hostile) {
                clock::rfc3339(u64::try_from(read.facts.not_before).unwrap_or(0));
            }
            tried += 1;
        }
    }
    assert!(tried > 0);
}
