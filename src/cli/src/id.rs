//! `touchmark id`: identifiers, offline.

use std::process::ExitCode;

use serde_json::{Value, json};
use touchmark_identity::{Naming, TrustDomain, WorkloadId};

use crate::{
    exit::{REFUSED, UNUSABLE, fail},
    output::{Output, report},
};

/// What to do with them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Id {
    /// Says of each URI whether it is a workload identifier, and if not, why.
    Check {
        /// URIs.
        #[arg(required = true)]
        uris: Vec<String>,
        /// A trust domain that is configured with a scheme of its own, or named by an address: its identifiers are read
        /// too.
        #[arg(long, value_name = "ORIGIN")]
        trust_domain: Option<String>,
        /// How to report.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
}

pub(crate) fn run(command: Id) -> ExitCode {
    let Id::Check {
        uris,
        trust_domain,
        output,
    } = command;
    let domain = match trust_domain.as_deref().map(configured).transpose() {
        Ok(domain) => domain,
        Err(code) => return code,
    };
    let results: Vec<Value> = uris.iter().map(|uri| check(uri, domain.as_ref())).collect();
    let all = results.iter().all(|result| result["valid"] == true);
    report(output, &Value::Array(results), |results| {
        let lines: Vec<String> = results.as_array().into_iter().flatten().map(line).collect();
        lines.join("\n")
    });
    if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(REFUSED)
    }
}

/// A trust domain as whoever names it here would configure it.
fn configured(origin: &str) -> Result<TrustDomain, ExitCode> {
    let (scheme, name) = origin.split_once("://").unwrap_or_default();
    let naming = Naming {
        scheme: Some(scheme.to_owned()),
        ip_literal: Some(name.to_owned()),
    };
    TrustDomain::configured(origin, &naming)
        .map_err(|error| fail(UNUSABLE, format!("--trust-domain: {error}; {}", error.remedy())))
}

fn check(uri: &str, domain: Option<&TrustDomain>) -> Value {
    let read = |domain: &TrustDomain| domain.workload(uri).ok();
    let own = domain.and_then(read);
    match own.map_or_else(|| WorkloadId::parse(uri), Ok) {
        Ok(id) => json!({
            "uri": uri,
            "valid": true,
            "trust_domain": id.trust_domain().to_string(),
            "path": id.path(),
        }),
        Err(error) => json!({
            "uri": uri,
            "valid": false,
            "class": error.class().as_str(),
            "reason": error.reason(),
            "detail": error.to_string(),
            "remedy": error.remedy(),
        }),
    }
}

fn line(result: &Value) -> String {
    let text = |member: &str| result[member].as_str().unwrap_or_default();
    let uri = text("uri").escape_debug();
    if result["valid"] == true {
        format!(
            "{uri}: an identifier of {}, path {}",
            text("trust_domain"),
            text("path")
        )
    } else {
        format!(
            "{uri}: {} ({}); {}",
            text("detail"),
            text("reason"),
            text("remedy")
        )
    }
}
