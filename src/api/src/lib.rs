//! Touchmark's own protocols, as data: shared by both ends, so that neither can drift.

pub mod admin;
pub mod attest;
pub mod device;
pub mod frame;
mod guarded;
pub mod host;
pub mod problem;
pub mod workload;

pub use guarded::Guarded;
