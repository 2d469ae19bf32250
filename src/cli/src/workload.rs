//! `touchmark workload`: what a process asks of the agent on its host.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tonic::{Code, Status};
use touchmark_api::workload::{
    DEFAULT_SOCKET, FetchBundleRequest, FetchWitRequest, FetchX509Request, Key, ProveRequest, WitIdentity,
    X509Identity, is_audience,
};
use touchmark_client::agent::{connect, guarded};
use touchmark_crypto::pem;
use touchmark_tls::clock;

use crate::{
    exit::{REFUSED, UNREACHABLE, UNUSABLE, fail},
    output::{Output, report},
};

/// Whom to ask, how to report, and what for.
#[derive(Debug, clap::Args)]
pub(crate) struct Workload {
    /// The agent's socket.
    #[arg(long, env = "TOUCHMARK_AGENT_SOCKET", default_value = DEFAULT_SOCKET, global = true)]
    socket: PathBuf,
    /// How to report.
    #[arg(long, value_enum, default_value_t, global = true)]
    output: Output,
    /// Tries again for so many seconds while there is no agent, no attested host or no answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, global = true)]
    wait: u64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Fetches a credential of this process, or the trust bundle.
    #[command(subcommand)]
    Fetch(Fetch),
    /// Has a proof of possession made: prints WIT and WPT for one audience.
    Prove {
        /// The target's URI, without query and fragment.
        #[arg(long)]
        audience: String,
        /// Which identity, where this process has several.
        #[arg(long)]
        identifier: Option<String>,
    },
}

#[derive(Debug, clap::Subcommand)]
enum Fetch {
    /// An X.509 credential; its key stays where it is.
    X509(Which),
    /// A Workload Identity Token.
    Wit(Which),
    /// The trust domain's keys.
    Bundle,
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Which identity, where this process has several.
    #[arg(long)]
    identifier: Option<String>,
}

