//! From a second message to a verdict.

use touchmark_crypto::sha256;
use touchmark_rats::{
    Appraisal, Appraiser, AttestedKey, Binding, BootCounters, Check, ClaimValue, Claims, Expected, MakerKind,
    MeasuredEvent, Purpose, Reason, Refusal, Retry, RuntimeList, RuntimeState, Voucher, rest_digest,
};

use crate::{
    Challenge, Challenger,
    challenge::Subject,
    reference::{self, ReferenceSet},
};

/// A second message, taken apart. Where the challenge had a secret, its MAC was checked by whoever read it.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The cookie section.
    pub cookie: &'a [u8],
    /// The offer section: everything else that is neither evidence nor log.
    pub offer: &'a [u8],
    /// The evidence.
    pub evidence: &'a [u8],
    /// The boot log; empty where none was asked for.
    pub log: &'a [u8],
    /// What was measured while the host runs, where that was asked for.
    pub runtime: Option<RuntimeList<'a>>,
    /// Public area of the attestation key, from the offer or the record.
    pub attestation_public: &'a [u8],
    /// Public areas of the keys offered.
    pub keys: &'a [Vec<u8>],
}

/// What verification concluded about a host or a workload's keys. Only [`appraise`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    pub(crate) host: String,
    pub(crate) purpose: Purpose,
    pub(crate) keys: Vec<AttestedKey>,
    pub(crate) claims: Claims,
    pub(crate) checks: Vec<Check>,
    pub(crate) counters: Option<BootCounters>,
    pub(crate) voucher: Option<Voucher>,
    pub(crate) evidence: [u8; 32],
    pub(crate) at: u64,
}

impl Attested {
    /// The host's record.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What the exchange was for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The keys that the device vouches for.
    pub fn keys(&self) -> &[AttestedKey] {
        &self.keys
    }

    /// What was established.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The checks, all passed.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Boot counters of the attestation.
    pub fn counters(&self) -> Option<BootCounters> {
        self.counters
    }

    /// The maker that vouches for the device; `None` where no maker does.
    pub fn voucher(&self) -> Option<&Voucher> {
        self.voucher.as_ref()
    }

    /// SHA-256 of the evidence.
    pub fn evidence(&self) -> [u8; 32] {
        self.evidence
    }

    /// When it was concluded, seconds since the epoch.
    pub fn at(&self) -> u64 {
        self.at
    }
}

/// Evidence that was believed, and what reference values can be captured from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Believed {
    /// What was concluded.
    pub attested: Attested,
    /// Events that explain the quoted registers.
    pub events: Vec<MeasuredEvent>,
    /// The registers that were quoted, and whether anything was measured into each.
    pub measured: Vec<(u8, bool)>,
    /// Where the list of what was measured at run time stands.
    pub runtime: Option<RuntimeState>,
    /// What the evidence is bound to, and another verifier's result about it has to name as its nonce.
    pub bind: [u8; 32],
}

/// Evidence that was not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The most telling failure.
    pub refusal: Refusal,
    /// Whether the evidence came from the expected device: only then is the refusal stored and the challenge consumed.
    pub authenticated: bool,
    /// Events that explained the quoted registers, where the log did: what reference values are captured from.
    pub events: Vec<MeasuredEvent>,
    /// The registers that were quoted, and whether anything was measured into each.
    pub measured: Vec<(u8, bool)>,
    /// The device's counters, where the evidence was authentic.
    pub counters: Option<BootCounters>,
    /// What was established, where the evidence was authentic.
    pub claims: Claims,
}

impl Believed {
    /// The same evidence, refused for a reason outside of it.
    pub fn refused(self, refusal: Refusal) -> Refused {
        Refused {
            refusal,
            authenticated: true,
            counters: self.attested.counters,
            claims: self.attested.claims,
            events: self.events,
            measured: self.measured,
        }
    }
}

/// Who decides whether evidence that holds is good enough.
pub trait Admission: Sync {
    /// Whether a boot that matches no reference values is refused whatever is decided: so it is where an operator applied no policy.
    fn needs_references(&self) -> bool;

    /// Decides by what was established. A check that failed refuses.
    fn decide(&self, claims: &Claims) -> Vec<Check>;
}

/// Admits what holds and matches reference values.
#[derive(Debug, Clone, Copy)]
pub struct ByReferences;

impl Admission for ByReferences {
    fn needs_references(&self) -> bool {
        true
    }

    fn decide(&self, _: &Claims) -> Vec<Check> {
        Vec::new()
    }
}

/// What is established about the device, and about the boot by reference values.
fn establish(appraisal: &mut Appraisal, subject: &Subject, references: &[&ReferenceSet]) {
    let (claims, voucher) = (&mut appraisal.claims, subject.voucher.as_ref());
    let digest = hex::encode(subject.endorsement_digest.as_ref());
    claims.set("device.endorsement_key", ClaimValue::Text(digest));
    claims.set("device.vouched", ClaimValue::Bool(voucher.is_some()));
    claims.set(
        "device.simulated",
        ClaimValue::Bool(voucher.is_some_and(|voucher| voucher.simulated)),
    );
    if let Some(voucher) = voucher {
        claims.set("device.maker", ClaimValue::Text(voucher.maker.clone()));
        let kind = match voucher.kind {
            MakerKind::Physical => "physical",
            MakerKind::Hypervisor => "hypervisor",
        };
        claims.set("device.kind", ClaimValue::Text(kind.to_owned()));
        let certified = voucher.certified.as_str().to_owned();
        claims.set("device.certified", ClaimValue::Text(certified));
        if !voucher.manufacturer.is_empty() {
            claims.set(
                "device.manufacturer",
                ClaimValue::Text(voucher.manufacturer.clone()),
            );
        }
        claims.set("device.serial", ClaimValue::Text(voucher.serial_digits()));
        let issuers = voucher.issuers.iter().map(|digest| hex::encode(digest.as_ref()));
        claims.set("device.issuers", ClaimValue::Texts(issuers.collect()));
    }
    let matched = references
        .iter()
        .filter(|set| set.matches(&appraisal.events, &appraisal.measured))
        .map(|set| set.label().to_owned())
        .collect();
    claims.set("references.matched", ClaimValue::Texts(matched));
}

