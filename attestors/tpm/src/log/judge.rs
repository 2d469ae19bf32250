//! Whether a log says what it says as firmware does, and whether it leads to the registers.

use std::collections::BTreeMap;

use touchmark_crypto::HashAlg;
use touchmark_rats::{Check, Claims, MeasuredEvent, Reason};

use super::{
    BootLog, LogError, Trailing,
    boot::{Boot, Detail},
    describe::describe,
    event::{
        Content, EV_APPLICATION, EV_GPT, EV_GPT2, EV_RUNTIME_DRIVER, EV_SEPARATOR, EV_VARIABLE_BOOT,
        EV_VARIABLE_BOOT2, EV_VARIABLE_DRIVER_CONFIG, Event,
    },
    replay::{check_data, replay_all},
    secure_boot::{SecureBoot, accepted_by, is_configuration, is_separator},
    uefi::{Variable, image_path, partition_table, signatures},
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

/// Of so many registers of a boot a log speaks if it is of a whole boot.
const WHOLE_BOOT: usize = 5;
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
            Boot::read(&log.of_registers(&given), bank, registers, Detail::Claims).claims()
        }
        None => out.boot.claims(),
    };
    out.checks.extend(rules(&log, bank, registers, &out.boot));
    out.bank = Some(bank);
    let register = u8::try_from(registers.of(7)).unwrap_or(7);
    let attested = values.is_empty()
        || values
            .get(&bank)
            .is_some_and(|values| values.contains_key(&register));
    out.checks
        .push(secure_boot(out.boot.secure_boot, wanted.secure_boot, attested));
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
        let found = format!("leads to every register that it extends ({})", names.join(", "));
        checks.push(Check::passed(REPLAY, found));
    }
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

/// Events that no register can have: a confidential VM has five, and what is extended has a digest.
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
        .find(|event| registers == Registers::Rtmr && event.register > 4)
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

/// What firmware keeps to, whatever the registers hold.
pub(crate) fn rules(log: &BootLog<'_>, bank: HashAlg, registers: Registers, boot: &Boot) -> Vec<Check> {
    let mut checks = Vec::new();
    let extended = || log.events.iter().filter(|event| event.is_extended());
    for event in extended().filter(|event| event.digest(bank).is_some()) {
        if let Err(unexplained) = check_data(event, bank) {
            checks.push(Check::failed(
                "log.data",
                unexplained.reason,
                "data that its digest covers",
                unexplained.found,
                "the log was edited: do not trust this boot",
            ));
            break;
        }
    }
    checks.extend(separators(log, bank, registers));
    checks.extend(order(log, bank, registers));
    checks.extend(databases(log, bank, registers));
    let undigested = log.events.iter().find(|event| {
        !event.is_extended()
            && event
                .digests
                .iter()
                .any(|(_, digest)| digest.iter().any(|b| *b != 0))
    });
    if let Some(event) = undigested {
        checks.push(Check::noted(
            "log.no_action",
            Reason::NoActionDigest,
            format!("event {}: a digest of what is never extended", event.number),
        ));
    }
    if let Some(trailing) = log.trailing {
        let found = match trailing {
            Trailing::Zeros(length) => format!("{length} bytes of zeros after the last event"),
            Trailing::Ones(length) => format!("{length} bytes of ones after the last event"),
        };
        checks.push(Check::noted("log.end", Reason::TrailingData, found));
    }
    let unreadable = extended().find(|event| !readable(event));
    if let Some(event) = unreadable {
        checks.push(Check::noted(
            "log.undigested_data",
            Reason::EventDataUnauthenticated,
            format!(
                "event {}: {}: data that cannot be read",
                event.number,
                describe(event)
            ),
        ));
    }
    if !boot.left_firmware {
        checks.push(Check::noted(
            "log.boot_completed",
            Reason::BootNotCompleted,
            "no \"Exit Boot Services Returned with Success\"",
        ));
    }
    checks
}

/// Whether it is a separator by its type or, in the register that claims are made of by what comes before it, by its digest.
fn is_separator_of(event: &Event<'_>, bank: HashAlg) -> bool {
    (event.kind == EV_SEPARATOR && event.content == Content::PcClient)
        || (event.register == 7 && is_separator(event, bank))
}