/// Why a request brought nothing.
enum Failure {
    /// Nobody answers.
    NoAgent(String),
    /// The agent's answer.
    Status(Box<Status>),
    /// What was asked makes no sense.
    Unusable(String),
    /// An answer without an identity.
    Nothing,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl Failure {
    /// Whether the same may succeed later without anybody acting.
    fn may_pass(&self) -> bool {
        match self {
            Self::NoAgent(_) => true,
            Self::Status(status) => !matches!(
                status.code(),
                Code::PermissionDenied | Code::Aborted | Code::InvalidArgument | Code::FailedPrecondition
            ),
            Self::Unusable(_) | Self::Nothing => false,
        }
    }

    fn explain(self) -> ExitCode {
        match self {
            Self::NoAgent(why) => fail(UNREACHABLE, why),
            Self::Unusable(why) => fail(UNUSABLE, why),
            Self::Nothing => fail(REFUSED, "the agent answered without an identity"),
            Self::Status(status) => explain(&status),
        }
    }
}

/// First pause before a request is made again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Runs one request, again and again while it may still succeed.
pub(crate) async fn run(arguments: Workload) -> ExitCode {
    let deadline = Instant::now() + Duration::from_secs(arguments.wait);
    let mut pause = FIRST_PAUSE;
    loop {
        match ask(&arguments).await {
            Ok(()) => return ExitCode::SUCCESS,
            Err(failure) if !failure.may_pass() || Instant::now() + pause > deadline => {
                return failure.explain();
            }
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn ask(arguments: &Workload) -> Result<(), Failure> {
    let output = arguments.output;
    let mut client = connect(&arguments.socket).await.map_err(Failure::NoAgent)?;
    match &arguments.command {
        Command::Fetch(Fetch::X509(which)) => {
            let request = FetchX509Request {
                identifier: which.identifier.clone().unwrap_or_default(),
            };
            let answer = client.fetch_x509(guarded(request)).await?.into_inner();
            let one = first(answer.identities, |one| &one.identifier).ok_or(Failure::Nothing)?;
            report(output, &x509(&one), x509_text);
        }
        Command::Fetch(Fetch::Wit(which)) => {
            let request = FetchWitRequest {
                identifier: which.identifier.clone().unwrap_or_default(),
            };
            let answer = client.fetch_wit(guarded(request)).await?.into_inner();
            let one = first(answer.identities, |one| &one.identifier).ok_or(Failure::Nothing)?;
            report(output, &wit(&one), wit_text);
        }
        Command::Fetch(Fetch::Bundle) => {
            let bundle = client
                .fetch_bundle(guarded(FetchBundleRequest {}))
                .await?
                .into_inner();
            let document = json!({
                "trust_domain": bundle.trust_domain,
                "x509_pem": pem::encode_all(pem::CERTIFICATE, bundle.x509.iter().map(Vec::as_slice)),
                "jwks": parsed(&bundle.jwks),
                "sequence": bundle.sequence,
            });
            report(output, &document, bundle_text);
        }
        Command::Prove { audience, identifier } => {
            if !is_audience(audience) {
                return Err(Failure::Unusable(format!(
                    "--audience: {audience:?} is not an absolute URI such as https://host/path"
                )));
            }
            let request = ProveRequest {
                audience: audience.clone(),
                identifier: identifier.clone().unwrap_or_default(),
                ..ProveRequest::default()
            };
            let proof = client.prove(guarded(request)).await?.into_inner();
            let document = json!({
                "identifier": proof.identifier,
                "wit": proof.wit,
                "wpt": proof.wpt,
                "audience": audience,
                "not_after": time(proof.not_after),
            });
            report(output, &document, proof_text);
        }
    }
    Ok(())
}

/// The first identity; further ones are named on standard error.
fn first<T>(identities: Vec<T>, identifier: impl Fn(&T) -> &String) -> Option<T> {
    let mut all = identities.into_iter();
    let one = all.next();
    for other in all {
        eprintln!("touchmark: also {}; choose with --identifier", identifier(&other));
    }
    one
}

fn explain(status: &Status) -> ExitCode {
    match status.code() {
        Code::PermissionDenied => fail(
            REFUSED,
            "no identity for this process: no registration of this host matches its user and executable (an operator \
             can see them with touchmark registration list)",
        ),
        Code::Aborted => fail(
            REFUSED,
            format!("{}; an operator can ask: touchmark why", status.message()),
        ),
        Code::InvalidArgument | Code::FailedPrecondition => fail(UNUSABLE, status.message()),
        _ => fail(UNREACHABLE, format!("not now: {}", status.message())),
    }
}

fn key(key: Option<&Key>) -> Value {
    let none = Key::default();
    let key = key.unwrap_or(&none);
    json!({"handle": key.handle, "custody": key.custody, "simulated": key.simulated, "use": key.r#use})
}

fn x509(identity: &X509Identity) -> Value {
    json!({
        "identifier": identity.identifier,
        "chain_pem": pem::encode_all(pem::CERTIFICATE, identity.chain.iter().map(Vec::as_slice)),
        "bundle_pem": pem::encode_all(pem::CERTIFICATE, identity.bundle.iter().map(Vec::as_slice)),
        "key": key(identity.key.as_ref()),
        "not_after": time(identity.not_after),
    })
}

fn wit(identity: &WitIdentity) -> Value {
    json!({
        "identifier": identity.identifier,
        "token": identity.token,
        "jwks": parsed(&identity.jwks),
        "key": key(identity.key.as_ref()),
        "not_after": time(identity.not_after),
    })
}

fn custody(document: &Value) -> String {
    let key = &document["key"];
    let simulated = if key["simulated"] == true {
        ", in a simulated device"
    } else {
        ""
    };
    format!(
        "{}{simulated}, handle {}",
        text(&key["custody"]),
        text(&key["handle"])
    )
}

fn x509_text(document: &Value) -> String {
    format!(
        "identifier  {}\nkey         {}\nuntil       {}\n{}",
        text(&document["identifier"]),
        custody(document),
        text(&document["not_after"]),
        text(&document["chain_pem"])
    )
}

fn wit_text(document: &Value) -> String {
    format!(
        "identifier  {}\nkey         {}\nuntil       {}\n{}",
        text(&document["identifier"]),
        custody(document),
        text(&document["not_after"]),
        text(&document["token"])
    )
}

fn bundle_text(document: &Value) -> String {
    format!(
        "trust domain  {}\nsequence      {}\n{}{}",
        text(&document["trust_domain"]),
        document["sequence"],
        text(&document["x509_pem"]),
        document["jwks"]
    )
}

/// As the two header fields of a request (draft-ietf-wimse-wpt-02).
fn proof_text(document: &Value) -> String {
    format!(
        "Workload-Identity-Token: {}\nAuthorization: WPT {}",
        text(&document["wit"]),
        text(&document["wpt"])
    )
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or(Value::Null)
}

fn time(seconds: i64) -> String {
    clock::rfc3339(u64::try_from(seconds).unwrap_or(0))
}
