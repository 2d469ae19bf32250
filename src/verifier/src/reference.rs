//! Reference values: which measurements are good, per label, and how a host's log is held against them.
//!
//! A set matches a boot when every event behind the quoted registers has one of its digests for that register, and
//! registers without any event are among its `empty_pcrs`. Of several sets that apply to a host, one has to match
//! wholly.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use touchmark_crypto::HashAlg;
use touchmark_rats::{
    Check, MeasuredEvent, Reason,
    corim::{Corim, Key, Tag as CorimTag},
};

/// Most values in one set.
pub const MAX_VALUES: usize = 10_000;

/// Why a set of reference values was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Not TOML of the expected shape; the text names line and field.
    #[error("{0}")]
    Toml(String),
    /// A value that cannot be one.
    #[error("reference {number}: {what}")]
    Value {
        /// Position in the file, from 1.
        number: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A label that is empty, too long or not printable.
    #[error("label {0:?}: use 1 to 64 letters, digits, '.', '_' or '-'")]
    Label(String),
    /// A manifest that says nothing of registers.
    #[error("the manifest has no measurement that is named by the number of a register")]
    NoRegisters,
    /// A manifest that says more than reference values of registers: what is left out could be what matters.
    #[error("{0}")]
    Beyond(String),
    /// Nothing in it, so that nothing could match.
    #[error("no reference value and no empty register: nothing could match this set")]
    Empty,
}

/// One good measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceValue {
    /// The register.
    pub pcr: u8,
    /// The digest, lower-case hexadecimal.
    pub digest: String,
    /// What it is, for people.
    #[serde(default)]
    pub description: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hosts {
    labels: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    label: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    empty_pcrs: Vec<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hosts: Option<Hosts>,
    #[serde(default, rename = "reference")]
    references: Vec<ReferenceValue>,
}

/// A set of reference values under a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceSet {
    label: String,
    host_labels: Option<Vec<String>>,
    values: Vec<ReferenceValue>,
    empty: BTreeSet<u8>,
    digests: BTreeMap<u8, BTreeSet<Vec<u8>>>,
}

impl ReferenceSet {
    /// Reads a set from TOML.
    pub fn from_toml(text: &str) -> Result<Self, ReferenceError> {
        let file: File = toml::from_str(text).map_err(|error| ReferenceError::Toml(error.to_string()))?;
        Self::new(
            file.label,
            file.hosts.map(|hosts| hosts.labels),
            file.references,
            file.empty_pcrs,
        )
    }

    /// Captures the set that a boot with these events, and nothing else, matches.
    pub fn capture(
        label: &str,
        events: &[MeasuredEvent],
        measured: &[(u8, bool)],
    ) -> Result<Self, ReferenceError> {
        let mut values: Vec<ReferenceValue> = Vec::new();
        let mut known: BTreeSet<(u8, &[u8])> = BTreeSet::new();
        for event in events {
            let digest = hex::encode(&event.digest);
            if known.insert((event.pcr, &event.digest)) {
                values.push(ReferenceValue {
                    pcr: event.pcr,
                    digest,
                    description: event.description.clone(),
                });
            }
        }
        let empty = measured
            .iter()
            .filter(|(_, any)| !any)
            .map(|(pcr, _)| *pcr)
            .collect();
        Self::new(label.to_owned(), None, values, empty)
    }

    fn new(
        label: String,
        host_labels: Option<Vec<String>>,
        values: Vec<ReferenceValue>,
        empty: Vec<u8>,
    ) -> Result<Self, ReferenceError> {
        let printable = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if label.is_empty() || label.len() > 64 || !label.chars().all(printable) {
            return Err(ReferenceError::Label(label));
        }
        if values.is_empty() && empty.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let mut digests: BTreeMap<u8, BTreeSet<Vec<u8>>> = BTreeMap::new();
        for (at, value) in values.iter().enumerate() {
            let wrong = |what| ReferenceError::Value { number: at + 1, what };
            if at >= MAX_VALUES {
                return Err(wrong("more values than a set may have (10,000)"));
            }
            if value.pcr > 23 {
                return Err(wrong("pcr is above 23"));
            }
            let digest = hex::decode(&value.digest).map_err(|_| wrong("digest is not hexadecimal"))?;
            if value.digest.bytes().any(|byte| byte.is_ascii_uppercase()) {
                return Err(wrong("digest is not in lower case"));
            }
            if ![32, 48, 64].contains(&digest.len()) {
                return Err(wrong("digest is not of SHA-256, SHA-384 or SHA-512"));
            }
            digests.entry(value.pcr).or_default().insert(digest);
        }
        if let Some(at) = empty.iter().position(|pcr| *pcr > 23) {
            return Err(ReferenceError::Value {
                number: at + 1,
                what: "empty_pcrs has a number above 23",
            });
        }
        Ok(Self {
            label,
            host_labels,
            values,
            empty: empty.into_iter().collect(),
            digests,
        })
    }

