//! Quotes that are signed by the right key and wrong all the same.

use touchmark_rats::{
    PcrBank, PcrSelection,
    Reason::{
        KeyPolicy, LogMismatch, Malformed, NonceMismatch, NonceMissing, PcrDigestMismatch,
        PcrSelectionMismatch, WrongMagic, WrongType,
    },
};

use crate::forge::{
    BIND, BOOT, Case, Tpm,
    attest::{self, Attest, CERTIFY, MAGIC, QUOTE},
    key::Key,
    log::Log,
    passed, refused,
    write::{SHA1, SHA256, SHA384, Writer, digest},
};

/// A quote over these registers of the SHA-256 bank, whatever was asked for.
fn quoted(tpm: &Tpm, selection: &[u8], indices: &[u8]) -> Attest {
    Attest::quote(&BIND, selection, &tpm.pcr_digest(SHA256, indices))
}

#[test]
fn e01_a_structure_without_the_tpms_magic_is_refused() {
    for magic in [0, 0xff54_4346, 0x4743_54ff, MAGIC ^ 0x8000_0000, u32::MAX] {
        let mut case = Case::good();
        case.quote().magic = magic;
        case.refused("tpm.quote.magic", WrongMagic);
        let mut case = Case::good();
        case.key().certify.magic = magic;
        case.refused("tpm.certify.magic", WrongMagic);
    }
}

#[test]
fn e02_a_selection_that_is_not_the_one_asked_for_is_refused() {
    let tpm = Tpm::new();
    let narrow: Vec<u8> = (0..7).collect();
    let wide: Vec<u8> = (0..24).collect();
    let twice = attest::selection(&[(SHA256, &[0, 1, 2, 3, 4]), (SHA256, &[5, 6, 7, 8, 9])]);
    for (what, selection, indices) in [
        (
            "narrower",
            attest::selection(&[(SHA256, &narrow)]),
            narrow.as_slice(),
        ),
        ("wider", attest::selection(&[(SHA256, &wide)]), &wide),
        (
            "another register",
            attest::selection(&[(SHA256, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 16])]),
            &BOOT,
        ),
        (
            "no register of the bank",
            attest::selection(&[(SHA256, &[])]),
            &[],
        ),
        ("SHA-1 bank", attest::selection(&[(SHA1, &BOOT)]), &BOOT),
        ("SHA-384 bank", attest::selection(&[(SHA384, &BOOT)]), &BOOT),
        ("unknown bank", attest::selection(&[(0x0012, &BOOT)]), &BOOT),
        (
            "extra bank",
            attest::selection(&[(SHA256, &BOOT), (SHA1, &BOOT)]),
            &BOOT,
        ),
        (
            "extra bank first",
            attest::selection(&[(SHA1, &BOOT), (SHA256, &BOOT)]),
            &BOOT,
        ),
        (
            "extra unknown bank",
            attest::selection(&[(SHA256, &BOOT), (0x0027, &BOOT)]),
            &BOOT,
        ),
        (
            "extra empty bank",
            attest::selection(&[(SHA256, &BOOT), (SHA384, &[])]),
            &BOOT,
        ),
        ("one bank in two parts", twice, &BOOT),
    ] {
        let mut case = Case::good();
        // The full and true values come along: they are not what was quoted.
        case.quote = Some(quoted(&tpm, &selection, indices));
        for values in [case.values.clone(), Vec::new()] {
            case.values = values;
            let appraisal = case.appraise();
            assert!(appraisal.failure().is_some(), "{what}");
            refused(&appraisal, "tpm.quote.selection", PcrSelectionMismatch);
        }
    }
}

#[test]
fn e02_four_bytes_of_bits_select_the_same_registers_and_a_set_bit_beyond_them_does_not() {
    let mut case = Case::good();
    let bank = |bits: &[u8]| {
        Writer::default()
            .u32(1)
            .u16(SHA256)
            .u8(u8::try_from(bits.len()).unwrap())
            .raw(bits)
            .0
    };
    case.quote = Some(quoted(&case.tpm, &bank(&attest::bits(&BOOT, 4)), &BOOT));
    assert_eq!(case.appraise().failure(), None);
    case.quote = Some(quoted(&case.tpm, &bank(&[0xff, 0x03, 0, 1]), &BOOT));
    case.refused("tpm.quote.selection", PcrSelectionMismatch);
    case.quote = Some(quoted(&case.tpm, &bank(&[]), &[]));
    case.refused("tpm.quote.selection", PcrSelectionMismatch);
}

#[test]
fn e02_a_bit_beyond_the_256th_register_is_not_overlooked() {
    let mut case = Case::good();
    let mut bits = attest::bits(&BOOT, 40);
    bits[33] = 1;
    let selection = Writer::default().u32(1).u16(SHA256).u8(40).raw(&bits).0;
    case.quote = Some(quoted(&case.tpm, &selection, &BOOT));
    assert!(case.appraise().failure().is_some());
}

