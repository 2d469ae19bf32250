//! Signing keys: children of the storage primary, on disk only as TSS2 PRIVATE KEY files.

use serde_bytes::ByteBuf;
use touchmark_api::device::KeyDescription;
use touchmark_crypto::{HashAlg, KeyKind, sha256};
use touchmark_custody::tss2::{PARENT_OWNER, POLICY_PCR, PolicyStep, Tss2Key};
use touchmark_rats::{PcrSelection, tpm::TpmPcrValue};
use tss_esapi::{
    handles::KeyHandle,
    interface_types::{resource_handles::Hierarchy, session_handles::AuthSession},
    structures::{Digest, HashcheckTicket, PcrSelectionList, Private, Public, Signature, SignatureScheme},
    traits::{Marshall, UnMarshall},
    tss2_esys::{TPM2B_DIGEST, TPMT_TK_HASHCHECK},
};

use super::{Connection, Failure, objects::Identity, own_signature, selection, templates};

/// A key that is loaded.
pub(crate) struct Loaded {
    pub(crate) handle: KeyHandle,
    file: Tss2Key,
}

/// How often a signature is tried again because a register moved between policy and use.
const ATTEMPTS: usize = 16;

impl Connection {
    /// Makes a signing key, its use sealed to what the registers hold now.
    pub(crate) fn create_key(&mut self, seal: Option<&PcrSelection>) -> Result<KeyDescription, Failure> {
        let failed = |error| Failure::tss("create key", error);
        let policy = seal
            .map(|registers| self.register_policy(registers))
            .transpose()?;
        let storage = self.storage()?;
        let template =
            templates::signing(policy.as_ref().map(|policy| policy.digest.as_slice())).map_err(failed)?;
        let created = self.with_room("create key", &[storage], |this| {
            let template = template.clone();
            this.with_passwords(1, |context| {
                context.create(storage, template, None, None, None, None)
            })
        })?;
        let public = created.out_public.marshall().map_err(failed)?;
        let (step, sealed_to) = policy.map(|policy| (policy.step, policy.values)).unzip();
        let file = Tss2Key {
            empty_auth: true,
            policy: step.into_iter().collect(),
            parent: PARENT_OWNER,
            public: sized(&public),
            private: sized(created.out_private.value()),
        };
        let der = file
            .to_der()
            .map_err(|error| Failure::refused(error.to_string()))?;
        // Loaded at once: certification and proof of possession follow.
        self.load(&der, &[])?;
        let description = describe(der, &created.out_public, public)?;
        Ok(KeyDescription {
            sealed_to: sealed_to.unwrap_or_default(),
            ..description
        })
    }

    /// Loads a key to see that this TPM can: the TPM checks that private and public part belong together.
    pub(crate) fn check_key(&mut self, der: &[u8]) -> Result<KeyDescription, Failure> {
        let loaded = self.load(der, &[])?;
        let (public, area) = public_area(&loaded.file)?;
        describe(der.to_vec(), &public, area)
    }

    /// Signs a message; a key sealed to registers is used through a policy session.
    pub(crate) fn sign(&mut self, der: &[u8], message: &[u8]) -> Result<Vec<u8>, Failure> {
        let loaded = self.load(der, &[])?;
        let digest = sha256(&[message]);
        let sealed = match loaded.file.policy.as_slice() {
            [] => None,
            [step] if step.command == POLICY_PCR => Some(registers_of(step)?),
            _ => return Err(Failure::refused("the key has a policy that is not one PolicyPCR")),
        };
        let mut attempt = 1;
        loop {
            let signed = match &sealed {
                None => self.sign_plainly(loaded.handle, &digest),
                Some(registers) => self.sign_sealed(loaded.handle, &digest, registers),
            };
            match signed {
                // A register moved between PolicyPCR and Sign; IMA does that all day, to registers we do not seal to.
                Err(failure) if attempt < ATTEMPTS && failure.is_pcr_changed() => attempt += 1,
                other => return other,
            }
        }
    }

