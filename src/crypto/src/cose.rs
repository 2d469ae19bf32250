//! COSE_Sign1 (RFC 9052), strictly: the algorithm is in the protected header, what is critical is understood, no label stands in both
//! headers, and the signature is checked over the bytes that arrived.

use std::collections::BTreeSet;

use ciborium::Value;
use coset::{
    AsCborValue, CoseSign1, Header, Label, ProtectedHeader, RegisteredLabelWithPrivate, iana, iana::EnumI64,
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
/// Most labels of one header.
const MAX_LABELS: usize = 256;
/// Tag of COSE_Sign1.
const TAG: u64 = 18;
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

/// Certificates that came along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificates {
    /// x5chain (RFC 9360): the signer's first, each certified by the next.
    Chain(Vec<Vec<u8>>),
    /// x5bag: in whatever order.
    Bag(Vec<Vec<u8>>),
}

/// A message taken apart. Its payload is given out by [`CoseMessage::verify`] alone.
#[derive(Debug, Clone)]
pub struct CoseMessage {
    message: CoseSign1,
    alg: JoseAlg,
    content_type: Option<ContentType>,
    deterministic: bool,
    tagged: bool,
}

impl CoseMessage {
    /// Reads a tagged COSE_Sign1 with nothing after it.
    pub fn parse(bytes: &[u8]) -> Result<Self, CoseError> {
        Self::parse_in_context(bytes).and_then(|message| match message.tagged {
            true => Ok(message),
            false => Err(CoseError::WrongTag),
        })
    }

    /// The same, also without its tag, where what it is follows from where it stands (RFC 9052 section 2).
    pub fn parse_in_context(bytes: &[u8]) -> Result<Self, CoseError> {
        if bytes.len() > MAX_MESSAGE {
            return Err(CoseError::Malformed("too large".to_owned()));
        }
        let malformed = |error: CryptoError| CoseError::Malformed(error.to_string());
        let structure = |what: &str| CoseError::Malformed(what.to_owned());
        let outer = shape(bytes).map_err(malformed)?;
        let value: Value = ciborium::from_reader(bytes).map_err(|_| structure("not CBOR"))?;
        let (tagged, value) = match value {
            Value::Tag(TAG, inner) => (true, *inner),
            Value::Array(parts) => (false, Value::Array(parts)),
            _ => return Err(CoseError::WrongTag),
        };
        let parts: Option<[Value; 4]> = value.into_array().ok().and_then(|parts| parts.try_into().ok());
        let Some(
            [
                Value::Bytes(signed),
                Value::Map(unprotected),
                payload,
                Value::Bytes(signature),
            ],
        ) = parts
        else {
            return Err(structure(
                "not protected header, unprotected header, payload and signature",
            ));
        };
        let payload = match payload {
            Value::Bytes(payload) => Some(payload),
            Value::Null if !outer.undefined => None,
            _ => return Err(structure("a payload that is neither bytes nor nil")),
        };
        if outer.duplicate_key {
            return Err(CoseError::DuplicateLabel);
        }
        let mut deterministic = outer.deterministic;
        let mut protected = Vec::new();
        if !signed.is_empty() {
            let inner = shape(&signed).map_err(malformed)?;
            if inner.duplicate_key {
                return Err(CoseError::DuplicateLabel);
            }
            deterministic &= inner.deterministic;
            protected = ciborium::from_reader::<Value, _>(signed.as_slice())
                .ok()
                .and_then(|value| value.into_map().ok())
                .ok_or_else(|| structure("a protected header that is not a map"))?;
        }
        let inside = labels(&protected)?;
        if labels(&unprotected)?.iter().any(|label| inside.contains(label)) {
            return Err(CoseError::DuplicateLabel);
        }
        let listed = [&protected, &unprotected]
            .into_iter()
            .any(|header| header.iter().any(|(label, _)| *label == Value::from(2)));
        let (content_type, protected) = header(protected, listed)?;
        let (_, unprotected) = header(unprotected, listed)?;
        critical(&protected, &unprotected, &inside)?;
        let alg = match (&protected.alg, &unprotected.alg) {
            (Some(alg), _) => algorithm(alg)?,
            (None, Some(_)) => return Err(CoseError::AlgUnprotected),
            (None, None) => return Err(CoseError::AlgNotAllowed),
        };
        Ok(Self {
            alg,
            content_type,
            deterministic,
            tagged,
            message: CoseSign1 {
                protected: ProtectedHeader {
                    original_data: Some(signed),
                    header: protected,
                },
                unprotected,
                payload,
                signature,
            },
        })
    }

