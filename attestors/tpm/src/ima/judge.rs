//! A list, judged: does it lead to the register, does it belong to this boot, who signed its files.

use std::collections::{BTreeMap, BTreeSet};

use touchmark_crypto::HashAlg;
use touchmark_rats::{Check, Claims, KnownFiles, Reason};

use super::{
    IMA_PCR,
    entry::Entry,
    follow::established,
    read::{ImaError, read_ascii, read_binary},
    replay::{Extends, Replay},
    signature::{SignatureError, SignatureKeys},
};
use crate::recorded::PcrValues;

/// What a list is held against.
#[derive(Debug, Default)]
pub struct ImaExpected<'a> {
    /// Register values; of a bank without them nothing is compared.
    pub values: PcrValues,
    /// Keys of which each signature has to be; `None` where signatures are not looked at.
    pub keys: Option<&'a SignatureKeys>,
}

/// A list, judged.
#[derive(Debug, Clone)]
pub struct ImaJudged<'a> {
    /// What was looked at, in order.
    pub checks: Vec<Check>,
    /// The entries.
    pub entries: Vec<Entry<'a>>,
    /// How many of them register 10 covers, from the first on; all where no value of it was given.
    pub attested: usize,
    /// The same of other registers that a policy of the kernel's names (`pcr=`), of which values were given.
    others: BTreeMap<u32, usize>,
}

impl ImaJudged<'_> {
    /// Whether an entry is covered by the register that it is of.
    pub fn is_attested(&self, number: usize) -> bool {
        let covered = |entry: &Entry<'_>| match entry.register {
            IMA_PCR => self.attested,
            other => self.others.get(&other).copied().unwrap_or_default(),
        };
        self.entries
            .get(number)
            .is_some_and(|entry| number < covered(entry))
    }

    /// What the entries that a register covers establish: claims for policies, and which files are in no list of known files.
    pub fn established(
        &self,
        files: &dyn KnownFiles,
        keys: &SignatureKeys,
        values: &PcrValues,
    ) -> Result<(Claims, Check), Check> {
        let boot = values
            .iter()
            .flat_map(|(bank, values)| {
                values
                    .iter()
                    .map(|(index, value)| ((*bank, *index), value.clone()))
            })
            .collect();
        let covered = self.entries.get(..self.attested).unwrap_or_default();
        established(covered, files, keys, &boot)
    }
}

const STRUCTURE: &str = "ima.structure";
const REPLAY: &str = "ima.replay";
const AGGREGATE: &str = "ima.boot_aggregate";

/// Judges a list in its binary or its ASCII form.
pub fn judge_ima<'a>(bytes: &'a [u8], ascii: bool, expected: &ImaExpected<'_>) -> ImaJudged<'a> {
    let mut out = ImaJudged {
        checks: Vec::new(),
        entries: Vec::new(),
        attested: 0,
        others: BTreeMap::new(),
    };
    let read = if ascii {
        read_ascii(bytes)
    } else {
        read_binary(bytes)
    };
    match read {
        Ok(entries) => out.entries = entries,
        Err(error) => {
            // What is wrong with it in particular, and that it cannot be read for it.
            let reasons = [reason(error), Reason::Malformed];
            let different = if reason(error) == Reason::Malformed { 1 } else { 2 };
            out.checks
                .extend(reasons.into_iter().take(different).map(|reason| {
                    Check::failed(
                        STRUCTURE,
                        reason,
                        "a list of the kernel's measurements",
                        error.to_string(),
                        "read binary_runtime_measurements again, whole",
                    )
                }));
            return out;
        }
    }
    if out.entries.is_empty() {
        out.checks.push(Check::failed(
            STRUCTURE,
            Reason::Malformed,
            "at least the entry of the boot before",
            "an empty list",
            "the kernel of this host measures nothing: give it an IMA policy",
        ));
        return out;
    }
    out.checks
        .push(Check::passed(STRUCTURE, format!("{} entries", out.entries.len())));
    let mut edited = out
        .entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| !is_whole(entry));
    if let Some((number, entry)) = edited.next() {
        let found = format!(
            "entry {number}, {}: data with another digest",
            printable(&entry.path)
        );
        let remedy = "the list was edited: do not trust this host";
        // What was extended is the digest of other data: the list does not lead to the register either.
        for reason in [Reason::EventDataMismatch, Reason::LogMismatch] {
            out.checks.push(Check::failed(
                "ima.template_digest",
                reason,
                "template data that its digest covers",
                found.clone(),
                remedy,
            ));
        }
    }
    let violations = out.entries.iter().filter(|entry| entry.is_violation()).count();
    if violations > 0 {
        out.checks.push(Check::noted(
            "ima.violations",
            Reason::ImaViolation,
            format!("{violations} files were open for writing while they were measured"),
        ));
    }
    let (attested, checks) = replay(&out.entries, &expected.values, IMA_PCR);
    out.attested = attested;
    out.checks.extend(checks);
    let others: BTreeSet<u32> = out.entries.iter().map(|entry| entry.register).collect();
    for register in others.into_iter().filter(|register| *register != IMA_PCR) {
        if given(&expected.values, register).next().is_some() {
            let (covered, checks) = replay(&out.entries, &expected.values, register);
            out.others.insert(register, covered);
            out.checks.extend(checks);
        }
    }
    out.checks.extend(elsewhere(&out, &expected.values));
    if attested < out.entries.len() && out.checks.iter().all(|check| check.reason().is_none()) {
        out.checks.push(Check::noted(
            "ima.attested",
            Reason::EntriesUnattested,
            format!(
                "{} entries came after the register was read",
                out.entries.len() - attested
            ),
        ));
    }
    out.checks.extend(aggregate(&out.entries, &expected.values));
    if let Some(keys) = expected.keys {
        out.checks.push(signatures(&out.entries, keys));
    }
    out
}

