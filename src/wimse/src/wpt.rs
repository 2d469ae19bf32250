//! Workload proof tokens (draft-ietf-wimse-wpt-02): a short proof that the sender holds the key in its WIT.

mod carrier;
mod replay;
mod verify;

use serde::Serialize;
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

/// The claims as they are written.
#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    exp: u64,
    jti: String,
    wth: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ath: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tth: Option<String>,
}

/// Mints a proof.
pub fn mint(wpt: &Wpt<'_>, signer: &dyn Signer) -> Result<String, SignError> {
    let claims = Claims {
        aud: wpt.audience,
        exp: wpt.expires_at,
        jti: b64u(&wpt.id),
        wth: b64u(&sha256(&[wpt.wit.as_bytes()])),
        ath: wpt.access.map(|digest| b64u(&digest)),
        tth: wpt.transaction.map(|digest| b64u(&digest)),
    };
    jws::sign(TYP, None, &claims, Purpose::Wpt, signer)
}
