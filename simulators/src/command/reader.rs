//! Big-endian structures on their way from a TPM.

use crate::error::SimError;

/// Reads an answer front to back.
#[derive(Debug)]
pub struct Reader<'a> {
    command: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, which answered `command`.
    #[must_use]
    pub fn new(command: &'static str, bytes: &'a [u8]) -> Self {
        Self { command, rest: bytes }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], SimError> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(SimError::Malformed {
                command: self.command,
                detail: "the answer is too short",
            }),
        }
    }

    /// A UINT8.
    ///
    /// # Errors
    /// When nothing is left.
    pub fn u8(&mut self) -> Result<u8, SimError> {
        Ok(self.take(1)?.iter().fold(0, |_, &byte| byte))
    }

    /// A UINT16.
    ///
    /// # Errors
    /// When fewer than 2 bytes are left.
    pub fn u16(&mut self) -> Result<u16, SimError> {
        Ok(self
            .take(2)?
            .iter()
            .fold(0, |value, &byte| value << 8 | u16::from(byte)))
    }

    /// A UINT32.
    ///
    /// # Errors
    /// When fewer than 4 bytes are left.
    pub fn u32(&mut self) -> Result<u32, SimError> {
        Ok(self
            .take(4)?
            .iter()
            .fold(0, |value, &byte| value << 8 | u32::from(byte)))
    }

    /// The content of a TPM2B.
    ///
    /// # Errors
    /// When fewer bytes are left than its size says.
    pub fn sized(&mut self) -> Result<&'a [u8], SimError> {
        let size = self.u16()?;
        self.take(usize::from(size))
    }

    /// The next UINT16, which has to be `value`.
    ///
    /// # Errors
    /// When it is another, or nothing is left.
    pub fn expect_u16(&mut self, value: u16) -> Result<(), SimError> {
        if self.u16()? == value {
            return Ok(());
        }
        Err(SimError::Malformed {
            command: self.command,
            detail: "the answer is not what was asked for",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_order_and_a_short_answer_is_an_error() {
        let mut reader = Reader::new("TPM2_Test", b"\x01\x02\x03\x04\x05\x06\x07\x00\x02ab\x00\x09c");
        assert_eq!(reader.u8().unwrap(), 1);
        assert_eq!(reader.u16().unwrap(), 0x0203);
        assert_eq!(reader.u32().unwrap(), 0x0405_0607);
        assert_eq!(reader.sized().unwrap(), b"ab");
        assert!(reader.sized().is_err());
    }
}