    fn sign_plainly(&mut self, key: KeyHandle, digest: &[u8]) -> Result<Vec<u8>, Failure> {
        let (digest, ticket) = to_sign(digest)?;
        let signature = self
            .with_passwords(1, |context| {
                context.sign(key, digest, SignatureScheme::Null, ticket)
            })
            .map_err(|error| Failure::tss("sign", error))?;
        ecdsa(&signature)
    }

    fn sign_sealed(
        &mut self,
        key: KeyHandle,
        digest: &[u8],
        registers: &PcrSelectionList,
    ) -> Result<Vec<u8>, Failure> {
        let failed = |error| Failure::tss("sign", error);
        let (digest, ticket) = to_sign(digest)?;
        self.with_policy(|this, policy| {
            this.context
                .policy_pcr(policy, Digest::default(), registers.clone())
                .map_err(failed)?;
            let sessions = (Some(AuthSession::PolicySession(policy)), None, None);
            let signature = this
                .with_sessions(sessions, |context| {
                    context.sign(key, digest, SignatureScheme::Null, ticket)
                })
                .map_err(failed)?;
            ecdsa(&signature)
        })
    }

    /// Loads a key below the storage primary, or finds it loaded.
    pub(crate) fn load(&mut self, der: &[u8], keep: &[KeyHandle]) -> Result<Loaded, Failure> {
        let file = Tss2Key::from_der(der).map_err(|error| Failure::refused(error.to_string()))?;
        if file.parent != PARENT_OWNER || !file.empty_auth {
            return Err(Failure::refused(
                "only keys below the owner hierarchy's storage primary, without an authorization value, are used",
            ));
        }
        let identity = Identity::Key(sha256(&[der]));
        if let Some(handle) = self.loaded(&identity) {
            return Ok(Loaded { handle, file });
        }
        let (public, _) = public_area(&file)?;
        let private = contents(&file.private)?.to_vec();
        let storage = self.storage()?;
        let keep = [keep, &[storage]].concat();
        let handle = self.with_room("load key", &keep, |this| {
            let private = Private::try_from(private.clone())?;
            let public = public.clone();
            this.with_passwords(1, |context| context.load(storage, private, public))
        })?;
        self.remember(identity, handle)?;
        Ok(Loaded { handle, file })
    }

    fn storage(&mut self) -> Result<KeyHandle, Failure> {
        if let Some(handle) = self.loaded(&Identity::Storage) {
            return Ok(handle);
        }
        let template = templates::storage().map_err(|error| Failure::tss("storage primary", error))?;
        let handle = self.primary(Hierarchy::Owner, &template, "storage primary")?;
        self.remember(Identity::Storage, handle)?;
        Ok(handle)
    }

    /// Makes a primary; the caller keeps or flushes it.
    pub(crate) fn primary(
        &mut self,
        hierarchy: Hierarchy,
        template: &Public,
        what: &'static str,
    ) -> Result<KeyHandle, Failure> {
        self.primary_with_public(hierarchy, template, what)
            .map(|(handle, _)| handle)
    }

    /// Makes a primary and returns its public area too.
    pub(crate) fn primary_with_public(
        &mut self,
        hierarchy: Hierarchy,
        template: &Public,
        what: &'static str,
    ) -> Result<(KeyHandle, Public), Failure> {
        let has_auth = match hierarchy {
            Hierarchy::Owner => self.owner_auth,
            _ => self.endorsement_auth,
        };
        loop {
            let template = template.clone();
            let made = self.with_hierarchy(has_auth, what, |context| {
                context.create_primary(hierarchy, template, None, None, None, None)
            });
            match made {
                Err(failure) if failure.is_object_memory() => {
                    if !self.flush_oldest(&[])? {
                        return Err(failure);
                    }
                }
                other => return other.map(|made| (made.key_handle, made.out_public)),
            }
        }
    }

