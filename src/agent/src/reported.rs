//! A workload's credential for a key in the host's PKCS#11 token: what the token says of the key, and a signature by it.

use touchmark_api::{
    device::{TokenKeyKind, Urgency},
    host::ISSUE_PATH,
};
use touchmark_helper::{DeviceError, Token, token_possession};
use touchmark_rats::{
    PcrSelection, cbor,
    token::{MEDIA_TYPE, TokenKey, TokenReport},
};

use crate::{
    AttestationError,
    attestation::on_device,
    issue::{Ask, Credential, exchange, handle, message, send},
    workload_key::{HostToken, WorkloadKey},
};

/// Obtains it for a new key.
pub(crate) async fn issue(ask: &Ask<'_>, hsm: &HostToken, turn: u64) -> Result<Credential, AttestationError> {
    let token = hsm.token.on_behalf_of(turn);
    let label = format!("touchmark {} {}", ask.registration.reference, ask.kind);
    let made = {
        let token = token.clone();
        in_token(move || token.create_key(TokenKeyKind::P256, &label)).await?
    };
    // Before anything else can fail: what is in the token is found again, and destroyed if nothing comes of it.
    let key = WorkloadKey::Token(made.clone());
    let (handle, reference) = (handle(&made.spki), key.reference());
    let obtained = async {
        let written = match reference {
            Ok(reference) => ask.keys.write(&handle, &reference).await,
            Err(error) => Err(error),
        };
        written.map_err(AttestationError::Answer)?;
        let request = request(ask, hsm, token, made).await?;
        let issued = send(ask.sessions, ask.host, ISSUE_PATH, &request).await?;
        ask.accept(&issued, &key)
    };
    let obtained = obtained.await;
    if obtained.is_err() {
        ask.keys.remove(vec![handle]).await;
    }
    obtained
}

/// Renews it; of a key that is no longer in the token another takes the place.
pub(crate) async fn renew(
    ask: &Ask<'_>,
    hsm: &HostToken,
    key: &TokenKey,
) -> Result<Credential, AttestationError> {
    let token = hsm.token.urgent(Urgency::Renewal);
    let (asked, uri) = (token.clone(), key.uri.clone());
    let described = in_token(move || match asked.describe_key(&uri) {
        Err(error) if error.is_no_key() => Ok(None),
        described => described.map(Some),
    });
    let Some(described) = described.await?.filter(|found| found.spki == key.spki) else {
        tracing::warn!(registration = %ask.registration.reference, uri = %key.uri, "a key is gone from its token; another takes its place");
        return issue(ask, hsm, 0).await;
    };
    let request = request(ask, hsm, token, described.clone()).await?;
    let issued = send(ask.sessions, ask.host, ISSUE_PATH, &request).await?;
    ask.accept(&issued, &WorkloadKey::Token(described))
}

async fn request(
    ask: &Ask<'_>,
    hsm: &HostToken,
    token: Token,
    key: TokenKey,
) -> Result<Vec<u8>, AttestationError> {
    let challenge = ask.assignments.challenge.clone();
    let domain = ask.config.pins.trust_domain.to_string();
    let (offer, simulated) = (ask.offer(), hsm.simulated);
    in_token(move || {
        let report = TokenReport {
            token: token.describe()?,
            key,
            simulated,
        };
        let offer = offer(&cbor::encode(&report));
        let nothing = PcrSelection(Vec::new());
        let exchange = exchange(&challenge, &domain, &nothing);
        let proof = token_possession(&token, &exchange, &offer, &report.key)?;
        Ok(message(&challenge, &offer, MEDIA_TYPE, cbor::encode(&proof)))
    })
    .await
}

/// Runs work of the token on a thread that may block.
async fn in_token<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DeviceError> + Send + 'static,
) -> Result<T, AttestationError> {
    on_device(work).await.map_err(|error| match error {
        AttestationError::Device(error) => AttestationError::Token(error),
        other => other,
    })
}
