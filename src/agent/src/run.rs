//! The daemon: attest, serve, attest again.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{Notify, mpsc, watch};
use touchmark_api::attest::Challenge;
use touchmark_crypto::{Entropy, SystemEntropy};
use touchmark_tls::clock;

use crate::{
    AttestationError, ChannelError, Config, HostIdentity, attestation, follow, identities::AgentIdentities,
    keeper, kept, local, reattestation::reattest, workloads::Workloads,
};

/// First pause after a failed attestation.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How old an attestation is at least before doubt leads to the next.
const SETTLED: Duration = Duration::from_secs(5);

/// Why the agent ends.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The workloads' socket.
    #[error(transparent)]
    Socket(#[from] local::SocketError),
    /// The state folder.
    #[error(transparent)]
    File(#[from] touchmark_tls::files::FileError),
    /// A task that goes on for ever ended.
    #[error("a task of the agent ended: {0}")]
    Ended(String),
}

/// How it stands with the host, as far as the agent knows.
#[derive(Debug, Clone)]
pub(crate) enum Standing {
    /// Not yet known.
    Attesting {
        /// What went wrong at the last try, for people on this host; empty before.
        detail: String,
        /// Whether it was the device.
        device: bool,
    },
    /// Attested.
    Attested(Arc<HostIdentity>),
    /// The service refused; it is asked again.
    Refused {
        /// The id that an operator can look up.
        refusal: String,
        /// Whether the service says that trying again can help.
        retry: String,
    },
}

/// Runs the agent until `stop` completes.
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> Result<(), AgentError> {
    touchmark_tls::files::private_folder(&config.state)?;
    let socket = local::LocalSocket::bind(&config.socket)?;
    let config = Arc::new(config);
    let (host, resumed) = match kept::resume(&config).await {
        Some(resumed) => (Some(resumed.host), Some((resumed.kept, resumed.credentials))),
        None => (None, None),
    };
    let (standing, watched) = watch::channel(match host {
        Some(host) => Standing::Attested(Arc::new(host)),
        None => Standing::Attesting {
            detail: String::new(),
            device: false,
        },
    });
    let doubt = Arc::new(Notify::new());
    let workloads = Workloads::new(Arc::clone(&config), watched.clone(), Arc::clone(&doubt), resumed)?;
    let workloads = Arc::new(workloads);
    // One at a time: a challenge that comes while another is answered comes again.
    let (asking, asked) = mpsc::channel(1);
    let mut following = tokio::spawn(follow::follow(watched.clone(), asking, Arc::clone(&workloads)));
    let mut keeping = tokio::spawn(keeper::keep(watched.clone(), Arc::clone(&workloads)));
    let identities = Arc::new(AgentIdentities::new(Arc::clone(&workloads), watched));
    let (stopping, mut stopped) = watch::channel(false);
    let mut attesting = tokio::spawn(keep_attested(standing, asked, Arc::clone(&workloads)));
    let serving = tokio::spawn(local::serve(socket, identities, async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    }));
    tokio::pin!(stop);
    // None of them ends by itself; if one did, the host would not attest again, or hear of nothing.
    tokio::select! {
        () = &mut stop => {}
        ended = &mut attesting => return Err(AgentError::Ended(format!("{ended:?}"))),
        ended = &mut following => return Err(AgentError::Ended(format!("{ended:?}"))),
        ended = &mut keeping => return Err(AgentError::Ended(format!("{ended:?}"))),
    }
    // The receiver lives in the serving task.
    let _ = stopping.send(true);
    attesting.abort();
    following.abort();
    keeping.abort();
    if let Ok(Err(error)) = serving.await {
        tracing::warn!(%error, "the socket ended");
    }
    Ok(())
}

