//! A certificate, read once into the facts that decisions are made on.

use x509_parser::{
    asn1_rs::Oid,
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

use super::device::is_whole_sequence;
use crate::{CryptoError, der};

/// Largest certificate accepted, in bytes.
pub const MAX_CERTIFICATE: usize = 8 * 1024;

/// One attribute of a directoryName: the object identifier in dotted form and the value as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryAttribute {
    /// Dotted object identifier, for example `2.23.133.2.1`.
    pub oid: String,
    /// The value.
    pub value: String,
}

/// What a certificate says. Nothing here has been verified: see [`super::verify_path`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The bytes that were parsed.
    pub der: Vec<u8>,
    /// SubjectPublicKeyInfo, DER, as encoded in the certificate.
    pub spki: Vec<u8>,
    /// Start of validity, seconds since the Unix epoch.
    pub not_before: i64,
    /// End of validity, seconds since the Unix epoch.
    pub not_after: i64,
    /// Serial number, big-endian, as encoded.
    pub serial: Vec<u8>,
    /// Subject, for people.
    pub subject: String,
    /// Issuer, for people.
    pub issuer: String,
    /// Whether issuer and subject are the same name.
    pub self_issued: bool,
    /// Version number as people count it: 3 for v3.
    pub version: u32,
    /// Every URI of the SubjectAltName.
    pub uri_sans: Vec<String>,
    /// Every DNS name of the SubjectAltName.
    pub dns_sans: Vec<String>,
    /// The attributes of the directoryNames in the SubjectAltName.
    pub directory_sans: Vec<DirectoryAttribute>,
    /// `cA` of BasicConstraints; false where the extension is absent.
    pub is_ca: bool,
    /// Whether KeyUsage has keyCertSign.
    pub can_sign_certificates: bool,
    /// Whether KeyUsage has digitalSignature.
    pub digital_signature: bool,
    /// Extended key usages, dotted.
    pub extended_key_usages: Vec<String>,
    /// Extensions as (dotted identifier, critical, value).
    pub extensions: Vec<(String, bool, Vec<u8>)>,
}

/// An identifier in dotted form. The parser's own text of it is wrong where the first two arcs take more than one byte.
fn dotted(oid: &Oid<'_>) -> Result<String, CryptoError> {
    der::oid(oid.as_bytes()).ok_or(CryptoError::Malformed("certificate: object identifier"))
}

/// Subject and issuer of a certificate, DER.
pub fn distinguished_names(der: &[u8]) -> Result<(Vec<u8>, Vec<u8>), CryptoError> {
    let (_, read) = X509Certificate::from_der(der).map_err(|_| CryptoError::Malformed("certificate"))?;
    Ok((read.subject().as_raw().to_vec(), read.issuer().as_raw().to_vec()))
}

