//! A path from a chip's certificate to a root that is pinned.

use super::read::DeviceCertificate;
use crate::{CryptoError, HashAlg, PublicKey, SigScheme};

/// Most certificates between the leaf and its root.
pub(super) const MAX_INTERMEDIATES: usize = 8;
/// Most signatures that one search checks: names can be repeated to make it long.
const MAX_SIGNATURES: usize = 32;

/// Why there is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Nothing at hand has the name of the issuer.
    #[error("no certificate at hand is named like the issuer, {0}")]
    IssuerUnavailable(String),
    /// Certificates with the issuer's name are at hand, and none of their keys made the signature.
    #[error("no key at hand that is named like the issuer, {0}, made the signature")]
    SignatureInvalid(String),
    /// The key of a certificate that would have to be the issuer is of a kind or size that is not accepted.
    #[error("the key of {0} is not one that is accepted")]
    KeyInvalid(String),
    /// A signature algorithm that is not accepted.
    #[error("{0}")]
    AlgNotAllowed(&'static str),
    /// A certificate that would have to be the issuer may not issue.
    #[error("{subject} may not issue certificates: {why}")]
    NotCa {
        /// Whose certificate it is.
        subject: String,
        /// What says so.
        why: &'static str,
    },
    /// A certificate on the way has ended.
    #[error("the certificate of {0} has expired")]
    Expired(String),
    /// A certificate on the way has not begun.
    #[error("the certificate of {0} is not valid yet")]
    NotYetValid(String),
    /// A critical extension that is not understood.
    #[error("a critical extension that is not understood: {0}")]
    UnknownCritical(String),
    /// More certificates than are looked at.
    #[error("more than {MAX_INTERMEDIATES} certificates on the way, or names that lead in circles")]
    TooLong,
}

impl DeviceError {
    /// The most telling of two failed branches: what got furthest.
    fn rank(&self) -> u8 {
        match self {
            Self::IssuerUnavailable(_) => 0,
            Self::SignatureInvalid(_) => 1,
            Self::TooLong => 2,
            Self::AlgNotAllowed(_) | Self::KeyInvalid(_) => 3,
            Self::NotCa { .. } | Self::UnknownCritical(_) => 4,
            Self::Expired(_) | Self::NotYetValid(_) => 5,
        }
    }
}

/// Roots that are pinned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceAnchors(Vec<DeviceCertificate>);

impl DeviceAnchors {
    /// Anchors from certificates. A pinned certificate needs no signature of its own, and its dates do not count; it has to be
    /// one that can be read.
    pub fn new<'a>(ders: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, CryptoError> {
        ders.into_iter()
            .map(DeviceCertificate::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The certificates, in the order given.
    pub fn certificates(&self) -> &[DeviceCertificate] {
        &self.0
    }

    /// Whether there is none, so that nothing verifies.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A path that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePath {
    /// Which anchor it ends in.
    pub anchor: usize,
    /// The certificates between leaf and anchor, by their subjects.
    pub through: Vec<String>,
    /// SHA-256 of the SubjectPublicKeyInfo of each of those, in their order, and last of the anchor.
    pub issuers: Vec<[u8; 32]>,
    /// Whether a signature on the way is with SHA-1.
    pub weak_hash: bool,
    /// Whether a certificate on the way issued another without saying that it may.
    pub issuer_without_ca: bool,
    /// How the encoding of a certificate on the way deviates from DER.
    pub deviations: Vec<&'static str>,
}

/// What is accepted below roots that are pinned as a maker's, because the maker did so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Habits {
    /// Certificates that were signed with SHA-1.
    pub sha1: bool,
    /// Issuers whose certificates do not say that they may issue: modules that certify their own partitions.
    pub issuers_without_ca: bool,
}

impl Habits {
    /// Nothing beside RFC 5280.
    pub const NONE: Self = Self {
        sha1: false,
        issuers_without_ca: false,
    };
    /// Makers of TPMs signed with SHA-1.
    pub const OF_TPMS: Self = Self {
        sha1: true,
        issuers_without_ca: false,
    };
    /// Modules certify their partitions by certificates that are no authorities'.
    pub const OF_MODULES: Self = Self {
        sha1: false,
        issuers_without_ca: true,
    };
}

/// Finds a path from `leaf` through `intermediates` to one of `anchors` that holds at `now` (seconds since the epoch).
pub fn verify_device_path(
    leaf: &DeviceCertificate,
    intermediates: &[&DeviceCertificate],
    anchors: &DeviceAnchors,
    habits: Habits,
    now: u64,
) -> Result<DevicePath, DeviceError> {
    let mut search = Search {
        intermediates,
        anchors,
        habits,
        now: i64::try_from(now).unwrap_or(i64::MAX),
        signatures: 0,
    };
    search.dates(leaf)?;
    let mut trail = vec![leaf];
    let anchor = search.climb(&mut trail)?;
    let mut deviations: Vec<&'static str> = trail
        .iter()
        .flat_map(|certificate| certificate.deviations.iter().copied())
        .collect();
    deviations.dedup();
    let above = trail.iter().skip(1).copied();
    let last = anchors.certificates().get(anchor);
    Ok(DevicePath {
        issuer_without_ca: above.clone().any(|certificate| !certificate.facts.is_ca),
        issuers: above
            .chain(last)
            .map(|certificate| certificate.facts.spki_digest())
            .collect(),
        anchor,
        weak_hash: trail
            .iter()
            .any(|certificate| certificate.scheme.is_some_and(|scheme| scheme.hash().is_weak())),
        through: trail
            .iter()
            .skip(1)
            .map(|certificate| certificate.facts.subject.clone())
            .collect(),
        deviations,
    })
}

