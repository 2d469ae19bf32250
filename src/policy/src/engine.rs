//! Sets of policies, compiled, and the decision about a host.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    str::FromStr,
    sync::{Arc, Mutex},
};

use cedar_policy::{
    Authorizer, Effect as CedarEffect, Entities, Entity, EntityId, EntityTypeName, EntityUid, Policy,
    PolicyId, PolicySet, PrincipalConstraint, Request, RestrictedExpression, Schema, ValidationMode,
    Validator,
};
use touchmark_rats::Claims;

use crate::{
    Decision, Determining, Effect, MAX_POLICIES, MAX_TEXT, Observed, PolicyError, SCHEMA,
    context::{self, context, tested},
    depth,
    names::{closest, is_claim},
};

/// Most policies that are named as ones that would have permitted.
const MAX_MISSED: usize = 3;
/// Most combinations of groups whose policies are kept ready.
const MAX_SLICES: usize = 1024;

/// A set of policies as an operator uploads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its label.
    pub label: String,
    /// The policies.
    pub text: String,
    /// Labels of hosts for which the set only observes: what it would deny is noted.
    pub observe: Vec<String>,
}

/// Who asks to be admitted.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The host's name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a [String],
    /// What its evidence is of, `tpm`.
    pub platform: &'a str,
}

/// Policies that validate.
pub struct Policies {
    schema: Schema,
    all: Vec<Arc<Compiled>>,
    /// Labels of hosts that a set only observes, by the set.
    observe: BTreeMap<String, BTreeSet<String>>,
    /// The sets' labels.
    labels: BTreeSet<String>,
    /// What decides where all sets only observe.
    fallback: Option<Box<Policies>>,
    /// Policies by the groups that they are for, made as they are needed.
    slices: Mutex<HashMap<Slice, Arc<PolicySet>>>,
    /// Groups and hosts that any policy names.
    named: BTreeSet<EntityUid>,
    /// Groups that any of them names, in its scope or in a condition.
    groups: BTreeSet<String>,
}

/// Which policies a request needs: those for everybody, those for these groups, without the sets that only observe.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Slice {
    named: Vec<EntityUid>,
    without: Vec<String>,
}

struct Compiled {
    label: String,
    id: String,
    /// The host or group that it is for; `None` for any.
    scope: Option<EntityUid>,
    policy: Policy,
    json: serde_json::Value,
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Policies({})", self.all.len())
    }
}

impl Policies {
    /// Compiles sets together. One that does not parse, or does not validate strictly, refuses them all.
    pub fn compile(sources: &[Source]) -> Result<Self, PolicyError> {
        let (schema, _) =
            Schema::from_cedarschema_str(SCHEMA).map_err(|error| PolicyError::Schema(error.to_string()))?;
        let mut out = Self {
            schema,
            all: Vec::new(),
            observe: BTreeMap::new(),
            slices: Mutex::new(HashMap::new()),
            named: BTreeSet::new(),
            groups: BTreeSet::new(),
            labels: BTreeSet::new(),
            fallback: None,
        };
        let mut labels = BTreeSet::new();
        for source in sources {
            check_label(&source.label)?;
            if !labels.insert(&source.label) {
                return Err(PolicyError::Policy {
                    label: source.label.clone(),
                    what: "there are two sets of this label".to_owned(),
                });
            }
            out.add(source)?;
        }
        out.labels = sources.iter().map(|source| source.label.clone()).collect();
        Ok(out)
    }

    /// The same, with what decides about hosts that all of these sets only observe.
    #[must_use]
    pub fn with_fallback(self, fallback: Self) -> Self {
        Self {
            fallback: Some(Box::new(fallback)),
            ..self
        }
    }

    /// Whether all sets only observe hosts with these labels.
    pub fn only_observe(&self, labels: &[String]) -> bool {
        self.labels.len() == self.observing(labels).len()
    }

    fn observing(&self, labels: &[String]) -> Vec<String> {
        self.observe
            .iter()
            .filter(|(_, observed)| labels.iter().any(|label| observed.contains(label)))
            .map(|(label, _)| label.clone())
            .collect()
    }