    /// The set as TOML.
    pub fn to_toml(&self) -> String {
        let file = File {
            label: self.label.clone(),
            empty_pcrs: self.empty.iter().copied().collect(),
            hosts: self.host_labels.clone().map(|labels| Hosts { labels }),
            references: self.values.clone(),
        };
        // A structure of numbers and strings always serializes.
        toml::to_string(&file).unwrap_or_default()
    }

    /// The same set under another label.
    pub fn relabelled(&self, label: &str) -> Result<Self, ReferenceError> {
        let empty = self.empty.iter().copied().collect();
        Self::new(
            label.to_owned(),
            self.host_labels.clone(),
            self.values.clone(),
            empty,
        )
    }

    /// The set that a vendor's manifest states: measurements named by the number of a register, each of its digests a value of it.
    pub fn from_corim(label: &str, corim: &Corim) -> Result<Self, ReferenceError> {
        let beyond = |what: &str| Err(ReferenceError::Beyond(what.to_owned()));
        if let Some(profile) = &corim.profile {
            return beyond(&format!(
                "it follows the rules of profile {profile:?}, which are not known here"
            ));
        }
        let mut values = Vec::new();
        for tag in &corim.tags {
            let CorimTag::Comid(comid) = tag else {
                return beyond("it holds something else than statements on modules (CoMID)");
            };
            if !comid.endorsements.is_empty() || comid.others {
                return beyond("it states more than reference values (endorsements, keys, conditions)");
            }
            for triple in &comid.references {
                let class = triple.environment.class.clone().unwrap_or_default();
                let about: Vec<String> = [class.vendor, class.model].into_iter().flatten().collect();
                for measurement in &triple.measurements {
                    let pcr = match &measurement.key {
                        Some(Key::Number(number)) => u8::try_from(*number).ok(),
                        Some(Key::Text(text)) => text.strip_prefix("pcr").unwrap_or(text).parse().ok(),
                        _ => None,
                    };
                    let Some(pcr) = pcr.filter(|pcr| *pcr < 24) else {
                        return beyond(
                            "a measurement that is not named by the number of a register, 0 to 23",
                        );
                    };
                    if measurement.version.is_some() {
                        return beyond(
                            "a version: digests of registers' events are what can be held against a boot",
                        );
                    }
                    if !measurement.registers.is_empty() {
                        return beyond("final values of registers: values of their events are wanted");
                    }
                    let named = measurement.name.clone();
                    let description: Vec<String> = about.iter().cloned().chain(named).collect();
                    for (_, digest) in &measurement.digests {
                        values.push(ReferenceValue {
                            pcr,
                            digest: hex::encode(digest),
                            description: description.join(" "),
                        });
                    }
                }
            }
        }
        if values.is_empty() {
            return Err(ReferenceError::NoRegisters);
        }
        Self::new(label.to_owned(), None, values, Vec::new())
    }

    /// The set of these values.
    pub fn of(label: &str, values: Vec<ReferenceValue>) -> Result<Self, ReferenceError> {
        Self::new(label.to_owned(), None, values, Vec::new())
    }

    /// The values, in their order.
    pub fn values(&self) -> &[ReferenceValue] {
        &self.values
    }

    /// The bank that all its digests are of, by their length. `None` where they are of several, or there are none.
    pub fn bank(&self) -> Option<HashAlg> {
        let mut lengths = self.digests.values().flatten().map(Vec::len);
        let first = lengths.next()?;
        let bank = [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512]
            .into_iter()
            .find(|bank| bank.len() == first);
        bank.filter(|_| lengths.all(|length| length == first))
    }

    /// Whether a value is among these.
    pub fn has(&self, value: &ReferenceValue) -> bool {
        let digest = hex::decode(&value.digest).unwrap_or_default();
        self.digests
            .get(&value.pcr)
            .is_some_and(|digests| digests.contains(&digest))
    }

    /// The registers that it has values for, or lists as empty.
    pub fn registers(&self) -> BTreeSet<u8> {
        self.digests.keys().chain(&self.empty).copied().collect()
    }

    /// The label.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether the set has no value (it may still have empty registers).
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The labels of the hosts that it is for; `None`: all hosts.
    pub fn host_labels(&self) -> Option<&[String]> {
        self.host_labels.as_deref()
    }

    /// Whether the set is for a host with these labels.
    pub fn applies_to(&self, host_labels: &[String]) -> bool {
        match &self.host_labels {
            None => true,
            Some(wanted) => wanted.iter().any(|label| host_labels.contains(label)),
        }
    }

    fn knows(&self, event: &MeasuredEvent) -> bool {
        self.digests
            .get(&event.pcr)
            .is_some_and(|digests| digests.contains(&event.digest))
    }

