//! What operators ask, answered.

use std::sync::Arc;

use serde_json::{Value, json};
use touchmark_api::admin::{Answer, Enrolment, Request};
use touchmark_crypto::{PublicKey, Signer, jose::Jwk, pem, x509::Certificate};
use touchmark_issuer::RegistrationFile;
use touchmark_rats::Voucher;
use touchmark_store::{Change, Host, NewHost, PolicyText, StoreError, StoredRefusal, StoredRegistration};
use touchmark_tls::clock;
use touchmark_verifier::ReferenceSet;

use crate::{ServerError, Service, allowlist_admin, policy_admin, reference_admin, result_admin};

/// Why a request is not answered with a document.
pub(crate) enum Failure {
    Refused(String),
    Unusable(String),
    Failed(String),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(_) | StoreError::NotFound { .. } => Self::Refused(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        Self::Failed(error.to_string())
    }
}

pub(crate) type Outcome = Result<Value, Failure>;

/// Carries out one request.
pub(crate) async fn answer(service: &Arc<Service>, request: Request) -> Answer {
    let now = clock::now();
    let outcome = match request {
        Request::HostEnrol { hosts } => enrol(service, &hosts, now).await,
        Request::HostList { pending: false } => host_list(service).await,
        Request::HostList { pending: true } => pending(service).await,
        Request::HostShow { host } => host_show(service, &host).await,
        Request::HostResult { host, nonce } => result_admin::result(service, &host, nonce, now).await,
        Request::HostEvict { host, reason } => evict(service, &host, &reason, now).await,
        Request::HostReplace { host, device, reason } => replace(service, &host, device, &reason, now).await,
        Request::Why { id } => why(service, &id).await,
        Request::ReferenceCapture { host, label } => capture(service, &host, label.as_deref()).await,
        Request::ReferenceApply { file, stage, beside } => {
            reference_admin::apply(service, &file, stage, beside, now).await
        }
        Request::ReferenceImport { manifest, label } => {
            reference_admin::import(service, &manifest, &label, now).await
        }
        Request::ReferencePromote { label } => reference_admin::promote(service, &label, now).await,
        Request::ReferenceRetire { label } => reference_admin::retire(service, &label, now).await,
        Request::ReferenceDiff { left, right } => reference_admin::diff(service, &left, &right).await,
        Request::ReferenceList => reference_admin::list(service).await,
        Request::ReferenceDelete { label } => reference_admin::delete(service, &label, now).await,
        Request::PolicyApply {
            label,
            text,
            observe,
            dry_run,
        } => {
            let set = PolicyText {
                label,
                body: text,
                observe,
            };
            policy_admin::apply(service, set, dry_run, now).await
        }
        Request::PolicyList => policy_admin::list(service).await,
        Request::PolicyShow { label } => policy_admin::show(service, &label).await,
        Request::PolicyDelete { label, dry_run } => policy_admin::delete(service, &label, dry_run, now).await,
        Request::PolicyExplain { host } => policy_admin::explain(service, &host).await,
        Request::AllowlistApply {
            label,
            hosts,
            digests,
        } => allowlist_admin::apply(service, &label, hosts, &digests, now).await,
        Request::AllowlistList => allowlist_admin::list(service),
        Request::AllowlistDelete { label } => allowlist_admin::delete(service, &label, now).await,
        Request::RegistrationApply { file, dry_run, prune } => {
            apply_registrations(service, &file, dry_run, prune, now).await
        }
        Request::RegistrationList => registration_list(service).await,
        Request::RegistrationDelete { label, name } => delete_registration(service, &label, &name, now).await,
        Request::Events { limit, after } => events(service, limit, after).await,
        Request::CaShow => Ok(ca_show(service)),
    };
    match outcome {
        Ok(document) => Answer::Done(document),
        Err(Failure::Refused(why)) => Answer::Refused(why),
        Err(Failure::Unusable(why)) => Answer::Unusable(why),
        Err(Failure::Failed(why)) => Answer::Failed(why),
    }
}

async fn enrol(service: &Service, hosts: &[Enrolment], now: u64) -> Outcome {
    if hosts.is_empty() || hosts.len() > 10_000 {
        return Err(Failure::Unusable("between 1 and 10000 hosts at once".into()));
    }
    let mut names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
    names.sort_unstable();
    if let Some([twice, _]) = names.array_windows().find(|[one, other]| one == other) {
        return Err(Failure::Unusable(format!(
            "host {twice:?} appears twice in the file"
        )));
    }
    let mut new = Vec::new();
    for host in hosts {
        new.push(new_host(host).map_err(|why| Failure::Unusable(format!("host {:?}: {why}", host.name)))?);
    }
    let _turn = service.changes.lock().await;
    let need = service.need(&new, None).await?;
    service.capacity.allows(need).map_err(Failure::Refused)?;
    let enrolled = service.store.enrol(&new, now).await?;
    Ok(enrolled
        .iter()
        .map(|host| json!({"id": host.id, "name": host.name, "state": host.state}))
        .collect())
}

