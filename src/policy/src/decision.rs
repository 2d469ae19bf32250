//! What was decided, by which policy, on which claims.

/// What a policy does where it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Permits.
    Permit,
    /// Forbids.
    Forbid,
}

/// A policy that decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Determining {
    /// Label of its set.
    pub label: String,
    /// Its name within the set: its `@id`, else its position.
    pub id: String,
    /// What it does.
    pub effect: Effect,
    /// What it is for, from its `@reason`.
    pub reason: Option<String>,
    /// What to do, from its `@remedy`.
    pub remedy: Option<String>,
    /// The claims that it tests, with the values they had; `absent` for one that was not there.
    pub claims: Vec<(String, String)>,
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether the host may be admitted.
    pub allowed: bool,
    /// The policies that decided: those that permit, or those that forbid. Empty where nothing permits.
    pub determining: Vec<Determining>,
    /// Where nothing decided: policies for this host that would have permitted, on other claims. The first few.
    pub missed: Vec<Determining>,
    /// Errors of evaluation; any denies.
    pub errors: Vec<String>,
    /// What sets that only observe would have done, where they would have denied.
    pub observed: Vec<Observed>,
}

/// A set that only observes, and would have denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Its label.
    pub label: String,
    /// The denial in words.
    pub explanation: String,
}

impl Decision {
    /// The decision in words.
    pub fn explain(&self) -> String {
        let mut lines: Vec<String> = self.determining.iter().map(Determining::explain).collect();
        lines.extend(
            self.errors
                .iter()
                .map(|error| format!("evaluation failed: {error}")),
        );
        if lines.is_empty() {
            let none = self.missed.is_empty();
            lines.push(if none {
                "no policy permits it: none of those for this host is a permit".to_owned()
            } else {
                "no policy permits it".to_owned()
            });
            let missed = self.missed.iter();
            lines.extend(missed.map(|missed| format!("{}, on other claims than these", missed.explain())));
        }
        lines.join("\n")
    }
}

impl Determining {
    /// The policy and the claims that it tests, in words.
    pub fn explain(&self) -> String {
        let verb = match self.effect {
            Effect::Permit => "permits",
            Effect::Forbid => "forbids",
        };
        let reason = self
            .reason
            .as_ref()
            .map(|reason| format!(": {reason}"))
            .unwrap_or_default();
        let claims: Vec<String> = self
            .claims
            .iter()
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        let on = if claims.is_empty() {
            String::new()
        } else {
            format!(" ({})", claims.join("; "))
        };
        format!("{}/{} {verb}{reason}{on}", self.label, self.id)
    }
}
