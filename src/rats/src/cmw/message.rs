//! A wrapper of whatever form.

use ciborium::{Value, value::Integer};
use serde_json::Value as Json;
use touchmark_crypto::{cbor::shape, der, jose::b64u_decode};

/// Largest wrapper, in bytes.
pub const MAX_CMW: usize = 1024 * 1024;
/// Deepest nesting of collections, and most members of one.
const MAX_NESTING: usize = 4;
const MAX_MEMBERS: usize = 32;
/// Tag numbers that stand for content formats 0 to 65024 (section 3.2, TN()), and where they begin.
const TAGS: std::ops::RangeInclusive<u64> = 1_668_546_817..=1_668_612_095;
/// The member that names a collection's type.
const COLLECTION_TYPE: &str = "__cmwc_t";
/// The bits that an indicator may have: reference values, endorsements, evidence, results, appraisal policy.
const INDICATORS: u64 = 0x1f;

/// Why bytes are no wrapper.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CmwError {
    /// Not JSON or CBOR, or not the structure.
    #[error("not a conceptual message wrapper: {0}")]
    Malformed(&'static str),
    /// A member of a collection that is there twice.
    #[error("a member is there twice")]
    Duplicate,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// A media type.
    Media(String),
    /// A CoAP content format.
    Format(u16),
    /// A tag number, which stands for a content format.
    Tag(u64),
}

/// The name of a member of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    /// Text.
    Text(String),
    /// A number; in CBOR only.
    Number(i128),
}

/// A wrapper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cmw {
    /// One message.
    Message {
        /// What it is.
        kind: Type,
        /// The message.
        value: Vec<u8>,
        /// Which kinds of conceptual message it is.
        indicator: Option<u32>,
    },
    /// Several.
    Collection {
        /// What the collection is, a URI or an OID.
        kind: Option<String>,
        /// The members, in their order.
        members: Vec<(Member, Cmw)>,
    },
}

const NOT_RECORD: CmwError = CmwError::Malformed("a record is [type, value] or [type, value, indicator]");

impl Cmw {
    /// Reads a wrapper, whose form its first byte tells (section 3.4).
    pub fn parse(bytes: &[u8]) -> Result<Self, CmwError> {
        match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'[' | b'{') => Self::from_json(bytes),
            _ => Self::from_cbor(bytes),
        }
    }

    /// Reads the JSON form.
    pub fn from_json(bytes: &[u8]) -> Result<Self, CmwError> {
        if bytes.len() > MAX_CMW {
            return Err(CmwError::Malformed("over 1 MiB"));
        }
        // Objects at any depth must not have a member twice, and only the strict reader looks; it wants an object at the top.
        let wrapped = [br#"{"cmw":"#, bytes, b"}"].concat();
        let object = touchmark_crypto::jose::json::object(&wrapped).map_err(|error| match error {
            touchmark_crypto::CryptoError::DuplicateMember(_) => CmwError::Duplicate,
            _ => CmwError::Malformed("not JSON"),
        })?;
        match (object.len(), object.get("cmw")) {
            (1, Some(value)) => json(value, 0),
            _ => Err(CmwError::Malformed("not JSON")),
        }
    }

    /// Reads the CBOR form, with nothing after it.
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, CmwError> {
        if bytes.len() > MAX_CMW {
            return Err(CmwError::Malformed("over 1 MiB"));
        }
        let shape = shape(bytes).map_err(|_| CmwError::Malformed("not CBOR"))?;
        if shape.duplicate_key {
            return Err(CmwError::Duplicate);
        }
        let value: Value = ciborium::from_reader(bytes).map_err(|_| CmwError::Malformed("not CBOR"))?;
        cbor(value, 0)
    }
}

impl Cmw {
    /// The CBOR form.
    pub fn to_cbor(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // Writing into memory does not fail.
        let _ = ciborium::into_writer(&self.value(), &mut out);
        out
    }

    fn value(&self) -> Value {
        match self {
            Self::Message {
                kind: Type::Tag(number),
                value,
                ..
            } => Value::Tag(*number, Box::new(Value::Bytes(value.clone()))),
            Self::Message {
                kind,
                value,
                indicator,
            } => {
                let kind = match kind {
                    Type::Media(media) => Value::Text(media.clone()),
                    Type::Format(format) => Value::Integer((*format).into()),
                    Type::Tag(number) => Value::Integer((*number).into()),
                };
                let indicator = indicator.map(|bits| Value::Integer(bits.into()));
                Value::Array(
                    [kind, Value::Bytes(value.clone())]
                        .into_iter()
                        .chain(indicator)
                        .collect(),
                )
            }
            Self::Collection { kind, members } => {
                let kind = kind
                    .iter()
                    .map(|kind| (Value::Text(COLLECTION_TYPE.to_owned()), Value::Text(kind.clone())));
                let members = members.iter().map(|(name, member)| {
                    let name = match name {
                        Member::Text(name) => Value::Text(name.clone()),
                        // A number that CBOR does not have was not read from any.
                        Member::Number(number) => {
                            Integer::try_from(*number).map_or(Value::Null, Value::Integer)
                        }
                    };
                    (name, member.value())
                });
                Value::Map(kind.chain(members).collect())
            }
        }
    }
}

