//! Appraises evidence of hardware security modules: pure, without a PKCS#11 library and without a module.
//!
//! Some makers' modules sign what they say of a key ([`judge`]): that it was made inside, and whether it can leave. Only such a
//! statement, with a path to a root that is pinned as the maker's, makes a key's custody `hardware`. What any other token says of
//! itself is the word of whoever runs on its host.

mod attested;
mod marvell;
mod path;
mod yubico;

pub use attested::{AttestedKey, Exportability, Format, Origin};
pub use marvell::MAX_ATTESTATION as MAX_MARVELL_ATTESTATION;

use touchmark_crypto::x509::DeviceAnchors;
use touchmark_rats::Check;

/// A module's statement about a key, as it arrived, and who may vouch for the module.
#[derive(Debug, Clone, Copy)]
pub struct Statement<'a> {
    /// What it is written in.
    pub format: Format,
    /// The statement: a certificate, DER, or what the module signed.
    pub bytes: &'a [u8],
    /// Certificates between it and a root, DER, in any order. What cannot be read is passed over.
    pub certificates: &'a [Vec<u8>],
    /// Roots that are pinned as the maker's.
    pub makers: &'a DeviceAnchors,
    /// Roots that are pinned as the owner's, of modules whose owners certify their partitions as well; what the statement has to lead
    /// to beside the maker's, where there are any.
    pub owners: Option<&'a DeviceAnchors>,
}

/// Judges a statement at `now` (seconds since the epoch): whether the maker's module made it. What it says of the key, for better
/// or worse, is in the answer; [`AttestedKey::held`] tells whether that is enough for custody.
pub fn judge(statement: &Statement<'_>, now: u64) -> Result<AttestedKey, Check> {
    match statement.format {
        Format::YubiHsm2 => yubico::judge(statement, &yubico::YUBIHSM, now),
        Format::YubiKeyPiv => yubico::judge(statement, &yubico::PIV, now),
        Format::Marvell => marvell::judge(statement, now),
    }
}
