//! Which peers are accepted: by identifier, below only the anchors of its trust domain, with a key that is held as demanded
//! (draft-ietf-wimse-mutual-tls; draft-ietf-wimse-workload-creds).

use std::{fmt, sync::Arc};

use touchmark_crypto::x509::Certificate;
use touchmark_custody::Class;
use touchmark_identity::WorkloadId;
use touchmark_rats::ear::KeyClaims;
use touchmark_tls::{PeerError, Role, peer};
use touchmark_wimse::wic;

use crate::Trust;

/// Which identifiers are accepted.
#[derive(Clone)]
enum Who {
    /// These.
    Only(Arc<[WorkloadId]>),
    /// Those for which this says yes.
    Matching(Arc<dyn Fn(&WorkloadId) -> bool + Send + Sync>),
}

impl fmt::Debug for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Only(identifiers) => f.debug_list().entries(identifiers.iter()).finish(),
            Self::Matching(_) => f.write_str("those that a function accepts"),
        }
    }
}

/// Which peers are accepted. Keys of simulated devices are not, unless told otherwise.
#[derive(Debug, Clone)]
pub struct Peers {
    who: Who,
    custody: Option<Arc<[Class]>>,
    simulated: bool,
}

/// Why a peer, or a caller, is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// Its certificate, or the way to its trust domain's anchors, does not hold.
    #[error(transparent)]
    Certificate(#[from] PeerError),
    /// It is of a trust domain that this program knows nothing about.
    #[error("a trust domain that is not trusted here")]
    TrustDomain,
    /// It is somebody else than those who are accepted.
    #[error("{0} is not accepted here")]
    Identifier(String),
    /// Its credential does not say where its key lives.
    #[error("the credential does not say how its key is held")]
    NoCustody,
    /// Its key is not held as demanded.
    #[error("its key is of custody class {0}, which does not do here")]
    Custody(String),
    /// Its key is in a simulated device.
    #[error("its key is in a simulated device")]
    Simulated,
    /// A name that the server's certificate does not have, where no identifier was given.
    #[error("the server's certificate is not for {0}; name the identifiers that are accepted")]
    Name(String),
}

/// A peer that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    identifier: WorkloadId,
    custody: Option<Class>,
    simulated: bool,
    not_after: u64,
}

impl Peer {
    /// Who it is: the validated identifier, the only thing to authorize by.
    pub fn identifier(&self) -> &WorkloadId {
        &self.identifier
    }

    /// How its key is held, if its credential says so in a word that is known here.
    pub fn custody(&self) -> Option<Class> {
        self.custody
    }

    /// Whether its key is in a simulated device.
    pub fn is_simulated(&self) -> bool {
        self.simulated
    }

    /// When its credential ends, seconds since the epoch.
    pub fn not_after(&self) -> u64 {
        self.not_after
    }
}

impl Peers {
    /// Exactly these identifiers.
    ///
    /// # Errors
    ///
    /// One of them is no identifier.
    pub fn only<S: AsRef<str>>(
        identifiers: impl IntoIterator<Item = S>,
    ) -> Result<Self, touchmark_identity::IdentifierError> {
        let parsed: Result<Vec<WorkloadId>, _> = identifiers
            .into_iter()
            .map(|text| WorkloadId::parse(text.as_ref()))
            .collect();
        Ok(Self::who(Who::Only(parsed?.into())))
    }

    /// Exactly these identifiers, which were parsed before: those of trust domains under a scheme of their own.
    pub fn exactly(identifiers: impl IntoIterator<Item = WorkloadId>) -> Self {
        Self::who(Who::Only(identifiers.into_iter().collect()))
    }

    /// Those for which `accepts` says yes. A client that reaches servers by name then also compares the name with the DNS names
    /// in the certificate (RFC 9525, section 6.3).
    pub fn matching(accepts: impl Fn(&WorkloadId) -> bool + Send + Sync + 'static) -> Self {
        Self::who(Who::Matching(Arc::new(accepts)))
    }

    fn who(who: Who) -> Self {
        Self {
            who,
            custody: None,
            simulated: false,
        }
    }

    /// Only with keys that are held in one of these ways.
    #[must_use]
    pub fn demanding(self, classes: impl IntoIterator<Item = Class>) -> Self {
        Self {
            custody: Some(classes.into_iter().collect()),
            ..self
        }
    }

    /// Also with keys in simulated devices: for tests and trials.
    #[must_use]
    pub fn accepting_simulated(self) -> Self {
        Self {
            simulated: true,
            ..self
        }
    }

    /// Whether certificates are accepted by a function, so that a server's name has to be looked at as well.
    pub(crate) fn by_name(&self) -> bool {
        matches!(self.who, Who::Matching(_))
    }

    /// Judges a certificate chain: path, form and role first, then who it is, then how its key is held.
    pub(crate) fn judge(
        &self,
        chain: &Chain,
        trust: &Trust,
        role: Role,
        now: u64,
    ) -> Result<Peer, NotAccepted> {
        let certificate =
            Certificate::parse(&chain.leaf).map_err(|error| PeerError::Malformed(error.to_string()))?;
        let [uri] = certificate.uri_sans.as_slice() else {
            return Err(PeerError::UriCount(certificate.uri_sans.len()).into());
        };
        let (_, domain, anchors) = trust.select(uri).ok_or(NotAccepted::TrustDomain)?;
        let (identifier, _) = peer(&chain.leaf, &chain.between, domain, anchors, role, now)?;
        let claims = wic::cmw(&certificate).and_then(|cmw| KeyClaims::from_cmw(&cmw));
        let not_after = u64::try_from(certificate.not_after).unwrap_or(0);
        self.accept(identifier, claims, not_after)
    }

    /// Judges whom a verified credential names, and what it says of its key.
    pub(crate) fn accept(
        &self,
        identifier: WorkloadId,
        claims: Option<KeyClaims>,
        not_after: u64,
    ) -> Result<Peer, NotAccepted> {
        let accepted = match &self.who {
            Who::Only(identifiers) => identifiers.contains(&identifier),
            Who::Matching(accepts) => accepts(&identifier),
        };
        if !accepted {
            return Err(NotAccepted::Identifier(identifier.as_str().to_owned()));
        }
        let claims = claims.ok_or(NotAccepted::NoCustody)?;
        let custody = Class::parse(&claims.custody);
        if let Some(classes) = &self.custody
            && !custody.is_some_and(|class| classes.contains(&class))
        {
            return Err(NotAccepted::Custody(claims.custody));
        }
        if claims.simulated && !self.simulated {
            return Err(NotAccepted::Simulated);
        }
        Ok(Peer {
            identifier,
            custody,
            simulated: claims.simulated,
            not_after,
        })
    }
}

/// Certificates as a peer showed them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) leaf: Vec<u8>,
    pub(crate) between: Vec<Vec<u8>>,
}

impl Chain {
    /// `None` if the peer showed none.
    pub(crate) fn of(certificates: Option<&[rustls::pki_types::CertificateDer<'_>]>) -> Option<Self> {
        let (leaf, between) = certificates?.split_first()?;
        Some(Self {
            leaf: leaf.to_vec(),
            between: between.iter().map(|der| der.to_vec()).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
