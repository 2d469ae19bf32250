//! Recorded quotes and certifications, appraised outside of any exchange: with the nonce, registers and keys that whoever asks brings.

use std::collections::BTreeMap;

use touchmark_crypto::{HashAlg, PublicKey, ct_eq};
use touchmark_rats::{BootCounters, Check, ClaimValue, Claims, PcrSelection, Reason};

use crate::{
    AreaError, Attributes, PublicArea,
    attest::{Attest, Body},
    attestation::{CERTIFY, QUOTE, check_attestation, malformed},
    attestation_key,
    log::{BootLog, boot_values},
    signature::{AttestSignature, Attester},
};

/// Register values by bank and number.
pub type PcrValues = BTreeMap<HashAlg, BTreeMap<u8, Vec<u8>>>;

/// The attestation key that a recording is held against.
#[derive(Debug, Clone)]
pub struct RecordedKey {
    key: PublicKey,
    area: Option<PublicArea>,
}

impl RecordedKey {
    /// A key as a SubjectPublicKeyInfo or a certificate has it: which scheme it is limited to is not known.
    pub fn bare(key: PublicKey) -> Self {
        Self { key, area: None }
    }

    /// A key by its TPMT_PUBLIC as well, which has to be of the same key.
    pub fn with_area(key: PublicKey, public: &[u8]) -> Result<Self, Check> {
        const NAME: &str = "tpm.attestation_key";
        let area = PublicArea::parse(public).map_err(|error| unreadable_area(NAME, &error))?;
        if area.key != key {
            return Err(Check::failed(
                NAME,
                Reason::BindingMismatch,
                "the public area of the same key",
                "that of another",
                "take both from one TPM",
            ));
        }
        Ok(Self {
            key,
            area: Some(area),
        })
    }

    fn attester(&self) -> Attester {
        match &self.area {
            Some(area) => Attester::from(area),
            None => Attester {
                key: self.key.clone(),
                scheme: None,
            },
        }
    }

    fn check(&self) -> Option<Check> {
        let area = self.area.as_ref()?;
        Some(match attestation_key::judge(&area.bytes) {
            Ok(_) => Check::passed("tpm.attestation_key", area.attributes.to_string()),
            // A key that signs whatever it is given makes no attestations.
            Err(check) => check,
        })
    }
}

/// A recorded quote.
#[derive(Debug, Clone)]
pub struct RecordedQuote<'a> {
    /// TPMS_ATTEST.
    pub attest: &'a [u8],
    /// TPMT_SIGNATURE.
    pub signature: &'a [u8],
    /// Whose signature it has to be.
    pub key: &'a RecordedKey,
    /// Qualifying data; `None` where nobody asked for any.
    pub nonce: Option<&'a [u8]>,
    /// What it has to be over; `None` for whatever it is over.
    pub selection: Option<&'a PcrSelection>,
    /// Values of the registers, where there are any; those that were not quoted do not count.
    pub values: Option<&'a PcrValues>,
    /// The boot log: without values it has to lead to the quoted digest by itself, where it can.
    pub log: Option<&'a [u8]>,
}

/// A recorded attestation, judged.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// What was looked at, in order.
    pub checks: Vec<Check>,
    /// What was established.
    pub claims: Claims,
    /// The values that the quote covers.
    pub quoted: PcrValues,
}

