//! Whether a log says what it says as firmware does, and whether it leads to the registers.

use std::collections::{BTreeMap, BTreeSet};

use touchmark_crypto::HashAlg;
use touchmark_rats::{Check, Claims, MeasuredEvent, Reason};

use super::{
    BootLog, LogError,
    boot::{Boot, Detail},
    describe::describe,
    oddities::notes,
    replay::replay_all,
    rules::{data, rules},
    secure_boot::SecureBoot,
};

/// What a log's register numbers count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registers {
    /// Registers of a TPM.
    Pcr,
    /// Measurement registers of a confidential VM: 0 for what it was built with, 1 to 4 for RTMR 0 to 3 (UEFI 2.10, section 38.4).
    Rtmr,
}

impl Registers {
    /// Where what a TPM holds in `pcr` is found.
    pub(crate) fn of(self, pcr: u32) -> u32 {
        match (self, pcr) {
            (Self::Pcr, pcr) => pcr,
            (Self::Rtmr, 0) => 0,
            (Self::Rtmr, 1 | 7) => 1,
            (Self::Rtmr, 2..=6) => 2,
            (Self::Rtmr, _) => 3,
        }
    }
}

/// What a log is wanted for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogUse {
    /// It is a failure that the log does not show Secure Boot on beyond doubt.
    pub secure_boot: bool,
    /// The bank that events are told in, where values allow it: that of the reference values they will be held against. Without one, the
    /// strongest that is compared.
    pub bank: Option<HashAlg>,
}

/// A log, judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// What was looked at, in order.
    pub checks: Vec<Check>,
    /// How the machine booted, where the log could be read.
    pub boot: Boot,
    /// What that establishes: of the registers alone that values were given of, where any were.
    pub claims: Claims,
    /// The bank that [`Self::boot`] and [`Self::events`] are about.
    pub bank: Option<HashAlg>,
    /// The events that extend registers, in words.
    pub events: Vec<MeasuredEvent>,
}

const STRUCTURE: &str = "log.structure";
const REPLAY: &str = "log.replay";

/// The reason of a log that cannot be read.
pub(crate) fn unreadable(error: &LogError) -> Reason {
    match error {
        LogError::Limit(_) => Reason::Oversized,
        LogError::Digests { .. } => Reason::EventDigestSet,
        LogError::Register { .. } => Reason::PcrIndexInvalid,
        LogError::Truncated { .. } | LogError::Header(_) | LogError::Event { .. } => Reason::Malformed,
    }
}

/// Judges a whole log against register values, by bank. Registers that the log does not extend are not compared, nor are banks without
/// values.
pub fn judge_log(
    bytes: &[u8],
    registers: Registers,
    values: &BTreeMap<HashAlg, BTreeMap<u8, Vec<u8>>>,
    wanted: LogUse,
) -> Judged {
    let mut out = Judged {
        checks: Vec::new(),
        boot: Boot::default(),
        claims: Claims::default(),
        bank: None,
        events: Vec::new(),
    };
    let log = match BootLog::parse(bytes) {
        Ok(log) => log,
        Err(error) => {
            // What is wrong with it in particular, and that it cannot be read for it.
            let particular = unreadable(&error);
            let reasons = [particular, Reason::Malformed];
            let different = if particular == Reason::Malformed { 1 } else { 2 };
            out.checks
                .extend(reasons.into_iter().take(different).map(|reason| {
                    Check::failed(
                        STRUCTURE,
                        reason,
                        "a TCG log, crypto-agile or of SHA-1, or a canonical one",
                        error.to_string(),
                        "read the log again: it should be the kernel's binary_bios_measurements, whole",
                    )
                }));
            return out;
        }
    };
    let names: Vec<&str> = log.banks().iter().map(|bank| bank.name()).collect();
    out.checks.push(Check::passed(
        STRUCTURE,
        format!("{} events, {}", log.len(), names.join(" ")),
    ));
    compare(&log, registers, values, &mut out.checks);
    out.checks.extend(beyond(&log, registers));
    // What is read of events is read where their digests are compared with registers, if any are.
    let compared = log.banks().iter().any(|bank| values.contains_key(bank));
    let usable = || {
        log.banks()
            .iter()
            .copied()
            .filter(|bank| !compared || values.contains_key(bank))
    };
    let bank = wanted
        .bank
        .filter(|bank| usable().any(|other| other == *bank))
        .or_else(|| usable().max());
    let Some(bank) = bank else { return out };
    out.boot = Boot::read(&log, bank, registers, Detail::Story);
    out.claims = match values.get(&bank) {
        Some(given) => {
            let given: Vec<u32> = given.keys().map(|index| u32::from(*index)).collect();
            let boot = Boot::read(&log.of_registers(&given), bank, registers, Detail::Claims);
            boot.into_claims(|pcr| given.contains(&registers.of(pcr)))
        }
        None => out.boot.clone().into_claims(|_| true),
    };
    // In each bank that is compared the data has to be what was hashed: otherwise two stories are told at once.
    let looked_at = usable().filter(|other| compared || *other == bank);
    out.checks.extend(looked_at.filter_map(|bank| data(&log, bank)));
    out.checks
        .extend(rules(&log, bank, registers, &out.boot, |_| true));
    out.checks.extend(notes(&log, bank, registers, values));
    out.bank = Some(bank);
    let register = u8::try_from(registers.of(7)).unwrap_or(7);
    let attested = values.is_empty()
        || values
            .get(&bank)
            .is_some_and(|values| values.contains_key(&register));
    out.checks
        .extend(secure_boot(&out.boot, wanted.secure_boot, attested));
    out.events = log
        .events
        .iter()
        .filter(|event| event.is_extended())
        .filter_map(|event| {
            Some(MeasuredEvent {
                number: event.number,
                pcr: u8::try_from(event.register).ok()?,
                digest: event.digest(bank)?.to_vec(),
                description: describe(event),
            })
        })
        .collect();
    out
}

