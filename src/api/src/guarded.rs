//! Secret bytes that cross the socket pair between a daemon and its helper, and nothing else.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_bytes::ByteBuf;
use touchmark_crypto::Secret;

/// A [`Secret`] that can be shared and sent: redacted in `Debug`, zeroized when its last holder drops it. It is never
/// part of a message that leaves the machine.
#[derive(Clone)]
pub struct Guarded(Arc<Secret>);

impl Guarded {
    /// Takes ownership of the bytes; the caller keeps no copy.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Secret::new(bytes)))
    }

    /// The bytes, for the one call that needs them.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The secret, for whoever keeps it.
    pub fn into_secret(self) -> Secret {
        Arc::try_unwrap(self.0).unwrap_or_else(|shared| Secret::new(shared.expose().to_vec()))
    }
}

impl From<Secret> for Guarded {
    fn from(secret: Secret) -> Self {
        Self(Arc::new(secret))
    }
}

impl Default for Guarded {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl std::fmt::Debug for Guarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Guarded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.expose())
    }
}

impl<'de> Deserialize<'de> for Guarded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The buffer becomes the secret; nothing is copied.
        let bytes = ByteBuf::deserialize(deserializer).map_err(D::Error::custom)?;
        Ok(Self::new(bytes.into_vec()))
    }
}
