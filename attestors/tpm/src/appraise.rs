//! The appraiser: drives the checks in their order and stops at the first that fails.

mod boot;

use serde_bytes::ByteBuf;
use touchmark_crypto::{CryptoError, HashAlg, PublicKey, Secret, SigScheme, ct_eq};
use touchmark_rats::{
    Appraisal, Appraiser, Assurance, AttestedKey, Candidate, Check, ClaimValue, Expected, KeyCertificate,
    MeasuredEvent, Opening, RUNTIME_REGISTER, Reason, Refusal, Retry, Sealed, Voucher,
    cbor::{self, CborError},
    pop_message,
    tpm::{
        MAX_ENDORSEMENTS, MEDIA_TYPE, TpmAttestation, TpmCertification, TpmDeviceKey, TpmEvidence,
        TpmOpening, TpmPcrValue,
    },
};

use self::boot::check_log;
use crate::{
    attest::{Attest, Body},
    attestation::{CERTIFY, QUOTE, Shape, check_attestation, malformed},
    attestation_key, credential,
    endorsement::{self, Maker},
    ima::{Followed, SignatureKeys},
    log::BootLog,
    offered_key,
    public_area::PublicArea,
    quoted::{Quoted, check_values},
    signature::{AttestSignature, Attester},
};

/// Largest opening and largest evidence, in bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// Appraises evidence of TPM 2.0.
#[derive(Debug, Clone)]
pub struct TpmAppraiser {
    makers: Vec<Maker>,
    file_keys: SignatureKeys,
}

impl TpmAppraiser {
    /// An appraiser that believes these makers about which chips are theirs. Without any, every endorsement
    /// certificate is refused.
    pub fn new(makers: Vec<Maker>) -> Self {
        Self {
            makers,
            file_keys: SignatureKeys::default(),
        }
    }

    /// The key of an attestation key's public area.
    pub fn attestation_key(&self, public: &[u8]) -> Result<PublicKey, Refusal> {
        attestation_key::judge(public).map(|area| area.key).map_err(never)
    }

    /// The same, believing these keys' signatures of files.
    #[must_use]
    pub fn with_file_keys(self, file_keys: SignatureKeys) -> Self {
        Self { file_keys, ..self }
    }
}

impl Appraiser for TpmAppraiser {
    fn media_type(&self) -> &'static str {
        MEDIA_TYPE
    }

    fn open(&self, opening: &[u8]) -> Result<Opening, Refusal> {
        let message: TpmOpening =
            cbor::decode(opening, MAX_MESSAGE).map_err(|error| unreadable("tpm.opening", &error))?;
        let attestation = attestation_key::judge(&message.attestation.public).map_err(never)?;
        if message.endorsements.is_empty() || message.endorsements.len() > MAX_ENDORSEMENTS {
            return Err(Refusal::malformed(
                "tpm.opening",
                format!(
                    "{} endorsement keys where 1 to {MAX_ENDORSEMENTS} are accepted",
                    message.endorsements.len()
                ),
            ));
        }
        let mut candidates = Vec::new();
        for endorsement in message.endorsements {
            let area = endorsement::template(&endorsement.public).map_err(never)?;
            candidates.push(Candidate {
                digest: area.key.digest(),
                name: area.name(),
                public: area.bytes,
                // That of the endorsement key counts where there is one, so that nobody chooses which of two is looked at.
                certificate: certificate_of(endorsement, None).or_else(|| {
                    let public = Some(attestation.bytes.clone());
                    certificate_of(message.attestation.clone(), public)
                }),
            });
        }
        Ok(Opening {
            attestation_name: attestation.name(),
            attestation_public: attestation.bytes,
            candidates,
        })
    }

    fn vouch(&self, candidate: &Candidate, now: u64) -> Result<Option<Voucher>, Refusal> {
        endorsement::vouch(candidate, &self.makers, now).map_err(Refusal::from)
    }

    fn seal(
        &self,
        candidate: &Candidate,
        attestation_name: &[u8],
        secret: &Secret,
    ) -> Result<Sealed, Refusal> {
        let area = endorsement::template(&candidate.public).map_err(never)?;
        credential::make(&area, attestation_name, secret).map_err(|error| Refusal {
            check: "tpm.endorsement_key.seal",
            reason: Reason::KeyInvalid,
            expected: "an endorsement key that a secret can be sealed to".into(),
            found: error.to_string(),
            remedy: "enrol the host by its other endorsement key".into(),
            retry: Retry::Never,
        })
    }

    fn attestation_name(&self, public: &[u8]) -> Result<Vec<u8>, Refusal> {
        attestation_key::judge(public)
            .map(|area| area.name())
            .map_err(never)
    }

    fn key_name(&self, public: &[u8]) -> Result<Vec<u8>, Refusal> {
        offered(public).map(|area| area.name()).map_err(never)
    }

    fn describe(&self, log: &[u8], events: &mut [MeasuredEvent]) {
        if let Ok(log) = BootLog::parse(log) {
            log.describe(events);
        }
    }

    fn appraise(&self, evidence: &[u8], expected: &Expected<'_>) -> Appraisal {
        let mut appraisal = Appraisal::default();
        if let Err(check) = self.judge(&mut appraisal, evidence, expected) {
            appraisal.checks.push(check);
        }
        appraisal
    }
}

