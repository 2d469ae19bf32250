//! Reading a second message as it arrives: cookie first, MAC over everything, digest for its consumption.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use http_body_util::BodyExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use touchmark_api::frame::{FrameError, RUNTIME, SECTIONS, Splitter};
use touchmark_crypto::{Sha256Hasher, mac::MacSha256};
use touchmark_rats::cmw;
use touchmark_verifier::{Challenge, ChallengeError, Challenger};

/// Why a message was not even authenticated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Challenge(#[from] ChallengeError),
    #[error("connection: {0}")]
    Body(axum::Error),
    #[error("message did not arrive in time")]
    Slow,
    #[error("MAC does not verify")]
    Mac,
    #[error("evidence is not a CMW of the expected media type")]
    Evidence,
    #[error("a challenge whose answer is refused unread")]
    Marked,
    #[error("no memory left for messages that are arriving")]
    Full,
    #[error("body over the limit")]
    Large,
}

/// A message whose cookie opened and whose MAC, where there is one, verified.
pub(crate) struct Received {
    pub(crate) challenge: Challenge,
    /// SHA-256 of the whole message.
    pub(crate) digest: [u8; 32],
    pub(crate) cookie: Vec<u8>,
    pub(crate) offer: Vec<u8>,
    /// The evidence section as it arrived: a CMW.
    pub(crate) wrapped: Vec<u8>,
    /// What is in it.
    pub(crate) evidence: Vec<u8>,
    /// Its media type: one of those that were accepted.
    pub(crate) media_type: &'static str,
    pub(crate) log: Vec<u8>,
    /// What was measured at run time.
    pub(crate) runtime: Vec<u8>,
    /// Results of other verifiers.
    pub(crate) results: Vec<u8>,
    /// What it takes of the memory for all, until it is answered.
    _memory: Option<OwnedSemaphorePermit>,
}

/// Number of the section that the MAC does not cover: itself.
const LAST: usize = SECTIONS - 1;
/// How long a message may take to arrive.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a first message may take.
const SMALL_DEADLINE: Duration = Duration::from_secs(10);

/// What one message has taken of the memory for all.
struct Share<'a> {
    budget: &'a Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl<'a> Share<'a> {
    fn of(budget: &'a Arc<Semaphore>) -> Self {
        Self {
            budget,
            taken: None,
            bytes: 0,
        }
    }

    /// Counts what has arrived as a whole, so that many small parts cost no more than one.
    fn grow(&mut self, more: usize) -> Result<(), Unread> {
        self.bytes += more;
        let held = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = self.bytes.div_ceil(1024).saturating_sub(held);
        let missing = u32::try_from(missing).map_err(|_| Unread::Full)?;
        let budget = Arc::clone(self.budget);
        let taken = budget.try_acquire_many_owned(missing).map_err(|_| Unread::Full)?;
        match &mut self.taken {
            Some(held) => held.merge(taken),
            None => self.taken = Some(taken),
        }
        Ok(())
    }
}

/// Reads a first message whole: of at most `limit` bytes, soon, and counted like any other.
pub(crate) async fn read_small(body: Body, limit: usize, budget: &Arc<Semaphore>) -> Result<Vec<u8>, Unread> {
    timeout(SMALL_DEADLINE, async {
        let mut body = body;
        let mut share = Share::of(budget);
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(Unread::Body)?;
            let Some(chunk) = frame.data_ref() else {
                continue;
            };
            if bytes.len() + chunk.len() > limit {
                return Err(Unread::Large);
            }
            share.grow(chunk.len())?;
            bytes.extend_from_slice(chunk);
        }
        Ok(bytes)
    })
    .await
    .map_err(|_| Unread::Slow)?
}

