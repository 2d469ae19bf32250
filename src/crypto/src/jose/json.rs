//! JSON objects with no member twice and within limits.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::CryptoError;

/// Deepest nesting accepted.
pub const MAX_DEPTH: usize = 16;
/// Most members and elements accepted in a document.
pub const MAX_MEMBERS: usize = 256;

/// Parses one JSON object: UTF-8, an object at the top, no duplicate member at any depth, at most [`MAX_DEPTH`] levels
/// and [`MAX_MEMBERS`] members, nothing after it.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, CryptoError> {
    object_within(bytes, MAX_MEMBERS)
}

/// The same with another limit on the number of members: attestation results list what was found.
pub fn object_within(bytes: &[u8], max_members: usize) -> Result<Map<String, Value>, CryptoError> {
    let mut state = State {
        members: 0,
        max_members,
        failure: None,
    };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = Node {
        state: &mut state,
        depth: 0,
    }
    .deserialize(&mut deserializer)
    .and_then(|value| deserializer.end().map(|()| value));
    match (parsed, state.failure) {
        (_, Some(failure)) => Err(failure),
        (Ok(Value::Object(map)), None) => Ok(map),
        _ => Err(CryptoError::Malformed("JSON object")),
    }
}

struct State {
    members: usize,
    max_members: usize,
    failure: Option<CryptoError>,
}

struct Node<'a> {
    state: &'a mut State,
    depth: usize,
}

impl Node<'_> {
    fn fail<E: Error>(&mut self, failure: CryptoError) -> E {
        self.state.failure.get_or_insert(failure);
        E::custom("refused")
    }

    fn count<E: Error>(&mut self) -> Result<(), E> {
        self.state.members += 1;
        if self.state.members > self.state.max_members {
            return Err(self.fail(CryptoError::JsonLimit("members")));
        }
        Ok(())
    }

    fn deeper<E: Error>(&mut self) -> Result<usize, E> {
        if self.depth >= MAX_DEPTH {
            return Err(self.fail(CryptoError::JsonLimit("depth")));
        }
        Ok(self.depth + 1)
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(Node {
            state: self.state,
            depth,
        })? {
            self.count()?;
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut map = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            self.count()?;
            if map.contains_key(&name) {
                return Err(self.fail(CryptoError::DuplicateMember(name)));
            }
            let value = access.next_value_seed(Node {
                state: self.state,
                depth,
            })?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_twice_is_refused_at_any_depth() {
        assert_eq!(
            object(br#"{"a":1,"a":1}"#),
            Err(CryptoError::DuplicateMember("a".into()))
        );
        assert_eq!(
            object(br#"{"b":[{"a":1,"a":1}]}"#),
            Err(CryptoError::DuplicateMember("a".into()))
        );
        assert!(object(br#"{"a":{"a":1}}"#).is_ok());
    }

    #[test]
    fn depth_members_and_trailing_bytes_are_limited() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(17), "]".repeat(17));
        assert_eq!(object(deep.as_bytes()), Err(CryptoError::JsonLimit("depth")));
        let wide = format!("{{\"a\":[{}1]}}", "1,".repeat(300));
        assert_eq!(object(wide.as_bytes()), Err(CryptoError::JsonLimit("members")));
        assert!(object(b"{} {}").is_err());
        assert!(object(b"[]").is_err());
    }
}
