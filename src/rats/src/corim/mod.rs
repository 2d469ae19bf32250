//! Concise reference integrity manifests (draft-ietf-rats-corim): what a vendor says that its measurements are. Decoded with every mandatory
//! member and its type; members of extensions are passed over. Nothing is believed here: who signed a manifest is checked over its bytes
//! before they are read.

mod comid;
mod manifest;
mod member;

pub use comid::{Class, Comid, Digests, Environment, Key, Measurement, ReferenceTriple, read_comid};
pub use manifest::{Corim, SignatureValidity, Tag, read_corim, read_signature};

/// Largest manifest, in bytes.
pub const MAX_CORIM: usize = 4 * 1024 * 1024;
/// The content type of a manifest in COSE_Sign1.
pub const CONTENT_TYPE: &str = "application/rim+cbor";
