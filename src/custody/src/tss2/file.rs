//! The structure of a TSS2 PRIVATE KEY file (draft-bottomley-tpm-keys-00, section 3.1), with what later software added.

use der::{
    Any, Decode, Encode, Sequence, Tag, Tagged,
    asn1::{ObjectIdentifier, OctetString},
};

use super::{PolicyStep, Tss2Error};

/// What type of key a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// id-loadablekey: encrypted by its parent.
    Loadable,
    /// id-importablekey: encrypted for its parent from outside.
    Importable,
    /// id-sealedkey: data that is sealed.
    Sealed,
}

impl KeyType {
    const ALL: [(Self, ObjectIdentifier); 3] = [
        (Self::Loadable, ObjectIdentifier::new_unwrap("2.23.133.10.1.3")),
        (Self::Importable, ObjectIdentifier::new_unwrap("2.23.133.10.1.4")),
        (Self::Sealed, ObjectIdentifier::new_unwrap("2.23.133.10.1.5")),
    ];

    fn of(identifier: ObjectIdentifier) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|(_, known)| *known == identifier).map(|(kind, _)| kind)
    }

    fn identifier(self) -> ObjectIdentifier {
        let [(_, loadable), (_, importable), (_, sealed)] = Self::ALL;
        match self {
            Self::Loadable => loadable,
            Self::Importable => importable,
            Self::Sealed => sealed,
        }
    }

    /// The word in commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loadable => "loadable",
            Self::Importable => "importable",
            Self::Sealed => "sealed",
        }
    }
}

/// A policy that whoever holds the key of a PolicyAuthorize approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovedPolicy {
    /// What it is called.
    pub name: Option<String>,
    /// Its steps.
    pub steps: Vec<PolicyStep>,
}

/// All that a file says.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// What it holds.
    pub kind: KeyType,
    /// Whether no authorization value is needed.
    pub empty_auth: bool,
    /// The policy, step by step; empty for none.
    pub policy: Vec<PolicyStep>,
    /// Encrypted seed, of an importable key.
    pub secret: Option<Vec<u8>>,
    /// Approved policies, where the policy is a PolicyAuthorize.
    pub approved: Vec<ApprovedPolicy>,
    /// What it is called.
    pub description: Option<String>,
    /// Parent handle.
    pub parent: u32,
    /// TPM2B_PUBLIC with its size.
    pub public: Vec<u8>,
    /// TPM2B_PRIVATE with its size.
    pub private: Vec<u8>,
    /// Whether a truth value is encoded otherwise than DER has it.
    pub lax_boolean: bool,
}

#[derive(Sequence)]
struct WireStep {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    command: u32,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT")]
    parameters: OctetString,
}

#[derive(Sequence)]
struct WireApproved {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    name: Option<String>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT")]
    steps: Vec<WireStep>,
}

#[derive(Sequence)]
struct WireFile {
    kind: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    empty_auth: Option<Any>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    policy: Option<Vec<WireStep>>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", optional = "true")]
    secret: Option<OctetString>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    approved: Option<Vec<WireApproved>>,
    #[asn1(context_specific = "4", tag_mode = "EXPLICIT", optional = "true")]
    description: Option<String>,
    #[asn1(context_specific = "5", tag_mode = "EXPLICIT", optional = "true")]
    rsa_parent: Option<Any>,
    parent: u32,
    public: OctetString,
    private: OctetString,
}

/// A BOOLEAN, and whether it is DER: some writers have another TRUE.
fn boolean(value: Option<&Any>) -> Option<(bool, bool)> {
    let Some(value) = value else {
        return Some((false, false));
    };
    match (value.tag(), value.value()) {
        (Tag::Boolean, [0]) => Some((false, false)),
        (Tag::Boolean, [0xff]) => Some((true, false)),
        (Tag::Boolean, [_]) => Some((true, true)),
        _ => None,
    }
}

fn steps(wire: Vec<WireStep>) -> Vec<PolicyStep> {
    let step = |step: WireStep| PolicyStep {
        command: step.command,
        parameters: step.parameters.into_bytes().to_vec(),
    };
    wire.into_iter().map(step).collect()
}

impl KeyFile {
    /// Reads the structure, with nothing after it.
    pub(super) fn from_der(der: &[u8]) -> Result<Self, Tss2Error> {
        let wire = WireFile::from_der(der).map_err(|_| Tss2Error::Asn1)?;
        let kind = KeyType::of(wire.kind).ok_or_else(|| Tss2Error::Type(wire.kind.to_string()))?;
        let (empty_auth, lax) = boolean(wire.empty_auth.as_ref()).ok_or(Tss2Error::Asn1)?;
        let (_, also_lax) = boolean(wire.rsa_parent.as_ref()).ok_or(Tss2Error::Asn1)?;
        let approved = wire.approved.unwrap_or_default().into_iter();
        let octets = |octets: OctetString| octets.into_bytes().to_vec();
        Ok(Self {
            kind,
            empty_auth,
            policy: steps(wire.policy.unwrap_or_default()),
            secret: wire.secret.map(octets),
            approved: approved
                .map(|policy| ApprovedPolicy {
                    name: policy.name,
                    steps: steps(policy.steps),
                })
                .collect(),
            description: wire.description,
            parent: wire.parent,
            public: octets(wire.public),
            private: octets(wire.private),
            lax_boolean: lax || also_lax,
        })
    }

    /// The structure of a loadable key without anything that later software added.
    pub(super) fn to_der(&self) -> Result<Vec<u8>, Tss2Error> {
        let octets = |bytes: &[u8]| OctetString::new(bytes).map_err(|_| Tss2Error::Asn1);
        let steps: Result<Vec<WireStep>, Tss2Error> = self
            .policy
            .iter()
            .map(|step| {
                Ok(WireStep {
                    command: step.command,
                    parameters: octets(&step.parameters)?,
                })
            })
            .collect();
        let wire = WireFile {
            kind: self.kind.identifier(),
            empty_auth: self
                .empty_auth
                .then(|| Any::new(Tag::Boolean, [0xff]))
                .transpose()
                .map_err(|_| Tss2Error::Asn1)?,
            policy: Some(steps?).filter(|steps| !steps.is_empty()),
            secret: None,
            approved: None,
            description: None,
            rsa_parent: None,
            parent: self.parent,
            public: octets(&self.public)?,
            private: octets(&self.private)?,
        };
        wire.to_der().map_err(|_| Tss2Error::Asn1)
    }
}