impl RecordedQuote<'_> {
    /// Judges it; stops at the first failure.
    pub fn judge(&self) -> Recorded {
        let mut out = Recorded::default();
        if let Err(check) = self.run(&mut out) {
            out.checks.push(check);
        }
        out
    }

    fn run(&self, out: &mut Recorded) -> Result<(), Check> {
        out.checks.extend(self.key.check());
        let signer = self.key.attester();
        let (attest, hash) = check_attestation(
            &mut out.checks,
            &QUOTE,
            &signer,
            self.attest,
            AttestSignature::Tpmt(self.signature),
            self.nonce,
        )?;
        if self.nonce.is_none() {
            out.checks.push(Check::passed(
                QUOTE.binding,
                "no nonce was asked for: nothing about freshness",
            ));
        }
        counters(out, &attest);
        let Body::Quote {
            selection,
            pcr_digest,
            listed_twice,
        } = attest.body
        else {
            return Err(malformed(
                QUOTE.structure,
                "another structure than a quote".into(),
            ));
        };
        let found = selection.as_ref().map(PcrSelection::to_string);
        if listed_twice {
            out.checks.push(Check::failed(
                "tpm.quote.selection",
                Reason::BankListedTwice,
                "each bank once",
                "a bank that is listed twice",
                "quote with a selection that lists each bank once",
            ));
        }
        let mismatch = |expected: String| {
            Check::failed(
                "tpm.quote.selection",
                Reason::PcrSelectionMismatch,
                expected,
                found
                    .clone()
                    .unwrap_or("an unknown bank, or one twice".to_owned()),
                "quote exactly the registers that were asked for",
            )
        };
        // A bank of which nothing is quoted changes nothing.
        if let (Some(found), Some(_)) = (&selection, self.selection)
            && found.0.iter().any(|bank| bank.indices.is_empty())
        {
            let text = format!("{found}: a bank of which nothing is quoted");
            out.checks.push(Check::noted(
                "tpm.quote.selection",
                Reason::PcrSelectionMismatch,
                text,
            ));
        }
        let selection = selection.map(|PcrSelection(banks)| {
            PcrSelection(
                banks
                    .into_iter()
                    .filter(|bank| !bank.indices.is_empty())
                    .collect(),
            )
        });
        let selection = match (self.selection, selection) {
            (None, Some(found)) => found,
            (Some(expected), Some(found)) if *expected == found => found,
            (expected, _) => {
                let expected = expected.map_or("known banks, each once".to_owned(), PcrSelection::to_string);
                return Err(mismatch(expected));
            }
        };
        out.checks
            .push(Check::passed("tpm.quote.selection", selection.to_string()));
        if !selection.0.is_empty() && selection.0.iter().all(|bank| bank.bank.is_weak()) {
            out.checks.push(Check::noted(
                "tpm.quote.selection",
                Reason::WeakHash,
                "registers of the SHA-1 bank alone",
            ));
        }
        if let Some(values) = self.values {
            out.quoted = quoted(values, &selection, hash, &pcr_digest)?;
            out.checks.push(Check::passed(
                "tpm.quote.pcr_digest",
                "register values are those quoted",
            ));
            out.checks.extend(unmeasured(&out.quoted));
            out.checks.extend(beside(values, &out.quoted));
        } else if let Some(log) = self.log.and_then(|log| BootLog::parse(log).ok()) {
            let check = explained(&log, &selection, hash, &pcr_digest, &mut out.quoted);
            out.checks.push(check);
        }
        Ok(())
    }
}

/// Whether a log leads to a digest of registers of which no values came along.
fn explained(
    log: &BootLog<'_>,
    selection: &PcrSelection,
    hash: HashAlg,
    pcr_digest: &[u8],
    quoted: &mut PcrValues,
) -> Check {
    const NAME: &str = "tpm.quote.pcr_digest";
    let replayed = boot_values(log);
    let mut ordered: Vec<Vec<u8>> = Vec::new();
    let mut values = PcrValues::new();
    let mut open: Vec<String> = Vec::new();
    for bank in &selection.0 {
        for index in &bank.indices {
            let value = match replayed.get(&bank.bank).and_then(|bank| bank.get(index)) {
                Some(value) => value.clone(),
                None if *index < 8 => vec![0; bank.bank.len()],
                None => {
                    open.push(index.to_string());
                    vec![0; bank.bank.len()]
                }
            };
            values.entry(bank.bank).or_default().insert(*index, value.clone());
            ordered.push(value);
        }
    }
    let parts: Vec<&[u8]> = ordered.iter().map(Vec::as_slice).collect();
    if ct_eq(&hash.digest(&parts), pcr_digest) {
        *quoted = values;
        return Check::passed(NAME, "the log leads to the quoted registers");
    }
    let (reason, found) = if open.is_empty() {
        let found = "values whose digest is not the quoted one; no values came along, so which register differs is not known";
        (Reason::LogMismatch, found.to_owned())
    } else {
        let found = format!("neither values nor events of register {}", open.join(", "));
        (Reason::LogIncomplete, found)
    };
    Check::failed(
        NAME,
        reason,
        "a log that leads to the quoted registers",
        found,
        "something was measured that the log does not show, or the log was edited: do not trust this boot",
    )
}

