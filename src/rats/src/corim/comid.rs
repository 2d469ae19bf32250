//! concise-mid-tag: statements on the modules of an attester, as triples of an environment and its measurements.

use ciborium::Value;
use touchmark_crypto::HashAlg;

use super::{
    manifest::{decode, wrong_tag},
    member::{Algorithm, Members, digest, entities, identifier, invalid, list},
};
use crate::eat::ClaimsError;

/// Most triples of one kind, and most measurements of one triple.
const MAX_TRIPLES: usize = 10_000;
/// Most digests of one measurement.
const MAX_DIGESTS: usize = 64;
const COMID: u64 = 506;

/// Statements on modules.
#[derive(Debug, Clone, PartialEq)]
pub struct Comid {
    /// The tag's identifier.
    pub id: String,
    /// Its version, 0 where it has none.
    pub version: u64,
    /// What measurements of good modules are.
    pub references: Vec<ReferenceTriple>,
    /// What is said of modules that have such measurements.
    pub endorsements: Vec<ReferenceTriple>,
    /// Whether it has statements of other kinds, which are checked for their form and not read further.
    pub others: bool,
}

/// An environment and its measurements.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceTriple {
    /// What is measured.
    pub environment: Environment,
    /// The measurements.
    pub measurements: Vec<Measurement>,
}

/// What is measured: a class of modules, an instance, a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    /// The class.
    pub class: Option<Class>,
    /// Whether it is about one instance.
    pub has_instance: bool,
    /// Whether it is about a group.
    pub has_group: bool,
}

/// A class of modules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Class {
    /// Who makes them.
    pub vendor: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// The layer, from the root of trust up.
    pub layer: Option<u64>,
    /// Which of several.
    pub index: Option<u64>,
}

/// The name of a measurement.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A number, of a register for instance.
    Number(u64),
    /// Text.
    Text(String),
    /// A UUID or an object identifier, in hexadecimal.
    Other(String),
}

/// Digests by their algorithms.
pub type Digests = Vec<(HashAlg, Vec<u8>)>;

/// One measurement.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measurement {
    /// Its name.
    pub key: Option<Key>,
    /// Name of what is measured, for people.
    pub name: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// Digests of algorithms that are known here.
    pub digests: Digests,
    /// Registers with the digests that they may hold.
    pub registers: Vec<(Key, Digests)>,
}

/// Reads a tag by itself, under its number or not, with nothing after it.
pub fn read_comid(bytes: &[u8]) -> Result<Comid, ClaimsError> {
    let value = match decode(bytes)? {
        Value::Tag(COMID, inner) => *inner,
        Value::Tag(..) => return Err(wrong_tag("statements on modules")),
        other => other,
    };
    match value {
        Value::Bytes(bytes) => comid(&decode(&bytes)?),
        value => comid(&value),
    }
}

pub(super) fn comid(value: &Value) -> Result<Comid, ClaimsError> {
    let members = Members::of(value, "tag")?;
    members.check(0, "language of tag", Value::is_text)?;
    let identity = Members::of(members.required(1, "identity")?, "identity")?;
    let id = identifier(identity.required(0, "id")?).ok_or_else(|| invalid("id of tag"))?;
    let version = identity.unsigned(1, "version of tag")?.unwrap_or(0);
    if let Some(value) = members.get(2) {
        entities(value)?;
    }
    if let Some(value) = members.get(3) {
        for linked in list(value, "linked tags")? {
            let linked = Members::of(linked, "linked tag")?;
            if identifier(linked.required(0, "id")?).is_none() {
                return Err(invalid("id of linked tag"));
            }
            if !linked.required(1, "relation")?.is_integer() {
                return Err(invalid("relation of linked tag"));
            }
        }
    }
    let triples = Members::some(members.required(4, "triples")?, "triples")?;
    let statements = |key, name| match triples.get(key) {
        None => Ok(Vec::new()),
        Some(value) => bounded(list(value, name)?)?.iter().map(reference).collect(),
    };
    let out = Comid {
        id,
        version,
        references: statements(0, "reference triples")?,
        endorsements: statements(1, "endorsed triples")?,
        others: triples.has_others(&[0, 1]),
    };
    for (key, name) in [(2, "identity triples"), (3, "attestation key triples")] {
        if let Some(value) = triples.get(key) {
            for triple in bounded(list(value, name)?)? {
                keys(triple, name)?;
            }
        }
    }
    for (key, name) in [(4, "dependency triples"), (5, "membership triples")] {
        if let Some(value) = triples.get(key) {
            for triple in bounded(list(value, name)?)? {
                related(triple, name)?;
            }
        }
    }
    if let Some(value) = triples.get(6) {
        for triple in bounded(list(value, "software triples")?)? {
            match triple.as_array().map(Vec::as_slice) {
                Some([about, tags]) => {
                    environment(about)?;
                    if !list(tags, "software triples")?
                        .iter()
                        .all(|tag| identifier(tag).is_some())
                    {
                        return Err(invalid("software triples"));
                    }
                }
                _ => return Err(invalid("software triples")),
            }
        }
    }
    if let Some(value) = triples.get(8) {
        for triple in bounded(list(value, "conditional series")?)? {
            series(triple)?;
        }
    }
    if let Some(value) = triples.get(10) {
        for triple in bounded(list(value, "conditional endorsements")?)? {
            conditional(triple)?;
        }
    }
    Ok(out)
}

