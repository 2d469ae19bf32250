//! `touchmark verify cmw`: what a wrapper holds.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::{Value, json};
use touchmark_crypto::{
    cose::{ContentType, CoseMessage},
    jose::{VerifyingKey, json as strict},
    x509::DeviceCertificate,
};
use touchmark_rats::{
    Check, Reason,
    cmw::{Cmw, CmwError, EXTENSION, Member, Type, read_extension},
};
use touchmark_tls::clock::rfc3339;

use super::{input, outcome::Report};
use crate::{
    exit::{UNUSABLE, fail},
    output::Output,
};

/// A conceptual message wrapper, in any of its forms.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The wrapper, JSON or CBOR, or a certificate that has one in it, DER or PEM; `-` for standard input.
    file: PathBuf,
    /// It is signed (COSE_Sign1); the signer's key, a JWK.
    #[arg(long, value_name = "FILE")]
    signer: Option<PathBuf>,
    /// When a certificate has to hold; now by default.
    #[arg(long, value_name = "TIME", conflicts_with = "signer")]
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
    let mut checks = Vec::new();
    let certificate = input::in_file(&bytes)
        .first()
        .and_then(|der| DeviceCertificate::parse(der).ok());
    let read = match (&arguments.signer, certificate) {
        (Some(path), _) => signed(&bytes, path, &mut checks)?,
        (None, Some(certificate)) => {
            let now = input::moment(arguments.at.as_deref())?;
            certified(&certificate, now, &mut checks)
        }
        (None, None) if CoseMessage::parse(&bytes).is_ok() => {
            return Err(fail(
                UNUSABLE,
                "the wrapper is signed (COSE_Sign1): give its signer's key with --signer",
            ));
        }
        (None, None) => Some(Cmw::parse(&bytes)),
    };
    match read {
        None => Ok(Report::of(checks)),
        Some(Ok(cmw)) => {
            checks.push(Check::passed("cmw.structure", "a conceptual message wrapper"));
            let signed = arguments.signer.is_some();
            let mut report = Report::of(checks).with("cmw", document(&cmw));
            report.unproved =
                (!signed).then_some("nobody signed it, or nobody who vouches for its signer was asked");
            tell(&cmw, 0, &mut report.story);
            Ok(report)
        }
        Some(Err(error)) => {
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

/// The wrapper in COSE; `None` where the checks say why it is not looked at.
fn signed(
    bytes: &[u8],
    signer: &Path,
    checks: &mut Vec<Check>,
) -> Result<Option<Result<Cmw, CmwError>>, ExitCode> {
    let jwk = input::read(signer)?;
    let jwk = strict::object(&jwk)
        .map_err(|error| fail(UNUSABLE, format!("{}: not a JWK: {error}", signer.display())))?;
    let message = match CoseMessage::parse(bytes) {
        Ok(message) => message,
        Err(error) => {
            let expected = "a COSE_Sign1 of a wrapper";
            checks.push(refuse(
                "cmw.structure",
                Reason::Malformed,
                expected,
                error.to_string(),
            ));
            return Ok(None);
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
        return Ok(None);
    }
    let key = VerifyingKey::for_alg(&jwk, message.alg())
        .map_err(|error| fail(UNUSABLE, format!("{}: {error}", signer.display())))?;
    match message.verify(&key, &[], None) {
        Ok(payload) => {
            checks.push(Check::passed("cmw.signature", "verifies under the signer's key"));
            Ok(Some(Cmw::from_cbor(payload)))
        }
        Err(error) => {
            let expected = "the signer's signature";
            checks.push(refuse(
                "cmw.signature",
                Reason::SignatureInvalid,
                expected,
                error.to_string(),
            ));
            Ok(None)
        }
    }
}

/// The wrapper in a certificate's extension; `None` where it has none. Nobody is asked to vouch for the certificate.
fn certified(
    certificate: &DeviceCertificate,
    now: u64,
    checks: &mut Vec<Check>,
) -> Option<Result<Cmw, CmwError>> {
    let facts = &certificate.facts;
    let Some(value) = facts.extension(EXTENSION) else {
        let expected = "a certificate with a wrapper (extension 1.3.6.1.5.5.7.1.35)";
        let found = format!("none in the certificate of {}", certificate.label());
        checks.push(refuse("cmw.certificate", Reason::ClaimMissing, expected, found));
        return None;
    };
    let moment = |time: i64| rfc3339(u64::try_from(time).unwrap_or_default());
    let found = format!(
        "{}, from {} to {}; its issuer was not looked at",
        certificate.label(),
        moment(facts.not_before),
        moment(facts.not_after)
    );
    let now_signed = i64::try_from(now).unwrap_or(i64::MAX);
    checks.push(if now_signed < facts.not_before || now_signed > facts.not_after {
        let expected = format!("a certificate that holds at {}", rfc3339(now));
        refuse("cmw.certificate", Reason::CertExpired, &expected, found)
    } else {
        Check::passed("cmw.certificate", found)
    });
    if facts.is_critical(EXTENSION) {
        let found = "it is critical, where the text says it should not be";
        checks.push(Check::noted("cmw.extension", Reason::ClaimInvalid, found));
    }
    Some(read_extension(value))
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
