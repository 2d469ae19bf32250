//! A workload's key: in the host's TPM, or in its PKCS#11 token.

use serde::{Deserialize, Serialize};
use touchmark_api::{device::KeyDescription, host::Registration};
use touchmark_crypto::Purpose;
use touchmark_custody::{
    Class, CustodyError, HeldKey, KeyReference, KeyUse, pkcs11_uri::Pkcs11Uri, tss2::Tss2Key,
};
use touchmark_helper::{Token, TokenKeys, created_key};
use touchmark_rats::token::TokenKey;

use crate::Config;

/// A key as its device described it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) enum WorkloadKey {
    /// In the TPM.
    Tpm(KeyDescription),
    /// In the token.
    Token(TokenKey),
}

impl WorkloadKey {
    /// SubjectPublicKeyInfo, DER.
    pub(crate) fn spki(&self) -> &[u8] {
        match self {
            Self::Tpm(key) => &key.spki,
            Self::Token(key) => &key.spki,
        }
    }

    /// Where it is, as a file says it.
    pub(crate) fn reference(&self) -> Result<KeyReference, String> {
        match self {
            Self::Tpm(key) => Tss2Key::from_der(&key.key)
                .map(KeyReference::Tss2)
                .map_err(|error| error.to_string()),
            Self::Token(key) => Pkcs11Uri::parse(&key.uri)
                .map(KeyReference::Pkcs11)
                .map_err(|error| error.to_string()),
        }
    }

    /// TSS2 PRIVATE KEY, DER; `None` for a key in a token.
    pub(crate) fn tss2(&self) -> Option<&[u8]> {
        match self {
            Self::Tpm(key) => Some(&key.key),
            Self::Token(_) => None,
        }
    }

    /// The key for these purposes, without asking its device.
    pub(crate) fn held(
        &self,
        config: &Config,
        purposes: &'static [Purpose],
    ) -> Result<HeldKey, CustodyError> {
        match (self, &config.token) {
            (Self::Tpm(key), _) => created_key(&config.device, key, purposes),
            (Self::Token(key), Some(hsm)) => TokenKeys(hsm.token.clone()).described(key, purposes),
            (Self::Token(_), None) => Err(CustodyError::Unusable(
                "it is in a PKCS#11 token, and configuration names none (hsm)".to_owned(),
            )),
        }
    }
}

/// The host's PKCS#11 token.
#[derive(Debug, Clone)]
pub struct HostToken {
    /// The token behind its helper.
    pub token: Token,
    /// Whether it is marked as simulated.
    pub simulated: bool,
}

impl Config {
    /// The token, where the keys of this registration are made in it.
    pub(crate) fn token_for(&self, registration: &Registration) -> Option<&HostToken> {
        self.token.as_ref().filter(|_| is_for_token(registration))
    }
}

/// Whether a registration accepts keys in a token, and none in a TPM that a maker or a cloud vouches for. A key that is handed out as a
/// file is a TPM's.
fn is_for_token(registration: &Registration) -> bool {
    let accepts = |class: Class| registration.custody.iter().any(|word| word == class.as_str());
    let by_agent = registration.usage == KeyUse::Agent.as_str();
    by_agent && accepts(Class::Token) && !accepts(Class::Hardware) && !accepts(Class::Hypervisor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r061_a_key_is_made_in_the_device_whose_class_is_registered() {
        let registered = |custody: &[&str], usage: &str| Registration {
            reference: "l/n".into(),
            revision: [0; 32].into(),
            identifier: "spiffe://example.org/n".into(),
            uid: None,
            gid: None,
            exe: None,
            exe_sha256: None,
            kinds: Vec::new(),
            custody: custody.iter().map(|&class| class.to_owned()).collect(),
            usage: usage.into(),
        };
        for (custody, usage, in_token) in [
            (&["token"][..], "agent", true),
            (&["enclave", "token", "software"], "agent", true),
            (&["token"], "file", false),
            (&["hardware"], "agent", false),
            (&["hardware", "token"], "agent", false),
            (&["token", "hypervisor"], "agent", false),
            (&[], "agent", false),
        ] {
            assert_eq!(
                is_for_token(&registered(custody, usage)),
                in_token,
                "{custody:?} {usage}"
            );
        }
    }
}
