//! The credential service: wires verification, issuance and storage behind its listeners.
