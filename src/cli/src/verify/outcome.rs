//! What a command of `verify` reports: the checks in their order, the verdict, and the exit code that goes with it.

use std::process::ExitCode;

use serde_json::{Map, Value, json};
use touchmark_rats::{Check, ClaimValue, Claims, Outcome, Reason};

use crate::{
    exit::{REFUSED, UNUSABLE},
    output::{Output, one_line, report},
};

/// What came out.
pub(super) struct Report {
    /// What was looked at, in order.
    pub(super) checks: Vec<Check>,
    /// Further members of the document.
    pub(super) facts: Map<String, Value>,
    /// What people read before the checks.
    pub(super) story: Vec<String>,
    /// Why nothing is proved although nothing was found wrong: what it could be proved by was not given.
    pub(super) unproved: Option<&'static str>,
}

/// Of logs and lists without register values.
pub(super) const NO_VALUES: &str = "give the values of the registers (--registers)";

impl Report {
    pub(super) fn of(checks: Vec<Check>) -> Self {
        Self {
            checks,
            facts: Map::new(),
            story: Vec::new(),
            unproved: None,
        }
    }

    pub(super) fn with(mut self, name: &str, value: Value) -> Self {
        self.facts.insert(name.to_owned(), value);
        self
    }

    /// Prints it; the exit code is 0 for affirming, 1 for refused, 2 where the evidence itself cannot be read.
    pub(super) fn print(self, output: Output) -> ExitCode {
        let failures: Vec<&Check> = self
            .checks
            .iter()
            .filter(|check| check.reason().is_some())
            .collect();
        let unusable = failures.iter().any(|check| {
            [".structure", ".signature"]
                .iter()
                .any(|part| check.name.ends_with(part))
                && matches!(check.reason(), Some(Reason::Malformed | Reason::Oversized))
        });
        let verdict = match (failures.is_empty(), unusable) {
            (true, _) => "affirming",
            (false, true) => "unusable",
            (false, false) => "refused",
        };
        let mut document = self.facts;
        document.insert("verdict".into(), verdict.into());
        let proved = verdict == "affirming" && self.unproved.is_none();
        document.insert("proved".into(), proved.into());
        let proof = match self.unproved {
            Some(hint) if verdict == "affirming" => format!(", and proved by nothing: {hint}"),
            _ => String::new(),
        };
        document.insert("checks".into(), self.checks.iter().map(check).collect());
        // What evidence says is shown in lines of its own: it must not make any.
        let story: Vec<String> = self.story.iter().map(|line| one_line(line)).collect();
        let story = story.join("\n");
        report(output, &Value::Object(document), |document| {
            let lines: Vec<String> = self.checks.iter().map(line).collect();
            let verdict = document["verdict"].as_str().unwrap_or_default();
            let space = if story.is_empty() { "" } else { "\n\n" };
            format!("{story}{space}{}\n\n{verdict}{proof}", lines.join("\n"))
        });
        match verdict {
            "affirming" => ExitCode::SUCCESS,
            "unusable" => ExitCode::from(UNUSABLE),
            _ => ExitCode::from(REFUSED),
        }
    }
}

/// Claims as a document.
pub(super) fn claims(claims: &Claims) -> Value {
    let members = claims.iter().map(|(name, value)| {
        let value = match value {
            ClaimValue::Bool(value) => json!(value),
            ClaimValue::Int(value) => json!(value),
            ClaimValue::Text(value) => json!(value),
            ClaimValue::Texts(values) => json!(values),
        };
        (name.to_owned(), value)
    });
    Value::Object(members.collect())
}

fn check(check: &Check) -> Value {
    let (outcome, reason) = match check.outcome {
        Outcome::Passed => ("passed", None),
        Outcome::Noted(reason) => ("noted", Some(reason)),
        Outcome::Failed(reason) => ("failed", Some(reason)),
    };
    let mut out = json!({"name": check.name, "outcome": outcome, "found": check.found});
    if let Some(reason) = reason {
        out["reason"] = reason.code().into();
    }
    if outcome == "failed" {
        out["expected"] = check.expected.as_str().into();
        out["remedy"] = check.remedy.as_str().into();
    }
    out
}

fn line(check: &Check) -> String {
    // What has several lines goes on below, where no check begins.
    let found = check.found.replace('\n', "\n                   ");
    match check.outcome {
        Outcome::Passed => format!("ok       {:32} {found}", check.name),
        Outcome::Noted(reason) => format!("noted    {:32} {reason}: {found}", check.name),
        Outcome::Failed(reason) => format!(
            "REFUSED  {:32} {reason}\n         expected  {}\n         found     {}\n         to do     {}",
            check.name, check.expected, found, check.remedy
        ),
    }
}
