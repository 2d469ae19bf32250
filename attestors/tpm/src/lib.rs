//! Appraises TPM 2.0 evidence: pure, without a TSS library and without a TPM.
//!
//! The order of checks follows the TCG EK Credential Profile and the TPM 2.0 library specification: endorsement
//! certificate, endorsement key, attestation key, activation secret; then quote, certification, boot log. Structures
//! are read from the bytes that arrived, and signatures are checked over those bytes.

mod appraise;
mod attest;
mod attestation;
mod attestation_key;
mod certificate;
mod credential;
mod endorsement;
pub mod ima;
mod image;
mod log;
mod offered_key;
mod public_area;
mod quoted;
mod reader;
mod recorded;
mod shipped;
mod signature;

pub use appraise::TpmAppraiser;
pub use certificate::{CertificateUse, ChipCertificate, judge_certificate};
pub use endorsement::Maker;
pub use image::{EfiImage, ImageError, ImageValue};
pub use log::{
    Boot, BootCertificate, BootLog, Image, Judged, LogError, LogUse, MAX_EVENTS, MAX_LOG, Registers,
    SecureBoot, SignatureDatabases, boot_values, judge_log,
};
pub use public_area::{AreaError, Attributes, PublicArea};
pub use recorded::{PcrValues, Recorded, RecordedCertify, RecordedKey, RecordedQuote};
pub use shipped::{shipped, shipped_names};
pub use signature::AttestSignature;
