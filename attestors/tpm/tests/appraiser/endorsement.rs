//! Endorsement keys and certificates that no maker, or another chip, stands behind.

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa};
use serde_bytes::ByteArray;
use touchmark_attestor_tpm::{Maker, TpmAppraiser};
use touchmark_crypto::{
    Secret,
    x509::{DeviceCertificate, MAX_CERTIFICATE},
};
use touchmark_rats::{
    Appraiser, Candidate, CertifiedKey, MakerKind,
    Reason::{
        self, CertExpired, Eku, EndorsementMismatch, EndorsementTemplate, IssuerNotCa, Malformed, PathInvalid,
    },
    Retry, Voucher, cbor,
};

use crate::forge::{
    Tpm,
    area::{Area, DECRYPT, EK_HIGH, ENDORSEMENT_POLICY_B, RESTRICTED, SIGN, USER_WITH_AUTH},
    key::Key,
    maker::{Authority, NOT_AFTER, NOT_BEFORE, NOW, endorsement, moment, tcg_names},
};

const NAME: &str = "tpm.endorsement_certificate";

/// The candidate that a host with this certificate becomes.
fn candidate(tpm: &Tpm, certificate: Option<Vec<u8>>, intermediates: &[Vec<u8>]) -> Candidate {
    let mut opening = tpm.opening(certificate);
    opening.endorsements[0].intermediates = intermediates.iter().map(|der| der.clone().into()).collect();
    let opened = TpmAppraiser::new(Vec::new())
        .open(&cbor::encode(&opening))
        .unwrap();
    opened.candidates.into_iter().next().unwrap()
}

#[track_caller]
fn refused(makers: Vec<Maker>, candidate: &Candidate, now: u64, reason: Reason) {
    let refusal = TpmAppraiser::new(makers).vouch(candidate, now).unwrap_err();
    assert!(refusal.check.starts_with(NAME), "{refusal}");
    assert_eq!(refusal.reason, reason, "{refusal}");
}

struct Fixture {
    tpm: Tpm,
    root: Authority,
}

impl Fixture {
    fn new() -> Self {
        Self {
            tpm: Tpm::new(),
            root: Authority::root("Maker Root"),
        }
    }

    fn makers(&self) -> Vec<Maker> {
        vec![self.root.maker("maker")]
    }

    /// Asserts that a certificate altered like this is refused.
    #[track_caller]
    fn refused(&self, alter: impl FnOnce(&mut CertificateParams), reason: Reason) {
        let certificate = self.root.certify_with(self.tpm.ek.public(), alter);
        refused(
            self.makers(),
            &candidate(&self.tpm, Some(certificate), &[]),
            NOW,
            reason,
        );
    }
}

#[test]
fn a_certificate_of_a_pinned_maker_vouches_directly_and_through_an_intermediate() {
    let Fixture { tpm, root } = Fixture::new();
    let spki_digest = |der: &[u8]| DeviceCertificate::parse(der).unwrap().facts.spki_digest();
    // The serial number and the authorities are those of the path that was found.
    let voucher = |certificate: &[u8], issuers: &[[u8; 32]]| {
        Some(Voucher {
            maker: "maker".into(),
            kind: MakerKind::Physical,
            certified: CertifiedKey::EndorsementKey,
            simulated: true,
            anchor: spki_digest(&root.der),
            manufacturer: String::new(),
            serial: DeviceCertificate::parse(certificate).unwrap().facts.serial.into(),
            issuers: issuers.iter().copied().map(ByteArray::new).collect(),
        })
    };
    let appraiser = TpmAppraiser::new(vec![
        Authority::root("Another Root").maker("another"),
        root.maker("maker"),
    ]);
    let direct = candidate(&tpm, Some(root.certify(tpm.ek.public())), &[]);
    let by_root = [spki_digest(&root.der)];
    let direct_voucher = voucher(&direct.certificate.as_ref().unwrap().der, &by_root);
    assert_eq!(appraiser.vouch(&direct, NOW).unwrap(), direct_voucher);
    let middle = root.intermediate("Maker Intermediate", |_| {});
    let through = candidate(
        &tpm,
        Some(middle.certify(tpm.ek.public())),
        std::slice::from_ref(&middle.der),
    );
    let by_both = [spki_digest(&middle.der), spki_digest(&root.der)];
    let through_voucher = voucher(&through.certificate.as_ref().unwrap().der, &by_both);
    assert_eq!(appraiser.vouch(&through, NOW).unwrap(), through_voucher);
    assert_eq!(appraiser.vouch(&through, NOT_BEFORE).unwrap(), through_voucher);
    let mut rsa = Tpm::new();
    rsa.ek = Key::rsa();
    rsa.ek_area = Area::endorsement(rsa.ek.public());
    let rsa_candidate = candidate(&rsa, Some(root.certify(rsa.ek.public())), &[]);
    let vouched = appraiser.vouch(&rsa_candidate, NOW).unwrap();
    assert_eq!(
        vouched,
        voucher(&rsa_candidate.certificate.as_ref().unwrap().der, &by_root)
    );
}

