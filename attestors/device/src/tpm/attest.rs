//! What the attestation key does. Every signature is checked before it leaves this process: a TPM or a bus that
//! answers wrongly is found out here.

use serde_bytes::ByteBuf;
use touchmark_api::device::Activation;
use touchmark_rats::{
    PcrSelection,
    tpm::{TpmAttestation, TpmPcrValue},
};
use tss_esapi::{
    handles::AuthHandle,
    interface_types::session_handles::{AuthSession, PolicySession},
    structures::{
        Attest, Data, Digest, EncryptedSecret, IdObject, Nonce, PcrSelectionList, Signature, SignatureScheme,
    },
    traits::Marshall,
};

use super::{Connection, Failure, own_signature, selection};

impl Connection {
    /// TPM2_ActivateCredential; the secret comes back through a session that is salted to the endorsement key.
    pub(crate) fn activate(&mut self, activation: &Activation) -> Result<Vec<u8>, Failure> {
        let failed = |error| Failure::tss("activation", error);
        let endorsement = self.endorsement(&activation.endorsement_name)?.handle;
        let blob = IdObject::try_from(unsized_bytes(&activation.credential_blob)?).map_err(failed)?;
        let secret =
            EncryptedSecret::try_from(unsized_bytes(&activation.encrypted_secret)?).map_err(failed)?;
        self.with_encryption(endorsement, |this, encryption| {
            this.with_policy(|this, policy| {
                this.endorsement_policy(policy)?;
                let attestation = this.attestation_key(&activation.trust_domain)?;
                let sessions = (
                    Some(AuthSession::Password),
                    Some(AuthSession::PolicySession(policy)),
                    Some(encryption),
                );
                let secret = this.with_room("activation", &[attestation], |this| {
                    let (blob, secret) = (blob.clone(), secret.clone());
                    this.with_sessions(sessions, |context| {
                        context.activate_credential(attestation, endorsement, blob, secret)
                    })
                })?;
                Ok(secret.to_vec())
            })
        })
    }

    /// PolicySecret(endorsement): what the endorsement key's template asks for.
    fn endorsement_policy(&mut self, policy: PolicySession) -> Result<(), Failure> {
        let auth = self.endorsement_auth;
        self.with_hierarchy(auth, "activation", |context| {
            context
                .policy_secret(
                    policy,
                    AuthHandle::Endorsement,
                    Nonce::default(),
                    Digest::default(),
                    Nonce::default(),
                    None,
                )
                .map(|_| ())
        })
    }

    /// TPM2_Certify of a key.
    pub(crate) fn certify(
        &mut self,
        trust_domain: &str,
        key: &[u8],
        qualifying: &[u8],
    ) -> Result<TpmAttestation, Failure> {
        let failed = |error| Failure::tss("certify", error);
        let attestation = self.attestation_key(trust_domain)?;
        let object = self.load(key, &[attestation])?.handle;
        let data = Data::try_from(qualifying).map_err(failed)?;
        let (attest, signature) = self
            .with_passwords(2, |context| {
                context.certify(object.into(), attestation, data, SignatureScheme::Null)
            })
            .map_err(failed)?;
        self.checked(trust_domain, &attest, &signature)
    }

    /// TPM2_Quote.
    pub(crate) fn quote(
        &mut self,
        trust_domain: &str,
        registers: &PcrSelection,
        qualifying: &[u8],
    ) -> Result<TpmAttestation, Failure> {
        let failed = |error| Failure::tss("quote", error);
        let attestation = self.attestation_key(trust_domain)?;
        let list = selection::to_tss(registers)?;
        let data = Data::try_from(qualifying).map_err(failed)?;
        let (attest, signature) = self
            .with_passwords(1, |context| {
                context.quote(attestation, data, SignatureScheme::Null, list)
            })
            .map_err(failed)?;
        self.checked(trust_domain, &attest, &signature)
    }

    /// The values of registers; a TPM returns at most eight at a time.
    pub(crate) fn registers(&mut self, registers: &PcrSelection) -> Result<Vec<TpmPcrValue>, Failure> {
        let failed = |error| Failure::tss("registers", error);
        let mut values = Vec::new();
        for bank in &registers.0 {
            for indices in bank.indices.chunks(8) {
                let part = touchmark_rats::PcrBank {
                    bank: bank.bank,
                    indices: indices.to_vec(),
                };
                let part = PcrSelection(vec![part]);
                let list: PcrSelectionList = selection::to_tss(&part)?;
                let (_, _, digests) = self.context.pcr_read(list).map_err(failed)?;
                let digests = digests.value();
                if digests.len() != indices.len() {
                    return Err(Failure::refused(format!(
                        "the TPM has no {} bank",
                        bank.bank.name()
                    )));
                }
                let wire = part.to_wire();
                let alg = wire.first().map_or(0, |(alg, _)| *alg);
                values.extend(indices.iter().zip(digests).map(|(index, digest)| TpmPcrValue {
                    bank: alg,
                    index: *index,
                    value: ByteBuf::from(digest.to_vec()),
                }));
            }
        }
        Ok(values)
    }

    /// An attestation as bytes, after checking its signature over exactly these bytes: the library hands over parsed
    /// structures, and marshals them again.
    fn checked(
        &self,
        trust_domain: &str,
        attest: &Attest,
        signature: &Signature,
    ) -> Result<TpmAttestation, Failure> {
        let failed = |error| Failure::tss("attestation", error);
        let attest = attest.marshall().map_err(failed)?;
        own_signature::verify(self.attestation_public(trust_domain)?, &attest, signature)?;
        let signature = signature.marshall().map_err(failed)?;
        Ok(TpmAttestation {
            attest: ByteBuf::from(attest),
            signature: ByteBuf::from(signature),
        })
    }
}

/// The contents of a TPM2B.
fn unsized_bytes(sized: &[u8]) -> Result<Vec<u8>, Failure> {
    match sized.split_at_checked(2) {
        Some((size, contents)) if usize::from(u16::from_be_bytes([size[0], size[1]])) == contents.len() => {
            Ok(contents.to_vec())
        }
        _ => Err(Failure::refused("a credential whose size is not what it says")),
    }
}
