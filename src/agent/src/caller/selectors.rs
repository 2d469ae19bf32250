//! What a registration demands of a caller (`workload = { ... }`).

use std::path::Path;

use super::Caller;

/// The selectors of one registration. All that are given must match; where none is given, nobody matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selectors {
    /// The user.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// Absolute path of the executable.
    pub exe: Option<String>,
    /// SHA-256 of the executable, lower-case hex.
    pub exe_sha256: Option<String>,
}

impl Selectors {
    /// Whether no selector is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether `caller` is whom the registration means.
    pub fn matches(&self, caller: &Caller) -> bool {
        let exe = |wanted: &String| caller.exe.as_deref() == Some(Path::new(wanted));
        let digest = |wanted: &String| caller.exe_sha256.map(hex::encode).as_ref() == Some(wanted);
        !self.is_empty()
            && self.uid.is_none_or(|uid| uid == caller.uid)
            && self.gid.is_none_or(|gid| gid == caller.gid)
            && self.exe.as_ref().is_none_or(exe)
            && self.exe_sha256.as_ref().is_none_or(digest)
    }
}
