//! Evidence of real machines and other projects' tests, from `tests/vectors`. Each case says what has to come out; where
//! the appraiser has another rule, [`EXCEPTIONS`] says which and why.

mod tokens;
mod tpm;

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::Value;
use touchmark_attestor_tpm::BootLog;
use touchmark_rats::{Appraisal, ClaimValue, PcrSelection};

use crate::architecture::repository;

/// Cases in which the appraiser comes to another verdict by a rule of its own: the reason it gives (`accepted` for
/// none), and the rule.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("tcg-eventlog/cmc-mrtool-short", "malformed", AGILE),
    ("tcg-eventlog/debian10-gce-sha1only", "malformed", AGILE),
    (
        "tcg-eventlog/dell-r340-windows2019-sha1-tcg12",
        "malformed",
        AGILE,
    ),
    ("tcg-eventlog/goatt-ebs-event-missing", "malformed", AGILE),
    ("tcg-eventlog/goatt-option-rom", "malformed", AGILE),
    (
        "tcg-eventlog/guard-binary-bios-measurements-15",
        "malformed",
        AGILE,
    ),
    ("tcg-eventlog/x1carbon-windows10", "event_digest_set", DIGESTS),
    ("tcg-eventlog/edit-trailing-zeros", "event_digest_set", DIGESTS),
    ("tcg-eventlog/edit-ebs-failure-only", "accepted", BY_DIGEST),
    ("tcg-eventlog/edit-secureboot-twice-on-off", "accepted", BY_DIGEST),
    (
        "tcg-eventlog/edit-secureboot-two-byte-value",
        "accepted",
        BY_DIGEST,
    ),
    (
        "tcg-eventlog/edit-secureboot-variable-after-separator",
        "accepted",
        BY_DIGEST,
    ),
    (
        "tcg-eventlog/edit-variable-name-length-overflow",
        "accepted",
        BY_DIGEST,
    ),
    (
        "tcg-eventlog/edit-no-action-with-digest",
        "accepted",
        "what is never extended is not looked at",
    ),
    (
        "tpm-quote/x1carbon-gentoo-24pcrs",
        "log_mismatch",
        "register 10 was quoted too, which only a list of IMA could explain",
    ),
];
const AGILE: &str = "only crypto-agile logs are read";
const DIGESTS: &str = "each event has exactly the digests that the header lists";
const BY_DIGEST: &str =
    "what was measured is held against reference values by its digests, and not interpreted";

struct Case {
    id: String,
    text: Value,
}

/// The cases that are to be checked like this.
fn cases(check: &str) -> Vec<Case> {
    let path = folder().join("MANIFEST.json");
    let manifest: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases: Vec<Case> = manifest["cases"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|case| case["as"] == check)
        .map(|case| Case {
            id: case["id"].as_str().unwrap().to_owned(),
            text: case.clone(),
        })
        .collect();
    assert!(!cases.is_empty());
    cases
}

fn folder() -> PathBuf {
    repository().join("tests/vectors")
}

impl Case {
    fn file(&self, role: &str) -> Option<Vec<u8>> {
        let name = self.text["files"][role].as_str()?;
        Some(std::fs::read(folder().join(&self.id).join(name)).unwrap())
    }

    /// Register values by bank and number.
    fn registers(&self, role: &str) -> Option<BTreeMap<String, BTreeMap<u8, Vec<u8>>>> {
        let text: BTreeMap<String, BTreeMap<u32, String>> =
            serde_json::from_slice(&self.file(role)?).unwrap();
        // Some logs extend registers that do not exist.
        let bytes = |values: BTreeMap<u32, String>| {
            let numbered = values.into_iter().filter(|(index, _)| *index < 24);
            numbered
                .map(|(index, value)| (u8::try_from(index).unwrap(), hex::decode(value).unwrap()))
                .collect()
        };
        Some(
            text.into_iter()
                .map(|(bank, values)| (bank, bytes(values)))
                .collect(),
        )
    }

    fn selection(&self) -> PcrSelection {
        let banks: Vec<(String, Vec<u8>)> =
            serde_json::from_value(self.text["params"]["expected_pcr_selection"].clone()).unwrap();
        let wire: Vec<(u16, Vec<u8>)> = banks
            .into_iter()
            .map(|(bank, indices)| (tpm::bank(&bank), indices))
            .collect();
        PcrSelection::from_wire(&wire).unwrap()
    }

