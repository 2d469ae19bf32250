//! Grants: the meeting of a registration, an attested key and a kind of credential.

use touchmark_custody::{Class, KeyUse};
use touchmark_identity::WorkloadId;
use touchmark_rats::{Assurance, AttestedKey, MakerKind, Reason, Refusal, Retry, Voucher};

use crate::Registration;

/// Kinds of credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A certificate.
    X509,
    /// A workload identity token.
    Wit,
}

impl Kind {
    /// The word in registrations and requests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X509 => "x509",
            Self::Wit => "wit",
        }
    }

    /// The kind a word names.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::X509, Self::Wit]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// The custody class of keys in a TPM, by who vouches for it. Nobody: possession was proven, and no more.
pub fn class_of(voucher: Option<&Voucher>) -> Class {
    match voucher.map(|voucher| voucher.kind) {
        Some(MakerKind::Physical) => Class::Hardware,
        Some(MakerKind::Hypervisor) => Class::Hypervisor,
        None => Class::Token,
    }
}

/// The right to one credential for one key. Only [`grant`] makes one.
#[derive(Debug, Clone)]
pub struct Grant {
    pub(crate) identifier: WorkloadId,
    pub(crate) kind: Kind,
    pub(crate) key: AttestedKey,
    pub(crate) class: Class,
    pub(crate) usage: KeyUse,
    pub(crate) simulated: bool,
    pub(crate) lifetime: u64,
    pub(crate) dns_names: Vec<String>,
}

impl Grant {
    /// The identifier.
    pub fn identifier(&self) -> &WorkloadId {
        &self.identifier
    }

    /// The kind of credential.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The custody class that was proven.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Who may use the key.
    pub fn usage(&self) -> KeyUse {
        self.usage
    }

    /// Whether the device is simulated.
    pub fn simulated(&self) -> bool {
        self.simulated
    }
}

/// Grants a kind of credential for an attested key under a registration, or says why not.
pub fn grant(
    registration: &Registration,
    kind: Kind,
    key: AttestedKey,
    voucher: Option<&Voucher>,
) -> Result<Grant, Refusal> {
    let refuse = |reason, expected: String, found: String, remedy: &str| Refusal {
        check: "issue.registration",
        reason,
        expected,
        found,
        remedy: remedy.to_owned(),
        retry: Retry::Later,
    };
    if !registration.kinds.contains(&kind) {
        return Err(refuse(
            Reason::KindNotAllowed,
            format!("one of {}", listed(&registration.kinds, ", ", Kind::as_str)),
            kind.as_str().to_owned(),
            "list the kind in the registration",
        ));
    }
    let (class, simulated) = match key.assurance {
        Assurance::Certified => (class_of(voucher), false),
        // The agent's word is worth no more, whoever vouches for the host's device.
        Assurance::Reported { simulated } => (Class::Token, simulated),
    };
    if !registration.custody.contains(&class) {
        return Err(refuse(
            Reason::CustodyInsufficient,
            format!("custody {}", listed(&registration.custody, " or ", Class::as_str)),
            format!("custody {class}"),
            match key.assurance {
                Assurance::Certified => {
                    "enrol the host by a certificate of a pinned maker, or list the class in the registration"
                }
                Assurance::Reported { .. } => {
                    "list the class in the registration, or let the key be made in a TPM"
                }
            },
        ));
    }
    Ok(Grant {
        kind,
        key,
        class,
        usage: registration.usage,
        simulated: simulated || voucher.is_some_and(|voucher| voucher.simulated),
        lifetime: registration.lifetime,
        dns_names: registration.dns_names.clone(),
        identifier: registration.identifier.clone(),
    })
}

fn listed<T: Copy>(items: &[T], between: &str, word: fn(T) -> &'static str) -> String {
    let words: Vec<&str> = items.iter().map(|item| word(*item)).collect();
    words.join(between)
}
