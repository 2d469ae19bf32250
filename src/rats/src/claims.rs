//! What an appraisal established, as named and typed values that policy can test.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

/// The value of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
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

/// Claims by name. Names are dotted, the group first: `tpm.reset_count`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Claims(BTreeMap<Cow<'static, str>, ClaimValue>);

impl Claims {
    /// Adds or replaces a claim.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, value: ClaimValue) {
        self.0.insert(name.into(), value);
    }

    /// The claim of this name.
    pub fn get(&self, name: &str) -> Option<&ClaimValue> {
        self.0.get(name)
    }

    /// All claims in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ClaimValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// Adds all of another's claims, which win where both have one.
    pub fn extend(&mut self, other: &Self) {
        self.0
            .extend(other.0.iter().map(|(name, value)| (name.clone(), value.clone())));
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
