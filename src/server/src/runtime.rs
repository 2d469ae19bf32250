//! Lists of what hosts' kernels measure while they run: from where they are asked for, and what they are held against.

use std::sync::{Arc, PoisonError};

use touchmark_rats::{PcrSelection, RuntimeList};
use touchmark_store::{Host, RuntimeKept, StoreError};
use touchmark_verifier::{Challenge, FileList, KnownLists};

use crate::{ServerError, Service, message::Received};

/// The offsets of a challenge: of the boot log and, where its register is quoted, of the list.
pub(crate) fn offsets(selection: &PcrSelection, boot: u64, list: u64) -> Vec<u64> {
    if selection.covers_runtime() {
        vec![boot, list]
    } else {
        vec![boot]
    }
}

/// Whether an appraisal can go on from what is on record: the lists of known files that were there are there still and, if there are more
/// now, it is known which files were not known.
pub(crate) fn goes_on(kept: &RuntimeKept, known: &KnownLists) -> bool {
    let now = known.ids();
    kept.lists.iter().all(|list| now.contains(list)) && (kept.complete || kept.lists == now)
}

/// The state that an answer to a challenge goes on from: none where it was asked for from the beginning. `None` where something else is
/// on record by now.
pub(crate) async fn on_record(
    service: &Service,
    host: &Host,
    challenge: &Challenge,
    known: &KnownLists,
) -> Result<Option<Option<Vec<u8>>>, StoreError> {
    let from = match challenge.offsets.as_slice() {
        [_] | [_, 0] => return Ok(Some(None)),
        [_, from] => *from,
        _ => return Ok(None),
    };
    let kept = service.store.runtime(&host.id, true).await?;
    let kept = kept.filter(|kept| kept.offset == from && goes_on(kept, known));
    Ok(kept.map(|kept| Some(kept.state)))
}

/// The list in a message, where its challenge asked for one.
pub(crate) fn list<'a>(
    received: &'a Received,
    state: Option<&'a [u8]>,
    known: &'a KnownLists,
) -> Option<RuntimeList<'a>> {
    received
        .challenge
        .selection
        .covers_runtime()
        .then_some(RuntimeList {
            state,
            gained: &received.runtime,
            files: known,
        })
}

impl Service {
    /// The lists of known files for a host.
    pub(crate) fn known_files(&self, host: &Host) -> KnownLists {
        KnownLists::for_host(&self.file_lists(), &host.labels)
    }

    /// All lists of known files.
    pub(crate) fn file_lists(&self) -> Arc<Vec<Arc<FileList>>> {
        Arc::clone(&self.files.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the lists of known files again after they were applied.
    pub(crate) async fn reload_files(&self) -> Result<(), ServerError> {
        let mut lists = Vec::new();
        for stored in self.store.files().await? {
            let label = stored.label;
            let list = FileList::from_bytes(&label, stored.hosts, &stored.body).map_err(|error| {
                ServerError::Other(format!("stored list of known files {label:?}: {error}"))
            })?;
            lists.push(Arc::new(list));
        }
        *self.files.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(lists);
        Ok(())
    }
}