fn compare(
    log: &BootLog<'_>,
    registers: Registers,
    values: &BTreeMap<HashAlg, BTreeMap<u8, Vec<u8>>>,
    checks: &mut Vec<Check>,
) {
    let remedy =
        "something was measured that the log does not show, or the log was edited: do not trust this boot";
    if values.is_empty() {
        let found = "no register values were given: what it says is told, and proved by nothing";
        checks.push(Check::passed(REPLAY, found));
    } else if !values.keys().any(|bank| log.has_bank(*bank)) {
        let names: Vec<&str> = values.keys().map(|bank| bank.name()).collect();
        for reason in [Reason::LogMismatch, Reason::EventDigestSet] {
            checks.push(Check::failed(
                REPLAY,
                reason,
                "digests in a bank of the registers",
                format!("none of {}", names.join(", ")),
                "give registers of a bank that the log has",
            ));
        }
    }
    let mut agreed: Vec<HashAlg> = Vec::new();
    let mut failures: Vec<(HashAlg, Check)> = Vec::new();
    for (bank, values) in values {
        if !log.has_bank(*bank) {
            continue;
        }
        let replayed = match replay_all(log, *bank) {
            Ok(replayed) => replayed,
            Err(unexplained) => {
                let expected = "one digest of each event in the bank that is compared";
                let check = Check::failed(REPLAY, unexplained.reason, expected, unexplained.found, remedy);
                failures.push((*bank, check));
                continue;
            }
        };
        if let Some(check) = incomplete(&replayed, registers, *bank, values) {
            failures.push((*bank, check));
        }
        let compared = replayed.keys().filter(|index| values.contains_key(index)).count();
        if compared == 0 && !replayed.is_empty() {
            let named: Vec<String> = replayed.keys().map(u8::to_string).collect();
            let check = Check::failed(
                REPLAY,
                Reason::LogIncomplete,
                "values of registers that the log extends",
                format!("none of register {} ({})", named.join(", "), bank.name()),
                "give the values of the registers of the boot: nothing of this log was proved",
            );
            failures.push((*bank, check));
            continue;
        }
        let differing: Vec<String> = replayed
            .iter()
            .filter_map(|(index, value)| match values.get(index) {
                Some(quoted) if quoted != value && !after_launch(log, *bank, *index, quoted) => {
                    Some(format!(
                        "register {index} ({}): {}, the log leads to {}",
                        bank.name(),
                        hex::encode(quoted),
                        hex::encode(value)
                    ))
                }
                _ => None,
            })
            .collect();
        if differing.is_empty() {
            if failures.iter().all(|(failed, _)| failed != bank) {
                agreed.push(*bank);
            }
        } else {
            failures.push((
                *bank,
                Check::failed(
                    REPLAY,
                    Reason::LogMismatch,
                    "a log that leads to every register",
                    differing.join("; "),
                    remedy,
                ),
            ));
        }
    }
    // Firmware is known that extends the SHA-1 bank by other values than it logs.
    let only_sha1 = failures.iter().all(|(bank, _)| *bank == HashAlg::Sha1) && !agreed.is_empty();
    for (_, check) in failures {
        if only_sha1 && check.reason() == Some(Reason::LogMismatch) {
            checks.push(Check::failed(
                REPLAY,
                Reason::LogBankMismatch,
                check.expected.clone(),
                check.found.clone(),
                "do not quote the SHA-1 bank of this machine",
            ));
        }
        checks.push(check);
    }
    if !agreed.is_empty() {
        let names: Vec<&str> = agreed.iter().map(|bank| bank.name()).collect();
        let unproved = unproved(log, values, &agreed);
        let beside = match unproved.is_empty() {
            true => String::new(),
            false => format!(
                "; nothing is proved of register {}, of which no value was given",
                unproved.join(", ")
            ),
        };
        let found = format!(
            "leads to every register that was given and that it extends ({}){beside}",
            names.join(", ")
        );
        checks.push(Check::passed(REPLAY, found));
    }
}