impl Certificate {
    /// Parses one DER certificate with nothing after it. A duplicate extension is refused.
    pub fn parse(der: &[u8]) -> Result<Self, CryptoError> {
        const WHAT: CryptoError = CryptoError::Malformed("certificate");
        if der.len() > MAX_CERTIFICATE {
            return Err(CryptoError::Malformed("certificate: over 8 KiB"));
        }
        let (rest, cert) = X509Certificate::from_der(der).map_err(|_| WHAT)?;
        if !rest.is_empty() {
            return Err(WHAT);
        }
        let tbs = &cert.tbs_certificate;
        tbs.extensions_map().map_err(|_| WHAT)?;
        // The parser reads algorithm and key, and looks no further in the structure that holds them.
        if !is_whole_sequence(tbs.subject_pki.raw) {
            return Err(CryptoError::Malformed("certificate: public key"));
        }
        let mut out = Self {
            spki: tbs.subject_pki.raw.to_vec(),
            not_before: tbs.validity.not_before.timestamp(),
            not_after: tbs.validity.not_after.timestamp(),
            serial: tbs.raw_serial().to_vec(),
            subject: tbs.subject.to_string(),
            issuer: tbs.issuer.to_string(),
            self_issued: tbs.subject.as_raw() == tbs.issuer.as_raw(),
            version: tbs.version.0 + 1,
            ..Self::blank(der)
        };
        for extension in tbs.extensions() {
            out.extensions.push((
                dotted(&extension.oid)?,
                extension.critical,
                extension.value.to_vec(),
            ));
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => out.read_names(&names.general_names)?,
                ParsedExtension::BasicConstraints(constraints) => out.is_ca = constraints.ca,
                ParsedExtension::KeyUsage(usage) => {
                    out.can_sign_certificates = usage.key_cert_sign();
                    out.digital_signature = usage.digital_signature();
                }
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    let known = [
                        (usage.any, "2.5.29.37.0"),
                        (usage.server_auth, "1.3.6.1.5.5.7.3.1"),
                        (usage.client_auth, "1.3.6.1.5.5.7.3.2"),
                        (usage.code_signing, "1.3.6.1.5.5.7.3.3"),
                        (usage.email_protection, "1.3.6.1.5.5.7.3.4"),
                        (usage.time_stamping, "1.3.6.1.5.5.7.3.8"),
                        (usage.ocsp_signing, "1.3.6.1.5.5.7.3.9"),
                    ];
                    out.extended_key_usages.extend(
                        known
                            .iter()
                            .filter(|(set, _)| *set)
                            .map(|(_, oid)| (*oid).to_owned()),
                    );
                    for usage in &usage.other {
                        out.extended_key_usages.push(dotted(usage)?);
                    }
                }
                ParsedExtension::ParseError { .. } => return Err(WHAT),
                _ => {}
            }
        }
        Ok(out)
    }

    /// One that says nothing yet.
    pub(super) fn blank(der: &[u8]) -> Self {
        Self {
            der: der.to_vec(),
            spki: Vec::new(),
            not_before: 0,
            not_after: 0,
            serial: Vec::new(),
            subject: String::new(),
            issuer: String::new(),
            self_issued: false,
            version: 0,
            uri_sans: Vec::new(),
            dns_sans: Vec::new(),
            directory_sans: Vec::new(),
            is_ca: false,
            can_sign_certificates: false,
            digital_signature: false,
            extended_key_usages: Vec::new(),
            extensions: Vec::new(),
        }
    }

    fn read_names(&mut self, names: &[GeneralName<'_>]) -> Result<(), CryptoError> {
        for name in names {
            match name {
                GeneralName::URI(uri) => self.uri_sans.push((*uri).to_owned()),
                GeneralName::DNSName(dns) => self.dns_sans.push((*dns).to_owned()),
                GeneralName::DirectoryName(directory) => {
                    for attribute in directory.iter_attributes() {
                        let value = attribute
                            .as_str()
                            .map_err(|_| CryptoError::Malformed("directoryName"))?
                            .to_owned();
                        let oid = dotted(attribute.attr_type())?;
                        self.directory_sans.push(DirectoryAttribute { oid, value });
                    }
                }
                GeneralName::Invalid(..) => return Err(CryptoError::Malformed("SubjectAltName")),
                _ => {}
            }
        }
        Ok(())
    }

    /// SHA-256 of [`Self::spki`]: how an anchor is pinned.
    pub fn spki_digest(&self) -> [u8; 32] {
        crate::sha256(&[&self.spki])
    }

    /// The value of the extension with this dotted identifier.
    pub fn extension(&self, oid: &str) -> Option<&[u8]> {
        self.extensions
            .iter()
            .find(|(id, ..)| id == oid)
            .map(|(.., value)| value.as_slice())
    }

    /// Whether it has an extension that is critical.
    pub fn is_critical(&self, oid: &str) -> bool {
        self.extensions
            .iter()
            .any(|(id, critical, _)| id == oid && *critical)
    }
}
