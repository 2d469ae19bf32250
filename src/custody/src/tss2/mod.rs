//! TSS2 PRIVATE KEY files (draft-bottomley-tpm-keys-00): loadable keys, as OpenSSL's TPM providers read them.

mod file;
mod inspect;
mod policy;
mod public;

pub use file::{ApprovedPolicy, KeyFile, KeyType};
pub use inspect::{Inspected, inspect};
pub use policy::PolicyError;
pub use public::{ObjectKind, PublicArea};

use der::pem::LineEnding;

/// PEM label.
pub const LABEL: &str = "TSS2 PRIVATE KEY";
/// TPM_RH_OWNER: the parent is the TCG P-256 storage primary of the owner hierarchy, created on the fly.
pub const PARENT_OWNER: u32 = 0x4000_0001;
/// TPM_CC_PolicyPCR.
pub const POLICY_PCR: u32 = 0x0000_017f;
/// Largest file accepted, in bytes.
pub const MAX_FILE: usize = 16 * 1024;

/// Why a file is not a key that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Tss2Error {
    /// Over [`MAX_FILE`].
    #[error("over 16 KiB")]
    Oversized,
    /// Not PEM with the right label.
    #[error("not a PEM file labelled {LABEL}")]
    Pem,
    /// Not the ASN.1 of a key.
    #[error("not the structure of a TPM key")]
    Asn1,
    /// A key of another type than loadable.
    #[error("key type {0}, which is not loadable (2.23.133.10.1.3)")]
    Type(String),
    /// A parent that is neither a permanent hierarchy nor a persistent handle.
    #[error("parent {0:#x} is neither a hierarchy nor a persistent handle")]
    Parent(u32),
}

/// One step of a key's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyStep {
    /// TPM_CC of the policy command.
    pub command: u32,
    /// Its parameters, marshalled; for PolicyPCR a TPM2B_DIGEST and a TPML_PCR_SELECTION.
    pub parameters: Vec<u8>,
}

/// A loadable key: encrypted by its parent, useless on any other TPM.
#[derive(Clone, PartialEq, Eq)]
pub struct Tss2Key {
    /// Whether no authorization value is needed.
    pub empty_auth: bool,
    /// The policy, step by step; empty for none.
    pub policy: Vec<PolicyStep>,
    /// Parent handle.
    pub parent: u32,
    /// TPM2B_PUBLIC with its size.
    pub public: Vec<u8>,
    /// TPM2B_PRIVATE with its size.
    pub private: Vec<u8>,
}

impl std::fmt::Debug for Tss2Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Tss2Key(parent {:#x}, {} policy steps)",
            self.parent,
            self.policy.len()
        )
    }
}

/// Hierarchies below which a parent is made on the fly: owner, null, endorsement, platform.
fn is_hierarchy(handle: u32) -> bool {
    [PARENT_OWNER, 0x4000_0007, 0x4000_000b, 0x4000_000c].contains(&handle)
}

fn is_persistent(handle: u32) -> bool {
    handle >> 24 == 0x81
}

impl Tss2Key {
    /// The file.
    pub fn to_pem(&self) -> Result<String, Tss2Error> {
        let der = self.to_der()?;
        der::pem::encode_string(LABEL, LineEnding::LF, &der).map_err(|_| Tss2Error::Pem)
    }

    /// The structure in the file.
    pub fn to_der(&self) -> Result<Vec<u8>, Tss2Error> {
        let file = KeyFile {
            kind: KeyType::Loadable,
            empty_auth: self.empty_auth,
            policy: self.policy.clone(),
            secret: None,
            approved: Vec::new(),
            description: None,
            parent: self.parent,
            public: self.public.clone(),
            private: self.private.clone(),
            lax_boolean: false,
        };
        file.to_der()
    }

    /// Reads a file.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Tss2Error> {
        if pem.len() > MAX_FILE {
            return Err(Tss2Error::Oversized);
        }
        let (label, der) = der::pem::decode_vec(pem).map_err(|_| Tss2Error::Pem)?;
        if label != LABEL {
            return Err(Tss2Error::Pem);
        }
        Self::from_der(&der)
    }

    /// Reads the structure.
    pub fn from_der(der: &[u8]) -> Result<Self, Tss2Error> {
        if der.len() > MAX_FILE {
            return Err(Tss2Error::Oversized);
        }
        let file = KeyFile::from_der(der)?;
        if file.kind != KeyType::Loadable {
            return Err(Tss2Error::Type(file.kind.as_str().to_owned()));
        }
        if !is_hierarchy(file.parent) && !is_persistent(file.parent) {
            return Err(Tss2Error::Parent(file.parent));
        }
        Ok(Self {
            empty_auth: file.empty_auth,
            policy: file.policy,
            parent: file.parent,
            public: file.public,
            private: file.private,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Tss2Key {
        Tss2Key {
            empty_auth: true,
            policy: vec![PolicyStep {
                command: POLICY_PCR,
                parameters: vec![0, 0, 1, 2],
            }],
            parent: PARENT_OWNER,
            public: vec![0, 1, 9],
            private: vec![0, 2, 8, 8],
        }
    }

    #[test]
    fn a_file_reads_back() {
        let pem = key().to_pem().unwrap();
        assert!(pem.starts_with("-----BEGIN TSS2 PRIVATE KEY-----\n"));
        assert_eq!(Tss2Key::from_pem(pem.as_bytes()).unwrap(), key());
        let plain = Tss2Key {
            policy: Vec::new(),
            empty_auth: false,
            ..key()
        };
        assert_eq!(Tss2Key::from_der(&plain.to_der().unwrap()).unwrap(), plain);
    }

    #[test]
    fn other_types_parents_and_damage_are_refused() {
        let der = Tss2Key {
            parent: 0x8000_0001,
            ..key()
        }
        .to_der()
        .unwrap();
        assert_eq!(Tss2Key::from_der(&der), Err(Tss2Error::Parent(0x8000_0001)));
        let mut der = key().to_der().unwrap();
        assert_eq!(Tss2Key::from_der(&der[..der.len() - 1]), Err(Tss2Error::Asn1));
        let at = der.windows(2).position(|pair| pair == [1, 3]).unwrap();
        der[at + 1] = 4;
        assert_eq!(Tss2Key::from_der(&der), Err(Tss2Error::Type("importable".into())));
        assert_eq!(
            Tss2Key::from_pem(b"-----BEGIN PRIVATE KEY-----"),
            Err(Tss2Error::Pem)
        );
    }
}
