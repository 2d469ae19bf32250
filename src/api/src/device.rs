//! The protocol between a daemon and its `touchmark-device`: frames of CBOR over a socket pair.
//!
//! A frame is a length (four bytes, big-endian, at most [`MAX_FRAME`]) and a [`Request`] or [`Response`]. The first
//! request is [`Op::Open`]; requests carry a number that their response repeats. Responses may come in any order.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_bytes::ByteBuf;
use touchmark_rats::{
    cbor,
    token::{TokenDescription, TokenKey},
    tpm::{TpmAttestation, TpmDeviceKey, TpmPcrValue},
};
use zeroize::Zeroizing;

use crate::Guarded;

/// Largest frame: a boot log and some room.
pub const MAX_FRAME: usize = 5 * 1024 * 1024;

/// How soon a request is served: all of one kind before any of the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Urgency {
    /// The host's own attestation.
    Quote,
    /// Keys and signatures by which credentials are obtained, issued and renewed.
    Renewal,
    /// What workloads ask for, and handshakes with whoever connects.
    Workload,
}

/// Whom a request is served for. Callers of one urgency take turns, and none may have more than a quota waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Turn {
    /// How soon.
    pub urgency: Urgency,
    /// Who, as the daemon tells its callers apart; 0 for the daemon itself.
    pub caller: u64,
}

/// A request and the time its caller is prepared to wait.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Repeated by the response.
    pub id: u64,
    /// Milliseconds after which the caller no longer waits; a request still queued then is dropped.
    pub patience_ms: u32,
    /// Whom it is for.
    pub turn: Turn,
    /// What to do.
    pub op: Op,
}

/// The answer to the request of this number.
#[derive(Debug, Serialize, Deserialize)]
pub struct Response {
    /// The request's number.
    pub id: u64,
    /// The outcome.
    pub result: Result<Reply, Fault>,
}

/// What a device can be asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Op {
    /// Connects to a TPM. Nothing else is answered before this or [`Op::OpenToken`].
    Open(Settings),
    /// Connects to a PKCS#11 token.
    OpenToken(TokenSettings),
    /// What the token says of itself.
    DescribeToken,
    /// Makes a key pair in the token, for signatures alone.
    CreateTokenKey {
        /// Of which kind.
        kind: TokenKeyKind,
        /// What it is called there (CKA_LABEL).
        label: String,
    },
    /// What the token says of a key (PKCS#11 URI).
    DescribeTokenKey(String),
    /// Destroys a key of the token's, both of its halves.
    DestroyTokenKey(String),
    /// Puts a certificate of a key beside it, in place of one that was there.
    StoreCertificate {
        /// The key (PKCS#11 URI).
        key: String,
        /// The certificate, DER.
        certificate: ByteBuf,
    },
    /// The endorsement keys with their certificates.
    Endorsements,
    /// The attestation key of a trust domain (an origin such as `spiffe://example.org`), or the one that a cloud certified.
    AttestationKey(String),
    /// TPM2_ActivateCredential.
    Activate(Activation),
    /// Makes a signing key, sealed to registers where any are given (bank identifier, numbers).
    CreateKey {
        /// Registers whose present values the key's use is sealed to; empty for none.
        seal: Vec<(u16, Vec<u8>)>,
    },
    /// Loads a key to see that this device can.
    CheckKey(ByteBuf),
    /// TPM2_Certify of a key by the attestation key of a trust domain.
    Certify {
        /// The trust domain.
        trust_domain: String,
        /// The key: TSS2 structure, DER.
        key: ByteBuf,
        /// Qualifying data.
        qualifying: ByteBuf,
    },
    /// TPM2_Quote by the attestation key of a trust domain.
    Quote {
        /// The trust domain.
        trust_domain: String,
        /// The registers.
        selection: Vec<(u16, Vec<u8>)>,
        /// Qualifying data.
        qualifying: ByteBuf,
    },
    /// The values of registers.
    ReadRegisters(Vec<(u16, Vec<u8>)>),
    /// Signs a message with a key; the device hashes.
    Sign {
        /// The key: TSS2 structure, DER; of a token, its PKCS#11 URI.
        key: ByteBuf,
        /// The message.
        message: ByteBuf,
    },
    /// The boot log, whole.
    BootLog,
    /// What the kernel has measured since the boot, from this byte of its list on: as much as an answer holds.
    RuntimeList(u64),
}

