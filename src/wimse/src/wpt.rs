//! Workload proof tokens (draft-ietf-wimse-wpt-02): a short proof that the sender holds the key in its WIT.

mod carrier;
mod replay;
mod verify;

use serde_json::{Map, json};
use touchmark_crypto::{
    Purpose, SignError, Signer,
    jose::{b64u, jws},
    sha256,
};

pub use carrier::{Carried, Profile};
pub use replay::Replays;
pub use verify::{Expected, VerifiedProof, verify};

/// The JOSE `typ`.
pub const TYP: &str = "wpt+jwt";
/// Longest life of a proof, in seconds.
pub const MAX_LIFETIME: u64 = 300;

/// Mints a proof for one audience. `id` is 16 random bytes.
pub fn mint(
    wit: &str,
    audience: &str,
    expires_at: u64,
    id: [u8; 16],
    signer: &dyn Signer,
) -> Result<String, SignError> {
    let mut header = Map::new();
    header.insert("typ".into(), TYP.into());
    let claims = json!({
        "aud": audience,
        "exp": expires_at,
        "jti": b64u(&id),
        "wth": b64u(&sha256(&[wit.as_bytes()])),
    });
    jws::sign(
        header,
        claims.as_object().unwrap_or(&Map::new()),
        Purpose::Wpt,
        signer,
    )
}