pub(super) fn reason(error: ImaError) -> Reason {
    match error {
        ImaError::Limit(_) => Reason::Oversized,
        ImaError::Algorithm => Reason::AlgNotAllowed,
        ImaError::Register => Reason::PcrIndexInvalid,
        ImaError::Truncated | ImaError::Template | ImaError::Field(_) => Reason::Malformed,
    }
}

/// Whether an entry's data has the digest that the list shows, and its buffer the digest that its data shows.
pub(super) fn is_whole(entry: &Entry<'_>) -> bool {
    if entry.is_violation() {
        return true;
    }
    let hash = [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512]
        .into_iter()
        .find(|hash| hash.len() == entry.template_digest.len());
    let template = hash.is_some_and(|hash| hash.digest(&[&entry.data]) == *entry.template_digest);
    let buffer = match (&entry.buffer, entry.file.hash()) {
        (Some(buffer), Some(hash)) => hash.digest(&[buffer]) == *entry.file.digest,
        _ => true,
    };
    template && buffer
}

/// The values of a register, by bank.
fn given(values: &PcrValues, register: u32) -> impl Iterator<Item = (HashAlg, &Vec<u8>)> {
    let index = u8::try_from(register).unwrap_or(u8::MAX);
    values
        .iter()
        .filter_map(move |(bank, values)| Some((*bank, values.get(&index)?)))
}

/// Entries of other registers than 10 of which no value was given, where there are values at all.
fn elsewhere(judged: &ImaJudged<'_>, values: &PcrValues) -> Option<Check> {
    let open: BTreeSet<u32> = judged
        .entries
        .iter()
        .map(|entry| entry.register)
        .filter(|register| *register != IMA_PCR && !judged.others.contains_key(register))
        .collect();
    let names: Vec<String> = open.iter().map(u32::to_string).collect();
    (!values.is_empty() && !names.is_empty()).then(|| {
        let found = format!(
            "no value was given of register {}, which entries are of",
            names.join(", ")
        );
        Check::noted("ima.attested", Reason::EntriesUnattested, found)
    })
}