/// The values of exactly the quoted registers, if their digest is the quoted one.
fn quoted(
    values: &PcrValues,
    selection: &PcrSelection,
    hash: HashAlg,
    pcr_digest: &[u8],
) -> Result<PcrValues, Check> {
    let differs = |found: String| {
        Check::failed(
            "tpm.quote.pcr_digest",
            Reason::PcrDigestMismatch,
            "the values of exactly the quoted registers",
            found,
            "a register moved between reading and quoting: read and quote again",
        )
    };
    let mut out = PcrValues::new();
    let mut ordered: Vec<&[u8]> = Vec::new();
    for bank in &selection.0 {
        for index in &bank.indices {
            let value = values.get(&bank.bank).and_then(|bank| bank.get(index));
            let value = value.filter(|value| value.len() == bank.bank.len());
            let value = value
                .ok_or_else(|| differs(format!("no value of register {index}, {}", bank.bank.name())))?;
            ordered.push(value);
            out.entry(bank.bank).or_default().insert(*index, value.clone());
        }
    }
    // A digest of another length equals nothing.
    if ct_eq(&hash.digest(&ordered), pcr_digest) {
        Ok(out)
    } else {
        Err(differs("values whose digest is not the quoted one".to_owned()))
    }
}

/// A bank that nothing was measured into: each of the registers of the boot that was quoted of it holds zeros.
fn unmeasured(quoted: &PcrValues) -> Option<Check> {
    let zero = quoted.values().any(|bank| {
        let mut of_boot = bank.iter().filter(|(index, _)| **index < 8).peekable();
        of_boot.peek().is_some() && of_boot.all(|(_, value)| value.iter().all(|byte| *byte == 0))
    });
    zero.then(|| {
        Check::noted(
            "tpm.quote.measured",
            Reason::PcrsUnmeasured,
            "nothing was ever measured into the quoted registers of the boot",
        )
    })
}

/// Values of registers that were not quoted: nobody signed them, and nothing is taken from them.
fn beside(values: &PcrValues, quoted: &PcrValues) -> Option<Check> {
    let is_quoted =
        |bank: &HashAlg, index: &u8| quoted.get(bank).is_some_and(|bank| bank.contains_key(index));
    let (bank, index) = values
        .iter()
        .flat_map(|(bank, values)| values.keys().map(move |index| (bank, index)))
        .find(|(bank, index)| !is_quoted(bank, index))?;
    let found = format!(
        "a value of register {index} ({}), which was not quoted",
        bank.name()
    );
    Some(Check::noted(
        "tpm.quote.pcr_digest",
        Reason::PcrSelectionMismatch,
        found,
    ))
}

/// A recorded certification of a key.
#[derive(Debug, Clone)]
pub struct RecordedCertify<'a> {
    /// TPMS_ATTEST.
    pub attest: &'a [u8],
    /// The signature over it.
    pub signature: AttestSignature<'a>,
    /// Whose signature it has to be.
    pub key: &'a RecordedKey,
    /// Qualifying data; `None` where nobody asked for any.
    pub nonce: Option<&'a [u8]>,
    /// TPMT_PUBLIC of the key that it has to certify.
    pub certified: &'a [u8],
}