/// Reads a message with evidence of one of these media types within a deadline. A cookie that does not open ends it before the rest is read. What has arrived
/// counts against `budget`, in KiB, until the message is answered.
pub(crate) async fn read(
    body: Body,
    challenger: &Challenger,
    budget: &Arc<Semaphore>,
    media_types: &[&'static str],
    now: u64,
) -> Result<Received, Unread> {
    timeout(DEADLINE, collect(body, challenger, budget, media_types, now))
        .await
        .map_err(|_| Unread::Slow)?
}

async fn collect(
    mut body: Body,
    challenger: &Challenger,
    budget: &Arc<Semaphore>,
    media_types: &[&'static str],
    now: u64,
) -> Result<Received, Unread> {
    let mut share = Share::of(budget);
    let mut splitter = Splitter::default();
    let mut digest = Sha256Hasher::new();
    let mut sections: Vec<Vec<u8>> = Vec::new();
    let mut opened: Option<(Challenge, Option<MacSha256>)> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(Unread::Body)?;
        let Some(chunk) = frame.data_ref() else {
            continue;
        };
        share.grow(chunk.len())?;
        digest.update(chunk);
        splitter.feed(chunk)?;
        while let Some(section) = splitter.next_section()? {
            if sections.is_empty() {
                let challenge = challenger.open(&section, now)?;
                let mac = challenge.mac();
                // A list that nobody asked for takes no memory.
                if challenge.offsets.len() < 2 {
                    splitter.limit(RUNTIME, 0);
                }
                opened = Some((challenge, mac));
            }
            if let (Some((_, Some(mac))), 0..LAST) = (&mut opened, sections.len()) {
                mac.update(&u32::try_from(section.len()).unwrap_or(u32::MAX).to_be_bytes());
                mac.update(&section);
            }
            sections.push(section);
        }
    }
    splitter.end()?;
    let (Some((challenge, mac)), Ok([cookie, offer, wrapped, log, runtime, results, tag])) =
        (opened, <[Vec<u8>; SECTIONS]>::try_from(sections))
    else {
        return Err(Unread::Frame(FrameError::Truncated(0)));
    };
    // A marked challenge is refused like a wrong MAC, at the same point: earlier would tell who is enrolled.
    if challenge.subject.host.is_none() {
        return Err(Unread::Marked);
    }
    // Where the attestation key is known there is no secret, and the signature over bind takes the MAC's place.
    if mac.map_or(!tag.is_empty(), |mac| !mac.verify(&tag)) {
        return Err(Unread::Mac);
    }
    let record = cmw::Record::from_cbor(&wrapped, wrapped.len()).map_err(|_| Unread::Evidence)?;
    let media_type = media_types
        .iter()
        .find(|accepted| record.media_type == **accepted)
        .filter(|_| record.indicator == Some(cmw::IND_EVIDENCE))
        .ok_or(Unread::Evidence)?;
    let evidence = record.value;
    Ok(Received {
        challenge,
        digest: digest.finish(),
        cookie,
        offer,
        wrapped,
        evidence,
        media_type,
        log,
        runtime,
        results,
        _memory: share.taken,
    })
}

#[cfg(test)]
mod tests {
    use touchmark_crypto::SystemEntropy;

    use super::*;

    #[tokio::test]
    async fn messages_that_arrive_share_one_memory() {
        let challenger = Challenger::new(&SystemEntropy, "spiffe://example.org", [0; 32], 150).unwrap();
        let budget = Arc::new(Semaphore::new(4));
        let read = async |bytes: usize| {
            read(Body::from(vec![0; bytes]), &challenger, &budget, &["x/y"], 0)
                .await
                .err()
        };
        assert!(matches!(read(5 * 1024).await, Some(Unread::Full)));
        // What a message had is given back, and what fits is read.
        assert!(matches!(read(4 * 1024).await, Some(Unread::Challenge(_))));
        let _held = budget.try_acquire_many(4).unwrap();
        assert!(matches!(read(1).await, Some(Unread::Full)));
    }

    #[test]
    fn many_small_parts_take_what_one_takes() {
        let budget = Arc::new(Semaphore::new(4));
        let mut share = Share::of(&budget);
        for _ in 0..4096 {
            share.grow(1).unwrap();
        }
        assert_eq!(budget.available_permits(), 0);
        assert!(matches!(share.grow(1), Err(Unread::Full)));
        drop(share);
        assert_eq!(budget.available_permits(), 4);
    }
}