/// Attests with back-off and jitter; once attested, again when the service asks for it. From the beginning when there is doubt
/// whether the host still is what it was, or in the last third of the certificate's life.
async fn keep_attested(
    standing: watch::Sender<Standing>,
    mut asked: mpsc::Receiver<Challenge>,
    workloads: Arc<Workloads>,
) {
    let config = workloads.config();
    let mut pause = FIRST_PAUSE;
    let resumed = match &*standing.borrow() {
        Standing::Attested(host) => Some(Arc::clone(host)),
        _ => None,
    };
    if let Some(host) = resumed {
        tracing::info!(identifier = %host.identifier, not_after = %clock::rfc3339(host.not_after), "attested before");
        stay(host, None, &standing, &mut asked, &workloads).await;
    }
    loop {
        match attempt(config).await {
            Ok(host) => {
                tracing::info!(identifier = %host.identifier, not_after = %clock::rfc3339(host.not_after), "attested");
                pause = FIRST_PAUSE;
                let host = Arc::new(host);
                // What was asked or doubted before this says nothing about it.
                while asked.try_recv().is_ok() {}
                let _ = tokio::time::timeout(Duration::ZERO, workloads.doubt().notified()).await;
                standing.send_replace(Standing::Attested(Arc::clone(&host)));
                stay(host, Some(Instant::now()), &standing, &mut asked, &workloads).await;
            }
            Err(error) => {
                let expired = match &*standing.borrow() {
                    Standing::Attested(host) => host.not_after <= clock::now(),
                    _ => true,
                };
                tracing::warn!(%error, "attestation failed");
                if let Some(next) = after(&error, expired) {
                    standing.send_replace(next);
                }
                tokio::time::sleep(jittered(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Attests again whenever the service asks for it, until the host is to attest from the beginning.
async fn stay(
    mut host: Arc<HostIdentity>,
    since: Option<Instant>,
    standing: &watch::Sender<Standing>,
    asked: &mut mpsc::Receiver<Challenge>,
    workloads: &Workloads,
) {
    while let Some(renewed) = again(&host, since, asked, workloads).await {
        if !Arc::ptr_eq(&renewed, &host) {
            standing.send_replace(Standing::Attested(Arc::clone(&renewed)));
            host = renewed;
        }
    }
}

/// Waits until the host is asked to attest again, and does. `None`: it is to attest from the beginning.
async fn again(
    host: &Arc<HostIdentity>,
    since: Option<Instant>,
    asked: &mut mpsc::Receiver<Challenge>,
    workloads: &Workloads,
) -> Option<Arc<HostIdentity>> {
    let life = host.not_after.saturating_sub(host.issued_at);
    // Later than the service renews it.
    let due = host.issued_at + life * 2 / 3 + jittered(Duration::from_secs(life / 6)).as_secs();
    let challenge = tokio::select! {
        () = sleep_until(due) => return None,
        () = doubted(workloads.doubt(), since) => {
            tracing::info!("attesting again: this host was not believed");
            return None;
        }
        challenge = asked.recv() => challenge?,
    };
    let reattested = reattest(workloads.config(), workloads.sessions(), host, &challenge).await;
    match reattested {
        Ok(renewed) => {
            tracing::debug!("attested again");
            Some(renewed)
        }
        // Nothing was said about the host: it is asked again.
        Err(error) if error.is_outage() => {
            tracing::warn!(%error, "could not attest again");
            Some(Arc::clone(host))
        }
        Err(error) => {
            tracing::warn!(%error, "could not attest again; attesting from the beginning");
            None
        }
    }
}

/// Attests, and once more where the service says that a fresh challenge can help: it was restarted, or does not know the
/// attestation key any more.
async fn attempt(config: &Config) -> Result<HostIdentity, AttestationError> {
    match attestation::attest(config).await {
        Err(AttestationError::Channel(ChannelError::Refused { retry, .. })) if retry == "fresh" => {
            attestation::attest(config).await
        }
        other => other,
    }
}

/// Returns once there is doubt, but not before the attestation is a while old: whoever causes doubt does not thereby make
/// the TPM quote in a loop.
async fn doubted(doubt: &Notify, since: Option<Instant>) {
    if let Some(since) = since {
        tokio::time::sleep_until((since + SETTLED).into()).await;
    }
    doubt.notified().await;
}

/// Sleeps by the wall clock, which goes on while the host is suspended.
async fn sleep_until(time: u64) {
    while clock::now() < time {
        tokio::time::sleep(Duration::from_secs((time - clock::now().min(time)).min(30))).await;
    }
}

/// What a failure says about the host. A credential that still holds is kept through everything but a refusal.
fn after(error: &AttestationError, expired: bool) -> Option<Standing> {
    match error {
        AttestationError::Channel(ChannelError::Refused { refusal, retry }) => Some(Standing::Refused {
            refusal: refusal.clone(),
            retry: retry.clone(),
        }),
        _ if !expired => None,
        error => Some(Standing::Attesting {
            detail: error.to_string(),
            device: matches!(error, AttestationError::Device(_)),
        }),
    }
}

/// Three quarters to five quarters of a duration, so that a fleet that started together does not stay together.
pub(crate) fn jittered(duration: Duration) -> Duration {
    let random = SystemEntropy.array::<1>().map_or(128, |[byte]| u32::from(byte));
    duration * (768 + 2 * random) / 1024
}
