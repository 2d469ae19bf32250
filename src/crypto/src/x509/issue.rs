//! Issuing certificates with a [`Signer`]: the profiles of X509-SVID and WIC, and no others.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SigningKey,
    string::Ia5String,
};
use time::OffsetDateTime;

use super::Certificate;
use crate::{CryptoError, PublicKey, Purpose, Signer, SigningAlg, ecdsa_der_from_fixed, sha256};

/// Which kind of certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// A self-signed trust anchor; signs intermediates only.
    Root,
    /// Signs leaves only (`pathLen` 0).
    Intermediate,
    /// A workload, host or server: not a CA, digitalSignature, server and client authentication.
    Leaf,
}

/// A non-critical extension to add.
#[derive(Debug, Clone)]
pub struct Extension {
    /// Object identifier, arc by arc; each arc fits 31 bits.
    pub oid: Vec<u64>,
    /// DER of the value.
    pub value: Vec<u8>,
}

/// What is to be certified.
#[derive(Debug, Clone)]
pub struct Template {
    /// The kind.
    pub profile: Profile,
    /// Common name of the subject; empty for leaves, whose SubjectAltName is then critical.
    pub common_name: String,
    /// The one URI in the SubjectAltName.
    pub uri: Option<String>,
    /// DNS names in the SubjectAltName.
    pub dns_names: Vec<String>,
    /// Start of validity, seconds since the epoch.
    pub not_before: u64,
    /// End of validity, seconds since the epoch.
    pub not_after: u64,
    /// Serial number: 16 random bytes; the top bit is cleared so that it is positive.
    pub serial: [u8; 16],
    /// Further extensions.
    pub extensions: Vec<Extension>,
}

/// Issues a certificate for `subject`, signed by `signer`, whose certificate is `issuer`.
pub fn issue(
    template: &Template,
    subject: &PublicKey,
    issuer: &Certificate,
    signer: &dyn Signer,
) -> Result<Vec<u8>, CryptoError> {
    if issuer.spki != signer.public_key().spki() {
        return Err(CryptoError::KeyNotAccepted(
            "issuer certificate is for another key",
        ));
    }
    // Only what the child's certificate shows of its issuer is read from these: name and key identifier.
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&read_common_name(issuer));
    params.key_identifier_method = key_identifier(signer.public_key());
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let issuer = Issuer::new(params, Held(signer));
    sign(template, subject, &issuer)
}

/// Issues the self-signed certificate of `signer`'s own key.
pub fn self_signed(template: &Template, signer: &dyn Signer) -> Result<Vec<u8>, CryptoError> {
    let issuer = Issuer::new(params(template, signer.public_key())?, Held(signer));
    sign(template, signer.public_key(), &issuer)
}

fn sign(
    template: &Template,
    subject: &PublicKey,
    issuer: &Issuer<'_, Held<'_>>,
) -> Result<Vec<u8>, CryptoError> {
    let certificate = params(template, subject)?
        .signed_by(&Subject(subject, alg(subject)?), issuer)
        .map_err(|error| match error {
            rcgen::Error::RemoteKeyError => CryptoError::Provider("issuing key did not sign"),
            _ => CryptoError::Provider("certificate encoding"),
        })?;
    Ok(certificate.der().to_vec())
}

fn params(template: &Template, subject: &PublicKey) -> Result<CertificateParams, CryptoError> {
    const WHAT: CryptoError = CryptoError::Malformed("certificate template");
    let mut params = CertificateParams::default();
    params.not_before = moment(template.not_before)?;
    params.not_after = moment(template.not_after)?;
    let mut serial = template.serial;
    serial[0] = (serial[0] & 0x7f) | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = common_name(&template.common_name);
    params.use_authority_key_identifier_extension = true;
    params.key_identifier_method = key_identifier(subject);
    if let Some(uri) = &template.uri {
        params
            .subject_alt_names
            .push(SanType::URI(Ia5String::try_from(uri.as_str()).map_err(|_| WHAT)?));
    }
    for name in &template.dns_names {
        let name = Ia5String::try_from(name.as_str()).map_err(|_| WHAT)?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    match template.profile {
        Profile::Root | Profile::Intermediate => {
            let length = u8::from(template.profile == Profile::Root);
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(length));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        }
        Profile::Leaf => {
            params.is_ca = IsCa::ExplicitNoCa;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ];
        }
    }
    for extension in &template.extensions {
        params.custom_extensions.push(CustomExtension::from_oid_content(
            &extension.oid,
            extension.value.clone(),
        ));
    }
    Ok(params)
}

