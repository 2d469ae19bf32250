//! Cases of TPMs as the appraiser takes them: public areas around bare keys, and quotes of a software key around
//! register values that came without one.

use serde_bytes::ByteBuf;
use touchmark_attestor_tpm::TpmAppraiser;
use touchmark_crypto::{HashAlg, KeyKind, PublicKey, Purpose, Signer, SigningAlg, SoftwareKey, pem};
use touchmark_rats::{
    Appraisal, Appraiser, Expected, PcrSelection, cbor,
    tpm::{TpmAttestation, TpmEvidence, TpmPcrValue},
};

use super::Case;

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign.
const ATTRIBUTES: u32 = 0x0005_0072;
const ECDSA_SHA256: [u8; 4] = [0, 0x18, 0, 0x0b];

/// The TPM_ALG_ID of a bank.
pub(super) fn bank(name: &str) -> u16 {
    match name {
        "sha1" => 0x0004,
        "sha256" => 0x000b,
        "sha384" => 0x000c,
        "sha512" => 0x000d,
        other => panic!("bank {other}"),
    }
}

/// Appraises a quote with its own signature, under its own key.
pub(super) fn quote(case: &Case) -> Appraisal {
    let signature = case.file("tpmt_signature").unwrap();
    let key = match case.file("ak_public_pem") {
        Some(text) => pem::decode_all("PUBLIC KEY", &String::from_utf8(text).unwrap()).unwrap(),
        None => panic!("{}: no key", case.id),
    };
    let key = PublicKey::from_spki(&key[0]).unwrap();
    let public = case.file("ak_public_tpmt").unwrap_or_else(|| {
        // The scheme of the key is not in a PEM file: it is what the signature says, if that can be a scheme at all.
        let ecdsa = key.kind().field_len().is_some();
        let named = signature.first_chunk().copied();
        let scheme = named.filter(|scheme| scheme[1] == 0x14 || scheme[1] == 0x16 || scheme[1] == 0x18);
        area(
            &key,
            scheme.unwrap_or(if ecdsa { ECDSA_SHA256 } else { [0, 0x14, 0, 0x0b] }),
        )
    });
    // A nonce of another length than 32 bytes is not the binding of any exchange.
    let nonce = case.text["params"]["expected_nonce"].as_str().unwrap_or_default();
    let bind = hex::decode(nonce).unwrap().try_into().unwrap_or([0; 32]);
    let selection = case.selection();
    let values = case.registers("pcr_values_json").unwrap_or_default();
    let evidence = TpmEvidence {
        quote: Some(TpmAttestation {
            attest: ByteBuf::from(case.file("tpms_attest").unwrap()),
            signature: ByteBuf::from(signature),
        }),
        certifications: Vec::new(),
        pcr_values: selection
            .to_wire()
            .into_iter()
            .flat_map(|(alg, indices)| indices.into_iter().map(move |index| (alg, index)))
            .filter_map(|(alg, index)| {
                let (_, bank) = values.iter().find(|(name, _)| bank(name) == alg)?;
                let value = ByteBuf::from(bank.get(&index)?.clone());
                Some(TpmPcrValue {
                    bank: alg,
                    index,
                    value,
                })
            })
            .collect(),
    };
    let log = case.file("eventlog").unwrap_or_default();
    appraise(&evidence, bind, &public, &selection, &log)
}

/// Appraises a log as that of a machine with these register values: the TPM's where the case has them, else those that
/// another implementation replayed from the log.
pub(super) fn boot(case: &Case) -> Appraisal {
    let replayed = case.registers("replayed_json").unwrap_or_default();
    let quoted = case.registers("pcr_values_json").unwrap_or_default();
    let best = ["sha256", "sha384", "sha512", "sha1"]
        .into_iter()
        .find(|bank| replayed.contains_key(*bank) || quoted.contains_key(*bank));
    let name = best.unwrap_or("sha256");
    let mut values = replayed.get(name).cloned().unwrap_or_default();
    for (index, value) in &mut values {
        if let Some(of_tpm) = quoted.get(name).and_then(|bank| bank.get(index)) {
            value.clone_from(of_tpm);
        }
    }
    if values.is_empty() {
        // A log that nobody could replay is held against a register of zeros.
        values.insert(0, vec![0; 32]);
    }
    let wire = vec![(bank(name), values.keys().copied().collect::<Vec<u8>>())];
    let selection = PcrSelection::from_wire(&wire).unwrap();
    let key = SoftwareKey::generate(SigningAlg::Es256).unwrap();
    let parts: Vec<&[u8]> = values.values().map(Vec::as_slice).collect();
    let attest = attest(&wire[0].1, wire[0].0, &HashAlg::Sha256.digest(&parts));
    let signed = key.sign(Purpose::ProofOfPossession, &attest).unwrap();
    let evidence = TpmEvidence {
        quote: Some(TpmAttestation {
            signature: ByteBuf::from(
                [&ECDSA_SHA256[..], &sized(&signed[..32]), &sized(&signed[32..])].concat(),
            ),
            attest: ByteBuf::from(attest),
        }),
        certifications: Vec::new(),
        pcr_values: values
            .into_iter()
            .map(|(index, value)| TpmPcrValue {
                bank: wire[0].0,
                index,
                value: ByteBuf::from(value),
            })
            .collect(),
    };
    let public = area(key.public_key(), ECDSA_SHA256);
    appraise(
        &evidence,
        [0xb1; 32],
        &public,
        &selection,
        &case.file("eventlog").unwrap(),
    )
}

fn appraise(
    evidence: &TpmEvidence,
    bind: [u8; 32],
    attestation_public: &[u8],
    selection: &PcrSelection,
    log: &[u8],
) -> Appraisal {
    TpmAppraiser::new(Vec::new()).appraise(
        &cbor::encode(evidence),
        &Expected {
            bind,
            attestation_public,
            selection,
            keys: &[],
            sealed_to_boot: false,
            log,
        },
    )
}

/// TPMT_PUBLIC of an attestation key with this scheme.
fn area(key: &PublicKey, scheme: [u8; 4]) -> Vec<u8> {
    let attributes = ATTRIBUTES.to_be_bytes();
    let head = |kind: u8| [&[0, kind, 0, 0x0b], &attributes[..], &[0, 0, 0, 0x10], &scheme].concat();
    match (key.ec_coordinates(), key.kind()) {
        (Some((x, y)), kind) => {
            let curve = if kind == KeyKind::P256 { 3 } else { 4 };
            [head(0x23), vec![0, curve, 0, 0x10], sized(x), sized(y)].concat()
        }
        (None, kind) => {
            // RSAPublicKey of a 2048-bit key: two headers of four bytes, a zero, the modulus.
            assert_eq!(kind, KeyKind::Rsa { bits: 2048 });
            [head(0x01), vec![8, 0, 0, 0, 0, 0], sized(&key.raw()[9..265])].concat()
        }
    }
}

/// TPMS_ATTEST of a quote over registers of one bank.
fn attest(indices: &[u8], bank: u16, digest: &[u8]) -> Vec<u8> {
    let mut bits = [0_u8; 3];
    for index in indices {
        bits[usize::from(index / 8)] |= 1 << (index % 8);
    }
    [
        &[0xff, 0x54, 0x43, 0x47, 0x80, 0x18, 0, 0][..],
        &sized(&[0xb1; 32]),
        &[0; 8 + 4 + 4],
        &[1],
        &[0; 8],
        &[0, 0, 0, 1],
        &bank.to_be_bytes(),
        &[3],
        &bits,
        &sized(digest),
    ]
    .concat()
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes(), bytes].concat()
}
