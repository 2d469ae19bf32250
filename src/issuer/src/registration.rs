//! Registrations: who gets which identifier. Applied from files, as a whole per label.

use serde::{Deserialize, Serialize};
use touchmark_custody::{Class, KeyUse};
use touchmark_identity::{TrustDomain, WorkloadId};

use crate::{Kind, parse_duration};

/// Most registrations in one file.
pub const MAX_REGISTRATIONS: usize = 10_000;
/// Longest life of a credential, in seconds.
pub(crate) const MAX_LIFETIME: u64 = 24 * 3600;
/// Shortest life of a credential, in seconds.
pub(crate) const MIN_LIFETIME: u64 = 60;

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

/// One registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// Unique within the label.
    pub name: String,
    /// The identifier.
    pub identifier: String,
    /// Hosts; absent: any attested host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostSelector>,
    /// Processes.
    pub workload: WorkloadSelector,
    /// Kinds of credential.
    pub kinds: Vec<String>,
    /// Custody classes that may satisfy it.
    pub custody: Vec<String>,
    /// Who may use the key.
    #[serde(rename = "use", default = "agent_use")]
    pub usage: String,
    /// Life of its credentials.
    #[serde(default = "one_hour")]
    pub lifetime: String,
    /// DNS names in its certificates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_names: Vec<String>,
}

fn agent_use() -> String {
    "agent".to_owned()
}

fn one_hour() -> String {
    "1h".to_owned()
}

/// A file of registrations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrationFile {
    /// The label that owns them.
    pub label: String,
    /// The registrations.
    #[serde(default, rename = "registration")]
    pub registrations: Vec<Registration>,
}

impl RegistrationFile {
    /// Reads and checks a file for a trust domain.
    pub fn from_toml(text: &str, trust_domain: &TrustDomain) -> Result<Self, RegistrationError> {
        let file: Self = toml::from_str(text).map_err(|error| RegistrationError::Toml(error.to_string()))?;
        check_name("label", &file.label)?;
        if file.registrations.len() > MAX_REGISTRATIONS {
            return Err(RegistrationError::TooMany);
        }
        let mut names: Vec<&str> = Vec::new();
        for registration in &file.registrations {
            registration.check(trust_domain)?;
            names.push(&registration.name);
        }
        names.sort_unstable();
        match names
            .windows(2)
            .find(|pair| pair.first() == pair.last())
            .and_then(|pair| pair.first())
        {
            Some(twice) => Err(RegistrationError::Duplicate((*twice).to_owned())),
            None => Ok(file),
        }
    }
}

impl Registration {
    /// Whether it is for a host with this name and these labels.
    pub fn is_for_host(&self, name: &str, labels: &[String]) -> bool {
        match &self.host {
            None => true,
            Some(selector) => {
                selector.names.iter().any(|wanted| wanted == name)
                    || selector.labels.iter().any(|wanted| labels.contains(wanted))
            }
        }
    }

    /// Life of its credentials in seconds.
    pub fn lifetime_seconds(&self) -> u64 {
        parse_duration(&self.lifetime)
            .unwrap_or(MIN_LIFETIME)
            .clamp(MIN_LIFETIME, MAX_LIFETIME)
    }

    /// Whether a kind of credential is listed.
    pub fn allows(&self, kind: Kind) -> bool {
        self.kinds.iter().any(|word| word == kind.as_str())
    }

    /// Whether a custody class is listed.
    pub fn accepts(&self, class: Class) -> bool {
        self.custody.iter().any(|word| word == class.as_str())
    }

    fn check(&self, trust_domain: &TrustDomain) -> Result<(), RegistrationError> {
        check_name("name", &self.name)?;
        let wrong = |what: String| {
            Err(RegistrationError::Field {
                name: self.name.clone(),
                what,
            })
        };
        let identifier = match WorkloadId::parse(&self.identifier) {
            Ok(identifier) => identifier,
            Err(error) => return wrong(format!("identifier: {error}; {}", error.remedy())),
        };
        if !identifier.is_in(trust_domain) {
            return wrong(format!("identifier is not in this trust domain, {trust_domain}"));
        }
        if identifier.is_reserved() {
            return wrong("identifiers below /touchmark/ are the service's own".into());
        }
        if self
            .host
            .as_ref()
            .is_some_and(|host| host.labels.is_empty() && host.names.is_empty())
        {
            return wrong(
                "host selects nothing: give labels or names, or leave it out for any attested host".into(),
            );
        }
        if self
            .host
            .as_ref()
            .is_some_and(|host| !host.labels.is_empty() && !host.names.is_empty())
        {
            return wrong("host: give labels or names, not both; alternatives are further entries".into());
        }
        if self.workload == WorkloadSelector::default() {
            return wrong("workload selects every process: give uid, gid, exe or exe_sha256".into());
        }
        if self
            .workload
            .exe
            .as_ref()
            .is_some_and(|exe| !exe.starts_with('/'))
        {
            return wrong("workload.exe is not an absolute path".into());
        }
        let digest =
            |text: &String| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if self
            .workload
            .exe_sha256
            .as_ref()
            .is_some_and(|text| !digest(text))
        {
            return wrong("workload.exe_sha256 is not 64 lower-case hexadecimal digits".into());
        }
        if self.kinds.is_empty() || self.kinds.iter().any(|kind| Kind::parse(kind).is_none()) {
            return wrong("kinds: list \"x509\", \"wit\" or both".into());
        }
        if self.custody.is_empty() || self.custody.iter().any(|class| Class::parse(class).is_none()) {
            return wrong("custody: list classes of hardware, hypervisor, enclave, token, software".into());
        }
        match KeyUse::parse(&self.usage) {
            None => return wrong("use is \"agent\" or \"file\"".into()),
            Some(KeyUse::File) if self.kinds.iter().any(|kind| kind == "wit") => {
                return wrong(
                    "use = \"file\" is for x509 only: proofs for a WIT are made by the agent".into(),
                );
            }
            Some(_) => {}
        }
        match parse_duration(&self.lifetime) {
            Some(MIN_LIFETIME..=MAX_LIFETIME) => {}
            _ => return wrong("lifetime: between 60s and 24h, for example \"1h\"".into()),
        }
        if let Some(name) = self.dns_names.iter().find(|name| !is_dns_name(name)) {
            return wrong(format!("dns_names: {name:?} is not a lower-case DNS name"));
        }
        Ok(())
    }
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
        assert_eq!(registration.lifetime_seconds(), 3600);
        assert!(registration.allows(Kind::X509) && registration.accepts(Class::Hardware));
        assert!(!registration.accepts(Class::Token));
        assert!(registration.is_for_host("h", &["rack-7".into()]) && !registration.is_for_host("h", &[]));
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
