//! The renewal of a workload's credential: the same key and one signature by it. A TPM's key is certified on record; of a token's the token
//! is asked again.

use touchmark_api::{
    device::{KeyDescription, Urgency},
    host::RENEW_PATH,
};
use touchmark_helper::possession;
use touchmark_rats::{PcrSelection, cbor, possession::MEDIA_TYPE};

use crate::{
    AttestationError,
    attestation::on_device,
    issue::{Ask, Credential, exchange, message, send},
    reported,
    workload_key::WorkloadKey,
};

impl Ask<'_> {
    /// Renews a credential under its registration.
    pub(crate) async fn renew(&self, credential: &Credential) -> Result<Credential, AttestationError> {
        match (&credential.description, self.config.token_for(self.registration)) {
            (WorkloadKey::Token(key), Some(hsm)) => reported::renew(self, hsm, key).await,
            (WorkloadKey::Tpm(key), None) => self.renew_certified(key).await,
            // The registration, or the configuration, wants its keys elsewhere now.
            _ => self.issue(0).await,
        }
    }

    async fn renew_certified(&self, key: &KeyDescription) -> Result<Credential, AttestationError> {
        let device = self.config.device.urgent(Urgency::Renewal);
        let challenge = self.assignments.challenge.clone();
        let domain = self.config.pins.trust_domain.to_string();
        let (described, offer) = (key.clone(), self.offer()(&key.public));
        let request = on_device(move || {
            let nothing = PcrSelection(Vec::new());
            let exchange = exchange(&challenge, &domain, &nothing);
            let proof = possession(&device, &exchange, &offer, &described)?;
            Ok(message(&challenge, &offer, MEDIA_TYPE, cbor::encode(&proof)))
        });
        let issued = send(self.sessions, self.host, RENEW_PATH, &request.await?).await?;
        self.accept(&issued, &WorkloadKey::Tpm(key.clone()))
    }
}
