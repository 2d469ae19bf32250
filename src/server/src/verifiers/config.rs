//! `[[verifier]]` of `server.toml`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Deserialize;
use touchmark_crypto::jose::{JoseAlg, VerifyingKey, json};
use touchmark_external::{Endpoint, MAX_TIMEOUT};
use touchmark_issuer::parse_duration;
use touchmark_rats::ear::{Demands, Profile, VECTOR_CLAIMS};
use touchmark_tls::files;

use super::OtherVerifier;

/// Algorithms that results are signed with.
const ALGORITHMS: [&str; 7] = ["ES256", "ES384", "ES512", "EdDSA", "PS256", "PS384", "RS256"];
/// Most keys of one.
const MAX_KEYS: usize = 4;

/// A verifier in configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifierFile {
    pub(crate) name: String,
    /// Where it is asked; without, hosts present its results.
    url: Option<String>,
    /// PEM file with the roots of its web server's certificate.
    roots: Option<PathBuf>,
    /// Files with the public keys that it signs results with, JWK.
    keys: Vec<PathBuf>,
    #[serde(default)]
    profile: ProfileName,
    /// The developer in `ear_verifier_id`.
    developer: Option<String>,
    /// Submodules that have to be there and affirming.
    #[serde(default)]
    submodules: Vec<String>,
    /// Entries of the vector that have to be there and affirming.
    #[serde(default)]
    entries: Vec<String>,
    /// Labels of the hosts that it is asked about.
    hosts: Option<Vec<String>>,
    /// How long its result is waited for; five seconds.
    timeout: Option<String>,
    /// Whether its results may have no `exp`.
    #[serde(default)]
    without_exp: bool,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
enum ProfileName {
    #[default]
    #[serde(rename = "ear-03")]
    Ear03,
    #[serde(rename = "ear-veraison")]
    Veraison,
    #[serde(rename = "ear-trustee")]
    Trustee,
}

impl VerifierFile {
    /// The verifier, with its files read; relative paths are relative to `here`.
    pub(crate) fn read(self, here: &Path) -> Result<OtherVerifier, String> {
        let wrong = |what: String| format!("verifier {:?}: {what}", self.name);
        if self.name.is_empty()
            || self.name.len() > 64
            || !self.name.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(wrong(
                "name: 1 to 64 printable ASCII characters without spaces".into(),
            ));
        }
        if self.hosts.as_ref().is_some_and(Vec::is_empty) {
            return Err(wrong(
                "hosts: an empty list fits no host; leave it out for all hosts".into(),
            ));
        }
        if !(1..=MAX_KEYS).contains(&self.keys.len()) {
            return Err(wrong(
                "keys: one to four files with the public keys of its results, JWK".into(),
            ));
        }
        let mut keys = Vec::new();
        for path in &self.keys {
            let path = here.join(path);
            let text = files::read_config(&path).map_err(|error| wrong(error.to_string()))?;
            let jwk = json::object(text.as_bytes()).ok().filter(|jwk| {
                jwk.contains_key("kty") && !["d", "k"].iter().any(|secret| jwk.contains_key(*secret))
            });
            let jwk = jwk.filter(|jwk| {
                let fits = |name: &&str| {
                    JoseAlg::from_name(name).is_some_and(|alg| VerifyingKey::for_alg(jwk, alg).is_ok())
                };
                ALGORITHMS.iter().any(fits)
            });
            keys.push(jwk.ok_or_else(|| {
                wrong(format!(
                    "keys: {} is no public JWK that results are verified with",
                    path.display()
                ))
            })?);
        }
        let mut vector = Vec::new();
        for name in &self.entries {
            let at = VECTOR_CLAIMS.iter().position(|known| known == name);
            vector.push(at.ok_or_else(|| {
                wrong(format!(
                    "entries: no entry {name:?}; there are {}",
                    VECTOR_CLAIMS.join(", ")
                ))
            })?);
        }
        let endpoint = self.endpoint(here).map_err(wrong)?;
        Ok(OtherVerifier {
            keys,
            endpoint,
            demands: Demands {
                profile: match self.profile {
                    ProfileName::Ear03 => Profile::Ear03,
                    ProfileName::Veraison => Profile::Veraison,
                    ProfileName::Trustee => Profile::Trustee,
                },
                without_exp: self.without_exp,
                developer: self.developer,
                submodules: self.submodules,
                vector,
            },
            hosts: self.hosts,
            name: self.name,
        })
    }

    fn endpoint(&self, here: &Path) -> Result<Option<Arc<Endpoint>>, String> {
        let Some(url) = &self.url else {
            return match (&self.roots, &self.timeout) {
                (None, None) => Ok(None),
                _ => Err("roots and timeout are of a verifier that is asked: give its url as well".into()),
            };
        };
        let patience = parse_duration(self.timeout.as_deref().unwrap_or("5s"))
            .map(Duration::from_secs)
            .filter(|patience| (Duration::from_secs(1)..=MAX_TIMEOUT).contains(patience))
            .ok_or("timeout: between 1s and 20s, for example \"5s\"")?;
        let roots = self.roots.as_ref().map(|path| here.join(path));
        Endpoint::configured(url, roots.as_deref(), patience)
            .map(|endpoint| Some(Arc::new(endpoint)))
            .map_err(|error| format!("url, roots: {error}"))
    }
}
