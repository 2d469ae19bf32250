//! What the local API serves, from what the agent holds.

use std::sync::Arc;

use tokio::sync::watch;
use touchmark_api::host::Bundle;
use touchmark_crypto::{Purpose, SignError, Signer, ecdsa_der_from_fixed};
use touchmark_custody::{Class, KeyUse};
use touchmark_identity::TrustDomain;
use touchmark_tls::clock;

use crate::{
    caller::Caller,
    issue::Credential,
    local::{BundleHeld, Denied, HostState, Identities, KeyInfo, Proof, ProofFor, Status, WitHeld, X509Held},
    proof,
    run::Standing,
    workloads::{NoCredential, Workloads, turn_of},
};

/// The agent behind its socket.
pub(crate) struct AgentIdentities {
    workloads: Arc<Workloads>,
    standing: watch::Receiver<Standing>,
}

impl AgentIdentities {
    pub(crate) fn new(workloads: Arc<Workloads>, standing: watch::Receiver<Standing>) -> Self {
        Self { workloads, standing }
    }
}

impl Identities for AgentIdentities {
    fn trust_domain(&self) -> &TrustDomain {
        self.workloads.trust_domain()
    }

    async fn x509(&self, caller: &Caller, identifier: Option<&str>) -> Result<Vec<X509Held>, Denied> {
        let credentials = self.workloads.obtain(caller, "x509", identifier).await?;
        let bundle = self.workloads.bundle()?;
        Ok(credentials
            .iter()
            .map(|credential| x509(credential, &bundle))
            .collect())
    }

    async fn wit(&self, caller: &Caller, identifier: Option<&str>) -> Result<Vec<WitHeld>, Denied> {
        let credentials = self.workloads.obtain(caller, "wit", identifier).await?;
        let bundle = self.workloads.bundle()?;
        Ok(credentials
            .iter()
            .map(|credential| wit(credential, &bundle))
            .collect())
    }

    async fn bundle(&self) -> Result<BundleHeld, Denied> {
        let bundle = self.workloads.bundle()?;
        Ok(BundleHeld {
            trust_domain: bundle.trust_domain.clone(),
            x509: bundle.x509.iter().map(|der| der.to_vec()).collect(),
            jwks: bundle.jwks.clone(),
            sequence: bundle.sequence,
        })
    }

    async fn sign(&self, caller: &Caller, handle: &str, message: &[u8]) -> Result<Vec<u8>, Denied> {
        self.workloads.not_refused()?;
        let credential = self
            .workloads
            .by_handle(caller, handle)
            .ok_or(Denied::NoIdentity)?;
        let message = message.to_vec();
        let key = credential.key.on_behalf_of(turn_of(caller));
        let signed = self
            .sign_with(&credential, move || key.sign(Purpose::TlsHandshake, &message))
            .await?;
        Ok(ecdsa_der_from_fixed(&signed))
    }

    async fn prove(
        &self,
        caller: &Caller,
        purpose: &ProofFor,
        identifier: Option<&str>,
    ) -> Result<Proof, Denied> {
        let credentials = self.workloads.obtain(caller, "wit", identifier).await?;
        let credential = Arc::clone(credentials.first().ok_or(Denied::NoIdentity)?);
        let purpose = purpose.clone();
        let signing = Arc::clone(&credential);
        let key = credential.key.on_behalf_of(turn_of(caller));
        let proved = self.sign_with(&credential, move || proof::prove(&signing, &key, &purpose));
        let (wpt, not_after) = proved.await?;
        Ok(Proof {
            identifier: credential.identifier.clone(),
            wit: credential.token.clone(),
            wpt,
            not_after: seconds(not_after),
        })
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.workloads.changes()
    }

