//! What policies decide about evidence that was appraised offline.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use touchmark_attestor_tpm::{Judged, PcrValues};
use touchmark_policy::{Policies, Source, Subject};
use touchmark_rats::{Check, ClaimValue, Claims, Reason};
use touchmark_verifier::ReferenceSet;

use crate::{
    admin::read_file,
    exit::{UNUSABLE, fail},
    policy::label_of,
};

/// What is established where nobody vouches for the device.
pub(crate) fn nobody_vouches() -> Claims {
    let mut claims = Claims::default();
    claims.set("device.vouched", ClaimValue::Bool(false));
    claims.set("device.simulated", ClaimValue::Bool(false));
    claims.set("references.matched", ClaimValue::Texts(Vec::new()));
    claims
}

/// The registers that something is known of: those of which values were given in the bank that a log is told in. Where none were given at all,
/// nothing is proved, and every register that reference values name is looked at.
pub(super) fn proved(judged: &Judged, sets: &[ReferenceSet], values: &PcrValues) -> BTreeSet<u8> {
    if values.is_empty() {
        return sets.iter().flat_map(ReferenceSet::registers).collect();
    }
    let given = judged.bank.and_then(|bank| values.get(&bank));
    given
        .into_iter()
        .flat_map(|registers| registers.keys().copied())
        .collect()
}

/// What a boot log that was judged against register values adds to that.
pub(crate) fn of_boot(judged: &Judged, sets: &[ReferenceSet], values: &PcrValues) -> Claims {
    let mut claims = judged.claims.clone();
    let notes = judged
        .checks
        .iter()
        .filter_map(Check::note)
        .map(|note| note.code().to_owned())
        .collect();
    claims.set("boot.notes", ClaimValue::Texts(notes));
    let proved = proved(judged, sets, values);
    let matched = sets
        .iter()
        .filter(|set| set.registers().is_subset(&proved))
        .filter(|set| {
            let named = set.registers();
            let held = judged
                .events
                .iter()
                .filter(|event| named.contains(&event.pcr))
                .cloned();
            set.unknown(&Vec::from_iter(held)).is_empty()
        })
        .map(|set| set.label().to_owned())
        .collect();
    claims.set("references.matched", ClaimValue::Texts(matched));
    claims
}

/// Policies from files, each a set by its file's name; `None` where there are none.
pub(super) fn read(paths: &[PathBuf]) -> Result<Option<Policies>, ExitCode> {
    if paths.is_empty() {
        return Ok(None);
    }
    let sources = paths
        .iter()
        .map(|path| {
            Ok(Source {
                label: label_of(path),
                text: read_file(path)?,
                observe: Vec::new(),
            })
        })
        .collect::<Result<Vec<_>, ExitCode>>()?;
    Policies::compile(&sources)
        .map(Some)
        .map_err(|error| fail(UNUSABLE, error))
}

/// What they decide about a host without labels.
pub(super) fn decide(policies: &Policies, claims: &Claims) -> Check {
    const NAME: &str = "policy";
    let subject = Subject {
        name: "host",
        labels: &[],
        platform: "tpm",
    };
    let decision = policies.decide(&subject, claims);
    if decision.allowed {
        return Check::passed(NAME, decision.explain());
    }
    let remedies: Vec<&str> = decision
        .determining
        .iter()
        .filter_map(|one| one.remedy.as_deref())
        .collect();
    Check::failed(
        NAME,
        Reason::PolicyDenied,
        "a policy that permits, and none that forbids",
        decision.explain(),
        if remedies.is_empty() {
            "change the host, or the policies".to_owned()
        } else {
            remedies.join("; ")
        },
    )
}
