//! What an attested host asks for over mutual TLS: its registrations, and credentials for its workloads' keys.

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};

use crate::attest::Challenge;

/// Where a host asks for its registrations and a challenge for the keys it is about to make.
pub const REGISTRATIONS_PATH: &str = "/v1/host/registrations";
/// Where a host asks for credentials.
pub const ISSUE_PATH: &str = "/v1/host/issue";
/// Where anybody who can reach the listener reads the trust bundle.
pub const BUNDLE_PATH: &str = "/v1/bundle";
/// Media type of [`Assignments`].
pub const ASSIGNMENTS: &str = "application/vnd.touchmark.assignments.v1+cbor";
/// Media type of [`Issued`].
pub const ISSUED: &str = "application/vnd.touchmark.issued.v1+cbor";

/// The trust domain's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// The trust domain, an origin.
    pub trust_domain: String,
    /// X.509 anchors, DER.
    pub x509: Vec<ByteBuf>,
    /// The bundle as a JWK Set, JSON.
    pub jwks: String,
    /// Grows with every change.
    pub sequence: u64,
}

/// A registration as the agent needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// Label and name, joined by a slash: what requests refer to.
    pub reference: String,
    /// Digest of the whole registration: a credential that was issued under another is obtained anew.
    pub revision: ByteArray<32>,
    /// The identifier.
    pub identifier: String,
    /// User id of the workload.
    pub uid: Option<u32>,
    /// Group id of the workload.
    pub gid: Option<u32>,
    /// Path of its executable.
    pub exe: Option<String>,
    /// SHA-256 of its executable, lower-case hexadecimal.
    pub exe_sha256: Option<String>,
    /// Kinds of credential.
    pub kinds: Vec<String>,
    /// `agent` or `file`.
    #[serde(rename = "use")]
    pub usage: String,
}

/// What a host may ask for now, and a challenge to ask with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignments {
    /// Grows with every change of registrations: of two answers the one with more is the newer.
    pub generation: u64,
    /// Registrations for this host.
    pub registrations: Vec<Registration>,
    /// For one request at [`ISSUE_PATH`].
    pub challenge: Challenge,
    /// The trust bundle.
    pub bundle: Bundle,
}

/// The offer section of a request for a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssueOffer {
    /// The registration, by its reference.
    pub registration: String,
    /// `x509` or `wit`.
    pub kind: String,
    /// Public area of the key.
    pub key: ByteBuf,
}

/// A credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issued {
    /// The identifier in it.
    pub identifier: String,
    /// Certificates, the workload's first, without the root; empty for a token.
    pub chain: Vec<ByteBuf>,
    /// The token; empty for a certificate.
    pub token: String,
    /// Custody class that was proven.
    pub custody: String,
    /// Whether the device is simulated.
    pub simulated: bool,
    /// `agent` or `file`.
    #[serde(rename = "use")]
    pub usage: String,
    /// End of validity, seconds since the epoch.
    pub not_after: u64,
}
