//! The trust domain's issuing keys and what they sign.

use touchmark_crypto::{
    CryptoError, Entropy, PublicKey, SignError, Signer,
    jose::Jwk,
    x509::{Certificate, Profile, Template, issue},
};
use touchmark_custody::{Class, HeldKey, KeyUse};
use touchmark_identity::{IdentifierError, TrustDomain, WorkloadId};
use touchmark_rats::ear::{Ear, HostResult, KeyResult};
use touchmark_verifier::Attested;
use touchmark_wimse::{wic, wit};

use crate::{Credential, Grant, Kind, class_of, credential::Body};

/// How far back certificates begin, so that a peer whose clock is a little behind accepts them at once, in seconds.
const BACKDATE: u64 = 60;

/// Why a credential could not be issued. None of these is the requester's doing.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// Encoding or signing failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The signing key's device failed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The host's record has no canonical id.
    #[error(transparent)]
    Identifier(#[from] IdentifierError),
    /// The issuing certificate ends too soon.
    #[error(
        "the intermediate certificate expires before a credential would be of use; renew it (touchmark ca request)"
    )]
    IntermediateExpires,
}

/// What signs for a trust domain. The keys are held in devices.
#[derive(Debug, Clone)]
pub struct Authority {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// The intermediate's certificate.
    pub intermediate: Certificate,
    /// The intermediate's key.
    pub x509_key: HeldKey,
    /// The key that signs tokens.
    pub wit_key: HeldKey,
    /// Version of the verifier, for attestation results.
    pub build: String,
    /// Whether the registers that hosts quote cover their boot, for attestation results.
    pub boot_quoted: bool,
    /// The `kid` of the key that signs tokens: its thumbprint.
    kid: String,
}

impl Authority {
    /// What signs for a trust domain with these keys. `build` is the verifier's version, `boot_quoted` whether the registers that
    /// hosts quote cover their boot: both for attestation results.
    ///
    /// # Errors
    ///
    /// The key that is to sign tokens is not on an accepted curve.
    pub fn new(
        trust_domain: TrustDomain,
        intermediate: Certificate,
        x509_key: HeldKey,
        wit_key: HeldKey,
        build: &str,
        boot_quoted: bool,
    ) -> Result<Self, CryptoError> {
        Ok(Self {
            kid: Jwk::new(wit_key.public_key().clone())?.thumbprint(),
            trust_domain,
            intermediate,
            x509_key,
            wit_key,
            build: build.to_owned(),
            boot_quoted,
        })
    }

    /// Certifies a host's key after an attestation: the key that was certified with it, or one that was before, by evidence
    /// of the digest `key_evidence`.
    pub fn host_certificate(
        &self,
        attested: &Attested,
        key: &PublicKey,
        key_evidence: [u8; 32],
        lifetime: u64,
        entropy: &impl Entropy,
    ) -> Result<Credential, IssueError> {
        let identifier = WorkloadId::host(&self.trust_domain, attested.host())?;
        let not_after = self.end(attested.at(), lifetime)?;
        let mut ear = self.ear(attested, attested.evidence(), KeyUse::Agent);
        ear.key.evidence = key_evidence;
        let cmw = ear.to_cmw();
        let template = wic::Wic {
            identifier: &identifier,
            dns_names: &[],
            cmw: &cmw,
            not_before: attested.at().saturating_sub(BACKDATE),
            not_after,
            serial: entropy.array()?,
        };
        let der = wic::mint(&template, key, &self.intermediate, &self.x509_key)?;
        Ok(Credential {
            identifier,
            kind: Kind::X509,
            class: class_of(attested.voucher()),
            key: key.digest(),
            body: Body::Certificate(der),
            not_after,
        })
    }

