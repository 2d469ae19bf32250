//! corim-map: the manifest around tags.

use ciborium::Value;
use touchmark_crypto::cbor::shape;

use super::{
    MAX_CORIM,
    comid::{Comid, comid},
    member::{Members, digest, entities, identifier, invalid, list, profile, time, uri},
};
use crate::{
    Reason,
    eat::{ClaimsError, is_software_identity},
};

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
            let start = moment(0, "start of validity")?;
            if start.is_some_and(|start| start > end) {
                return Err(ClaimsError::contradicts("validity", "begins after its end"));
            }
            Some((start, end))
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
        COSWID if is_software_identity(&inner) => Ok(Tag::Coswid),
        COSWID => Err(ClaimsError::missing("a mandatory member of a software identity")),
        COTL => {
            // concise-tl-tag: its identity, the tags, how long it holds.
            let members = Members::of(&inner, "list of tags")?;
            members.required(0, "identity")?;
            list(members.required(1, "tags")?, "tags of list")?;
            members.required(2, "validity")?;
            Ok(Tag::Cotl)
        }
        _ => Err(wrong_tag("what a manifest may hold")),
    }
}

/// When the signature over a manifest holds: start, if there is one, and end.
pub type SignatureValidity = Option<(Option<i64>, i64)>;

/// Reads what a signed manifest says of its signature, by its protected headers: `corim-meta` (8, CBOR in a byte string), or the claims of a
/// CWT (15). One of them has to be there.
pub fn read_signature(
    meta: Option<&Value>,
    claims: Option<&Value>,
) -> Result<SignatureValidity, ClaimsError> {
    if meta.is_none() && claims.is_none() {
        return Err(ClaimsError::missing("metadata of the signature"));
    }
    let mut validity = None;
    if let Some(meta) = meta {
        let bytes = meta
            .as_bytes()
            .ok_or_else(|| invalid("metadata of the signature"))?;
        let meta = decode(bytes)?;
        let meta = Members::of(&meta, "metadata of the signature")?;
        let signer = Members::of(meta.required(0, "signer")?, "signer")?;
        if !signer.required(0, "name")?.is_text() {
            return Err(invalid("name of signer"));
        }
        signer.check(1, "URI of signer", |value| uri(value).is_some())?;
        if let Some(value) = meta.get(1) {
            let value = Members::of(value, "validity of the signature")?;
            let end = moment(&value, 1)?.ok_or_else(|| ClaimsError::missing("end of validity"))?;
            validity = Some((moment(&value, 0)?, end));
        }
    }
    if let Some(claims) = claims {
        let claims = Members::of(claims, "claims of the signature")?;
        if !claims.required(1, "issuer")?.is_text() {
            return Err(invalid("issuer"));
        }
        let (start, end) = (moment(&claims, 5)?, moment(&claims, 4)?);
        if start.is_some() || end.is_some() {
            let (before, until) = validity.unwrap_or((None, i64::MAX));
            validity = Some((start.max(before), end.map_or(until, |end| end.min(until))));
        }
    }
    Ok(validity)
}

fn moment(members: &Members<'_>, key: i64) -> Result<Option<i64>, ClaimsError> {
    match members.get(key) {
        None => Ok(None),
        Some(value) => time(value).map(Some).ok_or_else(|| invalid("a time")),
    }
}
