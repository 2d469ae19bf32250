//! `touchmark policy test`: a table of evidence and the decisions that are expected, for an operator's own CI.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::Deserialize;
use serde_json::{Value, json};
use touchmark_attestor_tpm::{LogUse, PcrValues, Registers, judge_log};
use touchmark_policy::{Policies, Source, Subject, claim_type, is_claim};
use touchmark_rats::{Check, ClaimValue, Claims};
use touchmark_verifier::ReferenceSet;

use super::label_of;
use crate::{
    admin::read_file,
    exit::{REFUSED, UNUSABLE, fail},
    output::{Output, report},
    verify::{input, nobody_vouches, of_boot, of_list, references},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// Cedar files; each is a set by its name.
    policies: Vec<PathBuf>,
    /// Reference values that are applied.
    #[serde(default)]
    references: Vec<PathBuf>,
    #[serde(rename = "case")]
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default = "any_host")]
    host: String,
    #[serde(default)]
    labels: Vec<String>,
    /// A boot log, a list of what the kernel measured, and the registers that they have to lead to.
    eventlog: Option<PathBuf>,
    ima: Option<PathBuf>,
    registers: Option<PathBuf>,
    /// Lists of known files, for the list.
    #[serde(default)]
    allowlists: Vec<PathBuf>,
    /// The reason for which the evidence itself has to be refused, before any policy is asked.
    reason: Option<String>,
    /// Claims beside those of the log, or instead of them.
    #[serde(default)]
    claims: BTreeMap<String, ClaimValue>,
    expect: Expect,
    /// A policy that has to be among those that decide, `label/id`.
    by: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expect {
    Permit,
    Deny,
}

fn any_host() -> String {
    "host".to_owned()
}

pub(super) fn run(output: Output, file: &Path) -> Result<(), ExitCode> {
    let text = read_file(file)?;
    let table: Table =
        toml::from_str(&text).map_err(|error| fail(UNUSABLE, format!("{}: {error}", file.display())))?;
    let here = file.parent().unwrap_or(Path::new("."));
    let sources = table
        .policies
        .iter()
        .map(|path| {
            Ok(Source {
                label: label_of(path),
                text: read_file(&here.join(path))?,
                observe: Vec::new(),
            })
        })
        .collect::<Result<Vec<_>, ExitCode>>()?;
    let policies = Policies::compile(&sources).map_err(|error| fail(UNUSABLE, error))?;
    let paths: Vec<PathBuf> = table.references.iter().map(|path| here.join(path)).collect();
    let sets = references(&paths)?;
    let results = table
        .cases
        .iter()
        .map(|case| judge(case, here, &policies, &sets))
        .collect::<Result<Vec<Value>, ExitCode>>()?;
    let failed = results.iter().filter(|result| result["passed"] == false).count();
    let document = json!({"passed": results.len() - failed, "failed": failed, "cases": results});
    report(output, &document, |document| {
        let line = |case: &Value| {
            let text = |name: &str| case[name].as_str().unwrap_or_default();
            let word = if case["passed"] == true {
                "ok    "
            } else {
                "FAILED"
            };
            format!(
                "{word} {}: expected {}, {}: {}",
                text("name"),
                text("expected"),
                text("decision"),
                text("explanation").replace('\n', "; ")
            )
        };
        let mut lines: Vec<String> = document["cases"]
            .as_array()
            .into_iter()
            .flatten()
            .map(line)
            .collect();
        lines.push(format!(
            "{} passed, {} failed",
            document["passed"], document["failed"]
        ));
        lines.join("\n")
    });
    if failed == 0 {
        Ok(())
    } else {
        Err(ExitCode::from(REFUSED))
    }
}

