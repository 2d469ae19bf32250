//! A maker of TPMs: its CA, and endorsement certificates with any flaw.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SignatureAlgorithm,
};
use time::OffsetDateTime;
use touchmark_attestor_tpm::Maker;
use touchmark_crypto::{KeyKind, PublicKey, der, x509::DeviceAnchors};
use touchmark_rats::MakerKind;

/// Start of every certificate's validity, seconds since the epoch.
pub(crate) const NOT_BEFORE: u64 = 1_700_000_000;
/// End of every certificate's validity.
pub(crate) const NOT_AFTER: u64 = 1_900_000_000;
/// A moment between the two.
pub(crate) const NOW: u64 = 1_800_000_000;

/// A certification authority.
pub(crate) struct Authority {
    pub(crate) der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A root.
    pub(crate) fn root(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = ca(name);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self {
            der,
            issuer: Issuer::new(params, key),
        }
    }

    /// An intermediate below this authority, altered by `alter`.
    pub(crate) fn intermediate(&self, name: &str, alter: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = ca(name);
        alter(&mut params);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Self {
            der,
            issuer: Issuer::new(params, key),
        }
    }

    /// A good endorsement certificate for a key.
    pub(crate) fn certify(&self, key: &PublicKey) -> Vec<u8> {
        self.certify_with(key, |_| {})
    }

    /// An endorsement certificate for a key, altered by `alter`.
    pub(crate) fn certify_with(
        &self,
        key: &PublicKey,
        alter: impl FnOnce(&mut CertificateParams),
    ) -> Vec<u8> {
        let mut params = endorsement();
        alter(&mut params);
        let certificate: Certificate = params.signed_by(&Subject(key), &self.issuer).unwrap();
        certificate.der().to_vec()
    }

    /// The maker as configuration names it.
    pub(crate) fn maker(&self, name: &str) -> Maker {
        Maker {
            name: name.to_owned(),
            anchors: DeviceAnchors::new([self.der.as_slice()]).unwrap(),
            intermediates: DeviceAnchors::default(),
            kind: MakerKind::Physical,
            simulated: true,
            bare_certificates: false,
            attestation_certificates: false,
        }
    }
}

/// What a good endorsement certificate says.
pub(crate) fn endorsement() -> CertificateParams {
    let mut params = dated();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 1])];
    params.custom_extensions = vec![tcg_names(&[1, 2, 3])];
    params
}

/// SubjectAltName with a directoryName of the TCG attributes 2.23.133.2.`n`; critical, since the subject is empty.
pub(crate) fn tcg_names(numbers: &[u8]) -> CustomExtension {
    let names: Vec<Vec<u8>> = numbers
        .iter()
        .map(|number| {
            let oid = der::tlv(0x06, &[&[0x67, 0x81, 0x05, 0x02, *number]]);
            let value = der::tlv(0x0c, &[b"id:00000000"]);
            der::tlv(0x31, &[&der::tlv(0x30, &[&oid, &value])])
        })
        .collect();
    let parts: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let directory = der::tlv(0xa4, &[&der::tlv(0x30, &parts)]);
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], der::tlv(0x30, &[&directory]));
    extension.set_criticality(true);
    extension
}

fn dated() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = moment(NOT_BEFORE);
    params.not_after = moment(NOT_AFTER);
    params
}

fn ca(name: &str) -> CertificateParams {
    let mut params = dated();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

pub(crate) fn moment(seconds: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).unwrap()).unwrap()
}

/// A public key to be certified.
struct Subject<'a>(&'a PublicKey);

impl PublicKeyData for Subject<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.raw()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.0.kind() {
            KeyKind::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyKind::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyKind::P521 => &rcgen::PKCS_ECDSA_P521_SHA512,
            KeyKind::Secp256k1 => panic!("no TPM of ours has such keys"),
            KeyKind::Rsa { .. } => &rcgen::PKCS_RSA_SHA256,
        }
    }
}
