//! CBOR as the wire uses it: structs as maps with text names, no unknown and no duplicate member, nothing after.

use serde::{Serialize, de::DeserializeOwned};

/// Why bytes are not the message they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// Larger than the limit.
    #[error("{found} bytes where at most {limit} are accepted")]
    Oversized {
        /// The limit in bytes.
        limit: usize,
        /// The size found.
        found: usize,
    },
    /// Not the CBOR that was expected; the text comes from the decoder and names the member where it can.
    #[error("{0}")]
    Malformed(String),
}

/// Encodes a message. Structs encode in the order of their members, integers minimally, lengths definite.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let mut out = Vec::new();
    // Writing to memory cannot fail, and none of our messages has a Serialize that refuses.
    let _ = ciborium::into_writer(message, &mut out);
    out
}

/// Decodes a message of at most `limit` bytes.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, CborError> {
    if bytes.len() > limit {
        return Err(CborError::Oversized {
            limit,
            found: bytes.len(),
        });
    }
    let mut rest = bytes;
    let message = ciborium::de::from_reader_with_recursion_limit(&mut rest, MAX_DEPTH)
        .map_err(|error| CborError::Malformed(describe(&error)))?;
    if !rest.is_empty() {
        return Err(CborError::Malformed(format!(
            "{} bytes after the message",
            rest.len()
        )));
    }
    Ok(message)
}

/// Deepest nesting accepted.
const MAX_DEPTH: usize = 16;

fn describe(error: &ciborium::de::Error<std::io::Error>) -> String {
    match error {
        ciborium::de::Error::Io(_) => "ends too early".to_owned(),
        ciborium::de::Error::Syntax(at) => format!("not CBOR at byte {at}"),
        ciborium::de::Error::Semantic(_, message) => message.clone(),
        ciborium::de::Error::RecursionLimitExceeded => "nested too deeply".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Message {
        a: u32,
        #[serde(with = "serde_bytes")]
        b: Vec<u8>,
    }

    #[test]
    fn a_message_reads_back_and_hostile_variants_do_not() {
        let message = Message { a: 5, b: vec![1, 2] };
        let bytes = encode(&message);
        assert_eq!(decode::<Message>(&bytes, 100).unwrap(), message);
        assert_eq!(
            decode::<Message>(&bytes, 3),
            Err(CborError::Oversized {
                limit: 3,
                found: bytes.len()
            })
        );
        let refused = |bytes: &[u8]| decode::<Message>(bytes, 100).unwrap_err().to_string();
        assert!(refused(&bytes[..bytes.len() - 1]).contains("early"));
        assert!(refused(&[&bytes[..], &[0]].concat()).contains("after"));
        // {"a": 5, "a": 5, "b": h'00'} and {"a": 5, "b": h'00', "c": 1}
        assert!(
            refused(&hex::decode("a3616105616105616241 00".replace(' ', "")).unwrap()).contains("duplicate")
        );
        assert!(
            refused(&hex::decode("a3616105616241006163 01".replace(' ', "")).unwrap()).contains("unknown")
        );
        assert!(
            decode::<ciborium::Value>(&[0x9f; 64], 100)
                .unwrap_err()
                .to_string()
                .contains("nested")
        );
    }
}
