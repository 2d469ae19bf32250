//! What was issued: the only thing that the audit trail names as an identity.

use std::fmt;

use touchmark_crypto::sha256;
use touchmark_custody::Class;
use touchmark_identity::WorkloadId;

use crate::Kind;

/// A credential that an [`Authority`](crate::Authority) has signed, and only that: whom it names, for which key, and by
/// which digest it is found again. Nothing else is recorded as an identity, so no string that somebody sent can be.
#[derive(Clone)]
pub struct Credential {
    pub(crate) identifier: WorkloadId,
    pub(crate) kind: Kind,
    pub(crate) class: Class,
    pub(crate) key: [u8; 32],
    pub(crate) body: Body,
    pub(crate) not_after: u64,
}

#[derive(Clone)]
pub(crate) enum Body {
    /// DER.
    Certificate(Vec<u8>),
    /// Compact serialization.
    Token(String),
}

impl Credential {
    /// Whom it names.
    pub fn identifier(&self) -> &WorkloadId {
        &self.identifier
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The custody class of its key.
    pub fn class(&self) -> Class {
        self.class
    }

    /// SHA-256 of its key's SubjectPublicKeyInfo.
    pub fn key_digest(&self) -> [u8; 32] {
        self.key
    }

    /// SHA-256 of the credential itself: certificate or token.
    pub fn digest(&self) -> [u8; 32] {
        match &self.body {
            Body::Certificate(der) => sha256(&[der]),
            Body::Token(token) => sha256(&[token.as_bytes()]),
        }
    }

    /// The certificate, DER; `None` for a token.
    pub fn certificate(&self) -> Option<&[u8]> {
        match &self.body {
            Body::Certificate(der) => Some(der),
            Body::Token(_) => None,
        }
    }

    /// The token; `None` for a certificate.
    pub fn token(&self) -> Option<&str> {
        match &self.body {
            Body::Certificate(_) => None,
            Body::Token(token) => Some(token),
        }
    }

    /// End of validity, seconds since the epoch.
    pub fn not_after(&self) -> u64 {
        self.not_after
    }
}

/// Without the token: who holds it and sees the key's agent can use it.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("identifier", &self.identifier.as_str())
            .field("kind", &self.kind)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}
