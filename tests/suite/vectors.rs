//! Evidence of real machines, tokens of other projects and of the drafts, from `tests/vectors` (its README says where each comes from
//! and under which licence): `touchmark verify manifest` has to come to the verdicts that the manifest expects.

use std::{collections::BTreeMap, path::PathBuf, process::Command};

use serde_json::Value;
use touchmark_attestor_tpm::BootLog;

use crate::architecture::repository;

/// Kinds, with their profile where there is one, that no part of the product appraises yet, or ever: how many cases there are of each.
/// `docs/VECTORS.md` says why.
const UNSUPPORTED: &[(&str, usize)] = &[
    ("azure-cvm", 7),
    ("cca-token (cca-ffm-00)", 1),
    ("cca-token (cca-legacy)", 4),
    ("claims-set", 2),
    ("coev", 3),
    ("comid (intel-tdx)", 3),
    ("corim (arm-cca)", 11),
    ("corim (parsec-cca)", 1),
    ("corim (parsec-tpm)", 6),
    ("corim (psa-iot)", 7),
    ("corim (riot)", 2),
    ("corim (sevsnp)", 2),
    ("corim (tpm-enacttrust)", 6),
    ("cose-sign", 20),
    ("coserv", 4),
    ("coswid", 1),
    ("coswid-config", 2),
    ("eat-bundle", 1),
    ("httpsig (httpsig-06)", 6),
    ("jws-set", 9),
    ("nitro-document", 8),
    ("parse-only", 11),
    ("psa-token (psa-2.0.0)", 1),
    ("psa-token (psa-iot-1)", 3),
    ("sgx-quote", 1),
    ("snp-report", 15),
    ("tdx-quote", 15),
    ("x509-crl", 1),
];

fn manifest() -> PathBuf {
    repository().join("tests/vectors/MANIFEST.json")
}

fn judged() -> (bool, Value) {
    let output = Command::new(touchmark_tests::sim::binary("touchmark"))
        .args(["verify", "manifest", "--output", "json"])
        .arg(manifest())
        .output()
        .unwrap();
    (
        output.status.success(),
        serde_json::from_slice(&output.stdout).unwrap(),
    )
}

#[test]
fn every_case_that_is_supported_comes_out_as_the_manifest_expects() {
    let (success, document) = judged();
    let failed: Vec<String> = document["cases"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|case| case["outcome"] == "failed")
        .map(Value::to_string)
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(success);
    let unsupported: BTreeMap<String, usize> =
        serde_json::from_value(document["unsupported_kinds"].clone()).unwrap();
    let expected: BTreeMap<String, usize> = UNSUPPORTED
        .iter()
        .map(|(kind, count)| ((*kind).to_owned(), *count))
        .collect();
    assert_eq!(unsupported, expected);
}

#[test]
fn p03_real_logs_cut_or_overwritten_anywhere_parse_or_fail_cleanly() {
    let manifest: Value = serde_json::from_slice(&std::fs::read(manifest()).unwrap()).unwrap();
    let cases = manifest["cases"].as_array().unwrap().iter();
    for case in cases.filter(|case| case["as"] == "eventlog") {
        let folder = repository()
            .join("tests/vectors")
            .join(case["dir"].as_str().unwrap());
        let log = std::fs::read(folder.join("eventlog.bin")).unwrap();
        let events = BootLog::parse(&log).map_or(usize::MAX, |log| log.len());
        for step in 0..200 {
            let at = step * log.len() / 200;
            if let Ok(shorter) = BootLog::parse(&log[..at]) {
                assert!(shorter.len() <= events, "{folder:?}");
            }
            for byte in [0, 0x7f, 0xff] {
                let mut changed = log.clone();
                changed[at] = byte;
                if let Ok(parsed) = BootLog::parse(&changed) {
                    assert!(parsed.len() * 16 <= log.len(), "{folder:?}");
                }
            }
        }
    }
}
