//! The service's own identity in TLS: certified by its intermediate for a day, and again while it serves.

use std::{sync::Arc, time::Duration};

use touchmark_crypto::{Signer, SystemEntropy};
use touchmark_custody::HeldKey;
use touchmark_store::Issuance;
use touchmark_tls::{Current, clock, identity};

use crate::{ServerError, Service};

/// Life of the service's certificate, seconds.
const LIFETIME: u64 = 24 * 3600;
/// How often it is looked at: a host that was suspended wakes to an old one.
const LOOK: Duration = Duration::from_secs(60);

/// Certifies the key that serves TLS; recorded before it is shown. Returns with what is shown when it should be replaced.
async fn certify(
    service: &Arc<Service>,
    key: &HeldKey,
    now: u64,
) -> Result<(Arc<rustls::sign::CertifiedKey>, u64), ServerError> {
    let (authority, public) = (Arc::clone(&service.authority), key.public_key().clone());
    let issued = tokio::task::spawn_blocking(move || {
        authority.server_certificate(&public, LIFETIME, now, &SystemEntropy)
    });
    let credential = issued
        .await
        .map_err(|error| ServerError::Other(error.to_string()))??;
    let replaced_at = replaced_at(now, credential.not_after());
    // The root at its end: hosts know only its digest.
    let chain = vec![
        credential.certificate().unwrap_or_default().to_vec(),
        service.authority.intermediate.der.clone(),
        service.root.der.clone(),
    ];
    let issuance = Issuance {
        registration: "server".to_owned(),
        registered: String::new(),
        credential,
        certified: None,
    };
    service.store.record_own(&issuance, now).await?;
    // Whoever connects takes a signature, and waits behind what is issued.
    Ok((identity(&chain, key.on_behalf_of(0)), replaced_at))
}

/// The service's identity and what keeps it fresh, which never ends by itself.
pub(crate) async fn identity_of(
    service: &Arc<Service>,
    key: HeldKey,
) -> Result<(Arc<Current>, impl Future<Output = ()> + use<>), ServerError> {
    let (first, mut due) = certify(service, &key, clock::now()).await?;
    let current = Arc::new(Current::new(first));
    let (shown, service) = (Arc::clone(&current), Arc::clone(service));
    let renewing = async move {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = clock::now();
            if now < due {
                continue;
            }
            match certify(&service, &key, now).await {
                Ok((next, next_due)) => {
                    shown.replace(next);
                    due = next_due;
                }
                Err(error) => tracing::error!(%error, "the service's own certificate was not renewed"),
            }
        }
    };
    Ok((current, renewing))
}

/// When two thirds of a certificate's life are over. Below an intermediate that is about to end that life is short.
fn replaced_at(now: u64, not_after: u64) -> u64 {
    now + not_after.saturating_sub(now) / 3 * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_replaced_after_two_thirds_of_its_life_however_short_that_is() {
        assert_eq!(replaced_at(1_000, 1_000 + LIFETIME), 1_000 + LIFETIME / 3 * 2);
        assert_eq!(replaced_at(1_000, 1_300), 1_200);
        assert_eq!(replaced_at(1_000, 900), 1_000);
    }
}
