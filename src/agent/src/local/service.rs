//! The gRPC service: what arrives is checked for form, its sender is looked at, and [`Identities`] decides.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use touchmark_api::workload::{
    FetchBundleRequest, FetchBundleResponse, FetchWitRequest, FetchWitResponse, FetchX509Request,
    FetchX509Response, Key, ProveRequest, ProveResponse, Purpose, SignRequest, SignResponse, StatusRequest,
    StatusResponse, WatchRequest, WitIdentity, X509Identity, is_audience, is_tls13_handshake,
    workload_identity_server::WorkloadIdentity,
};
use touchmark_custody::KeyUse;
use touchmark_identity::TrustDomain;

use crate::caller::{Caller, CallerError, Peer};

use super::{
    BundleHeld, Denied, Identities, KeyInfo, ProofFor, WitHeld, X509Held,
    watch::{Updates, Watch},
};

/// Longest handle, bytes.
const MAX_HANDLE: usize = 256;

/// The only thing that a caller without a registration hears.
pub(super) const NO_IDENTITY: &str = "no identity for this caller";

/// The service over one agent's identities.
pub(super) struct Workloads<I>(Arc<I>);

impl<I: Identities> Workloads<I> {
    pub(super) fn new(identities: Arc<I>) -> Self {
        Self(identities)
    }

    /// Looks at the process that sent the request.
    async fn caller<T: Sync>(&self, call: &'static str, request: &Request<T>) -> Result<Caller, Status> {
        let peer = peer(request)?;
        peer.identify(self.0.needs_digest()).await.map_err(|error| {
            tracing::info!(call, ?peer, %error, "refused: the caller was not identified");
            match error {
                CallerError::Io(_) | CallerError::Cancelled => {
                    Status::unavailable("the caller could not be looked at; try again")
                }
                CallerError::Gone | CallerError::Changed | CallerError::Hidden => {
                    Status::permission_denied(NO_IDENTITY)
                }
            }
        })
    }
}

impl<I: Identities> Workloads<I> {
    /// Whether a registration that selects by digest came only after the caller was looked at: who matched nothing is looked at again.
    fn looked_too_early<T>(&self, caller: &Caller, held: &Result<T, Denied>) -> bool {
        matches!(held, Err(Denied::NoIdentity)) && caller.exe_sha256.is_none() && self.0.needs_digest()
    }
}

#[tonic::async_trait]
impl<I: Identities> WorkloadIdentity for Workloads<I> {
    async fn fetch_x509(
        &self,
        request: Request<FetchX509Request>,
    ) -> Result<Response<FetchX509Response>, Status> {
        let mut caller = self.caller("FetchX509", &request).await?;
        let asked = identifier(self.0.trust_domain(), &request.get_ref().identifier)?;
        let mut held = self.0.x509(&caller, asked).await.and_then(at_least_one);
        if self.looked_too_early(&caller, &held) {
            caller = self.caller("FetchX509", &request).await?;
            held = self.0.x509(&caller, asked).await.and_then(at_least_one);
        }
        let held = held.map_err(|denied| refusal("FetchX509", &caller, denied))?;
        let identities = held.into_iter().map(x509_identity).collect();
        Ok(Response::new(FetchX509Response { identities }))
    }

    async fn fetch_wit(
        &self,
        request: Request<FetchWitRequest>,
    ) -> Result<Response<FetchWitResponse>, Status> {
        let mut caller = self.caller("FetchWit", &request).await?;
        let asked = identifier(self.0.trust_domain(), &request.get_ref().identifier)?;
        let mut held = self.0.wit(&caller, asked).await.and_then(at_least_one);
        if self.looked_too_early(&caller, &held) {
            caller = self.caller("FetchWit", &request).await?;
            held = self.0.wit(&caller, asked).await.and_then(at_least_one);
        }
        let held = held.map_err(|denied| refusal("FetchWit", &caller, denied))?;
        let identities = held.into_iter().map(wit_identity).collect();
        Ok(Response::new(FetchWitResponse { identities }))
    }

