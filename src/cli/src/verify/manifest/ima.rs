//! Lists of the kernel's measurements.

use touchmark_attestor_tpm::{
    BootLog, PcrValues, boot_values,
    ima::{ImaExpected, SignatureKeys, judge_ima},
};
use touchmark_crypto::{PublicKey, pem};
use touchmark_rats::Reason;

use super::{case::Case, finding::Finding};

pub(super) fn list(case: &Case) -> Result<Finding, String> {
    let mut values = case.registers("pcr_values_json")?.unwrap_or_default();
    if let Some(log) = case.optional("eventlog")? {
        match BootLog::parse(&log) {
            Ok(log) => complete(&mut values, boot_values(&log)),
            Err(_) => return Ok(Finding::refused(Reason::Malformed)),
        }
    }
    let pems = case.files("ima_key")?;
    let keys: Vec<PublicKey> = pems
        .iter()
        .map(|pem| public_key(pem))
        .collect::<Result<_, String>>()?;
    let keys = SignatureKeys::new(keys);
    let expected = ImaExpected {
        values,
        keys: (!keys.is_empty()).then_some(&keys),
    };
    let mut finding = Finding::default();
    let mut any = false;
    for (role, ascii) in [("ima_binary", false), ("ima_ascii", true)] {
        let Some(list) = case.optional(role)? else {
            continue;
        };
        any = true;
        let judged = judge_ima(&list, ascii, &expected);
        let found = Finding::of(&judged.checks);
        finding.refused.extend(found.refused);
        finding.noted.extend(found.noted);
    }
    if any {
        Ok(finding)
    } else {
        Err("there is no file of role ima_binary or ima_ascii".to_owned())
    }
}

/// Registers of the boot that no value was given for, as its log leads to them.
fn complete(values: &mut PcrValues, replayed: PcrValues) {
    for (bank, registers) in replayed {
        let known = values.entry(bank).or_default();
        for (index, value) in registers {
            known.entry(index).or_insert(value);
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
