//! COSE_Sign1 (RFC 9052), strictly: the algorithm is in the protected header, what is critical is understood, no label stands in both
//! headers, and the signature is checked over the bytes that arrived.

use ciborium::Value;
use coset::{
    ContentType as CosetContentType, CoseSign1, Header, Label, RegisteredLabelWithPrivate,
    TaggedCborSerializable, iana, iana::EnumI64,
};

use crate::{
    CryptoError, PublicKey,
    cbor::shape,
    jose::{JoseAlg, VerifyingKey},
};

/// Largest message accepted, in bytes.
pub const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// Most certificates in a header.
const MAX_CHAIN: usize = 8;
/// Tag of COSE_Sign1.
const TAG: u8 = 0xd2;
const X5BAG: i64 = 32;
const X5CHAIN: i64 = 33;

/// Why a message was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoseError {
    /// Not CBOR, or not the structure.
    #[error("not a COSE_Sign1: {0}")]
    Malformed(String),
    /// Another tag than that of COSE_Sign1, or none.
    #[error("not tagged as COSE_Sign1")]
    WrongTag,
    /// A label twice, in one header or in both.
    #[error("a header label stands twice")]
    DuplicateLabel,
    /// `crit` names what is not understood, or is not in the protected header.
    #[error("a critical header is not understood")]
    Critical,
    /// The algorithm is only in the unprotected header.
    #[error("the algorithm is not in the protected header")]
    AlgUnprotected,
    /// No algorithm, or one that is not accepted.
    #[error("the algorithm is missing or not accepted")]
    AlgNotAllowed,
    /// An algorithm that is not that of the key.
    #[error("the algorithm is not that of the key")]
    AlgMismatch,
    /// A key that is not usable.
    #[error("the key is not usable")]
    KeyInvalid,
    /// Neither a payload nor a detached one.
    #[error("there is no payload")]
    PayloadMissing,
    /// The signature does not verify.
    #[error("the signature does not verify")]
    SignatureInvalid,
}

/// A content type, as header 3 has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentType {
    /// A media type.
    Media(String),
    /// A CoAP content format.
    Format(i64),
}

/// A message taken apart. Its payload is given out by [`CoseMessage::verify`] alone.
#[derive(Debug, Clone)]
pub struct CoseMessage {
    message: CoseSign1,
    alg: JoseAlg,
    deterministic: bool,
}

impl CoseMessage {
    /// Reads a tagged COSE_Sign1 with nothing after it.
    pub fn parse(bytes: &[u8]) -> Result<Self, CoseError> {
        if bytes.len() > MAX_MESSAGE {
            return Err(CoseError::Malformed("too large".to_owned()));
        }
        let malformed = |error: CryptoError| CoseError::Malformed(error.to_string());
        let outer = shape(bytes).map_err(malformed)?;
        if bytes.first() != Some(&TAG) {
            return Err(CoseError::WrongTag);
        }
        let message = CoseSign1::from_tagged_slice(bytes).map_err(|error| unreadable(error, bytes))?;
        let mut deterministic = outer.deterministic;
        if let Some(bytes) = message
            .protected
            .original_data
            .as_deref()
            .filter(|bytes| !bytes.is_empty())
        {
            let inner = shape(bytes).map_err(malformed)?;
            if inner.duplicate_key {
                return Err(CoseError::DuplicateLabel);
            }
            deterministic &= inner.deterministic;
        }
        let (protected, unprotected) = (&message.protected.header, &message.unprotected);
        let outside = labels(unprotected);
        if labels(protected).iter().any(|label| outside.contains(label)) {
            return Err(CoseError::DuplicateLabel);
        }
        critical(protected, unprotected)?;
        let alg = match (&protected.alg, &unprotected.alg) {
            (Some(alg), _) => algorithm(alg)?,
            (None, Some(_)) => return Err(CoseError::AlgUnprotected),
            (None, None) => return Err(CoseError::AlgNotAllowed),
        };
        Ok(Self {
            alg,
            deterministic,
            message,
        })
    }

    /// The algorithm, from the protected header.
    pub fn alg(&self) -> JoseAlg {
        self.alg
    }

    /// Whether message and protected header are in CBOR's deterministic form.
    pub fn is_deterministic(&self) -> bool {
        self.deterministic
    }

    /// The content type, if it is protected.
    pub fn content_type(&self) -> Option<ContentType> {
        match self.message.protected.header.content_type.as_ref()? {
            CosetContentType::Text(media) => Some(ContentType::Media(media.clone())),
            CosetContentType::Assigned(format) => Some(ContentType::Format(format.to_i64())),
        }
    }

    /// A protected header by its label, as CBOR.
    pub fn protected(&self, label: i64) -> Option<&Value> {
        let rest = &self.message.protected.header.rest;
        rest.iter()
            .find(|(found, _)| *found == Label::Int(label))
            .map(|(_, value)| value)
    }

