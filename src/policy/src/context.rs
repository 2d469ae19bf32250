//! Claims as policies see them: nested by the dots in their names.

use std::collections::BTreeMap;

use cedar_policy::{Context, RestrictedExpression};
use touchmark_rats::{ClaimValue, Claims};

/// Longest value of a claim that is shown in an explanation, in characters.
const MAX_SHOWN: usize = 200;

/// The context of a request; an error where two claims contradict each other in shape.
pub(crate) fn context(claims: &Claims) -> Result<Context, String> {
    let mut records: BTreeMap<&str, Vec<(String, RestrictedExpression)>> = BTreeMap::new();
    for (name, value) in claims.iter() {
        let (record, member) = name
            .split_once('.')
            .ok_or(format!("claim {name} is in no group"))?;
        records
            .entry(record)
            .or_default()
            .push((member.to_owned(), expression(value)));
    }
    let pairs = records
        .into_iter()
        .map(|(name, members)| {
            let record = RestrictedExpression::new_record(members).map_err(|error| error.to_string())?;
            Ok((name.to_owned(), record))
        })
        .collect::<Result<Vec<_>, String>>()?;
    Context::from_pairs(pairs).map_err(|error| error.to_string())
}

fn expression(value: &ClaimValue) -> RestrictedExpression {
    match value {
        ClaimValue::Bool(value) => RestrictedExpression::new_bool(*value),
        ClaimValue::Int(value) => RestrictedExpression::new_long(*value),
        ClaimValue::Text(value) => RestrictedExpression::new_string(value.clone()),
        ClaimValue::Texts(values) => {
            RestrictedExpression::new_set(values.iter().cloned().map(RestrictedExpression::new_string))
        }
    }
}

/// The names of claims and of their groups that a policy tests, from its JSON form.
pub(crate) fn named(policy: &serde_json::Value) -> Vec<String> {
    let mut paths = Vec::new();
    collect(policy, &mut paths);
    paths.sort();
    paths.dedup();
    paths
}

/// The claims that a policy tests, with their values.
pub(crate) fn tested(policy: &serde_json::Value, claims: &Claims) -> Vec<(String, String)> {
    let mut paths = named(policy);
    // A path that goes on in another says nothing by itself.
    let longer = paths.clone();
    paths.retain(|path| !longer.iter().any(|other| other.starts_with(&format!("{path}."))));
    paths
        .into_iter()
        .map(|path| {
            let value = claims.get(&path).map_or("absent".to_owned(), shown);
            (path, value)
        })
        .collect()
}

fn shown(value: &ClaimValue) -> String {
    let text = match value {
        ClaimValue::Texts(values) => format!("[{}]", values.join(", ")),
        value => value.to_string(),
    };
    if text.chars().count() > MAX_SHOWN {
        let cut: String = text.chars().take(MAX_SHOWN).collect();
        format!("{cut}...")
    } else {
        text
    }
}

/// Every access to a member of the context, however deep it stands.
fn collect(node: &serde_json::Value, paths: &mut Vec<String>) {
    if let Some(path) = path(node) {
        if !path.is_empty() {
            paths.push(path);
        }
        return;
    }
    match node {
        serde_json::Value::Object(members) => members.values().for_each(|member| collect(member, paths)),
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, paths)),
        _ => {}
    }
}

/// The dotted path of `context.a.b`, or of `context has a`; the empty one of the context itself.
fn path(node: &serde_json::Value) -> Option<String> {
    if node.get("Var").and_then(serde_json::Value::as_str) == Some("context") {
        return Some(String::new());
    }
    let access = node.get(".").or_else(|| node.get("has"))?;
    let base = path(access.get("left")?)?;
    let member = access.get("attr")?.as_str()?;
    Some(if base.is_empty() {
        member.to_owned()
    } else {
        format!("{base}.{member}")
    })
}
