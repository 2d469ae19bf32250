//! The thread that talks to the agent: it listens for changes and passes signatures on. A runtime of its own, so that a
//! signature never waits for the runtime that it stalls.

use std::{path::PathBuf, sync::mpsc::SyncSender, time::Duration};

use tokio::sync::{
    mpsc::{UnboundedReceiver, WeakUnboundedSender},
    oneshot, watch,
};
use tonic::{Code, Status};
use touchmark_api::workload::{
    ProveRequest, ProveResponse, Purpose, SignRequest, Standing, WatchRequest, WatchResponse,
};

use crate::{
    Identity, State,
    agent::{self, AgentClient, endless, guarded},
};

/// First pause before the agent is called again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Something that the agent is asked for.
#[derive(Debug)]
pub(crate) enum Job {
    /// A signature for a TLS handshake.
    Sign {
        handle: String,
        message: Vec<u8>,
        reply: SyncSender<Result<Vec<u8>, String>>,
    },
    /// A proof.
    Prove {
        request: ProveRequest,
        reply: oneshot::Sender<Result<ProveResponse, Status>>,
    },
}

/// What the thread works with.
pub(crate) struct Background {
    pub(crate) socket: PathBuf,
    pub(crate) identifier: String,
    pub(crate) state: watch::Sender<State>,
    /// For the keys of identities; weak, so that the thread ends when nobody is left.
    pub(crate) jobs: WeakUnboundedSender<Job>,
}

impl Background {
    /// Runs until nobody is left who could ask.
    pub(crate) fn run(self, mut asked: UnboundedReceiver<Job>) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let client = watch::Sender::new(None);
            let serve = async {
                while let Some(job) = asked.recv().await {
                    tokio::spawn(work(job, client.subscribe()));
                }
            };
            tokio::select! {
                () = serve => {}
                () = self.listen(&client) => {}
            }
        });
        Ok(())
    }

    /// Listens, and calls again when the agent is away.
    async fn listen(&self, client: &watch::Sender<Option<AgentClient>>) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.once(client, &mut pause).await {
                Ok(()) => {}
                Err(status) if status.code() == Code::PermissionDenied => self.unregistered(status.message()),
                Err(status) => {
                    tracing::debug!(%status, "the agent is not to be heard");
                    self.unavailable(status.message());
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn once(
        &self,
        client: &watch::Sender<Option<AgentClient>>,
        pause: &mut Duration,
    ) -> Result<(), Status> {
        let mut connected = agent::connect(&self.socket).await.map_err(Status::unavailable)?;
        client.send_replace(Some(connected.clone()));
        let request = WatchRequest {
            identifier: self.identifier.clone(),
        };
        let mut heard = connected.watch(endless(request)).await?.into_inner();
        while let Some(answer) = heard.message().await? {
            *pause = FIRST_PAUSE;
            self.take(answer);
        }
        Ok(())
    }

    fn take(&self, answer: WatchResponse) {
        match answer.standing() {
            Standing::Withdrawn => self.tell(State::Withdrawn(answer.detail)),
            Standing::Unavailable | Standing::Unspecified => self.unavailable(&answer.detail),
            Standing::Current => match Identity::read(answer, &self.jobs) {
                Ok(identity) => self.tell(State::Current(identity.into())),
                Err(why) => {
                    tracing::warn!(%why, "the agent sent an identity that does not hold");
                    self.unavailable(&why);
                }
            },
        }
    }

    fn tell(&self, state: State) {
        self.state.send_replace(state);
    }

    /// No registration means this program: not yet, or not any more.
    fn unregistered(&self, why: &str) {
        if matches!(*self.state.borrow(), State::Waiting(_)) {
            let program = std::env::current_exe().unwrap_or_default();
            let user = nix::unistd::geteuid();
            self.unavailable(&format!(
                "{why}: no registration of this host means user {user} with {}",
                program.display()
            ));
        } else {
            self.tell(State::Withdrawn(why.to_owned()));
        }
    }

    /// What there is counts until it ends; only who has nothing yet is told why.
    fn unavailable(&self, why: &str) {
        self.state.send_if_modified(|state| match state {
            State::Waiting(known) if known != why => {
                why.clone_into(known);
                true
            }
            _ => false,
        });
    }
}

/// Does one job, over whichever connection there is.
async fn work(job: Job, mut client: watch::Receiver<Option<AgentClient>>) {
    let connected = client.wait_for(Option::is_some).await;
    let Some(mut client) = connected.ok().and_then(|client| client.clone()) else {
        return;
    };
    match job {
        Job::Sign {
            handle,
            message,
            reply,
        } => {
            let request = SignRequest {
                handle,
                purpose: Purpose::TlsHandshake.into(),
                message,
            };
            let signed = client.sign(guarded(request)).await;
            let signed = signed
                .map(|answer| answer.into_inner().signature)
                .map_err(|status| status.message().to_owned());
            // Whoever waited may have given up.
            let _ = reply.send(signed);
        }
        Job::Prove { request, reply } => {
            let proved = client.prove(guarded(request)).await;
            let _ = reply.send(proved.map(tonic::Response::into_inner));
        }
    }
}
