//! Certificates of TPM keys: endorsement certificates of makers, and attestation key certificates where a cloud issues them
//! (TCG EK Credential Profile 2.5, section 3).

use touchmark_crypto::{
    PublicKey,
    x509::{DeviceAnchors, DeviceCertificate, DeviceError, DevicePath, Habits, verify_device_path},
};
use touchmark_rats::{Check, Reason};

/// tcg-kp-EKCertificate.
const EK_USAGE: &str = "2.23.133.8.1";
/// What certificates of attestation keys are for: tcg-kp-AIKCertificate; as Google has it, tcg-kp-EKCertificate; anyExtendedKeyUsage.
const AK_USAGES: [&str; 3] = ["2.23.133.8.3", EK_USAGE, "2.5.29.37.0"];
/// tcg-at-tpmManufacturer, tcg-at-tpmModel, tcg-at-tpmVersion.
const TCG_NAMES: [&str; 3] = ["2.23.133.2.1", "2.23.133.2.2", "2.23.133.2.3"];

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateUse {
    /// An endorsement key.
    Endorsement,
    /// The same by a maker whose certificates are known to lack the extended key usage and names of the profile.
    BareEndorsement,
    /// An attestation key.
    Attestation,
    /// The same by a maker whose certificates say nothing of their use.
    BareAttestation,
}

/// A certificate of a TPM key that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChipCertificate {
    /// What was looked at, in order; all passed or noted.
    pub checks: Vec<Check>,
    /// The certificate.
    pub certificate: DeviceCertificate,
    /// Its key.
    pub key: PublicKey,
    /// How it leads to an anchor.
    pub path: DevicePath,
}

impl ChipCertificate {
    /// `tpmManufacturer`, `tpmModel` and `tpmVersion`, where the certificate names them.
    pub fn names(&self) -> [Option<&str>; 3] {
        TCG_NAMES.map(|oid| {
            let names = &self.certificate.facts.directory_sans;
            let named = names.iter().find(|attribute| attribute.oid == oid);
            named.map(|attribute| attribute.value.as_str())
        })
    }
}

/// How the checks of a certificate are called.
pub(crate) struct Names {
    parse: &'static str,
    pub(crate) key: &'static str,
    pub(crate) path: &'static str,
    profile: &'static str,
}

const EK: Names = Names {
    parse: "tpm.endorsement_certificate.structure",
    key: "tpm.endorsement_certificate.key",
    path: "tpm.endorsement_certificate.path",
    profile: "tpm.endorsement_certificate.profile",
};
const AK: Names = Names {
    parse: "tpm.attestation_certificate.structure",
    key: "tpm.attestation_certificate.key",
    path: "tpm.attestation_certificate.path",
    profile: "tpm.attestation_certificate.profile",
};

/// Reads a certificate and its key, before anything vouches for it.
pub(crate) fn read(der: &[u8], usage: CertificateUse) -> Result<(DeviceCertificate, PublicKey), Check> {
    let names = usage.names();
    let certificate = DeviceCertificate::parse(der).map_err(|error| {
        Check::failed(
            names.parse,
            Reason::Malformed,
            "an X.509 certificate",
            error.to_string(),
            "read the certificate from the TPM again",
        )
    })?;
    let key = PublicKey::from_endorsement_spki(&certificate.facts.spki).map_err(|error| {
        Check::failed(
            names.key,
            Reason::KeyInvalid,
            "an RSA, P-256 or P-384 key",
            error.to_string(),
            "ask the maker about this chip",
        )
    })?;
    if key.is_weak() {
        return Err(Check::failed(
            names.key,
            Reason::WeakKey,
            "a key that nobody can factor",
            "an RSA key of the library of CVE-2017-15361",
            "update the chip's firmware and take its new certificate, or use its elliptic-curve key",
        ));
    }
    Ok((certificate, key))
}

/// Judges a certificate as read, below anchors that are pinned for this use, at `now` (seconds since the epoch).
pub(crate) fn judge(
    certificate: DeviceCertificate,
    key: PublicKey,
    helpers: &[&DeviceCertificate],
    anchors: &DeviceAnchors,
    usage: CertificateUse,
    now: u64,
) -> Result<ChipCertificate, Check> {
    let names = usage.names();
    let mut checks = vec![Check::passed(names.parse, printable(&certificate.label()))];
    let habits = match usage {
        CertificateUse::Attestation | CertificateUse::BareAttestation => Habits::NONE,
        CertificateUse::Endorsement | CertificateUse::BareEndorsement => Habits::OF_TPMS,
    };
    let path = verify_device_path(&certificate, helpers, anchors, habits, now)
        .map_err(|error| refused(&error, anchors, names.path))?;
    if let Some(anchor) = anchors.certificates().get(path.anchor)
        && !anchor.holds_at(now)
    {
        let found = "the root is pinned, and outside of its own dates";
        checks.push(Check::noted(names.path, Reason::CertExpired, found));
    }
    checks.push(if path.weak_hash {
        let found = "a path to a pinned root, part of it signed with SHA-1 as this maker did then";
        Check::noted(names.path, Reason::WeakHash, found)
    } else {
        Check::passed(names.path, "a path to a pinned root")
    });
    if !path.deviations.is_empty() {
        checks.push(Check::noted(
            names.parse,
            Reason::NotDer,
            path.deviations.join(", "),
        ));
    }
    let mut out = ChipCertificate {
        checks,
        certificate,
        key,
        path,
    };
    let profile = out.profile(usage, names.profile)?;
    out.checks.push(profile);
    Ok(out)
}

