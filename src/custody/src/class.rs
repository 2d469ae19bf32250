//! Custody classes, from the strongest to the weakest, and who may use a key.

/// What was proven about where a key lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Generated in and not exportable from a TPM or HSM below a maker's anchor of kind `physical`.
    Hardware,
    /// The same in a virtual TPM that a cloud or hypervisor vouches for.
    Hypervisor,
    /// In the memory of an attested confidential VM, or in a virtual TPM inside it.
    Enclave,
    /// Not extractable as the agent of an attested host reports it, or in a TPM that no maker vouches for.
    Token,
    /// In a process's memory.
    Software,
}

impl Class {
    const ALL: [Self; 5] = [
        Self::Hardware,
        Self::Hypervisor,
        Self::Enclave,
        Self::Token,
        Self::Software,
    ];

    /// The word in registrations, claims and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hardware => "hardware",
            Self::Hypervisor => "hypervisor",
            Self::Enclave => "enclave",
            Self::Token => "token",
            Self::Software => "software",
        }
    }

    /// The class a word names.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who can ask a key to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyUse {
    /// The key answers only through the agent.
    Agent,
    /// A TSS2 PRIVATE KEY file that whoever reads it on that host can use.
    File,
}

impl KeyUse {
    /// The word in registrations, claims and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::File => "file",
        }
    }

    /// The use a word names.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Agent, Self::File]
            .into_iter()
            .find(|usage| usage.as_str() == word)
    }
}

impl std::fmt::Display for KeyUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
