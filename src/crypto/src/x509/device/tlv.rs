//! A cursor over BER with definite lengths that notes where the bytes are not DER.

use crate::CryptoError;

/// Deepest nesting that is followed.
const MAX_DEPTH: u8 = 12;

/// What was read besides the values.
#[derive(Debug, Default)]
pub(super) struct Notes(pub(super) Vec<&'static str>);

impl Notes {
    pub(super) fn add(&mut self, what: &'static str) {
        if !self.0.contains(&what) {
            self.0.push(what);
        }
    }
}

/// One tag-length-value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tlv<'a> {
    pub(super) tag: u8,
    pub(super) contents: &'a [u8],
    /// With tag and length.
    pub(super) whole: &'a [u8],
}

/// Reads values one after another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    depth: u8,
}

const WHAT: CryptoError = CryptoError::Malformed("certificate");

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            depth: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The tag of the next value.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next value, of whatever tag. Indefinite lengths and tags of more than a byte are refused.
    pub(super) fn any(&mut self, notes: &mut Notes) -> Result<Tlv<'a>, CryptoError> {
        let all = self.rest;
        let (tag, rest) = all.split_first().ok_or(WHAT)?;
        let (short, rest) = rest.split_first().ok_or(WHAT)?;
        if tag & 0x1f == 0x1f {
            return Err(WHAT);
        }
        let (length, rest) = match short {
            0..=0x7f => (usize::from(*short), rest),
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(short & 0x7f)).ok_or(WHAT)?;
                let length = digits
                    .iter()
                    .fold(0, |length, digit| length << 8 | usize::from(*digit));
                let shortest = match length {
                    0..=0x7f => 0,
                    0x80..=0xff => 1,
                    0x100..=0xffff => 2,
                    _ => 3,
                };
                if digits.len() != shortest {
                    notes.add("a length that is not in its shortest form");
                }
                (length, rest)
            }
            _ => return Err(WHAT),
        };
        let (contents, after) = rest.split_at_checked(length).ok_or(WHAT)?;
        let whole = all.get(..all.len() - after.len()).ok_or(WHAT)?;
        self.rest = after;
        Ok(Tlv {
            tag: *tag,
            contents,
            whole,
        })
    }

    /// The next value, which has to be of this tag.
    pub(super) fn take(&mut self, tag: u8, notes: &mut Notes) -> Result<Tlv<'a>, CryptoError> {
        let found = self.any(notes)?;
        if found.tag == tag { Ok(found) } else { Err(WHAT) }
    }

    /// The next value if it is of this tag.
    pub(super) fn optional(&mut self, tag: u8, notes: &mut Notes) -> Result<Option<Tlv<'a>>, CryptoError> {
        if self.peek() == Some(tag) {
            self.any(notes).map(Some)
        } else {
            Ok(None)
        }
    }

    /// What is inside a value.
    pub(super) fn inside(&self, value: &Tlv<'a>) -> Result<Self, CryptoError> {
        if self.depth >= MAX_DEPTH {
            return Err(WHAT);
        }
        Ok(Self {
            rest: value.contents,
            depth: self.depth + 1,
        })
    }

    /// The next value of this tag, opened.
    pub(super) fn open(&mut self, tag: u8, notes: &mut Notes) -> Result<Self, CryptoError> {
        let value = self.take(tag, notes)?;
        self.inside(&value)
    }

    /// Fails unless everything was read.
    pub(super) fn end(self) -> Result<(), CryptoError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WHAT) }
    }
}

/// A BOOLEAN. DER has 0xff for true, makers also have others.
pub(super) fn boolean(value: &Tlv<'_>, notes: &mut Notes) -> Result<bool, CryptoError> {
    match value.contents {
        [0] => Ok(false),
        [0xff] => Ok(true),
        [_] => {
            notes.add("a BOOLEAN that is neither 0x00 nor 0xff");
            Ok(true)
        }
        _ => Err(WHAT),
    }
}

/// The bytes of a BIT STRING and how many of its last bits do not count.
pub(super) fn bits<'a>(value: &Tlv<'a>, notes: &mut Notes) -> Result<(&'a [u8], u8), CryptoError> {
    let (unused, bytes) = value.contents.split_first().ok_or(WHAT)?;
    if *unused > 7 || (bytes.is_empty() && *unused != 0) {
        return Err(WHAT);
    }
    if bytes
        .last()
        .is_some_and(|last| last & ((1_u8 << unused) - 1) != 0)
    {
        notes.add("a BIT STRING whose unused bits are set");
    }
    Ok((bytes, *unused))
}

/// Whether bytes are one SEQUENCE, no more and no less.
pub(in crate::x509) fn is_whole_sequence(bytes: &[u8]) -> bool {
    Cursor::new(bytes)
        .take(0x30, &mut Notes::default())
        .is_ok_and(|found| found.whole.len() == bytes.len())
}

#[cfg(test)]
mod tests {
    use super::is_whole_sequence;

    #[test]
    fn a_sequence_is_whole_with_nothing_missing_and_nothing_after_it() {
        assert!(is_whole_sequence(&[0x30, 2, 5, 0]));
        for wrong in [&[0x30, 2, 5][..], &[0x30, 2, 5, 0, 0], &[0x31, 2, 5, 0], &[]] {
            assert!(!is_whole_sequence(wrong), "{wrong:?}");
        }
    }
}
