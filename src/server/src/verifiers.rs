//! Other verifiers, whose results about a host are demanded beside our own appraisal: the service asks for them (RFC 9334, section 5.2, the
//! background-check model), or the host presents them (section 5.1, the passport model).

mod config;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Map, Value};
use touchmark_external::{EVIDENCE_TYPE, Endpoint, HostEvidence, Unanswered, ask_all};
use touchmark_rats::{
    Check, Reason, Refusal, Retry,
    ear::{Demands, EvidenceKey, Nonce, Occasion, Presented, Relied, rely},
};
use touchmark_store::Host;
use touchmark_tls::clock;
use touchmark_verifier::Believed;

pub(crate) use self::config::VerifierFile;
use crate::{attempt::Attempt, greet::note, refuse::Reply};

/// A verifier whose results are demanded.
#[derive(Debug)]
pub struct OtherVerifier {
    name: String,
    /// Labels of the hosts that it is asked about; `None` for all.
    hosts: Option<Vec<String>>,
    /// Its keys; a new one beside the old one while they change.
    keys: Vec<Map<String, Value>>,
    demands: Demands,
    /// Where it is asked; `None` where hosts present its results.
    endpoint: Option<Arc<Endpoint>>,
}

/// Why a host is not admitted that our own appraisal would admit.
pub(crate) enum Doubt {
    /// What a verifier says is against it.
    Against(Refusal),
    /// A verifier says nothing that counts: nobody knows, and nothing is concluded about the host.
    Unheard(Refusal),
}

impl OtherVerifier {
    fn applies_to(&self, host: &Host) -> bool {
        self.hosts
            .as_ref()
            .is_none_or(|wanted| wanted.iter().any(|label| host.labels.contains(label)))
    }

    /// What an answer of this verifier, when asked, says. What is no result of its says nothing about the host.
    fn hear(&self, answer: Result<String, Unanswered>, occasion: Occasion<'_>) -> Result<(), Doubt> {
        let token = answer.map_err(|why| Doubt::Unheard(self.unavailable(&why)))?;
        let relied = self.judge(&token, occasion);
        match relied.failure() {
            None => {
                tracing::debug!(verifier = %self.name, "another verifier affirms");
                Ok(())
            }
            Some(check) => {
                let refusal = self.refusal(check);
                Err(match relied.heard {
                    Some(_) => Doubt::Against(refusal),
                    None => Doubt::Unheard(refusal),
                })
            }
        }
    }

    /// What the result that a host presents says. The host was to present one that counts.
    fn look_at(&self, presented: Option<&str>, occasion: Occasion<'_>) -> Result<(), Doubt> {
        let Some(token) = presented else {
            return Err(Doubt::Against(self.missing()));
        };
        match self.judge(token, occasion).failure() {
            None => Ok(()),
            Some(check) => Err(Doubt::Against(self.refusal(check))),
        }
    }

    /// The result by that of the verifier's keys which it was signed with; by the first where by none.
    fn judge(&self, token: &str, occasion: Occasion<'_>) -> Relied {
        let by = |key: &Map<String, Value>| rely(token, key, &self.demands, occasion);
        let mut all = self.keys.iter().map(by);
        let first = all.next().unwrap_or_else(|| by(&Map::new()));
        if first.signed.is_some() {
            return first;
        }
        all.find(|relied| relied.signed.is_some()).unwrap_or(first)
    }

    fn refusal(&self, check: &Check) -> Refusal {
        let mut refusal = Refusal::from(check.clone()).retry(Retry::Later);
        refusal.found = format!("verifier {}: {}", self.name, refusal.found);
        refusal.remedy = format!("look at what verifier {} knows of this host", self.name);
        refusal
    }

    fn missing(&self) -> Refusal {
        Refusal {
            check: "verifier.result",
            reason: Reason::VerifierUnavailable,
            expected: format!("a result of verifier {}, presented by the host", self.name),
            found: "none".to_owned(),
            remedy: format!(
                "name verifier {} in the configuration of the host's agent",
                self.name
            ),
            retry: Retry::Later,
        }
    }

    fn unavailable(&self, why: &Unanswered) -> Refusal {
        Refusal {
            check: "verifier.result",
            reason: Reason::VerifierUnavailable,
            expected: format!("a result of verifier {}", self.name),
            found: why.to_string(),
            remedy: format!(
                "see that verifier {} runs, is reachable and takes the evidence; the host tries again by itself",
                self.name
            ),
            retry: Retry::Later,
        }
    }
}

