//! Loaded objects: few, found again by what they are, and flushed when room is needed.
//!
//! A bare TPM has three transient slots, a resource manager gives more. Whoever needs a slot and finds none has the
//! least recently used object flushed that it does not need itself. Primaries are made again when needed: from the same
//! template comes the same key.

use tss_esapi::{
    Error,
    constants::{CapabilityType, response_code::Tss2ResponseCodeKind as Kind},
    handles::{KeyHandle, ObjectHandle, PersistentTpmHandle, TpmHandle},
    structures::CapabilityData,
};

use super::{Connection, Failure};
use crate::fault::kind;

/// First handle of a transient object.
const TRANSIENT_FIRST: u32 = 0x8000_0000;
/// Most handles asked for.
const MAX_LEFTOVERS: u32 = 64;
/// Most objects kept loaded.
const MAX_LOADED: usize = 8;

/// What an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The attestation key of a trust domain.
    Attestation(String),
    /// The storage primary.
    Storage,
    /// A loaded key, by the digest of its file.
    Key([u8; 32]),
}

/// The loaded objects, the most recently used last.
#[derive(Default)]
pub(crate) struct Objects(Vec<(Identity, KeyHandle)>);

impl Connection {
    /// The handle of an object that is loaded already; it becomes the most recently used.
    pub(crate) fn loaded(&mut self, identity: &Identity) -> Option<KeyHandle> {
        let at = self.objects.0.iter().position(|(other, _)| other == identity)?;
        let entry = self.objects.0.remove(at);
        let handle = entry.1;
        self.objects.0.push(entry);
        Some(handle)
    }

    /// Remembers an object that was just loaded, making room by the same rule.
    pub(crate) fn remember(&mut self, identity: Identity, handle: KeyHandle) -> Result<(), Failure> {
        while self.objects.0.len() >= MAX_LOADED {
            self.flush_oldest(&[])?;
        }
        self.objects.0.push((identity, handle));
        Ok(())
    }

    /// Runs a command that needs a slot; while there is none, flushes objects other than those in `keep`.
    pub(crate) fn with_room<T>(
        &mut self,
        what: &'static str,
        keep: &[KeyHandle],
        command: impl Fn(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        loop {
            match command(self) {
                Err(error) if matches!(kind(error), Some(Kind::ObjectMemory)) => {
                    if !self.flush_oldest(keep)? {
                        return Err(Failure::tss(what, error));
                    }
                }
                other => return other.map_err(|error| Failure::tss(what, error)),
            }
        }
    }

    /// Flushes the least recently used object outside `keep`; false where there is none.
    pub(crate) fn flush_oldest(&mut self, keep: &[KeyHandle]) -> Result<bool, Failure> {
        let Some(at) = self
            .objects
            .0
            .iter()
            .position(|(_, handle)| !keep.contains(handle))
        else {
            return self.flush_leftovers();
        };
        let (_, handle) = self.objects.0.remove(at);
        self.context
            .flush_context(handle.into())
            .map_err(|error| Failure::tss("flush", error))?;
        Ok(true)
    }

    /// A persistent object; `None` where there is none.
    pub(crate) fn persistent(
        &mut self,
        what: &'static str,
        handle: u32,
    ) -> Result<Option<ObjectHandle>, Failure> {
        let failed = |error| Failure::tss(what, error);
        let handle = PersistentTpmHandle::new(handle).map_err(failed)?;
        match self.context.tr_from_tpm_public(TpmHandle::Persistent(handle)) {
            Ok(object) => Ok(Some(object)),
            Err(error) if matches!(kind(error), Some(Kind::Handle | Kind::ReferenceH0)) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// On a TPM without a resource manager, what a process that was killed had loaded stays, and takes all slots. When
    /// none of them holds anything of ours, they are flushed; behind a resource manager this finds nothing.
    fn flush_leftovers(&mut self) -> Result<bool, Failure> {
        let failed = |error| Failure::tss("flush", error);
        if !self.objects.0.is_empty() {
            return Ok(false);
        }
        let (data, _) = self
            .context
            .get_capability(CapabilityType::Handles, TRANSIENT_FIRST, MAX_LEFTOVERS)
            .map_err(failed)?;
        let CapabilityData::Handles(handles) = data else {
            return Ok(false);
        };
        let mut flushed = false;
        for handle in handles.into_inner() {
            let object = self.context.tr_from_tpm_public(handle).map_err(failed)?;
            self.context.flush_context(object).map_err(failed)?;
            flushed = true;
        }
        Ok(flushed)
    }
}