    /// How many policies there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// The labels of hosts that they are about, where they name any.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(String::as_str)
    }

    /// Whether there is none, so that nothing is permitted.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn add(&mut self, source: &Source) -> Result<(), PolicyError> {
        let label = &source.label;
        let limit = |limit| PolicyError::Limit {
            label: label.clone(),
            limit,
        };
        if source.text.len() > MAX_TEXT {
            return Err(limit("1 MiB of text"));
        }
        depth::check(&source.text).map_err(|error| PolicyError::Validation {
            label: label.clone(),
            what: error.to_string(),
        })?;
        let set = PolicySet::from_str(&source.text).map_err(|error| PolicyError::Syntax {
            label: label.clone(),
            what: flat(&error),
        })?;
        let policy_error = |what: String| PolicyError::Policy {
            label: label.clone(),
            what,
        };
        if set.templates().next().is_some() {
            return Err(policy_error("templates have nobody to fill them in".to_owned()));
        }
        let result = Validator::new(self.schema.clone()).validate(&set, ValidationMode::Strict);
        let told = |id: &PolicyId, what: String| {
            let named = set.policy(id).and_then(|policy| policy.annotation("id"));
            let what = what
                .strip_prefix(&format!("for policy `{id}`, "))
                .unwrap_or(&what);
            format!(
                "policy {}: {what}",
                named.map_or_else(|| counted(id), str::to_owned)
            )
        };
        let errors = result
            .validation_errors()
            .map(|error| told(error.policy_id(), flat(error)));
        // What can never apply, or reads otherwise than it looks, was not meant like that.
        let warnings = result
            .validation_warnings()
            .map(|warning| told(warning.policy_id(), flat(warning)));
        let lines: Vec<String> = errors.chain(warnings).collect();
        if !lines.is_empty() {
            return Err(PolicyError::Validation {
                label: label.clone(),
                what: lines.join("\n"),
            });
        }
        if set.policies().next().is_none() {
            return Err(policy_error(
                "there is no policy in it; to withdraw a set, delete it: touchmark policy delete".to_owned(),
            ));
        }
        let mut policies: Vec<&Policy> = set.policies().collect();
        policies.sort_by_key(|policy| {
            let id = policy.id().to_string();
            id.strip_prefix("policy")
                .and_then(|number| number.parse::<usize>().ok())
        });
        let mut names = BTreeSet::new();
        for (position, policy) in policies.into_iter().enumerate() {
            if self.all.len() >= MAX_POLICIES {
                return Err(limit("10,000 policies"));
            }
            let name = policy
                .annotation("id")
                .map_or_else(|| (position + 1).to_string(), str::to_owned);
            if !names.insert(name.clone()) {
                return Err(policy_error(format!("two policies are named {name:?}")));
            }
            let scope = match policy.principal_constraint() {
                PrincipalConstraint::In(uid)
                | PrincipalConstraint::Eq(uid)
                | PrincipalConstraint::IsIn(_, uid) => Some(uid),
                PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
            };
            self.named.extend(scope.clone());
            let groups = policy.entity_literals().into_iter();
            let groups = groups.filter(|uid| uid.type_name().basename() == "HostGroup");
            self.groups
                .extend(groups.map(|uid| uid.id().unescaped().to_owned()));
            let json = policy
                .to_json()
                .map_err(|error| policy_error(error.to_string()))?;
            if let Some(unknown) = context::named(&json).into_iter().find(|name| !is_claim(name)) {
                let meant = closest(&unknown).map_or(String::new(), |claim| format!("; is {claim} meant?"));
                return Err(PolicyError::Validation {
                    label: label.clone(),
                    what: format!(
                        "policy {name}: there is no claim {unknown}{meant} (touchmark policy schema)"
                    ),
                });
            }
            self.all.push(Arc::new(Compiled {
                policy: policy.new_id(PolicyId::new(format!("{label}/{name}"))),
                label: label.clone(),
                id: name,
                scope,
                json,
            }));
        }
        if !source.observe.is_empty() {
            self.observe
                .insert(label.clone(), source.observe.iter().cloned().collect());
        }
        Ok(())
    }

    /// Decides about a host by what was established of it.
    pub fn decide(&self, subject: &Subject<'_>, claims: &Claims) -> Decision {
        let observing = self.observing(subject.labels);
        let mut decision = match &self.fallback {
            Some(fallback) if observing.len() == self.labels.len() => fallback.evaluate(subject, claims, &[]),
            _ => self.evaluate(subject, claims, &observing),
        };
        for label in &observing {
            let others: Vec<String> = observing
                .iter()
                .filter(|other| *other != label)
                .cloned()
                .collect();
            if !decision.allowed {
                break;
            }
            // With this set as well: would it have changed the decision?
            let denial = Some(self.evaluate(subject, claims, &others)).filter(|with| !with.allowed);
            decision.observed.extend(denial.map(|denial| Observed {
                label: label.clone(),
                explanation: denial.explain(),
            }));
        }
        decision
    }

    fn evaluate(&self, subject: &Subject<'_>, claims: &Claims, without: &[String]) -> Decision {
        match self.ask(subject, claims, without) {
            Ok(decision) => decision,
            Err(error) => Decision {
                allowed: false,
                determining: Vec::new(),
                missed: Vec::new(),
                errors: vec![error],
                observed: Vec::new(),
            },
        }
    }

    fn ask(&self, subject: &Subject<'_>, claims: &Claims, without: &[String]) -> Result<Decision, String> {
        let host = uid("Host", subject.name)?;
        let groups: HashSet<EntityUid> = subject
            .labels
            .iter()
            .map(|label| uid("HostGroup", label))
            .collect::<Result<_, _>>()?;
        let set = self.slice(&host, &groups, without)?;
        let attributes = HashMap::from([(
            "name".to_owned(),
            RestrictedExpression::new_string(subject.name.to_owned()),
        )]);
        let entities: Vec<Entity> =
            groups
                .iter()
                .map(|group| Entity::with_uid(group.clone()))
                .chain([Entity::new(host.clone(), attributes, groups.clone())
                    .map_err(|error| error.to_string())?])
                .collect();
        let entities =
            Entities::from_entities(entities, Some(&self.schema)).map_err(|error| error.to_string())?;
        let request = Request::new(
            host,
            uid("Action", "attest")?,
            uid("Platform", subject.platform)?,
            context(claims)?,
            Some(&self.schema),
        )
        .map_err(|error| error.to_string())?;
        let response = Authorizer::new().is_authorized(&request, &set, &entities);
        let errors: Vec<String> = response
            .diagnostics()
            .errors()
            .map(|error| error.to_string())
            .collect();
        let allowed = response.decision() == cedar_policy::Decision::Allow && errors.is_empty();
        let determining: Vec<Determining> = response
            .diagnostics()
            .reason()
            .filter_map(|id| self.all.iter().find(|compiled| compiled.policy.id() == id))
            .map(|compiled| compiled.determining(claims))
            .collect();
        // Words are for hosts that are not admitted.
        let missed = match !allowed && determining.is_empty() {
            true => self.permits_of(&set, claims),
            false => Vec::new(),
        };
        Ok(Decision {
            allowed,
            determining,
            missed,
            errors,
            observed: Vec::new(),
        })
    }

    /// The first policies of a request's that would permit, on other claims.
    fn permits_of(&self, set: &PolicySet, claims: &Claims) -> Vec<Determining> {
        self.all
            .iter()
            .filter(|compiled| compiled.policy.effect() == CedarEffect::Permit)
            .filter(|compiled| set.policy(compiled.policy.id()).is_some())
            .take(MAX_MISSED)
            .map(|compiled| compiled.determining(claims))
            .collect()
    }

    /// The policies that a request can need. Those for other groups and hosts are left out, so that a decision costs what the host's own
    /// policies cost.
    fn slice(
        &self,
        host: &EntityUid,
        groups: &HashSet<EntityUid>,
        without: &[String],
    ) -> Result<Arc<PolicySet>, String> {
        let mut named: Vec<EntityUid> = groups
            .iter()
            .chain([host])
            .filter(|uid| self.named.contains(*uid))
            .cloned()
            .collect();
        named.sort();
        let key = Slice {
            named,
            without: without.to_vec(),
        };
        let mut slices = self.slices.lock().map_err(|_| "policies are locked".to_owned())?;
        if let Some(set) = slices.get(&key) {
            return Ok(Arc::clone(set));
        }
        let mut set = PolicySet::new();
        for compiled in &self.all {
            let applies = compiled
                .scope
                .as_ref()
                .is_none_or(|scope| key.named.contains(scope));
            if applies && !key.without.contains(&compiled.label) {
                set.add(compiled.policy.clone())
                    .map_err(|error| error.to_string())?;
            }
        }
        if slices.len() >= MAX_SLICES {
            slices.clear();
        }
        let set = Arc::new(set);
        slices.insert(key, Arc::clone(&set));
        Ok(set)
    }
}