fn new_host(host: &Enrolment) -> Result<NewHost, String> {
    let word = |text: &str| {
        !text.is_empty()
            && text.len() <= 64
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    if !word(&host.name) || !host.labels.iter().all(|label| word(label)) {
        return Err("name and labels are 1 to 64 letters, digits, '.', '_' or '-'".into());
    }
    if uuid::Uuid::parse_str(&host.name).is_ok() {
        return Err("a name is not a UUID: those are ids".into());
    }
    let mut endorsements: Vec<([u8; 32], bool)> = Vec::new();
    for text in &host.ek_certificates {
        let ders = pem::decode_all(pem::CERTIFICATE, text)
            .map_err(|_| "ek_certificates holds no certificate in PEM form".to_owned())?;
        // A chain may come along: the first certificate is the endorsement key's.
        let der = ders.first().map(Vec::as_slice).unwrap_or_default();
        let certificate = Certificate::parse(der).map_err(|error| error.to_string())?;
        if certificate.is_ca {
            return Err("ek_certificates: that is a CA's certificate, not an endorsement key's".into());
        }
        let key = PublicKey::from_endorsement_spki(&certificate.spki).map_err(|error| error.to_string())?;
        endorsements.push((key.digest(), true));
    }
    for text in &host.ek_digests {
        let digest: Option<[u8; 32]> = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        let digest = digest.filter(|_| !text.bytes().any(|byte| byte.is_ascii_uppercase()));
        endorsements.push((
            digest.ok_or("ek_digests: 64 lower-case hexadecimal digits")?,
            false,
        ));
    }
    if endorsements.is_empty() {
        return Err("no endorsement key: give its certificate or its digest".into());
    }
    Ok(NewHost {
        name: host.name.clone(),
        labels: host.labels.clone(),
        endorsements,
    })
}

async fn host_list(service: &Service) -> Outcome {
    Ok(service.store.hosts().await?.iter().map(host_entry).collect())
}

fn host_entry(host: &Host) -> Value {
    json!({
        "id": host.id,
        "name": host.name,
        "state": shown_state(host),
        "last_attested": host.last_attested.map(time),
        "reason": host.reason.clone().or_else(|| host.note.as_deref().and_then(note_reason)),
        "refusal": host.refusal,
        "observed": host.observed,
    })
}

/// Who vouches for a host's TPM.
fn maker(voucher: &Voucher) -> Value {
    json!({
        "name": voucher.maker,
        "kind": voucher.kind,
        "certified": voucher.certified,
        "simulated": voucher.simulated,
        "root_spki_sha256": hex::encode(voucher.anchor),
    })
}

/// A host that was never admitted and whose attempts fail is refused, for people. The record itself changes only by
/// evidence that was authentic, which a stranger cannot make.
fn shown_state(host: &Host) -> &str {
    if host.state == "enrolled" && host.note.is_some() {
        "refused"
    } else {
        &host.state
    }
}

fn note_reason(note: &str) -> Option<String> {
    let note: Value = serde_json::from_str(note).ok()?;
    note["reason"].as_str().map(str::to_owned)
}

async fn pending(service: &Service) -> Outcome {
    let pending = service.store.pending().await?;
    let entry = |entry: &touchmark_store::Pending| {
        json!({
            "ek_digest": hex::encode(&entry.digest),
            "state": "pending",
            "first_seen": time(entry.first_at),
            "last_seen": time(entry.last_at),
            "attempts": entry.attempts,
            "note": entry.note,
        })
    };
    Ok(pending.iter().map(entry).collect())
}

async fn host_show(service: &Service, id: &str) -> Outcome {
    let host = service.store.host(id).await?;
    let endorsements = service.store.endorsements_of(&host.id).await?;
    let key = service.store.attestation_key_of(&host.id).await?;
    let voucher = key
        .as_ref()
        .and_then(|key| key.voucher.as_deref())
        .and_then(|text| serde_json::from_str::<Voucher>(text).ok());
    let mut document = host_entry(&host);
    document["labels"] = json!(host.labels);
    document["note"] = json!(host.note);
    document["ek_digests"] = endorsements.iter().map(hex::encode).collect();
    document["attestation_key"] = json!(key.as_ref().map(|key| hex::encode(&key.name)));
    document["maker"] = voucher.as_ref().map_or(Value::Null, maker);
    Ok(document)
}

async fn evict(service: &Service, id: &str, reason: &str, now: u64) -> Outcome {
    check_reason(reason)?;
    let host = service.store.host(id).await?;
    let until = service.store.evict(&host.id, reason, now).await?;
    service.streams.host_changed(&host.id);
    Ok(json!({"id": host.id, "name": host.name, "state": "evicted", "until": time(until.max(now))}))
}

/// Other endorsement keys for the same host.
async fn replace(service: &Service, id: &str, device: Enrolment, reason: &str, now: u64) -> Outcome {
    check_reason(reason)?;
    let host = service.store.host(id).await?;
    let named = Enrolment {
        name: host.name.clone(),
        labels: host.labels.clone(),
        ..device
    };
    let new = new_host(&named).map_err(Failure::Unusable)?;
    let until = service
        .store
        .replace(&host.id, &new.endorsements, reason, now)
        .await?;
    service.streams.host_changed(&host.id);
    Ok(json!({"id": host.id, "name": host.name, "state": "enrolled", "until": time(until.max(now))}))
}

fn check_reason(reason: &str) -> Result<(), Failure> {
    if reason.len() > 200 {
        return Err(Failure::Unusable("a reason of at most 200 bytes".into()));
    }
    Ok(())
}

async fn why(service: &Service, id: &str) -> Outcome {
    match service.store.refusal(id).await {
        Ok(refusal) => return Ok(refusal_document(&refusal)),
        Err(StoreError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let host = match service.store.host(id).await {
        Ok(host) => host,
        Err(StoreError::NotFound { .. }) => {
            return Err(Failure::Refused(format!(
                "no refusal and no host {id:?}. Refusals of peers that did not show who they are are not stored under \
                 an id: ask by the host's name, and see touchmark host list --pending"
            )));
        }
        Err(error) => return Err(error.into()),
    };
    let refusal = match &host.refusal {
        Some(id) => Some(service.store.refusal(id).await?),
        None => None,
    };
    if let Some(note) = &host.note {
        let mut document: Value =
            serde_json::from_str(note).map_err(|error| Failure::Failed(error.to_string()))?;
        // What was authentic counts more than what anybody could have caused; of two that were, the later.
        let authentic = document["authentic"].take() == true;
        let later = refusal
            .as_ref()
            .is_none_or(|refusal| authentic && host.note_at.is_some_and(|at| at >= refusal.at));
        if later {
            if let Some(members) = document.as_object_mut() {
                members.remove("authentic");
            }
            document["id"] = host.id.clone().into();
            document["at"] = json!(host.note_at.map(time));
            document["subject"] = format!("host {}", host.name).into();
            return Ok(document);
        }
    }
    match refusal {
        Some(refusal) => Ok(refusal_document(&refusal)),
        None if host.state == "enrolled" => Err(Failure::Refused(format!(
            "host {} has not asked yet: nothing was refused. On that host, touchmark agent status says what its agent \
             waits for: the TPM, or the way to this service",
            host.name
        ))),
        None if host.state == "attested" => Err(Failure::Refused(format!(
            "host {} is attested: nothing was refused",
            host.name
        ))),
        None => standing_document(service, &host).await,
    }
}

/// Why a host stands as it does where no evidence led to it: what was done, or what was not heard.
async fn standing_document(service: &Service, host: &Host) -> Outcome {
    let event = service
        .store
        .latest(&host.id, &format!("host.{}", host.state))
        .await?;
    let remedy = match host.state.as_str() {
        "evicted" => {
            "nothing, if it was meant; else enrol it anew: its name and its endorsement keys can be used again"
        }
        "silent" => {
            "see on that host whether its agent runs and reaches this service (touchmark agent status): it attests \
                     again by itself"
        }
        _ => "touchmark events says what was done",
    };
    Ok(json!({
        "id": host.id,
        "at": event.as_ref().map(|event| time(event.at)),
        "subject": format!("host {}", host.name),
        "check": "host.state",
        "reason": host.state,
        "expected": "a host that is enrolled and attests within the interval",
        "found": event.map(|event| event.detail).filter(|detail| !detail.is_empty()),
        "remedy": remedy,
    }))
}

fn refusal_document(refusal: &StoredRefusal) -> Value {
    json!({
        "id": refusal.id,
        "at": time(refusal.at),
        "subject": refusal.subject,
        "check": refusal.check,
        "reason": refusal.reason,
        "expected": refusal.expected,
        "found": refusal.found,
        "remedy": refusal.remedy,
    })
}

async fn capture(service: &Service, id: &str, label: Option<&str>) -> Outcome {
    let host = service.store.host(id).await?;
    let captured = service.store.captured(&host.id).await?.ok_or_else(|| {
        Failure::Refused(format!(
            "host {}: no evidence whose log explains its registers has arrived; see touchmark why {}",
            host.name, host.name
        ))
    })?;
    let text = match label {
        None => captured,
        Some(label) => {
            let set =
                ReferenceSet::from_toml(&captured).map_err(|error| Failure::Failed(error.to_string()))?;
            set.relabelled(label)
                .map_err(|error| Failure::Unusable(error.to_string()))?
                .to_toml()
        }
    };
    Ok(json!({"host": host.name, "reference": text}))
}

async fn apply_registrations(service: &Service, file: &str, dry_run: bool, prune: bool, now: u64) -> Outcome {
    let file = RegistrationFile::from_toml(file, &service.config.trust_domain)
        .map_err(|error| Failure::Unusable(error.to_string()))?;
    let mut wanted = Vec::new();
    for registration in &file.registrations {
        wanted.push(StoredRegistration {
            label: file.label.clone(),
            name: registration.name.clone(),
            identifier: registration.identifier.as_str().to_owned(),
            body: registration.to_json(),
        });
    }
    let _turn = service.changes.lock().await;
    // Without --prune entries that the file does not have stay; they are few, and half is kept free.
    let need = service.need(&[], Some(&file)).await?;
    service.capacity.allows(need).map_err(Failure::Refused)?;
    let changes = service
        .store
        .apply_registrations(&file.label, &wanted, prune, dry_run, now)
        .await?;
    if !dry_run {
        service.reload_registrations().await?;
    }
    let change = |change: &Change| {
        let (what, name) = match change {
            Change::Added(name) => ("added", name),
            Change::Changed { name, before, after } => {
                return json!({"change": "changed", "name": name, "fields": differences(before, after)});
            }
            Change::Unchanged(name) => ("unchanged", name),
            Change::Deleted(name) => ("deleted", name),
            Change::Kept(name) => ("kept", name),
        };
        json!({"change": what, "name": name})
    };
    let changes: Vec<Value> = changes.iter().map(change).collect();
    Ok(json!({"label": file.label, "dry_run": dry_run, "changes": changes}))
}

/// The fields in which two registrations differ.
fn differences(before: &str, after: &str) -> Vec<Value> {
    let read = |text: &str| serde_json::from_str::<serde_json::Map<String, Value>>(text).unwrap_or_default();
    let (before, after) = (read(before), read(after));
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| json!({"field": name, "before": before.get(name), "after": after.get(name)}))
        .collect()
}

async fn registration_list(service: &Service) -> Outcome {
    let mut list = Vec::new();
    for entry in service.store.registrations().await? {
        let mut document: Value =
            serde_json::from_str(&entry.body).map_err(|error| Failure::Failed(error.to_string()))?;
        document["label"] = entry.label.into();
        list.push(document);
    }
    Ok(Value::Array(list))
}

async fn delete_registration(service: &Service, label: &str, name: &str, now: u64) -> Outcome {
    let _turn = service.changes.lock().await;
    service.store.delete_registration(label, name, now).await?;
    service.reload_registrations().await?;
    Ok(json!({"label": label, "name": name, "deleted": true}))
}

async fn events(service: &Service, limit: u32, after: Option<u64>) -> Outcome {
    let events = service.store.events(limit.clamp(1, 10_000), after).await?;
    let entry = |event: &touchmark_store::Event| {
        json!({
            "id": event.id, "at": time(event.at), "kind": event.kind, "subject": event.subject, "detail": event.detail,
        })
    };
    Ok(events.iter().map(entry).collect())
}

fn ca_show(service: &Service) -> Value {
    let certificate = |certificate: &Certificate| {
        json!({
            "subject": certificate.subject,
            "not_after": time(u64::try_from(certificate.not_after).unwrap_or(0)),
            "spki_sha256": hex::encode(certificate.spki_digest()),
        })
    };
    json!({
        "trust_domain": service.config.trust_domain.to_string(),
        "root": certificate(&service.root),
        "intermediate": certificate(&service.authority.intermediate),
        "wit_kid": service.authority.wit_kid(),
        "result_key": Jwk::new(service.result_key.public_key().clone()).map(|jwk| jwk.to_json()).unwrap_or_default(),
        "bundle_sequence": service.bundle.sequence,
    })
}

/// RFC 3339, UTC.
fn time(seconds: u64) -> String {
    clock::rfc3339(seconds)
}