    async fn status(&self) -> Status {
        let nothing = Status {
            state: HostState::Attesting,
            host_id: None,
            identifier: None,
            refusal: None,
            detail: String::new(),
            not_after: None,
        };
        match &*self.standing.borrow() {
            Standing::Attested(_) if self.workloads.not_refused().is_err() => Status {
                state: HostState::Refused,
                detail: "the service has withdrawn this host; an operator can ask touchmark why and its name"
                    .to_owned(),
                ..nothing
            },
            Standing::Attested(host) if host.not_after > clock::now() => Status {
                state: HostState::Attested,
                host_id: Some(host.host.clone()),
                identifier: Some(host.identifier.clone()),
                not_after: Some(seconds(host.not_after)),
                ..nothing
            },
            Standing::Attested(_) => Status {
                state: HostState::Unavailable,
                detail: "the host's credential has expired".to_owned(),
                ..nothing
            },
            Standing::Refused { refusal, retry } => Status {
                state: HostState::Refused,
                refusal: Some(refusal.clone()),
                detail: if retry == "fresh" {
                    "the service does not know this host, or not as it is: an operator sees it with touchmark host list \
                     --pending, or with touchmark why and this host's name"
                        .to_owned()
                } else {
                    format!("an operator can ask: touchmark why {refusal}")
                },
                ..nothing
            },
            Standing::Attesting { detail, .. } if detail.is_empty() => nothing,
            Standing::Attesting { detail, device } => {
                let what = if *device {
                    "the TPM"
                } else {
                    "the credential service"
                };
                let detail = format!("{what} cannot be reached: {detail}");
                Status {
                    state: HostState::Unavailable,
                    detail,
                    ..nothing
                }
            }
        }
    }

    /// A digest is looked at only where a registration selects by one. One that comes between the look at a caller and its
    /// matching does not match before the next look.
    fn needs_digest(&self) -> bool {
        self.workloads
            .registrations()
            .is_none_or(|known| known.iter().any(|registration| registration.exe_sha256.is_some()))
    }
}

impl From<NoCredential> for Denied {
    fn from(error: NoCredential) -> Self {
        match error {
            NoCredential::NoRegistration => Self::NoIdentity,
            NoCredential::Unavailable(why) => Self::Unavailable(why),
            NoCredential::Refused(why) => Self::Refused(why),
        }
    }
}

fn x509(credential: &Credential, bundle: &Bundle) -> X509Held {
    X509Held {
        identifier: credential.identifier.clone(),
        chain: credential.chain.clone(),
        bundle: bundle.x509.iter().map(|der| der.to_vec()).collect(),
        key: key(credential),
        not_after: seconds(credential.not_after),
    }
}

fn wit(credential: &Credential, bundle: &Bundle) -> WitHeld {
    WitHeld {
        identifier: credential.identifier.clone(),
        token: credential.token.clone(),
        jwks: bundle.jwks.clone(),
        key: key(credential),
        not_after: seconds(credential.not_after),
    }
}

fn key(credential: &Credential) -> KeyInfo {
    let usage = KeyUse::parse(&credential.usage).unwrap_or(KeyUse::Agent);
    KeyInfo {
        handle: credential.handle.clone(),
        // A class this version does not know is shown as the weakest.
        custody: Class::parse(&credential.custody).unwrap_or(Class::Software),
        simulated: credential.simulated,
        usage,
        tss2_key: credential
            .description
            .tss2()
            .filter(|_| usage == KeyUse::File)
            .map(<[u8]>::to_vec),
    }
}

fn seconds(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

impl AgentIdentities {
    /// Signs with a credential's key, on a thread that may block. Of a key that is gone from its device another takes the place.
    async fn sign_with<T: Send + 'static>(
        &self,
        credential: &Credential,
        work: impl FnOnce() -> Result<T, SignError> + Send + 'static,
    ) -> Result<T, Denied> {
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(SignError::Purpose(_))) => Err(Denied::NotForPurpose),
            Ok(Err(error)) => {
                if matches!(error, SignError::Gone(_)) {
                    self.workloads.key_is_gone(credential).await;
                }
                Err(Denied::Unavailable(error.to_string()))
            }
            Err(error) => Err(Denied::Unavailable(error.to_string())),
        }
    }
}
