//! TPMT_PUBLIC (TPM 2.0 library, part 2, 12.2.4): what a key is, by its public area.

use touchmark_crypto::{HashAlg, KeyKind, PublicKey};

use crate::reader::{Reader, Truncated};

/// Why a public area was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AreaError {
    /// Not a TPMT_PUBLIC, or bytes left over.
    #[error("not a TPMT_PUBLIC")]
    Malformed,
    /// A key type, curve or size that is not accepted.
    #[error("{0}")]
    NotAccepted(&'static str),
    /// The Name would be computed with a hash that is too weak, or is unknown.
    #[error("name algorithm is not SHA-256, SHA-384 or SHA-512")]
    NameAlgorithm,
}

impl From<Truncated> for AreaError {
    fn from(_: Truncated) -> Self {
        Self::Malformed
    }
}

/// TPMA_OBJECT (part 2, 8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes(pub u32);

impl Attributes {
    /// The key cannot leave this TPM.
    pub const FIXED_TPM: u32 = 1 << 1;
    /// The key cannot move to another parent.
    pub const FIXED_PARENT: u32 = 1 << 4;
    /// The TPM made the secret part.
    pub const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    /// The authorization value suffices for use.
    pub const USER_WITH_AUTH: u32 = 1 << 6;
    /// Administration takes the policy.
    pub const ADMIN_WITH_POLICY: u32 = 1 << 7;
    /// Failures of this key do not count towards lock-out.
    pub const NO_DA: u32 = 1 << 10;
    /// Signs or decrypts only what the TPM made.
    pub const RESTRICTED: u32 = 1 << 16;
    /// Decrypts.
    pub const DECRYPT: u32 = 1 << 17;
    /// Signs.
    pub const SIGN: u32 = 1 << 18;
    /// Signs certificate parts.
    pub const X509_SIGN: u32 = 1 << 19;
    /// Duplication takes encryption: no TPM gives this to a key that cannot be duplicated.
    pub const ENCRYPTED_DUPLICATION: u32 = 1 << 11;
    /// Bits that the specification reserves. Bits 8 and 9 limit a key to a firmware or its security version.
    pub const RESERVED: u32 = 0xfff0_f009;

    const NAMES: [(u32, &'static str); 12] = [
        (Self::FIXED_TPM, "fixedTPM"),
        (1 << 2, "stClear"),
        (Self::FIXED_PARENT, "fixedParent"),
        (Self::SENSITIVE_DATA_ORIGIN, "sensitiveDataOrigin"),
        (Self::USER_WITH_AUTH, "userWithAuth"),
        (Self::ADMIN_WITH_POLICY, "adminWithPolicy"),
        (Self::NO_DA, "noDA"),
        (Self::ENCRYPTED_DUPLICATION, "encryptedDuplication"),
        (Self::RESTRICTED, "restricted"),
        (Self::DECRYPT, "decrypt"),
        (Self::SIGN, "sign"),
        (Self::X509_SIGN, "x509sign"),
    ];

    /// Whether all bits of `mask` are set.
    pub fn has(self, mask: u32) -> bool {
        self.0 & mask == mask
    }

    /// Whether any bit of `mask` is set.
    pub fn has_any(self, mask: u32) -> bool {
        self.0 & mask != 0
    }
}

impl std::fmt::Display for Attributes {
    /// The names of the bits that are set, as tpm2-tools print them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = Self::NAMES
            .iter()
            .filter(|(mask, _)| self.has(*mask))
            .map(|(_, name)| *name)
            .collect();
        f.write_str(&names.join("|"))
    }
}

/// A public area, read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicArea {
    /// The bytes that were read.
    pub bytes: Vec<u8>,
    /// The hash that names the key.
    pub name_alg: HashAlg,
    /// The attributes.
    pub attributes: Attributes,
    /// The authorization policy; empty where there is none.
    pub auth_policy: Vec<u8>,
    /// TPMT_SYM_DEF_OBJECT for a storage key: (algorithm, key bits, mode); zeros for none.
    pub symmetric: (u16, u16, u16),
    /// The signing scheme's algorithm identifier, 0x0010 (null) for none.
    pub scheme: u16,
    /// The signing scheme's hash, where there is one.
    pub scheme_hash: Option<HashAlg>,
    /// The key.
    pub key: PublicKey,
}

