//! One request of an attested host: a credential for a key in its own TPM or token, under a registration that is its own.

use std::{sync::Arc, time::Instant};

use axum::http::StatusCode;
use touchmark_api::{
    frame::MAX_OFFER,
    host::{ISSUED, IssueOffer, Issued},
};
use touchmark_crypto::{PublicKey, SystemEntropy};
use touchmark_issuer::{Grant, Kind, grant};
use touchmark_rats::{
    Appraiser, Assurance, AttestedKey, Purpose, Reason, Refusal, Retry, cbor,
    possession::{self, Possession},
    token, tpm,
};
use touchmark_store::{AttestationKey, CertifiedKey, Consumed, Host, Issuance, StoreError};
use touchmark_verifier::{Attested, ByReferences, Certified, Message, appraise, renew, reported};

use crate::{
    Service,
    attest::{consumption, same_or_refused},
    message::Received,
    refuse::{Reply, new_id, stored},
};

/// What shows that the key is in a device of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Basis {
    /// Its certification, which comes along.
    Certification,
    /// Its certification on record: a renewal.
    Record,
    /// What the host's agent reports of a PKCS#11 token.
    Report,
}

impl Basis {
    /// The media type of the evidence.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Certification => tpm::MEDIA_TYPE,
            Self::Record => possession::MEDIA_TYPE,
            Self::Report => token::MEDIA_TYPE,
        }
    }
}

/// A request whose message has arrived, and who sent it.
pub(crate) struct Ask<'a> {
    pub(crate) service: &'a Arc<Service>,
    /// The host at the other end, as its certificate says.
    pub(crate) host: &'a Host,
    /// Its attestation key on record.
    pub(crate) key: &'a AttestationKey,
    pub(crate) basis: Basis,
    pub(crate) received: &'a Received,
    pub(crate) now: u64,
}

/// What a registration grants, and the whole of it as it is now.
struct Granted {
    grant: Grant,
    registration: String,
}