/// The extension of a certificate that holds a wrapper.
pub const EXTENSION: &str = "1.3.6.1.5.5.7.1.35";

/// The wrapper in an [`EXTENSION`] of a certificate: a UTF8String with the JSON form, or an OCTET STRING with the CBOR form.
pub fn read_extension(value: &[u8]) -> Result<Cmw, CmwError> {
    if let Some(text) = der::contents(0x0c, value) {
        return Cmw::from_json(text);
    }
    match der::contents(0x04, value) {
        Some(bytes) => Cmw::from_cbor(bytes),
        None => Err(CmwError::Malformed("neither a UTF8String nor an OCTET STRING")),
    }
}

fn json(value: &Json, depth: usize) -> Result<Cmw, CmwError> {
    match value {
        Json::Array(parts) => {
            let (kind, value, indicator) = match parts.as_slice() {
                [kind, value] => (kind, value, None),
                [kind, value, indicator] => (kind, value, Some(indicator)),
                _ => return Err(NOT_RECORD),
            };
            let kind = match kind {
                Json::String(media) => media_type(media)?,
                Json::Number(format) => content_format(format.as_u64())?,
                _ => return Err(CmwError::Malformed("a type is a media type or a content format")),
            };
            let value = value
                .as_str()
                .filter(|text| !text.is_empty())
                .ok_or(CmwError::Malformed("a value is base64url"))?;
            let value = b64u_decode(value).map_err(|_| CmwError::Malformed("a value is base64url"))?;
            let indicator = indicator.map(|bits| self::indicator(bits.as_u64())).transpose()?;
            Ok(Cmw::Message {
                kind,
                value,
                indicator,
            })
        }
        Json::Object(members) => {
            let mut kind = None;
            let mut out = Vec::new();
            check_size(members.len(), depth)?;
            for (name, value) in members {
                if name == COLLECTION_TYPE {
                    kind = Some(collection_type(value.as_str())?);
                } else {
                    out.push((named(name)?, json(value, depth + 1)?));
                }
            }
            collection(kind, out)
        }
        _ => Err(CmwError::Malformed("neither an array nor an object")),
    }
}

fn cbor(value: Value, depth: usize) -> Result<Cmw, CmwError> {
    match value {
        Value::Array(parts) => {
            let mut parts = parts.into_iter();
            let (Some(kind), Some(value), indicator, None) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            else {
                return Err(NOT_RECORD);
            };
            let kind = match kind {
                Value::Text(media) => media_type(&media)?,
                Value::Integer(format) => content_format(u64::try_from(format).ok())?,
                _ => return Err(CmwError::Malformed("a type is a media type or a content format")),
            };
            let Value::Bytes(value) = value else {
                return Err(CmwError::Malformed("a value is a byte string"));
            };
            let indicator = match indicator {
                None => None,
                Some(Value::Integer(bits)) => Some(self::indicator(u64::try_from(bits).ok())?),
                Some(_) => return Err(CmwError::Malformed("an indicator is a number")),
            };
            Ok(Cmw::Message {
                kind,
                value,
                indicator,
            })
        }
        Value::Tag(number, value) => {
            let Value::Bytes(value) = *value else {
                return Err(CmwError::Malformed("a tagged value is a byte string"));
            };
            if !TAGS.contains(&number) {
                return Err(CmwError::Malformed("a tag that stands for no content format"));
            }
            Ok(Cmw::Message {
                kind: Type::Tag(number),
                value,
                indicator: None,
            })
        }
        Value::Map(members) => {
            check_size(members.len(), depth)?;
            let mut kind = None;
            let mut out = Vec::new();
            for (name, value) in members {
                match name {
                    Value::Text(name) if name == COLLECTION_TYPE => {
                        kind = Some(collection_type(value.as_text())?);
                    }
                    Value::Text(name) => out.push((named(&name)?, cbor(value, depth + 1)?)),
                    Value::Integer(number) => {
                        out.push((Member::Number(number.into()), cbor(value, depth + 1)?));
                    }
                    _ => return Err(CmwError::Malformed("a member is named by text or a number")),
                }
            }
            collection(kind, out)
        }
        _ => Err(CmwError::Malformed("neither an array, nor a map, nor a tag")),
    }
}

fn check_size(members: usize, depth: usize) -> Result<(), CmwError> {
    if depth >= MAX_NESTING {
        return Err(CmwError::Malformed("collections nested too deeply"));
    }
    if members > MAX_MEMBERS {
        return Err(CmwError::Malformed("too many members"));
    }
    Ok(())
}

fn collection(kind: Option<String>, members: Vec<(Member, Cmw)>) -> Result<Cmw, CmwError> {
    if members.is_empty() {
        return Err(CmwError::Malformed("an empty collection"));
    }
    Ok(Cmw::Collection { kind, members })
}

