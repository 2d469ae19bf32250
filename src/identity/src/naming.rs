//! What one trust domain's configuration admits beyond the usual.

use serde::Deserialize;

/// How a trust domain may be named when its operator says so: what is not given is not admitted.
///
/// Both members repeat what they admit, so that a slip of the pen in the trust domain's own name does not make another
/// scheme or an address of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Naming {
    /// A scheme other than `spiffe` and `wimse`, in lower case, without its colon.
    pub scheme: Option<String>,
    /// The address that is the name, in its canonical spelling: `192.0.2.1`, or `[2001:db8::1]` where the scheme is not
    /// `spiffe`. Only for compatibility with names that exist (draft-ietf-wimse-arch, section 3.1.2).
    pub ip_literal: Option<String>,
}