fn moment(seconds: u64) -> Result<OffsetDateTime, CryptoError> {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or(CryptoError::Malformed("certificate time"))
}

fn common_name(name: &str) -> DistinguishedName {
    let mut out = DistinguishedName::new();
    if !name.is_empty() {
        out.push(DnType::CommonName, name);
    }
    out
}

/// Our CA certificates have a common name and nothing else as their subject.
fn read_common_name(certificate: &Certificate) -> String {
    certificate
        .subject
        .strip_prefix("CN=")
        .unwrap_or(&certificate.subject)
        .to_owned()
}

fn key_identifier(key: &PublicKey) -> KeyIdMethod {
    KeyIdMethod::PreSpecified(sha256(&[key.raw()]).get(..20).unwrap_or_default().to_vec())
}

fn alg(key: &PublicKey) -> Result<SigningAlg, CryptoError> {
    SigningAlg::for_key(key.kind()).ok_or(CryptoError::KeyNotAccepted(
        "only P-256 and P-384 keys are certified",
    ))
}

fn rcgen_alg(alg: SigningAlg) -> &'static rcgen::SignatureAlgorithm {
    match alg {
        SigningAlg::Es256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        SigningAlg::Es384 => &rcgen::PKCS_ECDSA_P384_SHA384,
    }
}

struct Subject<'a>(&'a PublicKey, SigningAlg);

impl PublicKeyData for Subject<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.raw()
    }
    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        rcgen_alg(self.1)
    }
}

struct Held<'a>(&'a dyn Signer);

impl PublicKeyData for Held<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().raw()
    }
    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        rcgen_alg(self.0.algorithm())
    }
}

impl SigningKey for Held<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self
            .0
            .sign(Purpose::Certificate, message)
            .map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(ecdsa_der_from_fixed(&signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        SoftwareKey,
        x509::{Anchors, PathError, Usage, verify_path},
    };

    fn template(profile: Profile, name: &str, uri: Option<&str>) -> Template {
        Template {
            profile,
            common_name: name.to_owned(),
            uri: uri.map(str::to_owned),
            dns_names: Vec::new(),
            not_before: 1_000_000,
            not_after: 2_000_000,
            serial: [0xff; 16],
            extensions: Vec::new(),
        }
    }

    #[test]
    fn a_chain_of_three_verifies_to_its_root_only() {
        let key = || SoftwareKey::generate(SigningAlg::Es256).unwrap();
        let (root_key, middle_key, leaf_key) = (key(), key(), key());
        let root = self_signed(
            &template(Profile::Root, "Root", Some("spiffe://example.org")),
            &root_key,
        )
        .unwrap();
        let root = Certificate::parse(&root).unwrap();
        let middle = issue(
            &template(Profile::Intermediate, "Middle", Some("spiffe://example.org")),
            middle_key.public_key(),
            &root,
            &root_key,
        )
        .unwrap();
        let middle = Certificate::parse(&middle).unwrap();
        let leaf_template = template(Profile::Leaf, "", Some("spiffe://example.org/a"));
        let leaf = issue(&leaf_template, leaf_key.public_key(), &middle, &middle_key).unwrap();
        let parsed = Certificate::parse(&leaf).unwrap();
        assert_eq!(parsed.uri_sans, ["spiffe://example.org/a"]);
        assert!(!parsed.is_ca && parsed.digital_signature && !parsed.can_sign_certificates);
        assert_eq!(parsed.version, 3);
        let anchors = Anchors::new([root.der]).unwrap();
        for usage in [Usage::Server, Usage::Client] {
            verify_path(
                &leaf,
                std::slice::from_ref(&middle.der),
                &anchors,
                usage,
                1_500_000,
            )
            .unwrap();
        }
        let refused = |anchors: &Anchors, usage, now| {
            verify_path(&leaf, std::slice::from_ref(&middle.der), anchors, usage, now).unwrap_err()
        };
        assert_eq!(refused(&anchors, Usage::Client, 2_000_001), PathError::Expired);
        assert_eq!(refused(&anchors, Usage::Client, 999_999), PathError::NotYetValid);
        assert_eq!(
            refused(&anchors, Usage::EndorsementKey, 1_500_000),
            PathError::Usage
        );
        let other_key = key();
        let other = self_signed(&template(Profile::Root, "Root", None), &other_key).unwrap();
        let others = Anchors::new([other]).unwrap();
        assert!(matches!(
            refused(&others, Usage::Client, 1_500_000),
            PathError::Other(why) if why.contains("InvalidSignatureForPublicKey")
        ));
        assert!(Anchors::new([leaf.clone()]).is_err());
    }
}
