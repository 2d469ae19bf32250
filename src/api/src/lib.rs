//! Touchmark's own protocols, as data: shared by both ends, so that neither can drift.

pub mod device;
