//! Records with a media type: in CBOR for evidence on the wire, in JSON for attestation results inside credentials.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::cbor::{self, CborError};

/// `ind` bit for evidence.
pub const IND_EVIDENCE: u32 = 1 << 2;
/// `ind` bit for attestation results.
pub const IND_RESULTS: u32 = 1 << 3;

/// A CMW record with a media type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The media type of the value.
    pub media_type: String,
    /// The wrapped message.
    pub value: Vec<u8>,
    /// Which kinds of conceptual message it is.
    pub indicator: Option<u32>,
}

impl Record {
    /// Evidence of this media type.
    pub fn evidence(media_type: &str, value: Vec<u8>) -> Self {
        Self {
            media_type: media_type.to_owned(),
            value,
            indicator: Some(IND_EVIDENCE),
        }
    }

    /// The CBOR form: `[type, value, ?ind]`.
    pub fn to_cbor(&self) -> Vec<u8> {
        let value = serde_bytes::Bytes::new(&self.value);
        match self.indicator {
            Some(indicator) => cbor::encode(&(&self.media_type, value, indicator)),
            None => cbor::encode(&(&self.media_type, value)),
        }
    }

    /// Reads the CBOR form. An indicator of zero is refused, as is a record that is neither two nor three long.
    pub fn from_cbor(bytes: &[u8], limit: usize) -> Result<Self, CborError> {
        let (media_type, value, indicator) = match cbor::decode::<Wire>(bytes, limit)? {
            Wire::Three(media_type, value, indicator) => (media_type, value, Some(indicator)),
            Wire::Two(media_type, value) => (media_type, value, None),
        };
        if indicator == Some(0) {
            return Err(CborError::Malformed("CMW indicator is zero".to_owned()));
        }
        Ok(Self {
            media_type,
            value: value.into_vec(),
            indicator,
        })
    }

    /// Reads the JSON form.
    pub fn from_json(value: &serde_json::Value) -> Option<Self> {
        let (media_type, value, indicator) = match value.as_array()?.as_slice() {
            [media_type, value] => (media_type, value, None),
            [media_type, value, indicator] => (media_type, value, Some(indicator)),
            _ => return None,
        };
        let indicator = match indicator {
            None => None,
            Some(indicator) => Some(
                indicator
                    .as_u64()
                    .and_then(|bits| u32::try_from(bits).ok())
                    .filter(|bits| *bits != 0)?,
            ),
        };
        Some(Self {
            media_type: media_type.as_str()?.to_owned(),
            value: touchmark_crypto::jose::b64u_decode(value.as_str()?).ok()?,
            indicator,
        })
    }

    /// The JSON form: `["type", "base64url value"]`, with the indicator where there is one.
    pub fn to_json(&self) -> serde_json::Value {
        let value = touchmark_crypto::jose::b64u(&self.value);
        match self.indicator {
            Some(indicator) => serde_json::json!([self.media_type, value, indicator]),
            None => serde_json::json!([self.media_type, value]),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Wire {
    Three(String, ByteBuf, u32),
    Two(String, ByteBuf),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back() {
        let record = Record::evidence("application/x", vec![1, 2, 3]);
        let bytes = record.to_cbor();
        assert_eq!(bytes[0], 0x83);
        assert_eq!(Record::from_cbor(&bytes, 100).unwrap(), record);
        let short = Record {
            indicator: None,
            ..record.clone()
        };
        assert_eq!(Record::from_cbor(&short.to_cbor(), 100).unwrap(), short);
        assert!(Record::from_cbor(&[0x81, 0x61, 0x78], 100).is_err());
        assert_eq!(Record::from_json(&record.to_json()).unwrap(), record);
        assert_eq!(Record::from_json(&short.to_json()).unwrap(), short);
        for wrong in [
            r#"["a"]"#,
            r#"["a", 1]"#,
            r#"["a", "AA", 0]"#,
            r#"["a", "A"]"#,
            "{}",
        ] {
            assert!(
                Record::from_json(&serde_json::from_str(wrong).unwrap()).is_none(),
                "{wrong}"
            );
        }
    }
}
