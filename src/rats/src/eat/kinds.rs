//! The types of claims (RFC 9711, appendix A, and RFC 8392 and 7519 before it).

use ciborium::Value;

use super::{ClaimsSet, Form};

/// The types of claims.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// StringOrURI, or any text.
    Text,
    /// One text, or a list of them.
    Audience,
    /// Seconds since the epoch, whole.
    Time,
    Unsigned,
    Bool,
    /// Bytes of a length in this range.
    Bytes(usize, usize),
    Nonce,
    /// Names to universal identifiers.
    Identifiers,
    /// Who made it: a random identifier, one of the IEEE, or a private enterprise number.
    Maker,
    /// Version, and by which scheme.
    Version,
    DebugStatus,
    IntendedUse,
    /// A URI or an object identifier.
    Profile,
    /// Latitude and longitude, and more.
    Location,
    /// Where digital letters of approval are.
    Approvals,
    /// Results of measurements by the systems that made them.
    Results,
    /// A list of pairs of a content format and what is in it.
    Documents,
    /// An identifier of the token: bytes in CBOR, text in JSON.
    TokenId,
}

/// The claims that are defined: number in CBOR, name in JSON, type.
pub(super) const CLAIMS: &[(i64, &str, Kind)] = &[
    (1, "iss", Kind::Text),
    (2, "sub", Kind::Text),
    (3, "aud", Kind::Audience),
    (4, "exp", Kind::Time),
    (5, "nbf", Kind::Time),
    (6, "iat", Kind::Time),
    (7, "jti", Kind::TokenId),
    (10, "eat_nonce", Kind::Nonce),
    (256, "ueid", Kind::Bytes(7, 33)),
    (257, "sueids", Kind::Identifiers),
    (258, "oemid", Kind::Maker),
    (259, "hwmodel", Kind::Bytes(1, 32)),
    (260, "hwversion", Kind::Version),
    (261, "uptime", Kind::Unsigned),
    (262, "oemboot", Kind::Bool),
    (263, "dbgstat", Kind::DebugStatus),
    (264, "location", Kind::Location),
    (265, "eat_profile", Kind::Profile),
    (267, "bootcount", Kind::Unsigned),
    (268, "bootseed", Kind::Bytes(0, usize::MAX)),
    (269, "dloas", Kind::Approvals),
    (270, "swname", Kind::Text),
    (271, "swversion", Kind::Version),
    (272, "manifests", Kind::Documents),
    (273, "measurements", Kind::Documents),
    (274, "measres", Kind::Results),
    (275, "intuse", Kind::IntendedUse),
];

