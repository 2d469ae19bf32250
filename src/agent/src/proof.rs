//! Proofs that a workload asks for: built and timed here, for one audience, so that none can be had in advance.

use touchmark_crypto::{Entropy, SignError, SystemEntropy};
use touchmark_custody::HeldKey;
use touchmark_tls::clock;
use touchmark_wimse::wpt::{self, Wpt};

use crate::{issue::Credential, local::ProofFor};

/// Life of a proof, in seconds.
const LIFETIME: u64 = 60;

/// Builds a proof under `key`, which is that of the WIT; returns it and when it expires.
pub(crate) fn prove(
    credential: &Credential,
    key: &HeldKey,
    purpose: &ProofFor,
) -> Result<(String, u64), SignError> {
    let expires_at = clock::now() + LIFETIME;
    let id = SystemEntropy
        .array()
        .map_err(|error| SignError::Retryable(error.to_string()))?;
    let wpt = Wpt {
        wit: &credential.token,
        audience: &purpose.audience,
        expires_at,
        id,
        access: purpose.access,
        transaction: purpose.transaction,
    };
    Ok((wpt::mint(&wpt, key)?, expires_at))
}
