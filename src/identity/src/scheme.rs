//! The naming schemes an identifier may have.

use std::fmt;
use std::str::FromStr;

use crate::IdentifierError;

/// A naming scheme: which syntax an identifier follows, and one half of what names a trust domain.
///
/// WIMSE leaves the scheme open (draft-ietf-wimse-identifier); these two are the ones that are configured here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// `spiffe`, as in SPIFFE-ID section 2.
    Spiffe,
    /// `wimse`, in the canonical form only.
    Wimse,
}

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

    /// The scheme as it stands in an identifier, without the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spiffe => "spiffe",
            Self::Wimse => "wimse",
        }
    }

    /// Whether a path segment may hold `c`. SPIFFE-ID section 2.2 leaves out the `~` that `wimse` allows.
    pub(crate) fn allows_in_segment(self, c: char) -> bool {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || (c == '~' && self == Self::Wimse)
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
