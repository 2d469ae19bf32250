//! The policies that are applied, and how they decide about hosts.

use std::sync::{Arc, PoisonError};

use serde_json::{Value, json};
use touchmark_policy::{DEFAULT, Decision, Policies, PolicyError, Source, Subject};
use touchmark_rats::{Check, ClaimValue, Claims, Reason};
use touchmark_store::{Host, Kept, PolicyText};
use touchmark_verifier::{Admission, Attested, ReferenceSet};

use crate::{ServerError, Service};

/// What evidence is of.
const PLATFORM: &str = "tpm";
/// The label of what decides where nothing was applied.
const DEFAULT_LABEL: &str = "default";

/// The policies that are applied.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) policies: Policies,
}

impl Applied {
    /// Compiles sets; where there is none, or all of them only observe a host, the one by reference values decides.
    pub(crate) fn compile(sets: &[PolicyText]) -> Result<Self, PolicyError> {
        let default = Policies::compile(&[Source {
            label: DEFAULT_LABEL.to_owned(),
            text: DEFAULT.to_owned(),
            observe: Vec::new(),
        }])?;
        let sources: Vec<Source> = sets
            .iter()
            .map(|set| Source {
                label: set.label.clone(),
                text: set.body.clone(),
                observe: set.observe.clone(),
            })
            .collect();
        Ok(Self {
            policies: Policies::compile(&sources)?.with_fallback(default),
        })
    }

    /// Whether a set of an operator's decides about a host.
    fn own(&self, host: &Host) -> bool {
        !self.policies.only_observe(&host.labels)
    }

    pub(crate) fn decide(&self, host: &Host, claims: &Claims) -> Decision {
        let subject = Subject {
            name: &host.name,
            labels: &host.labels,
            platform: PLATFORM,
        };
        self.policies.decide(&subject, claims)
    }
}

impl Service {
    pub(crate) fn policies(&self) -> Arc<Applied> {
        Arc::clone(&self.policies.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the policies on record. What does not compile keeps the service from starting: nobody knows what was meant.
    pub(crate) async fn reload_policies(&self) -> Result<(), ServerError> {
        let sets = self.store.policies().await?;
        let applied = Applied::compile(&sets)
            .map_err(|error| ServerError::Other(format!("stored policies: {error}")))?;
        *self.policies.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(applied);
        Ok(())
    }
}

/// The policies, about one host.
pub(crate) struct ByPolicy<'a> {
    applied: &'a Applied,
    host: &'a Host,
}

impl<'a> ByPolicy<'a> {
    pub(crate) fn new(applied: &'a Applied, host: &'a Host) -> Self {
        Self { applied, host }
    }
}

/// The check that notes what policies that only observe would do.
const OBSERVED: &str = "policy.observed";

/// What policies that only observe would have done about a host that was believed; empty where they agree.
pub(crate) fn observed(attested: &Attested) -> String {
    let noted = attested.checks().iter().find(|check| check.name == OBSERVED);
    noted.map(|check| check.found.clone()).unwrap_or_default()
}

impl Admission for ByPolicy<'_> {
    fn needs_references(&self) -> bool {
        !self.applied.own(self.host)
    }

    fn decide(&self, claims: &Claims) -> Vec<Check> {
        const NAME: &str = "policy";
        let decision = self.applied.decide(self.host, claims);
        let mut checks = Vec::new();
        if !decision.observed.is_empty() {
            let sets: Vec<&str> = decision.observed.iter().map(|set| set.label.as_str()).collect();
            let sets = sets.join(", ");
            tracing::warn!(host = %self.host.name, %sets, "policies that observe would deny this host");
            let found = format!("{sets} would deny, and only observe");
            checks.push(Check::noted(OBSERVED, Reason::PolicyDenied, found));
        }
        checks.push(if decision.allowed {
            Check::passed(NAME, decision.explain())
        } else {
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
                    "see touchmark policy explain; change the host, or the policies".to_owned()
                } else {
                    remedies.join("; ")
                },
            )
        });
        checks
    }
}

/// What is known of a host for policies: what was established last, with the reference values as they are applied now.
pub(crate) fn claims(kept: &Kept, host: &Host, sets: &[ReferenceSet]) -> Option<Claims> {
    let mut claims: Claims = serde_json::from_str(&kept.claims).ok()?;
    let boot = kept
        .reference
        .as_deref()
        .and_then(|text| ReferenceSet::from_toml(text).ok());
    let matched = sets
        .iter()
        .filter(|set| set.applies_to(&host.labels))
        .filter(|set| boot.as_ref().is_some_and(|boot| set.covers(boot)))
        .map(|set| set.label().to_owned())
        .collect();
    claims.set("references.matched", ClaimValue::Texts(matched));
    Some(claims)
}

/// A decision as a document.
pub(crate) fn document(host: &Host, decision: &Decision) -> Value {
    let determining: Vec<Value> = decision
        .determining
        .iter()
        .map(|one| {
            let claims: serde_json::Map<String, Value> = one
                .claims
                .iter()
                .map(|(name, value)| (name.clone(), value.as_str().into()))
                .collect();
            json!({
                "policy": format!("{}/{}", one.label, one.id),
                "effect": format!("{:?}", one.effect).to_lowercase(),
                "reason": one.reason,
                "remedy": one.remedy,
                "claims": claims,
            })
        })
        .collect();
    let observed = decision.observed.iter();
    let observed: Vec<Value> = observed
        .map(|set| json!({"set": set.label, "explanation": set.explanation}))
        .collect();
    json!({
        "host": host.name,
        "decision": if decision.allowed { "permit" } else { "deny" },
        "determining": determining,
        "errors": decision.errors,
        "observed": observed,
        "explanation": decision.explain(),
    })
}