/// Separators of the firmware's registers: one each, and none that reports an error.
fn separators(log: &BootLog<'_>, bank: HashAlg, registers: Registers) -> Option<Check> {
    let mut seen = [0_usize; 8];
    for event in log
        .events
        .iter()
        .filter(|event| event.is_extended() && is_separator_of(event, bank))
    {
        let Some(count) = usize::try_from(event.register)
            .ok()
            .and_then(|at| seen.get_mut(at))
        else {
            continue;
        };
        *count += 1;
        let failed = |found: String| {
            Some(Check::failed(
                "log.separators",
                Reason::SeparatorInvalid,
                "one separator in each register, of zeros or ones",
                found,
                "the firmware did not end its measurements in order: do not trust this boot",
            ))
        };
        if !is_separator(event, bank) && !matches!(event.data, [0, 0, 0, 0] | [0xff, 0xff, 0xff, 0xff]) {
            return failed(format!(
                "event {}: register {}: {}",
                event.number,
                event.register,
                describe(event)
            ));
        }
        if *count > 1 && registers == Registers::Pcr {
            return failed(format!(
                "event {}: a second one in register {}",
                event.number, event.register
            ));
        }
    }
    let extends = |register: u32| {
        log.events
            .iter()
            .any(|event| event.register == register && event.is_extended())
    };
    let used: Vec<u32> = (0..8).filter(|register| extends(*register)).collect();
    // A log of a whole boot: each of its registers has its separator.
    let missing = used
        .iter()
        .find(|register| usize::try_from(**register).ok().and_then(|at| seen.get(at)) == Some(&0));
    match missing {
        Some(register) if registers == Registers::Pcr && used.len() >= WHOLE_BOOT => Some(Check::failed(
            "log.separators",
            Reason::SeparatorInvalid,
            "one separator in each register, of zeros or ones",
            format!("none in register {register}"),
            "the firmware did not end its measurements in order: do not trust this boot",
        )),
        _ => None,
    }
}

/// What comes too late to be what it says: the locality of startup after something was measured, what Secure Boot is configured with after
/// firmware has ended.
fn order(log: &BootLog<'_>, bank: HashAlg, registers: Registers) -> Option<Check> {
    let failed = |event: &Event<'_>, what: &str| {
        Some(Check::failed(
            "log.order",
            Reason::EventOrderInvalid,
            "events in the order in which firmware measures",
            format!("event {}: {what}", event.number),
            "do not trust this boot: the log was put together otherwise than firmware does",
        ))
    };
    let (mut measured, mut located, mut separated) = (false, false, false);
    for event in &log.events {
        let locality = !event.is_extended() && event.data.starts_with(b"StartupLocality\0");
        if locality && (measured || located) {
            return failed(
                event,
                "the locality of startup, again or after something was measured",
            );
        }
        located |= locality;
        measured |= event.is_extended() && event.register == 0;
        if event.register != registers.of(7) || !event.is_extended() {
            continue;
        }
        if is_separator(event, bank) {
            separated = true;
        } else if separated && let Some(variable) = Variable::parse(event.data) {
            let named = matches!(variable.name.as_str(), "SecureBoot" | "PK" | "KEK" | "db" | "dbx");
            if named && event.kind == EV_VARIABLE_DRIVER_CONFIG
                || is_configuration(&variable) && event.is_digest_of(bank, event.data)
            {
                return failed(event, "a variable of Secure Boot after the separator");
            }
        }
    }
    None
}

/// Signature databases have to be lists of signatures: otherwise nobody knows which keys they hold.
fn databases(log: &BootLog<'_>, bank: HashAlg, registers: Registers) -> Option<Check> {
    let register = registers.of(7);
    let mut events = log
        .events
        .iter()
        .filter(|event| event.is_extended() && event.register == register);
    let before = events.by_ref().take_while(|event| !is_separator(event, bank));
    before
        .filter_map(|event| {
            let variable = Variable::parse(event.data)?;
            let named = matches!(variable.name.as_str(), "PK" | "KEK" | "db" | "dbx");
            let accepted = event.kind != EV_VARIABLE_DRIVER_CONFIG && accepted_by(&variable).is_some();
            (named && !accepted && signatures(variable.value).is_none()).then(|| {
                Check::failed(
                    "log.databases",
                    Reason::Malformed,
                    "signature lists whose header has no length",
                    format!(
                        "event {}: variable {} holds something else",
                        event.number, variable.name
                    ),
                    "do not trust this boot: what its Secure Boot accepts is not known",
                )
            })
        })
        .next()
}

/// Whether data that its digest does not cover can be read at all.
fn readable(event: &Event<'_>) -> bool {
    match (event.content, event.kind) {
        (Content::PcClient, EV_APPLICATION..=EV_RUNTIME_DRIVER) => image_path(event.data).is_some(),
        (Content::PcClient, EV_GPT | EV_GPT2) => partition_table(event.data).is_some(),
        (Content::PcClient, EV_VARIABLE_BOOT | EV_VARIABLE_BOOT2) => Variable::parse(event.data).is_some(),
        _ => true,
    }
}

fn secure_boot(found: SecureBoot, required: bool, attested: bool) -> Check {
    const NAME: &str = "boot.secure_boot";
    let (reason, text) = match found {
        SecureBoot::On if required && !attested => (
            Reason::SecureBootUnknown,
            "on, by a register of which no value was given",
        ),
        SecureBoot::On => return Check::passed(NAME, "on"),
        SecureBoot::Off => (Reason::SecureBootOff, "off"),
        SecureBoot::Unknown => (Reason::SecureBootUnknown, "not measured"),
        SecureBoot::Invalid(how) => (Reason::SecureBootInvalid, how),
    };
    if required {
        let remedy = "switch Secure Boot on in the firmware's setup, and boot anew";
        Check::failed(NAME, reason, "Secure Boot on, measured once", text, remedy)
    } else {
        Check::noted(NAME, reason, text)
    }
}
