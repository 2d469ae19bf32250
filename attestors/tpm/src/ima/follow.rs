//! A list that is followed over many rounds: each brings what was measured since the last, and has to lead to the register as it was quoted.
//!
//! What an earlier round established travels in a state of bounded size, so that neither the list nor the names of its files have to be
//! kept.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use touchmark_crypto::HashAlg;
use touchmark_rats::{Check, ClaimValue, Claims, KnownFiles, Reason, RuntimeList, RuntimeState, cbor};

use super::{
    IMA_PCR,
    entry::Entry,
    judge::{is_whole, printable, reason},
    read::{Binary, ImaError},
    replay::{Extends, Replay},
    signature::SignatureKeys,
};
use crate::public_area::{hash_alg, tcg_alg};

/// Most files that are not known which are kept by name.
const MAX_UNKNOWN: usize = 256;
/// Most of them that a claim names.
const MAX_NAMED: usize = 16;
/// Longest path that is kept, in characters.
const MAX_PATH: usize = 256;
/// Most entries that may have come between the quote and the reading of the list.
const MAX_LATE: usize = 4_096;
/// Largest state that is read.
const MAX_STATE: usize = 256 * 1024;
const REPLAY: &str = "ima.replay";

/// What earlier rounds led to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// [`Extends::Padded`].
    padded: bool,
    /// The register in each bank.
    values: Vec<(u16, ByteBuf)>,
    offset: u64,
    entries: u64,
    violations: u64,
    unsigned: u64,
    aggregate: Aggregate,
    unknown: Vec<Unknown>,
    /// Files that were not known beyond those in `unknown`.
    more_unknown: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unknown {
    path: String,
    algorithm: String,
    digest: ByteBuf,
}

/// What the first entry says of the boot before the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Aggregate {
    /// There is none, or its registers were not quoted.
    #[default]
    Unchecked,
    /// The kernel saw no TPM when it began to measure.
    Zero,
    /// It is the digest of the registers of this boot.
    Matches,
}

/// A list that was read.
pub(crate) struct Followed<'a> {
    before: State,
    fresh: bool,
    banks: Vec<HashAlg>,
    files: &'a dyn KnownFiles,
    /// Entries with where they end.
    entries: Vec<(Entry<'a>, u64)>,
    unread: Option<ImaError>,
    found: Option<Found>,
}

/// What the register covers.
struct Found {
    extends: Extends,
    /// How many of the entries.
    covered: usize,
    /// The register, in each bank.
    values: BTreeMap<HashAlg, Vec<u8>>,
}

impl<'a> Followed<'a> {
    /// Reads what was gained. What cannot be read ends it: an entry may have been written only in part when the list was read.
    pub(crate) fn read(list: &RuntimeList<'a>, banks: &[HashAlg]) -> Result<Self, Check> {
        let before = match list.state {
            None => State::default(),
            Some(bytes) => cbor::decode(bytes, MAX_STATE).map_err(|error| {
                Check::failed(
                    "ima.state",
                    Reason::Malformed,
                    "the state of an earlier appraisal",
                    error.to_string(),
                    "the agent attests from the beginning by itself",
                )
            })?,
        };
        let mut entries = Vec::new();
        let mut unread = None;
        let mut reader = Binary::new(list.gained);
        while let Some(next) = reader.next() {
            match next {
                Ok(entry) => {
                    let end = u64::try_from(reader.position()).unwrap_or(u64::MAX);
                    entries.push((entry, end));
                }
                Err(error) => unread = Some(error),
            }
        }
        Ok(Self {
            fresh: list.state.is_none(),
            before,
            banks: banks.to_vec(),
            files: list.files,
            entries,
            unread,
            found: None,
        })
    }

    /// Looks for the entry after which the register was quoted: the last but few, since the list is read right after the quote. `quoted`
    /// is asked about the values that it would have had.
    pub(crate) fn find(&mut self, quoted: impl Fn(&BTreeMap<HashAlg, Vec<u8>>) -> bool) -> bool {
        for extends in [Extends::Rehashed, Extends::Padded] {
            // A list that has begun goes on as it began.
            if self.before.entries > 0 && self.before.padded != (extends == Extends::Padded) {
                continue;
            }
            let late = self.replayed(extends);
            let last = self.entries.len();
            let hit = late
                .into_iter()
                .rev()
                .zip((0..=last).rev())
                .find(|(values, _)| quoted(values));
            if let Some((values, covered)) = hit {
                self.found = Some(Found {
                    extends,
                    covered,
                    values,
                });
                return true;
            }
        }
        false
    }

