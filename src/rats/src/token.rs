//! What a PKCS#11 token says of itself and of a key, as data (PKCS #11 2.40). It is the word of whoever runs on the token's host: a
//! maker's statement, where there is one, is what proves it.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use touchmark_crypto::sha256;

/// Media type of a [`crate::possession::Possession`] by a key in a token, of which the offer holds a [`TokenReport`].
pub const MEDIA_TYPE: &str = "application/vnd.touchmark.token-key.v1+cbor";

/// What the agent of a host says of a key in a token, deterministic CBOR. The binding covers it, as part of the offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenReport {
    /// The token.
    pub token: TokenDescription,
    /// The key.
    pub key: TokenKey,
    /// Whether the host's configuration marks the token as simulated.
    pub simulated: bool,
}

/// The name by which a binding knows a key in a token: SHA-256 of its SubjectPublicKeyInfo.
pub fn key_name(spki: &[u8]) -> Vec<u8> {
    sha256(&[spki]).to_vec()
}

/// A token, with the slot that it is in and the library that speaks to it (CK_TOKEN_INFO, CK_SLOT_INFO, CK_INFO); padding taken off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenDescription {
    /// Label of the token.
    pub label: String,
    /// Its manufacturer.
    pub manufacturer: String,
    /// Its model.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// Version of its hardware, major and minor.
    pub hardware: (u8, u8),
    /// Version of its firmware.
    pub firmware: (u8, u8),
    /// Number of the slot.
    pub slot_id: u64,
    /// Description of the slot.
    pub slot_description: String,
    /// Manufacturer of the slot.
    pub slot_manufacturer: String,
    /// Whether slot and token say that they are hardware (CKF_HW_SLOT).
    pub hardware_slot: bool,
    /// Manufacturer of the library.
    pub library_manufacturer: String,
    /// Description of the library.
    pub library_description: String,
    /// Version of the library.
    pub library: (u8, u8),
    /// What it can do of what is used here.
    pub mechanisms: Vec<TokenMechanism>,
}

/// A mechanism (CK_MECHANISM_INFO).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenMechanism {
    /// CKM.
    pub number: u64,
    /// Smallest key, in the mechanism's own unit.
    pub min_key: u64,
    /// Largest key.
    pub max_key: u64,
    /// Whether it is carried out by hardware (CKF_HW).
    pub hardware: bool,
}

/// Attributes of a private key; `None` where the token does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenAttributes {
    /// CKA_SENSITIVE: its value cannot be read in clear.
    pub sensitive: Option<bool>,
    /// CKA_ALWAYS_SENSITIVE.
    pub always_sensitive: Option<bool>,
    /// CKA_EXTRACTABLE: it can be wrapped.
    pub extractable: Option<bool>,
    /// CKA_NEVER_EXTRACTABLE.
    pub never_extractable: Option<bool>,
    /// CKA_LOCAL: it was made in the token.
    pub local: Option<bool>,
    /// CKA_MODIFIABLE.
    pub modifiable: Option<bool>,
    /// CKA_SIGN.
    pub sign: Option<bool>,
    /// CKA_DECRYPT.
    pub decrypt: Option<bool>,
    /// CKA_UNWRAP.
    pub unwrap: Option<bool>,
    /// CKA_DERIVE.
    pub derive: Option<bool>,
    /// CKA_ALWAYS_AUTHENTICATE: each signature takes the PIN.
    pub always_authenticate: Option<bool>,
}

impl TokenAttributes {
    /// Why the key may have left the token, or can leave it, by the token's own word; `None` where it never could.
    pub fn could_leave(&self) -> Option<&'static str> {
        let has = |attribute: Option<bool>, wanted: bool| attribute == Some(wanted);
        [
            (has(self.local, true), "it was not made in the token (CKA_LOCAL)"),
            (has(self.sensitive, true), "it can be read (CKA_SENSITIVE)"),
            (
                has(self.always_sensitive, true),
                "it could once be read (CKA_ALWAYS_SENSITIVE)",
            ),
            (
                has(self.extractable, false),
                "it can be wrapped (CKA_EXTRACTABLE)",
            ),
            (
                has(self.never_extractable, true),
                "it could once be wrapped (CKA_NEVER_EXTRACTABLE)",
            ),
        ]
        .into_iter()
        .find(|(holds, _)| !holds)
        .map(|(_, why)| why)
    }
}

/// A key in a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenKey {
    /// Where it is: a PKCS#11 URI (RFC 7512) that names it and no other.
    pub uri: String,
    /// SubjectPublicKeyInfo, DER.
    pub spki: ByteBuf,
    /// What the token says of the private key.
    pub attributes: TokenAttributes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c03_a_key_of_which_a_token_does_not_say_that_it_never_could_leave_may_have_left() {
        let held = TokenAttributes {
            sensitive: Some(true),
            always_sensitive: Some(true),
            extractable: Some(false),
            never_extractable: Some(true),
            local: Some(true),
            ..TokenAttributes::default()
        };
        assert_eq!(held.could_leave(), None);
        let alter: [fn(&mut TokenAttributes, Option<bool>); 5] = [
            |held, value| held.sensitive = value,
            |held, value| held.always_sensitive = value,
            |held, value| held.extractable = value.map(|value| !value),
            |held, value| held.never_extractable = value,
            |held, value| held.local = value,
        ];
        for alter in alter {
            for value in [None, Some(false)] {
                let mut other = held;
                alter(&mut other, value);
                assert!(other.could_leave().is_some(), "{other:?}");
            }
        }
    }
}
