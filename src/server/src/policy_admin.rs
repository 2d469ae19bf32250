//! What operators ask about policies, answered. A set is tried on every host's last appraisal before it decides.

use std::sync::Arc;

use serde_json::{Value, json};
use touchmark_store::PolicyText;

use crate::{
    Service, labels,
    operator::{Failure, Outcome},
    policy::{Applied, claims, document},
};

/// Applies a set, or says what would change. One that does not validate is refused, and everything stays as it is.
pub(crate) async fn apply(service: &Arc<Service>, set: PolicyText, dry_run: bool, now: u64) -> Outcome {
    let _turn = service.changes.lock().await;
    let mut sets = service.store.policies().await?;
    let before = sets.iter().find(|other| other.label == set.label);
    let decides_now: Vec<String> = before
        .into_iter()
        .flat_map(|before| &before.observe)
        .filter(|label| !set.observe.contains(label))
        .cloned()
        .collect();
    sets.retain(|other| other.label != set.label);
    sets.push(set.clone());
    let candidate = compiled(&sets)?;
    let changes = differences(service, &candidate, Some(&set.label)).await?;
    let policies = candidate.policies.len();
    let alone = compiled(std::slice::from_ref(&set))?;
    let labels = alone.policies.groups().map(str::to_owned);
    let nobody = labels::of_nobody(service, labels.chain(set.observe.iter().cloned())).await?;
    let mut document = json!({
        "label": set.label, "policies": policies, "hosts": changes, "labels_of_nobody": nobody,
        "observes_no_more": decides_now,
    });
    if dry_run {
        document["dry_run"] = true.into();
        return Ok(document);
    }
    document["changed"] = service.store.apply_policies(&set, now).await?.into();
    service.reload_policies().await?;
    Ok(document)
}

/// Withdraws a set, or says what would change.
pub(crate) async fn delete(service: &Arc<Service>, label: &str, dry_run: bool, now: u64) -> Outcome {
    let _turn = service.changes.lock().await;
    let mut sets = service.store.policies().await?;
    let before = sets.len();
    sets.retain(|set| set.label != label);
    if sets.len() == before {
        return Err(unknown(label));
    }
    let candidate = compiled(&sets)?;
    let changes = differences(service, &candidate, None).await?;
    if dry_run {
        return Ok(json!({"label": label, "dry_run": true, "hosts": changes}));
    }
    service.store.delete_policies(label, now).await?;
    service.reload_policies().await?;
    Ok(json!({"label": label, "deleted": true, "hosts": changes}))
}

pub(crate) async fn list(service: &Service) -> Outcome {
    let sets = service.store.policies().await?;
    Ok(sets
        .iter()
        .map(|set| {
            let alone = Applied::compile(std::slice::from_ref(set));
            json!({
                "label": set.label,
                "policies": alone.map_or(0, |alone| alone.policies.len()),
                "observe": set.observe,
            })
        })
        .collect())
}

pub(crate) async fn show(service: &Service, label: &str) -> Outcome {
    let sets = service.store.policies().await?;
    let set = sets
        .into_iter()
        .find(|set| set.label == label)
        .ok_or_else(|| unknown(label))?;
    Ok(json!({"label": set.label, "text": set.body, "observe": set.observe}))
}

/// What the policies that are applied decide about a host, by what was established of it last.
pub(crate) async fn explain(service: &Service, id: &str) -> Outcome {
    let host = service.store.host(id).await?;
    let kept = service.store.appraisal(&host.id).await?;
    let kept = kept
        .ok_or_else(|| Failure::Refused(format!("host {}: no authentic evidence has arrived", host.name)))?;
    let established = claims(&kept, &host, &service.references())
        .ok_or_else(|| Failure::Failed(format!("host {}: its record cannot be read", host.name)))?;
    let decision = service.policies().decide(&host, &established);
    let mut out = document(&host, &decision);
    out["claims"] = serde_json::to_value(&established).unwrap_or(Value::Null);
    Ok(out)
}

fn compiled(sets: &[PolicyText]) -> Result<Applied, Failure> {
    Applied::compile(sets).map_err(|error| Failure::Unusable(error.to_string()))
}

fn unknown(label: &str) -> Failure {
    Failure::Refused(format!(
        "there is no set of policies {label:?}; see touchmark policy list"
    ))
}

/// Hosts about which the candidate decides otherwise than what is applied, or that the set to be applied would deny if it did not only
/// observe.
async fn differences(
    service: &Service,
    candidate: &Applied,
    set: Option<&str>,
) -> Result<Vec<Value>, Failure> {
    let applied = service.policies();
    let sets = service.references();
    let mut out = Vec::new();
    for (host, kept) in service.store.appraisals().await? {
        // Evidence that did not hold is refused before any policy is asked.
        let Some(established) = claims(&kept, &host, &sets) else {
            let what = "its record cannot be read: nothing is known of what it would get";
            out.push(
                json!({"host": host.name, "before": "unknown", "decision": "unknown", "explanation": what}),
            );
            continue;
        };
        let (before, after) = (
            applied.decide(&host, &established),
            candidate.decide(&host, &established),
        );
        let mut observed = after.observed.iter();
        let told = observed.any(|one| Some(one.label.as_str()) == set || !before.observed.contains(one));
        if before.allowed != after.allowed || told {
            let mut entry = document(&host, &after);
            entry["before"] = if before.allowed { "permit" } else { "deny" }.into();
            out.push(entry);
        }
    }
    Ok(out)
}
