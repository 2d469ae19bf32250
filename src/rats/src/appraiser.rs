//! What a platform brings to verification. The verifier knows no platform by name: it drives this trait.

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};
use touchmark_crypto::{PublicKey, Secret};

use crate::{Check, Claims, MeasuredEvent, PcrSelection, Refusal};

/// What kind of thing a maker's anchor vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MakerKind {
    /// A chip.
    Physical,
    /// A virtual device that a cloud or hypervisor vouches for.
    Hypervisor,
}

/// Which of a device's keys a maker certified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertifiedKey {
    /// Its endorsement key, as makers of chips do; also what a record says that is older than the distinction.
    #[default]
    EndorsementKey,
    /// Its attestation key, as clouds do.
    AttestationKey,
}

impl CertifiedKey {
    /// How claims name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EndorsementKey => "endorsement_key",
            Self::AttestationKey => "attestation_key",
        }
    }
}

/// The maker that vouches for a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Voucher {
    /// The maker's name in our configuration.
    pub maker: String,
    /// What it vouches for.
    pub kind: MakerKind,
    /// The key that it certified.
    #[serde(default)]
    pub certified: CertifiedKey,
    /// Whether configuration marks the maker as simulated.
    pub simulated: bool,
    /// SHA-256 of the SubjectPublicKeyInfo of the root that the certificate's path ended in.
    pub anchor: [u8; 32],
    /// The TPM's manufacturer as the certificate names it, by the registry of vendor identifiers: `INTC`, `STM`, `IFX`. Empty
    /// where it names none.
    pub manufacturer: String,
    /// The serial number of the certificate, as it has it.
    pub serial: ByteBuf,
    /// SHA-256 of the SubjectPublicKeyInfo of each authority on the path, from the one that signed the certificate to the root.
    pub issuers: Vec<ByteArray<32>>,
}

impl Voucher {
    /// The serial number in lower-case hexadecimal digits, without a leading zero byte.
    pub fn serial_digits(&self) -> String {
        match self.serial.as_slice() {
            [0, rest @ ..] if !rest.is_empty() => hex::encode(rest),
            all => hex::encode(all),
        }
    }
}

/// An endorsement key that a host presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// SHA-256 of the DER SubjectPublicKeyInfo: what hosts are enrolled by.
    pub digest: [u8; 32],
    /// The key's Name.
    pub name: Vec<u8>,
    /// The public area, as presented.
    pub public: Vec<u8>,
    /// The certificate by which a maker vouches for the device, if any: that of this key or, where it has none, that of the attestation
    /// key.
    pub certificate: Option<KeyCertificate>,
}

/// The certificate of one of a device's keys, as presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCertificate {
    /// The public area of the attestation key, where it is to be of that one; `None`: of the endorsement key that it came with.
    pub attestation_public: Option<Vec<u8>>,
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// Certificates between it and the maker's root.
    pub intermediates: Vec<Vec<u8>>,
}

impl KeyCertificate {
    /// Which key it is to be of.
    pub fn certified(&self) -> CertifiedKey {
        match self.attestation_public {
            Some(_) => CertifiedKey::AttestationKey,
            None => CertifiedKey::EndorsementKey,
        }
    }
}

/// A host's first message, read and judged as far as it can be without any record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The attestation key's public area, attributes checked.
    pub attestation_public: Vec<u8>,
    /// The attestation key's Name.
    pub attestation_name: Vec<u8>,
    /// Endorsement keys that the host can be known by, in its order of preference.
    pub candidates: Vec<Candidate>,
}

/// A secret that only the device with this endorsement key and this attestation key can open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// TPM2B_ID_OBJECT, with its size.
    pub credential_blob: Vec<u8>,
    /// TPM2B_ENCRYPTED_SECRET, with its size.
    pub encrypted_secret: Vec<u8>,
}

/// What evidence has to match.
#[derive(Debug, Clone)]
pub struct Expected<'a> {
    /// The binding value of this exchange.
    pub bind: [u8; 32],
    /// The attestation key's public area, from the message (its Name was compared with the challenge) or the record.
    pub attestation_public: &'a [u8],
    /// Registers that the quote must be over, exactly. Empty: no quote is expected.
    pub selection: &'a PcrSelection,
    /// Public areas of the keys offered, in the order of the message.
    pub keys: &'a [Vec<u8>],
    /// Whether each offered key's use has to be sealed to the quoted registers.
    pub sealed_to_boot: bool,
    /// The boot log, whole.
    pub log: &'a [u8],
    /// What was measured while the host runs; `None` where the quote is not over [`crate::RUNTIME_REGISTER`].
    pub runtime: Option<RuntimeList<'a>>,
}