impl TpmAppraiser {
    fn judge(&self, out: &mut Appraisal, evidence: &[u8], expected: &Expected<'_>) -> Result<(), Check> {
        const NAME: &str = "tpm.evidence";
        let evidence: TpmEvidence =
            cbor::decode(evidence, MAX_MESSAGE).map_err(|error| unreadable_check(NAME, &error))?;
        let area = attestation_key::judge(expected.attestation_public)?;
        out.checks
            .push(Check::passed("tpm.attestation_key", area.attributes.to_string()));
        let signer = Attester::from(&area);
        if evidence.certifications.len() != expected.keys.len() {
            let found = format!(
                "{} certifications for {} keys",
                evidence.certifications.len(),
                expected.keys.len()
            );
            return Err(malformed(NAME, found));
        }
        let asks_for_registers = !expected.selection.0.is_empty();
        if expected.selection.0.iter().any(|bank| bank.indices.is_empty()) {
            return Err(malformed(
                NAME,
                "an exchange that asks for a bank without registers".into(),
            ));
        }
        if !asks_for_registers && (expected.keys.is_empty() || expected.sealed_to_boot) {
            return Err(malformed(
                NAME,
                "an exchange in which nothing would be attested".into(),
            ));
        }
        let signed = match (&evidence.quote, !asks_for_registers) {
            (Some(quote), false) => Some(check_quote(out, (&area, &signer), quote, expected)?),
            (None, true) => None,
            (found, _) => {
                let found = if found.is_some() { "a quote" } else { "no quote" };
                return Err(malformed(
                    NAME,
                    format!("{found}, which is not what this exchange asked for"),
                ));
            }
        };
        // A list of megabytes is read for nobody whose signature did not verify.
        let mut runtime = followed(expected)?;
        let quoted = match signed {
            Some(signed) => Some(check_registers(
                out,
                signed,
                &evidence.pcr_values,
                runtime.as_mut(),
                expected,
            )?),
            None => None,
        };
        for (public, certification) in expected.keys.iter().zip(&evidence.certifications) {
            check_key(out, &signer, public, certification, quoted.as_ref(), expected)?;
        }
        let Some(quoted) = &quoted else { return Ok(()) };
        let boot = check_log(out, quoted, runtime.as_mut(), expected)?;
        if let Some(runtime) = runtime {
            let (state, claims, checks) = runtime.finish(&self.file_keys, &boot)?;
            out.claims.extend(&claims);
            out.checks.extend(checks);
            out.runtime = Some(state);
        }
        Ok(())
    }
}

