//! Quotes and certifications.

use touchmark_attestor_tpm::{
    AttestSignature, CertificateUse, LogUse, RecordedCertify, RecordedKey, RecordedQuote, Registers,
    judge_certificate, judge_log,
};
use touchmark_crypto::{HashAlg, PublicKey, SigScheme, pem};
use touchmark_rats::{Check, PcrBank, PcrSelection, Reason};

use super::{
    case::{Case, bank},
    certificates::anchors,
    finding::Finding,
};

pub(super) fn quote(case: &Case) -> Result<Finding, String> {
    let mut checks = Vec::new();
    let Some(key) = key(case, &mut checks)? else {
        return Ok(Finding::of(&checks));
    };
    let (attest, signature) = (case.file("tpms_attest")?, case.file("tpmt_signature")?);
    let nonce = case.bytes("expected_nonce")?;
    let selection = selection(case)?;
    let values = case.registers("pcr_values_json")?;
    let judged = RecordedQuote {
        attest: &attest,
        signature: &signature,
        key: &key,
        nonce: nonce.as_deref(),
        selection: selection.as_ref(),
        values: values.as_ref(),
    }
    .judge();
    let held = judged.checks.iter().all(|check| check.reason().is_none());
    checks.extend(judged.checks);
    if let (true, Some(log)) = (held, case.optional("eventlog")?) {
        let wanted = LogUse {
            secure_boot: case.requires("require_secure_boot"),
            bank: None,
        };
        checks.extend(judge_log(&log, Registers::Pcr, &judged.quoted, wanted).checks);
    }
    Ok(Finding::of(&checks))
}

pub(super) fn certify(case: &Case) -> Result<Finding, String> {
    let mut checks = Vec::new();
    let Some(key) = key(case, &mut checks)? else {
        return Ok(Finding::of(&checks));
    };
    let (attest, certified) = (case.file("tpms_attest")?, case.file("certified_public_tpmt")?);
    let nonce = case.bytes("expected_nonce")?;
    let (tpmt, raw) = (case.optional("tpmt_signature")?, case.optional("raw_signature")?);
    let signature = match (&tpmt, &raw) {
        (Some(tpmt), _) => AttestSignature::Tpmt(tpmt),
        (None, Some(raw)) => match case.text("raw_signature_alg").and_then(scheme) {
            Some(scheme) => AttestSignature::Raw(scheme, raw),
            None => return Ok(Finding::refused(Reason::AlgNotAllowed)),
        },
        (None, None) => return Err("there is no signature".to_owned()),
    };
    let judged = RecordedCertify {
        attest: &attest,
        signature,
        key: &key,
        nonce: nonce.as_deref(),
        certified: &certified,
    }
    .judge();
    checks.extend(judged.checks);
    Ok(Finding::of(&checks))
}

/// The key that has to have signed: the one given, chained to a root where there is one. `None` when that fails.
fn key(case: &Case, checks: &mut Vec<Check>) -> Result<Option<RecordedKey>, String> {
    let given = match case.optional("ak_public_pem")? {
        None => None,
        Some(text) => match public_key(&text) {
            Ok(key) => Some(key),
            Err(check) => {
                checks.push(check);
                return Ok(None);
            }
        },
    };
    let certified = match case.certificates("ak_cert")?.into_iter().next() {
        None => None,
        Some(der) => {
            let intermediates = case.certificates("intermediate")?;
            let usage = CertificateUse::Attestation;
            match judge_certificate(&der, &intermediates, &anchors(case)?, usage, case.time()?) {
                Ok(chip) => {
                    checks.extend(chip.checks);
                    Some(chip.key)
                }
                Err(check) => {
                    checks.push(check);
                    return Ok(None);
                }
            }
        }
    };
    let key = match (given, certified) {
        (Some(given), Some(certified)) if given != certified => {
            checks.push(Check::failed(
                "tpm.attestation_key",
                Reason::BindingMismatch,
                "a certificate for the attestation key",
                "one for another key",
                "take both from one TPM",
            ));
            return Ok(None);
        }
        (Some(key), _) | (None, Some(key)) => key,
        (None, None) => return Err("there is no file of role ak_public_pem or ak_cert".to_owned()),
    };
    match case.optional("ak_public_tpmt")? {
        None => Ok(Some(RecordedKey::bare(key))),
        Some(public) => match RecordedKey::with_area(key, &public) {
            Ok(key) => Ok(Some(key)),
            Err(check) => {
                checks.push(check);
                Ok(None)
            }
        },
    }
}

fn public_key(bytes: &[u8]) -> Result<PublicKey, Check> {
    let text = String::from_utf8_lossy(bytes);
    let der = pem::decode_all("PUBLIC KEY", &text)
        .ok()
        .and_then(|ders| ders.into_iter().next());
    PublicKey::from_spki(der.as_deref().unwrap_or(bytes)).map_err(|error| {
        Check::failed(
            "tpm.attestation_key",
            Reason::KeyInvalid,
            "an RSA, P-256 or P-384 key",
            error.to_string(),
            "give the attestation key as a SubjectPublicKeyInfo",
        )
    })
}

fn selection(case: &Case) -> Result<Option<PcrSelection>, String> {
    let Some(value) = case.param("expected_pcr_selection") else {
        return Ok(None);
    };
    let wrong = || "expected_pcr_selection is not [[bank, [index]]]".to_owned();
    let banks: Vec<(String, Vec<u8>)> = serde_json::from_value(value.clone()).map_err(|_| wrong())?;
    banks
        .into_iter()
        .map(|(name, indices)| {
            let bank = bank(&name).ok_or_else(wrong)?;
            Ok(PcrBank { bank, indices })
        })
        .collect::<Result<_, _>>()
        .map(|banks| Some(PcrSelection(banks)))
}

fn scheme(name: &str) -> Option<SigScheme> {
    let (scheme, hash) = name.split_once('-')?;
    let hash: HashAlg = bank(hash)?;
    match scheme {
        "rsassa" => Some(SigScheme::RsaPkcs1(hash)),
        "rsapss" => Some(SigScheme::RsaPss(hash)),
        "ecdsa" => Some(SigScheme::Ecdsa(hash)),
        _ => None,
    }
}