    /// The register after each of the last entries, in each bank.
    fn replayed(&self, extends: Extends) -> VecDeque<BTreeMap<HashAlg, Vec<u8>>> {
        let resumed = |bank: &HashAlg| {
            let known = self
                .before
                .values
                .iter()
                .find(|(alg, _)| hash_alg(*alg) == Some(*bank));
            match known {
                Some((_, value)) => Replay::resumed(*bank, extends, value),
                None => Replay::new(*bank, extends),
            }
        };
        let mut replays: Vec<(HashAlg, Replay)> =
            self.banks.iter().map(|bank| (*bank, resumed(bank))).collect();
        let values = |replays: &[(HashAlg, Replay)]| {
            replays
                .iter()
                .map(|(bank, replay)| (*bank, replay.value().to_vec()))
                .collect()
        };
        let earliest = self.entries.len().saturating_sub(MAX_LATE);
        let mut late = VecDeque::new();
        if earliest == 0 {
            late.push_back(values(&replays));
        }
        for (at, (entry, _)) in self.entries.iter().enumerate() {
            // What goes into other registers was quoted by nobody.
            if entry.register == IMA_PCR {
                for (_, replay) in &mut replays {
                    replay.extend(entry);
                }
            }
            if at + 1 >= earliest {
                late.push_back(values(&replays));
            }
        }
        late
    }

    /// Why no part of the list leads to the quote.
    pub(crate) fn unexplained(&self) -> Check {
        if let Some(error) = self.unread {
            return Check::failed(
                "ima.structure",
                reason(error),
                "a list of the kernel's measurements",
                error.to_string(),
                "check the agent's tpm.ima path; it should name the kernel's binary_runtime_measurements",
            );
        }
        let from = if self.fresh {
            ""
        } else {
            ", from where it was last seen"
        };
        Check::failed(
            REPLAY,
            Reason::LogMismatch,
            "a list that leads to register 10 as it was quoted",
            format!("{} entries{from}, none of which do", self.entries.len()),
            "the list was edited, cut, or is of another boot: do not trust this host; its agent attests from the beginning by itself",
        )
    }

    /// Takes what the register covers: counts, what is not known, who signed. `boot` are register values of the boot, where they are known.
    pub(crate) fn finish(
        self,
        keys: &SignatureKeys,
        boot: &BTreeMap<(HashAlg, u8), Vec<u8>>,
    ) -> Result<(RuntimeState, Claims, Vec<Check>), Check> {
        let Some(found) = self.found else {
            return Err(self.unexplained());
        };
        let covered = found.covered;
        let mut state = self.before;
        state.padded = found.extends == Extends::Padded;
        state.values = found
            .values
            .into_iter()
            .map(|(bank, value)| (tcg_alg(bank), ByteBuf::from(value)))
            .collect();
        let begun = state.offset;
        for (entry, end) in self.entries.iter().take(covered) {
            state.take(entry, self.files, keys, boot)?;
            state.offset = begun.saturating_add(*end);
        }
        // Lists of known files may have grown.
        state
            .unknown
            .retain(|file| !self.files.knows(&file.algorithm, &file.digest));
        let checks = vec![
            Check::passed(
                REPLAY,
                format!(
                    "{} entries lead to register 10, {covered} of them new",
                    state.entries
                ),
            ),
            state.noted(),
        ];
        let claims = state.claims();
        let kept = RuntimeState {
            offset: state.offset,
            complete: state.more_unknown == 0,
            state: cbor::encode(&state),
        };
        Ok((kept, claims, checks))
    }
}

