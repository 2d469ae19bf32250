//! Big-endian structures on their way to a TPM.

/// Bytes of a command, written front to back.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    /// A sized field did not fit its 16-bit size.
    overflowed: bool,
}

impl Writer {
    /// Appends a UINT8.
    #[must_use]
    pub fn u8(mut self, value: u8) -> Self {
        self.bytes.push(value);
        self
    }

    /// Appends a UINT16.
    #[must_use]
    pub fn u16(self, value: u16) -> Self {
        self.raw(&value.to_be_bytes())
    }

    /// Appends a UINT32.
    #[must_use]
    pub fn u32(self, value: u32) -> Self {
        self.raw(&value.to_be_bytes())
    }

    /// Appends `bytes` as they are.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Appends a TPM2B: 16 bits of size, then the content.
    #[must_use]
    pub fn sized(mut self, content: &[u8]) -> Self {
        let size = u16::try_from(content.len()).unwrap_or_else(|_| {
            self.overflowed = true;
            u16::MAX
        });
        self.u16(size).raw(content)
    }

    /// Appends what `inner` has, as a TPM2B.
    #[must_use]
    pub fn sized_writer(mut self, inner: &Self) -> Self {
        self.overflowed |= inner.overflowed;
        self.sized(&inner.bytes)
    }

    /// The bytes, unless a sized field was too long.
    #[must_use]
    pub fn finish(&self) -> Option<&[u8]> {
        (!self.overflowed).then_some(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_big_endian_and_sized_ones_carry_their_length() {
        let inner = Writer::default().u16(0x0102);
        let writer = Writer::default()
            .u8(9)
            .u32(0x0a0b_0c0d)
            .sized(b"ab")
            .sized_writer(&inner);
        assert_eq!(
            writer.finish().unwrap(),
            b"\x09\x0a\x0b\x0c\x0d\x00\x02ab\x00\x02\x01\x02"
        );
    }

    #[test]
    fn a_field_that_does_not_fit_is_not_cut() {
        let long = vec![0; 65536];
        assert!(Writer::default().sized(&long).finish().is_none());
        assert!(
            Writer::default()
                .sized_writer(&Writer::default().sized(&long))
                .finish()
                .is_none()
        );
    }
}
