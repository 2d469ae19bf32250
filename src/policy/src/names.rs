//! The names of claims that the schema has. Cedar's validator lets `context has nothing` pass: a forbid behind a misspelt name would never
//! apply.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use cedar_policy::SchemaFragment;

use crate::SCHEMA;

/// Groups and claims, `boot` and `boot.secure_boot`, and of which type a claim is.
static NAMES: LazyLock<BTreeMap<String, Option<String>>> = LazyLock::new(|| read().unwrap_or_default());

fn read() -> Option<BTreeMap<String, Option<String>>> {
    let (fragment, _) = SchemaFragment::from_cedarschema_str(SCHEMA).ok()?;
    let json = fragment.to_json_value().ok()?;
    let namespace = &json["Touchmark"];
    let groups = namespace["actions"]["attest"]["appliesTo"]["context"]["attributes"].as_object()?;
    let mut names = BTreeMap::new();
    for (group, described) in groups {
        names.insert(group.clone(), None);
        let of = described["name"]
            .as_str()
            .or_else(|| described["type"].as_str())
            .and_then(|name| name.rsplit("::").next())
            .unwrap_or_default();
        let record = &namespace["commonTypes"][of]["attributes"];
        let members = record
            .as_object()
            .or_else(|| described["attributes"].as_object())?;
        names.extend(members.iter().map(|(member, kind)| {
            let set = kind["type"] == "Set";
            let kind = if set { &kind["element"] } else { kind };
            let named = kind["name"].as_str().or_else(|| kind["type"].as_str());
            let named = named.and_then(|name| name.rsplit("::").next());
            let named = named.map(|name| {
                if set {
                    format!("Set<{name}>")
                } else {
                    name.to_owned()
                }
            });
            (format!("{group}.{member}"), named)
        }));
    }
    Some(names)
}

/// Whether there is a claim, or a group of claims, of this name.
pub fn is_claim(name: &str) -> bool {
    NAMES.contains_key(name)
}

/// The type of a claim in Cedar's words: `Bool`, `Long`, `String` or `Set<String>`.
pub fn claim_type(name: &str) -> Option<&'static str> {
    NAMES.get(name)?.as_deref()
}

/// The claim of the schema that a misspelt name was meant for, perhaps.
pub(crate) fn closest(name: &str) -> Option<&'static str> {
    let shared = |known: &str| {
        let letters: BTreeSet<char> = known.chars().collect();
        let own: BTreeSet<char> = name.chars().collect();
        letters.symmetric_difference(&own).count() + known.len().abs_diff(name.len())
    };
    let depth = name.matches('.').count();
    let group = name.split_once('.').map(|(group, _)| group);
    NAMES
        .keys()
        .filter(|known| known.matches('.').count() == depth)
        .filter(|known| group.is_none_or(|group| !is_claim(group) || known.starts_with(&format!("{group}."))))
        .map(String::as_str)
        .min_by_key(|known| shared(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schemas_names_are_known() {
        for name in [
            "device",
            "device.vouched",
            "boot.secure_boot",
            "ima.unknown",
            "references.matched",
        ] {
            assert!(is_claim(name), "{name}");
        }
        for name in ["imaa", "boot.secure_bot", "secure_boot", ""] {
            assert!(!is_claim(name), "{name}");
        }
        for (name, kind) in [
            ("boot.secure_boot", "String"),
            ("device.vouched", "Bool"),
            ("tpm.log_events", "Long"),
            ("boot.db", "Set<String>"),
        ] {
            assert_eq!(claim_type(name), Some(kind));
        }
        assert_eq!(claim_type("boot"), None);
        assert_eq!(closest("imaa"), Some("ima"));
        assert_eq!(closest("boot.secure_bot"), Some("boot.secure_boot"));
    }
}