#[test]
fn e06_a_certificate_for_another_key_than_the_one_presented_is_refused() {
    let Fixture { tpm, root } = Fixture::new();
    let makers = || vec![root.maker("maker")];
    let (other, rsa) = (Key::p256(), Key::rsa());
    let attestation = tpm.ak.public();
    for key in [other.public(), rsa.public(), attestation] {
        let theirs = candidate(&tpm, Some(root.certify(key)), &[]);
        refused(makers(), &theirs, NOW, EndorsementMismatch);
    }
    // Even where nobody would believe the certificate, the mismatch is what is said.
    let theirs = candidate(&tpm, Some(root.certify(other.public())), &[]);
    refused(Vec::new(), &theirs, NOW, EndorsementMismatch);
}

#[test]
fn e06_what_hosts_are_enrolled_by_and_sealed_to_is_the_key_presented_and_not_the_certificates() {
    let Fixture { tpm, root } = Fixture::new();
    let other = Key::p256();
    let mut confused = candidate(&tpm, Some(root.certify(other.public())), &[]);
    assert_eq!(confused.digest, tpm.ek.public().digest());
    assert_eq!(confused.name, tpm.ek_area.name());
    assert_eq!(confused.public, tpm.ek_area.bytes());
    // The third disagreement: a public area that the certificate and the digest do not belong to.
    confused.certificate.as_mut().unwrap().der = root.certify(tpm.ek.public());
    confused.public = Area::endorsement(other.public()).bytes();
    refused(vec![root.maker("maker")], &confused, NOW, EndorsementMismatch);
}

#[test]
fn e07_a_key_without_a_certificate_is_vouched_for_by_nobody() {
    let Fixture { tpm, root } = Fixture::new();
    let raw = candidate(&tpm, None, std::slice::from_ref(&root.der));
    let appraiser = TpmAppraiser::new(vec![root.maker("maker")]);
    assert_eq!(appraiser.vouch(&raw, NOW).unwrap(), None);
}

#[test]
fn e07_a_maker_that_is_not_pinned_is_refused() {
    let Fixture { tpm, root } = Fixture::new();
    let good = candidate(&tpm, Some(root.certify(tpm.ek.public())), &[]);
    refused(Vec::new(), &good, NOW, PathInvalid);
    let another = Authority::root("Another Root");
    refused(vec![another.maker("another")], &good, NOW, PathInvalid);
    // The same name, another key; and the root sent along as if that helped.
    let namesake = Authority::root("Maker Root");
    refused(vec![namesake.maker("maker")], &good, NOW, PathInvalid);
    let with_root = candidate(
        &tpm,
        Some(root.certify(tpm.ek.public())),
        std::slice::from_ref(&root.der),
    );
    refused(vec![another.maker("another")], &with_root, NOW, PathInvalid);
}

#[test]
fn e07_a_certificate_outside_its_validity_is_refused() {
    let Fixture { tpm, root } = Fixture::new();
    let good = candidate(&tpm, Some(root.certify(tpm.ek.public())), &[]);
    for now in [0, NOT_BEFORE - 1, NOT_AFTER + 1, u64::from(u32::MAX)] {
        refused(vec![root.maker("maker")], &good, now, CertExpired);
    }
    let fixture = Fixture { tpm, root };
    fixture.refused(|params| params.not_after = moment(NOW - 1), CertExpired);
    fixture.refused(|params| params.not_before = moment(NOW + 1), CertExpired);
}