/// Hosts about which other verifiers are being asked: one attempt of each at a time, so that none takes the places of all.
#[derive(Debug, Default)]
pub(crate) struct Confirming(Mutex<HashSet<String>>);

/// A host's turn, until it is dropped.
struct Turn<'a> {
    all: &'a Confirming,
    host: &'a str,
}

impl Confirming {
    fn begin<'a>(&'a self, host: &'a str) -> Option<Turn<'a>> {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.insert(host.to_owned()).then_some(Turn { all: self, host })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut hosts = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.remove(self.host);
    }
}

/// What the host hears who has to send the same again.
fn again(found: &str) -> Doubt {
    Doubt::Unheard(Refusal {
        check: "verifier.result",
        reason: Reason::VerifierUnavailable,
        expected: "one attempt of a host at a time, under policies that do not change meanwhile".to_owned(),
        found: found.to_owned(),
        remedy: "none: the host tries again by itself".to_owned(),
        retry: Retry::Later,
    })
}

impl Attempt<'_> {
    /// Asks the verifiers that are configured for this host, all at once, and looks at what the host presents of the others. What the
    /// first in configuration holds against it counts; only where none does, that one was not heard.
    pub(crate) async fn confirm(&self, believed: &Believed, public: &[u8]) -> Result<(), Doubt> {
        let verifiers: Vec<&Arc<OtherVerifier>> = self
            .service
            .config
            .verifiers
            .iter()
            .filter(|verifier| verifier.applies_to(self.host))
            .collect();
        if verifiers.is_empty() {
            return Ok(());
        }
        let Some(_turn) = self.service.confirming.begin(&self.host.id) else {
            return Err(again("another attempt of this host is waiting for a result"));
        };
        let (policies, references) = (self.service.policies(), self.service.references());
        let bind = believed.bind;
        let endpoints: Vec<Arc<Endpoint>> = verifiers
            .iter()
            .filter_map(|verifier| verifier.endpoint.clone())
            .collect();
        let mut answers = match endpoints.is_empty() {
            true => Vec::new(),
            false => {
                let evidence = HostEvidence {
                    evidence: &self.received.evidence,
                    attestation_public: public,
                    log: self.log,
                };
                ask_all(endpoints, bind, EVIDENCE_TYPE, evidence.to_cmw()).await
            }
        }
        .into_iter();
        // What cannot be read presents nothing.
        let presented = Presented::read(&self.received.results).unwrap_or_default();
        let occasion = |key| Occasion {
            nonce: Some(Nonce::Bytes(&bind)),
            key: Some(key),
            now: clock::now(),
        };
        let key = self
            .service
            .appraiser
            .attestation_key(public)
            .map_err(Doubt::Against)?;
        let mut unheard = None;
        for verifier in verifiers {
            let said = match &verifier.endpoint {
                // The evidence was given by us, and bound to this host: what the result is about is known.
                Some(_) => verifier.hear(
                    answers.next().unwrap_or(Err(Unanswered::Busy)),
                    occasion(EvidenceKey::IfNamed(key.spki())),
                ),
                // Whoever presents a result chose the evidence: it could be of another host, made under this binding.
                None => verifier.look_at(
                    presented.of(&verifier.name),
                    occasion(EvidenceKey::Demanded(key.spki())),
                ),
            };
            match said {
                Ok(()) => {}
                Err(Doubt::Unheard(refusal)) => unheard = unheard.or(Some(Doubt::Unheard(refusal))),
                Err(against) => return Err(against),
            }
        }
        if let Some(unheard) = unheard {
            return Err(unheard);
        }
        // Our own decision was made before the wait.
        let same = Arc::ptr_eq(&policies, &self.service.policies())
            && Arc::ptr_eq(&references, &self.service.references());
        if same {
            Ok(())
        } else {
            Err(again("policies or reference values were changed meanwhile"))
        }
    }

    /// Gives no answer now, and consumes nothing: the host sends the same again, and is silent for as long as nobody is heard.
    pub(crate) fn unheard(&self, refusal: &Refusal) -> Reply {
        self.service
            .notes
            .host(&self.host.id, note(refusal, true), self.source, self.now);
        Reply::unavailable(&format!("host {}: {refusal}", self.host.name))
    }
}
