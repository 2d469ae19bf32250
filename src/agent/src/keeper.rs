//! Keeps credentials ready: obtained before a workload asks, renewed before they end.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;
use touchmark_tls::clock;

use crate::{
    kept::{self, Kept},
    run::{Standing, jittered},
    workloads::{NoCredential, Workloads},
};

/// Most credentials that are obtained before anybody has asked for one: each takes the TPM two keys' time.
const AHEAD: usize = 64;
/// First pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long nothing is looked at at most: clocks are set, and hosts sleep.
const LOOK: Duration = Duration::from_secs(3);

/// By registration and kind: when it is tried again, and how long was waited.
type Failures = HashMap<(String, String), (Instant, Duration)>;

/// Looks after all credentials of this host while it is attested.
pub(crate) async fn keep(mut standing: watch::Receiver<Standing>, workloads: Arc<Workloads>) {
    let mut changes = workloads.changes();
    let mut failures = Failures::new();
    let mut kept = None;
    loop {
        changes.mark_unchanged();
        standing.mark_unchanged();
        let wait = tend(&workloads, &mut failures).await;
        keep_on_disk(&workloads, &mut kept).await;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            changed = standing.changed() => match changed {
                // What the host is, its workloads are.
                Ok(()) => workloads.tell(),
                Err(_) => return,
            },
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Writes down what is to outlive this process, when it is something else than before. What a refused host had is forgotten.
async fn keep_on_disk(workloads: &Workloads, kept: &mut Option<Kept>) {
    if workloads.not_refused().is_err() {
        *kept = None;
        kept::forget(workloads.config());
        return;
    }
    let now = workloads.to_keep();
    if let Some(now) = now.filter(|now| kept.as_ref() != Some(now)) {
        match now.write(workloads.config()).await {
            Ok(()) => *kept = Some(now),
            Err(why) => tracing::warn!(%why, "what is held could not be written down"),
        }
    }
}

/// Obtains and renews what is due, one after the other. Returns how long nothing will be.
async fn tend(workloads: &Workloads, failures: &mut Failures) -> Duration {
    let (Ok(host), Some(registrations)) = (workloads.host(), workloads.registrations()) else {
        return LOOK;
    };
    let mut wanted = Vec::new();
    for registration in registrations.iter() {
        wanted.extend(registration.kinds.iter().map(|kind| (registration, kind)));
    }
    let mut wait = LOOK;
    // Whether the token does not answer: then it does not for the others either, and the TPM's keys do not wait for it.
    let mut token_fails = false;
    for (number, (registration, kind)) in wanted.into_iter().enumerate() {
        let key = (registration.reference.clone(), kind.clone());
        if let Some((again, _)) = failures.get(&key) {
            let left = again.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                wait = wait.min(left);
                continue;
            }
        }
        let in_token = workloads.config().token_for(registration).is_some();
        if in_token && token_fails {
            continue;
        }
        let held = workloads.held(registration, kind);
        let done = match &held {
            Some(credential) if credential.renew_at > clock::now() => {
                wait = wait.min(Duration::from_secs(credential.renew_at - clock::now()));
                continue;
            }
            Some(credential) => workloads.renew(&host, registration, credential).await,
            None if number >= AHEAD => continue,
            None => {
                workloads
                    .obtain_under(&host, registration, kind, AHEAD_OF_NEED)
                    .await
            }
        };
        match done {
            Ok(_) => {
                failures.remove(&key);
            }
            Err(error) => {
                tracing::debug!(registration = %registration.reference, kind, ?error, "no credential yet");
                let pause = failures
                    .get(&key)
                    .map_or(FIRST_PAUSE, |(_, pause)| (*pause * 2).min(LONGEST_PAUSE));
                failures.insert(key, (Instant::now() + jittered(pause), pause));
                wait = wait.min(pause);
                match error {
                    NoCredential::Refused(_) => {}
                    _ if in_token => token_fails = true,
                    // The service or the TPM does not answer: it does not for the others either.
                    _ => return wait,
                }
            }
        }
    }
    failures.retain(|(reference, _), _| registrations.iter().any(|known| known.reference == *reference));
    wait
}

/// Who takes a turn at the device for what nobody has asked for yet.
const AHEAD_OF_NEED: u64 = 0;
