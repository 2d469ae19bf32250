//! The naming schemes an identifier may have.

use std::fmt;
use std::str::FromStr;

use crate::IdentifierError;

/// A naming scheme: which syntax an identifier follows, and one half of what names a trust domain.
///
/// WIMSE leaves the scheme open (draft-ietf-wimse-identifier). Two are known everywhere; another one exists only within
/// the trust domain whose configuration names it ([`TrustDomain::configured`](crate::TrustDomain::configured)).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// `spiffe`, as in SPIFFE-ID section 2.
    Spiffe,
    /// `wimse`, in the canonical form only.
    Wimse,
    /// A scheme of one trust domain's own, whose identifiers have the syntax of `wimse`.
    Configured(OwnScheme),
}

/// A scheme that a trust domain's configuration names. Only reading that configuration makes one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnScheme(Box<str>);

impl Scheme {
    /// Reads a scheme without its colon: `spiffe` or `wimse`, in lower case.
    ///
    /// # Errors
    ///
    /// `upper_case` for another capitalisation of a known scheme, `unknown_scheme` for all else.
    pub fn parse(text: &str) -> Result<Self, IdentifierError> {
        match text {
            "spiffe" => Ok(Self::Spiffe),
            "wimse" => Ok(Self::Wimse),
            _ if text.eq_ignore_ascii_case("spiffe") || text.eq_ignore_ascii_case("wimse") => {
                let at = text.find(|c: char| c.is_ascii_uppercase()).unwrap_or(0);
                Err(IdentifierError::UpperCase { at })
            }
            _ => Err(IdentifierError::UnknownScheme),
        }
    }

    /// Reads a scheme that is known or the one that is `configured`; in lower case either way.
    pub(crate) fn parse_or(text: &str, configured: Option<&str>) -> Result<Self, IdentifierError> {
        match configured {
            Some(own) if own == text && text.bytes().all(|b| !b.is_ascii_uppercase()) => {
                Self::parse(text).or_else(|_| Ok(Self::Configured(OwnScheme(text.into()))))
            }
            _ => Self::parse(text),
        }
    }

    /// The scheme as it stands in an identifier, without the colon.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Spiffe => "spiffe",
            Self::Wimse => "wimse",
            Self::Configured(own) => &own.0,
        }
    }

    /// Whether a path segment may hold `c`. SPIFFE-ID section 2.2 leaves out the `~` that the others allow.
    pub(crate) fn allows_in_segment(&self, c: char) -> bool {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || (c == '~' && *self != Self::Spiffe)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scheme {
    type Err = IdentifierError;

    fn from_str(text: &str) -> Result<Self, IdentifierError> {
        Self::parse(text)
    }
}
