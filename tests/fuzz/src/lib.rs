//! One quote of a real TPM, as fuzz targets alter it.

use std::collections::BTreeMap;

use serde_bytes::ByteBuf;
use touchmark_attestor_tpm::TpmAppraiser;
use touchmark_crypto::{PublicKey, pem};
use touchmark_rats::{
    Appraisal, Appraiser, Expected, PcrSelection, cbor,
    tpm::{TpmAttestation, TpmDeviceKey, TpmEvidence, TpmOpening, TpmPcrValue},
};

const ATTEST: &[u8] = include_bytes!("../../vectors/tpm-quote/thinkpad-gentoo-good/attest.bin");
const SIGNATURE: &[u8] = include_bytes!("../../vectors/tpm-quote/thinkpad-gentoo-good/sig.bin");
const LOG: &[u8] = include_bytes!("../../vectors/tpm-quote/thinkpad-gentoo-good/eventlog.bin");
const VALUES: &str = include_str!("../../vectors/tpm-quote/thinkpad-gentoo-good/pcrs.json");
const KEY: &str = include_str!("../../vectors/tpm-quote/thinkpad-gentoo-good/ak.pem");
/// Where a quote of this TPM has its nonce: behind magic, type, the signer's Name and a size.
const NONCE: std::ops::Range<usize> = 44..76;

/// An exchange with that TPM.
pub struct Exchange {
    public: Vec<u8>,
    selection: PcrSelection,
    /// What it sent.
    pub evidence: TpmEvidence,
    /// The log that it sent.
    pub log: Vec<u8>,
}

impl Exchange {
    /// The exchange as it was.
    pub fn new() -> Self {
        let spki = pem::decode_all("PUBLIC KEY", KEY).expect("PEM").remove(0);
        let banks: BTreeMap<String, BTreeMap<u8, String>> = serde_json::from_str(VALUES).expect("JSON");
        let values = &banks["sha256"];
        let value = |(index, value): (&u8, &String)| TpmPcrValue {
            bank: 0x000b,
            index: *index,
            value: ByteBuf::from(hex::decode(value).expect("hexadecimal")),
        };
        Self {
            public: area(&PublicKey::from_spki(&spki).expect("a key")),
            selection: PcrSelection::sha256(values.keys().copied()),
            evidence: TpmEvidence {
                quote: Some(TpmAttestation {
                    attest: ByteBuf::from(ATTEST),
                    signature: ByteBuf::from(SIGNATURE),
                }),
                certifications: Vec::new(),
                pcr_values: values.iter().map(value).collect(),
            },
            log: LOG.to_vec(),
        }
    }

    /// Appraises these bytes in place of the evidence.
    pub fn appraise(&self, evidence: &[u8]) -> Appraisal {
        TpmAppraiser::new(Vec::new()).appraise(
            evidence,
            &Expected {
                bind: ATTEST[NONCE].try_into().expect("32 bytes"),
                attestation_public: &self.public,
                selection: &self.selection,
                keys: &[],
                sealed_to_boot: false,
                log: &self.log,
                runtime: None,
            },
        )
    }

    /// Appraises the evidence as it is now.
    pub fn now(&self) -> Appraisal {
        self.appraise(&cbor::encode(&self.evidence))
    }

    /// The quote's structure and signature.
    pub fn quote(&mut self) -> &mut TpmAttestation {
        self.evidence.quote.as_mut().expect("a quote")
    }
}

impl Default for Exchange {
    fn default() -> Self {
        Self::new()
    }
}

/// A first message with that key, and an endorsement key around the same numbers.
pub fn opening() -> TpmOpening {
    let attestation = Exchange::new().public;
    // The attributes and the policy of a low-range template, AES-128-CFB, no scheme; then the key as it was.
    let policy = hex::decode("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa");
    let endorsement = [
        &attestation[..4],
        &[0, 0x03, 0, 0xb2, 0, 0x20],
        &policy.expect("hexadecimal"),
        &[0, 0x06, 0, 0x80, 0, 0x43, 0, 0x10],
        &attestation[16..],
    ];
    TpmOpening {
        endorsements: vec![TpmDeviceKey {
            public: ByteBuf::from(endorsement.concat()),
            certificate: None,
            intermediates: Vec::new(),
        }],
        attestation: TpmDeviceKey {
            public: ByteBuf::from(attestation),
            certificate: None,
            intermediates: Vec::new(),
        },
    }
}

/// `good` with the bytes written that `edits` says: two for where, one for what.
pub fn edited(good: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut out = good.to_vec();
    for edit in edits.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % out.len();
        out[at] = edit[2];
    }
    out
}

/// The measurements that passed, in an order that does not depend on where they stand.
pub fn measurements(appraisal: &Appraisal) -> Vec<(u8, Vec<u8>)> {
    let mut out: Vec<_> = appraisal
        .events
        .iter()
        .map(|event| (event.pcr, event.digest.clone()))
        .collect();
    out.sort();
    out
}

/// TPMT_PUBLIC of an attestation key with the scheme of the signature.
fn area(key: &PublicKey) -> Vec<u8> {
    let sized = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).expect("short");
        [&length.to_be_bytes(), bytes].concat()
    };
    let head = |kind| {
        let attributes = 0x0005_0072_u32.to_be_bytes();
        [
            &[0, kind, 0, 0x0b],
            &attributes[..],
            &[0, 0, 0, 0x10],
            &SIGNATURE[..4],
        ]
        .concat()
    };
    match key.ec_coordinates() {
        Some((x, y)) => [head(0x23), vec![0, 3, 0, 0x10], sized(x), sized(y)].concat(),
        None => [head(0x01), vec![8, 0, 0, 0, 0, 0], sized(&key.raw()[9..265])].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_targets_alter_passes_unaltered() {
        let appraisal = Exchange::new().now();
        assert_eq!(appraisal.failure(), None);
        assert!(appraisal.authenticated && !measurements(&appraisal).is_empty());
        TpmAppraiser::new(Vec::new())
            .open(&cbor::encode(&opening()))
            .expect("accepted");
    }
}