/// How many entries lead to the register in every bank that has a value, and what is wrong where none do.
fn replay(entries: &[Entry<'_>], values: &PcrValues, register: u32) -> (usize, Vec<Check>) {
    let quoted: Vec<(HashAlg, &Vec<u8>)> = given(values, register).collect();
    if quoted.is_empty() {
        let unproved = (!values.is_empty()).then(|| {
            let found =
                "no value of register 10 was given: of what was measured at run time nothing is proved";
            Check::noted("ima.attested", Reason::EntriesUnattested, found)
        });
        return (entries.len(), unproved.into_iter().collect());
    }
    let mut shortest = entries.len();
    let mut names = Vec::new();
    let mut failed = Vec::new();
    let mut padded = None;
    for (bank, value) in quoted {
        let ways: &[Extends] = match bank {
            HashAlg::Sha1 => &[Extends::Rehashed],
            _ => &[Extends::Rehashed, Extends::Padded],
        };
        let found = ways
            .iter()
            .find_map(|way| Some((*way, covered(entries, bank, *way, value, register)?)));
        match found {
            Some((way, covered)) => {
                shortest = shortest.min(covered);
                names.push(bank.name());
                if way == Extends::Padded && !entries.is_empty() {
                    padded = Some(bank);
                }
            }
            None => failed.push((
                bank,
                format!(
                    "register {register} ({}) holds {}, which no part of the list leads to",
                    bank.name(),
                    hex::encode(value)
                ),
            )),
        }
    }
    if !failed.is_empty() {
        return (0, mismatches(&failed, !names.is_empty()));
    }
    let found = format!(
        "{shortest} entries lead to register {register} ({})",
        names.join(", ")
    );
    let mut checks = vec![Check::passed(REPLAY, found)];
    if let Some(bank) = padded {
        let found = format!(
            "register {register} ({}) was extended by SHA-1 digests, as kernels before Linux 5.8 do",
            bank.name()
        );
        checks.push(Check::noted(REPLAY, Reason::WeakHash, found));
    }
    (shortest, checks)
}

/// Registers that no part of the list leads to. Where that is so in the SHA-1 bank alone, that is worth a word of its own.
fn mismatches(failed: &[(HashAlg, String)], another_agrees: bool) -> Vec<Check> {
    let mut checks = Vec::new();
    for (bank, found) in failed {
        let mut reasons = vec![Reason::LogMismatch];
        if *bank == HashAlg::Sha1 && failed.len() == 1 && another_agrees {
            reasons.push(Reason::LogBankMismatch);
        }
        checks.extend(reasons.into_iter().map(|reason| {
            Check::failed(
                REPLAY,
                reason,
                "a list that leads to the register",
                found.clone(),
                "the list was edited, or is of another boot: do not trust this host",
            )
        }));
    }
    checks
}

/// How many entries lead to a value. A register that nothing was extended into covers no entry of it.
fn covered(
    entries: &[Entry<'_>],
    bank: HashAlg,
    extends: Extends,
    value: &[u8],
    register: u32,
) -> Option<usize> {
    let mut replay = Replay::new(bank, extends);
    let mut reached =
        (replay.value() == value && !entries.iter().any(|entry| entry.register == register)).then_some(0);
    for (number, entry) in entries.iter().enumerate() {
        if entry.register == register {
            replay.extend(entry);
            if replay.value() == value {
                reached = Some(number + 1);
                // Nothing but the same value could come later, and only by breaking the hash.
                break;
            }
        }
    }
    let reached = reached?;
    // Entries of other registers behind the last covered one are as old as it.
    let behind = entries
        .iter()
        .skip(reached)
        .take_while(|entry| entry.register != register)
        .count();
    Some(if reached == 0 {
        entries.len()
    } else {
        reached + behind
    })
}

/// The first entry is the digest of the registers of the boot before: 0 to 7, and since Linux 5.8 outside of SHA-1 to 9.
fn aggregate(entries: &[Entry<'_>], values: &PcrValues) -> Option<Check> {
    let entry = entries.iter().find(|entry| entry.is_boot_aggregate())?;
    if entry.file.digest.iter().all(|byte| *byte == 0) {
        return Some(Check::noted(
            AGGREGATE,
            Reason::BootAggregateZero,
            "the kernel saw no TPM when it started to measure",
        ));
    }
    let bank = entry.file.hash()?;
    let registers = values.get(&bank)?;
    let fits = |last: u8| {
        let parts: Option<Vec<&[u8]>> = (0..=last)
            .map(|index| registers.get(&index).map(Vec::as_slice))
            .collect();
        parts.map(|parts| bank.digest(&parts) == *entry.file.digest)
    };
    match (fits(7), fits(9)) {
        (None, _) => None,
        (Some(true), _) | (_, Some(true)) => Some(Check::passed(
            AGGREGATE,
            "is the digest of the registers of this boot",
        )),
        (_, None) => None,
        (Some(false), Some(false)) => Some(Check::failed(
            AGGREGATE,
            Reason::LogMismatch,
            "the digest of the registers of this boot",
            format!("{}:{}", entry.file.algorithm, hex::encode(&entry.file.digest)),
            "the list is of another boot: read it again",
        )),
    }
}

/// Every signature that is there has to be of one of the keys.
fn signatures(entries: &[Entry<'_>], keys: &SignatureKeys) -> Check {
    const NAME: &str = "ima.signatures";
    let mut signed = 0;
    let mut failures: BTreeMap<&'static str, (SignatureError, String)> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| !entry.signature.is_empty()) {
        match keys.verify(entry) {
            Ok(()) => signed += 1,
            Err(error) => {
                failures
                    .entry(match error {
                        SignatureError::KeyUnknown => "unknown",
                        _ => "invalid",
                    })
                    .or_insert((error, printable(&entry.path)));
            }
        }
    }
    // One that does not verify says more than one whose key is not known.
    match failures.into_values().next() {
        None => Check::passed(NAME, format!("{signed} of {} entries", entries.len())),
        Some((error, path)) => Check::failed(
            NAME,
            match error {
                SignatureError::Malformed => Reason::Malformed,
                SignatureError::Hash => Reason::AlgNotAllowed,
                SignatureError::WeakHash => Reason::WeakHash,
                SignatureError::KeyUnknown => Reason::KidUnknown,
                SignatureError::OtherHash | SignatureError::Invalid => Reason::SignatureInvalid,
            },
            "signatures of files by the keys that are trusted",
            format!("{path}: {error}"),
            "trust the key of whoever signs this file, or take the file off the host",
        ),
    }
}

/// A path as it can be shown.
pub(crate) fn printable(path: &str) -> String {
    path.chars()
        .take(300)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}