/// A member's name, which says something.
fn named(name: &str) -> Result<Member, CmwError> {
    if name.trim().is_empty() {
        return Err(CmwError::Malformed("a member without a name"));
    }
    Ok(Member::Text(name.to_owned()))
}

/// type "/" subtype, both restricted names (RFC 6838 section 4.2), and parameters; or a name of the draft's own, which begins with "#".
fn media_type(media: &str) -> Result<Type, CmwError> {
    let restricted = |name: &str| {
        let mut letters = name.chars();
        letters.next().is_some_and(|c| c.is_ascii_alphanumeric())
            && letters.all(|c| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c))
            && name.len() <= 127
    };
    let printable = media.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    let (essence, parameters) = media.split_once(';').unwrap_or((media, "a=b"));
    let names = essence
        .trim_end()
        .split_once('/')
        .is_some_and(|(kind, subtype)| restricted(kind) && restricted(subtype));
    let own = media
        .strip_prefix('#')
        .is_some_and(|name| !name.is_empty() && !name.contains(' '));
    if printable && (own || names && parameters.contains('=')) {
        Ok(Type::Media(media.to_owned()))
    } else {
        Err(CmwError::Malformed("a media type"))
    }
}

fn content_format(number: Option<u64>) -> Result<Type, CmwError> {
    let number = number.and_then(|number| u16::try_from(number).ok());
    number
        .map(Type::Format)
        .ok_or(CmwError::Malformed("a content format is a number up to 65535"))
}

fn indicator(bits: Option<u64>) -> Result<u32, CmwError> {
    bits.filter(|bits| *bits != 0 && bits & !INDICATORS == 0)
        .and_then(|bits| u32::try_from(bits).ok())
        .ok_or(CmwError::Malformed("an indicator has at least one of five bits"))
}

/// A URI, or an object identifier in dotted form.
fn collection_type(text: Option<&str>) -> Result<String, CmwError> {
    let text = text.ok_or(CmwError::Malformed("a collection's type is text"))?;
    let scheme = text.split_once(':').map(|(scheme, rest)| {
        let mut letters = scheme.chars();
        letters.next().is_some_and(|c| c.is_ascii_alphabetic())
            && letters.all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
            && !rest.is_empty()
            && rest.chars().all(|c| c.is_ascii_graphic())
    });
    let mut arcs = text.split('.');
    let oid = arcs.next().is_some_and(|root| ["0", "1", "2"].contains(&root))
        && arcs.all(|arc| {
            let digits = !arc.is_empty() && arc.bytes().all(|digit| digit.is_ascii_digit());
            digits && (arc == "0" || !arc.starts_with('0'))
        });
    if scheme == Some(true) || oid {
        Ok(text.to_owned())
    } else {
        Err(CmwError::Malformed(
            "a collection's type is a URI or an object identifier",
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message() -> impl Strategy<Value = Cmw> {
        let kind = prop_oneof![
            "[a-z]{1,9}/[a-z][a-z.+]{0,20}(; [a-z]=\"[a-z:]{1,9}\")?".prop_map(Type::Media),
            (0_u16..=65_024).prop_map(Type::Format),
            TAGS.prop_map(Type::Tag),
        ];
        let value = prop::collection::vec(any::<u8>(), 1..60);
        (kind, value, prop::option::of(1_u32..=0x1f)).prop_map(|(kind, value, indicator)| Cmw::Message {
            // A tag has no room for one.
            indicator: indicator.filter(|_| !matches!(kind, Type::Tag(_))),
            kind,
            value,
        })
    }

    fn wrapper() -> impl Strategy<Value = Cmw> {
        message().prop_recursive(3, 24, 5, |inner| {
            let name = prop_oneof![
                "[a-z][a-z ]{0,11}".prop_map(Member::Text),
                any::<i64>().prop_map(|number| Member::Number(number.into())),
                any::<u64>().prop_map(|number| Member::Number(number.into())),
            ];
            let kind = prop::option::of("[a-z]{2,6}:[a-z0-9,/-]{1,20}");
            let members = prop::collection::vec((name, inner), 1..5).prop_map(|members| {
                let mut seen = Vec::new();
                let fresh = |(name, _): &(Member, Cmw)| {
                    let new = !seen.contains(name);
                    seen.push(name.clone());
                    new
                };
                members.into_iter().filter(fresh).collect()
            });
            (kind, members).prop_map(|(kind, members)| Cmw::Collection { kind, members })
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(cmw in wrapper()) {
            prop_assert_eq!(Cmw::parse(&cmw.to_cbor()), Ok(cmw));
        }

        #[test]
        fn what_is_cut_short_is_not(cmw in wrapper(), at in any::<prop::sample::Index>()) {
            let bytes = cmw.to_cbor();
            prop_assert!(Cmw::from_cbor(&bytes[..at.index(bytes.len())]).is_err());
        }
    }
}