#[test]
fn e07_a_self_signed_certificate_is_refused() {
    let Fixture { mut tpm, root } = Fixture::new();
    let pair = rcgen::KeyPair::generate().unwrap();
    let der = endorsement().self_signed(&pair).unwrap().der().to_vec();
    let spki = rcgen::PublicKeyData::subject_public_key_info(&pair);
    let public = touchmark_crypto::PublicKey::from_spki(&spki).unwrap();
    tpm.ek_area = Area::endorsement(&public);
    let own = candidate(&tpm, Some(der.clone()), &[]);
    refused(vec![root.maker("maker")], &own, NOW, PathInvalid);
    let twice = candidate(&tpm, Some(der.clone()), &[der]);
    refused(vec![root.maker("maker")], &twice, NOW, PathInvalid);
}

#[test]
fn e07_a_certificate_of_an_authority_is_refused() {
    let fixture = Fixture::new();
    fixture.refused(
        |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        Eku,
    );
}

#[test]
fn e07_a_certificate_without_the_usage_of_endorsement_keys_is_refused() {
    let fixture = Fixture::new();
    fixture.refused(|params| params.extended_key_usages.clear(), Eku);
    for usage in [
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::Any,
        // tcg-kp-AIKCertificate and tcg-kp-PlatformAttributeCertificate.
        ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 3]),
        ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 2]),
    ] {
        fixture.refused(|params| params.extended_key_usages = vec![usage], Eku);
    }
}

#[test]
fn e07_a_certificate_without_the_names_of_a_tpm_is_refused() {
    let fixture = Fixture::new();
    fixture.refused(|params| params.custom_extensions.clear(), Eku);
    for numbers in [&[1, 2][..], &[1, 3], &[2, 3], &[1, 1, 1], &[4, 5, 6]] {
        fixture.refused(|params| params.custom_extensions = vec![tcg_names(numbers)], Eku);
    }
}

#[test]
fn e07_a_chain_with_a_bad_link_is_refused() {
    let Fixture { tpm, root } = Fixture::new();
    let makers = || vec![root.maker("maker")];
    let middle = root.intermediate("Intermediate", |_| {});
    let leaf = middle.certify(tpm.ek.public());
    let with = |intermediates: &[Vec<u8>]| candidate(&tpm, Some(leaf.clone()), intermediates);
    refused(makers(), &with(&[]), NOW, PathInvalid);
    refused(makers(), &with(&[vec![0x30, 0]]), NOW, PathInvalid);
    let five = vec![middle.der.clone(); 5];
    refused(makers(), &with(&five), NOW, PathInvalid);
    for (alter, reason) in [
        (
            (|params| params.is_ca = IsCa::ExplicitNoCa) as fn(&mut CertificateParams),
            IssuerNotCa,
        ),
        (|params| params.is_ca = IsCa::NoCa, IssuerNotCa),
        (|params| params.not_after = moment(NOW - 1), CertExpired),
        (|params| params.not_before = moment(NOW + 1), CertExpired),
    ] {
        let middle = root.intermediate("Intermediate", alter);
        let leaf = middle.certify(tpm.ek.public());
        refused(
            makers(),
            &candidate(&tpm, Some(leaf), std::slice::from_ref(&middle.der)),
            NOW,
            reason,
        );
    }
    // An authority of the intermediate's name with another key.
    let unrelated = Authority::root("Intermediate");
    let forged = unrelated.certify(tpm.ek.public());
    refused(
        makers(),
        &candidate(&tpm, Some(forged), std::slice::from_ref(&middle.der)),
        NOW,
        PathInvalid,
    );
}

#[test]
fn e07_bytes_that_are_no_certificate_are_refused() {
    let Fixture { tpm, root } = Fixture::new();
    let good = root.certify(tpm.ek.public());
    let makers = || vec![root.maker("maker")];
    for der in [
        Vec::new(),
        vec![0; 64],
        [&good[..], &[0]].concat(),
        vec![0x30; MAX_CERTIFICATE + 1],
        b"-----BEGIN CERTIFICATE-----".to_vec(),
    ] {
        refused(makers(), &candidate(&tpm, Some(der), &[]), NOW, Malformed);
    }
    for length in 0..good.len() {
        let cut = candidate(&tpm, Some(good[..length].to_vec()), &[]);
        refused(makers(), &cut, NOW, Malformed);
    }
}

