//! `touchmark host`: who may attest.

use std::{path::PathBuf, process::ExitCode};

use serde_json::Value;
use touchmark_api::admin::{Enrolment, EnrolmentFile, Request};
use touchmark_crypto::pem;
use touchmark_tls::files;

use crate::{
    admin::{Operator, read_file},
    exit::{UNUSABLE, fail},
    output::{report, table},
};

/// Hosts.
#[derive(Debug, clap::Args)]
pub(crate) struct Host {
    #[command(flatten)]
    operator: Operator,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Enrols a host by its endorsement certificate or key digest, or a rack of them from a file.
    Enrol {
        /// Name of the host.
        #[arg(long, required_unless_present = "file")]
        name: Option<String>,
        /// A label; repeatable.
        #[arg(long = "label")]
        labels: Vec<String>,
        #[command(flatten)]
        keys: EndorsementKeys,
        /// TOML file with an array of tables `host` (name, labels, ek_certificates, ek_digests); `-` for standard input.
        #[arg(short, long, conflicts_with_all = ["name", "labels", "ek_certs", "ek_digests"])]
        file: Option<PathBuf>,
    },
    /// Lists hosts.
    List {
        /// Endorsement keys that knocked without being enrolled, instead.
        #[arg(long)]
        pending: bool,
    },
    /// Shows one host.
    Show {
        /// Id or name.
        host: String,
    },
    /// Prints the attestation result about a host as it stands: an EAR with its AR4SI vector, signed by the service's key for results.
    Result {
        /// Id or name.
        #[arg(required_unless_present = "key")]
        host: Option<String>,
        /// Prints that key instead, a JWK: what a relying party pins.
        #[arg(long, conflicts_with_all = ["host", "nonce"])]
        key: bool,
        /// Freshness that the relying party gave, 8 to 88 characters.
        #[arg(long, value_name = "TEXT")]
        nonce: Option<String>,
    },
    /// Gives a host another device, after a board swap, or the same one again once it is known that there is no second: its name,
    /// labels and registrations stay, and it attests from the beginning.
    Replace {
        /// Id or name.
        host: String,
        #[command(flatten)]
        keys: EndorsementKeys,
        /// Why, for the audit trail.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Takes a host out: it gets nothing more, and its endorsement keys and its name can be enrolled again.
    Evict {
        /// Id or name.
        host: String,
        /// Why, for the audit trail.
        #[arg(long, default_value = "")]
        reason: String,
    },
}

/// By which a device is known.
#[derive(Debug, clap::Args)]
struct EndorsementKeys {
    /// File with the endorsement certificate, PEM or DER; repeatable, one per endorsement key.
    #[arg(long = "ek-cert")]
    ek_certs: Vec<PathBuf>,
    /// SHA-256 of the endorsement key's DER SubjectPublicKeyInfo; repeatable. Without a certificate that its maker signed, the
    /// host's keys are of class `token` at most.
    #[arg(long = "ek-digest")]
    ek_digests: Vec<String>,
}

impl EndorsementKeys {
    fn of_host(self, name: String, labels: Vec<String>) -> Result<Enrolment, ExitCode> {
        let mut ek_certificates = Vec::new();
        for path in &self.ek_certs {
            ek_certificates.push(read_certificate(path)?);
        }
        Ok(Enrolment {
            name,
            labels,
            ek_certificates,
            ek_digests: self.ek_digests,
        })
    }
}

pub(crate) fn run(host: Host) -> ExitCode {
    let done = match host.command {
        Command::Enrol {
            name,
            labels,
            keys,
            file,
        } => enrol(&host.operator, name, labels, keys, file.as_deref()),
        Command::List { pending } => list(&host.operator, pending),
        Command::Show { host: id } => show(&host.operator, id),
        Command::Result { host: id, nonce, .. } => result(&host.operator, id, nonce),
        Command::Replace {
            host: id,
            keys,
            reason,
        } => replace(&host.operator, id, keys, reason),
        Command::Evict { host: id, reason } => evict(&host.operator, id, reason),
    };
    done.err().unwrap_or(ExitCode::SUCCESS)
}

fn enrol(
    operator: &Operator,
    name: Option<String>,
    labels: Vec<String>,
    keys: EndorsementKeys,
    file: Option<&std::path::Path>,
) -> Result<(), ExitCode> {
    let hosts = match file {
        Some(path) => {
            let text = read_file(path)?;
            let file: EnrolmentFile = toml::from_str(&text)
                .map_err(|error| fail(UNUSABLE, format!("{}: {error}", path.display())))?;
            file.hosts
        }
        None => vec![keys.of_host(name.unwrap_or_default(), labels)?],
    };
    let document = operator.ask(&Request::HostEnrol { hosts })?;
    report(operator.output, &document, |document| {
        let line = |host: &Value| format!("enrolled {} as {}", text(host, "name"), text(host, "id"));
        document
            .as_array()
            .map(|hosts| hosts.iter().map(line).collect::<Vec<_>>().join("\n"))
            .unwrap_or_default()
    });
    Ok(())
}

/// A certificate as PEM; DER, as a TPM holds it, is taken as well.
fn read_certificate(path: &std::path::Path) -> Result<String, ExitCode> {
    let bytes = files::read_input(path, 64 * 1024).map_err(|error| fail(UNUSABLE, error))?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) if text.contains("-----BEGIN") => text,
        Ok(text) => pem::encode(pem::CERTIFICATE, text.as_bytes()),
        Err(der) => pem::encode(pem::CERTIFICATE, der.as_bytes()),
    })
}

