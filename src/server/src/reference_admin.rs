//! What operators ask about reference values, answered. What is staged decides nothing; what is applied says whose boots it fits.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use touchmark_crypto::{
    cose::{ContentType, CoseMessage},
    jose::VerifyingKey,
};
use touchmark_rats::corim::{CONTENT_TYPE, read_corim, read_signature};
use touchmark_store::{Entry, Generation};
use touchmark_verifier::ReferenceSet;

use crate::{
    Service, labels,
    operator::{Failure, Outcome},
};

/// Who says so where an operator applied a file.
const OPERATOR: &str = "operator";

pub(crate) async fn apply(
    service: &Arc<Service>,
    file: &str,
    stage: bool,
    beside: bool,
    now: u64,
) -> Outcome {
    let set = ReferenceSet::from_toml(file).map_err(|error| Failure::Unusable(error.to_string()))?;
    let entry = match (stage, beside) {
        (true, _) => Entry::Staged,
        (false, true) => Entry::Beside,
        (false, false) => Entry::Instead,
    };
    enter(service, &set, OPERATOR, entry, now).await
}

async fn enter(service: &Arc<Service>, set: &ReferenceSet, source: &str, entry: Entry, now: u64) -> Outcome {
    let _turn = service.changes.lock().await;
    let (generation, changed) = service
        .store
        .apply_reference(set.label(), &set.to_toml(), source, entry, now)
        .await?;
    service.reload_references().await?;
    Ok(json!({
        "label": set.label(),
        "generation": generation,
        "state": if entry == Entry::Staged { "staged" } else { "valid" },
        "source": source,
        "values": set.len(),
        "changed": changed,
        "hosts": fitting(service, set).await?,
        "labels_of_nobody": labels::of_nobody(service, set.host_labels().unwrap_or_default().to_vec()).await?,
    }))
}

/// Hosts whose last boot a set fits, and how far it is from that of the others that it is for.
async fn fitting(service: &Service, set: &ReferenceSet) -> Result<Value, Failure> {
    let mut out = Vec::new();
    for (host, kept) in service.store.appraisals().await? {
        let boot = kept
            .reference
            .as_deref()
            .and_then(|text| ReferenceSet::from_toml(text).ok());
        let Some(boot) = boot.filter(|_| set.applies_to(&host.labels)) else {
            continue;
        };
        let missing = boot.values().iter().filter(|value| !set.has(value)).count();
        out.push(json!({"host": host.name, "fits": set.covers(&boot), "unknown_events": missing}));
    }
    Ok(out.into())
}

/// Stages what a vendor signed. Unsigned values, and those of signers that nobody pinned, change nothing.
pub(crate) async fn import(service: &Arc<Service>, manifest: &str, label: &str, now: u64) -> Outcome {
    let refused =
        |why: String| Failure::Refused(format!("the manifest was refused: {why}; nothing was changed"));
    let bytes = STANDARD
        .decode(manifest)
        .map_err(|_| Failure::Unusable("the manifest is not base64".to_owned()))?;
    let message = CoseMessage::parse(&bytes)
        .map_err(|error| refused(format!("{error} (a manifest has to be signed, COSE_Sign1)")))?;
    if message.content_type() != Some(&ContentType::Media(CONTENT_TYPE.to_owned())) {
        return Err(refused(format!("its content type is not {CONTENT_TYPE}")));
    }
    let signers = &service.config.reference_signers;
    if signers.is_empty() {
        return Err(refused(
            "no signer is pinned; name their keys under [reference] in server.toml".to_owned(),
        ));
    }
    let verified = signers.iter().find_map(|(name, jwk)| {
        let key = VerifyingKey::for_alg(jwk, message.alg()).ok()?;
        message
            .verify(&key, &[], None)
            .ok()
            .map(|payload| (name, payload))
    });
    let Some((signer, payload)) = verified else {
        return Err(refused("no signer that is pinned has signed it".to_owned()));
    };
    let corim = read_corim(payload).map_err(|error| refused(error.to_string()))?;
    let signature = read_signature(message.protected(8), message.protected(15))
        .map_err(|error| refused(format!("{error} (its signer has to be named)")))?;
    let now_signed = i64::try_from(now).unwrap_or(i64::MAX);
    for (start, end) in [corim.validity, signature].into_iter().flatten() {
        if now_signed > end || start.is_some_and(|start| now_signed < start) {
            return Err(refused(
                "it, or its signature, does not hold at this time".to_owned(),
            ));
        }
    }
    let set = ReferenceSet::from_corim(label, &corim).map_err(|error| refused(error.to_string()))?;
    enter(service, &set, signer, Entry::Staged, now).await
}