/// Reads and judges a certificate.
pub fn judge_certificate(
    der: &[u8],
    intermediates: &[Vec<u8>],
    anchors: &DeviceAnchors,
    usage: CertificateUse,
    now: u64,
) -> Result<ChipCertificate, Check> {
    let (certificate, key) = read(der, usage)?;
    let helpers: Vec<DeviceCertificate> = intermediates
        .iter()
        .filter_map(|der| DeviceCertificate::parse(der).ok())
        .collect();
    let helpers: Vec<&DeviceCertificate> = helpers.iter().collect();
    judge(certificate, key, &helpers, anchors, usage, now)
}

impl CertificateUse {
    pub(crate) fn names(self) -> &'static Names {
        match self {
            Self::Endorsement | Self::BareEndorsement => &EK,
            Self::Attestation | Self::BareAttestation => &AK,
        }
    }
}

impl ChipCertificate {
    fn profile(&self, usage: CertificateUse, name: &'static str) -> Result<Check, Check> {
        let facts = &self.certificate.facts;
        let refuse = |reason, expected: &str, found: &str| {
            let remedy = "this is not a certificate of the TCG profile: ask the maker about this chip";
            Err(Check::failed(name, reason, expected, found, remedy))
        };
        if facts.is_ca {
            return refuse(
                Reason::Eku,
                "the certificate of a key of a chip",
                "one of an authority",
            );
        }
        if let CertificateUse::Attestation | CertificateUse::BareAttestation = usage {
            return self.attests(usage == CertificateUse::BareAttestation, name, refuse);
        }
        if !self.certificate.may_receive_secrets() {
            return refuse(
                Reason::Eku,
                "a key that secrets are sealed to: key usage keyEncipherment or keyAgreement",
                "a signing key, such as an attestation key",
            );
        }
        let bare = usage == CertificateUse::BareEndorsement;
        let usages = &facts.extended_key_usages;
        let named = self.names().iter().all(Option::is_some);
        if !usages.iter().any(|oid| oid == EK_USAGE) {
            if !usages.is_empty() || !bare {
                return refuse(
                    Reason::Eku,
                    "extended key usage tcg-kp-EKCertificate (2.23.133.8.1)",
                    "a certificate without it",
                );
            }
            return Ok(Check::noted(
                name,
                Reason::Eku,
                "neither the extended key usage nor the names of the profile, as this maker's certificates are",
            ));
        }
        if !named && !bare {
            return refuse(
                Reason::Eku,
                "TPM manufacturer, model and version in the SubjectAltName",
                "a certificate without them",
            );
        }
        let names: Vec<&str> = self.names().into_iter().flatten().collect();
        Ok(Check::passed(name, printable(&names.join(" "))))
    }

    /// The certificate of an attestation key.
    fn attests(
        &self,
        bare: bool,
        name: &'static str,
        refuse: impl Fn(Reason, &str, &str) -> Result<Check, Check>,
    ) -> Result<Check, Check> {
        if !self.certificate.may_sign() {
            return refuse(
                Reason::Eku,
                "a key that signs: key usage digitalSignature",
                "one that secrets are sealed to, such as an endorsement key",
            );
        }
        let usages = &self.certificate.facts.extended_key_usages;
        if usages.is_empty() && bare {
            let found = "a certificate that says nothing of its use";
            return Ok(Check::noted(name, Reason::Eku, found));
        }
        if !usages.iter().any(|oid| AK_USAGES.contains(&oid.as_str())) {
            return refuse(
                Reason::Eku,
                "extended key usage tcg-kp-AIKCertificate (2.23.133.8.3), or that of endorsement keys",
                "a certificate for something else, or for nothing that it says",
            );
        }
        Ok(Check::passed(name, "a key of a chip"))
    }
}

fn refused(error: &DeviceError, anchors: &DeviceAnchors, name: &'static str) -> Check {
    let found = printable(&error.to_string());
    let expected = "a chain to the root of a pinned maker";
    let pin = "if you trust this maker, add its root under [[tpm.maker]] in server.toml; otherwise this chip is not what it \
               claims";
    let reason = Reason::of_path(error, anchors);
    match reason {
        Reason::CertExpired => Check::failed(
            name,
            reason,
            "a certificate within its validity",
            found,
            "check the server's clock",
        ),
        Reason::IssuerUnavailable => {
            Check::failed(name, reason, expected, format!("no root is pinned; {found}"), pin)
        }
        _ => Check::failed(name, reason, expected, found, pin),
    }
}

/// What a certificate says, fit for a terminal and a log: nobody has vouched for it.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .take(300)
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .collect()
}