fn list(operator: &Operator, pending: bool) -> Result<(), ExitCode> {
    let document = operator.ask(&Request::HostList { pending })?;
    report(operator.output, &document, |document| {
        if document.as_array().is_some_and(Vec::is_empty) {
            return if pending {
                "nobody knocked"
            } else {
                "no hosts; touchmark host enrol --help"
            }
            .to_owned();
        }
        if pending {
            let columns = [
                ("ek_digest", "EK DIGEST"),
                ("last_seen", "LAST SEEN"),
                ("attempts", "TRIES"),
                ("note", "NOTE"),
            ];
            return table(document, &columns);
        }
        table(
            document,
            &[
                ("name", "NAME"),
                ("state", "STATE"),
                ("last_attested", "LAST ATTESTED"),
                ("reason", "REASON"),
                ("refusal", "REFUSAL"),
                ("observed", "OBSERVED"),
                ("id", "ID"),
            ],
        )
    });
    Ok(())
}

fn replace(operator: &Operator, host: String, keys: EndorsementKeys, reason: String) -> Result<(), ExitCode> {
    let device = keys.of_host(String::new(), Vec::new())?;
    let document = operator.ask(&Request::HostReplace { host, device, reason })?;
    report(operator.output, &document, |document| {
        format!(
            "replaced the device of {}: the old one is told now; a peer that does not hear of it may accept what it holds until {}",
            text(document, "name"),
            text(document, "until")
        )
    });
    Ok(())
}

fn evict(operator: &Operator, host: String, reason: String) -> Result<(), ExitCode> {
    let document = operator.ask(&Request::HostEvict { host, reason })?;
    report(operator.output, &document, |document| {
        format!(
            "evicted {}: its agent and its workloads are told now; a peer that does not hear of it may accept what they hold until {}",
            text(document, "name"),
            text(document, "until")
        )
    });
    Ok(())
}

fn result(operator: &Operator, host: Option<String>, nonce: Option<String>) -> Result<(), ExitCode> {
    let Some(host) = host else {
        let shown = operator.ask(&Request::CaShow)?;
        println!("{}", shown["result_key"]);
        return Ok(());
    };
    let document = operator.ask(&Request::HostResult { host, nonce })?;
    report(operator.output, &document, |document| {
        document["result"].as_str().unwrap_or_default().to_owned()
    });
    Ok(())
}

fn show(operator: &Operator, host: String) -> Result<(), ExitCode> {
    let document = operator.ask(&Request::HostShow { host })?;
    report(operator.output, &document, |document| {
        let members = document
            .as_object()
            .map(|map| map.iter().collect::<Vec<_>>())
            .unwrap_or_default();
        let line = |(name, value): &(&String, &Value)| match value {
            Value::String(text) => format!("{name:16}{text}"),
            Value::Null => format!("{name:16}-"),
            other => format!("{name:16}{other}"),
        };
        members.iter().map(line).collect::<Vec<_>>().join("\n")
    });
    Ok(())
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or("-")
}
