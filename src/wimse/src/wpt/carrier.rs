//! Where token and proof travel in a request: header fields, each exactly once.

use crate::TokenError;

/// How a proof is carried, by configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// draft-ietf-wimse-wpt-02: `Authorization: WPT <proof>`. No other credential can be in that field.
    #[default]
    Wpt02,
    /// draft-ietf-wimse-wpt-01: `Workload-Proof-Token: <proof>`, beside a bearer token perhaps, which `ath` then names.
    Wpt01,
}

/// What a request carries, each field as it arrived. Nothing of it is verified.
#[derive(Clone, PartialEq, Eq)]
pub struct Carried<'a> {
    /// `Workload-Identity-Token`.
    pub wit: &'a str,
    /// The proof.
    pub proof: &'a str,
    /// `Txn-Token`, where there is one.
    pub transaction: Option<&'a str>,
    /// An access token beside it, with [`Profile::Wpt01`].
    pub access: Option<&'a str>,
}

/// Tokens are not for logs.
impl std::fmt::Debug for Carried<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carried").finish_non_exhaustive()
    }
}

impl<'a> Carried<'a> {
    /// Finds token and proof in the header fields of a request, names in any case.
    ///
    /// # Errors
    ///
    /// `wit_missing`, `proof_missing`, `wrong_scheme`; `duplicate_header` for a field that is there twice or holds a list;
    /// `malformed` for bytes that no token has.
    pub fn from_fields(
        fields: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        profile: Profile,
    ) -> Result<Self, TokenError> {
        let (mut wit, mut proof, mut transaction, mut authorization) = (None, None, None, None);
        for (name, value) in fields {
            let slot = match name {
                _ if name.eq_ignore_ascii_case("workload-identity-token") => &mut wit,
                _ if name.eq_ignore_ascii_case("workload-proof-token") => &mut proof,
                _ if name.eq_ignore_ascii_case("txn-token") => &mut transaction,
                _ if name.eq_ignore_ascii_case("authorization") => &mut authorization,
                _ => continue,
            };
            let text = std::str::from_utf8(value).map_err(|_| TokenError::Malformed)?;
            if slot.replace(text.trim_matches([' ', '\t'])).is_some() {
                return Err(TokenError::DuplicateHeader);
            }
        }
        let wit = token(wit.ok_or(TokenError::TokenMissing)?)?;
        let transaction = transaction.map(token).transpose()?;
        let of_scheme = |wanted: &str| {
            let (scheme, rest) = authorization?.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case(wanted)
                .then(|| rest.trim_start_matches(' '))
        };
        let (proof, access) = match profile {
            Profile::Wpt02 => match (authorization, of_scheme("WPT")) {
                (None, _) => return Err(TokenError::ProofMissing),
                (Some(_), None) => return Err(TokenError::WrongScheme),
                (Some(_), Some(proof)) => (proof, None),
            },
            Profile::Wpt01 => (proof.ok_or(TokenError::ProofMissing)?, of_scheme("Bearer")),
        };
        Ok(Self {
            wit,
            proof: token(proof)?,
            transaction,
            access,
        })
    }
}

/// One token: a comma would make it a list.
fn token(text: &str) -> Result<&str, TokenError> {
    match text {
        _ if text.contains(',') => Err(TokenError::DuplicateHeader),
        "" => Err(TokenError::Malformed),
        _ if text.bytes().any(|byte| byte.is_ascii_whitespace()) => Err(TokenError::Malformed),
        _ => Ok(text),
    }
}
