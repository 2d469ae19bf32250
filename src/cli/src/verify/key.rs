//! `touchmark verify key`: what a key reference says of where its key is.

use std::{path::PathBuf, process::ExitCode};

use serde_json::json;
use touchmark_custody::{
    KeyReference, ReferenceError,
    tss2::{self, LABEL, ObjectKind},
};
use touchmark_rats::{Check, Reason};

use super::{input, outcome::Report};
use crate::{
    exit::{UNUSABLE, fail},
    output::Output,
};

/// A file that says where a private key is: a TSS2 PRIVATE KEY, which one TPM can load, or a PKCS#11 URI. No device is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The file; `-` for standard input.
    file: PathBuf,
    /// The public key that it has to belong to: a public key or a certificate, DER or PEM.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    judge(arguments).map_or_else(|code| code, |report| report.print(arguments.output))
}

fn judge(arguments: &Arguments) -> Result<Report, ExitCode> {
    let bytes = input::read(&arguments.file)?;
    let wanted = arguments.key.as_deref().map(input::public_key).transpose()?;
    let wanted = wanted.map(|key| key.digest());
    match (bytes.starts_with(b"-----BEGIN"), wanted) {
        (true, wanted) => Ok(file(&bytes, wanted)),
        (false, None) => Ok(uri(&bytes)),
        (false, Some(_)) => Err(fail(
            UNUSABLE,
            "--key: a URI holds no public key to compare with; pkcs11-tool --read-object --type pubkey reads it from the token",
        )),
    }
}

fn file(bytes: &[u8], wanted: Option<[u8; 32]>) -> Report {
    let inspected = match tss2::inspect(bytes) {
        Ok(inspected) => inspected,
        Err(check) => return Report::of(vec![check]),
    };
    let digest = match &inspected.public.kind {
        ObjectKind::Asymmetric(Ok(key)) => Some(key.digest()),
        _ => None,
    };
    let mut checks = inspected.checks;
    checks.extend(wanted.map(|wanted| belongs(digest, wanted)));
    let file = &inspected.file;
    let mut report = Report::of(checks).with(
        "key",
        json!({
            "form": "tss2",
            "kind": file.kind.as_str(),
            "parent": format!("{:#010x}", file.parent),
            "authorization": !file.empty_auth,
            "description": file.description,
            "attributes": format!("{:#010x}", inspected.public.attributes),
            "spki_sha256": digest.map(hex::encode),
        }),
    );
    report.story.push(format!(
        "Wrapped by a key of one TPM (parent {:#010x}): no other can load it ({})",
        file.parent,
        file.kind.as_str()
    ));
    report.story.push(
        match (inspected.public.user_with_auth(), file.empty_auth) {
            (false, _) => "Used by who satisfies its policy: no authorization value does",
            (true, true) => "Used by whoever can read this file on that host: its authorization is empty",
            (true, false) => "Used with an authorization value, which is not in the file",
        }
        .to_owned(),
    );
    report.story.extend(
        file.description
            .as_ref()
            .map(|text| format!("Described as {text}")),
    );
    report
        .story
        .extend(digest.map(|digest| format!("SHA-256 of its SubjectPublicKeyInfo {}", hex::encode(digest))));
    report.unproved = Some("load it in its TPM");
    report
}

/// Whether the file is of the key that it has to be of.
fn belongs(found: Option<[u8; 32]>, wanted: [u8; 32]) -> Check {
    let told = |digest: Option<[u8; 32]>| digest.map_or_else(|| "no public key".to_owned(), hex::encode);
    if found == Some(wanted) {
        return Check::passed("key.match", "the public key that was given");
    }
    Check::failed(
        "key.match",
        Reason::BindingMismatch,
        told(Some(wanted)),
        told(found),
        "give the file of the key itself",
    )
}

fn uri(bytes: &[u8]) -> Report {
    let refused = |error: &ReferenceError| {
        let expected = format!("a {LABEL} in PEM, or a pkcs11: URI of a key (RFC 7512)");
        let remedy = "take what pkcs11-tool or p11tool says of the object, without PIN and module";
        Check::failed(
            "key.structure",
            Reason::Malformed,
            expected,
            error.to_string(),
            remedy,
        )
    };
    let uri = match KeyReference::from_file(bytes) {
        Ok(KeyReference::Pkcs11(uri)) => uri,
        Ok(KeyReference::Tss2(_)) => return Report::of(vec![refused(&ReferenceError::Neither)]),
        Err(error) => return Report::of(vec![refused(&error)]),
    };
    let read = Check::passed("key.structure", "a PKCS#11 URI of a key");
    let mut report = Report::of(vec![read]).with(
        "key",
        json!({
            "form": "pkcs11",
            "uri": uri.to_string(),
            "object": uri.object(),
            "id": uri.id().map(hex::encode),
        }),
    );
    report
        .story
        .push(format!("In the one token that this names, under {uri}"));
    report.unproved = Some("ask the token: pkcs11-tool --login --list-objects");
    report
}
