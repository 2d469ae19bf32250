//! TPMT_PUBLIC (TPM 2.0 Library, part 2, section 12.2.4), as far as a key file is judged by it: structure, name, policy, and the key
//! where it is asymmetric.

use touchmark_crypto::{HashAlg, KeyKind, PublicKey};

/// A cursor over big-endian TPM structures.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(*self.take(2)?.first_chunk()?))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(*self.take(4)?.first_chunk()?))
    }

    /// A TPM2B: a length of two bytes, and so many bytes.
    pub(super) fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A hash by its TPM_ALG_ID.
pub(super) fn hash_alg(id: u16) -> Option<HashAlg> {
    match id {
        0x0004 => Some(HashAlg::Sha1),
        0x000b => Some(HashAlg::Sha256),
        0x000c => Some(HashAlg::Sha384),
        0x000d => Some(HashAlg::Sha512),
        _ => None,
    }
}

/// What kind of object it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectKind {
    /// An RSA or elliptic-curve key, or why it is none that is accepted.
    Asymmetric(Result<Box<PublicKey>, &'static str>),
    /// A keyed hash: an HMAC key, or sealed data.
    KeyedHash,
    /// A symmetric cipher's key.
    Symmetric,
}

/// A public area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicArea {
    /// The hash of its name and of its policy.
    pub name_hash: HashAlg,
    /// TPMA_OBJECT.
    pub attributes: u32,
    /// Digest of its policy; empty for none.
    pub policy: Vec<u8>,
    /// What it is.
    pub kind: ObjectKind,
}

/// userWithAuth: the authorization value is enough where there is a policy as well.
const USER_WITH_AUTH: u32 = 1 << 6;
const ALG_NULL: u16 = 0x0010;

impl PublicArea {
    /// Reads an area with nothing after it; `None` for what is none, or of a type or hash that is not known.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let kind = reader.u16()?;
        let name_hash = hash_alg(reader.u16()?)?;
        let attributes = reader.u32()?;
        let policy = reader.sized()?.to_vec();
        let kind = match kind {
            0x0001 => rsa(&mut reader)?,
            0x0023 => elliptic(&mut reader)?,
            0x0008 => {
                keyed_hash_scheme(&mut reader)?;
                reader.sized()?;
                ObjectKind::KeyedHash
            }
            0x0025 => {
                symmetric(&mut reader)?;
                reader.sized()?;
                ObjectKind::Symmetric
            }
            _ => return None,
        };
        let policy_fits = policy.is_empty() || policy.len() == name_hash.len();
        (reader.is_empty() && policy_fits).then_some(Self {
            name_hash,
            attributes,
            policy,
            kind,
        })
    }

    /// Whether the authorization value alone lets it be used.
    pub fn user_with_auth(&self) -> bool {
        self.attributes & USER_WITH_AUTH != 0
    }
}

/// TPMT_SYM_DEF_OBJECT.
fn symmetric(reader: &mut Reader<'_>) -> Option<()> {
    if reader.u16()? != ALG_NULL {
        // Bits of the key, and the mode.
        reader.u16()?;
        reader.u16()?;
    }
    Some(())
}

/// TPMT_RSA_SCHEME, TPMT_ECC_SCHEME: an algorithm, and its hash where it has one.
fn scheme(reader: &mut Reader<'_>) -> Option<()> {
    match reader.u16()? {
        // None, and RSAES, have none.
        ALG_NULL | 0x0015 => {}
        // ECDAA has a count beside.
        0x001a => {
            reader.u32()?;
        }
        _ => {
            reader.u16()?;
        }
    }
    Some(())
}

/// TPMT_KEYEDHASH_SCHEME, TPMT_KDF_SCHEME.
fn keyed_hash_scheme(reader: &mut Reader<'_>) -> Option<()> {
    match reader.u16()? {
        ALG_NULL => {}
        // XOR has a key derivation function beside.
        0x000a => {
            reader.u32()?;
        }
        _ => {
            reader.u16()?;
        }
    }
    Some(())
}

fn rsa(reader: &mut Reader<'_>) -> Option<ObjectKind> {
    symmetric(reader)?;
    scheme(reader)?;
    let bits = reader.u16()?;
    let exponent = match reader.u32()? {
        0 => 65_537_u32,
        exponent => exponent,
    };
    let modulus = reader.sized()?;
    if modulus.len() * 8 != usize::from(bits) {
        return None;
    }
    let key = PublicKey::from_rsa(modulus, &exponent.to_be_bytes());
    let key = key.map_err(|_| "an RSA key whose size or exponent is not accepted");
    Some(ObjectKind::Asymmetric(key.map(Box::new)))
}

fn elliptic(reader: &mut Reader<'_>) -> Option<ObjectKind> {
    symmetric(reader)?;
    scheme(reader)?;
    let curve = reader.u16()?;
    // The key derivation function.
    keyed_hash_scheme(reader)?;
    let (x, y) = (reader.sized()?, reader.sized()?);
    let kind = match curve {
        0x0003 => KeyKind::P256,
        0x0004 => KeyKind::P384,
        0x0005 => KeyKind::P521,
        _ => {
            return Some(ObjectKind::Asymmetric(Err(
                "a curve that is not P-256, P-384 or P-521",
            )));
        }
    };
    let field = kind.field_len()?;
    let padded = |number: &[u8]| {
        let missing = field.checked_sub(number.len())?;
        Some([vec![0; missing].as_slice(), number].concat())
    };
    let key = PublicKey::from_ec_coordinates(kind, &padded(x)?, &padded(y)?);
    let key = key.map_err(|_| "a point that is not on its curve");
    Some(ObjectKind::Asymmetric(key.map(Box::new)))
}