impl Kind {
    pub(super) fn fits(self, value: &Value, form: Form) -> bool {
        match self {
            Self::Text => value.is_text(),
            Self::Audience => match value {
                Value::Text(_) => true,
                Value::Array(list) => list.iter().all(Value::is_text),
                _ => false,
            },
            Self::Time => value.is_integer(),
            Self::Unsigned => value
                .as_integer()
                .is_some_and(|number| u64::try_from(number).is_ok()),
            Self::Bool => value.is_bool(),
            Self::Bytes(least, most) => {
                length(value, form).is_some_and(|length| (least..=most).contains(&length))
            }
            Self::Nonce => match value {
                Value::Array(list) => !list.is_empty() && list.iter().all(|one| is_nonce(one, form)),
                one => is_nonce(one, form),
            },
            Self::Identifiers => value.as_map().is_some_and(|members| {
                !members.is_empty()
                    && members
                        .iter()
                        .all(|(name, value)| name.is_text() && Self::Bytes(7, 33).fits(value, form))
            }),
            Self::Maker => match value {
                Value::Integer(number) => u64::try_from(*number).is_ok(),
                value => matches!(length(value, form), Some(3 | 16)),
            },
            Self::Version => match value.as_array().map(Vec::as_slice) {
                None => value.is_text(),
                Some([Value::Text(_)]) => true,
                Some([Value::Text(_), scheme]) => scheme.is_text() || scheme.is_integer(),
                _ => false,
            },
            Self::DebugStatus => enumerated(
                value,
                form,
                0,
                &[
                    "enabled",
                    "disabled",
                    "disabled-since-boot",
                    "disabled-permanently",
                    "disabled-fully-and-permanently",
                ],
            ),
            Self::IntendedUse => enumerated(
                value,
                form,
                1,
                &["generic", "registration", "provisioning", "csr", "pop"],
            ),
            Self::Profile => match (value, form) {
                (Value::Text(text), _) => !text.is_empty(),
                // An object identifier, bare or under its tag.
                (Value::Bytes(oid), Form::Cbor) => !oid.is_empty(),
                (Value::Tag(111, oid), Form::Cbor) => oid.is_bytes(),
                _ => false,
            },
            Self::Location => {
                let number = |value: &Value| value.is_integer() || value.is_float();
                let place = ClaimsSet::of(form, value);
                place.is_some_and(|place| {
                    [(1, "latitude"), (2, "longitude")]
                        .iter()
                        .all(|(label, name)| place.get(*label, name).is_some_and(number))
                })
            }
            Self::Approvals => all(value, |entry| {
                matches!(
                    entry.as_array().map(Vec::as_slice),
                    Some([Value::Text(_), Value::Text(_)] | [Value::Text(_), Value::Text(_), Value::Text(_)])
                )
            }),
            Self::Results => all(value, |group| match group.as_array().map(Vec::as_slice) {
                Some([Value::Text(_), results]) => all(results, |result| is_result(result, form)),
                _ => false,
            }),
            Self::Documents => all(value, |pair| match pair.as_array().map(Vec::as_slice) {
                Some([Value::Integer(format), body]) => {
                    u16::try_from(*format).is_ok() && length(body, form).is_some()
                }
                _ => false,
            }),
            Self::TokenId => match form {
                Form::Json => value.is_text(),
                Form::Cbor => value.is_bytes(),
            },
        }
    }
}

/// Whether a value is a list of at least one element, each of which fits.
fn all(value: &Value, fits: impl Fn(&Value) -> bool) -> bool {
    value
        .as_array()
        .is_some_and(|list| !list.is_empty() && list.iter().all(fits))
}

/// What was measured, and how it compares.
fn is_result(value: &Value, form: Form) -> bool {
    match value.as_array().map(Vec::as_slice) {
        Some([name, result]) => {
            (name.is_text() || name.is_bytes())
                && enumerated(result, form, 1, &["success", "fail", "not-run", "absent"])
        }
        _ => false,
    }
}

/// Bytes 8 to 64 in CBOR; in JSON text of 8 to 88 characters.
fn is_nonce(value: &Value, form: Form) -> bool {
    match (value, form) {
        (Value::Text(text), Form::Json) => (8..=88).contains(&text.len()),
        (Value::Bytes(bytes), Form::Cbor) => (8..=64).contains(&bytes.len()),
        _ => false,
    }
}

/// The length of a byte string. In JSON it is base64url; examples of the RFC pad it.
fn length(value: &Value, form: Form) -> Option<usize> {
    match (value, form) {
        (Value::Bytes(bytes), Form::Cbor) => Some(bytes.len()),
        (Value::Text(text), Form::Json) => bytes_of(text).map(|bytes| bytes.len()),
        _ => None,
    }
}

/// base64url, also where it is padded.
pub(crate) fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let bare = text.trim_end_matches('=');
    if text.len() - bare.len() > 2 {
        return None;
    }
    touchmark_crypto::jose::b64u_decode(bare).ok()
}

fn enumerated(value: &Value, form: Form, first: u64, names: &[&str]) -> bool {
    match (value, form) {
        (Value::Text(name), Form::Json) => names.contains(&name.as_str()),
        (Value::Integer(number), Form::Cbor) => u64::try_from(*number)
            .ok()
            .and_then(|number| number.checked_sub(first))
            .and_then(|at| usize::try_from(at).ok())
            .is_some_and(|at| at < names.len()),
        _ => false,
    }
}

/// [algorithm, digest].
pub(super) fn is_digest(parts: &[Value], form: Form) -> bool {
    match parts {
        [alg, digest] => {
            (alg.is_integer() || alg.is_text()) && length(digest, form).is_some_and(|length| length > 0)
        }
        _ => false,
    }
}