pub(crate) const ALG_NULL: u16 = 0x0010;
pub(crate) const ALG_AES: u16 = 0x0006;
pub(crate) const ALG_CFB: u16 = 0x0043;
const ALG_RSA: u16 = 0x0001;
const ALG_ECC: u16 = 0x0023;
pub(crate) const ALG_RSASSA: u16 = 0x0014;
pub(crate) const ALG_RSAPSS: u16 = 0x0016;
pub(crate) const ALG_ECDSA: u16 = 0x0018;

impl PublicArea {
    /// Reads a TPMT_PUBLIC with nothing after it. Only RSA-2048 to 4096, P-256 and P-384 keys are accepted; a point
    /// is checked to be on its curve.
    pub fn parse(bytes: &[u8]) -> Result<Self, AreaError> {
        let mut reader = Reader::new(bytes);
        let alg = reader.u16()?;
        let name_alg = name_algorithm(alg, reader.u16()?)?;
        let attributes = Attributes(reader.u32()?);
        let auth_policy = reader.sized()?.to_vec();
        let symmetric = match reader.u16()? {
            ALG_NULL => (ALG_NULL, 0, 0),
            cipher => (cipher, reader.u16()?, reader.u16()?),
        };
        let scheme = reader.u16()?;
        let scheme_hash = match scheme {
            ALG_NULL => None,
            ALG_RSASSA | ALG_RSAPSS | ALG_ECDSA => {
                Some(hash_alg(reader.u16()?).ok_or(AreaError::NotAccepted("hash of the signing scheme"))?)
            }
            _ => {
                return Err(AreaError::NotAccepted(
                    "signing scheme is not RSASSA, RSAPSS or ECDSA",
                ));
            }
        };
        if [(ALG_RSA, ALG_ECDSA), (ALG_ECC, ALG_RSASSA), (ALG_ECC, ALG_RSAPSS)].contains(&(alg, scheme)) {
            return Err(AreaError::NotAccepted("signing scheme of another kind of key"));
        }
        let key = match alg {
            ALG_RSA => rsa(&mut reader)?,
            ALG_ECC => ecc(&mut reader)?,
            _ => return Err(AreaError::NotAccepted("neither an RSA nor an ECC key")),
        };
        reader.end()?;
        Ok(Self {
            bytes: bytes.to_vec(),
            name_alg,
            attributes,
            auth_policy,
            symmetric,
            scheme,
            scheme_hash,
            key,
        })
    }

    /// The Name of a public area of whatever kind, by its name algorithm alone.
    pub(crate) fn name_of(bytes: &[u8]) -> Result<Vec<u8>, AreaError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u16()?;
        let id = reader.u16()?;
        let hash = name_algorithm(kind, id)?;
        let mut name = id.to_be_bytes().to_vec();
        name.extend(hash.digest(&[bytes]));
        Ok(name)
    }

    /// Whether `qualified` is the Qualified Name of this key as a primary of the endorsement or the platform hierarchy (part 1, section 16).
    /// Of attestations by other keys a TPM hides its firmware version and its counters behind numbers that are not theirs (part 1, section
    /// 36.7).
    pub fn is_privileged(&self, qualified: &[u8]) -> bool {
        const ENDORSEMENT: u32 = 0x4000_000b;
        const PLATFORM: u32 = 0x4000_000c;
        let name = self.name();
        [ENDORSEMENT, PLATFORM].iter().any(|hierarchy| {
            let digest = self.name_alg.digest(&[&hierarchy.to_be_bytes(), &name]);
            qualified.strip_prefix(&tcg_alg(self.name_alg).to_be_bytes()) == Some(digest.as_slice())
        })
    }

    /// The Name: the name algorithm and the digest of the public area with it.
    pub fn name(&self) -> Vec<u8> {
        let mut name = tcg_alg(self.name_alg).to_be_bytes().to_vec();
        name.extend(self.name_alg.digest(&[&self.bytes]));
        name
    }
}