/// What entries of one list establish, from its beginning: claims, and which files are in no list.
pub(super) fn established(
    entries: &[Entry<'_>],
    files: &dyn KnownFiles,
    keys: &SignatureKeys,
    boot: &BTreeMap<(HashAlg, u8), Vec<u8>>,
) -> Result<(Claims, Check), Check> {
    let mut state = State::default();
    for entry in entries {
        state.take(entry, files, keys, boot)?;
    }
    Ok((state.claims(), state.noted()))
}

impl State {
    fn take(
        &mut self,
        entry: &Entry<'_>,
        files: &dyn KnownFiles,
        keys: &SignatureKeys,
        boot: &BTreeMap<(HashAlg, u8), Vec<u8>>,
    ) -> Result<(), Check> {
        if entry.register != IMA_PCR {
            return Ok(());
        }
        let number = self.entries;
        self.entries += 1;
        if entry.is_violation() {
            self.violations += 1;
            return Ok(());
        }
        if !is_whole(entry) {
            return Err(Check::failed(
                "ima.template_digest",
                Reason::EventDataMismatch,
                "template data that its digest covers",
                format!(
                    "entry {number}, {}: data with another digest",
                    printable(&entry.path)
                ),
                "the list was edited: do not trust this host",
            ));
        }
        if number == 0 && entry.is_boot_aggregate() {
            return self.take_aggregate(entry, boot);
        }
        if keys.is_empty() || entry.signature.is_empty() || keys.verify(entry).is_err() {
            self.unsigned += 1;
        }
        if files.knows(entry.file.algorithm, &entry.file.digest) {
            return Ok(());
        }
        if self.unknown.len() < MAX_UNKNOWN {
            self.unknown.push(Unknown {
                path: printable(&entry.path).chars().take(MAX_PATH).collect(),
                algorithm: entry.file.algorithm.to_owned(),
                digest: ByteBuf::from(entry.file.digest.to_vec()),
            });
        } else {
            self.more_unknown += 1;
        }
        Ok(())
    }

    /// The digest of the registers of the boot before: 0 to 7, and since Linux 5.8 outside of SHA-1 to 9.
    fn take_aggregate(
        &mut self,
        entry: &Entry<'_>,
        boot: &BTreeMap<(HashAlg, u8), Vec<u8>>,
    ) -> Result<(), Check> {
        if entry.file.digest.iter().all(|byte| *byte == 0) {
            self.aggregate = Aggregate::Zero;
            return Ok(());
        }
        let Some(bank) = entry.file.hash() else {
            return Ok(());
        };
        let digest = |last: u8| {
            let parts: Option<Vec<&[u8]>> = (0..=last)
                .map(|index| boot.get(&(bank, index)).map(Vec::as_slice))
                .collect();
            parts.map(|parts| bank.digest(&parts))
        };
        let candidates = [digest(7), digest(9)];
        if candidates
            .iter()
            .flatten()
            .any(|digest| *digest == *entry.file.digest)
        {
            self.aggregate = Aggregate::Matches;
            return Ok(());
        }
        if candidates.iter().any(Option::is_none) {
            return Ok(());
        }
        Err(Check::failed(
            "ima.boot_aggregate",
            Reason::LogMismatch,
            "the digest of the registers of this boot",
            format!("{}:{}", entry.file.algorithm, hex::encode(&entry.file.digest)),
            "the list is of another boot: do not trust this host",
        ))
    }

    fn unknown(&self) -> u64 {
        self.more_unknown
            .saturating_add(u64::try_from(self.unknown.len()).unwrap_or(u64::MAX))
    }

    fn named(&self) -> Vec<String> {
        let name = |file: &Unknown| format!("{} {}:{}", file.path, file.algorithm, hex::encode(&file.digest));
        self.unknown.iter().take(MAX_NAMED).map(name).collect()
    }

    fn noted(&self) -> Check {
        const NAME: &str = "ima.files";
        let unknown = self.unknown();
        if unknown == 0 {
            return Check::passed(NAME, "every file is known");
        }
        let mut lines = vec![format!("{unknown} files are in no list of known files")];
        lines.extend(self.named());
        Check::noted(NAME, Reason::FileNotAllowed, lines.join("\n"))
    }

    fn claims(&self) -> Claims {
        let count = |number: u64| ClaimValue::Int(i64::try_from(number).unwrap_or(i64::MAX));
        let mut claims = Claims::default();
        claims.set("ima.entries", count(self.entries));
        claims.set("ima.violations", count(self.violations));
        claims.set("ima.unknown", count(self.unknown()));
        claims.set("ima.unknown_files", ClaimValue::Texts(self.named()));
        claims.set("ima.unsigned", count(self.unsigned));
        let aggregate = match self.aggregate {
            Aggregate::Unchecked => "unchecked",
            Aggregate::Zero => "zero",
            Aggregate::Matches => "matches",
        };
        claims.set("ima.boot_aggregate", ClaimValue::Text(aggregate.to_owned()));
        claims
    }
}