fn bounded(items: &[Value]) -> Result<&[Value], ClaimsError> {
    if items.len() > MAX_TRIPLES {
        return Err(ClaimsError::malformed("more triples than are read"));
    }
    Ok(items)
}

/// [environment, [measurement]].
fn reference(value: &Value) -> Result<ReferenceTriple, ClaimsError> {
    let Some([about, measured]) = value.as_array().map(Vec::as_slice) else {
        return Err(invalid("triple"));
    };
    Ok(ReferenceTriple {
        environment: environment(about)?,
        measurements: bounded(list(measured, "measurements")?)?
            .iter()
            .map(measurement)
            .collect::<Result<_, _>>()?,
    })
}

/// [environment, [key], conditions].
fn keys(value: &Value, name: &'static str) -> Result<(), ClaimsError> {
    match value.as_array().map(Vec::as_slice) {
        Some([about, keys] | [about, keys, Value::Map(_)]) => {
            let conditions = value.as_array().and_then(|parts| parts.get(2)?.as_map());
            if conditions.is_some_and(Vec::is_empty) {
                return Err(invalid(name));
            }
            environment(about)?;
            if list(keys, name)?.iter().all(is_key) {
                Ok(())
            } else {
                Err(invalid(name))
            }
        }
        _ => Err(invalid(name)),
    }
}

/// [domain, [domain]]; a domain is an environment, or the name that older drafts give it.
fn related(value: &Value, name: &'static str) -> Result<(), ClaimsError> {
    let domain = |value: &Value| match value {
        Value::Map(_) => environment(value).map(drop),
        value => key(value).map(drop).ok_or_else(|| invalid(name)),
    };
    match value.as_array().map(Vec::as_slice) {
        Some([about, others]) => {
            domain(about)?;
            list(others, name)?.iter().try_for_each(domain)
        }
        _ => Err(invalid(name)),
    }
}

/// [[environment, [measurement], ?keys], [[[measurement], [measurement]]]].
fn series(value: &Value) -> Result<(), ClaimsError> {
    const NAME: &str = "conditional series";
    let Some([condition, cases]) = value.as_array().map(Vec::as_slice) else {
        return Err(invalid(NAME));
    };
    stateful(condition, NAME)?;
    for case in bounded(list(cases, NAME)?)? {
        match case.as_array().map(Vec::as_slice) {
            Some([selection, addition]) => {
                for measured in [selection, addition] {
                    list(measured, NAME)?
                        .iter()
                        .try_for_each(|one| measurement(one).map(drop))?;
                }
            }
            _ => return Err(invalid(NAME)),
        }
    }
    Ok(())
}

/// [[stateful environment], [endorsed triple]].
fn conditional(value: &Value) -> Result<(), ClaimsError> {
    const NAME: &str = "conditional endorsements";
    let Some([conditions, endorsements]) = value.as_array().map(Vec::as_slice) else {
        return Err(invalid(NAME));
    };
    list(conditions, NAME)?
        .iter()
        .try_for_each(|one| stateful(one, NAME))?;
    list(endorsements, NAME)?
        .iter()
        .try_for_each(|one| reference(one).map(drop))
}