/// The hash that names an object of this kind. What has no kind that objects have, or no hash of the TCG registry, is no public area at all.
fn name_algorithm(kind: u16, id: u16) -> Result<HashAlg, AreaError> {
    /// KEYEDHASH and SYMCIPHER.
    const OTHERS: [u16; 2] = [0x0008, 0x0025];
    if ![ALG_RSA, ALG_ECC].contains(&kind) && !OTHERS.contains(&kind) {
        return Err(AreaError::Malformed);
    }
    match hash_alg(id).filter(|hash| !hash.is_weak()) {
        Some(hash) => Ok(hash),
        None if id == ALG_NULL || digest_size(id).is_some() => Err(AreaError::NameAlgorithm),
        None => Err(AreaError::Malformed),
    }
}

fn rsa(reader: &mut Reader<'_>) -> Result<PublicKey, AreaError> {
    let bits = reader.u16()?;
    let exponent = match reader.u32()? {
        0 => 65_537_u32,
        exponent => exponent,
    };
    let modulus = reader.sized()?;
    if modulus.len() * 8 != usize::from(bits) {
        return Err(AreaError::Malformed);
    }
    // TPMs make keys of these sizes; others are somebody else's.
    let whole = modulus.first().is_some_and(|byte| *byte >= 0x80);
    if ![2048, 3072, 4096].contains(&bits) || !whole {
        return Err(AreaError::NotAccepted(
            "RSA key of another size than 2048, 3072 or 4096 bits",
        ));
    }
    PublicKey::from_rsa(modulus, &exponent.to_be_bytes())
        .map_err(|_| AreaError::NotAccepted("RSA key that is not usable"))
}

fn ecc(reader: &mut Reader<'_>) -> Result<PublicKey, AreaError> {
    let kind = match reader.u16()? {
        0x0003 => KeyKind::P256,
        0x0004 => KeyKind::P384,
        _ => return Err(AreaError::NotAccepted("curve is neither P-256 nor P-384")),
    };
    if reader.u16()? != ALG_NULL {
        return Err(AreaError::NotAccepted("key derivation scheme"));
    }
    let (x, y) = (reader.sized()?, reader.sized()?);
    let field = kind.field_len().ok_or(AreaError::Malformed)?;
    // TPMs may drop leading zeros.
    let pad = |number: &[u8]| {
        let missing = field.checked_sub(number.len()).ok_or(AreaError::Malformed)?;
        Ok::<_, AreaError>([vec![0; missing], number.to_vec()].concat())
    };
    PublicKey::from_ec_coordinates(kind, &pad(x)?, &pad(y)?)
        .map_err(|_| AreaError::NotAccepted("point is not on the curve"))
}

/// The hash a TPM_ALG_ID names.
pub(crate) fn hash_alg(id: u16) -> Option<HashAlg> {
    match id {
        0x0004 => Some(HashAlg::Sha1),
        0x000b => Some(HashAlg::Sha256),
        0x000c => Some(HashAlg::Sha384),
        0x000d => Some(HashAlg::Sha512),
        _ => None,
    }
}

/// Digest sizes by the TCG Algorithm Registry, also of hashes that are not computed here.
pub(crate) fn digest_size(alg: u16) -> Option<usize> {
    match alg {
        // SHA256-192, SHAKE256-192.
        0x000e | 0x002c => Some(24),
        // SM3-256, SHA3-256, SHAKE256-256.
        0x0012 | 0x0027 | 0x002d => Some(32),
        // SHA3-384; SHA3-512, SHAKE256-512.
        0x0028 => Some(48),
        0x0029 | 0x002e => Some(64),
        other => hash_alg(other).map(HashAlg::len),
    }
}

/// The TPM_ALG_ID of a hash.
pub(crate) fn tcg_alg(hash: HashAlg) -> u16 {
    match hash {
        HashAlg::Sha1 => 0x0004,
        HashAlg::Sha256 => 0x000b,
        HashAlg::Sha384 => 0x000c,
        HashAlg::Sha512 => 0x000d,
    }
}
