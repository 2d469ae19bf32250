//! The service's own attestation results, signed, for whoever relies on a host without holding a credential of it.

use std::sync::Arc;

use serde_json::json;
use touchmark_identity::WorkloadId;
use touchmark_policy::Effect;
use touchmark_rats::{ClaimValue, Claims, ear::HostAppraisal};
use touchmark_verifier::{Standing, trust_vector};

use crate::{
    Service,
    operator::{Failure, Outcome},
    policy::claims,
};

/// Seconds that a result about a host that is not attested may be relied on: until somebody looks again.
const BRIEF: u64 = 60;

/// The result about a host, as things stand.
pub(crate) async fn result(service: &Arc<Service>, id: &str, nonce: Option<String>, now: u64) -> Outcome {
    if nonce
        .as_ref()
        .is_some_and(|nonce| !(8..=88).contains(&nonce.len()))
    {
        return Err(Failure::Unusable("a nonce has 8 to 88 characters".to_owned()));
    }
    let host = service.store.host(id).await?;
    let standing = match host.state.as_str() {
        "attested" => Standing::Attested,
        "refused" => Standing::Refused,
        "suspect" | "evicted" => Standing::Distrusted,
        _ => Standing::Unknown,
    };
    let kept = service.store.appraisal(&host.id).await?;
    let established = kept
        .and_then(|kept| claims(&kept, &host, &service.references()))
        .unwrap_or_else(Claims::default);
    let (status, vector) = trust_vector(&established, standing);
    let refusal = match (&host.refusal, standing) {
        (Some(id), Standing::Refused | Standing::Distrusted) => Some(service.store.refusal(id).await?),
        _ => None,
    };
    let decision = service.policies().decide(&host, &established);
    let mut policies: Vec<String> = decision
        .determining
        .iter()
        .filter(|one| one.effect == Effect::Permit || !decision.allowed)
        .map(|one| one.label.clone())
        .collect();
    policies.sort();
    policies.dedup();
    // As long as the host is not silent.
    let last = host.last_attested.filter(|_| standing == Standing::Attested);
    let expires_at = last.map_or(now + BRIEF, |last| last + service.config.reattest_interval);
    let identifier = WorkloadId::host(&service.config.trust_domain, &host.id)
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let appraisal = HostAppraisal {
        identifier: identifier.as_str().to_owned(),
        issued_at: now,
        expires_at: expires_at.max(now + 1),
        build: service.authority.build.clone(),
        status,
        vector,
        policies,
        simulated: matches!(established.get("device.simulated"), Some(ClaimValue::Bool(true))),
        refusal: refusal.map(|refusal| (refusal.check, refusal.reason)),
        nonce,
    };
    let key = service.result_key.clone();
    let signed = tokio::task::spawn_blocking(move || appraisal.sign(&key)).await;
    let result = signed
        .map_err(|error| Failure::Failed(error.to_string()))?
        .map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(json!({"host": host.name, "status": status.name(), "result": result}))
}
