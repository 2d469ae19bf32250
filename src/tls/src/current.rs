//! The identity that a server shows, replaced while it serves.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

/// An identity that can be replaced; handshakes that have begun keep the one they began with.
#[derive(Debug)]
pub struct Current(RwLock<Arc<CertifiedKey>>);

impl Current {
    /// Shows this identity.
    pub fn new(identity: Arc<CertifiedKey>) -> Self {
        Self(RwLock::new(identity))
    }

    /// Shows another identity from now on.
    pub fn replace(&self, identity: Arc<CertifiedKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = identity;
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}
