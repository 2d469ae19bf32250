//! One trust domain, a workload in it, its token and its proofs.

use serde_json::{Value, json};
use touchmark_crypto::{
    Purpose, Signer, SigningAlg, SoftwareKey,
    jose::{JoseAlg, Jwk, VerifyingKey, b64u},
    sha256,
};
use touchmark_identity::TrustDomain;
use touchmark_wimse::{
    Issuer, Issuers, TokenError, wit,
    wpt::{self, Carried, Expected, Profile, Replays},
};

pub(crate) const NOW: u64 = 1_900_000_000;
pub(crate) const AUDIENCE: &str = "https://api.example.org/pay";

pub(crate) fn key() -> SoftwareKey {
    SoftwareKey::generate(SigningAlg::Es256).unwrap()
}

pub(crate) fn domain(origin: &str) -> TrustDomain {
    TrustDomain::parse_origin(origin).unwrap()
}

pub(crate) fn issuer(keys: &[(&str, &SoftwareKey)]) -> Issuer {
    Issuer {
        keys: keys
            .iter()
            .map(|(kid, key)| {
                let public = VerifyingKey::new(key.public_key().clone()).unwrap();
                (Some((*kid).to_owned()), public)
            })
            .collect(),
        algorithms: vec![JoseAlg::Es256],
        issuers: None,
        max_lifetime: 86_400,
    }
}

/// One trust domain, a workload in it, its token.
pub(crate) struct Scene {
    pub(crate) signer: SoftwareKey,
    pub(crate) workload: SoftwareKey,
    pub(crate) issuers: Issuers,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let signer = key();
        let mut issuers = Issuers::default();
        issuers.insert(domain("spiffe://example.org"), issuer(&[("k1", &signer)]));
        Self {
            signer,
            workload: key(),
            issuers,
        }
    }

    pub(crate) fn claims(&self) -> Value {
        json!({
            "iss": "spiffe://example.org",
            "sub": "spiffe://example.org/pay",
            "iat": NOW,
            "exp": NOW + 3_600,
            "jti": "1",
            "cnf": {"jwk": Jwk::new(self.workload.public_key().clone()).unwrap().to_json()},
        })
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        sign(&json!({"typ": "wit+jwt", "kid": "k1"}), claims, &self.signer)
    }

    pub(crate) fn good(&self) -> String {
        self.token(&self.claims())
    }

    pub(crate) fn verify(&self, token: &str) -> Result<wit::VerifiedWit, TokenError> {
        wit::verify(token, &self.issuers, NOW)
    }

    pub(crate) fn refused(&self, token: &str) -> TokenError {
        self.verify(token).unwrap_err()
    }

    /// The reason by which the token is refused after a change of its claims.
    pub(crate) fn with_claims(&self, change: impl FnOnce(&mut Value)) -> TokenError {
        let mut claims = self.claims();
        change(&mut claims);
        self.refused(&self.token(&claims))
    }

    pub(crate) fn proof_claims(&self, token: &str) -> Value {
        json!({
            "aud": AUDIENCE,
            "exp": NOW + 60,
            "jti": "p1",
            "wth": b64u(&sha256(&[token.as_bytes()])),
        })
    }

    pub(crate) fn proof(&self, claims: &Value) -> String {
        sign(&json!({"typ": "wpt+jwt"}), claims, &self.workload)
    }

    /// The reason by which the proof is refused after a change of its claims, for a request with these companions.
    pub(crate) fn with_proof(
        &self,
        profile: Profile,
        companions: (Option<&str>, Option<&str>),
        change: impl FnOnce(&mut Value),
    ) -> Result<(), TokenError> {
        let token = self.good();
        let mut claims = self.proof_claims(&token);
        change(&mut claims);
        let proof = self.proof(&claims);
        self.judge(&token, &proof, profile, companions)
    }

    pub(crate) fn judge(
        &self,
        token: &str,
        proof: &str,
        profile: Profile,
        (transaction, access): (Option<&str>, Option<&str>),
    ) -> Result<(), TokenError> {
        let verified = self.verify(token)?;
        let carried = Carried {
            wit: token,
            proof,
            transaction,
            access,
        };
        let expected = Expected {
            profile,
            ..Expected::at(AUDIENCE)
        };
        wpt::verify(&carried, &verified, &expected, &mut Replays::new(8), NOW).map(|_| ())
    }
}

/// A token under any header, to which the key's algorithm is added.
pub(crate) fn sign(header: &Value, claims: &Value, key: &SoftwareKey) -> String {
    let mut header = header.clone();
    header["alg"] = key.algorithm().jose().into();
    let part = |value: &Value| b64u(value.to_string().as_bytes());
    let input = format!("{}.{}", part(&header), part(claims));
    let signature = key.sign(Purpose::Wit, input.as_bytes()).unwrap();
    format!("{input}.{}", b64u(&signature))
}

/// The token with another header, its signature as it was.
pub(crate) fn with_header(token: &str, header: &Value) -> String {
    let rest = token.split_once('.').unwrap().1;
    format!("{}.{rest}", b64u(header.to_string().as_bytes()))
}
