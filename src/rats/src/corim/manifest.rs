//! corim-map: the manifest around tags.

use ciborium::Value;
use touchmark_crypto::cbor::shape;

use super::{
    MAX_CORIM,
    comid::{Comid, comid},
    member::{Members, digest, entities, identifier, invalid, list, profile, time, uri},
};
use crate::{Reason, eat::ClaimsError};

/// Tag numbers: a manifest, and what it may hold.
const CORIM: u64 = 501;
const COSWID: u64 = 505;
const COMID: u64 = 506;
const COTL: u64 = 508;

/// A manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Corim {
    /// Its identifier.
    pub id: String,
    /// Whose rules it follows beyond the draft's, a URI or `oid:` with an object identifier in hexadecimal.
    pub profile: Option<String>,
    /// When it begins to hold and when it ends, seconds since the epoch.
    pub validity: Option<(Option<i64>, i64)>,
    /// What it holds.
    pub tags: Vec<Tag>,
}

/// What a manifest holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Tag {
    /// Statements on modules.
    Comid(Comid),
    /// A software identity; not read further.
    Coswid,
    /// A list of tags; not read further.
    Cotl,
}

/// Reads an unsigned manifest, under its tag, with nothing after it.
pub fn read_corim(bytes: &[u8]) -> Result<Corim, ClaimsError> {
    match decode(bytes)? {
        Value::Tag(CORIM, inner) => corim(&inner),
        Value::Tag(..) => Err(wrong_tag("a manifest")),
        _ => Err(ClaimsError::malformed("not tagged as a manifest")),
    }
}

/// Decodes one CBOR item within limits, no key twice.
pub(super) fn decode(bytes: &[u8]) -> Result<Value, ClaimsError> {
    if bytes.len() > MAX_CORIM {
        return Err(ClaimsError::malformed("over 4 MiB"));
    }
    let shape = shape(bytes).map_err(|_| ClaimsError::malformed("not CBOR"))?;
    if shape.duplicate_key {
        return Err(ClaimsError {
            reason: Reason::DuplicateMember,
            what: "a member is there twice".to_owned(),
        });
    }
    ciborium::from_reader(bytes).map_err(|_| ClaimsError::malformed("not CBOR"))
}

pub(super) fn wrong_tag(what: &str) -> ClaimsError {
    ClaimsError {
        reason: Reason::WrongType,
        what: format!("not tagged as {what}"),
    }
}

fn corim(value: &Value) -> Result<Corim, ClaimsError> {
    let members = Members::of(value, "manifest")?;
    let id = identifier(members.required(0, "id")?).ok_or_else(|| invalid("id of manifest"))?;
    let tags = list(members.required(1, "tags")?, "tags of manifest")?;
    let tags = tags.iter().map(tag).collect::<Result<_, _>>()?;
    if let Some(dependent) = members.get(2) {
        for locator in list(dependent, "dependent manifests")? {
            let locator = Members::of(locator, "locator")?;
            let at = locator.required(0, "href")?;
            let fits = match at.as_array() {
                Some(several) => !several.is_empty() && several.iter().all(|one| uri(one).is_some()),
                None => uri(at).is_some(),
            };
            if !fits {
                return Err(invalid("href of locator"));
            }
            locator.check(1, "thumbprint of locator", |value| {
                let several = value
                    .as_array()
                    .filter(|several| several.iter().all(Value::is_array));
                digest(value).is_some()
                    || several.is_some_and(|several| several.iter().all(|one| digest(one).is_some()))
            })?;
        }
    }
    let profile = match members.get(3) {
        None => None,
        Some(value) => Some(profile(value).ok_or_else(|| invalid("profile of manifest"))?),
    };
    let validity = match members.get(4) {
        None => None,
        Some(value) => {
            let validity = Members::of(value, "validity")?;
            let moment = |key, name| match validity.get(key) {
                None => Ok(None),
                Some(value) => time(value).map(Some).ok_or_else(|| invalid(name)),
            };
            let end = moment(1, "end of validity")?.ok_or_else(|| ClaimsError::missing("end of validity"))?;
            Some((moment(0, "start of validity")?, end))
        }
    };
    if let Some(value) = members.get(5) {
        entities(value)?;
    }
    Ok(Corim {
        id,
        profile,
        validity,
        tags,
    })
}

/// A tag around bytes, or bytes that hold a tag.
fn tag(value: &Value) -> Result<Tag, ClaimsError> {
    let (number, inner) = match value {
        Value::Tag(number, inner) => (*number, inner.as_ref().clone()),
        Value::Bytes(bytes) => match decode(bytes)? {
            Value::Tag(number, inner) => (number, *inner),
            _ => return Err(wrong_tag("what a manifest may hold")),
        },
        _ => return Err(invalid("tags of manifest")),
    };
    let inner = match inner {
        Value::Bytes(bytes) => decode(&bytes)?,
        other => other,
    };
    match number {
        COMID => comid(&inner).map(Tag::Comid),
        COSWID if inner.is_map() => Ok(Tag::Coswid),
        COTL if inner.is_map() => Ok(Tag::Cotl),
        COSWID | COTL => Err(invalid("tags of manifest")),
        _ => Err(wrong_tag("what a manifest may hold")),
    }
}
