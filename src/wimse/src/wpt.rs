//! Workload proof tokens (draft-ietf-wimse-wpt-02): a short proof that the sender holds the key in its WIT.

mod carrier;
mod replay;
mod verify;

use serde_json::Map;
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

/// What a proof is to say.
#[derive(Debug, Clone, Copy)]
pub struct Wpt<'a> {
    /// The token that it goes with.
    pub wit: &'a str,
    /// Whom it is for.
    pub audience: &'a str,
    /// When it ends, seconds since the epoch.
    pub expires_at: u64,
    /// 16 random bytes.
    pub id: [u8; 16],
    /// SHA-256 of the access token in the same request, with [`Profile::Wpt01`] only.
    pub access: Option<[u8; 32]>,
    /// SHA-256 of the transaction token in the same request.
    pub transaction: Option<[u8; 32]>,
}

/// Mints a proof.
pub fn mint(wpt: &Wpt<'_>, signer: &dyn Signer) -> Result<String, SignError> {
    let mut header = Map::new();
    header.insert("typ".into(), TYP.into());
    let mut claims = Map::new();
    claims.insert("aud".into(), wpt.audience.into());
    claims.insert("exp".into(), wpt.expires_at.into());
    claims.insert("jti".into(), b64u(&wpt.id).into());
    claims.insert("wth".into(), b64u(&sha256(&[wpt.wit.as_bytes()])).into());
    for (name, digest) in [("ath", wpt.access), ("tth", wpt.transaction)] {
        if let Some(digest) = digest {
            claims.insert(name.into(), b64u(&digest).into());
        }
    }
    jws::sign(header, &claims, Purpose::Wpt, signer)
}
