//! Workload identity certificates: one URI SAN that is the identifier, DNS names where a registration gives them, the
//! attestation result in a CMW extension.

use touchmark_crypto::{
    CryptoError, PublicKey, Signer, der,
    x509::{Certificate, Extension, Profile, Template, issue},
};
use touchmark_identity::WorkloadId;

/// id-pe-cmw (draft-ietf-rats-msg-wrap): the CMW extension, dotted.
pub const CMW_EXTENSION: &str = "1.3.6.1.5.5.7.1.35";
const CMW_OID: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 1, 35];

/// What a certificate is to say.
#[derive(Debug, Clone)]
pub struct Wic<'a> {
    /// The identifier.
    pub identifier: &'a WorkloadId,
    /// DNS names for peers that check those.
    pub dns_names: &'a [String],
    /// The attestation result, as a CMW in JSON.
    pub cmw: &'a serde_json::Value,
    /// Start of validity, seconds since the epoch.
    pub not_before: u64,
    /// End of validity, seconds since the epoch.
    pub not_after: u64,
    /// 16 random bytes.
    pub serial: [u8; 16],
}

/// Issues the certificate for `key`.
pub fn mint(
    wic: &Wic<'_>,
    key: &PublicKey,
    issuer: &Certificate,
    signer: &dyn Signer,
) -> Result<Vec<u8>, CryptoError> {
    let cmw = wic.cmw.to_string();
    let template = Template {
        profile: Profile::Leaf,
        common_name: String::new(),
        uri: Some(wic.identifier.as_str().to_owned()),
        dns_names: wic.dns_names.to_vec(),
        not_before: wic.not_before,
        not_after: wic.not_after,
        serial: wic.serial,
        // CMW ::= CHOICE { json UTF8String, cbor OCTET STRING }
        extensions: vec![Extension {
            oid: CMW_OID.to_vec(),
            value: der::tlv(0x0c, &[cmw.as_bytes()]),
        }],
    };
    issue(&template, key, issuer, signer)
}

/// The attestation result that a certificate carries, a CMW in JSON; `None` where there is none that can be read.
pub fn cmw(certificate: &Certificate) -> Option<serde_json::Value> {
    let (_, _, value) = certificate
        .extensions
        .iter()
        .find(|(oid, _, _)| oid == CMW_EXTENSION)?;
    serde_json::from_slice(der::contents(0x0c, value)?).ok()
}