/// [environment, [measurement], ?keys]; here no measurement at all is a condition too.
fn stateful(value: &Value, name: &'static str) -> Result<(), ClaimsError> {
    match value.as_array().map(Vec::as_slice) {
        Some([about, claims] | [about, claims, Value::Array(_)]) => {
            environment(about)?;
            let claims = claims.as_array().ok_or_else(|| invalid(name))?;
            bounded(claims)?
                .iter()
                .try_for_each(|one| measurement(one).map(drop))
        }
        _ => Err(invalid(name)),
    }
}

fn environment(value: &Value) -> Result<Environment, ClaimsError> {
    let members = Members::some(value, "environment")?;
    let class = members.get(0).map(class).transpose()?;
    let named =
        |value: &Value| matches!(value, Value::Tag(..) | Value::Bytes(_) | Value::Text(_)) && is_sized(value);
    members.check(1, "instance of environment", named)?;
    members.check(2, "group of environment", named)?;
    Ok(Environment {
        class,
        has_instance: members.get(1).is_some(),
        has_group: members.get(2).is_some(),
    })
}

fn class(value: &Value) -> Result<Class, ClaimsError> {
    let members = Members::some(value, "class")?;
    members.check(0, "id of class", |value| {
        matches!(value, Value::Tag(_, inner) if inner.is_bytes() || inner.is_text() || inner.is_integer())
            && is_sized(value)
    })?;
    Ok(Class {
        vendor: members.text(1, "vendor of class")?,
        model: members.text(2, "model of class")?,
        layer: members.unsigned(3, "layer of class")?,
        index: members.unsigned(4, "index of class")?,
    })
}

fn measurement(value: &Value) -> Result<Measurement, ClaimsError> {
    let members = Members::of(value, "measurement")?;
    let key = match members.get(0) {
        None => None,
        Some(value) => Some(key(value).ok_or_else(|| invalid("key of measurement"))?),
    };
    let values = Members::some(members.required(1, "values")?, "values of measurement")?;
    if let Some(by) = members.get(2)
        && !list(by, "authority of measurement")?.iter().all(is_key)
    {
        return Err(invalid("authority of measurement"));
    }
    let version = match values.get(0) {
        None => None,
        Some(value) => {
            let version = Members::of(value, "version")?;
            version.check(1, "scheme of version", |value| {
                value.is_integer() || value.is_text()
            })?;
            Some(
                version
                    .text(0, "version")?
                    .ok_or_else(|| ClaimsError::missing("version"))?,
            )
        }
    };
    values.check(1, "svn", |value| match value {
        Value::Integer(number) => u64::try_from(*number).is_ok(),
        Value::Tag(552 | 553, inner) => inner
            .as_integer()
            .is_some_and(|number| u64::try_from(number).is_ok()),
        _ => false,
    })?;
    let digests = match values.get(2) {
        None => Vec::new(),
        Some(value) => digests(value)?,
    };
    values.check(3, "flags", |value| {
        value.as_map().is_some_and(|flags| {
            flags
                .iter()
                .all(|(flag, value)| flag.is_integer() && value.is_bool())
        })
    })?;
    values.check(4, "raw value", raw)?;
    let has_raw = values.get(4).is_some();
    values.check(5, "mask of raw value", |mask| has_raw && mask.is_bytes())?;
    values.check(13, "keys", |keys| {
        keys.as_array()
            .is_some_and(|keys| !keys.is_empty() && keys.iter().all(is_key))
    })?;
    values.check(15, "range of numbers", |range| match range {
        // A measured component, as later drafts have it.
        Value::Integer(_) | Value::Map(_) => true,
        Value::Tag(564, bounds) => bounds.as_array().is_some_and(|bounds| {
            bounds.len() == 2 && bounds.iter().all(|bound| bound.is_integer() || bound.is_null())
        }),
        _ => false,
    })?;
    values.check(6, "MAC address", |value| {
        matches!(value.as_bytes().map(Vec::len), Some(6 | 8))
    })?;
    values.check(7, "IP address", |value| {
        matches!(value.as_bytes().map(Vec::len), Some(4 | 16))
    })?;
    values.check(8, "serial number", Value::is_text)?;
    values.check(9, "ueid", |value| {
        let bytes = match value {
            Value::Tag(550, inner) => inner.as_bytes(),
            value => value.as_bytes(),
        };
        bytes.is_some_and(|bytes| (7..=33).contains(&bytes.len()))
    })?;
    values.check(10, "uuid", |value| {
        let bytes = match value {
            Value::Tag(37, inner) => inner.as_bytes(),
            value => value.as_bytes(),
        };
        bytes.is_some_and(|bytes| bytes.len() == 16)
    })?;
    let registers = match values.get(14) {
        None => Vec::new(),
        Some(value) => registers(value)?,
    };
    Ok(Measurement {
        key,
        name: values.text(11, "name")?,
        version,
        digests,
        registers,
    })
}

