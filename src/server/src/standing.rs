//! Whether a host goes on from what is known of it, and what follows if it does not.

use std::{sync::Arc, time::Duration};

use touchmark_rats::Refusal;
use touchmark_store::AttestationKey;
use touchmark_tls::clock;
use touchmark_verifier::{Attested, Challenge, Continuity, LastSeen, continuity};

use crate::Service;

/// Why evidence that holds is not taken.
pub(crate) enum Break {
    /// It answers a challenge that is older than the evidence taken last: its counters say nothing.
    Overtaken,
    /// Its counters are behind those seen before it was asked for.
    Regressed(Refusal),
}

/// What the log says of evidence that was overtaken.
pub(crate) const OVERTAKEN: &str = "a later attestation of this host was taken meanwhile";

/// How the counters in a host's evidence go on from those on record.
pub(crate) fn goes_on(
    known: Option<&AttestationKey>,
    challenge: &Challenge,
    attested: &Attested,
) -> Result<Continuity, Break> {
    let Some(key) = known else {
        return Ok(Continuity::Reset);
    };
    let last = LastSeen {
        reset: key.reset_count,
        clock: key.clock,
    };
    let Some(seen) = attested.counters() else {
        return Err(Break::Overtaken);
    };
    continuity(last, seen).map_err(|refusal| {
        // Evidence that was asked for before the last was seen may have been made before it.
        if challenge.issued <= key.seen_at {
            Break::Overtaken
        } else {
            Break::Regressed(refusal)
        }
    })
}

/// Looks again and again for hosts that did not attest in time.
pub(crate) async fn watch_silence(service: Arc<Service>) {
    let interval = service.config.reattest_interval;
    loop {
        tokio::time::sleep(Duration::from_secs(interval.div_ceil(20))).await;
        let now = clock::now();
        match service.store.fall_silent(now.saturating_sub(interval), now).await {
            Ok(silent) => {
                for host in silent {
                    tracing::warn!(%host, "host is silent");
                    service.streams.host_changed(&host);
                }
            }
            Err(error) => tracing::error!(%error, "could not look for silent hosts"),
        }
    }
}
