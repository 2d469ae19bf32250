//! `touchmark verify ear`: what another verifier concluded.

use std::{path::PathBuf, process::ExitCode};

use serde_json::{Value, json};
use touchmark_crypto::jose::json as strict;
use touchmark_rats::ear::{
    AttestationResult, Demands, EvidenceKey, Nonce, Occasion, Profile, VECTOR_CLAIMS, rely,
};

use super::{input, outcome::Report};
use crate::{
    exit::{UNUSABLE, fail},
    output::Output,
};

/// The profiles of results that are read.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ProfileName {
    /// draft-ietf-rats-ear-03.
    #[value(name = "ear-03")]
    Ear03,
    /// Veraison's services and rust-ear.
    #[value(name = "ear-veraison")]
    Veraison,
    /// Confidential Containers' Trustee.
    #[value(name = "ear-trustee")]
    Trustee,
}

/// A signed attestation result.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The result, a JWT; `-` for standard input.
    file: PathBuf,
    /// The verifier's key, a JWK. No key that comes with a result is ever believed.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The profile that the verifier follows.
    #[arg(long, value_enum, default_value = "ear-03")]
    profile: ProfileName,
    /// The nonce that the result has to carry, as text.
    #[arg(long, value_name = "TEXT")]
    nonce: Option<String>,
    /// A submodule that has to be there and decides; may be repeated. Without, all that are there decide.
    #[arg(long = "submodule", value_name = "NAME")]
    submodules: Vec<String>,
    /// An entry of the AR4SI vector that has to be there and affirming, for example executables; may be repeated.
    #[arg(long = "entry", value_name = "NAME", value_parser = entry)]
    entries: Vec<usize>,
    /// The developer that the verifier's identity has to name.
    #[arg(long, value_name = "TEXT")]
    developer: Option<String>,
    /// The attestation key that each submodule has to name (key attestation, akpub): a public key or its certificate.
    #[arg(long, value_name = "FILE")]
    attested_key: Option<PathBuf>,
    /// Accepts results without an end.
    #[arg(long)]
    without_exp: bool,
    /// When it has to hold; now by default.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// The position of an entry by its name.
fn entry(name: &str) -> Result<usize, String> {
    VECTOR_CLAIMS
        .iter()
        .position(|known| *known == name)
        .ok_or_else(|| format!("entries are {}", VECTOR_CLAIMS.join(", ")))
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    judge(arguments).map_or_else(|code| code, |report| report.print(arguments.output))
}

fn judge(arguments: &Arguments) -> Result<Report, ExitCode> {
    let bytes = input::read(&arguments.file)?;
    let jwk = input::read(&arguments.key)?;
    let jwk = strict::object(&jwk).map_err(|error| {
        fail(
            UNUSABLE,
            format!("{}: not a JWK: {error}", arguments.key.display()),
        )
    })?;
    let now = input::moment(arguments.at.as_deref())?;
    let text = String::from_utf8_lossy(&bytes);
    let demands = Demands {
        profile: match arguments.profile {
            ProfileName::Ear03 => Profile::Ear03,
            ProfileName::Veraison => Profile::Veraison,
            ProfileName::Trustee => Profile::Trustee,
        },
        without_exp: arguments.without_exp,
        developer: arguments.developer.clone(),
        submodules: arguments.submodules.clone(),
        vector: arguments.entries.clone(),
    };
    let attested = arguments
        .attested_key
        .as_ref()
        .map(|path| input::public_key(path))
        .transpose()?;
    let occasion = Occasion {
        nonce: arguments.nonce.as_deref().map(Nonce::Text),
        key: attested.as_ref().map(|key| EvidenceKey::Demanded(key.spki())),
        now,
    };
    let relied = rely(&text, &jwk, &demands, occasion);
    let Some(result) = relied.signed else {
        return Ok(Report::of(relied.checks));
    };
    let mut report = Report::of(relied.checks)
        .with(
            "verifier",
            json!({"developer": result.verifier.0, "build": result.verifier.1}),
        )
        .with("submodules", submodules(&result));
    report.story = vec![format!(
        "{:14}{}, {}",
        "Verifier", result.verifier.0, result.verifier.1
    )];
    for submodule in &result.submodules {
        let status = format!("{:?}", submodule.status).to_lowercase();
        report
            .story
            .push(format!("{:14}{} is {status}", "Submodule", submodule.name));
        for (at, value) in &submodule.vector {
            let name = VECTOR_CLAIMS.get(*at).copied().unwrap_or_default();
            report.story.push(format!("{:14}{name} {value}", ""));
        }
    }
    Ok(report)
}

fn submodules(result: &AttestationResult) -> Value {
    result
        .submodules
        .iter()
        .map(|submodule| {
            let vector: serde_json::Map<String, Value> = submodule
                .vector
                .iter()
                .filter_map(|(at, value)| Some(((*VECTOR_CLAIMS.get(*at)?).to_owned(), json!(value))))
                .collect();
            json!({
                "name": submodule.name,
                "status": format!("{:?}", submodule.status).to_lowercase(),
                "vector": vector,
                "policies": submodule.policies,
            })
        })
        .collect()
}