impl Compiled {
    fn determining(&self, claims: &Claims) -> Determining {
        Determining {
            label: self.label.clone(),
            id: self.id.clone(),
            effect: match self.policy.effect() {
                CedarEffect::Permit => Effect::Permit,
                CedarEffect::Forbid => Effect::Forbid,
            },
            reason: self.policy.annotation("reason").map(str::to_owned),
            remedy: self.policy.annotation("remedy").map(str::to_owned),
            claims: tested(&self.json, claims),
        }
    }
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, String> {
    let kind = EntityTypeName::from_str(&format!("Touchmark::{kind}")).map_err(|error| error.to_string())?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

fn check_label(label: &str) -> Result<(), PolicyError> {
    let printable = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if label.is_empty() || label.len() > 64 || !label.chars().all(printable) {
        return Err(PolicyError::Label(label.to_owned()));
    }
    Ok(())
}

/// The name of a policy without one: its position in the text, from 1.
fn counted(id: &PolicyId) -> String {
    let id = id.to_string();
    let number = id
        .strip_prefix("policy")
        .and_then(|number| number.parse::<usize>().ok());
    number.map_or(id, |number| (number + 1).to_string())
}

/// An error with what is behind it, on one line.
fn flat(error: &(impl std::error::Error + ?Sized)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(behind) = source {
        let behind_text = behind.to_string();
        if !text.contains(&behind_text) {
            text = format!("{text}: {behind_text}");
        }
        source = behind.source();
    }
    text.replace('\n', " ")
}
