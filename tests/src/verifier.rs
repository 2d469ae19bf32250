//! Another verifier, over the challenge-response API of Veraison's services: affirms whatever is bound to its nonce, or does what a test
//! has it do instead.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path as At, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use touchmark_attestor_tpm::TpmAppraiser;
use touchmark_crypto::{
    Purpose, Signer, SigningAlg, SoftwareKey,
    jose::{Jwk, b64u, b64u_decode, jws},
    pem,
};
use touchmark_rats::{
    cbor,
    cmw::{Cmw, Member},
    ear::PROFILE,
    tpm::TpmEvidence,
};
use touchmark_tls::clock;

const SESSION: &str = "application/vnd.veraison.challenge-response-session+json";
/// The developer in its name.
pub const DEVELOPER: &str = "https://verifier.example";

/// How it speaks the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manner {
    /// The result comes with the answer to the evidence.
    Direct,
    /// The result has to be asked for, this many times.
    Later(u32),
    /// As it is, whatever it is asked.
    Problem(u16),
    /// It takes only this media type.
    Takes(&'static str),
    /// Sessions are elsewhere.
    Location(String),
    /// Sessions are under a nonce of its own.
    OwnNonce,
    /// This much comes in place of a session.
    Flood(usize),
    /// This, in place of the state of a session that has evidence.
    State(Value),
    /// It thinks for this long.
    Slow(Duration),
    /// Whoever asks for a session is sent there.
    Redirect(String),
}

/// What it does with a result's claims before it signs them.
type Change = Box<dyn Fn(&mut Value) + Send>;

/// What it does.
pub struct Behaviour {
    /// How it speaks.
    pub manner: Manner,
    /// What it says.
    pub says: Change,
    /// Whether it signs with another key than the one that is known.
    pub other_key: bool,
    /// Sessions that were opened.
    pub opened: u32,
    /// Sessions that were closed.
    pub closed: u32,
    /// The evidence that came last.
    pub evidence: Vec<u8>,
    sessions: HashMap<u32, (String, u32)>,
    keys: [SoftwareKey; 2],
}

/// A verifier; dropping it ends it.
pub struct Verifier {
    folder: tempfile::TempDir,
    address: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
    runtime: Option<tokio::runtime::Runtime>,
    tls: Arc<rustls::ServerConfig>,
}

impl Verifier {
    /// Starts one.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let tls = tls(folder.path());
        let keys = [(); 2].map(|()| SoftwareKey::generate(SigningAlg::Es384).expect("key"));
        let jwk = Jwk::new(keys[0].public_key().clone()).expect("key").to_json();
        std::fs::write(folder.path().join("key.jwk"), Value::from(jwk).to_string()).expect("file");
        let behaviour = Behaviour {
            manner: Manner::Direct,
            says: Box::new(|_| {}),
            other_key: false,
            opened: 0,
            closed: 0,
            evidence: Vec::new(),
            sessions: HashMap::new(),
            keys,
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("port");
        let mut verifier = Self {
            folder,
            address: listener.local_addr().expect("address"),
            behaviour: Arc::new(Mutex::new(behaviour)),
            runtime: None,
            tls,
        };
        verifier.serve(listener);
        verifier
    }

    fn serve(&mut self, listener: TcpListener) {
        let routes = Router::new()
            .route("/challenge-response/v1/newSession", post(open))
            .route(
                "/challenge-response/v1/session/{id}",
                post(take).get(look).delete(close),
            )
            .with_state(Arc::clone(&self.behaviour));
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&self.tls));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("runtime");
        listener.set_nonblocking(true).expect("listener");
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("listener");
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, routes) = (acceptor.clone(), routes.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = auto::Builder::new(TokioExecutor::new())
                            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
                            .await;
                    }
                });
            }
        });
        self.runtime = Some(runtime);
    }

    /// Ends it; [`Verifier::again`] starts it.
    pub fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    /// Starts it again where it was.
    pub fn again(&mut self) {
        self.serve(TcpListener::bind(self.address).expect("port"));
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The PEM file with the root of its web server's certificate.
    pub fn roots(&self) -> PathBuf {
        self.folder.path().join("web.pem")
    }

    /// The file with its key.
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key.jwk")
    }

    /// What it does.
    pub fn behaviour(&self) -> MutexGuard<'_, Behaviour> {
        self.behaviour.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it change what it says.
    pub fn say(&self, change: impl Fn(&mut Value) + Send + 'static) {
        self.behaviour().says = Box::new(change);
    }

    /// Has it speak like this.
    pub fn speak(&self, manner: Manner) {
        self.behaviour().manner = manner;
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.end();
    }
}

