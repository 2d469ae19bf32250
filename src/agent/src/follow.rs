//! The stream from the service: what it pushes takes effect here at once.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};
use touchmark_api::{attest::Challenge, host::Push};

use crate::{
    ChannelError, HostIdentity,
    run::{Standing, jittered},
    workloads::Workloads,
};

/// First pause after a stream ended.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Keeps a stream open while the host is attested; another one when its certificate is another.
pub(crate) async fn follow(
    mut standing: watch::Receiver<Standing>,
    asking: mpsc::Sender<Challenge>,
    workloads: Arc<Workloads>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let attested = match &*standing.borrow_and_update() {
            Standing::Attested(host) => Some(Arc::clone(host)),
            _ => None,
        };
        let Some(host) = attested else {
            if standing.changed().await.is_err() {
                return;
            }
            continue;
        };
        let ended = tokio::select! {
            ended = one(&host, &asking, &workloads, &mut pause) => ended,
            // A new certificate: the connection under the old one ends with it.
            changed = standing.changed() => {
                workloads.followed(false);
                match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            },
        };
        workloads.followed(false);
        if let Err(ChannelError::Refused { .. } | ChannelError::Key(_)) = &ended {
            workloads.doubt().notify_one();
        }
        if let Err(error) = ended {
            tracing::info!(%error, "the stream from the service ended");
        }
        tokio::select! {
            () = tokio::time::sleep(jittered(pause)) => {}
            _ = standing.changed() => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One stream, until it ends.
async fn one(
    host: &Arc<HostIdentity>,
    asking: &mpsc::Sender<Challenge>,
    workloads: &Workloads,
    pause: &mut Duration,
) -> Result<(), ChannelError> {
    let mut stream = workloads.sessions().under(host).await?.stream().await?;
    loop {
        match stream.next().await? {
            Push::Assignments {
                generation,
                registrations,
                bundle,
            } => {
                *pause = FIRST_PAUSE;
                workloads.learn(generation, registrations, &bundle).await;
                workloads.followed(true);
            }
            Push::Reattest(challenge) => {
                let _ = asking.try_send(challenge);
            }
            Push::Withdrawn => {
                workloads.withdrawn(host);
                return Ok(());
            }
            Push::Lapsed => {
                workloads.doubt().notify_one();
                return Ok(());
            }
        }
    }
}