    /// Whether it says by its tag what it is.
    pub fn is_tagged(&self) -> bool {
        self.tagged
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
    pub fn content_type(&self) -> Option<&ContentType> {
        self.content_type.as_ref()
    }

    /// A protected header by its label, as CBOR.
    pub fn protected(&self, label: i64) -> Option<&Value> {
        let rest = &self.message.protected.header.rest;
        rest.iter()
            .find(|(found, _)| *found == Label::Int(label))
            .map(|(_, value)| value)
    }

    /// Certificates that came along, DER. They prove nothing by themselves.
    pub fn certificates(&self) -> Option<Certificates> {
        let headers = [&self.message.protected.header, &self.message.unprotected];
        let carried = |number: i64| {
            let mut found = headers.iter().flat_map(|header| header.rest.iter());
            let (_, value) = found.find(|(label, _)| *label == Label::Int(number))?;
            Some(match value {
                Value::Bytes(one) => vec![one.clone()],
                Value::Array(many) => many
                    .iter()
                    .take(MAX_CHAIN)
                    .filter_map(|value| value.as_bytes().cloned())
                    .collect(),
                _ => Vec::new(),
            })
        };
        carried(X5CHAIN)
            .map(Certificates::Chain)
            .or_else(|| carried(X5BAG).map(Certificates::Bag))
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
            // Two payloads of which the signature covers one.
            (Some(payload), Some(detached)) if payload != detached => {
                return Err(CoseError::Malformed(
                    "another payload than the one that is attached".to_owned(),
                ));
            }
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
fn critical(protected: &Header, unprotected: &Header, inside: &BTreeSet<Vec<u8>>) -> Result<(), CoseError> {
    if !unprotected.crit.is_empty() || unprotected.rest.iter().any(|(label, _)| *label == Label::Int(2)) {
        return Err(CoseError::Critical);
    }
    let understood = protected.crit.iter().all(|label| match label {
        RegisteredLabelWithPrivate::Assigned(label) => {
            let number = label.to_i64();
            let there = encoded(&Value::from(number)).is_ok_and(|label| inside.contains(&label));
            there && matches!(number, 1 | 3 | 4 | X5BAG | X5CHAIN)
        }
        _ => false,
    });
    if understood {
        Ok(())
    } else {
        Err(CoseError::Critical)
    }
}

/// The labels of a header, each in its shortest form.
fn labels(header: &[(Value, Value)]) -> Result<BTreeSet<Vec<u8>>, CoseError> {
    if header.len() > MAX_LABELS {
        return Err(CoseError::Malformed("a header with too many labels".to_owned()));
    }
    header.iter().map(|(label, _)| encoded(label)).collect()
}

fn encoded(value: &Value) -> Result<Vec<u8>, CoseError> {
    let mut out = Vec::new();
    ciborium::into_writer(value, &mut out).map_err(|error| CoseError::Malformed(error.to_string()))?;
    Ok(out)
}

/// A header without its content type, which is read here: the library takes registered content formats only, and text of one form. An
/// empty key identifier, which it does not take, says nothing. `listed` is whether either header lists what is critical.
fn header(members: Vec<(Value, Value)>, listed: bool) -> Result<(Option<ContentType>, Header), CoseError> {
    let mut content_type = None;
    let mut rest = Vec::with_capacity(members.len());
    for (label, value) in members {
        if label == Value::from(3) {
            content_type = Some(match value {
                Value::Text(media) => ContentType::Media(media),
                Value::Integer(format) => i64::try_from(format)
                    .ok()
                    .filter(|format| *format >= 0)
                    .map(ContentType::Format)
                    .ok_or_else(|| CoseError::Malformed("a content type".to_owned()))?,
                _ => return Err(CoseError::Malformed("a content type".to_owned())),
            });
        } else if !(label == Value::from(4) && value.as_bytes().is_some_and(Vec::is_empty)) {
            rest.push((label, value));
        }
    }
    let header = Header::from_cbor_value(Value::Map(rest)).map_err(|error| match error {
        coset::CoseError::DuplicateMapKey => CoseError::DuplicateLabel,
        // An algorithm, or a critical label, that is in no registry.
        coset::CoseError::UnregisteredIanaValue | coset::CoseError::UnregisteredIanaNonPrivateValue => {
            if listed {
                CoseError::Critical
            } else {
                CoseError::AlgNotAllowed
            }
        }
        other => CoseError::Malformed(other.to_string()),
    })?;
    Ok((content_type, header))
}
