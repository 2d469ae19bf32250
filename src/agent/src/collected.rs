//! What was collected of this host for one challenge, and the message that it goes into.

use touchmark_api::{
    attest::Challenge,
    frame::{self, Enclosed},
};
use touchmark_external::HostEvidence;
use touchmark_rats::{cmw, tpm};

use crate::{AttestationError, Config, passport};

/// Evidence with all that goes beside it.
pub(crate) struct Collected {
    /// The attestation key; only where another verifier has to know it.
    pub(crate) attestation_public: Vec<u8>,
    pub(crate) evidence: Vec<u8>,
    /// What the evidence is bound to.
    pub(crate) bind: [u8; 32],
    /// The boot log, whole.
    pub(crate) log: Vec<u8>,
    /// What the kernel measured, from where the challenge asks for it.
    pub(crate) runtime: Vec<u8>,
}

impl Collected {
    /// The part of the message that a MAC covers, with what other verifiers say of this evidence.
    pub(crate) async fn encode(
        &self,
        config: &Config,
        challenge: &Challenge,
        offer: &[u8],
    ) -> Result<Vec<u8>, AttestationError> {
        let shown = HostEvidence {
            evidence: &self.evidence,
            attestation_public: &self.attestation_public,
            log: &self.log,
        };
        let results = passport::results(config, self.bind, shown).await?;
        let known = challenge.log_offsets.first().copied().unwrap_or(0);
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        let enclosed = Enclosed {
            log: self.log.get(known..).unwrap_or_default(),
            runtime: &self.runtime,
            results: &results,
        };
        let wrapped = cmw::Record::evidence(tpm::MEDIA_TYPE, self.evidence.clone()).to_cbor();
        Ok(frame::encode(&challenge.cookie, offer, &wrapped, enclosed))
    }
}
