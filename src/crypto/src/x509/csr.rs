//! PKCS #10 (RFC 2986) as the form in which a service asks the offline root for its intermediate certificate. Only
//! the key is taken from a request: what the certificate will say is the signer's decision.

use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

use crate::{
    CryptoError, PublicKey, Purpose, SignError, Signer, SigningAlg, der, ecdsa_der_from_fixed,
    ecdsa_fixed_from_der,
};

/// Writes a request with an empty subject and no attributes, signed by the key itself.
pub fn write_request(signer: &dyn Signer) -> Result<Vec<u8>, SignError> {
    let info = der::tlv(
        0x30,
        &[&[2, 1, 0], &[0x30, 0], signer.public_key().spki(), &[0xa0, 0]],
    );
    let signature = ecdsa_der_from_fixed(&signer.sign(Purpose::CertificateRequest, &info)?);
    // ecdsa-with-SHA256, ecdsa-with-SHA384
    let alg: &[u8] = match signer.algorithm() {
        SigningAlg::Es256 => &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
        SigningAlg::Es384 => &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3],
    };
    Ok(der::tlv(0x30, &[&info, alg, &der::tlv(3, &[&[0], &signature])]))
}

/// The key of a request whose self-signature verifies. Attributes and subject are not looked at.
pub fn parse_request(request: &[u8]) -> Result<PublicKey, CryptoError> {
    const WHAT: CryptoError = CryptoError::Malformed("certificate request");
    let (rest, parsed) = X509CertificationRequest::from_der(request).map_err(|_| WHAT)?;
    if !rest.is_empty() {
        return Err(WHAT);
    }
    if parsed.signature_value.unused_bits != 0 || parsed.signature_algorithm.parameters.is_some() {
        return Err(WHAT);
    }
    let info = &parsed.certification_request_info;
    let key = PublicKey::from_spki(info.subject_pki.raw)?;
    let alg =
        SigningAlg::for_key(key.kind()).ok_or(CryptoError::KeyNotAccepted("not a P-256 or P-384 key"))?;
    let named = match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.10045.4.3.2" => SigningAlg::Es256,
        "1.2.840.10045.4.3.3" => SigningAlg::Es384,
        _ => return Err(CryptoError::AlgNotAllowed("signature algorithm of the request")),
    };
    if named != alg {
        return Err(CryptoError::AlgNotAllowed(
            "signature algorithm does not go with the key",
        ));
    }
    let field = key.kind().field_len().ok_or(WHAT)?;
    let signature = ecdsa_fixed_from_der(&parsed.signature_value.data, field)?;
    key.verify(alg.scheme(), info.raw, &signature)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SoftwareKey;

    #[test]
    fn a_request_proves_possession_of_its_key() {
        let key = SoftwareKey::generate(SigningAlg::Es256).unwrap();
        let request = write_request(&key).unwrap();
        assert_eq!(&parse_request(&request).unwrap(), key.public_key());
        assert!(parse_request(&request[..request.len() - 1]).is_err());
        for bit in 0..request.len() * 8 {
            let mut flipped = request.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // The parser shrugs at some bits of the outer framing; what the signature covers never changes.
            assert!(
                parse_request(&flipped).is_ok_and(|other| other == *key.public_key())
                    || parse_request(&flipped).is_err()
            );
        }
    }
}