/// What a case's evidence establishes, and why it is refused where it is.
fn evidence(
    case: &Case,
    here: &Path,
    sets: &[ReferenceSet],
    claims: &mut Claims,
) -> Result<Option<Check>, ExitCode> {
    let values: PcrValues = match &case.registers {
        None => PcrValues::new(),
        Some(path) => input::registers(&here.join(path))?,
    };
    let mut checks = Vec::new();
    if let Some(path) = &case.eventlog {
        let log = input::read(&here.join(path))?;
        let wanted = LogUse {
            bank: sets.iter().find_map(ReferenceSet::bank),
            ..LogUse::default()
        };
        let judged = judge_log(&log, Registers::Pcr, &values, wanted);
        claims.extend(&of_boot(&judged, sets, &values));
        checks.extend(judged.checks);
    }
    if let Some(path) = &case.ima {
        let list = input::read(&here.join(path))?;
        let lists: Vec<PathBuf> = case.allowlists.iter().map(|path| here.join(path)).collect();
        let (of_list, established) = of_list(&list, &values, &lists)?;
        claims.extend(&established);
        checks.extend(of_list);
    }
    Ok(checks.into_iter().find(|check| check.reason().is_some()))
}

/// A value's type, as the schema names it.
fn type_of(value: &ClaimValue) -> &'static str {
    match value {
        ClaimValue::Bool(_) => "Bool",
        ClaimValue::Int(_) => "Long",
        ClaimValue::Text(_) => "String",
        ClaimValue::Texts(_) => "Set<String>",
    }
}

fn judge(case: &Case, here: &Path, policies: &Policies, sets: &[ReferenceSet]) -> Result<Value, ExitCode> {
    let mut claims = nobody_vouches();
    let unheld = evidence(case, here, sets, &mut claims)?;
    for (name, value) in &case.claims {
        if !is_claim(name) {
            let what = format!(
                "case {:?}: there is no claim {name:?}; see touchmark policy schema",
                case.name
            );
            return Err(fail(UNUSABLE, what));
        }
        if let Some(wanted) = claim_type(name)
            && wanted != type_of(value)
        {
            let what = format!(
                "case {:?}: claim {name} is of type {wanted}, not {}; see touchmark policy schema",
                case.name,
                type_of(value)
            );
            return Err(fail(UNUSABLE, what));
        }
        claims.set(name.clone(), value.clone());
    }
    let subject = Subject {
        name: &case.host,
        labels: &case.labels,
        platform: "tpm",
    };
    let decision = policies.decide(&subject, &claims);
    let by = case.by.as_ref().is_none_or(|by| {
        decision
            .determining
            .iter()
            .any(|one| format!("{}/{}", one.label, one.id) == *by)
    });
    let code = |check: &Check| check.reason().map(|reason| reason.code().to_owned());
    // Evidence that does not hold is refused before any policy is asked: that is a case of its own, and never what a policy is praised for.
    let (decided, explanation, as_wanted) = match (&unheld, &case.reason) {
        (Some(check), Some(reason)) => (
            "deny",
            format!("{}: {}", check.name, check.found),
            code(check).as_deref() == Some(reason),
        ),
        (Some(check), None) => (
            "unusable",
            format!(
                "the evidence does not hold: {} ({}): {}; say reason = {:?} if that is what is expected",
                check.name,
                code(check).unwrap_or_default(),
                check.found,
                code(check).unwrap_or_default()
            ),
            false,
        ),
        (None, Some(reason)) => (
            if decision.allowed { "permit" } else { "deny" },
            format!("the evidence holds, and was to be refused for {reason}"),
            false,
        ),
        (None, None) => {
            let decided = if decision.allowed { "permit" } else { "deny" };
            let explanation = match &case.by {
                Some(wanted) if !by => format!("{wanted} was to decide; {}", decision.explain()),
                _ => decision.explain(),
            };
            (decided, explanation, decision.errors.is_empty() && by)
        }
    };
    let expected = if case.expect == Expect::Permit {
        "permit"
    } else {
        "deny"
    };
    Ok(json!({
        "name": case.name,
        "passed": as_wanted && decided == expected,
        "expected": expected,
        "decision": decided,
        "explanation": explanation,
    }))
}
