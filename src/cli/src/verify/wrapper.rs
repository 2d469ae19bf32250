//! `touchmark verify cmw`: what a wrapper holds.

use std::{path::PathBuf, process::ExitCode};

use serde_json::{Value, json};
use touchmark_crypto::{
    cose::{ContentType, CoseMessage},
    jose::{VerifyingKey, json as strict},
};
use touchmark_rats::{
    Check, Reason,
    cmw::{Cmw, CmwError, Member, Type},
};

use super::{input, outcome::Report};
use crate::{
    exit::{UNUSABLE, fail},
    output::Output,
};

/// A conceptual message wrapper, in any of its forms.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The wrapper, JSON or CBOR; `-` for standard input.
    file: PathBuf,
    /// It is signed (COSE_Sign1); the signer's key, a JWK.
    #[arg(long, value_name = "FILE")]
    signer: Option<PathBuf>,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    judge(arguments).map_or_else(|code| code, |report| report.print(arguments.output))
}

fn judge(arguments: &Arguments) -> Result<Report, ExitCode> {
    let bytes = input::read(&arguments.file)?;
    let mut checks = Vec::new();
    let read = match &arguments.signer {
        None if CoseMessage::parse(&bytes).is_ok() => {
            return Err(fail(
                UNUSABLE,
                "the wrapper is signed (COSE_Sign1): give its signer's key with --signer",
            ));
        }
        None => Cmw::parse(&bytes),
        Some(path) => {
            let jwk = input::read(path)?;
            let jwk = strict::object(&jwk)
                .map_err(|error| fail(UNUSABLE, format!("{}: not a JWK: {error}", path.display())))?;
            let message = match CoseMessage::parse(&bytes) {
                Ok(message) => message,
                Err(error) => {
                    let expected = "a COSE_Sign1 of a wrapper";
                    checks.push(refuse(
                        "cmw.structure",
                        Reason::Malformed,
                        expected,
                        error.to_string(),
                    ));
                    return Ok(Report::of(checks));
                }
            };
            if message.content_type() != Some(&ContentType::Media("application/cmw+cbor".to_owned())) {
                let found = format!("{:?}", message.content_type());
                checks.push(refuse(
                    "cmw.content_type",
                    Reason::WrongContentType,
                    "application/cmw+cbor",
                    found,
                ));
                return Ok(Report::of(checks));
            }
            let key = VerifyingKey::for_alg(&jwk, message.alg())
                .map_err(|error| fail(UNUSABLE, format!("{}: {error}", path.display())))?;
            match message.verify(&key, &[], None) {
                Ok(payload) => {
                    checks.push(Check::passed("cmw.signature", "verifies under the signer's key"));
                    Cmw::from_cbor(payload)
                }
                Err(error) => {
                    let expected = "the signer's signature";
                    checks.push(refuse(
                        "cmw.signature",
                        Reason::SignatureInvalid,
                        expected,
                        error.to_string(),
                    ));
                    return Ok(Report::of(checks));
                }
            }
        }
    };
    match read {
        Ok(cmw) => {
            checks.push(Check::passed("cmw.structure", "a conceptual message wrapper"));
            let mut report = Report::of(checks).with("cmw", document(&cmw));
            tell(&cmw, 0, &mut report.story);
            Ok(report)
        }
        Err(error) => {
            let reason = match error {
                CmwError::Malformed(_) => Reason::Malformed,
                CmwError::Duplicate => Reason::DuplicateMember,
            };
            let expected = "a record, a tag or a collection, JSON or CBOR";
            checks.push(refuse("cmw.structure", reason, expected, error.to_string()));
            Ok(Report::of(checks))
        }
    }
}

fn refuse(name: &'static str, reason: Reason, expected: &str, found: String) -> Check {
    Check::failed(name, reason, expected, found, "ask whoever made it for another")
}

fn kind(kind: &Type) -> String {
    match kind {
        Type::Media(media) => media.clone(),
        Type::Format(format) => format!("content format {format}"),
        Type::Tag(tag) => format!("tag {tag}"),
    }
}

fn member(name: &Member) -> String {
    match name {
        Member::Text(text) => text.clone(),
        Member::Number(number) => number.to_string(),
    }
}

fn document(cmw: &Cmw) -> Value {
    match cmw {
        Cmw::Message {
            kind,
            value,
            indicator,
        } => json!({"type": self::kind(kind), "value": hex::encode(value), "indicator": indicator}),
        Cmw::Collection { kind, members } => {
            let members: serde_json::Map<String, Value> = members
                .iter()
                .map(|(name, value)| (member(name), document(value)))
                .collect();
            json!({"collection": kind, "members": members})
        }
    }
}

fn tell(cmw: &Cmw, depth: usize, lines: &mut Vec<String>) {
    let space = "  ".repeat(depth);
    match cmw {
        Cmw::Message {
            kind,
            value,
            indicator,
        } => {
            let bits = indicator.unwrap_or(0);
            let names = [
                "reference values",
                "endorsements",
                "evidence",
                "attestation results",
                "appraisal policy",
            ];
            let said: Vec<&str> = names
                .iter()
                .enumerate()
                .filter(|(bit, _)| bits >> bit & 1 == 1)
                .map(|(_, name)| *name)
                .collect();
            let said = if said.is_empty() {
                String::new()
            } else {
                format!(": {}", said.join(", "))
            };
            lines.push(format!(
                "{space}{}, {} bytes{said}",
                self::kind(kind),
                value.len()
            ));
        }
        Cmw::Collection { kind, members } => {
            let of = kind
                .as_deref()
                .map(|kind| format!(" of {kind}"))
                .unwrap_or_default();
            lines.push(format!("{space}collection{of}, {} members", members.len()));
            for (name, value) in members {
                lines.push(format!("{space}  {}:", member(name)));
                tell(value, depth + 2, lines);
            }
        }
    }
}