fn tls(folder: &Path) -> Arc<rustls::ServerConfig> {
    std::fs::write(
        folder.join("web.cnf"),
        "[req]\ndistinguished_name = name\nx509_extensions = ext\nprompt = no\n[name]\nCN = verifier\n[ext]\n\
         subjectAltName = IP:127.0.0.1\nbasicConstraints = critical, CA:FALSE\n",
    )
    .expect("file");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt"])
        .args([
            "ec_paramgen_curve:P-256",
            "-days",
            "2",
            "-keyout",
            "web.key",
            "-out",
            "web.pem",
        ])
        .args(["-config", "web.cnf"])
        .current_dir(folder)
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{made:?}");
    let read = |name: &str, label: &str| {
        let text = std::fs::read_to_string(folder.join(name)).expect("PEM");
        pem::decode_all(label, &text).expect("PEM").remove(0)
    };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(read("web.key", "PRIVATE KEY")));
    let config = rustls::ServerConfig::builder_with_provider(touchmark_tls::provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![read("web.pem", "CERTIFICATE").into()], key)
        .expect("certificate");
    Arc::new(config)
}

type Shared = State<Arc<Mutex<Behaviour>>>;

fn state(status: StatusCode, state: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, SESSION)], state.to_string()).into_response()
}

fn problem(status: u16) -> Response {
    let status = StatusCode::from_u16(status).expect("status");
    let text = json!({"title": "cannot", "detail": "no plugin for that"}).to_string();
    (status, [(header::CONTENT_TYPE, "application/problem+json")], text).into_response()
}

async fn open(State(shared): Shared, Query(query): Query<HashMap<String, String>>) -> Response {
    let mut behaviour = shared.lock().unwrap_or_else(PoisonError::into_inner);
    behaviour.opened += 1;
    let id = behaviour.opened;
    let nonce = query.get("nonce").cloned().unwrap_or_default();
    behaviour.sessions.insert(id, (nonce.clone(), 0));
    let mut location = format!("session/{id}");
    let mut document =
        json!({"nonce": nonce, "expiry": "2030-01-01T00:00:00Z", "accept": [], "status": "waiting"});
    match &behaviour.manner {
        Manner::Problem(status) => return problem(*status),
        Manner::Takes(kind) => document["accept"] = json!([kind]),
        Manner::Location(elsewhere) => location = elsewhere.clone(),
        Manner::OwnNonce => document["nonce"] = b64u(&[7; 32]).into(),
        Manner::Flood(bytes) => {
            return (
                StatusCode::CREATED,
                [(header::LOCATION, location)],
                vec![b' '; *bytes],
            )
                .into_response();
        }
        Manner::Redirect(to) => {
            return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to.clone())]).into_response();
        }
        _ => {}
    }
    let mut response = state(StatusCode::CREATED, &document);
    response
        .headers_mut()
        .insert(header::LOCATION, location.parse().expect("location"));
    response
}

