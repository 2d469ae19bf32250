//! Primary keys that stay in the TPM, and their public parts.

use aws_lc_rs::digest;
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData, SignatureAlgorithm};

use crate::command::{
    ALG_ECC, ALG_NULL, ALG_RSA, Channel, Code, Command, ENDORSEMENT, OWNER, Reader, Writer,
};
use crate::error::SimError;
use crate::maker::der;

/// TPM_ECC_NIST_P256.
pub const CURVE_P256: u16 = 0x0003;

/// The public part of a key, read from its TPM.
#[derive(Debug, Clone)]
pub struct PublicPart {
    algorithm: u16,
    /// RSAPublicKey, or the uncompressed point: what a SubjectPublicKeyInfo holds.
    key: Vec<u8>,
}

impl PublicPart {
    /// SHA-256 of the SubjectPublicKeyInfo.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let digest = digest::digest(&digest::SHA256, &self.subject_public_key_info());
        let mut out = [0; 32];
        out.copy_from_slice(digest.as_ref());
        out
    }
}

impl PublicKeyData for PublicPart {
    fn der_bytes(&self) -> &[u8] {
        &self.key
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        // Only the key's own algorithm identifier is taken from it: rsaEncryption, or id-ecPublicKey with P-256.
        match self.algorithm {
            ALG_RSA => &PKCS_RSA_SHA256,
            _ => &PKCS_ECDSA_P256_SHA256,
        }
    }
}

/// Makes a primary of the endorsement hierarchy from `template` (TPMT_PUBLIC) and keeps it at `handle`.
///
/// # Errors
/// When the TPM refuses or answers another kind of key.
pub fn keep(tpm: &mut Channel, template: &Writer, handle: u32) -> Result<PublicPart, SimError> {
    // TPMS_SENSITIVE_CREATE without a password and without data; no outside information; no PCRs.
    let sensitive = Writer::default().sized(&[]).sized(&[]);
    let parameters = Writer::default()
        .sized_writer(&sensitive)
        .sized_writer(template)
        .sized(&[])
        .u32(0);
    let command = Command::new(Code::CreatePrimary, [ENDORSEMENT], parameters)
        .authorized(1)
        .answering_handle();
    let answer = tpm.execute(&command)?;
    let public = read_public(answer.parameters().sized()?)?;
    let transient = answer.handle.unwrap_or_default();

    let keep = Command::new(
        Code::EvictControl,
        [OWNER, transient],
        Writer::default().u32(handle),
    );
    tpm.execute(&keep.authorized(1))?;
    tpm.execute(&Command::new(
        Code::FlushContext,
        [],
        Writer::default().u32(transient),
    ))?;
    Ok(public)
}

/// The key inside a TPMT_PUBLIC: RSA with 2048 bits, or P-256.
fn read_public(public: &[u8]) -> Result<PublicPart, SimError> {
    let mut reader = Reader::new(Code::CreatePrimary.name(), public);
    let algorithm = reader.u16()?;
    let _name_algorithm = reader.u16()?;
    let _attributes = reader.u32()?;
    let _policy = reader.sized()?;
    // The inner cipher has a length and a mode, the scheme a hash; neither has anything where there is none.
    if reader.u16()? != ALG_NULL {
        reader.take(4)?;
    }
    if reader.u16()? != ALG_NULL {
        reader.take(2)?;
    }
    let key = if algorithm == ALG_RSA {
        reader.expect_u16(2048)?;
        // 0 stands for 65537.
        let exponent = match reader.u32()? {
            0 => 65537,
            exponent => exponent,
        };
        der::rsa_public_key(reader.sized()?, exponent)
    } else {
        reader.expect_u16(CURVE_P256)?;
        let _key_derivation = reader.u16()?;
        let (x, y) = (reader.sized()?, reader.sized()?);
        let mut point = vec![4];
        for coordinate in [x, y] {
            point.resize(point.len() + 32_usize.saturating_sub(coordinate.len()), 0);
            point.extend_from_slice(coordinate);
        }
        point
    };
    match algorithm {
        ALG_RSA | ALG_ECC => Ok(PublicPart { algorithm, key }),
        _ => Err(SimError::Malformed {
            command: Code::CreatePrimary.name(),
            detail: "another kind of key",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ek::EkKind;

    #[test]
    fn a_short_coordinate_is_padded_on_the_left() {
        let public = EkKind::P256.template();
        let mut bytes = public.finish().unwrap().to_vec();
        bytes.truncate(bytes.len() - 2 * 34);
        let bytes = Writer::default().raw(&bytes).sized(&[7; 31]).sized(&[8; 32]);
        let key = read_public(bytes.finish().unwrap()).unwrap().key;
        assert_eq!(key.len(), 65);
        assert_eq!(key[..3], [4, 0, 7]);
    }

    #[test]
    fn a_key_of_another_kind_is_refused() {
        let mut bytes = EkKind::P256.template().finish().unwrap().to_vec();
        bytes[1] = 0x08;
        assert!(read_public(&bytes).is_err());
    }
}
