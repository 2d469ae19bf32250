//! Certificates of attestation keys, as clouds make them for devices whose endorsement keys have none.

use rcgen::{CertificateParams, IsCa, KeyUsagePurpose};
use touchmark_attestor_tpm::{Maker, TpmAppraiser};
use touchmark_crypto::PublicKey;
use touchmark_rats::{
    Appraiser, Candidate, CertifiedKey, MakerKind,
    Reason::{self, CertExpired, Eku, EndorsementMismatch, Malformed, PathInvalid},
    cbor,
    tpm::TpmOpening,
};

use crate::forge::{
    Tpm,
    key::Key,
    maker::{Authority, NOT_AFTER, NOW},
};

/// A virtual TPM of a cloud, and the cloud.
struct Fixture {
    tpm: Tpm,
    root: Authority,
}

impl Fixture {
    fn new() -> Self {
        Self {
            tpm: Tpm::new(),
            root: Authority::root("Cloud Root"),
        }
    }

    fn cloud(&self) -> Maker {
        Maker {
            kind: MakerKind::Hypervisor,
            attestation_certificates: true,
            ..self.root.maker("cloud")
        }
    }

    fn certify(&self, key: &PublicKey, alter: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        self.root.certify_with(key, |params| {
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 3])];
            alter(params);
        })
    }

    /// The first message, with a certificate for the attestation key.
    fn opening(&self, certificate: Vec<u8>) -> TpmOpening {
        let mut opening = self.tpm.opening(None);
        opening.attestation.certificate = Some(certificate.into());
        opening
    }

    #[track_caller]
    fn refused(&self, certificate: Vec<u8>, now: u64, check: &str, reason: Reason) {
        let candidate = candidate(&self.opening(certificate));
        let refusal = TpmAppraiser::new(vec![self.cloud()])
            .vouch(&candidate, now)
            .unwrap_err();
        assert_eq!((refusal.check, refusal.reason), (check, reason), "{refusal}");
    }
}

fn candidate(opening: &TpmOpening) -> Candidate {
    let opened = TpmAppraiser::new(Vec::new()).open(&cbor::encode(opening));
    opened.unwrap().candidates.remove(0)
}

#[test]
fn a_cloud_vouches_for_a_device_by_the_certificate_of_its_attestation_key() {
    let fixture = Fixture::new();
    let certificate = fixture.certify(fixture.tpm.ak.public(), |_| {});
    let candidate = candidate(&fixture.opening(certificate));
    // The device is still known by its endorsement key, which the secret is sealed to.
    assert_eq!(candidate.digest, fixture.tpm.ek.public().digest());
    let voucher = TpmAppraiser::new(vec![fixture.cloud()])
        .vouch(&candidate, NOW)
        .unwrap();
    let voucher = voucher.unwrap();
    assert_eq!(voucher.certified, CertifiedKey::AttestationKey);
    assert_eq!(
        (voucher.maker.as_str(), voucher.kind),
        ("cloud", MakerKind::Hypervisor)
    );
}

#[test]
fn e07_a_maker_that_certifies_no_attestation_keys_is_not_believed_about_one() {
    let fixture = Fixture::new();
    let certificate = fixture.certify(fixture.tpm.ak.public(), |_| {});
    let candidate = candidate(&fixture.opening(certificate));
    // Where nobody is believed about such keys, nobody vouches, as if there were no certificate.
    let chips = || fixture.root.maker("maker of chips");
    for makers in [vec![], vec![chips()]] {
        assert_eq!(TpmAppraiser::new(makers).vouch(&candidate, NOW).unwrap(), None);
    }
    // Where another cloud is, this is a certificate that does not hold.
    let other = Maker {
        attestation_certificates: true,
        ..Authority::root("Another Cloud").maker("another cloud")
    };
    let refusal = TpmAppraiser::new(vec![chips(), other])
        .vouch(&candidate, NOW)
        .unwrap_err();
    assert_eq!(
        (refusal.check, refusal.reason),
        ("tpm.attestation_certificate.path", PathInvalid),
        "{refusal}"
    );
}