#[test]
fn e07_no_flipped_bit_of_a_certificate_goes_unnoticed() {
    let Fixture { tpm, root } = Fixture::new();
    let appraiser = TpmAppraiser::new(vec![root.maker("maker")]);
    let good = root.certify(tpm.ek.public());
    let mut candidate = candidate(&tpm, Some(good.clone()), &[]);
    for bit in 0..good.len() * 8 {
        let mut der = good.clone();
        der[bit / 8] ^= 1 << (bit % 8);
        candidate.certificate.as_mut().unwrap().der = der;
        assert!(appraiser.vouch(&candidate, NOW).is_err(), "bit {bit}");
    }
}

#[test]
fn a_key_that_is_not_of_an_endorsement_template_is_refused_before_anything_is_sealed() {
    let template_refused = |alter: &dyn Fn(&mut Area), reason| {
        let mut tpm = Tpm::new();
        let good = candidate(&tpm, None, &[]);
        alter(&mut tpm.ek_area);
        let appraiser = TpmAppraiser::new(Vec::new());
        let refusal = appraiser.open(&cbor::encode(&tpm.opening(None))).unwrap_err();
        assert_eq!(
            (refusal.check, refusal.reason, refusal.retry),
            ("tpm.endorsement_key.template", reason, Retry::Never)
        );
        let candidate = Candidate {
            public: tpm.ek_area.bytes(),
            ..good
        };
        let secret = Secret::new(vec![1; 32]);
        assert!(appraiser.seal(&candidate, &tpm.ak_area.name(), &secret).is_err());
        assert!(appraiser.vouch(&candidate, NOW).is_err());
    };
    for bit in (0..32).filter(|bit| *bit != 10) {
        template_refused(&|area| area.attributes ^= 1 << bit, EndorsementTemplate);
    }
    // A software key that anybody can open with, and an attestation key in its place.
    template_refused(
        &|area| area.attributes = DECRYPT | USER_WITH_AUTH,
        EndorsementTemplate,
    );
    template_refused(&|area| area.attributes = SIGN | RESTRICTED, EndorsementTemplate);
    template_refused(&|area| area.policy.clear(), EndorsementTemplate);
    template_refused(&|area| area.policy[31] ^= 1, EndorsementTemplate);
    template_refused(
        &|area| area.policy = hex::decode(ENDORSEMENT_POLICY_B).unwrap(),
        EndorsementTemplate,
    );
    for symmetric in [
        vec![0x0010],
        vec![0x0006, 256, 0x0043],
        vec![0x0006, 128, 0x0042],
        vec![0x0006, 128, 0x0044],
        vec![0x0026, 128, 0x0043],
        vec![0x000a, 128, 0x0043],
    ] {
        template_refused(&|area| area.symmetric.clone_from(&symmetric), EndorsementTemplate);
    }
    template_refused(&|area| area.scheme = vec![0x0018, 0x000b], EndorsementTemplate);
    template_refused(&|area| area.name_alg = 0x0004, Reason::WeakHash);
    template_refused(&|area| area.tail = vec![0], Malformed);
    template_refused(&|area| area.unique[1][31] ^= 1, Reason::KeyInvalid);
}

#[test]
fn keys_of_the_high_range_templates_are_accepted_with_their_policy_only() {
    let mut tpm = Tpm::new();
    tpm.ek_area.attributes = EK_HIGH;
    tpm.ek_area.policy = hex::decode(ENDORSEMENT_POLICY_B).unwrap();
    candidate(&tpm, None, &[]);
    tpm.ek_area.policy = crate::forge::area::endorsement_policy();
    let opening = cbor::encode(&tpm.opening(None));
    let refusal = TpmAppraiser::new(Vec::new()).open(&opening).unwrap_err();
    assert_eq!(refusal.reason, EndorsementTemplate);
}

/// RFC 5280 section 4.2.1.9: a certificate by which an authority hands its name to a new key does not count.
#[test]
fn e07_a_path_length_counts_other_authorities_and_no_new_keys_of_the_same() {
    let Fixture { tpm, root } = Fixture::new();
    let last = root.intermediate("Maker Issuing", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    let through = |below: &Authority| {
        let along = [last.der.clone(), below.der.clone()];
        candidate(&tpm, Some(below.certify(tpm.ek.public())), &along)
    };
    let appraiser = TpmAppraiser::new(vec![root.maker("maker")]);
    let renewed = last.intermediate("Maker Issuing", |_| {});
    assert!(appraiser.vouch(&through(&renewed), NOW).unwrap().is_some());
    let another = last.intermediate("Maker Issuing Below", |_| {});
    refused(vec![root.maker("maker")], &through(&another), NOW, IssuerNotCa);
}
