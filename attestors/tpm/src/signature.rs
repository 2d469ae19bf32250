//! TPMT_SIGNATURE (part 2, 11.3.4): read, then verified over the bytes that arrived, under the attestation key only.

use touchmark_crypto::{
    CryptoError, HashAlg, PublicKey, SigScheme, ecdsa_fixed_from_der, ecdsa_fixed_from_parts,
};
use touchmark_rats::Reason;

use crate::{
    public_area::{ALG_ECDSA, ALG_RSAPSS, ALG_RSASSA, PublicArea, hash_alg},
    reader::Reader,
};

/// The key of an attestation, and the scheme that it is limited to where its public area is known.
pub(crate) struct Attester {
    pub(crate) key: PublicKey,
    pub(crate) scheme: Option<(u16, HashAlg)>,
}

impl From<&PublicArea> for Attester {
    fn from(area: &PublicArea) -> Self {
        Self {
            key: area.key.clone(),
            scheme: area.scheme_hash.map(|hash| (area.scheme, hash)),
        }
    }
}

/// The signature over an attestation, as it arrived.
#[derive(Debug, Clone, Copy)]
pub enum AttestSignature<'a> {
    /// TPMT_SIGNATURE.
    Tpmt(&'a [u8]),
    /// The bare signature, ECDSA as DER, and its scheme.
    Raw(SigScheme, &'a [u8]),
}

/// A TPM signature in the form that verification takes.
pub(crate) struct TpmSignature {
    pub(crate) scheme: SigScheme,
    bytes: Vec<u8>,
}

impl TpmSignature {
    /// Reads a signature for a key.
    pub(crate) fn read(signature: AttestSignature<'_>, key: &Attester) -> Result<Self, (Reason, String)> {
        let (scheme, bytes) = match signature {
            AttestSignature::Tpmt(bytes) => return Self::parse(bytes, key),
            AttestSignature::Raw(scheme, bytes) => (scheme, bytes),
        };
        if scheme.hash().is_weak() {
            return Err((Reason::WeakHash, scheme.hash().name().to_owned()));
        }
        let bytes = match (scheme, key.key.kind().field_len()) {
            (SigScheme::Ecdsa(_), Some(field)) => ecdsa_fixed_from_der(bytes, field).map_err(|_| {
                (
                    Reason::SignatureInvalid,
                    "not a DER signature of this curve".to_owned(),
                )
            })?,
            _ => bytes.to_vec(),
        };
        Ok(Self { scheme, bytes })
    }

    /// Reads a TPMT_SIGNATURE for a key; nothing may be left over.
    fn parse(bytes: &[u8], key: &Attester) -> Result<Self, (Reason, String)> {
        let malformed = |_| (Reason::Malformed, "not a TPMT_SIGNATURE".to_owned());
        let mut reader = Reader::new(bytes);
        let alg = reader.u16().map_err(malformed)?;
        let hash = reader.u16().map_err(malformed)?;
        let hash = hash_alg(hash).ok_or((Reason::AlgNotAllowed, format!("hash algorithm {hash:#06x}")))?;
        if hash.is_weak() {
            return Err((Reason::WeakHash, hash.name().to_owned()));
        }
        let signature = match alg {
            0x0018 => {
                let (r, s) = (
                    reader.sized().map_err(malformed)?,
                    reader.sized().map_err(malformed)?,
                );
                let field = key
                    .key
                    .kind()
                    .field_len()
                    .ok_or((Reason::AlgMismatch, "an ECDSA signature by an RSA key".to_owned()))?;
                let bytes = ecdsa_fixed_from_parts(r, s, field).map_err(|_| {
                    (
                        Reason::SignatureInvalid,
                        "a number longer than the field".to_owned(),
                    )
                })?;
                Self {
                    scheme: SigScheme::Ecdsa(hash),
                    bytes,
                }
            }
            0x0014 => Self {
                scheme: SigScheme::RsaPkcs1(hash),
                bytes: reader.sized().map_err(malformed)?.to_vec(),
            },
            0x0016 => Self {
                scheme: SigScheme::RsaPss(hash),
                bytes: reader.sized().map_err(malformed)?.to_vec(),
            },
            other => return Err((Reason::AlgNotAllowed, format!("signature algorithm {other:#06x}"))),
        };
        reader.end().map_err(malformed)?;
        Ok(signature)
    }

    /// Checks the signature over `message` under `key`, and that it is of the key's own scheme.
    pub(crate) fn verify(&self, key: &Attester, message: &[u8]) -> Result<(), (Reason, String)> {
        let scheme = match self.scheme {
            SigScheme::Ecdsa(_) => ALG_ECDSA,
            SigScheme::RsaPkcs1(_) => ALG_RSASSA,
            SigScheme::RsaPss(_) => ALG_RSAPSS,
        };
        if key.scheme.is_some_and(|own| own != (scheme, self.scheme.hash())) {
            return Err((Reason::AlgMismatch, "a scheme that is not the key's".to_owned()));
        }
        key.key
            .verify_of_tpm(self.scheme, message, &self.bytes)
            .map_err(|error| match error {
                CryptoError::AlgNotAllowed(what) => (Reason::AlgMismatch, what.to_owned()),
                _ => (
                    Reason::SignatureInvalid,
                    "a signature that does not verify".to_owned(),
                ),
            })
    }

    /// The hash of the scheme: a quote's PCR digest is made with it, whatever the bank.
    pub(crate) fn hash(&self) -> HashAlg {
        self.scheme.hash()
    }
}
