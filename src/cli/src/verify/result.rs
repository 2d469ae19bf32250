//! `touchmark verify ear`: what another verifier concluded.

use std::{path::PathBuf, process::ExitCode};

use serde_json::{Value, json};
use touchmark_crypto::jose::{JoseAlg, VerifyingKey, json as strict, jws::Jws};
use touchmark_rats::{
    Check, Reason,
    ear::{AttestationResult, Profile, VECTOR_CLAIMS},
    eat::{self, ClaimsSet},
};

use super::{input, outcome::Report};
use crate::{
    exit::{UNUSABLE, fail},
    output::Output,
};

/// Seconds that clocks may differ by.
const LEEWAY: u64 = 30;

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
    let mut checks = Vec::new();
    let profile = match arguments.profile {
        ProfileName::Ear03 => Profile::Ear03,
        ProfileName::Veraison => Profile::Veraison,
        ProfileName::Trustee => Profile::Trustee,
    };
    let refuse = |name, reason, expected: &str, found: String| {
        Check::failed(
            name,
            reason,
            expected,
            found,
            "ask the verifier for another result",
        )
    };
    let jws = match Jws::parse_within(text.trim(), eat::MAX_CLAIMS) {
        Ok(jws) => jws,
        Err(error) => {
            let check = refuse(
                "ear.structure",
                Reason::Malformed,
                "a compact JWS",
                error.to_string(),
            );
            return Ok(Report::of(vec![check]));
        }
    };
    let Some(alg) = jws.header("alg").and_then(JoseAlg::from_name) else {
        let found = jws.header("alg").unwrap_or("none").to_owned();
        let check = refuse(
            "ear.algorithm",
            Reason::AlgNotAllowed,
            "a signature algorithm",
            found,
        );
        return Ok(Report::of(vec![check]));
    };
    let key = VerifyingKey::for_alg(&jwk, alg)
        .map_err(|error| fail(UNUSABLE, format!("{}: {error}", arguments.key.display())))?;
    let payload = match jws.verify_signature(&key) {
        Ok(payload) => payload,
        Err(error) => {
            let check = refuse(
                "ear.signature",
                Reason::SignatureInvalid,
                "the verifier's signature",
                error.to_string(),
            );
            return Ok(Report::of(vec![check]));
        }
    };
    checks.push(Check::passed(
        "ear.signature",
        "verifies under the verifier's key",
    ));
    let read = ClaimsSet::from_json(payload).and_then(|claims| {
        claims.check()?;
        AttestationResult::read(&claims, profile)
    });
    let result = match read {
        Ok(result) => result,
        Err(error) => {
            checks.push(refuse("ear.claims", error.reason, profile.uri(), error.what));
            return Ok(Report::of(checks));
        }
    };
    checks.push(Check::passed("ear.claims", profile.uri()));
    checks.extend(times(&result, arguments.without_exp, now));
    if let Some(nonce) = &arguments.nonce {
        checks.push(match &result.nonce {
            Some(found) if touchmark_crypto::ct_eq(found, nonce.as_bytes()) => {
                Check::passed("ear.nonce", "the one expected")
            }
            Some(_) => refuse(
                "ear.nonce",
                Reason::NonceMismatch,
                "the nonce given",
                "another".to_owned(),
            ),
            None => refuse(
                "ear.nonce",
                Reason::NonceMissing,
                "the nonce given",
                "none".to_owned(),
            ),
        });
    }
    checks.push(if result.is_affirming() {
        Check::passed("ear.status", "every submodule is affirming")
    } else {
        let found: Vec<String> = result
            .submodules
            .iter()
            .map(|submodule| format!("{}: {:?}", submodule.name, submodule.status).to_lowercase())
            .collect();
        refuse(
            "ear.status",
            Reason::ResultNotAffirming,
            "affirming",
            found.join(", "),
        )
    });
    let mut report = Report::of(checks)
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

fn times(result: &AttestationResult, without_exp: bool, now: u64) -> Vec<Check> {
    const NAME: &str = "ear.times";
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let leeway = i64::try_from(LEEWAY).unwrap_or_default();
    let refuse = |reason, expected: &str, found: String| {
        vec![Check::failed(
            NAME,
            reason,
            expected,
            found,
            "ask the verifier for another result",
        )]
    };
    match result.expires_at {
        Some(end) if end <= now - leeway => refuse(
            Reason::Expired,
            "a result that has not ended",
            format!("it ended at {end}"),
        ),
        None if !without_exp => refuse(
            Reason::ClaimMissing,
            "a result that says when it ends",
            "no exp (--without-exp accepts that)".to_owned(),
        ),
        _ if result.issued_at > now + leeway => {
            let found = format!("it is of {}", result.issued_at);
            refuse(Reason::NotYetValid, "a result that was issued before now", found)
        }
        _ => vec![Check::passed(NAME, "holds")],
    }
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
