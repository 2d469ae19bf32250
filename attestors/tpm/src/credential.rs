//! TPM2_MakeCredential in software (part 1, 24): seals a secret to an endorsement key and the Name of an attestation
//! key, for RSA and ECC endorsement keys.

use touchmark_crypto::{CryptoError, HashAlg, KeyKind, Secret, mac::hmac, wrap};
use touchmark_rats::Sealed;

use crate::public_area::PublicArea;

/// The label, with its terminating zero, of both the encryption of the seed and its derivation.
const IDENTITY: &[u8] = b"IDENTITY\0";

/// Seals `secret` for the TPM that holds `endorsement` and a key of this Name.
pub(crate) fn make(endorsement: &PublicArea, name: &[u8], secret: &Secret) -> Result<Sealed, CryptoError> {
    let hash = endorsement.name_alg;
    if secret.len() > hash.len() {
        return Err(CryptoError::Malformed(
            "activation secret: longer than the name algorithm's digest",
        ));
    }
    let (seed, encrypted_secret) = seed(endorsement)?;
    let sym_key = kdf_a(hash, &seed, b"STORAGE\0", name, endorsement.symmetric.1.into())?;
    let identity = Secret::new(sized(secret.expose()));
    let enc_identity = wrap::aes_cfb_zero_iv(&sym_key, identity.expose())?;
    let bits = u32::try_from(hash.len() * 8).map_err(|_| CryptoError::Provider("digest length"))?;
    let hmac_key = kdf_a(hash, &seed, b"INTEGRITY\0", &[], bits)?;
    let integrity = hmac(hash, hmac_key.expose(), &[&enc_identity, name])?;
    let blob = [sized(&integrity), enc_identity].concat();
    Ok(Sealed {
        credential_blob: sized(&blob),
        encrypted_secret: sized(&encrypted_secret),
    })
}

fn seed(endorsement: &PublicArea) -> Result<(Secret, Vec<u8>), CryptoError> {
    let hash = endorsement.name_alg;
    if let KeyKind::Rsa { .. } = endorsement.key.kind() {
        if hash != HashAlg::Sha256 {
            return Err(CryptoError::AlgNotAllowed(
                "RSA endorsement key with another name algorithm than SHA-256",
            ));
        }
        return wrap::oaep_sha256_seed(&endorsement.key, IDENTITY);
    }
    let exchange = wrap::ecdh(&endorsement.key)?;
    let (ours_x, ours_y) = exchange.public.ec_coordinates().unwrap_or_default();
    let (theirs_x, _) = endorsement.key.ec_coordinates().unwrap_or_default();
    // KDFe (part 1, 11.4.10.3); one block is enough for the digest's length.
    let seed = hash.digest(&[
        &1_u32.to_be_bytes(),
        exchange.shared_x.expose(),
        IDENTITY,
        ours_x,
        theirs_x,
    ]);
    Ok((Secret::new(seed), [sized(ours_x), sized(ours_y)].concat()))
}

/// KDFa (part 1, 11.4.10.2) with an empty contextV; one block is enough for what is derived here.
fn kdf_a(
    hash: HashAlg,
    key: &Secret,
    label: &[u8],
    context: &[u8],
    bits: u32,
) -> Result<Secret, CryptoError> {
    let mut block = hmac(
        hash,
        key.expose(),
        &[&1_u32.to_be_bytes(), label, context, &bits.to_be_bytes()],
    )?;
    block.truncate(usize::try_from(bits / 8).unwrap_or(usize::MAX));
    Ok(Secret::new(block))
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(bytes.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes()
        .to_vec();
    out.extend_from_slice(bytes);
    out
}