    /// Certifies the key by which the service itself serves TLS, which its own device holds. There is no attestation
    /// behind it, so no custody is claimed.
    ///
    /// # Errors
    ///
    /// [`IssueError`]; above all that the intermediate is about to end.
    pub fn server_certificate(
        &self,
        key: &PublicKey,
        lifetime: u64,
        now: u64,
        entropy: &impl Entropy,
    ) -> Result<Credential, IssueError> {
        let identifier = WorkloadId::server(&self.trust_domain);
        let not_after = self.end(now, lifetime)?;
        let template = Template {
            profile: Profile::Leaf,
            common_name: String::new(),
            uri: Some(identifier.as_str().to_owned()),
            dns_names: Vec::new(),
            not_before: now.saturating_sub(BACKDATE),
            not_after,
            serial: entropy.array()?,
            extensions: Vec::new(),
        };
        let der = issue(&template, key, &self.intermediate, &self.x509_key)?;
        Ok(Credential {
            identifier,
            kind: Kind::X509,
            class: Class::Token,
            key: key.digest(),
            body: Body::Certificate(der),
            not_after,
        })
    }

    /// Issues what was granted. `host_evidence` is the digest of the evidence behind the host's own certificate,
    /// `key_evidence` that of the key's certification.
    pub fn issue(
        &self,
        grant: &Grant,
        attested: &Attested,
        host_evidence: [u8; 32],
        entropy: &impl Entropy,
    ) -> Result<Credential, IssueError> {
        let now = attested.at();
        let not_after = self.end(now, grant.lifetime)?;
        let mut ear = self.ear(attested, host_evidence, grant.usage);
        ear.key.simulated = grant.simulated;
        ear.key.custody = grant.class.as_str().to_owned();
        let cmw = ear.to_cmw();
        let body = match grant.kind {
            Kind::X509 => {
                let template = wic::Wic {
                    identifier: &grant.identifier,
                    dns_names: &grant.dns_names,
                    cmw: &cmw,
                    not_before: now.saturating_sub(BACKDATE),
                    not_after,
                    serial: entropy.array()?,
                };
                Body::Certificate(wic::mint(
                    &template,
                    &grant.key.public,
                    &self.intermediate,
                    &self.x509_key,
                )?)
            }
            Kind::Wit => {
                let jwk = Jwk::new(grant.key.public.clone())?;
                let template = wit::Wit {
                    identifier: &grant.identifier,
                    key: &jwk,
                    cmw: &cmw,
                    issued_at: now,
                    expires_at: not_after,
                    id: entropy.array()?,
                };
                Body::Token(wit::mint(&template, &self.kid, &self.wit_key)?)
            }
        };
        Ok(Credential {
            identifier: grant.identifier.clone(),
            kind: grant.kind,
            class: grant.class,
            key: grant.key.public.digest(),
            body,
            not_after,
        })
    }

    /// The `kid` of the key that signs tokens: its thumbprint.
    pub fn wit_kid(&self) -> &str {
        &self.kid
    }

    /// The key that verifies tokens.
    pub fn wit_public(&self) -> &PublicKey {
        self.wit_key.public_key()
    }

    fn ear(&self, attested: &Attested, host_evidence: [u8; 32], usage: KeyUse) -> Ear {
        let simulated = attested.voucher().is_some_and(|voucher| voucher.simulated);
        Ear {
            issued_at: attested.at(),
            build: self.build.clone(),
            host: HostResult {
                simulated,
                vouched: attested.voucher().is_some(),
                boot: self.boot_quoted,
                evidence: host_evidence,
            },
            key: KeyResult {
                custody: class_of(attested.voucher()).as_str().to_owned(),
                simulated,
                usage: usage.as_str().to_owned(),
                evidence: attested.evidence(),
            },
        }
    }

    /// A credential ends with its issuer's certificate at the latest.
    fn end(&self, now: u64, lifetime: u64) -> Result<u64, IssueError> {
        let issuer = u64::try_from(self.intermediate.not_after).unwrap_or(0);
        let end = (now + lifetime).min(issuer);
        if end < now + 30 {
            Err(IssueError::IntermediateExpires)
        } else {
            Ok(end)
        }
    }
}
