//! `touchmark verify manifest`: runs the cases of a manifest, says of each what was expected and what was found.

mod case;
mod certificates;
mod corim;
mod finding;
mod ima;
mod jose;
mod logs;
mod modules;
mod results;
mod tokens;
mod tpm;

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use serde_json::{Value, json};
use touchmark_attestor_hsm::Format;
use touchmark_rats::Reason;

use self::{
    case::{Case, Manifest},
    finding::Finding,
};
use crate::{
    exit::{REFUSED, UNUSABLE, fail},
    output::{Output, one_line, report},
};

/// A manifest of cases.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The manifest; the files of its cases lie in folders beside it.
    file: PathBuf,
    /// Only cases whose identifier begins like this.
    #[arg(long, value_name = "PREFIX")]
    only: Option<String>,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let manifest = match Manifest::read(&arguments.file) {
        Ok(manifest) => manifest,
        Err(why) => return fail(UNUSABLE, why),
    };
    let mut tally = Tally::default();
    let only = arguments.only.as_deref().unwrap_or_default();
    let cases = manifest.cases.iter().filter(|case| case.id.starts_with(only));
    let lines: Vec<Value> = cases.map(|case| tally.line(case)).collect();
    if lines.is_empty() && arguments.only.is_some() {
        return fail(
            UNUSABLE,
            format!("--only {only}: no case's identifier begins like this"),
        );
    }
    let document = json!({
        "cases": lines,
        "unsupported_kinds": tally.unsupported,
        "passed": tally.passed,
        "failed": tally.failed,
        "unsupported": tally.unsupported.values().sum::<usize>(),
    });
    report(arguments.output, &document, text);
    if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(REFUSED)
    }
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    unsupported: BTreeMap<String, usize>,
}

impl Tally {
    fn line(&mut self, case: &Case) -> Value {
        let mut line = json!({
            "id": case.id,
            "as": case.kind,
            "expected": case.verdict,
            "names": case.names,
        });
        let finding = match check(case) {
            Ok(Some(finding)) => finding,
            Ok(None) => {
                *self.unsupported.entry(case.kind_with_profile()).or_default() += 1;
                line["outcome"] = "unsupported".into();
                return line;
            }
            Err(why) => {
                self.failed += 1;
                line["outcome"] = "failed".into();
                line["why"] = why.into();
                return line;
            }
        };
        let agrees = case.agrees(&finding);
        *(if agrees {
            &mut self.passed
        } else {
            &mut self.failed
        }) += 1;
        line["outcome"] = if agrees { "passed" } else { "failed" }.into();
        line["found"] = finding.verdict().into();
        line["reasons"] = json!(finding.refused);
        line["notes"] = json!(finding.noted);
        line
    }
}

/// Appraises a case; `None` for a kind or profile that is not known. An error is a case that lacks what its kind needs.
fn check(case: &Case) -> Result<Option<Finding>, String> {
    case.check_policy()?;
    // Revocation lists are not read yet: what has one is not judged in part, and what has none is not known to be unrevoked.
    if certificates::HAVE_ISSUERS.contains(&case.kind.as_str()) {
        if case.optional("crl")?.is_some() {
            return Ok(None);
        }
        if case.requires("require_crl") {
            return Ok(Some(Finding::refused(Reason::RevocationUnknown)));
        }
    }
    let finding = match (case.kind.as_str(), case.profile.as_deref()) {
        ("tpm-quote", None) => tpm::quote(case)?,
        ("tpm-certify", None) => tpm::certify(case)?,
        ("ek-cert", None) => certificates::endorsement(case)?,
        ("ak-cert", None) => certificates::attestation(case)?,
        ("x509-chain", None) => certificates::chain(case)?,
        ("eventlog", None) => logs::boot(case)?,
        ("wit", None) => tokens::identity(case)?,
        ("wpt", Some("wpt-01")) => tokens::proof(case)?,
        ("jws" | "cose-sign1", None) if jose::needs_ed448(case)? => return Ok(None),
        ("jws", None) => jose::jws(case)?,
        ("cose-sign1", None) => jose::sign1(case)?,
        ("ear", Some(name)) => match results::profile(name) {
            Some(profile) => results::ear(case, profile)?,
            None => return Ok(None),
        },
        ("ear-claims", Some(name)) => match results::profile(name) {
            Some(profile) => results::ear_claims(case, profile)?,
            None => return Ok(None),
        },
        ("eat-claims", None) => results::eat_claims(case)?,
        ("cmw", None) => results::wrapper(case)?,
        ("cmw-signed", None) => results::signed_wrapper(case)?,
        ("cmw-x509", None) => results::certificate(case)?,
        ("hsm-attestation", Some(name)) => match Format::parse(name) {
            Some(format) => modules::statement(case, format)?,
            None => return Ok(None),
        },
        ("tss2-key", None) => modules::key_file(case)?,
        ("ima", None) => ima::list(case)?,
        ("corim", None) => corim::manifest(case)?,
        ("corim-signed", None) => corim::signed_manifest(case)?,
        ("comid", None) => corim::modules(case)?,
        _ => return Ok(None),
    };
    Ok(Some(finding))
}

fn text(document: &Value) -> String {
    let names = |value: &Value| -> String {
        let names: Vec<&str> = value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if names.is_empty() {
            String::new()
        } else {
            one_line(&format!(" ({})", names.join(", ")))
        }
    };
    let word = |value: &Value| one_line(value.as_str().unwrap_or_default());
    let mut lines = Vec::new();
    for case in document["cases"].as_array().into_iter().flatten() {
        let head = format!(
            "{:11} {}: expected {}{}",
            word(&case["outcome"]),
            word(&case["id"]),
            word(&case["expected"]),
            names(&case["names"])
        );
        lines.push(match (case["found"].as_str(), case["why"].as_str()) {
            (Some(found), _) => {
                let notes = names(&case["notes"]);
                let noted = if notes.is_empty() {
                    notes
                } else {
                    format!(", noted{notes}")
                };
                format!("{head}; found {found}{}{noted}", names(&case["reasons"]))
            }
            (None, Some(why)) => format!("{head}; {}", one_line(why)),
            (None, None) => head,
        });
    }
    for (kind, count) in document["unsupported_kinds"].as_object().into_iter().flatten() {
        lines.push(format!("unsupported {}: {count}", one_line(kind)));
    }
    lines.push(format!(
        "{} passed, {} failed, {} unsupported",
        document["passed"], document["failed"], document["unsupported"]
    ));
    lines.join("\n")
}