impl Ask<'_> {
    /// Decides it.
    pub(crate) async fn decide(&self) -> Result<Reply, StoreError> {
        let (service, received) = (self.service, self.received);
        let challenge = &received.challenge;
        // The challenge was made for this very host and its recorded attestation key: another host's key under it, or
        // another attestation key, is refused before the evidence is looked at.
        if challenge.purpose != Purpose::Workload
            || challenge.subject.host.as_deref() != Some(self.host.id.as_str())
            || challenge.subject.attestation_name.as_ref() != self.key.name
            || challenge.expiry <= self.now
            || !received.log.is_empty()
        {
            return Ok(Reply::stranger(
                "a challenge of another host, attestation key or purpose, expired, or with a log",
            ));
        }
        if let Some(before) = service.store.answer(&challenge.id).await? {
            return Ok(same_or_refused(&before, received, ISSUED));
        }
        let offer: IssueOffer = match cbor::decode(&received.offer, MAX_OFFER) {
            Ok(offer) => offer,
            Err(error) => return Ok(Reply::stranger(&error.to_string())),
        };
        let judged = match self.basis {
            Basis::Certification => self.certified(&offer),
            Basis::Record => self.recorded(&offer).await?,
            Basis::Report => self.reported(&offer),
        };
        let attested = match judged {
            Ok(attested) => attested,
            // Evidence that was not authentic consumes nothing.
            Err((refusal, authentic)) => return self.refuse(&offer, &refusal, authentic).await,
        };
        let granted = self.granted(&offer, &attested);
        let granted = match granted {
            Err(refusal) => return self.refuse(&offer, &refusal, true).await,
            Ok(granted) => granted,
        };
        let key_digest = attested.keys().first().map_or([0; 32], |key| key.public.digest());
        let grant = &granted.grant;
        let elsewhere = service
            .store
            .key_elsewhere(&key_digest, grant.identifier(), grant.kind());
        match elsewhere.await? {
            Some(found) => self.refuse(&offer, &shared_key(found), true).await,
            None => self.sign(&offer, granted, attested).await,
        }
    }

    /// A key that is certified with this request, in the boot that the host attested. The refusal says whether the evidence
    /// was authentic.
    fn certified(&self, offer: &IssueOffer) -> Result<Attested, (Refusal, bool)> {
        let (service, received) = (self.service, self.received);
        let keys = [offer.key.to_vec()];
        let message = Message {
            cookie: &received.cookie,
            offer: &received.offer,
            evidence: &received.evidence,
            log: &received.log,
            runtime: None,
            attestation_public: &self.key.public,
            keys: &keys,
        };
        let (challenger, challenge) = (&service.challenger, &received.challenge);
        // Of a key nothing is asked that policy decides: its host was admitted.
        let believed = appraise(
            challenger,
            challenge,
            &service.appraiser,
            &message,
            &[],
            &ByReferences,
            self.now,
        )
        .map_err(|refused| (refused.refusal.clone(), refused.authenticated))?;
        same_boot(self.key, &believed.attested).map_err(|refusal| (refusal, true))?;
        Ok(believed.attested)
    }

    /// A key whose certification is on record, made in the boot that the host attested last.
    async fn recorded(&self, offer: &IssueOffer) -> Result<Result<Attested, (Refusal, bool)>, StoreError> {
        let (service, received) = (self.service, self.received);
        let name = match service.appraiser.key_name(&offer.key) {
            Ok(name) => name,
            Err(refusal) => return Ok(Err((refusal, false))),
        };
        let certified = service
            .store
            .certified_key(&self.host.id, &name, self.now)
            .await?;
        let certified = certified.filter(|certified| {
            certified.attestation == self.key.name
                && certified.reset_count == self.key.reset_count
                && certified.area == offer.key.as_ref()
        });
        let found =
            certified.and_then(|certified| Some((PublicKey::from_spki(&certified.spki).ok()?, certified)));
        let Some((public, certified)) = found else {
            return Ok(Err((not_certified(), false)));
        };
        let certified = Certified {
            key: AttestedKey {
                public,
                name: certified.name,
                area: certified.area,
                assurance: Assurance::Certified,
            },
            evidence: certified.evidence.try_into().unwrap_or([0; 32]),
        };
        let proof: Possession = match cbor::decode(&received.evidence, MAX_OFFER) {
            Ok(proof) => proof,
            Err(error) => {
                return Ok(Err((
                    Refusal::malformed("key.possession", error.to_string()),
                    false,
                )));
            }
        };
        let sections = [received.cookie.as_slice(), received.offer.as_slice()];
        let (challenger, challenge) = (&service.challenger, &received.challenge);
        Ok(
            renew(challenger, challenge, &certified, sections, &proof, self.now)
                .map_err(|refusal| (refusal, false)),
        )
    }

    /// A key in a token of the host. What its agent says of it counts as long as the host is attested.
    fn reported(&self, offer: &IssueOffer) -> Result<Attested, (Refusal, bool)> {
        let received = self.received;
        let proof: Possession = cbor::decode(&received.evidence, MAX_OFFER)
            .map_err(|error| (Refusal::malformed("key.possession", error.to_string()), false))?;
        let sections = [received.cookie.as_slice(), received.offer.as_slice()];
        let (challenger, challenge) = (&self.service.challenger, &received.challenge);
        reported(challenger, challenge, &offer.key, sections, &proof, self.now)
    }

    /// The registration that is asked for, if it is this host's.
    fn granted(&self, offer: &IssueOffer, attested: &Attested) -> Result<Granted, Refusal> {
        let refuse = |reason, expected: &str, found: String| Refusal {
            check: "issue.registration",
            reason,
            expected: expected.to_owned(),
            found,
            remedy: "apply a registration for this host, or remove the agent's claim to it".to_owned(),
            retry: Retry::Later,
        };
        let entry = self
            .service
            .registrations_for(self.host)
            .into_iter()
            .find(|entry| entry.reference == offer.registration);
        let entry = entry.ok_or_else(|| {
            refuse(
                Reason::NoRegistration,
                "a registration for this host",
                format!("{:?}", offer.registration),
            )
        })?;
        let kind = Kind::parse(&offer.kind)
            .ok_or_else(|| refuse(Reason::KindNotAllowed, "x509 or wit", format!("{:?}", offer.kind)))?;
        let key = attested.keys().first().cloned();
        let key = key.ok_or_else(|| refuse(Reason::KeyNotHardware, "a certified key", "none".to_owned()))?;
        Ok(Granted {
            grant: grant(&entry.registration, kind, key, attested.voucher())?,
            registration: entry.registration.to_json(),
        })
    }

    async fn sign(
        &self,
        offer: &IssueOffer,
        granted: Granted,
        attested: Attested,
    ) -> Result<Reply, StoreError> {
        let Granted { grant, registration } = granted;
        let authority = Arc::clone(&self.service.authority);
        let certified = match self.basis {
            Basis::Certification => certified_key(self.key, self.key.reset_count, &attested),
            Basis::Record | Basis::Report => None,
        };
        let host_evidence = self.key.evidence.as_slice().try_into().unwrap_or([0; 32]);
        let signed = {
            let grant = grant.clone();
            tokio::task::spawn_blocking(move || {
                authority.issue(&grant, &attested, host_evidence, &SystemEntropy)
            })
            .await
        };
        let credential = match signed {
            Ok(Ok(credential)) => credential,
            Ok(Err(error)) => return Ok(Reply::unavailable(&error)),
            Err(error) => return Ok(Reply::unavailable(&error)),
        };
        let document = Issued {
            identifier: grant.identifier().as_str().to_owned(),
            chain: credential
                .certificate()
                .map_or_else(Vec::new, |der| self.service.chain(der.to_vec())),
            token: credential.token().unwrap_or_default().to_owned(),
            custody: grant.class().as_str().to_owned(),
            simulated: grant.simulated(),
            usage: grant.usage().as_str().to_owned(),
            not_after: credential.not_after(),
        };
        let issuance = Issuance {
            registration: offer.registration.clone(),
            registered: registration,
            credential,
            certified,
        };
        let answer = cbor::encode(&document);
        let consumption = consumption(self.received, self.host, 200, answer.clone());
        let consumed = match self
            .service
            .store
            .issue(&consumption, &issuance, self.key, self.now)
            .await
        {
            // An operator was faster: what was decided no longer holds, and nothing was consumed. Sent again, it is decided anew.
            Err(StoreError::Conflict(why)) => {
                tracing::info!(host = %self.host.name, %why, "to be asked again");
                return Ok(Reply::slow_down());
            }
            other => other?,
        };
        match consumed {
            Consumed::First => {
                tracing::info!(
                    host = %self.host.name,
                    identifier = %document.identifier,
                    kind = grant.kind().as_str(),
                    "issued"
                );
                Ok(Reply::document(ISSUED, answer))
            }
            Consumed::Before(before) => Ok(same_or_refused(&before, self.received, ISSUED)),
        }
    }

    /// Refuses it: stored, and answered by an id.
    async fn refuse(
        &self,
        offer: &IssueOffer,
        refusal: &Refusal,
        consume: bool,
    ) -> Result<Reply, StoreError> {
        let host = self.host;
        // What is refused is written, and a host that turned bad does not thereby write as fast as it can.
        if !self.service.refusal_rates.admit(host.id.clone(), Instant::now()) {
            return Ok(Reply::slow_down());
        }
        let id = new_id();
        let reply = Reply::refused(StatusCode::FORBIDDEN, &id, refusal.retry);
        let subject = format!(
            "host {}, registration {}",
            host.name,
            offer.registration.escape_debug()
        );
        let refusal = stored(&id, &host.id, &subject, refusal, self.now);
        let consumption =
            consume.then(|| consumption(self.received, host, reply.status.as_u16(), reply.body.clone()));
        let refused = self
            .service
            .store
            .refuse_request(consumption.as_ref(), &refusal, self.now);
        match refused.await? {
            Consumed::First => {
                tracing::warn!(host = %host.name, refusal = %id, reason = %refusal.reason, "request refused");
                Ok(reply)
            }
            Consumed::Before(before) => Ok(same_or_refused(&before, self.received, ISSUED)),
        }
    }
}

