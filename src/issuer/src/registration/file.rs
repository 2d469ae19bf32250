//! Files of registrations, applied as a whole per label, and the checks on what they say.

use serde::{Deserialize, Serialize};
use touchmark_custody::{Class, KeyUse};
use touchmark_identity::TrustDomain;

use crate::{
    Kind,
    duration::{format_duration, parse_duration},
};

use super::Registration;

/// Most registrations in one file.
pub const MAX_REGISTRATIONS: usize = 10_000;
/// Longest life of a credential, in seconds.
const MAX_LIFETIME: u64 = 24 * 3600;
/// Shortest life of a credential, in seconds.
const MIN_LIFETIME: u64 = 60;

/// Why a file of registrations was refused. Nothing of it is applied then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// Not TOML of the expected shape; the text names line and field.
    #[error("{0}")]
    Toml(String),
    /// A label or name that is empty, too long or not printable.
    #[error("{what} {text:?}: use 1 to 64 letters, digits, '.', '_' or '-'")]
    Name {
        /// `label` or `name`.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// Two registrations of one name.
    #[error("registration {0:?} appears twice")]
    Duplicate(String),
    /// More than [`MAX_REGISTRATIONS`].
    #[error("more than 10000 registrations in one file")]
    TooMany,
    /// A field that does not hold.
    #[error("registration {name:?}: {what}")]
    Field {
        /// The registration.
        name: String,
        /// What is wrong and what to do.
        what: String,
    },
}

/// Which hosts a registration is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostSelector {
    /// Hosts with any of these labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Hosts of these names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

/// Which processes a registration is for: all that is given must match.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadSelector {
    /// User id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Path of the executable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// SHA-256 of the executable, lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe_sha256: Option<String>,
}

/// A registration as a file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    name: String,
    identifier: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<HostSelector>,
    workload: WorkloadSelector,
    kinds: Vec<String>,
    custody: Vec<String>,
    #[serde(rename = "use", default = "agent_use")]
    usage: String,
    #[serde(default = "one_hour")]
    lifetime: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dns_names: Vec<String>,
}

fn agent_use() -> String {
    "agent".to_owned()
}

fn one_hour() -> String {
    "1h".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    label: String,
    #[serde(default, rename = "registration")]
    registrations: Vec<Entry>,
}

/// A file of registrations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationFile {
    /// The label that owns them.
    pub label: String,
    /// The registrations.
    pub registrations: Vec<Registration>,
}

impl RegistrationFile {
    /// Reads and checks a file for a trust domain.
    ///
    /// # Errors
    ///
    /// Says which line or field does not hold and what to do.
    pub fn from_toml(text: &str, trust_domain: &TrustDomain) -> Result<Self, RegistrationError> {
        let file: File = toml::from_str(text).map_err(|error| RegistrationError::Toml(error.to_string()))?;
        check_name("label", &file.label)?;
        if file.registrations.len() > MAX_REGISTRATIONS {
            return Err(RegistrationError::TooMany);
        }
        let mut registrations = Vec::new();
        for entry in file.registrations {
            registrations.push(entry.check(trust_domain)?);
        }
        let mut names: Vec<&str> = registrations.iter().map(|entry| entry.name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair.first() == pair.last()) {
            Some(pair) => Err(RegistrationError::Duplicate(
                pair.first().map(|name| (*name).to_owned()).unwrap_or_default(),
            )),
            None => Ok(Self {
                label: file.label,
                registrations,
            }),
        }
    }
}

impl Entry {
    /// The registration, if every field holds.
    pub(super) fn check(self, trust_domain: &TrustDomain) -> Result<Registration, RegistrationError> {
        check_name("name", &self.name)?;
        self.checked(trust_domain)
            .map_err(|what| RegistrationError::Field {
                name: self.name.clone(),
                what,
            })
    }

    fn checked(&self, trust_domain: &TrustDomain) -> Result<Registration, String> {
        let identifier = trust_domain.workload(&self.identifier).map_err(|error| {
            format!(
                "identifier {:?}: {error} ({trust_domain}); {}",
                self.identifier,
                error.remedy()
            )
        })?;
        if identifier.is_reserved() {
            return Err("identifiers below /touchmark/ are the service's own".into());
        }
        if let Some(host) = &self.host {
            check_host(host)?;
        }
        check_workload(&self.workload)?;
        let kinds = all(&self.kinds, Kind::parse).ok_or("kinds: list \"x509\", \"wit\" or both")?;
        let custody = all(&self.custody, Class::parse)
            .ok_or("custody: list classes of hardware, hypervisor, enclave, token, software")?;
        let usage = KeyUse::parse(&self.usage).ok_or("use is \"agent\" or \"file\"")?;
        if usage == KeyUse::File && kinds.contains(&Kind::Wit) {
            return Err("use = \"file\" is for x509 only: proofs for a WIT are made by the agent".into());
        }
        let lifetime = parse_duration(&self.lifetime)
            .filter(|seconds| (MIN_LIFETIME..=MAX_LIFETIME).contains(seconds))
            .ok_or("lifetime: between 60s and 24h, for example \"1h\"")?;
        if let Some(name) = self.dns_names.iter().find(|name| !is_dns_name(name)) {
            return Err(format!("dns_names: {name:?} is not a lower-case DNS name"));
        }
        Ok(Registration {
            name: self.name.clone(),
            identifier,
            host: self.host.clone(),
            workload: self.workload.clone(),
            kinds,
            custody,
            usage,
            lifetime,
            dns_names: self.dns_names.clone(),
        })
    }
}