fn raw(value: &Value) -> bool {
    match value {
        Value::Bytes(_) => true,
        Value::Tag(560, inner) => inner.is_bytes(),
        Value::Tag(563, inner) => match inner.as_array().map(Vec::as_slice) {
            Some([Value::Bytes(value), Value::Bytes(mask)]) => value.len() == mask.len(),
            _ => false,
        },
        Value::Tag(..) => true,
        _ => false,
    }
}

fn key(value: &Value) -> Option<Key> {
    match value {
        Value::Integer(number) => u64::try_from(*number).ok().map(Key::Number),
        Value::Text(text) => Some(Key::Text(text.clone())),
        Value::Tag(37 | 111 | 550, _) if !is_sized(value) => None,
        Value::Tag(37 | 111, inner) => Some(Key::Other(hex::encode(inner.as_bytes()?))),
        Value::Tag(_, inner) => match inner.as_ref() {
            Value::Bytes(bytes) => Some(Key::Other(hex::encode(bytes))),
            Value::Text(text) => Some(Key::Text(text.clone())),
            _ => None,
        },
        _ => None,
    }
}

/// Whether what is tagged as a UUID, an object identifier or a universal entity identifier is as long as such a thing.
fn is_sized(value: &Value) -> bool {
    match value {
        Value::Tag(37, inner) => inner.as_bytes().is_some_and(|bytes| bytes.len() == 16),
        Value::Tag(111, inner) => inner.as_bytes().is_some_and(|bytes| !bytes.is_empty()),
        Value::Tag(550, inner) => inner
            .as_bytes()
            .is_some_and(|bytes| (7..=33).contains(&bytes.len())),
        _ => true,
    }
}

/// Digests, one of each algorithm: with two of one nobody could say which counts (section on comparison).
fn digests(value: &Value) -> Result<Digests, ClaimsError> {
    let mut seen: Vec<Algorithm> = Vec::new();
    let mut out = Vec::new();
    for one in list(value, "digests")? {
        let (alg, bytes) = digest(one).ok_or_else(|| invalid("digests"))?;
        if seen.contains(&alg) || seen.len() >= MAX_DIGESTS {
            return Err(invalid("digests"));
        }
        let hash = match &alg {
            Algorithm::Number(1) => Some(HashAlg::Sha256),
            Algorithm::Number(7) => Some(HashAlg::Sha384),
            Algorithm::Number(8) => Some(HashAlg::Sha512),
            Algorithm::Name(name) => match name.as_str() {
                "sha-256" => Some(HashAlg::Sha256),
                "sha-384" => Some(HashAlg::Sha384),
                "sha-512" => Some(HashAlg::Sha512),
                _ => None,
            },
            Algorithm::Number(_) => None,
        };
        if let Some(hash) = hash {
            if bytes.len() != hash.len() {
                return Err(invalid("digests"));
            }
            out.push((hash, bytes));
        }
        seen.push(alg);
    }
    Ok(out)
}

fn registers(value: &Value) -> Result<Vec<(Key, Digests)>, ClaimsError> {
    const NAME: &str = "integrity registers";
    let members = value
        .as_map()
        .filter(|members| !members.is_empty())
        .ok_or_else(|| invalid(NAME))?;
    members
        .iter()
        .map(|(name, value)| {
            let name = match name {
                Value::Integer(_) | Value::Text(_) => key(name).ok_or_else(|| invalid(NAME))?,
                _ => return Err(invalid(NAME)),
            };
            Ok((name, digests(value)?))
        })
        .collect()
}

/// A key in one of its tagged forms.
fn is_key(value: &Value) -> bool {
    match value {
        Value::Tag(554..=556, inner) => inner.is_text(),
        Value::Tag(557 | 559 | 561, inner) => digest(inner).is_some(),
        Value::Tag(558, inner) => inner.is_map() || inner.is_bytes() || inner.is_array(),
        Value::Tag(560 | 562, inner) => inner.is_bytes(),
        // Tags of other things.
        Value::Tag(32 | 37 | 111 | 550, _) => false,
        value => matches!(value, Value::Tag(..)),
    }
}
