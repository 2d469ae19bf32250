//! What the service asks of the rest of the agent.

use std::future::Future;

use tokio::sync::watch;
use touchmark_custody::{Class, KeyUse};
use touchmark_identity::TrustDomain;

use crate::caller::Caller;

/// Decides which identities a caller has, and uses their keys. Each method that takes a caller matches it against the
/// registrations itself: a handle is worth nothing to anyone but the caller it was made for.
pub trait Identities: Send + Sync + 'static {
    /// The agent's trust domain.
    fn trust_domain(&self) -> &TrustDomain;

    /// The caller's X.509 credentials, the default first; only those of `identifier` if one is given. An empty list
    /// counts as [`Denied::NoIdentity`].
    fn x509(
        &self,
        caller: &Caller,
        identifier: Option<&str>,
    ) -> impl Future<Output = Result<Vec<X509Held>, Denied>> + Send;

    /// The caller's Workload Identity Tokens, likewise.
    fn wit(
        &self,
        caller: &Caller,
        identifier: Option<&str>,
    ) -> impl Future<Output = Result<Vec<WitHeld>, Denied>> + Send;

    /// The trust bundle of the agent's trust domain.
    fn bundle(&self) -> impl Future<Output = Result<BundleHeld, Denied>> + Send;

    /// A signature (ECDSA with SHA-256, DER) by the key `handle` of an X.509 credential of the caller over `message`,
    /// which is a TLS 1.3 CertificateVerify input; the service has checked that.
    fn sign(
        &self,
        caller: &Caller,
        handle: &str,
        message: &[u8],
    ) -> impl Future<Output = Result<Vec<u8>, Denied>> + Send;

    /// A fresh proof by the key of a Workload Identity Token of the caller.
    fn prove(
        &self,
        caller: &Caller,
        purpose: &ProofFor,
        identifier: Option<&str>,
    ) -> impl Future<Output = Result<Proof, Denied>> + Send;

    /// Told when somebody may have something else than before.
    fn changes(&self) -> watch::Receiver<()>;

    /// How the host stands.
    fn status(&self) -> impl Future<Output = Status> + Send;

    /// Whether any registration that is known selects by the digest of the executable. Asked before each look at a
    /// caller; if it is `false`, [`Caller::exe_sha256`] is `None`.
    fn needs_digest(&self) -> bool;
}

/// Why a caller gets nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// No registration means this caller, or not for this identifier or handle. The caller learns nothing more.
    NoIdentity,
    /// Not now; the text says why, and is shown to the caller.
    Unavailable(String),
    /// The service refused; the text says why as far as it was told, and is shown to the caller.
    Refused(String),
    /// The request makes no sense; the text says why, and is shown to the caller.
    Invalid(String),
    /// The handle is the caller's, but its key does not answer for this purpose.
    NotForPurpose,
}

/// A private key, by what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Names the key in [`Identities::sign`].
    pub handle: String,
    /// Where it lives.
    pub custody: Class,
    /// Whether its device is marked as simulated.
    pub simulated: bool,
    /// Who can ask it to sign.
    pub usage: KeyUse,
    /// TSS2 PRIVATE KEY, DER. Handed out for [`KeyUse::File`] only, whatever stands here.
    pub tss2_key: Option<Vec<u8>>,
}

/// An X.509 credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct X509Held {
    /// Workload identifier.
    pub identifier: String,
    /// DER, leaf first, without the root.
    pub chain: Vec<Vec<u8>>,
    /// DER roots of the trust domain.
    pub bundle: Vec<Vec<u8>>,
    /// The leaf's key.
    pub key: KeyInfo,
    /// Seconds since 1970.
    pub not_after: i64,
}

/// A Workload Identity Token. It is no secret against its holder, but is not to be logged.
#[derive(Clone, PartialEq, Eq)]
pub struct WitHeld {
    /// Workload identifier.
    pub identifier: String,
    /// Compact serialization.
    pub token: String,
    /// JWK Set (JSON) of the trust domain.
    pub jwks: String,
    /// The key that the token confirms.
    pub key: KeyInfo,
    /// Seconds since 1970.
    pub not_after: i64,
}

/// A trust bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleHeld {
    /// Origin of the trust domain, for example `spiffe://example.org`.
    pub trust_domain: String,
    /// DER roots.
    pub x509: Vec<Vec<u8>>,
    /// JWK Set (JSON).
    pub jwks: String,
    /// Rises with each change.
    pub sequence: u64,
}

/// What a proof is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofFor {
    /// Whom: an absolute URI.
    pub audience: String,
    /// SHA-256 of the access token in the same request.
    pub access: Option<[u8; 32]>,
    /// SHA-256 of the transaction token in the same request.
    pub transaction: Option<[u8; 32]>,
}

/// A proof of possession with the token it goes with.
#[derive(Clone, PartialEq, Eq)]
pub struct Proof {
    /// Workload identifier.
    pub identifier: String,
    /// Workload Identity Token.
    pub wit: String,
    /// Workload Proof Token.
    pub wpt: String,
    /// End of the proof's validity, seconds since 1970.
    pub not_after: i64,
}

/// How the host stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// In one word.
    pub state: HostState,
    /// The host's id, if known.
    pub host_id: Option<String>,
    /// The host's identifier, while attested.
    pub identifier: Option<String>,
    /// Id of the refusal, if it was refused.
    pub refusal: Option<String>,
    /// For people: what is going on and what helps. Any local user can read it.
    pub detail: String,
    /// End of validity of the host's certificate, while attested; seconds since 1970.
    pub not_after: Option<i64>,
}

/// How the host stands, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostState {
    /// On it.
    Attesting,
    /// Has a valid host certificate.
    Attested,
    /// The credential service refused it.
    Refused,
    /// The credential service or the device cannot be reached.
    Unavailable,
}

impl HostState {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attesting => "attesting",
            Self::Attested => "attested",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        }
    }
}

impl std::fmt::Debug for WitHeld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WitHeld")
            .field("identifier", &self.identifier)
            .field("key", &self.key)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proof")
            .field("identifier", &self.identifier)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}
