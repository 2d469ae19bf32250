//! Random bytes as an argument.

use crate::CryptoError;

/// A source of unpredictable bytes. Protocol code takes one, so that its tests are deterministic.
pub trait Entropy: Send + Sync {
    /// Fills the whole buffer or fails.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), CryptoError>;

    /// An array of `N` random bytes.
    fn array<const N: usize>(&self) -> Result<[u8; N], CryptoError>
    where
        Self: Sized,
    {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }
}

/// The operating system's generator, through the provider.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), CryptoError> {
        aws_lc_rs::rand::fill(buffer).map_err(|_| CryptoError::Provider("random generator"))
    }
}