/// The certificate that came with a key.
fn certificate_of(key: TpmDeviceKey, attestation_public: Option<Vec<u8>>) -> Option<KeyCertificate> {
    Some(KeyCertificate {
        attestation_public,
        der: key.certificate?.into_vec(),
        intermediates: key.intermediates.into_iter().map(ByteBuf::into_vec).collect(),
    })
}

/// The list of what was measured at run time, where the quote is over its register.
fn followed<'a>(expected: &Expected<'a>) -> Result<Option<Followed<'a>>, Check> {
    let banks: Vec<HashAlg> = expected
        .selection
        .0
        .iter()
        .filter(|bank| bank.indices.contains(&RUNTIME_REGISTER))
        .map(|bank| bank.bank)
        .collect();
    match (&expected.runtime, banks.is_empty()) {
        (_, true) => Ok(None),
        (Some(list), false) => Followed::read(list, &banks).map(Some),
        (None, false) => Err(malformed(
            "ima",
            "an exchange that asks for register 10 and for no list".into(),
        )),
    }
}

/// A quote of this exchange: the digest over its registers, and the hash that it is of.
fn check_quote(
    out: &mut Appraisal,
    (area, signer): (&PublicArea, &Attester),
    quote: &TpmAttestation,
    expected: &Expected<'_>,
) -> Result<(Vec<u8>, HashAlg), Check> {
    let (attest, hash) = authentic(out, &QUOTE, signer, quote, expected)?;
    let Body::Quote {
        selection,
        pcr_digest,
        ..
    } = attest.body
    else {
        return Err(malformed(
            QUOTE.structure,
            "another structure than a quote".into(),
        ));
    };
    if selection.as_ref() != Some(expected.selection) {
        return Err(Check::failed(
            "tpm.quote.selection",
            Reason::PcrSelectionMismatch,
            expected.selection.to_string(),
            selection.map_or("an unknown bank, or one twice".to_owned(), |selection| {
                selection.to_string()
            }),
            "quote exactly the registers that the challenge names",
        ));
    }
    out.checks.push(Check::passed(
        "tpm.quote.selection",
        expected.selection.to_string(),
    ));
    out.counters = Some(attest.counters);
    out.claims
        .set("tpm.reset_count", ClaimValue::Int(attest.counters.reset.into()));
    out.claims.set(
        "tpm.restart_count",
        ClaimValue::Int(attest.counters.restart.into()),
    );
    out.claims
        .set("tpm.clock_safe", ClaimValue::Bool(attest.counters.safe));
    if area.is_privileged(&attest.qualified_signer) {
        out.claims.set(
            "tpm.firmware_version",
            ClaimValue::Text(format!("{:#018x}", attest.firmware)),
        );
    }
    Ok((pcr_digest, hash))
}

/// The registers behind a quote, where their values came along.
fn check_registers(
    out: &mut Appraisal,
    (digest, hash): (Vec<u8>, HashAlg),
    values: &[TpmPcrValue],
    runtime: Option<&mut Followed<'_>>,
    expected: &Expected<'_>,
) -> Result<Quoted, Check> {
    let values = check_values(values, &digest, hash, runtime, expected)?;
    if !values.is_empty() {
        out.checks.push(Check::passed(
            "tpm.quote.pcr_digest",
            "register values are those quoted",
        ));
    }
    Ok(Quoted { digest, hash, values })
}

/// An attestation of this exchange.
fn authentic(
    out: &mut Appraisal,
    shape: &Shape,
    signer: &Attester,
    attestation: &TpmAttestation,
    expected: &Expected<'_>,
) -> Result<(Attest, HashAlg), Check> {
    let checked = check_attestation(
        &mut out.checks,
        shape,
        signer,
        &attestation.attest,
        AttestSignature::Tpmt(&attestation.signature),
        Some(&expected.bind),
    )?;
    out.authenticated = true;
    Ok(checked)
}

