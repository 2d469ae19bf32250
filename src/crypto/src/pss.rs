//! RSASSA-PSS with a salt of any length (RFC 8017 section 9.1.2): TPMs outside FIPS mode take the longest salt that fits (part 1 of
//! the library, annex B.7), which the provider does not verify. Public values only, so that nothing here has to take constant time.

use num_bigint::BigUint;

use crate::{CryptoError, HashAlg};

/// Checks `signature` over `message` under the key with this modulus and exponent, big-endian.
pub(crate) fn verify(
    modulus: &[u8],
    exponent: &[u8],
    hash: HashAlg,
    message: &[u8],
    signature: &[u8],
) -> Result<(), CryptoError> {
    const WRONG: CryptoError = CryptoError::SignatureInvalid;
    let n = BigUint::from_bytes_be(modulus);
    let s = BigUint::from_bytes_be(signature);
    if signature.len() != modulus.len() || s >= n {
        return Err(WRONG);
    }
    let em_bits = usize::try_from(n.bits() - 1).map_err(|_| WRONG)?;
    let length = em_bits.div_ceil(8);
    let opened = s.modpow(&BigUint::from_bytes_be(exponent), &n).to_bytes_be();
    let missing = length.checked_sub(opened.len()).ok_or(WRONG)?;
    let encoded = [vec![0; missing], opened].concat();
    let (body, trailer) = encoded.split_at_checked(length - 1).ok_or(WRONG)?;
    let split = body.len().checked_sub(hash.len()).ok_or(WRONG)?;
    let (masked, digest) = body.split_at(split);
    // The bits above the encoding are zero.
    let clear = 8 * length - em_bits;
    let top = 0xff_u8
        .checked_shr(u32::try_from(clear).map_err(|_| WRONG)?)
        .unwrap_or(0);
    if trailer != [0xbc] || masked.first().is_none_or(|first| first & !top != 0) {
        return Err(WRONG);
    }
    let mut block: Vec<u8> = masked
        .iter()
        .zip(mask(hash, digest, masked.len()))
        .map(|(byte, mask)| byte ^ mask)
        .collect();
    if let Some(first) = block.first_mut() {
        *first &= top;
    }
    let padding = block.iter().position(|byte| *byte != 0).ok_or(WRONG)?;
    let (one, salt) = block.get(padding..).and_then(<[u8]>::split_first).ok_or(WRONG)?;
    let expected = hash.digest(&[&[0; 8], &hash.digest(&[message]), salt]);
    if *one == 1 && expected == digest {
        Ok(())
    } else {
        Err(WRONG)
    }
}

/// MGF1 (RFC 8017, appendix B.2.1).
fn mask(hash: HashAlg, seed: &[u8], length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(length + hash.len());
    let mut counter: u32 = 0;
    while out.len() < length {
        out.extend(hash.digest(&[seed, &counter.to_be_bytes()]));
        counter += 1;
    }
    out.truncate(length);
    out
}
