//! Whom this program believes: anchors and token keys, each for one trust domain.

use touchmark_api::workload::FetchBundleResponse;
use touchmark_crypto::{jose::json, x509::Anchors};
use touchmark_identity::{Naming, TrustDomain, WorkloadId};
use touchmark_wimse::{Issuer, Issuers};

/// Anchors and token keys by trust domain. What one of them vouches for says nothing about another
/// (draft-ietf-wimse-arch, section 3.1.2).
#[derive(Debug, Clone, Default)]
pub struct Trust {
    domains: Vec<(TrustDomain, Anchors)>,
    issuers: Issuers,
}

impl Trust {
    /// Believes these anchors and this issuer of tokens about one trust domain; whom it believed before about it, no more.
    pub fn insert(&mut self, domain: TrustDomain, anchors: Anchors, issuer: Issuer) {
        self.domains.retain(|(known, _)| *known != domain);
        self.domains.push((domain.clone(), anchors));
        self.issuers.insert(domain, issuer);
    }

    /// The identifier that a peer's certificate names, with its trust domain and the anchors of that one.
    pub(crate) fn select(&self, uri: &str) -> Option<(WorkloadId, &TrustDomain, &Anchors)> {
        self.domains.iter().find_map(|(domain, anchors)| {
            let identifier = domain.workload(uri).ok()?;
            Some((identifier, domain, anchors))
        })
    }

    /// The issuers of tokens.
    pub(crate) fn issuers(&self) -> &Issuers {
        &self.issuers
    }

    /// What the agent says: the bundle of its own trust domain.
    pub(crate) fn from_bundle(bundle: &FetchBundleResponse) -> Result<Self, String> {
        let domain = trust_domain(&bundle.trust_domain)?;
        let anchors = Anchors::new(bundle.x509.iter().cloned()).map_err(|error| error.to_string())?;
        if anchors.is_empty() {
            return Err("a trust bundle without anchors".to_owned());
        }
        let jwks = json::object(bundle.jwks.as_bytes()).map_err(|error| error.to_string())?;
        let mut trust = Self::default();
        trust.insert(domain, anchors, Issuer::from_jwks(&jwks));
        Ok(trust)
    }
}

/// The agent's trust domain, however its operator has named it.
fn trust_domain(origin: &str) -> Result<TrustDomain, String> {
    let (scheme, name) = origin.split_once("://").unwrap_or_default();
    let naming = Naming {
        scheme: Some(scheme.to_owned()).filter(|scheme| !["spiffe", "wimse"].contains(&scheme.as_str())),
        ip_literal: Some(name.to_owned()),
    };
    TrustDomain::parse_origin(origin)
        .or_else(|_| TrustDomain::configured(origin, &naming))
        .map_err(|error| format!("the agent's trust domain {origin:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(x509: Vec<Vec<u8>>, jwks: &str) -> FetchBundleResponse {
        FetchBundleResponse {
            trust_domain: "spiffe://example.org".into(),
            x509,
            jwks: jwks.into(),
            sequence: 1,
        }
    }

    #[test]
    fn r002_an_identity_without_anchors_is_none() {
        let refused = |bundle: &FetchBundleResponse| Trust::from_bundle(bundle).unwrap_err();
        assert!(refused(&bundle(Vec::new(), r#"{"keys":[]}"#)).contains("without anchors"));
        refused(&bundle(vec![vec![0x30, 0]], r#"{"keys":[]}"#));
        refused(&FetchBundleResponse::default());
    }

    #[test]
    fn trust_domains_are_read_however_their_operator_has_named_them() {
        for origin in [
            "spiffe://example.org",
            "wimse://example.org",
            "acme://example.org",
            "wimse://[2001:db8::1]",
            "spiffe://192.0.2.1",
        ] {
            assert_eq!(trust_domain(origin).unwrap().to_string(), origin);
        }
        for origin in ["", "example.org", "spiffe://", "spiffe://example.org/a"] {
            assert!(trust_domain(origin).is_err(), "{origin}");
        }
    }
}
