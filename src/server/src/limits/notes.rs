//! What strangers cause to be written: notes, few, and beside the answer. An answer that waited for the disk would tell who
//! is enrolled.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use touchmark_store::Store;

use super::{Rates, party};

/// Notes of one source per second; ten times as many at once.
const PER_SOURCE: u32 = 1;
/// Notes of all sources per second; twice as many at once.
const OVERALL: u32 = 10;
/// Notes that wait for the disk.
const WAITING: usize = 64;

/// A note to write.
enum Note {
    Host {
        id: String,
        text: String,
        now: u64,
    },
    Pending {
        digest: [u8; 32],
        text: String,
        now: u64,
    },
    Known {
        digests: Vec<[u8; 32]>,
    },
}

/// Takes notes. A note that finds no room is dropped: the next attempt brings another.
pub(crate) struct Notes {
    /// Of hosts that are enrolled: strangers with keys of their own invention take nothing from these.
    hosts: Rates<IpAddr>,
    pending: Rates<IpAddr>,
    sender: Sender<Note>,
}

impl Notes {
    /// Notes that a task of its own writes.
    pub(crate) fn new(store: Store, now: Instant) -> Self {
        let (sender, receiver) = channel(WAITING);
        tokio::spawn(write(store, receiver));
        Self {
            hosts: Rates::new(PER_SOURCE, OVERALL, now),
            pending: Rates::new(PER_SOURCE, OVERALL, now),
            sender,
        }
    }

    /// About an attempt in an enrolled host's name that could not be authenticated.
    pub(crate) fn host(&self, id: &str, text: String, source: SocketAddr, now: u64) {
        if self.hosts.admit(party(source.ip()), Instant::now()) {
            let id = id.to_owned();
            let _ = self.sender.try_send(Note::Host { id, text, now });
        }
    }

    /// About an endorsement key that nobody enrolled.
    pub(crate) fn pending(&self, digest: [u8; 32], text: String, source: SocketAddr, now: u64) {
        if self.pending.admit(party(source.ip()), Instant::now()) {
            let _ = self.sender.try_send(Note::Pending { digest, text, now });
        }
    }

    /// About endorsement keys of a TPM that is enrolled by one of them: none of them waits to be enrolled.
    pub(crate) fn known(&self, digests: Vec<[u8; 32]>, source: SocketAddr) {
        if self.pending.admit(party(source.ip()), Instant::now()) {
            let _ = self.sender.try_send(Note::Known { digests });
        }
    }
}

async fn write(store: Store, mut notes: Receiver<Note>) {
    while let Some(note) = notes.recv().await {
        let written = match note {
            Note::Host { id, text, now } => store.note_host(&id, &text, now).await,
            Note::Pending { digest, text, now } => store.note_pending(&digest, &text, now).await,
            Note::Known { digests } => store.forget_pending(&digests).await,
        };
        if let Err(error) = written {
            tracing::warn!(%error, "a note was not written");
        }
    }
}