/// A key that was certified after a reset which no attestation has shown yet: what the host booted is not known.
fn same_boot(key: &AttestationKey, attested: &Attested) -> Result<(), Refusal> {
    let resets = attested.counters().map(|counters| counters.reset);
    if resets == Some(key.reset_count) {
        return Ok(());
    }
    Err(Refusal {
        check: "host.reset_count",
        reason: Reason::HostNotAttested,
        expected: format!("{} resets, as at the host's attestation", key.reset_count),
        found: resets.map_or_else(|| "no counters".to_owned(), |resets| format!("{resets} resets")),
        remedy: "the host was reset since it attested; its agent attests again by itself".to_owned(),
        retry: Retry::Fresh,
    })
}

/// A key that is to be renewed without a certification that counts.
fn not_certified() -> Refusal {
    Refusal {
        check: "issue.certification",
        reason: Reason::KeyNotCertified,
        expected: "a key that this host had certified since its last reset".to_owned(),
        found: "a key without one".to_owned(),
        remedy: "nothing: the agent has a new key certified".to_owned(),
        retry: Retry::Fresh,
    }
}

/// What is recorded of the certification of an attested key.
pub(crate) fn certified_key(
    attestation: &AttestationKey,
    reset_count: u32,
    attested: &Attested,
) -> Option<CertifiedKey> {
    let key = attested.keys().first()?;
    Some(CertifiedKey {
        digest: key.public.digest(),
        attestation: attestation.name.clone(),
        reset_count,
        spki: key.public.spki().to_vec(),
        name: key.name.clone(),
        area: key.area.clone(),
        evidence: attested.evidence().to_vec(),
    })
}

/// A key that a credential of another identifier or kind names already.
fn shared_key(found: String) -> Refusal {
    Refusal {
        check: "issue.key",
        reason: Reason::Conflict,
        expected: "a key of its own for each identifier and kind".to_owned(),
        found,
        remedy: "create a new key in the device for this credential".to_owned(),
        retry: Retry::Later,
    }
}
