//! One attempt of a host to be attested, for the first time or again: how its evidence is judged, and how it is refused.

use std::{net::SocketAddr, sync::Arc};

use axum::http::StatusCode;
use touchmark_api::attest::ADMISSION;
use touchmark_rats::{Appraiser, Claims, MeasuredEvent, Reason, Refusal, Retry, RuntimeState};
use touchmark_store::{Consumed, Host, Kept, RefusedAttempt, RuntimeKept, Seen, StoreError};
use touchmark_verifier::{Believed, KnownLists, Message, ReferenceSet, Refused, appraise};

use crate::{
    Service,
    attest::{consumption, same_or_refused},
    greet::note,
    message::Received,
    policy::ByPolicy,
    refuse::{Reply, new_id, stored},
};

/// A message that arrived, and whose it is.
#[derive(Clone, Copy)]
pub(crate) struct Attempt<'a> {
    pub(crate) service: &'a Arc<Service>,
    pub(crate) host: &'a Host,
    pub(crate) received: &'a Received,
    /// The boot log, whole.
    pub(crate) log: &'a [u8],
    /// The lists of known files that are for it.
    pub(crate) files: &'a KnownLists,
    pub(crate) source: SocketAddr,
    /// Whether the sender has shown the host's key in a session of its own.
    pub(crate) in_session: bool,
    pub(crate) now: u64,
}

impl Attempt<'_> {
    /// Judges the evidence by the reference values for this host.
    pub(crate) fn judge(&self, message: &Message<'_>) -> Result<Believed, Box<Refused>> {
        let sets = self.service.references();
        let applicable: Vec<&ReferenceSet> = sets
            .iter()
            .filter(|set| set.applies_to(&self.host.labels))
            .collect();
        let (challenger, appraiser) = (&self.service.challenger, &self.service.appraiser);
        let challenge = &self.received.challenge;
        let policies = self.service.policies();
        let admission = ByPolicy::new(&policies, self.host);
        // A log of megabytes takes its time: the runtime is told.
        tokio::task::block_in_place(|| {
            appraise(
                challenger,
                challenge,
                appraiser,
                message,
                &applicable,
                &admission,
                self.now,
            )
        })
    }

    /// What is kept of an appraisal: reference values as this host's boot was, where its log explains it, and claims.
    pub(crate) fn kept(
        &self,
        events: &[MeasuredEvent],
        measured: &[(u8, bool)],
        claims: &Claims,
        runtime: Option<&RuntimeState>,
    ) -> Kept {
        let mut events = events.to_vec();
        self.service.appraiser.describe(self.log, &mut events);
        let captured = ReferenceSet::capture(&self.host.name, &events, measured);
        Kept {
            reference: captured.ok().map(|set| set.to_toml()),
            // Maps of names to plain values always serialize.
            claims: serde_json::to_string(claims).unwrap_or_default(),
            runtime: runtime.map(|runtime| RuntimeKept {
                offset: runtime.offset,
                complete: runtime.complete,
                lists: self.files.ids(),
                state: runtime.state.clone(),
            }),
        }
    }

    /// Refuses the host: stored where its evidence was authentic, else noted.
    pub(crate) async fn refuse(&self, refused: Refused) -> Result<Reply, StoreError> {
        let (host, refusal) = (self.host, &refused.refusal);
        // The host's session or, with an activation, the MAC has shown who speaks; else only the attestation's own signature
        // does.
        let known = self.in_session || self.received.challenge.mac().is_some();
        if !refused.authenticated && !known {
            self.service
                .notes
                .host(&host.id, note(refusal, false), self.source, self.now);
            return Ok(Reply::stranger(&refusal.to_string()));
        }
        let id = new_id();
        let reply = Reply::refused(StatusCode::FORBIDDEN, &id, refusal.retry);
        let attempt = RefusedAttempt {
            refusal: stored(&id, &host.id, &format!("host {}", host.name), refusal, self.now),
            evidence: self.received.wrapped.clone(),
            log: self.log.to_vec(),
            kept: self.kept(&refused.events, &refused.measured, &refused.claims, None),
            // Of a copy's counters nothing is learnt.
            seen: refused
                .counters
                .filter(|_| refusal.reason != Reason::ClockRegressed)
                .map(|counters| Seen {
                    attestation: self.received.challenge.subject.attestation_name.to_vec(),
                    reset_count: counters.reset,
                    clock: counters.clock,
                }),
            suspect: refusal.reason == Reason::ClockRegressed,
        };
        let status = reply.status.as_u16();
        let consumption = consumption(self.received, host, status, reply.body.clone());
        match self
            .service
            .store
            .refuse(&consumption, &attempt, self.now)
            .await?
        {
            Consumed::First => {
                tracing::warn!(host = %host.name, refusal = %id, reason = %refusal.reason, "host refused");
                self.service.streams.host_changed(&host.id);
                Ok(reply)
            }
            Consumed::Before(before) => Ok(same_or_refused(&before, self.received, ADMISSION)),
        }
    }

    /// Another message under a challenge that was answered. An agent sends the same bytes again and signs nothing twice under
    /// one nonce: if this is evidence of the same device, there are two of it.
    pub(crate) async fn used_before(
        &self,
        verdict: &Result<Believed, Box<Refused>>,
    ) -> Result<Reply, StoreError> {
        if verdict.as_ref().is_err_and(|refused| !refused.authenticated) {
            return Ok(Reply::stranger("the challenge was used by another message"));
        }
        let refusal = Refusal {
            check: "challenge.use",
            reason: Reason::NonceReused,
            expected: "one answer to each challenge".into(),
            found: "another answer by the same attestation key".into(),
            remedy: "there may be two devices with this state: find out, and replace or evict the host"
                .into(),
            retry: Retry::Never,
        };
        let (service, host) = (self.service, self.host);
        let id = new_id();
        let subject = format!("host {}", host.name);
        let refused = stored(&id, &host.id, &subject, &refusal, self.now);
        service.store.suspect(&host.id, &refused, self.now).await?;
        tracing::warn!(host = %host.name, refusal = %id, reason = %refusal.reason, "host is suspect");
        service.streams.host_changed(&host.id);
        Ok(Reply::refused(StatusCode::FORBIDDEN, &id, refusal.retry))
    }
}
