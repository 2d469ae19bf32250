//! What an attested host asks for over mutual TLS: its registrations, and credentials for its workloads' keys.

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};

use touchmark_rats::cbor::{self, CborError};

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
    /// Custody classes that may satisfy it.
    pub custody: Vec<String>,
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
    /// The key: a TPM's public area, or the report of a token's.
    pub key: ByteBuf,
}

/// Where a host renews a credential whose key is certified already: an [`IssueOffer`] and a proof of possession.
pub const RENEW_PATH: &str = "/v1/host/renew";
/// Where a host answers a challenge to attest again.
pub const REATTEST_PATH: &str = "/v1/host/reattest";
/// Media type of [`Reattested`].
pub const REATTESTED: &str = "application/vnd.touchmark.reattested.v1+cbor";

/// The host attested again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reattested {
    /// Its certificate for the key that it had, where it was renewed: the host's first, without the root; else empty.
    pub chain: Vec<ByteBuf>,
}

/// Where a host opens its stream: a long answer of frames, each a length (four bytes, big-endian) and a [`Push`].
pub const STREAM_PATH: &str = "/v1/host/stream";
/// Media type of the stream.
pub const STREAM: &str = "application/vnd.touchmark.stream.v1";
/// Largest frame of a stream.
pub const MAX_PUSH: usize = 4 * 1024 * 1024;

/// What is pushed to a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Push {
    /// What it may ask for from now on: at the start of a stream, and when it changes.
    Assignments {
        /// Grows with every change of registrations.
        generation: u64,
        /// Registrations for this host.
        registrations: Vec<Registration>,
        /// The trust bundle.
        bundle: Bundle,
    },
    /// It is to attest again, now: a challenge for one answer at [`REATTEST_PATH`].
    Reattest(Challenge),
    /// The host is no longer believed: it was evicted, refused, replaced, is suspect, or did not answer when it was asked. Nothing of it is to be used any more. The
    /// stream ends.
    Withdrawn,
    /// The host has not attested in time, or its certificate has ended: it is to attest from the beginning. The stream ends.
    Lapsed,
}

/// A frame of a stream.
pub fn push_frame(push: &Push) -> Vec<u8> {
    let body = cbor::encode(push);
    let mut frame = u32::try_from(body.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes()
        .to_vec();
    frame.extend(body);
    frame
}

/// Takes the first whole frame off what has arrived; `None` until there is one.
///
/// # Errors
///
/// Says that a frame is over [`MAX_PUSH`] or none of ours.
pub fn take_push(arrived: &mut Vec<u8>) -> Result<Option<Push>, CborError> {
    let Some(length) = arrived.get(..4) else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(length.try_into().unwrap_or_default());
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > MAX_PUSH {
        return Err(CborError::Oversized {
            limit: MAX_PUSH,
            found: length,
        });
    }
    let Some(body) = arrived.get(4..4 + length) else {
        return Ok(None);
    };
    let push = cbor::decode(body, MAX_PUSH)?;
    arrived.drain(..4 + length);
    Ok(Some(push))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_off_whole_however_they_arrive() {
        let pushes = [Push::Withdrawn, Push::Withdrawn];
        let sent: Vec<u8> = pushes.iter().flat_map(push_frame).collect();
        let (mut arrived, mut taken) = (Vec::new(), Vec::new());
        for byte in sent {
            arrived.push(byte);
            taken.extend(take_push(&mut arrived).unwrap());
        }
        assert_eq!(taken, pushes);
        assert!(arrived.is_empty());
    }

    #[test]
    fn frames_that_are_too_long_or_none_are_refused() {
        for mut bytes in [
            vec![0xff; 4],
            vec![0, 0, 0, 1, 0xff],
            vec![0, 0, 0, 2, 0x01, 0x01],
        ] {
            assert!(take_push(&mut bytes).is_err(), "{bytes:?}");
        }
    }
}
