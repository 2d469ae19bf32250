//! Where a program's identity comes from, and goes on coming from.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::{
    mpsc::{UnboundedSender, unbounded_channel},
    oneshot, watch,
};
use touchmark_api::workload::ProveRequest;

use crate::{
    Identity, agent,
    background::{Background, Job},
};

/// How it stands with this program's identity.
#[derive(Debug, Clone)]
pub enum State {
    /// There is none yet; for people: why.
    Waiting(String),
    /// This is it.
    Current(Arc<Identity>),
    /// It was withdrawn: it is not to be used any more. For people: why.
    Withdrawn(String),
}

/// Why there is no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// None came in time; the text says what was missing: an agent, an attested host, a registration, an answer.
    #[error("no identity in time: {0}")]
    Unavailable(String),
    /// The host of this program is no longer believed.
    #[error("no identity: {0}")]
    Withdrawn(String),
    /// The operating system gave no thread.
    #[error("no thread for the agent: {0}")]
    Thread(String),
}

/// Why there is no proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no proof: {0}")]
pub struct ProofError(pub String);

/// This program's identity, renewed and withdrawn as the agent says. Cloning shares it; it ends with the last clone, and with the
/// last configuration or connection that was made from it.
#[derive(Clone)]
pub struct Source {
    state: watch::Receiver<State>,
    jobs: UnboundedSender<Job>,
    identifier: String,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let identity = self.identity();
        f.debug_struct("Source")
            .field(
                "identity",
                &identity.as_ref().map(|now| now.identifier().as_str()),
            )
            .finish_non_exhaustive()
    }
}

/// How a [`Source`] is to be had.
#[derive(Debug, Clone)]
pub struct Builder {
    socket: PathBuf,
    identifier: String,
    wait: Duration,
}

impl Builder {
    /// Another socket than the one that `TOUCHMARK_AGENT_SOCKET` names.
    #[must_use]
    pub fn socket(self, socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            ..self
        }
    }

    /// Which identity, where the program has several; else that of the registration which says most of it.
    #[must_use]
    pub fn identifier(self, identifier: impl Into<String>) -> Self {
        Self {
            identifier: identifier.into(),
            ..self
        }
    }

    /// How long to wait for an agent, an attested host and a registration; 30 seconds unless told otherwise.
    #[must_use]
    pub fn wait(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// Connects, and returns once there is an identity.
    ///
    /// # Errors
    ///
    /// [`SourceError`]: none in time, or none for this program.
    pub async fn connect(self) -> Result<Source, SourceError> {
        let (jobs, asked) = unbounded_channel();
        let (state, watched) = watch::channel(State::Waiting("the agent has not answered yet".to_owned()));
        let background = Background {
            socket: self.socket,
            identifier: self.identifier.clone(),
            state,
            jobs: jobs.downgrade(),
        };
        std::thread::Builder::new()
            .name("touchmark-agent".to_owned())
            .spawn(move || {
                if let Err(error) = background.run(asked) {
                    tracing::error!(%error, "no runtime for the agent");
                }
            })
            .map_err(|error| SourceError::Thread(error.to_string()))?;
        let source = Source {
            state: watched,
            jobs,
            identifier: self.identifier,
        };
        let mut state = source.state.clone();
        let settled = state.wait_for(|state| !matches!(state, State::Waiting(_)));
        let settled = match tokio::time::timeout(self.wait, settled).await {
            Ok(Ok(state)) => state.clone(),
            _ => source.state(),
        };
        match settled {
            State::Current(_) => Ok(source),
            State::Withdrawn(why) => Err(SourceError::Withdrawn(why)),
            State::Waiting(why) => Err(SourceError::Unavailable(why)),
        }
    }
}

impl Source {
    /// The identity that the agent on this host gives this program; waits for it for 30 seconds.
    ///
    /// # Errors
    ///
    /// [`SourceError`]: none in time, or none for this program.
    pub async fn connect() -> Result<Self, SourceError> {
        Self::builder().connect().await
    }

    /// A source with another socket, identifier or patience.
    pub fn builder() -> Builder {
        Builder {
            socket: agent::default_socket(),
            identifier: String::new(),
            wait: Duration::from_secs(30),
        }
    }

    /// How it stands now.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// The identity, if there is one.
    pub fn identity(&self) -> Option<Arc<Identity>> {
        match &*self.state.borrow() {
            State::Current(identity) => Some(Arc::clone(identity)),
            State::Waiting(_) | State::Withdrawn(_) => None,
        }
    }

    /// Told of every change: renewals, other trust bundles, withdrawal.
    pub fn changes(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Token and fresh proof for one audience: an absolute URI without query and fragment.
    ///
    /// # Errors
    ///
    /// What the agent said.
    pub async fn prove(&self, audience: &str) -> Result<Proof, ProofError> {
        self.prove_beside(audience, Beside::default()).await
    }

    /// The same for a request that carries other tokens, which the proof then names.
    pub(crate) async fn prove_beside(&self, audience: &str, beside: Beside) -> Result<Proof, ProofError> {
        let (reply, answer) = oneshot::channel();
        let request = ProveRequest {
            audience: audience.to_owned(),
            identifier: self.identifier.clone(),
            access_token_sha256: beside.access.map_or_else(Vec::new, Vec::from),
            transaction_token_sha256: beside.transaction.map_or_else(Vec::new, Vec::from),
        };
        let ended = || ProofError("the identity source has ended".to_owned());
        self.jobs
            .send(Job::Prove { request, reply })
            .map_err(|_| ended())?;
        match answer.await {
            Ok(Ok(proof)) => Ok(Proof {
                wit: proof.wit,
                wpt: proof.wpt,
            }),
            Ok(Err(status)) => Err(ProofError(status.message().to_owned())),
            Err(_) => Err(ended()),
        }
    }
}

/// SHA-256 of the tokens that a request carries beside the proof.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Beside {
    pub(crate) access: Option<[u8; 32]>,
    pub(crate) transaction: Option<[u8; 32]>,
}

/// A token with a proof. Not for logs.
#[derive(Clone)]
pub struct Proof {
    /// Workload Identity Token, for the header field `Workload-Identity-Token`.
    pub wit: String,
    /// Workload Proof Token, for `Authorization: WPT ...`.
    pub wpt: String,
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proof").finish_non_exhaustive()
    }
}
