//! Stable reason codes. Operators script against them; an unauthenticated peer never sees one.

use touchmark_crypto::x509::{DeviceAnchors, DeviceError};

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $code:literal,)*) => {
        /// Why something was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The stable code.
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The reason a code stands for.
            pub fn from_code(code: &str) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

reasons! {
    /// Bytes that do not decode, of whatever structure.
    Malformed = "malformed",
    /// Larger than the limit on it.
    Oversized = "oversized",
    /// The endorsement certificate has no path to a pinned maker.
    PathInvalid = "path_invalid",
    /// The endorsement certificate is outside its validity.
    CertExpired = "cert_expired",
    /// The endorsement certificate lacks the extended key usage or the TCG names of one.
    Eku = "eku",
    /// The endorsement certificate is for another key than the one presented.
    EndorsementMismatch = "endorsement_mismatch",
    /// The endorsement key is not of a TCG template.
    EndorsementTemplate = "endorsement_template",
    /// The attestation key's attributes let it sign what the TPM did not make.
    AttestationKeyAttributes = "attestation_key_attributes",
    /// A key whose algorithm, curve, size or point is not accepted.
    KeyInvalid = "key_invalid",
    /// The attestation key is not the one the challenge or the host's record names.
    AttestationKeyMismatch = "attestation_key_mismatch",
    /// A hash too weak to count.
    WeakHash = "weak_hash",
    /// An algorithm that is not accepted.
    AlgNotAllowed = "alg_not_allowed",
    /// An attestation that was not made by a TPM.
    WrongMagic = "wrong_magic",
    /// An attestation of another type than asked for.
    WrongType = "wrong_type",
    /// A signature that does not verify.
    SignatureInvalid = "signature_invalid",
    /// The attestation carries another binding value than this exchange's.
    NonceMismatch = "nonce_mismatch",
    /// The quote is over other registers than asked for.
    PcrSelectionMismatch = "pcr_selection_mismatch",
    /// The register values that came along are not those that were quoted.
    PcrDigestMismatch = "pcr_digest_mismatch",
    /// Quote and Certify come from different boots.
    CountersDiffer = "counters_differ",
    /// The certified Name is not that of the key offered.
    NameMismatch = "name_mismatch",
    /// The offered key could be exported, or was not made in its device, or does not only sign.
    KeyNotHardware = "key_not_hardware",
    /// The key's use is not sealed to the boot state that was quoted.
    KeyPolicy = "key_policy",
    /// Possession of the offered key was not proved.
    ProofOfPossession = "proof_of_possession",
    /// The boot log does not explain the quoted registers.
    LogMismatch = "log_mismatch",
    /// The boot log lacks a digest of the quoted bank.
    EventDigestSet = "event_digest_set",
    /// Event data whose digest is not what the event says.
    EventDataMismatch = "event_data_mismatch",
    /// A quoted register that nothing was measured into.
    PcrsUnmeasured = "pcrs_unmeasured",
    /// No reference values are applied for this host.
    NoReferenceValues = "no_reference_values",
    /// A measured event is not among the reference values.
    ReferenceMismatch = "reference_mismatch",
    /// No policy permits it, or one forbids it.
    PolicyDenied = "policy_denied",
    /// The host is evicted or suspect.
    HostNotActive = "host_not_active",
    /// The host's attestation is missing or too old.
    HostNotAttested = "host_not_attested",
    /// The host was reset since its attestation.
    UnexpectedReset = "unexpected_reset",
    /// The device's clock or its count of resets went back: it was cloned, rolled back or cleared.
    ClockRegressed = "clock_regressed",
    /// A challenge that was answered was answered again by other evidence of the same device.
    NonceReused = "nonce_reused",
    /// The key has no certification on record that a renewal could stand on.
    KeyNotCertified = "key_not_certified",
    /// No registration names this identifier for this host.
    NoRegistration = "no_registration",
    /// The proven custody class is not among those the registration accepts.
    CustodyInsufficient = "custody_insufficient",
    /// The registration does not list this kind of credential.
    KindNotAllowed = "kind_not_allowed",
    /// The record exists already with other content.
    Conflict = "conflict",
    /// The issuer of a certificate is not at hand.
    IssuerUnavailable = "issuer_unavailable",
    /// A certificate on the way to the anchor may not issue certificates.
    IssuerNotCa = "issuer_not_ca",
    /// A certificate, or a list of them, is encoded otherwise than DER allows.
    NotDer = "not_der",
    /// A key that is known to be weak although it is long enough.
    WeakKey = "weak_key",
    /// No current revocation list of the right issuer.
    RevocationUnknown = "revocation_unknown",
    /// Revoked by its issuer.
    Revoked = "revoked",
    /// Evidence without any nonce.
    NonceMissing = "nonce_missing",
    /// A part of the evidence that is not bound to another.
    BindingMismatch = "binding_mismatch",
    /// A quote that names one bank twice.
    BankListedTwice = "bank_listed_twice",
    /// The device's clock may have gone back after an unorderly stop.
    ClockNotSafe = "clock_not_safe",
    /// The log explains the registers of one bank, and those of another not.
    LogBankMismatch = "log_bank_mismatch",
    /// A register was extended by more than the log has.
    LogIncomplete = "log_incomplete",
    /// Data that cannot be read, of an event whose digest does not cover it.
    EventDataUnauthenticated = "event_data_unauthenticated",
    /// An event that came too late to be what it says.
    EventOrderInvalid = "event_order_invalid",
    /// An event of a register that does not exist.
    PcrIndexInvalid = "pcr_index_invalid",
    /// A separator that is missing, is there twice, or says that something went wrong.
    SeparatorInvalid = "separator_invalid",
    /// An event that is never extended has a digest.
    NoActionDigest = "no_action_digest",
    /// Bytes after the last event.
    TrailingData = "trailing_data",
    /// The loader never left the firmware's boot services.
    BootNotCompleted = "boot_not_completed",
    /// Secure Boot is off.
    SecureBootOff = "secure_boot_off",
    /// The log does not say whether Secure Boot is on.
    SecureBootUnknown = "secure_boot_unknown",
    /// The log says of Secure Boot what no firmware measures.
    SecureBootInvalid = "secure_boot_invalid",
    /// A file was open for writing while it was measured.
    ImaViolation = "ima_violation",
    /// A list that is longer than what the register covers.
    EntriesUnattested = "entries_unattested",
    /// The kernel saw no TPM when it booted.
    BootAggregateZero = "boot_aggregate_zero",
    /// A file whose digest is not among the allowed ones.
    FileNotAllowed = "file_not_allowed",
    /// A member or label that is there twice.
    DuplicateMember = "duplicate_member",
    /// A version that is not known.
    UnsupportedVersion = "unsupported_version",
    /// A header that must be understood and is not.
    UnsupportedCrit = "unsupported_crit",
    /// The JOSE type of a token is another.
    WrongTyp = "wrong_typ",
    /// The content type of a COSE message is another.
    WrongContentType = "wrong_content_type",
    /// The profile is another than the one that is configured.
    WrongProfile = "wrong_profile",
    /// No profile where one is needed.
    ProfileMissing = "profile_missing",
    /// The algorithm is not that of the key.
    AlgMismatch = "alg_mismatch",
    /// The algorithm is not among what is signed.
    AlgUnprotected = "alg_unprotected",
    /// No trusted key for it.
    KeyUnavailable = "key_unavailable",
    /// A token that carries its own key.
    EmbeddedKey = "embedded_key",
    /// The key identifier names no trusted key.
    KidUnknown = "kid_unknown",
    /// Neither a payload nor a detached one.
    PayloadMissing = "payload_missing",
    /// A mandatory claim is missing.
    ClaimMissing = "claim_missing",
    /// A claim of another type or value than the profile has.
    ClaimInvalid = "claim_invalid",
    /// A token that has ended.
    Expired = "expired",
    /// A token that has not begun.
    NotYetValid = "not_yet_valid",
    /// The result of an appraisal that is not affirming.
    ResultNotAffirming = "result_not_affirming",
    /// A result in the name of another verifier than the one that is configured.
    VerifierMismatch = "verifier_mismatch",
    /// A verifier that has to be asked gave no result.
    VerifierUnavailable = "verifier_unavailable",
    /// Well-formed CBOR that is not in its deterministic form.
    CborNotDeterministic = "cbor_not_deterministic",
    /// A module of another serial number than the one that was named.
    SerialMismatch = "serial_mismatch",
    /// A module that is not of a FIPS series.
    FipsMissing = "fips_missing",
    /// No path to the root of the module's owner.
    OwnerChainMissing = "owner_chain_missing",
    /// The steps of a key's policy do not come to the policy that the key has.
    PolicyDigestMismatch = "policy_digest_mismatch",
    /// Steps that are alternatives of a PolicyOR, and cannot be executed one after the other.
    PolicyOrAlternatives = "policy_or_alternatives",
    /// A key with a policy whose steps are not in its file.
    PolicyStepsMissing = "policy_steps_missing",
    /// A policy that a session without any step satisfies.
    AuthPolicyEmpty = "auth_policy_empty",
    /// A parent that is neither a hierarchy nor persistent.
    ParentUnusual = "parent_unusual",
}

impl Reason {
    /// Why there is no path from a certificate to one of the pinned roots.
    pub fn of_path(error: &DeviceError, anchors: &DeviceAnchors) -> Self {
        match error {
            DeviceError::Expired(_) | DeviceError::NotYetValid(_) => Self::CertExpired,
            DeviceError::NotCa { .. } => Self::IssuerNotCa,
            DeviceError::AlgNotAllowed("SHA-1") => Self::WeakHash,
            DeviceError::AlgNotAllowed(_) => Self::AlgNotAllowed,
            DeviceError::KeyInvalid(_) => Self::KeyInvalid,
            DeviceError::IssuerUnavailable(_) if anchors.is_empty() => Self::IssuerUnavailable,
            DeviceError::IssuerUnavailable(_)
            | DeviceError::SignatureInvalid(_)
            | DeviceError::UnknownCritical(_)
            | DeviceError::TooLong => Self::PathInvalid,
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_read_back() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(*reason));
        }
    }
}
