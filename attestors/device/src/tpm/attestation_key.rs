//! The attestation key: of our own making, another one for each trust domain; or, in a TPM whose cloud made and certified one, that one.

use serde_bytes::ByteBuf;
use touchmark_crypto::{PublicKey, x509::DeviceCertificate};
use touchmark_rats::tpm::TpmDeviceKey;
use tss_esapi::{
    handles::KeyHandle, interface_types::resource_handles::Hierarchy, structures::Public, traits::Marshall,
};

use super::{
    Connection, Failure,
    endorsement::{MAX_CHAIN, certificates},
    objects::Identity,
    own_signature, templates,
};

/// Where Azure keeps the certificate of the attestation key that it made for a virtual machine,
const CERTIFICATE_INDEX: u32 = 0x01c1_01d0;
/// and that key. It takes no authorization.
const HANDLE: u32 = 0x8100_0003;

/// An attestation key that was found in the TPM with its certificate.
#[derive(Clone)]
pub(crate) struct Certified {
    handle: KeyHandle,
    public: Public,
    certificate: Vec<u8>,
    intermediates: Vec<Vec<u8>>,
}

impl Connection {
    /// The attestation key of a trust domain, with the certificate that a cloud gave it.
    pub(crate) fn attestation_description(&mut self, trust_domain: &str) -> Result<TpmDeviceKey, Failure> {
        let failed = |error| Failure::tss("attestation key", error);
        self.attestation_key(trust_domain)?;
        let public = self
            .attestation_public(trust_domain)?
            .marshall()
            .map_err(failed)?;
        let (certificate, intermediates) = match self.certified_key()? {
            Some(key) => (Some(key.certificate), key.intermediates),
            None => (None, Vec::new()),
        };
        Ok(TpmDeviceKey {
            public: ByteBuf::from(public),
            certificate: certificate.map(ByteBuf::from),
            intermediates: intermediates.into_iter().map(ByteBuf::from).collect(),
        })
    }

    /// The public area of the attestation key, once it was asked for.
    pub(crate) fn attestation_public(&self, trust_domain: &str) -> Result<&Public, Failure> {
        let certified = self.certified.as_ref().and_then(Option::as_ref);
        certified
            .map(|key| &key.public)
            .or_else(|| self.attestation_areas.get(trust_domain))
            .ok_or_else(|| Failure::untrusted("attestation key is not at hand"))
    }

    /// The handle of the attestation key, made where it is ours and not loaded.
    pub(crate) fn attestation_key(&mut self, trust_domain: &str) -> Result<KeyHandle, Failure> {
        if let Some(certified) = self.certified_key()? {
            return Ok(certified.handle);
        }
        let identity = Identity::Attestation(trust_domain.to_owned());
        if let Some(handle) = self.loaded(&identity) {
            return Ok(handle);
        }
        let template =
            templates::attestation(trust_domain).map_err(|error| Failure::tss("attestation key", error))?;
        let (handle, public) =
            self.primary_with_public(Hierarchy::Endorsement, &template, "attestation key")?;
        self.attestation_areas.insert(trust_domain.to_owned(), public);
        self.remember(identity, handle)?;
        Ok(handle)
    }

    /// The key that a cloud certified, looked for once per connection.
    fn certified_key(&mut self) -> Result<Option<Certified>, Failure> {
        if let Some(known) = &self.certified {
            return Ok(known.clone());
        }
        let found = match self.find_certified() {
            // What is there and cannot be read or used is nobody's promise: the key of our own making does. A device that is away is
            // another matter.
            Err(failure) if failure.is_transient() => return Err(failure),
            Err(_) => None,
            Ok(found) => found,
        };
        self.certified = Some(found.clone());
        Ok(found)
    }

    fn find_certified(&mut self) -> Result<Option<Certified>, Failure> {
        let contents = self.nv_read(CERTIFICATE_INDEX)?.unwrap_or_default();
        let mut certificates = certificates(&contents).into_iter();
        let Some(certificate) = certificates.next() else {
            return Ok(None);
        };
        let Some(object) = self.persistent("attestation key", HANDLE)? else {
            return Ok(None);
        };
        let handle = KeyHandle::from(object);
        let read = self.context.read_public(handle);
        let (public, _, _) = read.map_err(|error| Failure::tss("attestation key", error))?;
        Ok(attests(&public, &certificate).then(|| Certified {
            handle,
            public,
            certificate,
            intermediates: certificates.take(MAX_CHAIN).collect(),
        }))
    }
}

/// Whether a key signs what its TPM made, cannot leave it, and is the one that the certificate is of.
fn attests(public: &Public, certificate: &[u8]) -> bool {
    let attributes = public.object_attributes();
    let held = attributes.fixed_tpm() && attributes.restricted() && attributes.sign_encrypt();
    let certified = DeviceCertificate::parse(certificate)
        .ok()
        .and_then(|read| PublicKey::from_spki(&read.facts.spki).ok());
    held && !attributes.decrypt() && certified.is_some() && certified == own_signature::public_key(public)
}
