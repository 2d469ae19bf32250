//! Members of maps with numbers as keys, and the types that several of them share.

use ciborium::Value;

use crate::eat::ClaimsError;

/// A map whose keys are numbers (members of extensions may be named by text).
#[derive(Clone, Copy)]
pub(super) struct Members<'a> {
    what: &'static str,
    members: &'a [(Value, Value)],
}

impl<'a> Members<'a> {
    pub(super) fn of(value: &'a Value, what: &'static str) -> Result<Self, ClaimsError> {
        let members = value
            .as_map()
            .ok_or_else(|| ClaimsError::malformed(&format!("{what} is not a map")))?;
        if members
            .iter()
            .any(|(key, _)| !matches!(key, Value::Integer(_) | Value::Text(_)))
        {
            return Err(ClaimsError::malformed(&format!(
                "{what} has a member of another name"
            )));
        }
        Ok(Self { what, members })
    }

    /// The same, with at least one member.
    pub(super) fn some(value: &'a Value, what: &'static str) -> Result<Self, ClaimsError> {
        let members = Self::of(value, what)?;
        if members.members.is_empty() {
            return Err(ClaimsError::missing(what));
        }
        Ok(members)
    }

    /// Whether there are members of other keys than these.
    pub(super) fn has_others(&self, keys: &[i64]) -> bool {
        let known: Vec<Value> = keys.iter().map(|key| Value::from(*key)).collect();
        self.members.iter().any(|(key, _)| !known.contains(key))
    }

    pub(super) fn get(&self, key: i64) -> Option<&'a Value> {
        self.members
            .iter()
            .find(|(found, _)| *found == Value::from(key))
            .map(|(_, value)| value)
    }

    pub(super) fn required(&self, key: i64, name: &'static str) -> Result<&'a Value, ClaimsError> {
        self.get(key)
            .ok_or_else(|| ClaimsError::missing(&format!("{name} of {}", self.what)))
    }

    /// A member that has to fit if it is there.
    pub(super) fn check(
        &self,
        key: i64,
        name: &'static str,
        fits: impl FnOnce(&Value) -> bool,
    ) -> Result<(), ClaimsError> {
        match self.get(key) {
            Some(value) if !fits(value) => Err(invalid(name)),
            _ => Ok(()),
        }
    }

    pub(super) fn text(&self, key: i64, name: &'static str) -> Result<Option<String>, ClaimsError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text.clone())),
            Some(_) => Err(invalid(name)),
        }
    }

    pub(super) fn unsigned(&self, key: i64, name: &'static str) -> Result<Option<u64>, ClaimsError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Integer(number)) => u64::try_from(*number).map(Some).map_err(|_| invalid(name)),
            Some(_) => Err(invalid(name)),
        }
    }
}

pub(super) fn invalid(name: &str) -> ClaimsError {
    ClaimsError::invalid(name)
}

/// A list with at least one element.
pub(super) fn list<'a>(value: &'a Value, name: &'static str) -> Result<&'a [Value], ClaimsError> {
    match value.as_array() {
        Some(items) if !items.is_empty() => Ok(items),
        _ => Err(invalid(name)),
    }
}

/// Text, or a UUID of 16 bytes, bare or under its tag.
pub(super) fn identifier(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) if !text.is_empty() => Some(text.clone()),
        Value::Bytes(bytes) if bytes.len() == 16 => Some(hex::encode(bytes)),
        Value::Tag(37, inner) => identifier(inner).filter(|_| inner.is_bytes()),
        _ => None,
    }
}

/// A URI, bare or under its tag.
pub(super) fn uri(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) if !text.is_empty() => Some(text),
        Value::Tag(32, inner) => inner.as_text().filter(|text| !text.is_empty()),
        _ => None,
    }
}

/// A URI or an object identifier.
pub(super) fn profile(value: &Value) -> Option<String> {
    match value {
        Value::Tag(111, inner) => Some(format!("oid:{}", hex::encode(inner.as_bytes()?))),
        value => uri(value).map(str::to_owned),
    }
}

/// Seconds since the epoch, bare or under their tag.
pub(super) fn time(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(seconds) => i64::try_from(*seconds).ok(),
        Value::Tag(1, inner) => match inner.as_ref() {
            Value::Float(seconds) if seconds.is_finite() => format!("{:.0}", seconds.floor()).parse().ok(),
            inner => time(inner),
        },
        _ => None,
    }
}

/// [algorithm, digest].
pub(super) fn digest(value: &Value) -> Option<(Algorithm, Vec<u8>)> {
    match value.as_array()?.as_slice() {
        [alg, Value::Bytes(digest)] if !digest.is_empty() => {
            let alg = match alg {
                Value::Integer(number) => Algorithm::Number(i64::try_from(*number).ok()?),
                Value::Text(name) => Algorithm::Name(name.clone()),
                _ => return None,
            };
            Some((alg, digest.clone()))
        }
        _ => None,
    }
}

/// A hash algorithm of the Named Information registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Algorithm {
    Number(i64),
    Name(String),
}

/// An entity: name, registry, roles.
pub(super) fn entities(value: &Value) -> Result<(), ClaimsError> {
    for entity in list(value, "entities")? {
        let entity = Members::of(entity, "entity")?;
        if !entity.required(0, "name")?.is_text() {
            return Err(invalid("name of entity"));
        }
        entity.check(1, "registry of entity", |value| uri(value).is_some())?;
        let roles = list(entity.required(2, "roles")?, "roles of entity")?;
        if !roles.iter().all(|role| role.is_integer() || role.is_text()) {
            return Err(invalid("roles of entity"));
        }
    }
    Ok(())
}