fn check_key(
    out: &mut Appraisal,
    signer: &Attester,
    public: &[u8],
    certification: &TpmCertification,
    quoted: Option<&Quoted>,
    expected: &Expected<'_>,
) -> Result<(), Check> {
    let area = offered(public)?;
    let (attest, _) = authentic(out, &CERTIFY, signer, &certification.certify, expected)?;
    let Body::Certify { name } = attest.body else {
        return Err(malformed(
            CERTIFY.structure,
            "another structure than a certification".into(),
        ));
    };
    if !ct_eq(&name, &area.name()) {
        return Err(Check::failed(
            "tpm.certify.name",
            Reason::NameMismatch,
            format!("Name {} of the key offered", hex::encode(area.name())),
            format!("Name {}", hex::encode(name)),
            "certify the key that is offered",
        ));
    }
    out.checks
        .push(Check::passed("tpm.certify.name", hex::encode(&name)));
    let attributes = offered_key::attributes(&area);
    push(out, attributes)?;
    // All attestations of an exchange come from one boot: the quote's, or that of the first certification.
    let first = *out.counters.get_or_insert(attest.counters);
    let certify = attest.counters;
    if (first.reset, first.restart) != (certify.reset, certify.restart) {
        return Err(Check::failed(
            "tpm.counters",
            Reason::CountersDiffer,
            format!(
                "reset {} and restart {} of the first attestation",
                first.reset, first.restart
            ),
            format!(
                "reset {} and restart {} in the certification",
                certify.reset, certify.restart
            ),
            "the host was reset between its attestations: attest again",
        ));
    }
    out.checks.push(Check::passed(
        "tpm.counters",
        format!("reset {}, restart {}", first.reset, first.restart),
    ));
    if let (Some(quoted), true) = (quoted, expected.sealed_to_boot) {
        let digest = quoted.digest_in(area.name_alg, expected);
        push(
            out,
            offered_key::sealed_to_boot(&area, &expected.selection.without_runtime(), digest.as_deref()),
        )?;
    }
    let scheme = SigScheme::Ecdsa(area.scheme_hash.unwrap_or(HashAlg::Sha256));
    let possession = area
        .key
        .verify(scheme, &pop_message(&expected.bind), &certification.possession);
    possession.map_err(|error: CryptoError| {
        Check::failed(
            "key.possession",
            Reason::ProofOfPossession,
            "a signature of the offered key over this exchange",
            error.to_string(),
            "sign the proof of possession with the key that is offered",
        )
    })?;
    out.checks.push(Check::passed("key.possession", "proved"));
    out.keys.push(AttestedKey {
        name: area.name(),
        public: area.key.clone(),
        area: area.bytes,
        assurance: Assurance::Certified,
    });
    Ok(())
}

fn offered(public: &[u8]) -> Result<PublicArea, Check> {
    let area = PublicArea::parse(public).map_err(|error| {
        Check::failed(
            "tpm.key",
            Reason::KeyInvalid,
            "the public area of an ECC signing key on P-256 or P-384",
            error.to_string(),
            "offer a key that the agent made",
        )
    })?;
    if area.key.kind().field_len().is_none() {
        return Err(Check::failed(
            "tpm.key",
            Reason::KeyInvalid,
            "a P-256 or P-384 key",
            "an RSA key",
            "offer an elliptic-curve key",
        ));
    }
    Ok(area)
}

fn push(out: &mut Appraisal, check: Check) -> Result<(), Check> {
    if check.reason().is_some() {
        return Err(check);
    }
    out.checks.push(check);
    Ok(())
}

fn unreadable_check(name: &'static str, error: &CborError) -> Check {
    match error {
        CborError::Oversized { .. } => Check::failed(
            name,
            Reason::Oversized,
            "a message within its limit",
            error.to_string(),
            "send less",
        ),
        CborError::Malformed(_) => malformed(name, error.to_string()),
    }
}

fn unreadable(name: &'static str, error: &CborError) -> Refusal {
    never(unreadable_check(name, error))
}

/// Refusals of what the host is or sends by construction: trying again changes nothing.
fn never(check: Check) -> Refusal {
    Refusal::from(check).retry(Retry::Never)
}
