//! Endorsement keys: found where the TCG profile puts them, made from its templates and kept where they are missing.

use serde_bytes::ByteBuf;
use touchmark_rats::tpm::TpmDeviceKey;
use tss_esapi::{
    Error,
    handles::{KeyHandle, ObjectHandle, PersistentTpmHandle},
    interface_types::{
        dynamic_handles::Persistent,
        resource_handles::{Hierarchy, Provision},
    },
    structures::Public,
    traits::Marshall,
};

use super::{Connection, Failure, templates};

/// Index of the endorsement certificate chain (TCG EK Credential Profile 2.2.1.5.2).
const CHAIN_INDEX: u32 = 0x01c0_0100;
/// Most certificates taken from the chain.
pub(crate) const MAX_CHAIN: usize = 4;

/// An endorsement key's places.
struct Place {
    handle: u32,
    certificate: u32,
    template: fn() -> Result<Public, Error>,
}

/// P-256 first: it is the faster one to make and to use.
const PLACES: [Place; 2] = [
    Place {
        handle: 0x8101_000a,
        certificate: 0x01c0_000a,
        template: templates::endorsement_p256,
    },
    Place {
        handle: 0x8101_0001,
        certificate: 0x01c0_0002,
        template: templates::endorsement_rsa,
    },
];

/// A persistent endorsement key, open on this connection.
pub(crate) struct Endorsement {
    pub(crate) handle: KeyHandle,
    pub(crate) public: Vec<u8>,
    pub(crate) name: Vec<u8>,
}

impl Connection {
    /// Every endorsement key of this TPM with its certificate. A TPM without any gets a P-256 one, which no maker
    /// vouches for.
    pub(crate) fn endorsements(&mut self) -> Result<Vec<TpmDeviceKey>, Failure> {
        let chain = self.nv_read(CHAIN_INDEX)?.unwrap_or_default();
        let intermediates: Vec<ByteBuf> = certificates(&chain)
            .into_iter()
            .take(MAX_CHAIN)
            .map(ByteBuf::from)
            .collect();
        let mut found = Vec::new();
        for place in &PLACES {
            let certificate = self
                .nv_read(place.certificate)?
                .and_then(|contents| certificates(&contents).into_iter().next());
            let endorsement = match self.endorsement_at(place)? {
                Some(endorsement) => endorsement,
                None if certificate.is_some() => self.make_endorsement(place)?,
                None => continue,
            };
            found.push(described(endorsement, certificate, &intermediates));
        }
        if let (true, Some(place)) = (found.is_empty(), PLACES.first()) {
            let endorsement = self.make_endorsement(place)?;
            found.push(described(endorsement, None, &[]));
        }
        Ok(found)
    }

    /// The endorsement key of this Name.
    pub(crate) fn endorsement(&mut self, name: &[u8]) -> Result<Endorsement, Failure> {
        for place in &PLACES {
            if let Some(endorsement) = self.endorsement_at(place)?.filter(|found| found.name == name) {
                return Ok(endorsement);
            }
        }
        Err(Failure::refused(
            "the challenge is for an endorsement key that this TPM does not have",
        ))
    }

    /// An endorsement key that is persistent already, to salt sessions to.
    pub(crate) fn any_endorsement(&mut self) -> Result<Option<KeyHandle>, Failure> {
        for place in &PLACES {
            if let Some(endorsement) = self.endorsement_at(place)? {
                return Ok(Some(endorsement.handle));
            }
        }
        Ok(None)
    }

    fn endorsement_at(&mut self, place: &Place) -> Result<Option<Endorsement>, Failure> {
        if let Some((_, endorsement)) = self
            .endorsements
            .iter()
            .find(|(handle, _)| *handle == place.handle)
        {
            return Ok(Some(Endorsement {
                handle: endorsement.handle,
                public: endorsement.public.clone(),
                name: endorsement.name.clone(),
            }));
        }
        let object = self.persistent("endorsement key", place.handle)?;
        object.map(|object| self.opened(place, object)).transpose()
    }

    fn opened(&mut self, place: &Place, object: ObjectHandle) -> Result<Endorsement, Failure> {
        let failed = |error| Failure::tss("endorsement key", error);
        let handle = KeyHandle::from(object);
        let (public, name, _) = self.context.read_public(handle).map_err(failed)?;
        let public = public.marshall().map_err(failed)?;
        let name = name.value().to_vec();
        let endorsement = Endorsement {
            handle,
            public: public.clone(),
            name: name.clone(),
        };
        self.endorsements
            .push((place.handle, Endorsement { handle, public, name }));
        Ok(endorsement)
    }

    /// Makes the key from its template and makes it persistent: an RSA key takes a real chip many seconds, so this is
    /// done once in its life.
    fn make_endorsement(&mut self, place: &Place) -> Result<Endorsement, Failure> {
        let failed = |error| Failure::tss("endorsement key", error);
        let template = (place.template)().map_err(failed)?;
        let transient = self.primary(Hierarchy::Endorsement, &template, "endorsement key")?;
        let persistent = PersistentTpmHandle::new(place.handle).map_err(failed)?;
        let kept = self.with_hierarchy(self.owner_auth, "endorsement key", |context| {
            context.evict_control(
                Provision::Owner,
                transient.into(),
                Persistent::Persistent(persistent),
            )
        });
        self.context.flush_context(transient.into()).map_err(failed)?;
        self.opened(place, kept?)
    }
}

fn described(
    endorsement: Endorsement,
    certificate: Option<Vec<u8>>,
    intermediates: &[ByteBuf],
) -> TpmDeviceKey {
    let intermediates = if certificate.is_some() {
        intermediates.to_vec()
    } else {
        Vec::new()
    };
    TpmDeviceKey {
        public: ByteBuf::from(endorsement.public),
        certificate: certificate.map(ByteBuf::from),
        intermediates,
    }
}

/// The DER certificates at the start of an index; makers pad behind them.
pub(crate) fn certificates(mut contents: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let [0x30, 0x82, high, low, ..] = *contents {
        let length = usize::from(u16::from_be_bytes([high, low])) + 4;
        let Some((certificate, rest)) = contents.split_at_checked(length) else {
            break;
        };
        found.push(certificate.to_vec());
        contents = rest;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_split_and_padding_is_dropped() {
        let one = [vec![0x30, 0x82, 1, 0], vec![7; 256]].concat();
        let contents = [one.clone(), one.clone(), vec![0xff; 30]].concat();
        assert_eq!(certificates(&contents), vec![one.clone(), one.clone()]);
        assert!(certificates(&one[..100]).is_empty());
        assert!(certificates(&[]).is_empty());
    }
}
