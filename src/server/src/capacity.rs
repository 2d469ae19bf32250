//! Whether the service's device signs fast enough for its fleet: measured at start, asked before the fleet grows.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use touchmark_crypto::{Purpose, SignError, Signer};
use touchmark_issuer::Registration;

use crate::limits::Rates;

/// How often the device is asked at start; the fastest answer counts, for the others waited on something else.
const SAMPLES: usize = 5;
/// Signatures for each credential: the credential itself, and the handshake of the connection that it is asked for on.
const PER_CREDENTIAL: f64 = 2.0;

/// How long the device that holds the service's keys takes for a signature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Capacity(Duration);

/// Signatures per second that a fleet needs, at most: a host with several labels counts for each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Need(f64);

impl Capacity {
    /// Measures a key. The device may take its time: to be called where blocking is allowed.
    pub(crate) fn measure(key: &dyn Signer, purpose: Purpose) -> Result<Self, SignError> {
        let mut fastest = Duration::MAX;
        for _ in 0..SAMPLES {
            let start = Instant::now();
            key.sign(purpose, b"touchmark: how fast does this device sign?")?;
            fastest = fastest.min(start.elapsed());
        }
        Ok(Self(fastest))
    }

    /// What two keys make together, where credentials of either kind are asked for: as little as the slower one.
    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }

    /// Whether a fleet may become what it would be: it needs no more than half of what there is.
    pub(crate) fn allows(self, need: Need) -> Result<(), String> {
        if need.0 * 2.0 <= self.per_second() {
            return Ok(());
        }
        Err(format!(
            "this fleet needs {:.1} signatures a second, more than half of the {:.1} that the service's device makes: \
             give credentials a longer lifetime, register fewer, or hold the service's keys in a faster device",
            need.0,
            self.per_second()
        ))
    }

    /// How fast hosts may ask for credentials: each an eighth of what the device signs and all together half of it, so that
    /// one that turned bad leaves room for the others and for handshakes. `at_most`: the configured rate of a host.
    pub(crate) fn issue_rates(self, at_most: u32) -> Rates<String> {
        // Whole signatures per second; a device that makes fewer than one is served one by one.
        let signatures = u32::try_from(1_000_000_000 / self.0.as_nanos().max(1)).unwrap_or(u32::MAX);
        let each = (signatures / 8).clamp(1, at_most);
        Rates::new(each, (signatures / 2).max(1), Instant::now())
    }

    fn per_second(self) -> f64 {
        1.0 / self.0.as_secs_f64().max(1e-9)
    }

    /// Whether a fleet that is there can be served at all.
    pub(crate) fn suffices(self, need: Need) -> bool {
        need.0 <= self.per_second()
    }
}

impl Need {
    /// Of hosts, by the labels and name of each, with certificates of this lifetime (seconds), under registrations.
    pub(crate) fn of<'a>(
        hosts: impl IntoIterator<Item = (&'a str, &'a [String])>,
        host_lifetime: u64,
        registrations: impl IntoIterator<Item = &'a Registration>,
    ) -> Self {
        let mut names: HashMap<&str, u32> = HashMap::new();
        let mut labels: HashMap<&str, u32> = HashMap::new();
        let mut all = 0_u32;
        for (name, of_host) in hosts {
            all = all.saturating_add(1);
            *names.entry(name).or_default() += 1;
            for label in of_host {
                *labels.entry(label).or_default() += 1;
            }
        }
        let count = |map: &HashMap<&str, u32>, keys: &[String]| {
            keys.iter()
                .filter_map(|key| map.get(key.as_str()))
                .fold(0_u32, |sum, count| sum.saturating_add(*count))
        };
        let mut rate = f64::from(all) * per_second(host_lifetime);
        for registration in registrations {
            let hosts = match &registration.host {
                None => all,
                Some(selector) => count(&names, &selector.names)
                    .saturating_add(count(&labels, &selector.labels))
                    .min(all),
            };
            let kinds = u32::try_from(registration.kinds.len()).unwrap_or(u32::MAX);
            rate += f64::from(hosts) * f64::from(kinds) * per_second(registration.lifetime);
        }
        Self(rate)
    }
}

/// Signatures per second for one credential that is replaced after two thirds of its life.
fn per_second(lifetime: u64) -> f64 {
    let seconds = u32::try_from(lifetime).unwrap_or(u32::MAX).max(1);
    PER_CREDENTIAL / (f64::from(seconds) * 2.0 / 3.0)
}

#[cfg(test)]
mod tests {
    use touchmark_identity::TrustDomain;
    use touchmark_issuer::RegistrationFile;

    use super::*;

    fn registrations(host: &str) -> Vec<Registration> {
        let text = format!(
            "label = \"l\"\n[[registration]]\nname = \"a\"\nidentifier = \"spiffe://example.org/a\"\n{host}\
             workload = {{ uid = 1 }}\nkinds = [\"x509\", \"wit\"]\ncustody = [\"hardware\"]\nlifetime = \"60s\"\n"
        );
        let domain = TrustDomain::parse_origin("spiffe://example.org").unwrap();
        RegistrationFile::from_toml(&text, &domain).unwrap().registrations
    }

    fn need(hosts: u32, host: &str) -> f64 {
        let labels = vec!["rack".to_owned()];
        let names: Vec<String> = (0..hosts).map(|n| n.to_string()).collect();
        let hosts = names.iter().map(|name| (name.as_str(), labels.as_slice()));
        Need::of(hosts, 3_600, &registrations(host)).0
    }

    #[test]
    fn what_a_fleet_needs_follows_from_its_hosts_and_their_registrations() {
        let close = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-9, "{found} {wanted}");
        let host = 2.0 / 2_400.0;
        let both = 2.0 * 2.0 / 40.0;
        close(need(10, ""), 10.0 * (host + both));
        close(need(10, "host = { names = [\"3\"] }\n"), 10.0 * host + both);
        close(need(10, "host = { labels = [\"rack\"] }\n"), 10.0 * (host + both));
        close(need(10, "host = { labels = [\"other\"] }\n"), 10.0 * host);
        close(need(0, ""), 0.0);
    }

    #[test]
    fn one_host_may_have_an_eighth_of_what_is_signed() {
        let admitted = |signature, at_most| {
            let rates = Capacity(signature).issue_rates(at_most);
            let now = Instant::now();
            (0..2_000).filter(|_| rates.admit("host".to_owned(), now)).count()
        };
        // A burst of ten seconds.
        assert_eq!(admitted(Duration::from_millis(10), 100), 100);
        assert_eq!(admitted(Duration::from_micros(100), 100), 1_000);
        // All together a burst of two seconds, of half a signature a second at least.
        assert_eq!(admitted(Duration::from_secs(3), 100), 2);
    }

    #[test]
    fn half_of_what_a_device_signs_is_kept_free() {
        let device = Capacity(Duration::from_millis(10));
        device.allows(Need(50.0)).unwrap();
        let why = device.allows(Need(50.1)).unwrap_err();
        assert!(why.contains("50.1") && why.contains("100.0") && why.contains("longer lifetime"));
        assert!(device.suffices(Need(100.0)) && !device.suffices(Need(100.1)));
    }
}
