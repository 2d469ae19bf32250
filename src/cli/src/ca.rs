//! `touchmark ca`: the offline root and the service's intermediate.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use touchmark_api::device::{Settings, TokenSettings};
use touchmark_crypto::{CryptoError, pem, sha256, x509::Certificate};
use touchmark_custody::CustodyError;
use touchmark_helper::{Device, Token};
use touchmark_identity::{IdentifierError, Naming, TrustDomain};
use touchmark_server::{Config, Holder, ServerError, ca};
use touchmark_tls::{clock, files};

use crate::{
    admin::read_file,
    exit::{REFUSED, UNREACHABLE, UNUSABLE, fail},
    output::{Output, report},
};

/// The four acts, and a look.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Ca {
    /// Makes the offline root: its key in a TPM or an HSM of its own, its certificate in a folder.
    Init {
        /// Folder of the root, made if missing; keep it with the machine that has the device.
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
    /// Makes the service's intermediate key in its TPM or HSM and writes a request for the root.
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
        /// Where to write what was signed with what, for a second person to check.
        #[arg(long, value_name = "FILE")]
        transcript: Option<PathBuf>,
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

/// The TPM or the HSM that holds the root's key.
#[derive(Debug, clap::Args)]
pub(crate) struct RootDevice {
    /// TCTI of the root's TPM.
    #[arg(long, default_value = "device:/dev/tpmrm0", conflicts_with = "hsm_module")]
    device: String,
    /// Instead of a TPM: the PKCS#11 module of the HSM's vendor.
    #[arg(long, value_name = "FILE", requires = "hsm_token")]
    hsm_module: Option<PathBuf>,
    /// The token in the HSM, a PKCS#11 URI.
    #[arg(long, value_name = "URI", requires = "hsm_module")]
    hsm_token: Option<String>,
    /// File with the PIN of the token, readable by nobody else.
    #[arg(long, value_name = "FILE", requires = "hsm_module")]
    hsm_pin_file: Option<PathBuf>,
    /// Path of touchmark-device; beside this binary by default.
    #[arg(long)]
    device_path: Option<PathBuf>,
}

impl RootDevice {
    fn open(self) -> Result<Holder, ExitCode> {
        let path = match self.device_path {
            Some(path) => path,
            None => Device::beside_this_binary().map_err(|error| fail(UNUSABLE, error))?,
        };
        let (Some(module), Some(token)) = (self.hsm_module, self.hsm_token) else {
            return Ok(Holder::Tpm(Device::new(&path, Settings::at(self.device))));
        };
        let text = |path: PathBuf| path.display().to_string();
        let token = Token::new(
            &path,
            TokenSettings {
                module: text(module),
                token,
                pin_file: self.hsm_pin_file.map(text),
                sessions: 1,
            },
        );
        token.check().map_err(|error| fail(UNUSABLE, error))?;
        Ok(Holder::Token(token))
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
            transcript,
            device,
        } => {
            let files = Signing {
                dir: &dir,
                request: &request,
                out: out.as_deref(),
                transcript: transcript.as_deref(),
            };
            sign(&files, days, yes, device)
        }
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

fn init(dir: &Path, trust_domain: &str, naming: NamingArguments, device: RootDevice) -> Result<(), ExitCode> {
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
    let holder = device.open()?;
    let root = ca::init(dir, &domain, &holder, clock::now()).map_err(explain)?;
    println!("root of {domain}: {}", dir.join("root.pem").display());
    match holder {
        Holder::Tpm(_) => println!(
            "its key is in the TPM; {} can be loaded by no other",
            dir.join("root.tss2").display()
        ),
        Holder::Token(_) => println!(
            "its key is in the HSM; {} says which it is",
            dir.join("root.uri").display()
        ),
    }
    println!("pin for agents (root_pins): {}", hex::encode(root.spki_digest()));
    println!("a key in one device has no backup: make a second root elsewhere and pin both");
    Ok(())
}

fn request(config: &Path, out: Option<&Path>) -> Result<(), ExitCode> {
    let config = Config::load(config).map_err(explain)?;
    let (request, key) = ca::request(&config).map_err(explain)?;
    eprintln!("key of the service's intermediate: SHA-256 {}", hex::encode(key));
    write(out, &request)
}

/// The files of a signature.
struct Signing<'a> {
    dir: &'a Path,
    request: &'a Path,
    out: Option<&'a Path>,
    transcript: Option<&'a Path>,
}

fn sign(files: &Signing<'_>, days: u32, yes: bool, device: RootDevice) -> Result<(), ExitCode> {
    let text = read_file(files.request)?;
    let proposal = ca::propose(files.dir, &text, u64::from(days) * 86_400, clock::now()).map_err(explain)?;
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
    let holder = device.open()?;
    let certificate = ca::sign(files.dir, &proposal, &holder).map_err(explain)?;
    if let Some(path) = files.transcript {
        let told = ca::tell_root(files.dir, &holder).map_err(explain)?;
        let text = transcript(&proposal, &told, &text, &certificate).map_err(explain)?;
        files::write_public(path, text.as_bytes()).map_err(|error| fail(UNUSABLE, error))?;
    }
    write(files.out, &certificate)
}

/// What was signed with what, and how somebody else sees that it is so.
fn transcript(
    proposal: &ca::Proposal,
    root_key: &str,
    request: &str,
    certificate: &str,
) -> Result<String, ServerError> {
    let der = pem::decode_all(pem::CERTIFICATE, certificate)?
        .into_iter()
        .next()
        .unwrap_or_default();
    let issued = Certificate::parse(&der)?;
    let (from, to) = (
        clock::rfc3339(proposal.not_before),
        clock::rfc3339(proposal.not_after),
    );
    Ok(format!(
        "A root signed an intermediate, at {}.\n\n\
         root           {}\n\
         trust domain   {}\n\
         root\'s pin     {}  (SHA-256 of its SubjectPublicKeyInfo)\n\
         root\'s key     {root_key}\n\
         request        {}  (SHA-256 of the file)\n\
         key            {:?}, {}  (SHA-256 of its SubjectPublicKeyInfo)\n\
         certificate    {}  (SHA-256 of its DER)\n\
         serial number  {}\n\
         subject        CN={}\n\
         valid          {from} to {to}\n\
         as             CA for leaves only (pathLen 0)\n\n\
         To check it, beside root.pem, request.pem and intermediate.pem:\n\
         \x20 sha256sum request.pem\n\
         \x20 openssl req -in request.pem -noout -verify\n\
         \x20 openssl req -in request.pem -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum\n\
         \x20 openssl x509 -in intermediate.pem -outform DER | sha256sum\n\
         \x20 openssl x509 -in root.pem -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum\n\
         \x20 openssl verify -CAfile root.pem intermediate.pem\n\
         Nothing in a request shows where its key lives: compare its digest with what touchmark ca request printed.\n",
        clock::rfc3339(clock::now()),
        proposal.root.subject,
        proposal.root.uri_sans.join(", "),
        hex::encode(proposal.root.spki_digest()),
        hex::encode(sha256(&[request.as_bytes()])),
        proposal.key.kind(),
        hex::encode(proposal.key.digest()),
        hex::encode(sha256(&[&der])),
        hex::encode(&issued.serial),
        proposal.common_name,
    ))
}

fn install(config: &Path, root: &Path, certificate: &Path) -> Result<(), ExitCode> {
    let config = Config::load(config).map_err(explain)?;
    let (root, certificate) = (read_file(root)?, read_file(certificate)?);
    ca::install(&config, &root, &certificate, clock::now()).map_err(explain)?;
    println!("installed; start the service with: touchmark server run");
    Ok(())
}

fn show(config: &Path, output: Output) -> Result<(), ExitCode> {
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

fn write(out: Option<&Path>, text: &str) -> Result<(), ExitCode> {
    match out {
        None => print!("{text}"),
        Some(path) => files::write_public(path, text.as_bytes()).map_err(|error| fail(UNUSABLE, error))?,
    }
    Ok(())
}
