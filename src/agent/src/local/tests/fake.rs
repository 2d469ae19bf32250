//! An agent whose identities are made up, serving in a directory of its own.

use std::{
    future::pending,
    io::Read,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};
use touchmark_api::workload::{GUARD, GUARD_VALUE, workload_identity_client::WorkloadIdentityClient};
use touchmark_custody::{Class, KeyUse};
use touchmark_identity::TrustDomain;

use crate::{
    caller::Caller,
    local::{
        BundleHeld, Denied, HostState, Identities, KeyInfo, Limits, LocalSocket, Proof, ProofFor, Status,
        WitHeld, X509Held, serve_within,
    },
};

/// The identifier for which an X.509 credential never comes.
pub(super) const ENDLESS: &str = "spiffe://example.org/endless";

/// Everyone is registered, or nobody.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) nobody_is_registered: AtomicBool,
    /// Told when that changes.
    pub(super) changed: watch::Sender<()>,
    /// Set once a request that never ends has begun.
    pub(super) endless_began: AtomicBool,
}

fn key(usage: KeyUse) -> KeyInfo {
    KeyInfo {
        handle: "one".into(),
        custody: Class::Hardware,
        simulated: true,
        usage,
        tss2_key: Some(vec![0x30]),
    }
}

impl Fake {
    fn registered(&self, caller: &Caller) -> Result<String, Denied> {
        assert_eq!(caller.pid, std::process::id().cast_signed());
        assert!(caller.exe.is_some() && caller.exe_sha256.is_none());
        match self.nobody_is_registered.load(Ordering::SeqCst) {
            true => Err(Denied::NoIdentity),
            false => Ok("spiffe://example.org/api".into()),
        }
    }
}

impl Identities for Fake {
    fn trust_domain(&self) -> &TrustDomain {
        static DOMAIN: LazyLock<TrustDomain> =
            LazyLock::new(|| TrustDomain::parse_origin("spiffe://example.org").unwrap());
        &DOMAIN
    }

    async fn x509(&self, caller: &Caller, identifier: Option<&str>) -> Result<Vec<X509Held>, Denied> {
        let own = self.registered(caller)?;
        if identifier == Some(ENDLESS) {
            self.endless_began.store(true, Ordering::SeqCst);
            pending::<()>().await;
        }
        if identifier.is_some_and(|identifier| identifier != own) {
            return Ok(Vec::new());
        }
        Ok(vec![X509Held {
            identifier: own,
            chain: vec![vec![1], vec![2]],
            bundle: vec![vec![3]],
            key: key(KeyUse::Agent),
            not_after: 1_800_000_000,
        }])
    }

    async fn wit(&self, caller: &Caller, _: Option<&str>) -> Result<Vec<WitHeld>, Denied> {
        Ok(vec![WitHeld {
            identifier: self.registered(caller)?,
            token: "a.b.c".into(),
            jwks: "{}".into(),
            key: key(KeyUse::File),
            not_after: 1_800_000_000,
        }])
    }

    async fn bundle(&self) -> Result<BundleHeld, Denied> {
        Err(Denied::Unavailable("not attested yet".into()))
    }

    async fn sign(&self, caller: &Caller, handle: &str, message: &[u8]) -> Result<Vec<u8>, Denied> {
        self.registered(caller)?;
        match handle {
            "one" => Ok(message[..4].to_vec()),
            "a-wit-key" => Err(Denied::NotForPurpose),
            _ => Err(Denied::NoIdentity),
        }
    }

    async fn prove(&self, caller: &Caller, purpose: &ProofFor, _: Option<&str>) -> Result<Proof, Denied> {
        Ok(Proof {
            identifier: self.registered(caller)?,
            wit: "a.b.c".into(),
            wpt: format!("for {}", purpose.audience),
            not_after: 1_800_000_000,
        })
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    async fn status(&self) -> Status {
        Status {
            state: HostState::Refused,
            host_id: Some("h".into()),
            identifier: None,
            refusal: Some("r".into()),
            detail: "ask the operator".into(),
            not_after: None,
        }
    }

    fn needs_digest(&self) -> bool {
        false
    }
}

/// A serving agent. Dropping it ends it with its runtime.
pub(super) struct Agent {
    pub(super) identities: Arc<Fake>,
    directory: TempDir,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Agent {
    pub(super) fn start(limits: Limits, identities: Fake) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = LocalSocket::bind(&directory.path().join("agent.sock")).unwrap();
        let identities = Arc::new(identities);
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve_within(limits, socket, Arc::clone(&identities), async {
            let _ = stopped.await;
        }));
        Self {
            identities,
            directory,
            stop,
            serving,
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("agent.sock")
    }

    /// A connection of its own that says nothing yet.
    pub(super) fn connect(&self) -> UnixStream {
        UnixStream::connect(self.path()).unwrap()
    }

    /// A gRPC client on a connection of its own.
    pub(super) async fn client(&self) -> WorkloadIdentityClient<Channel> {
        WorkloadIdentityClient::new(self.endpoint().connect().await.unwrap())
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint::try_from(format!("unix://{}", self.path().display()))
            .unwrap()
            .timeout(Duration::from_secs(60))
    }

    /// Returns once the agent has ended by itself.
    pub(super) async fn stop(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(60), self.serving)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert!(!self.directory.path().join("agent.sock").exists());
    }
}

/// A request as every client has to send it.
pub(super) fn guarded<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(GUARD, GUARD_VALUE.parse().unwrap());
    request
}

/// Waits until the agent closes a raw connection.
pub(super) async fn closed(mut connection: UnixStream) {
    let waiting = tokio::task::spawn_blocking(move || {
        connection
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut all = Vec::new();
        connection.read_to_end(&mut all)
    });
    match waiting.await.unwrap() {
        Ok(_) => {}
        // Closed with something of ours unread.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}
