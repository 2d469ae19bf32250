//! What another verifier is given about a host.

use touchmark_rats::{
    cmw::{Cmw, IND_EVIDENCE, Member, Type},
    tpm,
};

/// The media type of what is given: a collection of conceptual messages (draft-ietf-rats-msg-wrap), bound together by the quote, whose
/// qualifying data is the session's nonce.
pub const EVIDENCE_TYPE: &str = "application/cmw+cbor; cmwc_t=\"tag:touchmark.dev,2026:tpm-host\"";
/// The same, inside the collection.
const COLLECTION: &str = "tag:touchmark.dev,2026:tpm-host";
/// The attestation key, TPMT_PUBLIC.
const KEY_TYPE: &str = "application/vnd.touchmark.tpm-public.v1";
/// A boot log as the firmware wrote it.
const LOG_TYPE: &str = "application/vnd.touchmark.boot-log.v1";

/// Evidence of a host's TPM, as the credential service has it.
#[derive(Debug, Clone, Copy)]
pub struct HostEvidence<'a> {
    /// Quote, certifications, register values: `application/vnd.touchmark.tpm-evidence.v1+cbor`.
    pub evidence: &'a [u8],
    /// The attestation key's public area.
    pub attestation_public: &'a [u8],
    /// The boot log.
    pub log: &'a [u8],
}

impl HostEvidence<'_> {
    /// The collection, in CBOR: members `evidence`, `attestation-key` and, where there is a log, `boot-log`.
    pub fn to_cmw(&self) -> Vec<u8> {
        let message = |kind: &str, value: &[u8]| Cmw::Message {
            kind: Type::Media(kind.to_owned()),
            value: value.to_vec(),
            indicator: Some(IND_EVIDENCE),
        };
        let mut members = vec![
            ("evidence", message(tpm::MEDIA_TYPE, self.evidence)),
            ("attestation-key", message(KEY_TYPE, self.attestation_public)),
        ];
        if !self.log.is_empty() {
            members.push(("boot-log", message(LOG_TYPE, self.log)));
        }
        let members = members
            .into_iter()
            .map(|(name, member)| (Member::Text(name.to_owned()), member))
            .collect();
        let kind = Some(COLLECTION.to_owned());
        Cmw::Collection { kind, members }.to_cbor()
    }
}