impl From<&Registration> for Entry {
    fn from(registration: &Registration) -> Self {
        Self {
            name: registration.name.clone(),
            identifier: registration.identifier.as_str().to_owned(),
            host: registration.host.clone(),
            workload: registration.workload.clone(),
            kinds: words(&registration.kinds, |kind| kind.as_str()),
            custody: words(&registration.custody, |class| class.as_str()),
            usage: registration.usage.as_str().to_owned(),
            lifetime: format_duration(registration.lifetime),
            dns_names: registration.dns_names.clone(),
        }
    }
}

/// What each word of a list means; `None` for an empty list and for an unknown word.
fn all<T>(list: &[String], parse: fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let parsed: Option<Vec<T>> = list.iter().map(|word| parse(word)).collect();
    parsed.filter(|parsed| !parsed.is_empty())
}

fn words<T: Copy>(list: &[T], word: fn(T) -> &'static str) -> Vec<String> {
    list.iter().map(|item| word(*item).to_owned()).collect()
}

fn check_host(host: &HostSelector) -> Result<(), String> {
    match (host.labels.is_empty(), host.names.is_empty()) {
        (true, true) => {
            Err("host selects nothing: give labels or names, or leave it out for any attested host".into())
        }
        (false, false) => {
            Err("host: give labels or names, not both; alternatives are further entries".into())
        }
        _ => Ok(()),
    }
}

fn check_workload(workload: &WorkloadSelector) -> Result<(), String> {
    if *workload == WorkloadSelector::default() {
        return Err("workload selects every process: give uid, gid, exe or exe_sha256".into());
    }
    if workload.exe.as_deref().is_some_and(|exe| !is_plain_path(exe)) {
        return Err(
            "workload.exe is not a path as the kernel names an executable: absolute, without '.', '..' or double \
             slashes, symbolic links resolved (readlink -f)"
                .into(),
        );
    }
    let digest =
        |text: &str| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if workload.exe_sha256.as_deref().is_some_and(|text| !digest(text)) {
        return Err("workload.exe_sha256 is not 64 lower-case hexadecimal digits".into());
    }
    Ok(())
}

/// An absolute path in the one spelling that can ever match: the kernel shows executables so. Links are not looked at;
/// they are another host's.
fn is_plain_path(path: &str) -> bool {
    path.strip_prefix('/')
        .is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        let inner = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label) && name.parse::<std::net::Ipv4Addr>().is_err()
}

fn check_name(what: &'static str, text: &str) -> Result<(), RegistrationError> {
    let printable = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if text.is_empty() || text.len() > 64 || !text.chars().all(printable) {
        return Err(RegistrationError::Name {
            what,
            text: text.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
label = "payments"
[[registration]]
name = "api"
identifier = "spiffe://example.org/payments/api"
host = { labels = ["rack-7"] }
workload = { uid = 1000, exe = "/usr/bin/api" }
kinds = ["x509", "wit"]
custody = ["hardware"]
use = "agent"
lifetime = "1h"
dns_names = ["api.example.org"]
"#;

    fn read(text: &str) -> Result<RegistrationFile, RegistrationError> {
        RegistrationFile::from_toml(text, &TrustDomain::parse_origin("spiffe://example.org").unwrap())
    }

    #[test]
    fn r069_the_documented_file_is_read() {
        let file = read(GOOD).unwrap();
        let registration = &file.registrations[0];
        assert_eq!(registration.lifetime, 3600);
        assert_eq!(registration.kinds, [Kind::X509, Kind::Wit]);
        assert_eq!(registration.custody, [Class::Hardware]);
        assert!(registration.is_for_host("h", &["rack-7".into()]) && !registration.is_for_host("h", &[]));
    }

    #[test]
    fn what_is_stored_reads_back_and_holds_in_its_own_trust_domain_only() {
        let registration = read(GOOD).unwrap().registrations.remove(0);
        let stored = registration.to_json();
        let domain = |origin| TrustDomain::parse_origin(origin).unwrap();
        let again = Registration::from_json(&stored, &domain("spiffe://example.org"));
        assert_eq!(again, Ok(registration));
        let elsewhere = Registration::from_json(&stored, &domain("wimse://example.org"));
        assert!(
            elsewhere
                .unwrap_err()
                .to_string()
                .contains("not in this trust domain")
        );
    }

    #[test]
    fn r069_registrations_that_do_not_hold_are_refused_with_what_to_do() {
        for (from, to, want) in [
            (
                "spiffe://example.org/payments/api",
                "spiffe://other.org/api",
                "not in this trust domain",
            ),
            (
                "spiffe://example.org/payments/api",
                "spiffe://example.org/touchmark/server",
                "the service's own",
            ),
            (
                "spiffe://example.org/payments/api",
                "spiffe://example.org/a/",
                "identifier",
            ),
            ("{ uid = 1000, exe = \"/usr/bin/api\" }", "{}", "every process"),
            ("\"/usr/bin/api\"", "\"api\"", "absolute"),
            ("/usr/bin/api", "/usr/bin/../bin/api", "readlink"),
            ("/usr/bin/api", "/usr//bin/api", "readlink"),
            ("/usr/bin/api", "/usr/bin/api/", "readlink"),
            ("[\"x509\", \"wit\"]", "[\"jwt\"]", "kinds"),
            ("[\"hardware\"]", "[]", "custody"),
            ("\"1h\"", "\"30s\"", "lifetime"),
            ("use = \"agent\"", "use = \"file\"", "x509 only"),
            ("api.example.org\"", "API.example.org\"", "DNS name"),
            ("labels = [\"rack-7\"]", "", "selects nothing"),
            ("use = \"agent\"", "bogus = 1", "bogus"),
        ] {
            let error = read(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(want), "{to}: {error}");
        }
        let twice = format!("{GOOD}{}", GOOD.replace("label = \"payments\"", ""));
        assert_eq!(read(&twice), Err(RegistrationError::Duplicate("api".into())));
    }
}
