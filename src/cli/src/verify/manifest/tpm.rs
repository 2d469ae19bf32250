//! Quotes and certifications.

use touchmark_attestor_tpm::{
    AttestSignature, CertificateUse, LogUse, RecordedCertify, RecordedKey, RecordedQuote, Registers,
    judge_log,
};
use touchmark_crypto::{CryptoError, HashAlg, PublicKey, SigScheme, pem, x509::DeviceCertificate};
use touchmark_rats::{Check, PcrBank, PcrSelection, Reason};

use super::{
    case::{Case, bank},
    certificates::{anchors, judged},
    finding::Finding,
};

pub(super) fn quote(case: &Case) -> Result<Finding, String> {
    let (mut finding, key) = key(case)?;
    let Some(key) = key else { return Ok(finding) };
    let (attest, signature) = (case.file("tpms_attest")?, case.file("tpmt_signature")?);
    let nonce = case.bytes("expected_nonce")?;
    let selection = match selection(case)? {
        Ok(selection) => selection,
        Err(reason) => return Ok(Finding::refused(reason)),
    };
    let Ok(values) = case.registers("pcr_values_json") else {
        return Ok(Finding::refused(Reason::Malformed));
    };
    let log = case.optional("eventlog")?;
    let judged = RecordedQuote {
        attest: &attest,
        signature: &signature,
        key: &key,
        nonce: nonce.as_deref(),
        selection: selection.as_ref(),
        values: values.as_ref(),
        log: log.as_deref(),
    }
    .judge();
    let held = judged.checks.iter().all(|check| check.reason().is_none());
    finding.extend(Finding::of(&judged.checks));
    let secure_boot = case.requires("require_secure_boot");
    match log.filter(|_| held) {
        Some(log) => {
            let wanted = LogUse {
                secure_boot,
                bank: None,
            };
            finding.extend(Finding::of(
                &judge_log(&log, Registers::Pcr, &judged.quoted, wanted).checks,
            ));
        }
        None if secure_boot && held => finding.refuse(Reason::SecureBootUnknown),
        None => {}
    }
    Ok(finding)
}

pub(super) fn certify(case: &Case) -> Result<Finding, String> {
    let (mut finding, key) = key(case)?;
    let Some(key) = key else { return Ok(finding) };
    let (attest, certified) = (case.file("tpms_attest")?, case.file("certified_public_tpmt")?);
    let nonce = case.bytes("expected_nonce")?;
    let (tpmt, raw) = (case.optional("tpmt_signature")?, case.optional("raw_signature")?);
    let signature = match (&tpmt, &raw) {
        (Some(tpmt), _) => AttestSignature::Tpmt(tpmt),
        (None, Some(raw)) => match case.text("raw_signature_alg").and_then(scheme) {
            Some(scheme) => AttestSignature::Raw(scheme, raw),
            None => return Ok(Finding::refused(Reason::AlgNotAllowed)),
        },
        (None, None) => return Ok(Finding::refused(Reason::SignatureInvalid)),
    };
    let judged = RecordedCertify {
        attest: &attest,
        signature,
        key: &key,
        nonce: nonce.as_deref(),
        certified: &certified,
    }
    .judge();
    finding.extend(Finding::of(&judged.checks));
    Ok(finding)
}

/// The key that has to have signed: the one given, chained to a root where there is one. `None` where there is none that counts.
fn key(case: &Case) -> Result<(Finding, Option<RecordedKey>), String> {
    let mut finding = Finding::default();
    let given = match case
        .optional("ak_public_pem")?
        .map(|text| public_key(&text))
        .transpose()
    {
        Ok(given) => given,
        Err(checks) => return Ok((Finding::of(&checks), None)),
    };
    if given.as_ref().is_some_and(PublicKey::is_weak) {
        return Ok((Finding::refused(Reason::WeakKey), None));
    }
    let roots = !case.files("root")?.is_empty();
    let certified = match case.certificates("ak_cert")?.into_iter().next() {
        None if roots => return Ok((Finding::refused(Reason::IssuerUnavailable), None)),
        None => None,
        // Without a root the key that was given is the anchor.
        Some(der) if !roots && given.is_some() => {
            let read = DeviceCertificate::parse(&der).and_then(|read| PublicKey::from_spki(&read.facts.spki));
            match read {
                Ok(key) => Some(key),
                Err(_) => return Ok((Finding::refused(Reason::Malformed), None)),
            }
        }
        Some(der) => {
            let intermediates = case.certificates("intermediate")?;
            let anchors = match anchors(case)? {
                Ok(anchors) => anchors,
                Err(finding) => return Ok((finding, None)),
            };
            let (found, chip) = judged(
                &der,
                &intermediates,
                &anchors,
                CertificateUse::BareAttestation,
                case.time()?,
            );
            finding.extend(found);
            let Some(chip) = chip else {
                return Ok((finding, None));
            };
            Some(chip.key)
        }
    };
    let key = match (given, certified) {
        (Some(given), Some(certified)) if given != certified => {
            return Ok((Finding::refused(Reason::BindingMismatch), None));
        }
        (Some(key), _) | (None, Some(key)) => key,
        (None, None) => return Err("there is no file of role ak_public_pem or ak_cert".to_owned()),
    };
    let Some(public) = case.optional("ak_public_tpmt")? else {
        return Ok((finding, Some(RecordedKey::bare(key))));
    };
    Ok(match RecordedKey::with_area(key, &public) {
        Ok(key) => (finding, Some(key)),
        Err(check) => (Finding::of([&check]), None),
    })
}

fn public_key(bytes: &[u8]) -> Result<PublicKey, Vec<Check>> {
    let text = String::from_utf8_lossy(bytes);
    let der = pem::decode_all("PUBLIC KEY", &text)
        .ok()
        .and_then(|ders| ders.into_iter().next());
    PublicKey::from_spki(der.as_deref().unwrap_or(bytes)).map_err(|error| {
        let mut reasons = vec![Reason::KeyInvalid];
        if matches!(error, CryptoError::Malformed(_)) {
            reasons.push(Reason::Malformed);
        }
        let failed = |reason| {
            Check::failed(
                "tpm.attestation_key",
                reason,
                "an RSA, P-256 or P-384 key",
                error.to_string(),
                "give the attestation key as a SubjectPublicKeyInfo",
            )
        };
        reasons.into_iter().map(failed).collect()
    })
}

/// The selection that was asked for; a bank that nothing has cannot be what was quoted.
fn selection(case: &Case) -> Result<Result<Option<PcrSelection>, Reason>, String> {
    let Some(value) = case.param("expected_pcr_selection") else {
        return Ok(Ok(None));
    };
    let wrong = || "expected_pcr_selection is not [[bank, [index]]]".to_owned();
    let banks: Vec<(String, Vec<u8>)> = serde_json::from_value(value.clone()).map_err(|_| wrong())?;
    let known: Option<Vec<PcrBank>> = banks
        .into_iter()
        .map(|(name, indices)| bank(&name).map(|bank| PcrBank { bank, indices }))
        .collect();
    Ok(known
        .map(PcrSelection)
        .map(Some)
        .ok_or(Reason::PcrSelectionMismatch))
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