#[test]
fn e06_a_certificate_for_another_key_than_the_attestation_key_is_refused() {
    let fixture = Fixture::new();
    let other = Key::p256();
    for key in [other.public(), fixture.tpm.ek.public()] {
        let certificate = fixture.certify(key, |_| {});
        let check = "tpm.attestation_certificate.key";
        fixture.refused(certificate, NOW, check, EndorsementMismatch);
    }
}

#[test]
fn e07_a_certificate_that_is_not_one_of_an_attestation_key_is_refused() {
    let fixture = Fixture::new();
    let key = fixture.tpm.ak.public();
    let profile = "tpm.attestation_certificate.profile";
    let encipherment = fixture.certify(key, |params| {
        params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    });
    fixture.refused(encipherment, NOW, profile, Eku);
    let authority = fixture.certify(key, |params| {
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    fixture.refused(authority, NOW, profile, Eku);
    let good = fixture.certify(key, |_| {});
    let path = "tpm.attestation_certificate.path";
    fixture.refused(good.clone(), NOT_AFTER + 1, path, CertExpired);
    let stranger = Authority::root("Cloud Root").certify(key);
    fixture.refused(stranger, NOW, path, PathInvalid);
    let structure = "tpm.attestation_certificate.structure";
    fixture.refused(good[..good.len() - 1].to_vec(), NOW, structure, Malformed);
}

#[test]
fn e07_where_the_endorsement_key_has_a_certificate_that_one_counts() {
    // A device whose endorsement certificate was withdrawn does not get around that by the other one.
    let fixture = Fixture::new();
    let mut opening = fixture.opening(fixture.certify(fixture.tpm.ak.public(), |_| {}));
    let stranger = Authority::root("Another Root").certify(fixture.tpm.ek.public());
    opening.endorsements[0].certificate = Some(stranger.into());
    let refusal = TpmAppraiser::new(vec![fixture.cloud()])
        .vouch(&candidate(&opening), NOW)
        .unwrap_err();
    assert_eq!(
        (refusal.check, refusal.reason),
        ("tpm.endorsement_certificate.path", PathInvalid)
    );
}

#[test]
fn e07_no_flipped_bit_of_a_certificate_of_an_attestation_key_goes_unnoticed() {
    let fixture = Fixture::new();
    let appraiser = TpmAppraiser::new(vec![fixture.cloud()]);
    let good = fixture.certify(fixture.tpm.ak.public(), |_| {});
    let mut candidate = candidate(&fixture.opening(good.clone()));
    for bit in 0..good.len() * 8 {
        let der = &mut candidate.certificate.as_mut().unwrap().der;
        der.clone_from(&good);
        der[bit / 8] ^= 1 << (bit % 8);
        assert!(appraiser.vouch(&candidate, NOW).is_err(), "bit {bit}");
    }
}

#[test]
fn e07_a_certificate_for_a_server_below_the_root_of_a_cloud_vouches_for_no_attestation_key() {
    let fixture = Fixture::new();
    let key = fixture.tpm.ak.public();
    let certificate = |usage| {
        fixture.certify(key, |params| {
            params.extended_key_usages = vec![usage];
        })
    };
    let profile = "tpm.attestation_certificate.profile";
    let server = certificate(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
    fixture.refused(server, NOW, profile, Eku);
    let silent = fixture.certify(key, |params| params.extended_key_usages = Vec::new());
    fixture.refused(silent.clone(), NOW, profile, Eku);
    let bare = Maker {
        bare_certificates: true,
        ..fixture.cloud()
    };
    let candidate_of = |certificate| candidate(&fixture.opening(certificate));
    let believed = TpmAppraiser::new(vec![bare]).vouch(&candidate_of(silent), NOW);
    assert!(believed.unwrap().is_some());
    for oid in [vec![2, 23, 133, 8, 3], vec![2, 23, 133, 8, 1]] {
        let good = certificate(rcgen::ExtendedKeyUsagePurpose::Other(oid));
        let candidate = candidate(&fixture.opening(good));
        let appraiser = TpmAppraiser::new(vec![fixture.cloud()]);
        assert!(appraiser.vouch(&candidate, NOW).unwrap().is_some());
    }
}
