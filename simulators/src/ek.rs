//! Endorsement keys: TCG EK Credential Profile, templates L-1 (RSA-2048) and L-2 (P-256).

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData, SignatureAlgorithm};

use crate::command::{
    ALG_AES, ALG_CFB, ALG_ECC, ALG_NULL, ALG_RSA, ALG_SHA256, Channel, Code, Command, ENDORSEMENT, OWNER,
    Reader, Writer,
};
use crate::error::SimError;
use crate::maker::der;
use crate::nv;

/// PolicySecret(TPM_RH_ENDORSEMENT), SHA-256.
const AUTH_POLICY: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd,
    0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
/// TPMA_OBJECT: fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt.
const ATTRIBUTES: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 16 | 1 << 17;
/// TPM_ECC_NIST_P256.
const CURVE_P256: u16 = 0x0003;

/// A kind of endorsement key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EkKind {
    /// RSA with 2048 bits.
    Rsa2048,
    /// ECC on NIST P-256.
    P256,
}

impl EkKind {
    /// The kinds that every simulated TPM has.
    pub const ALL: [Self; 2] = [Self::Rsa2048, Self::P256];

    /// The persistent handle by TCG's and swtpm's numbering.
    #[must_use]
    pub fn handle(self) -> u32 {
        match self {
            Self::Rsa2048 => 0x8101_0001,
            Self::P256 => 0x8101_000a,
        }
    }

    /// The NV index of its certificate.
    #[must_use]
    pub fn certificate_index(self) -> u32 {
        match self {
            Self::Rsa2048 => nv::EK_CERTIFICATE_RSA,
            Self::P256 => nv::EK_CERTIFICATE_P256,
        }
    }

    /// How files of this kind are called.
    #[must_use]
    pub fn file_stem(self) -> &'static str {
        match self {
            Self::Rsa2048 => "ek-rsa",
            Self::P256 => "ek-p256",
        }
    }

    /// TPMT_PUBLIC of the template.
    fn template(self) -> Writer {
        let algorithm = match self {
            Self::Rsa2048 => ALG_RSA,
            Self::P256 => ALG_ECC,
        };
        let common = Writer::default()
            .u16(algorithm)
            .u16(ALG_SHA256)
            .u32(ATTRIBUTES)
            .sized(&AUTH_POLICY);
        // The inner wrapper is AES-128-CFB, and there is no scheme.
        let common = common.u16(ALG_AES).u16(128).u16(ALG_CFB).u16(ALG_NULL);
        match self {
            Self::Rsa2048 => common.u16(2048).u32(0).sized(&[0; 256]),
            Self::P256 => common
                .u16(CURVE_P256)
                .u16(ALG_NULL)
                .sized(&[0; 32])
                .sized(&[0; 32]),
        }
    }
}

/// The public part of an endorsement key, read from its TPM.
#[derive(Debug, Clone)]
pub struct EkPublic {
    kind: EkKind,
    /// RSAPublicKey, or the uncompressed point: what a SubjectPublicKeyInfo holds.
    key: Vec<u8>,
}

impl PublicKeyData for EkPublic {
    fn der_bytes(&self) -> &[u8] {
        &self.key
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        // Only the key's own algorithm identifier is taken from it: rsaEncryption, or id-ecPublicKey with P-256.
        match self.kind {
            EkKind::Rsa2048 => &PKCS_RSA_SHA256,
            EkKind::P256 => &PKCS_ECDSA_P256_SHA256,
        }
    }
}

/// Makes the endorsement key of `kind` and keeps it at its persistent handle.
///
/// # Errors
/// When the TPM refuses or answers another key.
pub fn create(tpm: &mut Channel, kind: EkKind) -> Result<EkPublic, SimError> {
    // TPMS_SENSITIVE_CREATE without a password and without data; no outside information; no PCRs.
    let sensitive = Writer::default().sized(&[]).sized(&[]);
    let parameters = Writer::default()
        .sized_writer(&sensitive)
        .sized_writer(&kind.template())
        .sized(&[])
        .u32(0);
    let command = Command::new(Code::CreatePrimary, [ENDORSEMENT], parameters)
        .authorized(1)
        .answering_handle();
    let answer = tpm.execute(&command)?;
    let public = read_public(kind, answer.parameters().sized()?)?;
    let handle = answer.handle.unwrap_or_default();

    let keep = Command::new(
        Code::EvictControl,
        [OWNER, handle],
        Writer::default().u32(kind.handle()),
    );
    tpm.execute(&keep.authorized(1))?;
    tpm.execute(&Command::new(
        Code::FlushContext,
        [],
        Writer::default().u32(handle),
    ))?;
    Ok(public)
}

/// The key inside a TPMT_PUBLIC that was made from the template of `kind`.
fn read_public(kind: EkKind, public: &[u8]) -> Result<EkPublic, SimError> {
    let mut reader = Reader::new(Code::CreatePrimary.name(), public);
    reader.expect_u16(match kind {
        EkKind::Rsa2048 => ALG_RSA,
        EkKind::P256 => ALG_ECC,
    })?;
    let _name_algorithm = reader.u16()?;
    let _attributes = reader.u32()?;
    let _policy = reader.sized()?;
    let _symmetric_and_scheme = reader.take(8)?;
    let key = match kind {
        EkKind::Rsa2048 => {
            reader.expect_u16(2048)?;
            // 0 stands for 65537.
            let exponent = match reader.u32()? {
                0 => 65537,
                exponent => exponent,
            };
            der::rsa_public_key(reader.sized()?, exponent)
        }
        EkKind::P256 => {
            reader.expect_u16(CURVE_P256)?;
            let _key_derivation = reader.u16()?;
            let (x, y) = (reader.sized()?, reader.sized()?);
            let mut point = vec![4];
            for coordinate in [x, y] {
                point.resize(point.len() + 32_usize.saturating_sub(coordinate.len()), 0);
                point.extend_from_slice(coordinate);
            }
            point
        }
    };
    Ok(EkPublic { kind, key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_coordinate_is_padded_on_the_left() {
        let public = EkKind::P256.template();
        let mut bytes = public.finish().unwrap().to_vec();
        bytes.truncate(bytes.len() - 2 * 34);
        let bytes = Writer::default().raw(&bytes).sized(&[7; 31]).sized(&[8; 32]);
        let key = read_public(EkKind::P256, bytes.finish().unwrap()).unwrap().key;
        assert_eq!(key.len(), 65);
        assert_eq!(key[..3], [4, 0, 7]);
    }

    #[test]
    fn a_key_of_another_kind_is_refused() {
        let public = EkKind::P256.template();
        assert!(read_public(EkKind::Rsa2048, public.finish().unwrap()).is_err());
    }
}