impl RecordedCertify<'_> {
    /// Judges it; stops at the first failure.
    pub fn judge(&self) -> Recorded {
        let mut out = Recorded::default();
        if let Err(check) = self.run(&mut out) {
            out.checks.push(check);
        }
        out
    }

    fn run(&self, out: &mut Recorded) -> Result<(), Check> {
        out.checks.extend(self.key.check());
        let signer = self.key.attester();
        let certified = named(self.certified);
        let checked = check_attestation(
            &mut out.checks,
            &CERTIFY,
            &signer,
            self.attest,
            self.signature,
            self.nonce,
        );
        // Reading what is certified takes no signature: what cannot be read is said beside whatever else is wrong.
        if let (Err(unreadable), true) = (&certified, checked.is_err())
            && unreadable.reason() == Some(Reason::Malformed)
        {
            out.checks.push(unreadable.clone());
        }
        let (attest, _) = checked?;
        counters(out, &attest);
        let Body::Certify { name } = attest.body else {
            return Err(malformed(
                CERTIFY.structure,
                "another structure than a certification".into(),
            ));
        };
        let (of_key, attributes) = certified.inspect_err(|_| {
            // Whatever it is, it is not what was certified.
            let found = "of a public area that has no Name";
            out.checks
                .push(mismatch(format!("Name {}", hex::encode(&name)), found.to_owned()));
        })?;
        if !ct_eq(&name, &of_key) {
            let expected = format!("Name {} of the key offered", hex::encode(of_key));
            return Err(mismatch(expected, format!("Name {}", hex::encode(name))));
        }
        out.checks
            .push(Check::passed("tpm.certify.name", hex::encode(&name)));
        out.checks.push(attributes);
        Ok(())
    }
}

fn mismatch(expected: String, found: String) -> Check {
    Check::failed(
        "tpm.certify.name",
        Reason::NameMismatch,
        expected,
        found,
        "certify the key that is offered",
    )
}

/// The Name of a public area, also where the key is of a kind that no credential is issued for.
fn named(public: &[u8]) -> Result<(Vec<u8>, Check), Check> {
    const NAME: &str = "tpm.certify.attributes";
    match PublicArea::parse(public) {
        Ok(area) => Ok((area.name(), held(&area))),
        Err(error @ AreaError::NotAccepted(_)) => {
            let name = PublicArea::name_of(public).map_err(|error| unreadable_area(NAME, &error))?;
            Ok((name, Check::noted(NAME, Reason::KeyInvalid, error.to_string())))
        }
        Err(AreaError::NameAlgorithm) if public.get(2..4) != Some(&[0, 4]) => Err(Check::failed(
            NAME,
            Reason::AlgNotAllowed,
            "a name algorithm that is known",
            AreaError::NameAlgorithm.to_string(),
            "read the public area from the TPM again",
        )),
        Err(error) => Err(unreadable_area(NAME, &error)),
    }
}

/// Whether a key is held by the TPM that certified it, and worth it. A recording is of whatever key it is of: it is noted.
fn held(area: &PublicArea) -> Check {
    const NAME: &str = "tpm.certify.attributes";
    const HELD: u32 = Attributes::FIXED_TPM | Attributes::FIXED_PARENT | Attributes::SENSITIVE_DATA_ORIGIN;
    if area.key.is_weak() {
        Check::noted(
            NAME,
            Reason::WeakKey,
            "an RSA key of the library of CVE-2017-15361",
        )
    } else if area.attributes.has(HELD) {
        Check::passed(NAME, area.attributes.to_string())
    } else {
        let found = format!(
            "a key that can leave this TPM, or was not made in it: {}",
            area.attributes
        );
        Check::noted(NAME, Reason::KeyInvalid, found)
    }
}

fn counters(out: &mut Recorded, attest: &Attest) {
    out.claims
        .set("tpm.reset_count", ClaimValue::Int(attest.counters.reset.into()));
    out.claims.set(
        "tpm.restart_count",
        ClaimValue::Int(attest.counters.restart.into()),
    );
    out.claims.set(
        "tpm.firmware_version",
        ClaimValue::Text(format!("{:#018x}", attest.firmware)),
    );
    let BootCounters { clock, safe, .. } = attest.counters;
    out.checks.push(if safe {
        Check::passed("tpm.clock", format!("{clock} ms, safe"))
    } else {
        let found = format!("{clock} ms, which may have gone back after an unorderly stop");
        Check::noted("tpm.clock", Reason::ClockNotSafe, found)
    });
}

fn unreadable_area(name: &'static str, error: &AreaError) -> Check {
    let reason = match error {
        AreaError::Malformed => Reason::Malformed,
        AreaError::NameAlgorithm => Reason::WeakHash,
        AreaError::NotAccepted(_) => Reason::KeyInvalid,
    };
    Check::failed(
        name,
        reason,
        "a TPMT_PUBLIC of an RSA, P-256 or P-384 key",
        error.to_string(),
        "read the public area from the TPM again",
    )
}
