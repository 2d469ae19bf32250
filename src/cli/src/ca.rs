//! `touchmark ca`: the offline root and the service's intermediate.

use std::{path::PathBuf, process::ExitCode};

use touchmark_api::device::Settings;
use touchmark_crypto::CryptoError;
use touchmark_custody::CustodyError;
use touchmark_helper::Device;
use touchmark_identity::{IdentifierError, Naming, TrustDomain};
use touchmark_server::{Config, ServerError, ca};
use touchmark_tls::{clock, files};

use crate::{
    admin::read_file,
    exit::{REFUSED, UNREACHABLE, UNUSABLE, fail},
    output::{Output, report},
};

/// The four acts, and a look.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Ca {
    /// Makes the offline root: its key in a TPM of its own, its certificate in a folder.
    Init {
        /// Folder of the root, made if missing; keep it with the machine that has the TPM.
        #[arg(long)]
        dir: PathBuf,
        /// The trust domain, for example spiffe://example.org.
        #[arg(long)]
        trust_domain: String,
        #[command(flatten)]
        naming: NamingArguments,
        #[command(flatten)]
        device: RootDevice,
    },
    /// Makes the service's intermediate key in its TPM and writes a request for the root.
    Request {
        /// The service's configuration.
        #[arg(long, default_value = "/etc/touchmark/server.toml")]
        config: PathBuf,
        /// Where to write the request; standard output by default.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Signs a request with the root's key, after showing what is signed.
    SignIntermediate {
        /// Folder of the root.
        #[arg(long)]
        dir: PathBuf,
        /// The request.
        request: PathBuf,
        /// Where to write the certificate; standard output by default.
        #[arg(long)]
        out: Option<PathBuf>,
        /// Life of the intermediate in days.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// Signs without asking.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        device: RootDevice,
    },
    /// Installs root and intermediate for the service.
    Install {
        /// The service's configuration.
        #[arg(long, default_value = "/etc/touchmark/server.toml")]
        config: PathBuf,
        /// The root's certificate.
        #[arg(long)]
        root: PathBuf,
        /// The intermediate's certificate.
        #[arg(long)]
        certificate: PathBuf,
    },
    /// Shows what is installed, and the pin for agents.
    Show {
        /// The service's configuration.
        #[arg(long, default_value = "/etc/touchmark/server.toml")]
        config: PathBuf,
        /// How to report.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
}

/// What the trust domain's name may be beyond a domain name under `spiffe` or `wimse`: as `[naming]` in the
/// configuration of service and agents, which have to say the same.
#[derive(Debug, clap::Args)]
pub(crate) struct NamingArguments {
    /// Admits this scheme of the trust domain's own; `[naming] scheme` in the configuration of service and agents.
    #[arg(long)]
    scheme: Option<String>,
    /// Admits this address as the name of the trust domain; `[naming] ip_literal` likewise.
    #[arg(long)]
    ip_literal: Option<String>,
    /// Takes a name that is not a fully qualified domain name, and so may be somebody else's too.
    #[arg(long)]
    any_name: bool,
}

/// The TPM that holds the root's key.
#[derive(Debug, clap::Args)]
pub(crate) struct RootDevice {
    /// TCTI of the root's TPM.
    #[arg(long, default_value = "device:/dev/tpmrm0")]
    device: String,
    /// Path of touchmark-device; beside this binary by default.
    #[arg(long)]
    device_path: Option<PathBuf>,
}

impl RootDevice {
    fn open(self) -> Result<Device, ExitCode> {
        let path = match self.device_path {
            Some(path) => path,
            None => Device::beside_this_binary().map_err(|error| fail(UNUSABLE, error))?,
        };
        let settings = Settings::at(self.device);
        Ok(Device::new(&path, settings))
    }
}

/// Runs one act.
pub(crate) fn run(command: Ca) -> ExitCode {
    let done = match command {
        Ca::Init {
            dir,
            trust_domain,
            naming,
            device,
        } => init(&dir, &trust_domain, naming, device),
        Ca::Request { config, out } => request(&config, out.as_deref()),
        Ca::SignIntermediate {
            dir,
            request,
            out,
            days,
            yes,
            device,
        } => sign(&dir, &request, out.as_deref(), days, yes, device),
        Ca::Install {
            config,
            root,
            certificate,
        } => install(&config, &root, &certificate),
        Ca::Show { config, output } => show(&config, output),
    };
    done.err().unwrap_or(ExitCode::SUCCESS)
}

fn explain(error: ServerError) -> ExitCode {
    let code = match &error {
        ServerError::Custody(CustodyError::Retryable(_)) => UNREACHABLE,
        ServerError::Config { .. }
        | ServerError::Files(_)
        | ServerError::File { .. }
        | ServerError::Crypto(CryptoError::Malformed(_)) => UNUSABLE,
        _ => REFUSED,
    };
    fail(code, error)
}

fn init(
    dir: &std::path::Path,
    trust_domain: &str,
    naming: NamingArguments,
    device: RootDevice,
) -> Result<(), ExitCode> {
    let refuse =
        |error: IdentifierError| fail(REFUSED, format!("--trust-domain: {error}; {}", error.remedy()));
    let admitted = Naming {
        scheme: naming.scheme,
        ip_literal: naming.ip_literal,
    };
    let domain = TrustDomain::configured(trust_domain, &admitted).map_err(refuse)?;
    if domain.is_ip_literal() {
        eprintln!("warning: {domain} is named by an address; names that others can own are domain names");
    } else if let Err(error) = domain.check_fqdn() {
        if !naming.any_name {
            return Err(refuse(error));
        }
        eprintln!("warning: {domain}: {error}; somebody else may use the same name");
    }
    let root = ca::init(dir, &domain, device.open()?, clock::now()).map_err(explain)?;
    println!("root of {domain}: {}", dir.join("root.pem").display());
    println!(
        "its key is in the TPM; {} can be loaded by no other",
        dir.join("root.tss2").display()
    );
    println!("pin for agents (root_pins): {}", hex::encode(root.spki_digest()));
    println!("a key in one TPM has no backup: make a second root elsewhere and pin both");
    Ok(())
}

fn request(config: &std::path::Path, out: Option<&std::path::Path>) -> Result<(), ExitCode> {
    let config = Config::load(config).map_err(explain)?;
    let (request, key) = ca::request(&config).map_err(explain)?;
    eprintln!("key in the service's TPM: SHA-256 {}", hex::encode(key));
    write(out, &request)
}

fn sign(
    dir: &std::path::Path,
    request: &std::path::Path,
    out: Option<&std::path::Path>,
    days: u32,
    yes: bool,
    device: RootDevice,
) -> Result<(), ExitCode> {
    let text = read_file(request)?;
    let proposal = ca::propose(dir, &text, u64::from(days) * 86_400, clock::now()).map_err(explain)?;
    eprintln!("about to sign with {}:", proposal.root.subject);
    eprintln!("  subject      CN={}", proposal.common_name);
    eprintln!("  trust domain {}", proposal.root.uri_sans.join(", "));
    eprintln!(
        "  key          {:?}, SHA-256 {}",
        proposal.key.kind(),
        hex::encode(proposal.key.digest())
    );
    eprintln!(
        "  valid        {} to {}",
        clock::rfc3339(proposal.not_before),
        clock::rfc3339(proposal.not_after)
    );
    eprintln!("  as           CA for leaves only (pathLen 0)");
    eprintln!(
        "nothing in a request shows where its key lives: compare the digest with what ca request printed"
    );
    if !yes {
        eprint!("sign? [y/N] ");
        let mut answer = String::new();
        if std::io::stdin().read_line(&mut answer).is_err() || answer.trim() != "y" {
            return Err(fail(REFUSED, "not signed"));
        }
    }
    let certificate = ca::sign(dir, &proposal, device.open()?).map_err(explain)?;
    write(out, &certificate)
}

fn install(
    config: &std::path::Path,
    root: &std::path::Path,
    certificate: &std::path::Path,
) -> Result<(), ExitCode> {
    let config = Config::load(config).map_err(explain)?;
    let (root, certificate) = (read_file(root)?, read_file(certificate)?);
    ca::install(&config, &root, &certificate, clock::now()).map_err(explain)?;
    println!("installed; start the service with: touchmark server run");
    Ok(())
}

fn show(config: &std::path::Path, output: Output) -> Result<(), ExitCode> {
    let config = Config::load(config).map_err(explain)?;
    let (root, intermediate) = ca::installed(&config).map_err(explain)?;
    let time = |seconds: i64| clock::rfc3339(u64::try_from(seconds).unwrap_or(0));
    let document = serde_json::json!({
        "trust_domain": config.trust_domain.to_string(),
        "root": {
            "subject": root.subject,
            "pin": hex::encode(root.spki_digest()),
            "not_after": time(root.not_after),
        },
        "intermediate": {
            "subject": intermediate.subject,
            "spki_sha256": hex::encode(intermediate.spki_digest()),
            "not_after": time(intermediate.not_after),
        },
    });
    report(output, &document, |_| {
        format!(
            "trust domain  {}\nroot          {}, until {}\n  pin         {}\nintermediate  {}, until {}",
            config.trust_domain,
            root.subject,
            time(root.not_after),
            hex::encode(root.spki_digest()),
            intermediate.subject,
            time(intermediate.not_after)
        )
    });
    Ok(())
}

fn write(out: Option<&std::path::Path>, text: &str) -> Result<(), ExitCode> {
    match out {
        None => print!("{text}"),
        Some(path) => files::write_public(path, text.as_bytes()).map_err(|error| fail(UNUSABLE, error))?,
    }
    Ok(())
}