async fn take(State(shared): Shared, At(id): At<u32>, headers: HeaderMap, evidence: Bytes) -> Response {
    let manner = {
        let mut behaviour = shared.lock().unwrap_or_else(PoisonError::into_inner);
        behaviour.evidence = evidence.to_vec();
        let kind = headers[header::CONTENT_TYPE]
            .to_str()
            .expect("media type")
            .to_owned();
        assert!(kind.starts_with("application/cmw+cbor"), "{kind}");
        behaviour.manner.clone()
    };
    match manner {
        Manner::Slow(pause) => tokio::time::sleep(pause).await,
        Manner::Later(_) => return state(StatusCode::ACCEPTED, &json!({"status": "processing"})),
        Manner::State(document) => return state(StatusCode::OK, &document),
        _ => {}
    }
    let behaviour = shared.lock().unwrap_or_else(PoisonError::into_inner);
    state(StatusCode::OK, &behaviour.result(id))
}

async fn look(State(shared): Shared, At(id): At<u32>) -> Response {
    let mut behaviour = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let session = behaviour.sessions.get_mut(&id).expect("a session");
    session.1 += 1;
    let looked = session.1;
    match behaviour.manner {
        Manner::Later(times) if looked < times => state(StatusCode::OK, &json!({"status": "processing"})),
        _ => state(StatusCode::OK, &behaviour.result(id)),
    }
}

async fn close(State(shared): Shared, At(id): At<u32>) -> StatusCode {
    let mut behaviour = shared.lock().unwrap_or_else(PoisonError::into_inner);
    if behaviour.sessions.remove(&id).is_some() {
        behaviour.closed += 1;
    }
    StatusCode::NO_CONTENT
}

impl Behaviour {
    /// A session that is done.
    fn result(&self, id: u32) -> Value {
        let (nonce, _) = &self.sessions[&id];
        let bound = self.is_bound(nonce);
        let key = self.attestation_key().map(|key| b64u(&key)).unwrap_or_default();
        let now = clock::now();
        let tier = if bound { "affirming" } else { "contraindicated" };
        let mut claims = json!({
            "eat_profile": PROFILE, "iat": now, "exp": now + 300, "eat_nonce": nonce.trim_end_matches('='),
            "ear_verifier_id": {"developer": DEVELOPER, "build": "1.0"},
            "submods": {"TPM": {
                "ear_status": tier, "ear_veraison_key_attestation": {"akpub": key},
                "ear_trustworthiness_vector": {"instance-identity": if bound { 2 } else { 97 }, "executables": 2},
            }},
        });
        (self.says)(&mut claims);
        let key = &self.keys[usize::from(self.other_key)];
        let token = jws::sign("eat+jwt", None, &claims, Purpose::AttestationResult, key).expect("signed");
        json!({"nonce": nonce, "status": "complete", "result": token})
    }

    /// A member of the evidence.
    fn member(&self, wanted: &str) -> Option<Vec<u8>> {
        let Ok(Cmw::Collection { members, .. }) = Cmw::parse(&self.evidence) else {
            return None;
        };
        members
            .into_iter()
            .find_map(|(name, member)| match (name, member) {
                (Member::Text(name), Cmw::Message { value, .. }) if name == wanted => Some(value),
                _ => None,
            })
    }

    /// The attestation key, SubjectPublicKeyInfo.
    fn attestation_key(&self) -> Option<Vec<u8>> {
        let appraiser = TpmAppraiser::new(Vec::new());
        let key = appraiser.attestation_key(&self.member("attestation-key")?).ok()?;
        Some(key.spki().to_vec())
    }

    /// Whether the evidence has what is needed, under this nonce.
    fn is_bound(&self, nonce: &str) -> bool {
        let (Some(evidence), Some(_), Some(_)) = (
            self.member("evidence"),
            self.member("attestation-key"),
            self.member("boot-log"),
        ) else {
            return false;
        };
        let evidence: TpmEvidence = cbor::decode(&evidence, 1 << 16).expect("evidence");
        let attest = evidence.quote.expect("a quote").attest;
        let nonce = b64u_decode(nonce.trim_end_matches('=')).expect("nonce");
        nonce.len() == 32 && attest.windows(32).any(|part| part == nonce)
    }
}
