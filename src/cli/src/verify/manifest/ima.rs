//! Lists of the kernel's measurements.

use std::collections::BTreeMap;

use touchmark_attestor_tpm::{
    BootLog, PcrValues, boot_values,
    ima::{ImaExpected, SignatureKeys, judge_ima},
};
use touchmark_crypto::{PublicKey, pem};
use touchmark_rats::Reason;

use super::{case::Case, finding::Finding};

pub(super) fn list(case: &Case) -> Result<Finding, String> {
    let mut values = case.registers("pcr_values_json")?.unwrap_or_default();
    let mut finding = Finding::default();
    if let Some(log) = case.optional("eventlog")? {
        match BootLog::parse(&log) {
            Ok(log) => {
                let replayed = boot_values(&log);
                if is_of_another_boot(&values, &replayed) {
                    finding.refuse(Reason::LogMismatch);
                }
                complete(&mut values, replayed);
            }
            Err(_) => return Ok(Finding::refused(Reason::Malformed)),
        }
    }
    let pems = case.files("ima_key")?;
    let keys: Vec<PublicKey> = pems.iter().filter_map(|pem| public_key(pem).ok()).collect();
    if keys.is_empty() && !pems.is_empty() {
        return Ok(Finding::refused(Reason::KeyInvalid));
    }
    let keys = SignatureKeys::new(keys);
    let expected = ImaExpected {
        values,
        keys: (!keys.is_empty()).then_some(&keys),
    };
    let mut seen: Vec<Vec<Vec<u8>>> = Vec::new();
    for (role, ascii) in [("ima_binary", false), ("ima_ascii", true)] {
        let Some(list) = case.optional(role)? else {
            continue;
        };
        let judged = judge_ima(&list, ascii, &expected);
        seen.push(judged.entries.iter().map(|entry| entry.data.to_vec()).collect());
        let found = Finding::of(&judged.checks);
        finding.refused.extend(found.refused);
        finding.noted.extend(found.noted);
    }
    match seen.as_slice() {
        [] => return Err("there is no file of role ima_binary or ima_ascii".to_owned()),
        // Two forms of one list; one may have been read a little later.
        [one, other] if one.iter().zip(other).any(|(one, other)| one != other) => {
            finding.refuse(Reason::LogMismatch);
            finding.refuse(Reason::EventDataMismatch);
        }
        _ => {}
    }
    Ok(finding)
}

/// Whether a boot log leads to other values than those given, in every bank that both have. Of one bank alone firmware may log otherwise
/// than it extends.
fn is_of_another_boot(values: &PcrValues, replayed: &PcrValues) -> bool {
    let differs = |bank| -> Option<bool> {
        let (given, told): (&BTreeMap<u8, Vec<u8>>, _) = (values.get(bank)?, replayed.get(bank)?);
        let mut both = given
            .iter()
            .filter(|(index, _)| **index < 8)
            .filter_map(|(index, value)| Some((value, told.get(index)?)))
            .peekable();
        both.peek()?;
        Some(both.any(|(given, told)| given != told))
    };
    let mut compared = replayed.keys().filter_map(differs).peekable();
    compared.peek().is_some() && compared.all(|differs| differs)
}

/// Registers of the boot that no value was given for, as its log leads to them.
fn complete(values: &mut PcrValues, replayed: PcrValues) {
    for (bank, registers) in replayed {
        let known = values.entry(bank).or_default();
        for (index, value) in registers {
            known.entry(index).or_insert(value);
        }
        // What firmware did not extend holds zeros.
        for index in 0..10 {
            known.entry(index).or_insert_with(|| vec![0; bank.len()]);
        }
    }
}

fn public_key(text: &[u8]) -> Result<PublicKey, String> {
    let wrong = |what: String| format!("ima_key: {what}");
    let text = String::from_utf8_lossy(text);
    let der = pem::decode_all("PUBLIC KEY", &text)
        .map_err(|error| wrong(error.to_string()))?
        .into_iter()
        .next()
        .ok_or_else(|| wrong("no key".to_owned()))?;
    PublicKey::from_file_signer_spki(&der).map_err(|error| wrong(error.to_string()))
}
