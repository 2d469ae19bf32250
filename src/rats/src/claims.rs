//! What an appraisal established, as named and typed values that policy can test.

use std::collections::BTreeMap;

/// The value of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimValue {
    /// Yes or no.
    Bool(bool),
    /// A number.
    Int(i64),
    /// Text.
    Text(String),
    /// A set of texts.
    Texts(Vec<String>),
}

/// Claims by name. Names are dotted, the platform first: `tpm.reset_count`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims(BTreeMap<&'static str, ClaimValue>);

impl Claims {
    /// Adds or replaces a claim.
    pub fn set(&mut self, name: &'static str, value: ClaimValue) {
        self.0.insert(name, value);
    }

    /// The claim of this name.
    pub fn get(&self, name: &str) -> Option<&ClaimValue> {
        self.0.get(name)
    }

    /// All claims in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &ClaimValue)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }
}

impl std::fmt::Display for ClaimValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
            Self::Texts(values) => f.write_str(&values.join(", ")),
        }
    }
}