#[test]
fn e02_banks_in_another_order_than_asked_for_are_refused() {
    let mut case = Case::good();
    let bank = |bank| PcrBank {
        bank,
        indices: BOOT.to_vec(),
    };
    case.selection = PcrSelection(vec![
        bank(touchmark_crypto::HashAlg::Sha1),
        bank(touchmark_crypto::HashAlg::Sha256),
    ]);
    let selection = attest::selection(&[(SHA256, &BOOT), (SHA1, &BOOT)]);
    case.quote = Some(quoted(&case.tpm, &selection, &BOOT));
    case.refused("tpm.quote.selection", PcrSelectionMismatch);
}

#[test]
fn e02_register_values_beside_a_valid_quote_are_not_believed() {
    type Alter = fn(&mut Vec<(u16, u8, Vec<u8>)>);
    let cases: [(&str, Alter, _); 9] = [
        ("another value", |v| v[4].2 = vec![0xaa; 32], PcrDigestMismatch),
        ("one bit", |v| v[9].2[31] ^= 1, PcrDigestMismatch),
        ("one missing", |v| drop(v.remove(4)), PcrDigestMismatch),
        (
            "one more",
            |v| v.push((SHA256, 10, vec![0; 32])),
            PcrDigestMismatch,
        ),
        (
            "one of another bank more",
            |v| v.push((SHA1, 0, vec![0; 20])),
            PcrDigestMismatch,
        ),
        ("one twice", |v| v.push(v[0].clone()), PcrDigestMismatch),
        (
            "two exchanged",
            |v| {
                let (left, right) = (v[0].2.clone(), v[4].2.clone());
                (v[0].2, v[4].2) = (right, left);
            },
            PcrDigestMismatch,
        ),
        ("wrong length", |v| v[0].2.truncate(31), Malformed),
        ("unknown bank", |v| v[0].0 = 0x0012, Malformed),
    ];
    for (what, alter, reason) in cases {
        let mut case = Case::good();
        alter(&mut case.values);
        let appraisal = case.appraise();
        let failure = appraisal.failure().expect(what);
        assert_eq!(
            (failure.name, failure.reason()),
            ("tpm.quote.pcr_digest", Some(reason)),
            "{what}"
        );
    }
}

#[test]
fn e02_the_order_in_which_values_are_sent_does_not_matter() {
    let mut case = Case::good();
    case.values.reverse();
    assert_eq!(case.appraise().failure(), None);
}

#[test]
fn e03_a_quote_over_no_registers_is_refused_beside_a_consistent_fake_log() {
    let mut case = Case::good();
    let mut fake = Log::boot();
    fake.image(4, 0x8000_0003, b"what the policy wants", &[0; 32]);
    case.values = BOOT
        .iter()
        .map(|pcr| (SHA256, *pcr, fake.replay(SHA256, *pcr, vec![0; 32], usize::MAX)))
        .collect();
    case.log = fake.bytes();
    for selection in [attest::selection(&[]), attest::selection(&[(SHA256, &[])])] {
        for pcr_digest in [Vec::new(), digest(SHA256, &[]), vec![0; 32]] {
            case.quote = Some(Attest::quote(&BIND, &selection, &pcr_digest));
            case.refused("tpm.quote.selection", PcrSelectionMismatch);
        }
    }
    // The right selection over the true registers: now the fake values are what does not fit.
    case.quote = Some(quoted(&case.tpm, &attest::selection(&[(SHA256, &BOOT)]), &BOOT));
    case.refused("tpm.quote.pcr_digest", PcrDigestMismatch);
    case.values.clear();
    case.refused("tpm.log", LogMismatch);
}

#[test]
fn e03_an_exchange_that_asks_for_a_bank_without_registers_proves_nothing() {
    let mut case = Case::good();
    case.selection = PcrSelection::sha256([]);
    case.sealed_to_boot = false;
    case.values.clear();
    let selection = attest::selection(&[(SHA256, &[])]);
    case.quote = Some(Attest::quote(&BIND, &selection, &digest(SHA256, &[])));
    assert!(case.appraise().failure().is_some());
}

#[test]
fn e03_evidence_of_nothing_is_refused() {
    let mut case = Case::good();
    case.selection = PcrSelection(Vec::new());
    case.quote = None;
    case.values.clear();
    case.keys.clear();
    case.log.clear();
    assert!(case.appraise().failure().is_some());
}

#[test]
fn a_quoted_digest_that_is_empty_or_of_another_hash_is_refused() {
    for pcr_digest in [
        Vec::new(),
        vec![0; 32],
        Tpm::new().pcr_digest(SHA384, &BOOT),
        Tpm::new().pcr_digest(SHA256, &BOOT)[..31].to_vec(),
    ] {
        let mut case = Case::good();
        let selection = attest::selection(&[(SHA256, &BOOT)]);
        case.quote = Some(Attest::quote(&BIND, &selection, &pcr_digest));
        case.refused("tpm.quote.pcr_digest", PcrDigestMismatch);
        case.values.clear();
        case.keys.clear();
        case.refused("tpm.log", LogMismatch);
    }
}

