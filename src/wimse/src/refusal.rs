//! Why a token is not believed. The names are stable: operators and relying parties script against them.

/// A reason to refuse a workload identity token, its proof, or the request that carries them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    /// Not one well-formed token: parts, base64url, JSON, limits.
    #[error("the token is malformed")]
    Malformed,
    /// A member of header or claims that is there twice.
    #[error("a member is there twice")]
    DuplicateMember,
    /// A JOSE header member that may not be ignored.
    #[error("the JOSE header has a critical member that is not understood")]
    UnsupportedCrit,
    /// `typ` is not the one of this kind of token.
    #[error("typ is not that of this kind of token")]
    WrongTyp,
    /// A mandatory claim is missing.
    #[error("the claim {0} is missing")]
    ClaimMissing(&'static str),
    /// A claim of another type, or out of range.
    #[error("the claim {0} is not what it has to be")]
    ClaimInvalid(&'static str),
    /// `sub` is no identifier.
    #[error("sub is not a workload identifier")]
    IdentifierInvalid,
    /// `sub` is an identifier in a spelling that is not accepted.
    #[error("sub is not spelt canonically")]
    IdentifierNotCanonical,
    /// The trust domain of `sub` is none that is configured.
    #[error("the trust domain of sub is not one that is trusted here")]
    TrustDomainUnknown,
    /// No key of the trust domain has this `kid`, or none is named where there are several.
    #[error("no key of the trust domain is named by kid")]
    KidUnknown,
    /// An algorithm that is not accepted, or not that of the key.
    #[error("the algorithm is not accepted")]
    AlgNotAllowed,
    /// The proof's algorithm is not that of `cnf.jwk`.
    #[error("alg is not that of cnf.jwk")]
    AlgMismatch,
    /// The signature does not verify.
    #[error("the signature does not verify")]
    SignatureInvalid,
    /// It has ended.
    #[error("it has expired")]
    Expired,
    /// It has not begun.
    #[error("it is not valid yet")]
    NotYetValid,
    /// It lives longer than is accepted.
    #[error("it lives longer than is accepted")]
    LifetimeTooLong,
    /// `iss` is not one that speaks for this trust domain.
    #[error("iss is not an issuer for this trust domain")]
    IssuerNotAllowed,
    /// No `cnf.jwk`.
    #[error("cnf.jwk is missing")]
    CnfMissing,
    /// `cnf.jwk` has private or symmetric members.
    #[error("cnf.jwk holds private or symmetric members")]
    CnfPrivateMaterial,
    /// `cnf.jwk` names no algorithm.
    #[error("cnf.jwk names no algorithm")]
    CnfAlgMissing,
    /// `cnf.jwk` is no usable key.
    #[error("cnf.jwk is not a usable public key")]
    CnfInvalid,
    /// A token without its proof.
    #[error("there is no proof of possession")]
    ProofMissing,
    /// No token.
    #[error("there is no workload identity token")]
    TokenMissing,
    /// A header field that may be there once is there twice, or holds two values.
    #[error("a header field is there more than once")]
    DuplicateHeader,
    /// `Authorization` does not carry a proof where it has to.
    #[error("the Authorization field is not of scheme WPT")]
    WrongScheme,
    /// `aud` is for somebody else.
    #[error("aud is not this service")]
    AudienceMismatch,
    /// `aud` is a list.
    #[error("aud is a list")]
    AudienceArray,
    /// `wth` is the hash of another token.
    #[error("wth is not the hash of this token")]
    WthMismatch,
    /// An access token that the proof does not name.
    #[error("ath is missing although there is an access token")]
    AthMissing,
    /// `ath` is the hash of another access token, or of none.
    #[error("ath is not the hash of the access token")]
    AthMismatch,
    /// A transaction token that the proof does not name.
    #[error("tth is missing although there is a transaction token")]
    TthMissing,
    /// `tth` is the hash of another transaction token, or of none.
    #[error("tth is not the hash of the transaction token")]
    TthMismatch,
    /// `oth` names a token that is not understood, or has another hash.
    #[error("oth does not hold for this request")]
    OthMismatch,
    /// A proof that was seen before.
    #[error("this proof was used before")]
    Replayed,
    /// The memory for proofs is full: nothing can be shown to be new.
    #[error("too many proofs are remembered at once")]
    ReplayCacheFull,
}

impl TokenError {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::DuplicateMember => "duplicate_member",
            Self::UnsupportedCrit => "unsupported_crit",
            Self::WrongTyp => "wrong_typ",
            Self::ClaimMissing(_) => "claim_missing",
            Self::ClaimInvalid(_) => "claim_invalid",
            Self::IdentifierInvalid => "identifier_invalid",
            Self::IdentifierNotCanonical => "identifier_not_canonical",
            Self::TrustDomainUnknown => "td_unknown",
            Self::KidUnknown => "kid_unknown",
            Self::AlgNotAllowed => "alg_not_allowed",
            Self::AlgMismatch => "alg_mismatch",
            Self::SignatureInvalid => "signature_invalid",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::LifetimeTooLong => "lifetime_too_long",
            Self::IssuerNotAllowed => "issuer_not_allowed",
            Self::CnfMissing => "cnf_missing",
            Self::CnfPrivateMaterial => "cnf_private_material",
            Self::CnfAlgMissing => "cnf_alg_missing",
            Self::CnfInvalid => "cnf_invalid",
            Self::ProofMissing => "proof_missing",
            Self::TokenMissing => "wit_missing",
            Self::DuplicateHeader => "duplicate_header",
            Self::WrongScheme => "wrong_scheme",
            Self::AudienceMismatch => "audience_mismatch",
            Self::AudienceArray => "audience_array",
            Self::WthMismatch => "wth_mismatch",
            Self::AthMissing => "ath_missing",
            Self::AthMismatch => "ath_mismatch",
            Self::TthMissing => "tth_missing",
            Self::TthMismatch => "tth_mismatch",
            Self::OthMismatch => "oth_mismatch",
            Self::Replayed => "replayed",
            Self::ReplayCacheFull => "replay_cache_full",
        }
    }
}

impl From<touchmark_crypto::CryptoError> for TokenError {
    fn from(error: touchmark_crypto::CryptoError) -> Self {
        use touchmark_crypto::CryptoError;
        match error {
            CryptoError::Critical => Self::UnsupportedCrit,
            CryptoError::DuplicateMember(_) => Self::DuplicateMember,
            CryptoError::AlgNotAllowed(_) => Self::AlgNotAllowed,
            CryptoError::SignatureInvalid => Self::SignatureInvalid,
            _ => Self::Malformed,
        }
    }
}
