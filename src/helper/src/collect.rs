//! Collecting a TPM's evidence, or a token's, for one exchange.

use serde_bytes::ByteBuf;
use touchmark_api::device::KeyDescription;
use touchmark_crypto::{HashAlg, sha256};
use touchmark_rats::{
    Binding, PcrSelection, Purpose, pop_message,
    possession::Possession,
    rest_digest,
    token::{self, TokenKey},
    tpm::{TpmCertification, TpmEvidence, TpmOpening},
};

use crate::{Device, DeviceError, Token};

/// What an exchange is about, as the host knows it.
#[derive(Debug, Clone)]
pub struct Exchange<'a> {
    /// What it is for.
    pub purpose: Purpose,
    /// The trust domain, an origin.
    pub trust_domain: &'a str,
    /// SHA-256 of the SubjectPublicKeyInfo of the root that this connection's chain ended in: what the host saw, never
    /// what it was told.
    pub anchor: [u8; 32],
    /// The challenge's id.
    pub challenge_id: [u8; 16],
    /// The challenge's nonce.
    pub nonce: [u8; 32],
    /// The challenge's cookie.
    pub cookie: &'a [u8],
    /// The registers to quote; empty for none.
    pub selection: &'a PcrSelection,
    /// One offset per log.
    pub log_offsets: &'a [u64],
}

impl Exchange<'_> {
    /// What evidence for keys of these names is bound to.
    pub fn bind(&self, offer: &[u8], key_names: &[Vec<u8>]) -> [u8; 32] {
        Binding {
            purpose: self.purpose,
            trust_domain: self.trust_domain,
            anchor: self.anchor,
            challenge_id: self.challenge_id,
            nonce: self.nonce,
            key_names,
            selection: self.selection,
            log_offsets: self.log_offsets,
            rest: rest_digest(&[self.cookie, offer]),
        }
        .value()
    }
}

/// The first message: attestation key, endorsement keys, certificates.
pub fn opening(device: &Device, trust_domain: &str) -> Result<TpmOpening, DeviceError> {
    Ok(TpmOpening {
        endorsements: device.endorsements()?,
        attestation: device.attestation_key(trust_domain)?,
    })
}

/// Evidence for `keys`, which are those of `offer`, in its order. The quote comes first; the boot log is to be read
/// after this, so that it is never shorter than what was quoted.
pub fn evidence(
    device: &Device,
    exchange: &Exchange<'_>,
    offer: &[u8],
    keys: &[&KeyDescription],
) -> Result<TpmEvidence, DeviceError> {
    let names: Vec<Vec<u8>> = keys.iter().map(|key| key_name(&key.public)).collect();
    let bind = exchange.bind(offer, &names);
    let quote = if exchange.selection.0.is_empty() {
        None
    } else {
        Some(device.quote(exchange.trust_domain, exchange.selection, &bind)?)
    };
    let mut certifications = Vec::new();
    for key in keys {
        certifications.push(TpmCertification {
            certify: device.certify(exchange.trust_domain, &key.key, &bind)?,
            possession: ByteBuf::from(device.sign(&key.key, &pop_message(&bind))?),
        });
    }
    let pcr_values = match (&quote, keys.first()) {
        // Read when the key was sealed to them: they tell the operator which register a refusal is about.
        (Some(_), Some(key)) => key.sealed_to.clone(),
        _ => Vec::new(),
    };
    Ok(TpmEvidence {
        quote,
        certifications,
        pcr_values,
    })
}

/// Proof of possession of a key whose certification is on record: one signature.
pub fn possession(
    device: &Device,
    exchange: &Exchange<'_>,
    offer: &[u8],
    key: &KeyDescription,
) -> Result<Possession, DeviceError> {
    let bind = exchange.bind(offer, &[key_name(&key.public)]);
    let signature = device.sign(&key.key, &pop_message(&bind))?;
    Ok(Possession(ByteBuf::from(signature)))
}

/// Proof of possession of a key in a token, of which `offer` holds the report: one signature.
pub fn token_possession(
    token: &Token,
    exchange: &Exchange<'_>,
    offer: &[u8],
    key: &TokenKey,
) -> Result<Possession, DeviceError> {
    let bind = exchange.bind(offer, &[token::key_name(&key.spki)]);
    let signature = token.sign(&key.uri, &pop_message(&bind))?;
    Ok(Possession(ByteBuf::from(signature)))
}

/// The Name of a key whose name algorithm is SHA-256, as all of ours, or SHA-384.
pub fn key_name(public: &[u8]) -> Vec<u8> {
    match public.get(2..4) {
        Some([0x00, 0x0c]) => [&[0x00, 0x0c][..], &HashAlg::Sha384.digest(&[public])].concat(),
        _ => [&[0x00, 0x0b][..], &sha256(&[public])].concat(),
    }
}
