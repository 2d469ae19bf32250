//! The result about a host as a message of its own (draft-ietf-rats-ear, profile ear-03): signed by the verifier, for relying parties beside
//! the credentials.

use serde_json::{Map, Value, json};
use touchmark_crypto::{
    Purpose, SignError, Signer,
    jose::{b64u, jws},
};

use super::{PROFILE, Tier, VECTOR_CLAIMS};

/// `typ` of the JWS: an attestation result is an entity attestation token.
const TYP: &str = "eat+jwt";

/// What is concluded of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAppraisal {
    /// The host's identifier.
    pub identifier: String,
    /// When it was concluded, seconds since the epoch.
    pub issued_at: u64,
    /// Until when it may be relied on.
    pub expires_at: u64,
    /// Version of the verifier.
    pub build: String,
    /// The status: never better than the worst entry of the vector.
    pub status: Tier,
    /// The AR4SI vector: positions in [`VECTOR_CLAIMS`] and values. What is absent affirms nothing.
    pub vector: Vec<(usize, i8)>,
    /// The sets of policies that it was appraised by.
    pub policies: Vec<String>,
    /// Whether configuration marks the device as simulated.
    pub simulated: bool,
    /// Check and reason of a refusal.
    pub refusal: Option<(String, String)>,
    /// Freshness of the result, as the relying party gave it.
    pub nonce: Option<String>,
}

impl HostAppraisal {
    fn claims(&self) -> Value {
        let vector: Map<String, Value> = self
            .vector
            .iter()
            .filter_map(|(at, value)| Some(((*VECTOR_CLAIMS.get(*at)?).to_owned(), (*value).into())))
            .collect();
        let mut host = json!({
            "ear_status": self.status.name(),
            "touchmark_host": self.identifier,
            "touchmark_simulated": self.simulated,
        });
        if !vector.is_empty() {
            host["ear_trustworthiness_vector"] = vector.into();
        }
        if !self.policies.is_empty() {
            host["ear_appraisal_policy_ids"] = self.policies.clone().into();
        }
        if let Some((check, reason)) = &self.refusal {
            host["touchmark_refusal"] = json!({"check": check, "reason": reason});
        }
        let mut claims = json!({
            "eat_profile": PROFILE,
            "iat": self.issued_at,
            "exp": self.expires_at,
            "ear_verifier_id": {"developer": "https://touchmark.dev", "build": self.build},
            "submods": {"host": host},
        });
        if let Some(nonce) = &self.nonce {
            claims["eat_nonce"] = nonce.as_str().into();
        }
        claims
    }

    /// The result, signed by the verifier's key for results, which the header names by its thumbprint.
    pub fn sign(&self, signer: &dyn Signer) -> Result<String, SignError> {
        let kid = b64u(&signer.public_key().digest());
        jws::sign(
            TYP,
            Some(&kid),
            &self.claims(),
            Purpose::AttestationResult,
            signer,
        )
    }
}

#[cfg(test)]
mod tests {
    use touchmark_crypto::{
        SigningAlg, SoftwareKey,
        jose::{VerifyingKey, jws::Jws},
    };

    use super::*;
    use crate::{
        ear::{AttestationResult, Profile},
        eat::ClaimsSet,
    };

    fn appraisal() -> HostAppraisal {
        HostAppraisal {
            identifier: "spiffe://example.org/host/1".into(),
            issued_at: 1_800_000_000,
            expires_at: 1_800_000_600,
            build: "touchmark 1".into(),
            status: Tier::Affirming,
            vector: vec![(0, 2), (2, 3)],
            policies: vec!["fleet".into()],
            simulated: false,
            refusal: None,
            nonce: Some("0123456789".into()),
        }
    }

    #[test]
    fn what_is_signed_reads_back_by_its_profile() {
        let key = SoftwareKey::generate(SigningAlg::Es256).unwrap();
        let token = appraisal().sign(&key).unwrap();
        let jws = Jws::parse(&token).unwrap();
        let payload = jws
            .verify_signature(&VerifyingKey::new(key.public_key().clone()).unwrap())
            .unwrap();
        let claims = ClaimsSet::from_json(payload).unwrap();
        claims.check().unwrap();
        let read = AttestationResult::read(&claims, Profile::Ear03).unwrap();
        assert!(read.is_affirming());
        assert_eq!(read.submodules[0].vector, [(0, 2), (2, 3)]);
        assert_eq!(read.submodules[0].policies, ["fleet"]);
        assert_eq!(read.nonces, [b"0123456789".to_vec()]);
    }

    #[test]
    fn a_refusal_is_no_success_whatever_its_vector_says() {
        let refused = HostAppraisal {
            status: Tier::Contraindicated,
            vector: Vec::new(),
            refusal: Some(("reference_values".into(), "reference_mismatch".into())),
            ..appraisal()
        };
        let claims = ClaimsSet::from_json(refused.claims().to_string().as_bytes()).unwrap();
        let read = AttestationResult::read(&claims, Profile::Ear03).unwrap();
        assert!(!read.is_affirming());
    }
}