/// How to reach a device. Sent over the socket, never on a command line: authorizations are secrets.
#[derive(Clone, Serialize, Deserialize)]
pub struct Settings {
    /// TCTI, for example `device:/dev/tpmrm0`, `tabrmd:...` or `swtpm:host=127.0.0.1,port=2321`.
    pub tcti: String,
    /// Path of the boot log; absent where there is none to read.
    pub boot_log: Option<String>,
    /// Path of the kernel's list of measurements; absent where there is none to read.
    pub runtime_list: Option<String>,
    /// Authorization of the owner hierarchy.
    pub owner_auth: Guarded,
    /// Authorization of the endorsement hierarchy.
    pub endorsement_auth: Guarded,
}

impl Settings {
    /// A device whose hierarchies have empty authorizations, and no boot log.
    pub fn at(tcti: impl Into<String>) -> Self {
        Self {
            tcti: tcti.into(),
            boot_log: None,
            runtime_list: None,
            owner_auth: Guarded::default(),
            endorsement_auth: Guarded::default(),
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("tcti", &self.tcti)
            .field("boot_log", &self.boot_log)
            .field("runtime_list", &self.runtime_list)
            .finish_non_exhaustive()
    }
}

/// How to reach a token. Its PIN stays in its file: the helper reads it when the token asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSettings {
    /// The vendor's module, a shared library. It comes from configuration alone.
    pub module: String,
    /// Which token: a PKCS#11 URI that matches one.
    pub token: String,
    /// File with the user's PIN; absent where the token has a reader of its own, or asks for none.
    pub pin_file: Option<String>,
    /// Sessions that sign at the same time, if the token has so many.
    pub sessions: u32,
}

/// Kinds of keys that a token makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenKeyKind {
    /// On P-256.
    P256,
    /// On P-384.
    P384,
}

/// A credential to activate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Activation {
    /// The trust domain whose attestation key it was made for.
    pub trust_domain: String,
    /// Name of the endorsement key it was made for.
    pub endorsement_name: ByteBuf,
    /// TPM2B_ID_OBJECT.
    pub credential_blob: ByteBuf,
    /// TPM2B_ENCRYPTED_SECRET.
    pub encrypted_secret: ByteBuf,
}

/// What a device answers.
#[derive(Serialize, Deserialize)]
pub enum Reply {
    /// Nothing but success.
    Done,
    /// Endorsement keys.
    Endorsements(Vec<TpmDeviceKey>),
    /// The attestation key.
    AttestationKey(TpmDeviceKey),
    /// An activated secret.
    Secret(Guarded),
    /// A key.
    Key(KeyDescription),
    /// An attestation and the Name of the key that signed it.
    Attestation(TpmAttestation),
    /// Register values.
    Registers(Vec<TpmPcrValue>),
    /// A signature, `r ‖ s`.
    Signature(ByteBuf),
    /// A boot log, or a part of a list.
    Log(ByteBuf),
    /// A token.
    Token(TokenDescription),
    /// A key in a token.
    TokenKey(TokenKey),
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Done => "Done",
            Self::Endorsements(_) => "Endorsements",
            Self::AttestationKey(_) => "AttestationKey",
            Self::Secret(_) => "Secret(redacted)",
            Self::Key(_) => "Key",
            Self::Attestation(_) => "Attestation",
            Self::Registers(_) => "Registers",
            Self::Signature(_) => "Signature",
            Self::Log(_) => "Log",
            Self::Token(_) => "Token",
            Self::TokenKey(_) => "TokenKey",
        })
    }
}

