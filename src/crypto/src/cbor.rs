//! The shape of CBOR (RFC 8949) before anybody decodes it: whether it is well-formed, within limits, and deterministic. Nothing is
//! allocated by what a length claims.

use crate::CryptoError;

/// Deepest nesting accepted.
pub const MAX_DEPTH: usize = 24;
/// Most data items accepted.
pub const MAX_ITEMS: usize = 200_000;

/// What was seen besides the items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Whether it is in the form of section 4.2.1: shortest numbers and lengths, definite lengths, keys in order.
    pub deterministic: bool,
    /// Whether a map has a key twice.
    pub duplicate_key: bool,
    /// Whether `undefined` is in it, which decoders take for `null`.
    pub undefined: bool,
}

/// Looks at exactly one data item with nothing after it.
pub fn shape(bytes: &[u8]) -> Result<Shape, CryptoError> {
    let mut scan = Scan {
        bytes,
        at: 0,
        items: 0,
        shape: Shape {
            deterministic: true,
            duplicate_key: false,
            undefined: false,
        },
    };
    scan.item(0)?;
    if scan.at == bytes.len() {
        Ok(scan.shape)
    } else {
        Err(WHAT)
    }
}

const WHAT: CryptoError = CryptoError::Malformed("CBOR");

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    items: usize,
    shape: Shape,
}

/// The argument of a head.
enum Argument {
    Number(u64),
    Indefinite,
}

impl<'a> Scan<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], CryptoError> {
        let end = self.at.checked_add(length).ok_or(WHAT)?;
        let taken = self.bytes.get(self.at..end).ok_or(WHAT)?;
        self.at = end;
        Ok(taken)
    }

    fn head(&mut self) -> Result<(u8, Argument), CryptoError> {
        let first = *self.take(1)?.first().ok_or(WHAT)?;
        let (major, info) = (first >> 5, first & 0x1f);
        let width = match info {
            0..=23 => return Ok((major, Argument::Number(info.into()))),
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            31 if matches!(major, 2..=5 | 7) => return Ok((major, Argument::Indefinite)),
            _ => return Err(WHAT),
        };
        let number = self
            .take(width)?
            .iter()
            .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        if major == 7 {
            // Floats have a width of their own; simple values below 32 must not take a byte.
            if width == 1 && number < 32 {
                return Err(WHAT);
            }
        } else {
            let shortest = match number {
                0..=23 => 0,
                24..=0xff => 1,
                0x100..=0xffff => 2,
                0x1_0000..=0xffff_ffff => 4,
                _ => 8,
            };
            self.shape.deterministic &= width == shortest;
        }
        Ok((major, Argument::Number(number)))
    }

    fn item(&mut self, depth: usize) -> Result<(), CryptoError> {
        self.items += 1;
        if depth > MAX_DEPTH || self.items > MAX_ITEMS {
            return Err(CryptoError::Malformed("CBOR: over its limits"));
        }
        let (major, argument) = self.head()?;
        self.shape.undefined |= matches!((major, &argument), (7, Argument::Number(23)));
        match (major, argument) {
            (0 | 1, _) => Ok(()),
            (2 | 3, Argument::Number(length)) => self.string(major, length),
            (2 | 3, Argument::Indefinite) => {
                self.shape.deterministic = false;
                while !self.ended()? {
                    match self.head()? {
                        (chunk, Argument::Number(length)) if chunk == major => self.string(major, length)?,
                        _ => return Err(WHAT),
                    }
                }
                Ok(())
            }
            (4, Argument::Number(count)) => {
                for _ in 0..count {
                    self.item(depth + 1)?;
                }
                Ok(())
            }
            (4, Argument::Indefinite) => {
                self.shape.deterministic = false;
                while !self.ended()? {
                    self.item(depth + 1)?;
                }
                Ok(())
            }
            (5, argument) => self.map(&argument, depth),
            (6, _) => self.item(depth + 1),
            (7, Argument::Number(_)) => Ok(()),
            _ => Err(WHAT),
        }
    }

    fn string(&mut self, major: u8, length: u64) -> Result<(), CryptoError> {
        let bytes = self.take(usize::try_from(length).map_err(|_| WHAT)?)?;
        if major == 3 && std::str::from_utf8(bytes).is_err() {
            return Err(WHAT);
        }
        Ok(())
    }

    fn map(&mut self, argument: &Argument, depth: usize) -> Result<(), CryptoError> {
        let mut keys: Vec<&[u8]> = Vec::new();
        // Keys that are not in their shortest form, in it.
        let mut shortened: Vec<Vec<u8>> = Vec::new();
        let mut left = match argument {
            Argument::Number(count) => Some(*count),
            Argument::Indefinite => {
                self.shape.deterministic = false;
                None
            }
        };
        loop {
            match &mut left {
                Some(0) => break,
                Some(left) => *left -= 1,
                None if self.ended()? => break,
                None => {}
            }
            let start = self.at;
            let before = std::mem::replace(&mut self.shape.deterministic, true);
            self.item(depth + 1)?;
            let key = self.bytes.get(start..self.at).ok_or(WHAT)?;
            if self.shape.deterministic {
                keys.push(key);
            } else {
                shortened.push(shortest(key)?);
            }
            self.shape.deterministic &= before;
            self.item(depth + 1)?;
        }
        self.shape.deterministic &= keys.is_sorted();
        keys.extend(shortened.iter().map(Vec::as_slice));
        keys.sort_unstable();
        self.shape.duplicate_key |= keys.windows(2).any(|pair| pair.first() == pair.last());
        Ok(())
    }

    /// Whether the break of an indefinite item comes next; takes it.
    fn ended(&mut self) -> Result<bool, CryptoError> {
        let next = *self.bytes.get(self.at).ok_or(WHAT)?;
        if next == 0xff {
            self.at += 1;
        }
        Ok(next == 0xff)
    }
}