/// Registers that the log extends, of which none of these banks has a value.
fn unproved(
    log: &BootLog<'_>,
    values: &BTreeMap<HashAlg, BTreeMap<u8, Vec<u8>>>,
    banks: &[HashAlg],
) -> Vec<String> {
    let given = |register: u32| {
        banks
            .iter()
            .filter_map(|bank| values.get(bank))
            .any(|values| values.keys().any(|index| u32::from(*index) == register))
    };
    let extended = log.events.iter().filter(|event| event.is_extended());
    let registers: BTreeSet<u32> = extended.map(|event| event.register).collect();
    registers
        .into_iter()
        .filter(|register| !given(*register))
        .map(|register| register.to_string())
        .collect()
}

/// Registers of the firmware's boot that something was measured into, of which the log says nothing.
fn incomplete(
    replayed: &BTreeMap<u8, Vec<u8>>,
    registers: Registers,
    bank: HashAlg,
    values: &BTreeMap<u8, Vec<u8>>,
) -> Option<Check> {
    let missing: Vec<String> = values
        .iter()
        .filter(|(index, value)| {
            registers == Registers::Pcr
                && **index < 8
                && !replayed.contains_key(index)
                && value.iter().any(|byte| *byte != 0)
        })
        .map(|(index, _)| index.to_string())
        .collect();
    (!missing.is_empty()).then(|| {
        Check::failed(
            REPLAY,
            Reason::LogIncomplete,
            "events behind each register of the firmware's boot",
            format!(
                "none for register {} ({}), which holds something",
                missing.join(", "),
                bank.name()
            ),
            "events were taken out of the log: do not trust this boot",
        )
    })
}

/// Whether a register of a dynamic launch has this value when it starts from zeros, as the launch leaves it.
fn after_launch(log: &BootLog<'_>, bank: HashAlg, index: u8, quoted: &[u8]) -> bool {
    (17..=22).contains(&index)
        && log
            .events
            .iter()
            .filter(|event| event.is_extended() && event.register == u32::from(index))
            .try_fold(vec![0; bank.len()], |value, event| {
                Some(bank.digest(&[&value, event.digest(bank)?]))
            })
            .is_some_and(|value| value == quoted)
}

/// Events that no register can have: a confidential VM has four that are extended, and what is extended has a digest.
fn beyond(log: &BootLog<'_>, registers: Registers) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut failed = |reasons: [Reason; 2], found: String| {
        for reason in reasons {
            checks.push(Check::failed(
                STRUCTURE,
                reason,
                "events of registers that there are, each with a digest",
                found.clone(),
                "do not trust this boot: no firmware writes such a log",
            ));
        }
    };
    let mut extended = log.events.iter().filter(|event| event.is_extended());
    if let Some(event) = extended
        .clone()
        .find(|event| registers == Registers::Rtmr && !(1..=4).contains(&event.register))
    {
        let found = format!(
            "event {}: there is no measurement register {}",
            event.number, event.register
        );
        failed([Reason::PcrIndexInvalid, Reason::Malformed], found);
    }
    if let Some(event) = extended.find(|event| event.digests.is_empty() && !log.banks().is_empty()) {
        let found = format!("event {}: no digest that is known", event.number);
        failed([Reason::EventDigestSet, Reason::Malformed], found);
    }
    checks
}

/// Whether Secure Boot was on, with each reason that there is to doubt it.
fn secure_boot(boot: &Boot, required: bool, attested: bool) -> Vec<Check> {
    const NAME: &str = "boot.secure_boot";
    let mut doubts = match boot.secure_boot {
        SecureBoot::On if !attested => vec![(
            Reason::SecureBootUnknown,
            "on, by a register of which no value was given",
        )],
        SecureBoot::On => return vec![Check::passed(NAME, "on")],
        SecureBoot::Off => vec![(Reason::SecureBootOff, "off")],
        SecureBoot::Unset => vec![
            (Reason::SecureBootOff, "off: the variable has no value"),
            (Reason::SecureBootInvalid, "not one byte"),
        ],
        SecureBoot::Unknown => vec![(Reason::SecureBootUnknown, "not measured")],
        SecureBoot::Invalid(how) => vec![(Reason::SecureBootInvalid, how)],
    };
    if boot.secure_boot_renamed && !matches!(boot.secure_boot, SecureBoot::Invalid(_)) {
        doubts.push((Reason::SecureBootUnknown, super::secure_boot::RENAMED));
    }
    let remedy = match (boot.secure_boot, attested) {
        (SecureBoot::On, false) => "give the value of register 7 as well",
        _ => "switch Secure Boot on in the firmware's setup, and boot anew",
    };
    let told = doubts.into_iter().map(|(reason, text)| match required {
        true => Check::failed(NAME, reason, "Secure Boot on, measured once", text, remedy),
        false => Check::noted(NAME, reason, text),
    });
    told.collect()
}
