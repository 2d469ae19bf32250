//! Custody: where a private key lives and who may use it.
//!
//! A key's [`Class`] says what was proven about its place, its [`KeyUse`] who can ask it to sign. Keys rest on disk only
//! as TSS2 PRIVATE KEY files ([`tss2`]), which no other TPM can load. A [`KeyBackend`] makes keys and opens them as
//! [`touchmark_crypto::Signer`]s.

mod backend;
mod class;
pub mod pkcs11_uri;
mod software;
pub mod tss2;

pub use backend::{CustodyError, HeldKey, KeyBackend, Seal, SharedSigner};
pub use class::{Class, KeyUse};
pub use software::InMemory;