    /// Compares what came out with what the case says. `found` is the reason of a refusal, `warned` what else was
    /// reported. Returns what disagrees.
    fn disagreement(&self, found: Option<&str>, warned: &[&str]) -> Option<String> {
        let named = |code: &str| {
            self.text["names"]
                .as_array()
                .unwrap()
                .iter()
                .any(|name| name == code)
        };
        let agrees = match self.text["expected"]["verdict"].as_str().unwrap() {
            "valid" => found.is_none(),
            "invalid" | "parse-error" => found.is_some_and(named),
            "valid-with-policy-caveat" => found.into_iter().chain(warned.iter().copied()).any(named),
            "informational" => true,
            other => panic!("{other}"),
        };
        let found = found.unwrap_or("accepted");
        let exception = EXCEPTIONS.iter().find(|(id, ..)| *id == self.id);
        match (agrees, exception) {
            (true, None) => None,
            (false, Some((_, reason, _))) if *reason == found => None,
            (true, Some(_)) => Some(format!("{}: agrees ({found}), and is an exception", self.id)),
            (false, _) => Some(format!(
                "{}: {found} where {} was expected ({})",
                self.id, self.text["expected"], self.text["names"]
            )),
        }
    }
}

/// The reason of the first failure.
fn reason(appraisal: &Appraisal) -> Option<&'static str> {
    appraisal
        .failure()
        .map(|check| check.reason().expect("failed").code())
}

/// What an appraisal reports without refusing, by the names that cases use.
fn warnings(appraisal: &Appraisal) -> Vec<&'static str> {
    let mut out = Vec::new();
    if appraisal.claims.get("tpm.clock_safe") == Some(&ClaimValue::Bool(false)) {
        out.push("clock_not_safe");
    }
    if appraisal.measured.iter().any(|(_, any)| !any) {
        out.push("pcrs_unmeasured");
    }
    out
}

#[test]
fn every_exception_is_of_a_case() {
    let known: Vec<String> = ["tpm-quote", "eventlog"]
        .into_iter()
        .flat_map(cases)
        .map(|case| case.id)
        .collect();
    for (id, ..) in EXCEPTIONS {
        assert!(known.iter().any(|known| known == id), "{id}");
    }
}

#[test]
fn quotes_of_real_tpms_are_judged_as_their_cases_say() {
    let mut wrong = Vec::new();
    for case in cases("tpm-quote") {
        let appraisal = tpm::quote(&case);
        // A case without a log says nothing about one: what comes before it is the verdict.
        let unlogged = case.file("eventlog").is_none()
            && appraisal
                .failure()
                .is_some_and(|check| check.name == "tpm.log.structure");
        let found = reason(&appraisal).filter(|_| !unlogged);
        wrong.extend(case.disagreement(found, &warnings(&appraisal)));
        assert!(found.is_some() || appraisal.authenticated);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn boot_logs_of_real_machines_are_judged_as_their_cases_say() {
    let mut wrong = Vec::new();
    // Logs of TDX guests count other registers: here they only have to be read without harm.
    let of_tpms = cases("eventlog");
    for case in of_tpms
        .into_iter()
        .filter(|case| case.text["params"]["registers"] == "pcr")
    {
        let appraisal = tpm::boot(&case);
        wrong.extend(case.disagreement(reason(&appraisal), &warnings(&appraisal)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn p03_real_logs_cut_or_overwritten_anywhere_parse_or_fail_cleanly() {
    for case in cases("eventlog") {
        let log = case.file("eventlog").unwrap();
        let events = BootLog::parse(&log).map_or(usize::MAX, |log| log.len());
        for step in 0..200 {
            let at = step * log.len() / 200;
            if let Ok(shorter) = BootLog::parse(&log[..at]) {
                assert!(shorter.len() <= events, "{}", case.id);
            }
            for byte in [0, 0x7f, 0xff] {
                let mut changed = log.clone();
                changed[at] = byte;
                if let Ok(parsed) = BootLog::parse(&changed) {
                    assert!(parsed.len() * 16 <= log.len(), "{}", case.id);
                }
            }
        }
    }
}