/// A key as its device describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDescription {
    /// The key: TSS2 structure, DER.
    pub key: ByteBuf,
    /// TPMT_PUBLIC.
    pub public: ByteBuf,
    /// SubjectPublicKeyInfo, DER.
    pub spki: ByteBuf,
    /// Whether the key could leave the device, or was not made in it.
    pub exportable: bool,
    /// The register values that a key which was just made is sealed to; empty otherwise.
    pub sealed_to: Vec<TpmPcrValue>,
}

/// Why a device did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What kind of failure.
    pub kind: FaultKind,
    /// For people. No key material, no authorization.
    pub message: String,
}

/// Kinds of failure, by what a caller can do about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultKind {
    /// The device cannot be reached or stopped answering: try later.
    Unavailable,
    /// The caller's patience ran out before the device got to it: try later.
    Late,
    /// The device locked itself after failed authorizations: an operator has to act.
    LockedOut,
    /// An authorization that configuration should have given is missing or wrong.
    Authorization,
    /// The boot state is not the one the key is sealed to.
    Sealed,
    /// There is no room for another key: an operator has to make some.
    Full,
    /// The device holds no such key.
    NoKey,
    /// The request cannot be carried out on this device, now or later.
    Refused,
    /// The device's answer is not to be believed.
    Untrusted,
}

impl FaultKind {
    /// Whether the same request may succeed later without anybody acting.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Unavailable | Self::Late)
    }
}

/// Writes one frame.
pub fn write_frame<T: Serialize>(out: &mut impl Write, message: &T) -> io::Result<()> {
    // Frames may carry secrets.
    let body = Zeroizing::new(cbor::encode(message));
    let length = u32::try_from(body.len())
        .ok()
        .filter(|length| *length as usize <= MAX_FRAME);
    let length = length.ok_or_else(|| io::Error::other("frame over the limit"))?;
    let mut frame = Zeroizing::new(Vec::with_capacity(4 + body.len()));
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&body);
    out.write_all(&frame)?;
    out.flush()
}

/// Reads one frame; `None` where the other end has closed between frames.
pub fn read_frame<T: DeserializeOwned>(input: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::other("frame over the limit"));
    }
    let mut body = Zeroizing::new(vec![0; length]);
    input.read_exact(&mut body)?;
    cbor::decode(&body, MAX_FRAME).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back_and_end_cleanly() {
        let mut bytes = Vec::new();
        let request = Request {
            id: 7,
            patience_ms: 5,
            turn: Turn {
                urgency: Urgency::Quote,
                caller: 0,
            },
            op: Op::Endorsements,
        };
        write_frame(&mut bytes, &request).unwrap();
        let mut input = bytes.as_slice();
        assert_eq!(read_frame::<Request>(&mut input).unwrap().unwrap().id, 7);
        assert!(read_frame::<Request>(&mut input).unwrap().is_none());
        assert!(read_frame::<Request>(&mut &bytes[..5]).is_err());
        assert!(read_frame::<Request>(&mut [0xff_u8; 8].as_slice()).is_err());
    }

    #[test]
    fn settings_and_secrets_do_not_print() {
        let settings = Settings {
            owner_auth: Guarded::new(b"hunter2".to_vec()),
            ..Settings::at("t")
        };
        for shown in [format!("{settings:?}"), format!("{:?}", settings.owner_auth)] {
            assert!(!shown.contains("104") && !shown.contains("hunter"), "{shown}");
        }
        assert_eq!(
            format!("{:?}", Reply::Secret(Guarded::new(vec![1]))),
            "Secret(redacted)"
        );
        // They cross the socket pair as they are.
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &settings).unwrap();
        let read: Settings = read_frame(&mut bytes.as_slice()).unwrap().unwrap();
        assert_eq!(read.owner_auth.expose(), b"hunter2");
    }
}