    /// Whether a boot that was captured as `boot` matches the set wholly.
    pub fn covers(&self, boot: &Self) -> bool {
        let known = |(pcr, digests): (&u8, &BTreeSet<Vec<u8>>)| {
            self.digests
                .get(pcr)
                .is_some_and(|allowed| digests.is_subset(allowed))
        };
        boot.digests.iter().all(known) && boot.empty.is_subset(&self.empty)
    }

    /// Whether a boot matches the set wholly.
    pub fn matches(&self, events: &[MeasuredEvent], measured: &[(u8, bool)]) -> bool {
        let (unknown, bare) = self.differences(events, measured);
        unknown.is_empty() && bare.is_empty()
    }

    /// The events that are none of its values, in their order.
    pub fn unknown<'a>(&self, events: &'a [MeasuredEvent]) -> Vec<&'a MeasuredEvent> {
        events.iter().filter(|event| !self.knows(event)).collect()
    }

    /// What does not match, in the order of the log, then the registers that should not be empty.
    fn differences<'a>(
        &self,
        events: &'a [MeasuredEvent],
        measured: &[(u8, bool)],
    ) -> (Vec<&'a MeasuredEvent>, Vec<u8>) {
        let unknown = events.iter().filter(|event| !self.knows(event)).collect();
        let bare = measured
            .iter()
            .filter(|(pcr, any)| !any && !self.empty.contains(pcr))
            .map(|(pcr, _)| *pcr)
            .collect();
        (unknown, bare)
    }
}

/// Holds a boot against the sets that apply to its host.
pub fn check(sets: &[&ReferenceSet], events: &[MeasuredEvent], measured: &[(u8, bool)]) -> Check {
    const NAME: &str = "reference_values";
    let mut closest: Option<(&ReferenceSet, Vec<&MeasuredEvent>, Vec<u8>)> = None;
    for set in sets {
        let (unknown, bare) = set.differences(events, measured);
        if unknown.is_empty() && bare.is_empty() {
            return Check::passed(
                NAME,
                format!("all {} events are in '{}'", events.len(), set.label),
            );
        }
        let size = unknown.len() + bare.len();
        if closest
            .as_ref()
            .is_none_or(|(_, other, empty)| size < other.len() + empty.len())
        {
            closest = Some((set, unknown, bare));
        }
    }
    let Some((set, unknown, bare)) = closest else {
        return Check::failed(
            NAME,
            Reason::NoReferenceValues,
            "reference values for this host",
            "no reference values are applied for this host",
            "if this host is known to be good: touchmark reference capture HOST > good.toml, then touchmark reference \
             apply -f good.toml; the agent's next try is admitted",
        );
    };
    let label = &set.label;
    if unknown.is_empty() {
        let pcrs: Vec<String> = bare.iter().map(u8::to_string).collect();
        return Check::failed(
            NAME,
            Reason::PcrsUnmeasured,
            format!("something measured into every register that '{label}' has values for"),
            format!("nothing measured into PCR {}", pcrs.join(", ")),
            "firmware that measures nothing proves nothing; if that is how this model boots, list the register in \
             empty_pcrs",
        );
    }
    // Values of another bank know no event at all: a list of all events would hide why.
    if let (Some(bank), Some(event)) = (set.bank(), unknown.first())
        && event.digest.len() != bank.len()
    {
        let found = format!(
            "digests of {} bytes, where those of '{label}' are {}'s ({} bytes)",
            event.digest.len(),
            bank.name(),
            bank.len()
        );
        return Check::failed(
            NAME,
            Reason::ReferenceMismatch,
            "reference values of the bank that the host quotes (tpm.bank)",
            found,
            "capture values in the bank that is quoted now: touchmark reference capture HOST > good.toml, then touchmark \
             reference apply -f good.toml",
        );
    }
    Check::failed(
        NAME,
        Reason::ReferenceMismatch,
        format!("every measured event among the values of '{label}'"),
        lines(&unknown, label),
        "if this boot is good, capture and apply its values; otherwise find out who changed what it names",
    )
}

/// Most events named in a refusal.
const MAX_NAMED: usize = 16;

