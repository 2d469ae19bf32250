//! Entity attestation tokens: the types of their claims (RFC 9711, appendix A), in JSON and in CBOR. A claims set inside of another stands
//! for itself and inherits nothing.

mod kinds;

use ciborium::Value;
use serde_json::Value as Json;
use touchmark_crypto::{CryptoError, cbor::shape, jose::json};

pub(crate) use self::kinds::bytes_of;
use self::kinds::{CLAIMS, Kind, is_digest};
use crate::Reason;

/// Largest claims set, in bytes.
pub const MAX_CLAIMS: usize = 1024 * 1024;
/// Most members of a claims set in JSON, at all depths.
const MAX_MEMBERS: usize = 20_000;
/// Deepest nesting of submodules.
const MAX_NESTING: usize = 4;
/// Tag of a concise software identity (RFC 9393), before and after its registration.
const COSWID_TAGS: [u64; 2] = [1_398_229_316, 505];

/// Why a claims set was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {what}")]
pub struct ClaimsError {
    /// The stable reason.
    pub reason: Reason,
    /// What is wrong, for people.
    pub what: String,
}

impl ClaimsError {
    pub(crate) fn malformed(what: &str) -> Self {
        Self {
            reason: Reason::Malformed,
            what: what.to_owned(),
        }
    }

    pub(crate) fn invalid(claim: &str) -> Self {
        Self {
            reason: Reason::ClaimInvalid,
            what: format!("{claim} is not of its type"),
        }
    }

    /// A claim that contradicts others.
    pub(crate) fn contradicts(claim: &str, what: &str) -> Self {
        Self {
            reason: Reason::ClaimInvalid,
            what: format!("{claim} {what}"),
        }
    }

    pub(crate) fn missing(claim: &str) -> Self {
        Self {
            reason: Reason::ClaimMissing,
            what: format!("{claim} is missing"),
        }
    }
}

/// Which serialization claims are in: it decides how bytes, names and enumerations are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Names are text, bytes base64url.
    Json,
    /// Names are numbers.
    Cbor,
}

/// A claims set, decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimsSet {
    form: Form,
    members: Vec<(Value, Value)>,
}

impl ClaimsSet {
    /// Reads a claims set in JSON: an object with no member twice.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ClaimsError> {
        if bytes.len() > MAX_CLAIMS {
            return Err(ClaimsError::malformed("over 1 MiB"));
        }
        let object = json::object_within(bytes, MAX_MEMBERS).map_err(|error| match error {
            CryptoError::DuplicateMember(name) => ClaimsError {
                reason: Reason::DuplicateMember,
                what: format!("{name} is there twice"),
            },
            error => ClaimsError::malformed(&error.to_string()),
        })?;
        match turned(&Json::Object(object)) {
            Value::Map(members) => Ok(Self {
                form: Form::Json,
                members,
            }),
            _ => Err(ClaimsError::malformed("not an object")),
        }
    }

    /// Reads a claims set in CBOR: a map with no key twice and nothing after it.
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, ClaimsError> {
        match decode(bytes)? {
            Value::Map(members) => Ok(Self {
                form: Form::Cbor,
                members,
            }),
            _ => Err(ClaimsError::malformed("not a map")),
        }
    }

    /// The claims as they are of an object that was read already.
    pub(crate) fn of(form: Form, value: &Value) -> Option<Self> {
        value.as_map().map(|members| Self {
            form,
            members: members.clone(),
        })
    }

    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// A claim by its number in CBOR and its name in JSON.
    pub(crate) fn get(&self, label: i64, name: &str) -> Option<&Value> {
        self.members
            .iter()
            .find(|(key, _)| match self.form {
                Form::Json => key.as_text() == Some(name),
                Form::Cbor => *key == Value::from(label),
            })
            .map(|(_, value)| value)
    }

    /// A claim that is named by text in either form.
    pub(crate) fn named(&self, name: &str) -> Option<&Value> {
        let found = self.members.iter().find(|(key, _)| key.as_text() == Some(name));
        found.map(|(_, value)| value)
    }

    /// Claims that are accepted in another form than they are defined in: a version as bare text, as the examples of RFC 9711 have it.
    pub fn bare_versions(&self) -> impl Iterator<Item = &'static str> {
        CLAIMS
            .iter()
            .filter(|(_, _, kind)| matches!(kind, Kind::Version))
            .filter(|(label, name, _)| self.get(*label, name).is_some_and(Value::is_text))
            .map(|(_, name, _)| *name)
    }

    /// The names that are text.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().filter_map(|(key, _)| key.as_text())
    }

    /// Checks the type of each claim that RFC 9711, and RFC 8392 and 7519 before it, define. Others are ignored.
    pub fn check(&self) -> Result<(), ClaimsError> {
        self.check_at(0)
    }

    fn check_at(&self, depth: usize) -> Result<(), ClaimsError> {
        if depth > MAX_NESTING {
            return Err(ClaimsError::malformed("submodules nested too deeply"));
        }
        for (key, _) in &self.members {
            if !matches!(key, Value::Text(_) | Value::Integer(_)) {
                return Err(ClaimsError::malformed(
                    "a claim that is named neither by text nor by a number",
                ));
            }
        }
        for (label, name, kind) in CLAIMS {
            let Some(value) = self.get(*label, name) else {
                continue;
            };
            if !kind.fits(value, self.form) {
                return Err(ClaimsError::invalid(name));
            }
        }
        match self.get(266, "submods") {
            None => Ok(()),
            Some(Value::Map(submodules)) if !submodules.is_empty() => {
                for (name, value) in submodules {
                    if name.as_text().is_none() {
                        return Err(ClaimsError::invalid("submods"));
                    }
                    self.check_submodule(value, depth)?;
                }
                Ok(())
            }
            Some(_) => Err(ClaimsError::invalid("submods")),
        }
    }

    fn check_submodule(&self, value: &Value, depth: usize) -> Result<(), ClaimsError> {
        let fits = match (value, self.form) {
            (Value::Map(_), form) => {
                let nested = Self::of(form, value);
                return nested.map_or(Ok(()), |nested| nested.check_at(depth + 1));
            }
            // A nested token: in JSON by its selector, in CBOR as it is.
            (Value::Array(parts), Form::Json) => match parts.as_slice() {
                [Value::Text(kind), Value::Text(_)] => matches!(kind.as_str(), "JWT" | "CBOR" | "BUNDLE"),
                [Value::Text(kind), Value::Array(digest)] => {
                    kind == "DIGEST" && is_digest(digest, Form::Json)
                }
                _ => false,
            },
            (Value::Array(parts), Form::Cbor) => match parts.as_slice() {
                [Value::Text(kind), Value::Text(_) | Value::Bytes(_)] if kind == "JSON" || kind == "JWT" => {
                    true
                }
                digest => is_digest(digest, Form::Cbor),
            },
            (Value::Bytes(_) | Value::Text(_) | Value::Tag(..), Form::Cbor) => true,
            _ => false,
        };
        if fits {
            Ok(())
        } else {
            Err(ClaimsError::invalid("submods"))
        }
    }
}

