//! What firmware keeps to, whatever the registers hold.

use touchmark_crypto::HashAlg;
use touchmark_rats::{Check, Reason};

use super::{
    BootLog, Trailing,
    boot::Boot,
    describe::describe,
    event::{
        Content, EV_APPLICATION, EV_GPT, EV_GPT2, EV_RUNTIME_DRIVER, EV_S_CRTM_CONTENTS, EV_S_CRTM_VERSION,
        EV_SEPARATOR, EV_VARIABLE_BOOT, EV_VARIABLE_BOOT2, Event, kind,
    },
    judge::Registers,
    replay::check_data,
    secure_boot::is_separator,
    uefi::{Variable, image_path, partition_table},
};

/// Of so many registers of a boot a log speaks if it is of a whole boot.
const WHOLE_BOOT: usize = 5;

/// Data that is not what its digest covers. A log that explains registers was looked at already.
pub(crate) fn data(log: &BootLog<'_>, bank: HashAlg) -> Option<Check> {
    let mut extended = log
        .events
        .iter()
        .filter(|event| event.is_extended() && event.digest(bank).is_some());
    let unexplained = extended.find_map(|event| check_data(event, bank).err())?;
    Some(Check::failed(
        "log.data",
        unexplained.reason,
        "data that its digest covers",
        unexplained.found,
        "the log was edited: do not trust this boot",
    ))
}

/// Checks of what firmware keeps to, and notes of what is unusual.
/// `known` tells which registers the log has all events of: it may be only that part of one which explains a quote.
pub(crate) fn rules(
    log: &BootLog<'_>,
    bank: HashAlg,
    registers: Registers,
    boot: &Boot,
    known: impl Fn(u32) -> bool,
) -> Vec<Check> {
    let mut checks = Vec::new();
    let extended = || log.events.iter().filter(|event| event.is_extended());
    checks.extend(misplaced_header(log, registers));
    checks.extend(separators(log, bank, registers, known));
    checks.extend(order(log, registers, boot));
    checks.extend(databases(boot));
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

/// A Spec ID event of another register than the first: the log does not begin where the boot began.
fn misplaced_header(log: &BootLog<'_>, registers: Registers) -> Option<Check> {
    let header = log.header?;
    let wrong = registers == Registers::Pcr && header.register != 0;
    wrong.then(|| {
        Check::failed(
            "log.structure",
            Reason::Malformed,
            "a Spec ID event of register 0 first",
            format!("one of register {}", header.register),
            "do not trust this boot: no firmware writes such a log",
        )
    })
}

/// Whether it is a separator by its type or, in the register that claims are made of by what comes before it, by its digest.
fn is_separator_of(event: &Event<'_>, bank: HashAlg) -> bool {
    (event.kind == EV_SEPARATOR && event.content == Content::PcClient)
        || (event.register == 7 && is_separator(event, bank))
}

/// Separators of the firmware's registers: one each, and none that reports an error.
fn separators(
    log: &BootLog<'_>,
    bank: HashAlg,
    registers: Registers,
    known: impl Fn(u32) -> bool,
) -> Option<Check> {
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
        if event.kind != EV_SEPARATOR {
            return failed(format!(
                "event {}: register {}: a separator that the log calls {}",
                event.number,
                event.register,
                kind(event.kind)
            ));
        }
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
    let used = (0..8).filter(|register| extends(*register)).count();
    // A log of a whole boot: each of the firmware's registers has its separator, also where nothing else was measured into it.
    let missing = (0..8)
        .zip(seen)
        .find(|(register, count)| *count == 0 && known(*register))
        .map(|(register, _)| register);
    match missing {
        Some(register) if registers == Registers::Pcr && used >= WHOLE_BOOT => Some(Check::failed(
            "log.separators",
            Reason::SeparatorInvalid,
            "one separator in each register, of zeros or ones",
            format!("none in register {register}"),
            "the firmware did not end its measurements in order: do not trust this boot",
        )),
        _ => None,
    }
}

/// What comes too late to be what it says: the locality of startup after something was measured, what firmware began with and what Secure Boot is configured with after
/// firmware has ended.
fn order(log: &BootLog<'_>, registers: Registers, boot: &Boot) -> Option<Check> {
    let failed = |number: usize, what: &str| {
        Some(Check::failed(
            "log.order",
            Reason::EventOrderInvalid,
            "events in the order in which firmware measures",
            format!("event {number}: {what}"),
            "do not trust this boot: the log was put together otherwise than firmware does",
        ))
    };
    let (mut measured, mut located, mut ended) = (false, false, false);
    for event in &log.events {
        let locality = !event.is_extended() && event.data.starts_with(b"StartupLocality\0");
        if locality && (measured || located) {
            return failed(
                event.number,
                "the locality of startup, again or after something was measured",
            );
        }
        located |= locality;
        let first = event.is_extended() && event.register == 0;
        if first && ended && [EV_S_CRTM_CONTENTS, EV_S_CRTM_VERSION].contains(&event.kind) {
            return failed(event.number, "what firmware began with, after the separator");
        }
        // By its type: firmware is known that measures four zeros as something else before.
        ended |= first && registers == Registers::Pcr && event.kind == EV_SEPARATOR;
        measured |= first;
    }
    let late = boot.late_configuration?;
    failed(late, "a variable of Secure Boot after the separator")
}

/// Signature databases have to be lists of signatures: otherwise nobody knows which keys they hold.
fn databases(boot: &Boot) -> Option<Check> {
    let (number, name) = boot.no_list.as_ref()?;
    Some(Check::failed(
        "log.databases",
        Reason::Malformed,
        "signature lists whose header has no length",
        format!("event {number}: variable {name} holds something else"),
        "do not trust this boot: what its Secure Boot accepts is not known",
    ))
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