/// The intermediates of a trail that count against a path length: those that hand a name's authority to another key of the same name do
/// not (RFC 5280 section 4.2.1.9).
fn counted(trail: &[&DeviceCertificate]) -> usize {
    let intermediates = trail.iter().skip(1);
    intermediates
        .filter(|certificate| certificate.issuer != certificate.subject)
        .count()
}

struct Search<'a> {
    intermediates: &'a [&'a DeviceCertificate],
    anchors: &'a DeviceAnchors,
    habits: Habits,
    now: i64,
    signatures: usize,
}

impl<'a> Search<'a> {
    /// Goes up from the last certificate of `trail`, which then holds the path without its anchor.
    fn climb(&mut self, trail: &mut Vec<&'a DeviceCertificate>) -> Result<usize, DeviceError> {
        let Some(&last) = trail.last() else {
            return Err(DeviceError::TooLong);
        };
        if let Some(id) = &last.unknown_critical {
            return Err(DeviceError::UnknownCritical(id.clone()));
        }
        let mut telling = DeviceError::IssuerUnavailable(last.facts.issuer.clone());
        let mut failed = |error: DeviceError| {
            if error.rank() > telling.rank() {
                telling = error;
            }
        };
        for (at, anchor) in self.anchors.certificates().iter().enumerate() {
            // A certificate that is pinned itself needs nobody to vouch for it.
            if anchor.facts.der == last.facts.der {
                return Ok(at);
            }
            if anchor.is_named(last) {
                match self.issued(last, anchor, counted(trail)) {
                    Ok(()) => return Ok(at),
                    Err(error) => failed(error),
                }
            }
        }
        let candidates = self.intermediates.iter().copied();
        for candidate in candidates.filter(|candidate| candidate.is_named(last)) {
            if trail.iter().any(|known| known.facts.der == candidate.facts.der) {
                continue;
            }
            if trail.len() > MAX_INTERMEDIATES {
                failed(DeviceError::TooLong);
                continue;
            }
            if let Err(error) = self
                .issued(last, candidate, counted(trail))
                .and_then(|()| self.dates(candidate))
            {
                failed(error);
                continue;
            }
            trail.push(candidate);
            match self.climb(trail) {
                Ok(anchor) => return Ok(anchor),
                Err(error) => failed(error),
            }
            trail.pop();
        }
        Err(telling)
    }

    /// Whether `issuer`, with `below` certificates between it and the leaf, issued `subject`.
    fn issued(
        &mut self,
        subject: &DeviceCertificate,
        issuer: &DeviceCertificate,
        below: usize,
    ) -> Result<(), DeviceError> {
        self.signatures += 1;
        if self.signatures > MAX_SIGNATURES {
            return Err(DeviceError::TooLong);
        }
        let invalid = || DeviceError::SignatureInvalid(subject.facts.issuer.clone());
        let scheme = subject.scheme.ok_or(DeviceError::AlgNotAllowed(
            "a signature algorithm that is not known",
        ))?;
        let key =
            PublicKey::from_spki(&issuer.facts.spki).map_err(|_| DeviceError::KeyInvalid(issuer.label()))?;
        let verified = match scheme {
            SigScheme::RsaPkcs1(HashAlg::Sha1) if self.habits.sha1 => {
                key.verify_sha1_of_maker(&subject.signed, &subject.signature)
            }
            scheme if scheme.hash().is_weak() => return Err(DeviceError::AlgNotAllowed("SHA-1")),
            scheme @ SigScheme::RsaPss(_) => key.verify_of_tpm(scheme, &subject.signed, &subject.signature),
            scheme => key.verify_der(scheme, &subject.signed, &subject.signature),
        };
        verified.map_err(|_| invalid())?;
        let refuse = |why| DeviceError::NotCa {
            subject: issuer.label(),
            why,
        };
        // Certificates before version 3 cannot say it: only pinned ones are believed without.
        let pinned = self.anchors.certificates().iter().any(|anchor| anchor == issuer);
        let allowed = self.habits.issuers_without_ca || pinned && issuer.facts.version < 3;
        if !(issuer.facts.is_ca || allowed) {
            return Err(refuse("basicConstraints without cA"));
        }
        if issuer.has_key_usage && !issuer.facts.can_sign_certificates {
            return Err(refuse("keyUsage without keyCertSign"));
        }
        let below = u64::try_from(below).unwrap_or(u64::MAX);
        if issuer.path_length.is_some_and(|most| below > most) {
            return Err(refuse(
                "more intermediates below it than its pathLenConstraint allows",
            ));
        }
        Ok(())
    }

    fn dates(&self, certificate: &DeviceCertificate) -> Result<(), DeviceError> {
        let facts = &certificate.facts;
        if self.now < facts.not_before {
            return Err(DeviceError::NotYetValid(certificate.label()));
        }
        if self.now > facts.not_after {
            return Err(DeviceError::Expired(certificate.label()));
        }
        Ok(())
    }
}