fn lines(unknown: &[&MeasuredEvent], label: &str) -> String {
    let mut out: Vec<String> = unknown
        .iter()
        .take(MAX_NAMED)
        .map(|event| {
            format!(
                "PCR {}: {}, digest {}, not among the values of '{label}'",
                event.pcr,
                event.description,
                hex::encode(&event.digest)
            )
        })
        .collect();
    if unknown.len() > MAX_NAMED {
        out.push(format!("and {} more events", unknown.len() - MAX_NAMED));
    }
    out.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: usize, pcr: u8, digest: u8) -> MeasuredEvent {
        MeasuredEvent {
            number,
            pcr,
            digest: vec![digest; 32],
            description: format!("event {number}"),
        }
    }

    fn boot() -> (Vec<MeasuredEvent>, Vec<(u8, bool)>) {
        (
            vec![event(1, 0, 1), event(2, 4, 2)],
            vec![(0, true), (4, true), (9, false)],
        )
    }

    #[test]
    fn a_captured_set_reads_back_and_matches_its_boot_only() {
        let (events, measured) = boot();
        let set = ReferenceSet::capture("release-1", &events, &measured).unwrap();
        assert_eq!(ReferenceSet::from_toml(&set.to_toml()).unwrap(), set);
        assert_eq!(check(&[&set], &events, &measured).reason(), None);
        let mut other = events;
        other[1].digest = vec![9; 32];
        let refused = check(&[&set], &other, &measured);
        assert_eq!(refused.reason(), Some(Reason::ReferenceMismatch));
        assert!(
            refused.found.starts_with("PCR 4: event 2, digest 0909"),
            "{}",
            refused.found
        );
        assert!(refused.found.ends_with("not among the values of 'release-1'"));
    }

    #[test]
    fn values_of_another_bank_are_told_as_that_and_not_event_by_event() {
        let (events, measured) = boot();
        let set = ReferenceSet::capture("a", &events, &measured).unwrap();
        let quoted = events.into_iter().map(|event| MeasuredEvent {
            digest: vec![1; 48],
            ..event
        });
        let refused = check(&[&set], &quoted.collect::<Vec<_>>(), &measured);
        assert_eq!(refused.reason(), Some(Reason::ReferenceMismatch));
        assert_eq!(
            refused.found,
            "digests of 48 bytes, where those of 'a' are sha256's (32 bytes)"
        );
    }

    #[test]
    fn a_value_counts_for_its_register_only_and_one_set_must_match_wholly() {
        let (events, measured) = boot();
        let moved = [event(1, 4, 1), event(2, 4, 2)];
        let set = ReferenceSet::capture("a", &events, &measured).unwrap();
        assert_eq!(
            check(&[&set], &moved, &measured).reason(),
            Some(Reason::ReferenceMismatch)
        );
        let first = ReferenceSet::capture("first", &events[..1], &measured).unwrap();
        let second = ReferenceSet::capture("second", &events[1..], &measured).unwrap();
        assert_eq!(
            check(&[&first, &second], &events, &measured).reason(),
            Some(Reason::ReferenceMismatch)
        );
        assert_eq!(check(&[&first, &set], &events, &measured).reason(), None);
    }

    #[test]
    fn an_empty_register_passes_only_where_the_set_says_so_and_no_set_is_a_refusal() {
        let (events, measured) = boot();
        let text = ReferenceSet::capture("a", &events, &measured)
            .unwrap()
            .to_toml()
            .replace("[9]", "[8]");
        let set = ReferenceSet::from_toml(&text).unwrap();
        assert_eq!(
            check(&[&set], &events, &measured).reason(),
            Some(Reason::PcrsUnmeasured)
        );
        assert_eq!(
            check(&[], &events, &measured).reason(),
            Some(Reason::NoReferenceValues)
        );
    }

    #[test]
    fn bad_files_are_refused_with_what_is_wrong() {
        let digest = "ab".repeat(32);
        for (text, want) in [
            ("label = \"a\"".to_owned(), "nothing could match"),
            ("label = \"a b\"\nempty_pcrs = [1]".to_owned(), "letters, digits"),
            (
                format!("label = \"a\"\n[[reference]]\npcr = 24\ndigest = \"{digest}\""),
                "above 23",
            ),
            (
                "label = \"a\"\n[[reference]]\npcr = 1\ndigest = \"abc\"".to_owned(),
                "hexadecimal",
            ),
            (
                format!(
                    "label = \"a\"\n[[reference]]\npcr = 1\ndigest = \"{}\"",
                    "AB".repeat(32)
                ),
                "lower case",
            ),
            (
                "label = \"a\"\n[[reference]]\npcr = 1\ndigest = \"abcd\"".to_owned(),
                "SHA-256",
            ),
            ("label = \"a\"\nbogus = 1".to_owned(), "bogus"),
        ] {
            let error = ReferenceSet::from_toml(&text).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn a_set_for_labelled_hosts_applies_to_those() {
        let text = format!(
            "label = \"a\"\nhosts = {{ labels = [\"rack-7\"] }}\n[[reference]]\npcr = 1\ndigest = \"{}\"",
            "ab".repeat(32)
        );
        let set = ReferenceSet::from_toml(&text).unwrap();
        assert!(set.applies_to(&["rack-7".to_owned()]) && !set.applies_to(&["rack-8".to_owned()]));
        assert_eq!(ReferenceSet::from_toml(&set.to_toml()).unwrap(), set);
    }
}
