//! Attestation keys that a TPM does not hold, judged before a secret is made for them and again with the evidence.

use touchmark_attestor_tpm::TpmAppraiser;
use touchmark_rats::{
    Appraiser,
    Reason::{self, AlgNotAllowed, AttestationKeyAttributes, KeyInvalid, Malformed, WeakHash},
    Retry, cbor,
};

use crate::forge::{
    Case, Tpm,
    area::{
        Area, DECRYPT, ECC, ECDSA, FIXED_PARENT, FIXED_TPM, NO_DA, NULL, RESTRICTED, RSA, RSAPSS, RSASSA,
        SENSITIVE_DATA_ORIGIN, SIGN, USER_WITH_AUTH, X509_SIGN,
    },
    key::Key,
    write::{SHA1, SHA384, Writer},
};

const NAME: &str = "tpm.attestation_key";

/// Asserts that a key with this public area is refused at the opening, where nothing has been sealed to anything yet,
/// and with the evidence.
#[track_caller]
fn refused(area: &Area, reason: Reason) {
    let mut case = Case::good();
    case.tpm.ak_area = area.clone();
    let opening = cbor::encode(&case.tpm.opening(None));
    let refusal = TpmAppraiser::new(Vec::new()).open(&opening).unwrap_err();
    assert_eq!((refusal.check, refusal.reason), (NAME, reason), "{refusal}");
    assert_eq!(refusal.retry, Retry::Never);
    case.refused(NAME, reason);
}

fn altered(alter: impl FnOnce(&mut Area)) -> Area {
    let mut area = Tpm::new().ak_area;
    alter(&mut area);
    area
}

#[test]
fn an_ordinary_attestation_key_opens() {
    let tpm = Tpm::new();
    let opening = TpmAppraiser::new(Vec::new())
        .open(&cbor::encode(&tpm.opening(None)))
        .unwrap();
    assert_eq!(opening.attestation_name, tpm.ak_area.name());
    assert_eq!(opening.attestation_public, tpm.ak_area.bytes());
    assert_eq!(opening.candidates.len(), 1);
}

#[test]
fn e05_e24_each_required_attribute_is_missed_and_each_forbidden_one_seen() {
    for bit in [
        FIXED_TPM,
        FIXED_PARENT,
        SENSITIVE_DATA_ORIGIN,
        RESTRICTED,
        SIGN,
        DECRYPT,
        X509_SIGN,
    ] {
        refused(&altered(|area| area.attributes ^= bit), AttestationKeyAttributes);
    }
}

#[test]
fn e24_a_software_key_loaded_from_outside_is_refused() {
    // What TPM2_LoadExternal gives a key that somebody made elsewhere.
    for attributes in [
        SIGN | USER_WITH_AUTH,
        SIGN | USER_WITH_AUTH | NO_DA,
        SIGN | USER_WITH_AUTH | RESTRICTED,
        SIGN | RESTRICTED | FIXED_TPM | FIXED_PARENT,
        0,
    ] {
        refused(
            &altered(|area| area.attributes = attributes),
            AttestationKeyAttributes,
        );
    }
}

#[test]
fn e05_attributes_that_no_tpm_gives_such_a_key_are_refused() {
    // encryptedDuplication with fixedTPM, and reserved bits.
    for bit in [0, 3, 11, 12, 15, 20, 24, 31] {
        refused(
            &altered(|area| area.attributes |= 1 << bit),
            AttestationKeyAttributes,
        );
    }
}

#[test]
fn e01_an_unrestricted_key_is_refused_though_its_attestation_verifies() {
    let mut case = Case::good();
    case.tpm.ak_area.attributes &= !RESTRICTED;
    case.refused(NAME, AttestationKeyAttributes);
}

#[test]
fn e10_every_curve_but_p256_and_p384_is_refused() {
    let area = Tpm::new().ak_area;
    for curve in (0..=0x100).chain([0x7fff, 0xffff]).filter(|curve| *curve != 3) {
        // 4 is P-384, which this point is not on.
        refused(&area.clone().on_curve(curve), KeyInvalid);
    }
    let p384 = Key::p384();
    let area = Area::signing(p384.public(), SHA384, area.attributes, Vec::new());
    for curve in (0..=0x100).filter(|curve| !(3..=4).contains(curve)) {
        refused(&area.clone().on_curve(curve), KeyInvalid);
    }
    // A P-384 point said to be of P-256: its numbers are longer than the field.
    refused(&area.on_curve(3), Malformed);
}

#[test]
fn e10_a_point_that_is_not_on_its_curve_is_refused() {
    let area = Tpm::new().ak_area;
    let (x, y) = (area.unique[0].clone(), area.unique[1].clone());
    let prime = Writer::default()
        .u32(u32::MAX)
        .u32(1)
        .raw(&[0; 12])
        .raw(&[0xff; 12])
        .0;
    let mut flipped = y.clone();
    flipped[31] ^= 1;
    for unique in [
        vec![x.clone(), flipped],
        vec![y.clone(), x.clone()],
        vec![vec![0; 32], vec![0; 32]],
        vec![Vec::new(), Vec::new()],
        vec![x.clone(), vec![0; 32]],
        vec![prime.clone(), y.clone()],
        vec![vec![0xff; 32], y.clone()],
        vec![x.clone(), prime],
        vec![x[1..].to_vec(), y.clone()],
    ] {
        refused(&altered(|area| area.unique = unique), KeyInvalid);
    }
    let longer = vec![[&[0], &x[..]].concat(), y];
    refused(&altered(|area| area.unique = longer), Malformed);
}