/// Checks a document that is a claims set, or what RFC 9711 carries inside of one: a concise software identity.
pub fn check_document(bytes: &[u8]) -> Result<(), ClaimsError> {
    let value = decode(bytes)?;
    match &value {
        Value::Tag(tag, inner) if COSWID_TAGS.contains(tag) => {
            if is_software_identity(inner) {
                Ok(())
            } else {
                Err(ClaimsError::missing("a mandatory member of a software identity"))
            }
        }
        // An unprotected claims set (RFC 9781), or one under the tag of a CWT.
        Value::Tag(601 | 61, inner) => {
            let claims = ClaimsSet::of(Form::Cbor, inner).ok_or(ClaimsError::malformed("not a map"))?;
            claims.check()
        }
        // The mandatory members of a software identity, of which a claims set has none under these numbers.
        Value::Map(_) if is_software_identity(&value) => Ok(()),
        Value::Map(members) => ClaimsSet {
            form: Form::Cbor,
            members: members.clone(),
        }
        .check(),
        _ => Err(ClaimsError::malformed("not a map")),
    }
}

/// RFC 9393 section 2.3: tag-id (0), software-name (1), tag-version (12).
pub(crate) fn is_software_identity(value: &Value) -> bool {
    let has = |label: i64, fits: fn(&Value) -> bool| {
        let found = value
            .as_map()
            .into_iter()
            .flatten()
            .find(|(key, _)| *key == Value::from(label));
        found.is_some_and(|(_, value)| fits(value))
    };
    has(0, |value| value.is_text() || value.is_bytes())
        && has(1, Value::is_text)
        && has(12, Value::is_integer)
}

fn decode(bytes: &[u8]) -> Result<Value, ClaimsError> {
    if bytes.len() > MAX_CLAIMS {
        return Err(ClaimsError::malformed("over 1 MiB"));
    }
    let shape = shape(bytes).map_err(|_| ClaimsError::malformed("not CBOR"))?;
    if shape.duplicate_key {
        return Err(ClaimsError {
            reason: Reason::DuplicateMember,
            what: "a claim is there twice".to_owned(),
        });
    }
    ciborium::from_reader(bytes).map_err(|_| ClaimsError::malformed("not CBOR"))
}

/// Below this every whole number is exact (2^53).
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// A whole number that a float holds exactly.
fn whole(number: f64) -> Value {
    // Its digits are those of the integer.
    let digits = format!("{number:.0}");
    digits.parse::<i64>().map_or(Value::Float(number), Value::from)
}

/// JSON as the same kind of value that CBOR is.
fn turned(value: &Json) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), ..) => Value::from(number),
            (_, Some(number), _) => Value::from(number),
            // JSON has one kind of number: 1.6e9 is a whole one.
            (.., Some(number)) if number.fract() == 0.0 && number.abs() < WHOLE => whole(number),
            (.., number) => Value::Float(number.unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => Value::Array(items.iter().map(turned).collect()),
        Json::Object(members) => Value::Map(
            members
                .iter()
                .map(|(name, value)| (Value::Text(name.clone()), turned(value)))
                .collect(),
        ),
    }
}