/// Appraises a second message against its challenge. `references` are the sets that apply to the host; they count where
/// registers were quoted.
pub fn appraise(
    challenger: &Challenger,
    challenge: &Challenge,
    appraiser: &dyn Appraiser,
    message: &Message<'_>,
    references: &[&ReferenceSet],
    admission: &dyn Admission,
    now: u64,
) -> Result<Believed, Box<Refused>> {
    let unread = |refusal| {
        Box::new(Refused {
            refusal,
            authenticated: false,
            counters: None,
            claims: Claims::default(),
            events: Vec::new(),
            measured: Vec::new(),
        })
    };
    let Some(host) = challenge.subject.host.clone() else {
        return Err(unread(Refusal::malformed(
            "challenge",
            "a challenge whose answer is refused unread",
        )));
    };
    let named = appraiser
        .attestation_name(message.attestation_public)
        .map_err(unread)?;
    if named != challenge.subject.attestation_name.as_ref() {
        return Err(unread(Refusal {
            check: "challenge.attestation_key",
            reason: Reason::AttestationKeyMismatch,
            expected: "the attestation key that the challenge was made for".into(),
            found: "another key".into(),
            remedy: "ask for a challenge with the key that will answer it".into(),
            retry: Retry::Fresh,
        }));
    }
    let mut names = Vec::new();
    for key in message.keys {
        names.push(appraiser.key_name(key).map_err(unread)?);
    }
    let bind = Binding {
        purpose: challenge.purpose,
        trust_domain: challenger.trust_domain(),
        anchor: challenger.anchor(),
        challenge_id: challenge.id,
        nonce: challenge.nonce,
        key_names: &names,
        selection: &challenge.selection,
        log_offsets: &challenge.offsets,
        rest: rest_digest(&[message.cookie, message.offer]),
    }
    .value();
    let expected = Expected {
        bind,
        attestation_public: message.attestation_public,
        selection: &challenge.selection,
        keys: message.keys,
        sealed_to_boot: matches!(challenge.purpose, Purpose::Enrol | Purpose::Reattest),
        log: message.log,
        runtime: message.runtime,
    };
    let mut appraisal: Appraisal = appraiser.appraise(message.evidence, &expected);
    if appraisal.failure().is_none() && !appraisal.authenticated {
        appraisal.checks.push(Check::failed(
            "attestation",
            Reason::Malformed,
            "an attestation over this exchange",
            "none",
            "send a quote, or the certification of a key",
        ));
    }
    if appraisal.failure().is_none() && !challenge.selection.0.is_empty() {
        establish(&mut appraisal, &challenge.subject, references);
        // Words are for what does not fit.
        if !references
            .iter()
            .any(|set| set.matches(&appraisal.events, &appraisal.measured))
        {
            appraiser.describe(message.log, &mut appraisal.events);
        }
        let check = reference::check(references, &appraisal.events, &appraisal.measured);
        match check.reason() {
            // Policy may have other grounds to admit a boot; that it matched nothing is noted.
            Some(reason) if !admission.needs_references() => {
                let mut decided = admission.decide(&appraisal.claims);
                for failed in decided.iter_mut().filter(|check| check.reason().is_some()) {
                    failed.found = format!("{}\n{}", failed.found, check.found);
                }
                appraisal
                    .checks
                    .push(Check::noted(check.name, reason, check.found));
                appraisal.checks.extend(decided);
            }
            Some(_) => appraisal.checks.push(check),
            None => {
                appraisal.checks.push(check);
                let decided = admission.decide(&appraisal.claims);
                appraisal.checks.extend(decided);
            }
        }
    }
    match appraisal.failure() {
        Some(check) => {
            // A boot that no longer fits changes only when somebody acts; evidence that went wrong under way may be
            // sent anew.
            let retry = if appraisal.authenticated {
                Retry::Later
            } else {
                Retry::Fresh
            };
            Err(Box::new(Refused {
                refusal: Refusal::from(check.clone()).retry(retry),
                authenticated: appraisal.authenticated,
                counters: appraisal.counters.filter(|_| appraisal.authenticated),
                claims: if appraisal.authenticated {
                    appraisal.claims
                } else {
                    Claims::default()
                },
                events: appraisal.events,
                measured: appraisal.measured,
            }))
        }
        None => {
            let attested = Attested {
                host,
                purpose: challenge.purpose,
                keys: appraisal.keys,
                claims: appraisal.claims,
                checks: appraisal.checks,
                counters: appraisal.counters,
                voucher: challenge.subject.voucher.clone(),
                evidence: sha256(&[message.evidence]),
                at: now,
            };
            Ok(Believed {
                attested,
                events: appraisal.events,
                measured: appraisal.measured,
                runtime: appraisal.runtime,
                bind,
            })
        }
    }
}