    /// Certificates that came along (x5chain, or x5bag, in which the order says nothing), DER. They prove nothing by themselves.
    pub fn certificates(&self) -> Vec<Vec<u8>> {
        let headers = [&self.message.protected.header, &self.message.unprotected];
        let found = headers
            .iter()
            .flat_map(|header| header.rest.iter())
            .find(|(label, _)| matches!(label, Label::Int(X5CHAIN | X5BAG)));
        match found {
            Some((_, Value::Bytes(one))) => vec![one.clone()],
            Some((_, Value::Array(many))) => many
                .iter()
                .take(MAX_CHAIN)
                .filter_map(|value| value.as_bytes().cloned())
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Checks the signature under a key of the message's own algorithm and gives out the payload; `detached` is used where the message
    /// carries none.
    pub fn verify<'a>(
        &'a self,
        key: &VerifyingKey,
        aad: &[u8],
        detached: Option<&'a [u8]>,
    ) -> Result<&'a [u8], CoseError> {
        if key.alg() != self.alg && !same(key.alg(), self.alg) {
            return Err(CoseError::AlgMismatch);
        }
        let (input, payload): (Vec<u8>, &[u8]) = match (&self.message.payload, detached) {
            (Some(payload), _) => (self.message.tbs_data(aad), payload),
            (None, Some(detached)) => (self.message.tbs_detached_data(detached, aad), detached),
            (None, None) => return Err(CoseError::PayloadMissing),
        };
        key.verify(&input, &self.message.signature)
            .map_err(|error| match error {
                CryptoError::AlgNotAllowed(_) => CoseError::AlgMismatch,
                _ => CoseError::SignatureInvalid,
            })?;
        Ok(payload)
    }

    /// The same under a certificate's key.
    pub fn verify_by<'a>(
        &'a self,
        key: &PublicKey,
        aad: &[u8],
        detached: Option<&'a [u8]>,
    ) -> Result<&'a [u8], CoseError> {
        let key = VerifyingKey::bound(key.clone(), self.alg).map_err(|_| CoseError::AlgMismatch)?;
        self.verify(&key, aad, detached)
    }
}

/// `EdDSA` and `Ed25519` ask the same of a key on that curve.
fn same(one: JoseAlg, other: JoseAlg) -> bool {
    let edwards = |alg| matches!(alg, JoseAlg::EdDsa | JoseAlg::Ed25519);
    edwards(one) && edwards(other)
}

fn algorithm(alg: &RegisteredLabelWithPrivate<iana::Algorithm>) -> Result<JoseAlg, CoseError> {
    let RegisteredLabelWithPrivate::Assigned(alg) = alg else {
        return Err(CoseError::AlgNotAllowed);
    };
    Ok(match alg.to_i64() {
        -7 | -9 => JoseAlg::Es256,
        -35 | -51 => JoseAlg::Es384,
        -36 | -52 => JoseAlg::Es512,
        -8 => JoseAlg::EdDsa,
        -19 => JoseAlg::Ed25519,
        -37 => JoseAlg::Ps256,
        -38 => JoseAlg::Ps384,
        -39 => JoseAlg::Ps512,
        -257 => JoseAlg::Rs256,
        -258 => JoseAlg::Rs384,
        -259 => JoseAlg::Rs512,
        _ => return Err(CoseError::AlgNotAllowed),
    })
}

/// Everything listed has to be there, protected, and understood (RFC 9052 section 3.1). Understood here are the labels that are read.
fn critical(protected: &Header, unprotected: &Header) -> Result<(), CoseError> {
    if !unprotected.crit.is_empty() || unprotected.rest.iter().any(|(label, _)| *label == Label::Int(2)) {
        return Err(CoseError::Critical);
    }
    let there = labels(protected);
    let understood = protected.crit.iter().all(|label| match label {
        RegisteredLabelWithPrivate::Assigned(label) => {
            let number = label.to_i64();
            there.contains(&Label::Int(number)) && matches!(number, 1 | 3 | 4 | X5BAG | X5CHAIN)
        }
        _ => false,
    });
    if understood {
        Ok(())
    } else {
        Err(CoseError::Critical)
    }
}

fn labels(header: &Header) -> Vec<Label> {
    let fixed = [
        (1, header.alg.is_some()),
        (2, !header.crit.is_empty()),
        (3, header.content_type.is_some()),
        (4, !header.key_id.is_empty()),
        (5, !header.iv.is_empty()),
        (6, !header.partial_iv.is_empty()),
        (7, !header.counter_signatures.is_empty()),
    ];
    let fixed = fixed
        .iter()
        .filter(|(_, there)| *there)
        .map(|(label, _)| Label::Int(*label));
    fixed
        .chain(header.rest.iter().map(|(label, _)| label.clone()))
        .collect()
}

fn unreadable(error: coset::CoseError, bytes: &[u8]) -> CoseError {
    match error {
        coset::CoseError::DuplicateMapKey => CoseError::DuplicateLabel,
        // An algorithm, or a critical label, that is in no registry.
        coset::CoseError::UnregisteredIanaValue | coset::CoseError::UnregisteredIanaNonPrivateValue => {
            if has_critical(bytes) {
                CoseError::Critical
            } else {
                CoseError::AlgNotAllowed
            }
        }
        other => CoseError::Malformed(other.to_string()),
    }
}

/// Whether either header of a message that could not be read has a `crit`.
fn has_critical(bytes: &[u8]) -> bool {
    let parts = match ciborium::from_reader(bytes) {
        Ok(Value::Tag(_, inner)) => inner.into_array().unwrap_or_default(),
        _ => Vec::new(),
    };
    let headers = parts.into_iter().take(2).map(|header| match header {
        Value::Bytes(bytes) => ciborium::from_reader(bytes.as_slice()).unwrap_or(Value::Null),
        other => other,
    });
    headers
        .filter_map(|header| header.into_map().ok())
        .flatten()
        .any(|(label, _)| label == Value::from(2))
}