pub(crate) async fn promote(service: &Arc<Service>, label: &str, now: u64) -> Outcome {
    let _turn = service.changes.lock().await;
    let (label, wanted) = match label.rsplit_once('@') {
        Some((label, number)) => {
            let number = number.parse::<u64>();
            let wanted =
                number.map_err(|_| Failure::Unusable(format!("{label}@...: a generation is a number")))?;
            (label, Some(wanted))
        }
        None => (label, None),
    };
    let generation = service.store.promote_reference(label, wanted, now).await?;
    service.reload_references().await?;
    Ok(json!({"label": label, "generation": generation, "state": "valid"}))
}

pub(crate) async fn retire(service: &Arc<Service>, label: &str, now: u64) -> Outcome {
    let _turn = service.changes.lock().await;
    let retired = service.store.retire_reference(label, now).await?;
    service.reload_references().await?;
    Ok(json!({"label": label, "retired": retired}))
}

pub(crate) async fn delete(service: &Arc<Service>, label: &str, now: u64) -> Outcome {
    let _turn = service.changes.lock().await;
    service.store.delete_reference(label, now).await?;
    service.reload_references().await?;
    Ok(json!({"label": label, "deleted": true}))
}

pub(crate) async fn list(service: &Service) -> Outcome {
    let generations = service.store.references().await?;
    Ok(generations
        .iter()
        .map(|generation| {
            let set = ReferenceSet::from_toml(&generation.body).ok();
            let values = set.as_ref().map_or(0, ReferenceSet::len);
            let labels = set.as_ref().and_then(ReferenceSet::host_labels);
            json!({
                "label": generation.label,
                "generation": generation.number,
                "state": generation.state,
                "source": generation.source,
                "values": values,
                "host_labels": labels,
                "applied_at": touchmark_tls::clock::rfc3339(generation.applied_at),
            })
        })
        .collect())
}

/// Two sets, event by event.
pub(crate) async fn diff(service: &Service, left: &str, right: &str) -> Outcome {
    let generations = service.store.references().await?;
    let (one, other) = (
        named(service, &generations, left).await?,
        named(service, &generations, right).await?,
    );
    let only = |of: &ReferenceSet, without: &ReferenceSet| -> Value {
        of.values()
            .iter()
            .filter(|value| !without.has(value))
            .map(|value| json!({"pcr": value.pcr, "digest": value.digest, "description": value.description}))
            .collect()
    };
    Ok(json!({
        "left": left,
        "right": right,
        "only_left": only(&one, &other),
        "only_right": only(&other, &one),
        "same": one.values().iter().filter(|value| other.has(value)).count(),
    }))
}

/// A set by `LABEL`, its newest valid generation or else its newest; `LABEL@GENERATION`; or a host's last boot.
async fn named(service: &Service, generations: &[Generation], name: &str) -> Result<ReferenceSet, Failure> {
    let (label, number) = match name.rsplit_once('@') {
        Some((label, number)) => {
            let wrong = |_| Failure::Unusable(format!("{name}: a generation is a number, as in {label}@1"));
            (label, Some(number.parse::<u64>().map_err(wrong)?))
        }
        None => (name, None),
    };
    let of_label = || {
        generations
            .iter()
            .filter(|generation| generation.label == label)
            .rev()
    };
    let found = match number {
        Some(number) => of_label().find(|generation| generation.number == number),
        None => of_label()
            .find(|generation| generation.state == "valid")
            .or_else(|| of_label().next()),
    };
    let text = match found {
        Some(generation) => generation.body.clone(),
        None => {
            let host = service.store.host(name).await.map_err(|_| {
                Failure::Refused(format!(
                    "{name:?} is neither a set of reference values nor a host"
                ))
            })?;
            service.store.captured(&host.id).await?.ok_or_else(|| {
                Failure::Refused(format!(
                    "host {name}: no evidence whose log explains its registers has arrived"
                ))
            })?
        }
    };
    ReferenceSet::from_toml(&text).map_err(|error| Failure::Failed(error.to_string()))
}
