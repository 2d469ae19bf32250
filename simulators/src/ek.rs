//! Endorsement keys: TCG EK Credential Profile, templates L-1 (RSA-2048) and L-2 (P-256).

use crate::command::{ALG_AES, ALG_CFB, ALG_ECC, ALG_NULL, ALG_RSA, ALG_SHA256, Channel, Writer};
use crate::error::SimError;
use crate::nv;
use crate::primary::{self, CURVE_P256, PublicPart};

/// PolicySecret(TPM_RH_ENDORSEMENT), SHA-256.
const AUTH_POLICY: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd,
    0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
/// TPMA_OBJECT: fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt.
const ATTRIBUTES: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 16 | 1 << 17;

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
    pub(crate) fn template(self) -> Writer {
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

/// Makes the endorsement key of `kind` and keeps it at its persistent handle.
///
/// # Errors
/// When the TPM refuses or answers another key.
pub fn create(tpm: &mut Channel, kind: EkKind) -> Result<PublicPart, SimError> {
    primary::keep(tpm, &kind.template(), kind.handle())
}