/// What a host's kernel measured since the last appraisal.
#[derive(Clone, Copy)]
pub struct RuntimeList<'a> {
    /// [`RuntimeState::state`] of the last appraisal; `None`: the list is whole.
    pub state: Option<&'a [u8]>,
    /// The list from where that appraisal ended.
    pub gained: &'a [u8],
    /// Which files are known.
    pub files: &'a dyn KnownFiles,
}

impl std::fmt::Debug for RuntimeList<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RuntimeList({} bytes)", self.gained.len())
    }
}

/// Files that are known to be good, by their digests.
pub trait KnownFiles: Sync {
    /// Whether some list has a file of this digest; `algorithm` as the kernel names it.
    fn knows(&self, algorithm: &str, digest: &[u8]) -> bool;
}

/// Where the appraisal of a list ended, so that the next can go on from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeState {
    /// Bytes of the list that the register covers.
    pub offset: u64,
    /// Whether every file that was not known is in the state: then lists of known files can grow without reading it all again.
    pub complete: bool,
    /// The appraiser's own.
    pub state: Vec<u8>,
}

/// Counters of a device's boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootCounters {
    /// Resets since the device was made.
    pub reset: u32,
    /// Restarts and resumes since the last reset.
    pub restart: u32,
    /// Milliseconds that the device has been powered.
    pub clock: u64,
    /// Whether the clock is known not to have gone back.
    pub safe: bool,
}

/// A key of which it was established where it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestedKey {
    /// The key.
    pub public: PublicKey,
    /// Its Name.
    pub name: Vec<u8>,
    /// Its public area, or what was reported of it, as offered.
    pub area: Vec<u8>,
    /// Who says so.
    pub assurance: Assurance,
}

/// Who says that a key never leaves its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assurance {
    /// The host's device, which was attested: as good as whoever vouches for the device.
    Certified,
    /// The agent of the attested host, of a PKCS#11 token.
    Reported {
        /// Whether its configuration marks the token as simulated.
        simulated: bool,
    },
}

/// What an appraiser concludes. It is believed only as a whole: one failed check, and nothing in it counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Appraisal {
    /// The checks in the order they were made; after a failure later ones may be missing.
    pub checks: Vec<Check>,
    /// What was established.
    pub claims: Claims,
    /// The keys that were certified.
    pub keys: Vec<AttestedKey>,
    /// Events that explain the quoted registers.
    pub events: Vec<MeasuredEvent>,
    /// The registers that were quoted, with whether the log measured anything into them.
    pub measured: Vec<(u8, bool)>,
    /// Where the list of what was measured at run time stands, if one was asked for.
    pub runtime: Option<RuntimeState>,
    /// Boot counters of the quote or, without one, of the first certification.
    pub counters: Option<BootCounters>,
    /// Whether an attestation of the expected key over this exchange's binding was found: what failed before that was
    /// said by a stranger.
    pub authenticated: bool,
}

impl Appraisal {
    /// The most telling failure: the first in the order of checks.
    pub fn failure(&self) -> Option<&Check> {
        self.checks.iter().find(|check| check.reason().is_some())
    }
}

/// The verifier's part for one kind of evidence.
pub trait Appraiser: Send + Sync {
    /// The media type of the evidence, and of the openings that go with it.
    fn media_type(&self) -> &'static str;

    /// Reads a host's first message and judges the attestation key in it, before any look-up and before any secret is
    /// made.
    fn open(&self, opening: &[u8]) -> Result<Opening, Refusal>;

    /// Judges an endorsement key's template, and the certificate that came with it, at `now` (seconds since the epoch). `None` means that
    /// no maker vouches for the device because no certificate was presented.
    fn vouch(&self, candidate: &Candidate, now: u64) -> Result<Option<Voucher>, Refusal>;

    /// Seals `secret` so that only the device with both keys can open it.
    fn seal(
        &self,
        candidate: &Candidate,
        attestation_name: &[u8],
        secret: &Secret,
    ) -> Result<Sealed, Refusal>;

    /// The Name of an attestation key by its public area.
    fn attestation_name(&self, public: &[u8]) -> Result<Vec<u8>, Refusal>;

    /// The Name of a key by its public area.
    fn key_name(&self, public: &[u8]) -> Result<Vec<u8>, Refusal>;

    /// Says in words what events of a log are.
    fn describe(&self, log: &[u8], events: &mut [MeasuredEvent]);

    /// Appraises evidence against what this exchange expects.
    fn appraise(&self, evidence: &[u8], expected: &Expected<'_>) -> Appraisal;
}