/// One item, which is well-formed, with the shortest numbers and definite lengths.
fn shortest(item: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let value: ciborium::Value = ciborium::from_reader(item).map_err(|_| WHAT)?;
    let mut out = Vec::new();
    ciborium::into_writer(&value, &mut out).map_err(|_| WHAT)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(hex: &str) -> Result<(bool, bool), CryptoError> {
        shape(&hex::decode(hex).unwrap()).map(|shape| (shape.deterministic, shape.duplicate_key))
    }

    /// RFC 8949, appendix A and section 4.2.1.
    #[test]
    fn deterministic_forms_are_told_from_others() {
        for hex in [
            "00",
            "1864",
            "3863",
            "f97e00",
            "a10102",
            "83010203",
            "d818456449455446",
            "a201020304",
            "f6",
        ] {
            assert_eq!(of(hex), Ok((true, false)), "{hex}");
        }
        for hex in [
            "1800",
            "190001",
            "5f42010243030405ff",
            "9fff",
            "bfff",
            "a203040102",
            "7f657374726561646d696e67ff",
        ] {
            assert_eq!(of(hex), Ok((false, false)), "{hex}");
        }
        assert_eq!(of("a201020103"), Ok((true, true)));
        // Keys are compared as values: 6 in one byte and in two, a text in one piece and in two.
        assert_eq!(of("a20602180603"), Ok((false, true)));
        assert_eq!(of("a2626162007f61616162ff00"), Ok((false, true)));
    }

    /// RFC 8949, appendix F: what is not well-formed.
    #[test]
    fn what_is_not_well_formed_is_refused() {
        for hex in [
            "",
            "18",
            "19",
            "1a",
            "1b",
            "1901",
            "41",
            "61",
            "5affffffff00",
            "5bffffffffffffffff010203",
            "7b7fffffffffffffff010203",
            "81",
            "8200",
            "a1",
            "a20102",
            "a100",
            "5f4100",
            "9f",
            "bf",
            "bf000000ff",
            "9f8000",
            "1c",
            "3f",
            "ff",
            "81ff",
            "5f00ff",
            "5f7f4100ffff",
            "f800",
            "f81f",
            "0000",
            "61ff",
            "df00ff",
        ] {
            assert!(of(hex).is_err(), "{hex}");
        }
        assert!(shape(&[0x81; 1000]).is_err());
        // A claim of many items costs no more than the items that are there.
        assert!(of("9bffffffffffffffff00").is_err());
    }
}
