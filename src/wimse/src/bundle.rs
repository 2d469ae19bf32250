//! The trust bundle as a JWK Set (SPIFFE Trust Domain and Bundle, section 4; RFC 7517): X.509 anchors and WIT keys.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};
use touchmark_crypto::{CryptoError, PublicKey, jose::Jwk, x509::Certificate};

/// How often consumers should ask again, in seconds.
pub const REFRESH_HINT: u64 = 300;

/// Writes the set: one `x509-svid` entry per anchor, one `wit-svid` entry per WIT key.
pub fn to_jwks(anchors: &[Certificate], wit_keys: &[PublicKey], sequence: u64) -> Result<Value, CryptoError> {
    let mut keys = Vec::new();
    for anchor in anchors {
        let mut entry = Jwk::new(PublicKey::from_spki(&anchor.spki)?)?.to_json();
        entry.remove("alg");
        entry.insert("use".into(), "x509-svid".into());
        entry.insert("x5c".into(), json!([STANDARD.encode(&anchor.der)]));
        keys.push(Value::Object(entry));
    }
    for key in wit_keys {
        let jwk = Jwk::new(key.clone())?;
        let mut entry = jwk.to_json();
        entry.insert("use".into(), "wit-svid".into());
        entry.insert("kid".into(), jwk.thumbprint().into());
        keys.push(Value::Object(entry));
    }
    Ok(json!({"keys": keys, "spiffe_sequence": sequence, "spiffe_refresh_hint": REFRESH_HINT}))
}

/// The WIT keys of a set by `kid`. Entries that cannot be used are passed over, as the bundle format asks.
pub fn wit_keys(jwks: &Map<String, Value>) -> Vec<(String, PublicKey)> {
    let entries = jwks
        .get("keys")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    entries
        .iter()
        .filter_map(Value::as_object)
        .filter(|entry| entry.get("use").and_then(Value::as_str) == Some("wit-svid"))
        .filter_map(|entry| {
            let kid = entry.get("kid").and_then(Value::as_str)?;
            Some((kid.to_owned(), Jwk::from_json(entry).ok()?.key().clone()))
        })
        .collect()
}