    fn register_policy(&mut self, registers: &PcrSelection) -> Result<RegisterPolicy, Failure> {
        let values = self.registers(registers)?;
        let parts: Vec<&[u8]> = values.iter().map(|value| value.value.as_slice()).collect();
        let pcr_digest = HashAlg::Sha256.digest(&parts);
        let list = selection::marshal(registers);
        let digest = sha256(&[&[0; 32], &POLICY_PCR.to_be_bytes(), &list, &pcr_digest]).to_vec();
        let step = PolicyStep {
            command: POLICY_PCR,
            parameters: [sized(&pcr_digest), list].concat(),
        };
        Ok(RegisterPolicy { digest, step, values })
    }
}

/// A PolicyPCR: its digest, the step that goes into the key's file, and the values it is over.
struct RegisterPolicy {
    digest: Vec<u8>,
    step: PolicyStep,
    values: Vec<TpmPcrValue>,
}

/// The registers that a PolicyPCR step names: TPM2B_DIGEST, then TPML_PCR_SELECTION.
fn registers_of(step: &PolicyStep) -> Result<PcrSelectionList, Failure> {
    let malformed = || Failure::refused("the key's PolicyPCR step cannot be read");
    let size = step
        .parameters
        .get(..2)
        .and_then(|size| size.try_into().ok())
        .ok_or_else(malformed)?;
    let list = step
        .parameters
        .get(2 + usize::from(u16::from_be_bytes(size))..)
        .ok_or_else(malformed)?;
    let selection = selection::unmarshal(list).ok_or_else(malformed)?;
    selection::to_tss(&selection)
}

fn describe(der: Vec<u8>, public: &Public, area: Vec<u8>) -> Result<KeyDescription, Failure> {
    let attributes = match public {
        Public::Ecc {
            object_attributes, ..
        } => *object_attributes,
        _ => return Err(Failure::refused("not an elliptic-curve key")),
    };
    let held = attributes.fixed_tpm() && attributes.fixed_parent() && attributes.sensitive_data_origin();
    let key = own_signature::public_key(public)
        .filter(|key| key.kind() == KeyKind::P256)
        .ok_or_else(|| Failure::refused("not a P-256 key"))?;
    Ok(KeyDescription {
        key: ByteBuf::from(der),
        public: ByteBuf::from(area),
        spki: ByteBuf::from(key.spki()),
        exportable: !held,
        sealed_to: Vec::new(),
    })
}

fn public_area(file: &Tss2Key) -> Result<(Public, Vec<u8>), Failure> {
    let area = contents(&file.public)?;
    let public =
        Public::unmarshall(area).map_err(|_| Failure::refused("the key's public area cannot be read"))?;
    Ok((public, area.to_vec()))
}

/// What `TPM2_Sign` takes for a key that is not restricted: a digest, and a ticket that says nothing.
fn to_sign(digest: &[u8]) -> Result<(Digest, HashcheckTicket), Failure> {
    let failed = |error| Failure::tss("sign", error);
    let ticket = HashcheckTicket::try_from(TPMT_TK_HASHCHECK {
        tag: 0x8024,
        hierarchy: 0x4000_0007,
        digest: TPM2B_DIGEST::default(),
    });
    Ok((Digest::try_from(digest).map_err(failed)?, ticket.map_err(failed)?))
}

fn ecdsa(signature: &Signature) -> Result<Vec<u8>, Failure> {
    match signature {
        Signature::EcDsa(parts) => own_signature::fixed(parts, 32),
        _ => Err(Failure::untrusted(
            "the TPM signed with another scheme than the key's",
        )),
    }
}

fn sized(contents: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(contents.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes()
        .to_vec();
    out.extend_from_slice(contents);
    out
}

fn contents(sized: &[u8]) -> Result<&[u8], Failure> {
    match sized.split_at_checked(2) {
        Some((size, contents)) if usize::from(u16::from_be_bytes([size[0], size[1]])) == contents.len() => {
            Ok(contents)
        }
        _ => Err(Failure::refused("a key file whose sizes are not what they say")),
    }
}
