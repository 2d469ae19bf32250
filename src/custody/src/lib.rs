//! Custody: where a private key lives and who may use it.
//!
//! A key's [`Class`] says what was proven about its place, its [`KeyUse`] who can ask it to sign. What rests
//! on disk is a [`KeyReference`]: a TSS2 PRIVATE KEY file ([`tss2`]), which no other TPM can load, or a PKCS#11 URI ([`pkcs11_uri`]). A [`KeyBackend`] makes keys and opens them as
//! [`touchmark_crypto::Signer`]s.

mod backend;
mod class;
pub mod pkcs11_uri;
mod reference;
mod software;
pub mod tss2;

pub use backend::{CustodyError, HeldKey, KeyBackend, NewKey, Seal, SharedSigner};
pub use class::{Class, KeyUse};
pub use reference::{KeyReference, ReferenceError};
pub use software::InMemory;