    async fn fetch_bundle(
        &self,
        _: Request<FetchBundleRequest>,
    ) -> Result<Response<FetchBundleResponse>, Status> {
        let held = self.0.bundle().await.map_err(status)?;
        Ok(Response::new(bundle(held)))
    }

    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let caller = self.caller("Sign", &request).await?;
        let SignRequest { handle, message, .. } = request.get_ref();
        if request.get_ref().purpose() != Purpose::TlsHandshake {
            return Err(Status::invalid_argument(
                "the purpose is none that this agent knows; TLS_HANDSHAKE is",
            ));
        }
        if handle.is_empty() || handle.len() > MAX_HANDLE {
            return Err(Status::invalid_argument("the handle is empty or too long"));
        }
        if !is_tls13_handshake(message) {
            return Err(Status::invalid_argument(
                "the message is not a TLS 1.3 CertificateVerify input; send it whole, not its digest",
            ));
        }
        let signed = self.0.sign(&caller, handle, message).await;
        let signature = signed.map_err(|denied| refusal("Sign", &caller, denied))?;
        Ok(Response::new(SignResponse { signature }))
    }

    async fn prove(&self, request: Request<ProveRequest>) -> Result<Response<ProveResponse>, Status> {
        let caller = self.caller("Prove", &request).await?;
        let asked = identifier(self.0.trust_domain(), &request.get_ref().identifier)?;
        let audience = &request.get_ref().audience;
        if !is_audience(audience) {
            return Err(Status::invalid_argument(
                "the audience is not an absolute URI with an authority and without query and fragment",
            ));
        }
        let digest = |bytes: &[u8]| match bytes {
            [] => Ok(None),
            bytes => bytes
                .try_into()
                .map(Some)
                .map_err(|_| Status::invalid_argument("the digest of a token is not 32 bytes long")),
        };
        let purpose = ProofFor {
            audience: audience.clone(),
            access: digest(&request.get_ref().access_token_sha256)?,
            transaction: digest(&request.get_ref().transaction_token_sha256)?,
        };
        let proved = self.0.prove(&caller, &purpose, asked).await;
        let proof = proved.map_err(|denied| refusal("Prove", &caller, denied))?;
        Ok(Response::new(ProveResponse {
            identifier: proof.identifier,
            wit: proof.wit,
            wpt: proof.wpt,
            audience: audience.clone(),
            not_after: proof.not_after,
        }))
    }

    type WatchStream = Updates;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Updates>, Status> {
        let asked = identifier(self.0.trust_domain(), &request.get_ref().identifier)?;
        let watch = Watch {
            identities: Arc::clone(&self.0),
            peer: peer(&request)?.clone(),
            identifier: asked.map(str::to_owned),
        };
        Ok(Response::new(watch.begin().await?))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let now = self.0.status().await;
        Ok(Response::new(StatusResponse {
            state: now.state.as_str().to_owned(),
            host_id: now.host_id.unwrap_or_default(),
            identifier: now.identifier.unwrap_or_default(),
            refusal: now.refusal.unwrap_or_default(),
            detail: now.detail,
            not_after: now.not_after.unwrap_or_default(),
        }))
    }
}

fn peer<T>(request: &Request<T>) -> Result<&Peer, Status> {
    request
        .extensions()
        .get::<Peer>()
        .ok_or_else(|| Status::internal("a request without a peer"))
}

/// The identifier that was asked for; `None` for any.
fn identifier<'a>(domain: &TrustDomain, text: &'a str) -> Result<Option<&'a str>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    match domain.workload(text) {
        Ok(_) => Ok(Some(text)),
        Err(error) => Err(Status::invalid_argument(format!(
            "not a workload identifier of {domain} ({}): {error}",
            error.reason()
        ))),
    }
}

fn at_least_one<T>(held: Vec<T>) -> Result<Vec<T>, Denied> {
    if held.is_empty() {
        return Err(Denied::NoIdentity);
    }
    Ok(held)
}

/// Logs who was refused, and what the refused one hears. Debug formatting escapes what the caller chose.
fn refusal(call: &'static str, caller: &Caller, denied: Denied) -> Status {
    let Caller { pid, uid, exe, .. } = caller;
    tracing::info!(call, pid, uid, ?exe, ?denied, "refused");
    status(denied)
}

fn status(denied: Denied) -> Status {
    match denied {
        Denied::NoIdentity => Status::permission_denied(NO_IDENTITY),
        Denied::Unavailable(text) => Status::unavailable(text),
        // Another code than for a caller without a registration, since another person can help.
        Denied::Refused(text) => Status::aborted(text),
        Denied::Invalid(text) => Status::invalid_argument(text),
        Denied::NotForPurpose => Status::failed_precondition("this key does not answer for this purpose"),
    }
}

fn key(info: KeyInfo) -> Key {
    let file = info.usage == KeyUse::File;
    Key {
        handle: info.handle,
        custody: info.custody.as_str().to_owned(),
        simulated: info.simulated,
        r#use: info.usage.as_str().to_owned(),
        tss2_key: info.tss2_key.filter(|_| file).unwrap_or_default(),
    }
}

pub(super) fn bundle(held: BundleHeld) -> FetchBundleResponse {
    FetchBundleResponse {
        trust_domain: held.trust_domain,
        x509: held.x509,
        jwks: held.jwks,
        sequence: held.sequence,
    }
}

pub(super) fn x509_identity(held: X509Held) -> X509Identity {
    X509Identity {
        identifier: held.identifier,
        chain: held.chain,
        bundle: held.bundle,
        key: Some(key(held.key)),
        not_after: held.not_after,
    }
}

pub(super) fn wit_identity(held: WitHeld) -> WitIdentity {
    WitIdentity {
        identifier: held.identifier,
        token: held.token,
        jwks: held.jwks,
        key: Some(key(held.key)),
        not_after: held.not_after,
    }
}