#[test]
fn a_p384_attestation_keys_quote_with_a_digest_of_the_bank_is_refused() {
    let mut case = Case::of(Tpm::with(Key::p384(), Log::boot()));
    let pcrs = case.tpm.pcr_digest(SHA256, &BOOT);
    let selection = attest::selection(&[(SHA256, &BOOT)]);
    case.quote = Some(Attest::quote(&BIND, &selection, &pcrs));
    case.refused("tpm.quote.pcr_digest", PcrDigestMismatch);
}

#[test]
fn a_host_key_beside_a_p384_attestation_key_is_held_against_its_own_hash() {
    let case = Case::of(Tpm::with(Key::p384(), Log::boot()));
    let reason = case.appraise().failure().and_then(touchmark_rats::Check::reason);
    assert_ne!(reason, Some(KeyPolicy));
}

#[test]
fn a_certification_where_a_quote_belongs_is_refused_and_the_other_way_round() {
    let mut case = Case::good();
    case.quote = Some(Attest::certify(&BIND, &case.keys[0].area.name()));
    case.refused("tpm.quote.type", WrongType);
    let mut case = Case::good();
    case.key().certify = quoted(&case.tpm, &attest::selection(&[(SHA256, &BOOT)]), &BOOT);
    case.refused("tpm.certify.type", WrongType);
}

#[test]
fn a_type_that_does_not_go_with_the_body_is_refused() {
    let mut case = Case::good();
    case.quote().kind = CERTIFY;
    case.refused("tpm.quote.type", WrongType);
    let mut case = Case::good();
    case.key().certify.kind = QUOTE;
    case.refused("tpm.certify.type", WrongType);
    // Time, session audit, command audit, creation, NV: signed by the right key, never what is asked for.
    for kind in [0, 0x8014, 0x8015, 0x8016, 0x8019, 0x801a, 0x801c, 0xffff] {
        let mut case = Case::good();
        case.quote().kind = kind;
        case.refused("tpm.quote.type", WrongType);
        let mut case = Case::good();
        case.key().certify.kind = kind;
        case.refused("tpm.certify.type", WrongType);
    }
}

#[test]
fn a_structure_is_refused_when_cut_anywhere_or_followed_by_anything() {
    let case = Case::good();
    let signer = &case.tpm.ak;
    let good = case.quote.as_ref().unwrap().bytes();
    let resigned = |bytes: Vec<u8>| {
        case.appraise_with(|evidence| {
            let quote = evidence.quote.as_mut().unwrap();
            quote.signature = attest::sign(signer, &bytes).into();
            quote.attest = bytes.into();
        })
    };
    for length in 0..good.len() {
        refused(
            &resigned(good[..length].to_vec()),
            "tpm.quote.structure",
            Malformed,
        );
    }
    refused(
        &resigned([&good[..], &[0]].concat()),
        "tpm.quote.structure",
        Malformed,
    );
    let mut case = Case::good();
    // A count of banks that the bytes do not hold.
    case.quote().body = Writer::default().u32(u32::MAX).0;
    case.refused("tpm.quote.structure", Malformed);
}

#[test]
fn qualifying_data_that_is_not_exactly_the_binding_is_refused() {
    for extra in [
        Vec::new(),
        BIND[..31].to_vec(),
        [&BIND[..], &[0]].concat(),
        [&BIND[..], &BIND[..]].concat(),
        vec![0; 32],
    ] {
        let mut case = Case::good();
        case.quote().extra.clone_from(&extra);
        let reason = if extra.is_empty() {
            NonceMissing
        } else {
            NonceMismatch
        };
        let appraisal = case.appraise();
        refused(&appraisal, "tpm.quote.binding", reason);
        assert!(!appraisal.authenticated);
        let mut case = Case::good();
        case.key().certify.extra = extra;
        case.refused("tpm.certify.binding", reason);
    }
}

#[test]
fn e22_a_firmware_version_is_believed_of_a_key_that_the_tpm_tells_it_to() {
    let told = |hierarchy: u32| {
        let mut case = Case::good();
        let name = case.tpm.ak_area.name();
        let digest = digest(SHA256, &[&hierarchy.to_be_bytes(), &name]);
        case.quote().signer = [&SHA256.to_be_bytes()[..], &digest].concat();
        let appraisal = case.appraise();
        passed(&appraisal);
        appraisal.claims.get("tpm.firmware_version").is_some()
    };
    // Endorsement and platform; of a key below the owner's hierarchy it is hidden behind another number.
    assert!(told(0x4000_000b) && told(0x4000_000c));
    assert!(!told(0x4000_0001));
    let appraisal = Case::good().appraise();
    passed(&appraisal);
    assert!(appraisal.claims.get("tpm.firmware_version").is_none());
}
