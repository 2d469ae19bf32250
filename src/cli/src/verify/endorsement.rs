//! `touchmark verify ek`: whether a maker vouches for a chip.

use std::{path::PathBuf, process::ExitCode};

use serde_json::json;
use touchmark_attestor_tpm::{CertificateUse, Maker, judge_certificate, shipped, shipped_names};
use touchmark_crypto::x509::{DeviceAnchors, DeviceCertificate};
use touchmark_rats::{Check, MakerKind, Reason};

use super::{input, outcome::Report};
use crate::{
    exit::{UNUSABLE, fail},
    output::Output,
};

/// An endorsement certificate.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The certificate, DER or PEM, or what a TPM's NV index holds.
    file: PathBuf,
    /// Roots that have to vouch for it; without any, those of the makers that are shipped.
    #[arg(long, value_name = "FILE")]
    roots: Vec<PathBuf>,
    /// Certificates between them.
    #[arg(long, value_name = "FILE")]
    intermediates: Vec<PathBuf>,
    /// Accepts certificates without the extended key usage and the names of the TCG profile, as some clouds issue them.
    #[arg(long)]
    bare: bool,
    /// It is the certificate of an attestation key instead.
    #[arg(long, conflicts_with = "bare")]
    attestation_key: bool,
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
    let presented = input::in_file(&bytes);
    let first = presented.first().map(Vec::as_slice).unwrap_or_default();
    let Ok(der) = DeviceCertificate::in_nv(first) else {
        return Ok(Report::of(vec![Check::failed(
            "tpm.endorsement_certificate.structure",
            Reason::Malformed,
            "an X.509 certificate",
            "something else",
            "give the certificate, DER or PEM, or what the TPM's NV index holds",
        )]));
    };
    let mut intermediates = input::certificates(&arguments.intermediates)?;
    intermediates.extend(presented.iter().skip(1).cloned());
    let now = input::moment(arguments.at.as_deref())?;
    let makers = if arguments.roots.is_empty() {
        shipped_names()
            .filter_map(shipped)
            .collect::<Result<Vec<Maker>, _>>()
            .map_err(|error| fail(UNUSABLE, error))?
    } else {
        vec![Maker {
            name: "the roots given".to_owned(),
            anchors: input::anchors(&arguments.roots)?,
            intermediates: DeviceAnchors::default(),
            kind: MakerKind::Physical,
            simulated: false,
            bare_certificates: arguments.bare,
            attestation_certificates: arguments.attestation_key,
        }]
    };
    let mut telling: Option<Check> = None;
    for maker in makers {
        if arguments.attestation_key && !maker.attestation_certificates {
            continue;
        }
        let usage = match (
            arguments.attestation_key,
            maker.bare_certificates || arguments.bare,
        ) {
            (true, true) => CertificateUse::BareAttestation,
            (true, false) => CertificateUse::Attestation,
            (false, true) => CertificateUse::BareEndorsement,
            (false, false) => CertificateUse::Endorsement,
        };
        let known = maker
            .intermediates
            .certificates()
            .iter()
            .map(|known| known.facts.der.clone());
        let between: Vec<Vec<u8>> = intermediates.iter().cloned().chain(known).collect();
        match judge_certificate(&der, &between, &maker.anchors, usage, now) {
            Ok(chip) => {
                let [manufacturer, model, version] = chip.names().map(|name| name.map(str::to_owned));
                let mut report = Report::of(chip.checks.clone())
                    .with(
                        "maker",
                        if arguments.roots.is_empty() {
                            maker.name.as_str().into()
                        } else {
                            json!(null)
                        },
                    )
                    .with("subject", chip.certificate.label().into())
                    .with("manufacturer", json!(manufacturer))
                    .with("model", json!(model))
                    .with("version", json!(version))
                    .with("ek_digest", hex::encode(chip.key.digest()).into())
                    .with("path", json!(chip.path.through));
                report.story = vec![
                    format!("{:14}{}", "Certificate", chip.certificate.label()),
                    format!(
                        "{:14}{}, {}",
                        "Vouched for",
                        maker.name,
                        match maker.kind {
                            MakerKind::Physical => "a maker of chips",
                            MakerKind::Hypervisor => "a cloud or hypervisor",
                        }
                    ),
                    format!(
                        "{:14}{}",
                        "Through",
                        if chip.path.through.is_empty() {
                            "nothing in between".to_owned()
                        } else {
                            chip.path.through.join("; ")
                        }
                    ),
                    format!("{:14}{}", "EK digest", hex::encode(chip.key.digest())),
                ];
                if !arguments.roots.is_empty() {
                    report.story.remove(1);
                }
                return Ok(report);
            }
            Err(check) => {
                if check.reason() != Some(Reason::PathInvalid) || telling.is_none() {
                    telling = Some(check);
                }
            }
        }
    }
    Ok(Report::of(telling.map(to_do).into_iter().collect()))
}

/// What to do here, where there is no server and no configuration.
fn to_do(mut check: Check) -> Check {
    match check.reason() {
        Some(Reason::CertExpired) => {
            check.remedy = "look at its dates; --at TIME judges it at another time".to_owned();
        }
        Some(Reason::PathInvalid | Reason::IssuerUnavailable) => {
            check.remedy = "give the certificates between it and the maker's root with --intermediates, or the root that you trust with \
                            --roots; a chip that leads to neither is not what it claims"
                .to_owned();
        }
        _ => {}
    }
    check
}
