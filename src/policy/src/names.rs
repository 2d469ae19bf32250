//! The names of claims that the schema has. Cedar's validator lets `context has nothing` pass: a forbid behind a misspelt name would never
//! apply.

use std::{collections::BTreeSet, sync::LazyLock};

use cedar_policy::SchemaFragment;

use crate::SCHEMA;

/// Groups and claims, `boot` and `boot.secure_boot`.
static NAMES: LazyLock<BTreeSet<String>> = LazyLock::new(|| read().unwrap_or_default());

fn read() -> Option<BTreeSet<String>> {
    let (fragment, _) = SchemaFragment::from_cedarschema_str(SCHEMA).ok()?;
    let json = fragment.to_json_value().ok()?;
    let namespace = &json["Touchmark"];
    let groups = namespace["actions"]["attest"]["appliesTo"]["context"]["attributes"].as_object()?;
    let mut names = BTreeSet::new();
    for (group, described) in groups {
        names.insert(group.clone());
        let of = described["name"]
            .as_str()
            .or_else(|| described["type"].as_str())
            .and_then(|name| name.rsplit("::").next())
            .unwrap_or_default();
        let record = &namespace["commonTypes"][of]["attributes"];
        let members = record
            .as_object()
            .or_else(|| described["attributes"].as_object())?;
        names.extend(members.keys().map(|member| format!("{group}.{member}")));
    }
    Some(names)
}

/// Whether there is a claim, or a group of claims, of this name.
pub fn is_claim(name: &str) -> bool {
    NAMES.contains(name)
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
        .iter()
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
        assert_eq!(closest("imaa"), Some("ima"));
        assert_eq!(closest("boot.secure_bot"), Some("boot.secure_boot"));
    }
}