#[test]
fn e10_rsa_keys_of_other_sizes_and_with_bad_numbers_are_refused() {
    let rsa = |bits: u16, exponent, modulus: Vec<u8>| {
        altered(|area| area.scheme[0] = RSASSA).rsa(bits, exponent, modulus)
    };
    for bits in [512_u16, 1024, 1536, 2040, 4104, 8192, 16384] {
        refused(&rsa(bits, 0, vec![0xff; usize::from(bits / 8)]), KeyInvalid);
    }
    for exponent in [1, 2, 65_536] {
        refused(&rsa(2048, exponent, vec![0xff; 256]), KeyInvalid);
    }
    refused(&rsa(2048, 0, vec![0x7f; 256]), KeyInvalid);
    refused(&rsa(2048, 0, vec![0; 256]), KeyInvalid);
    refused(&rsa(2048, 0, vec![0xff; 255]), Malformed);
    refused(&rsa(2048, 0, vec![0xff; 512]), Malformed);
    refused(&rsa(0, 0, Vec::new()), KeyInvalid);
}

#[test]
fn e10_a_key_without_a_scheme_or_with_one_that_is_not_accepted_is_refused() {
    refused(&altered(|area| area.scheme = vec![NULL]), AlgNotAllowed);
    refused(&altered(|area| area.scheme[1] = SHA1), WeakHash);
    for hash in [0, NULL, 0x0012, 0x0027, 0x0028, 0x0029] {
        refused(&altered(|area| area.scheme[1] = hash), KeyInvalid);
    }
    // HMAC, RSAES, OAEP, ECDAA, SM2, ECSCHNORR, and numbers without meaning.
    for scheme in [0x0005, 0x0015, 0x0017, 0x001a, 0x001b, 0x001c, 0x0000, 0xffff] {
        refused(&altered(|area| area.scheme[0] = scheme), KeyInvalid);
    }
}

#[test]
fn e10_a_scheme_of_the_other_kind_of_key_is_refused() {
    for scheme in [RSASSA, RSAPSS] {
        refused(&altered(|area| area.scheme[0] = scheme), KeyInvalid);
    }
    let rsa = Key::rsa();
    let mut area = Area::signing(
        rsa.public(),
        rsa.hash(),
        Tpm::new().ak_area.attributes,
        Vec::new(),
    );
    area.scheme[0] = ECDSA;
    refused(&area, KeyInvalid);
}

#[test]
fn a_name_made_with_a_weak_or_unknown_hash_is_refused() {
    // Those of the registry that are not accepted, and numbers that are no hash at all.
    for (hash, reason) in [
        (SHA1, WeakHash),
        (NULL, WeakHash),
        (0x0012, WeakHash),
        (0x0027, WeakHash),
        (0, Malformed),
        (0xffff, Malformed),
    ] {
        let mut case = Case::good();
        case.tpm.ak_area.name_alg = hash;
        case.refused(NAME, reason);
    }
}

#[test]
fn objects_that_are_not_asymmetric_keys_and_key_derivation_schemes_are_refused() {
    for kind in [0x0008, 0x0025] {
        refused(&altered(|area| area.kind = kind), KeyInvalid);
    }
    for kind in [0, 0x0024, 0xffff] {
        refused(&altered(|area| area.kind = kind), Malformed);
    }
    let parameters = Writer::default().u16(3).u16(0x0020).0;
    refused(&altered(|area| area.parameters = parameters), KeyInvalid);
    // An elliptic-curve key read as RSA, and the other way round: already the scheme does not fit.
    refused(&altered(|area| area.kind = RSA), KeyInvalid);
    let rsa = Key::rsa();
    let mut area = Area::signing(
        rsa.public(),
        rsa.hash(),
        Tpm::new().ak_area.attributes,
        Vec::new(),
    );
    area.kind = ECC;
    refused(&area, KeyInvalid);
}

#[test]
fn a_public_area_is_refused_when_cut_anywhere_or_followed_by_anything() {
    let area = Tpm::new().ak_area;
    let bytes = area.bytes();
    for length in 0..bytes.len() {
        let mut message = Tpm::new().opening(None);
        message.attestation.public = bytes[..length].to_vec().into();
        let refusal = TpmAppraiser::new(Vec::new())
            .open(&cbor::encode(&message))
            .unwrap_err();
        assert_eq!((refusal.check, refusal.reason), (NAME, Malformed), "{length}");
    }
    refused(&altered(|area| area.tail = vec![0]), Malformed);
    // With its TPM2B size in front, as tools write it.
    let mut message = Tpm::new().opening(None);
    message.attestation.public = Writer::default().sized(&bytes).0.into();
    let refusal = TpmAppraiser::new(Vec::new())
        .open(&cbor::encode(&message))
        .unwrap_err();
    assert_eq!(refusal.check, NAME);
}
