//! The boot log behind a quote: whether it leads to every register, and what it says of the boot.

use std::collections::BTreeMap;

use touchmark_crypto::{HashAlg, ct_eq};
use touchmark_rats::{Appraisal, Check, ClaimValue, Expected, RUNTIME_REGISTER, Reason};

use crate::{
    ima::Followed,
    log::{Boot, BootLog, Detail, Explained, Registers, explain, rules, unreadable_log},
    quoted::Quoted,
};

/// Every quoted register must be explained by the log, event by event. Answers the values of those of the boot.
pub(super) fn check_log(
    out: &mut Appraisal,
    quoted: &Quoted,
    mut runtime: Option<&mut Followed<'_>>,
    expected: &Expected<'_>,
) -> Result<BTreeMap<(HashAlg, u8), Vec<u8>>, Check> {
    const NAME: &str = "tpm.log";
    let log = BootLog::parse(expected.log).map_err(|error| {
        Check::failed(
            "tpm.log.structure",
            unreadable_log(&error),
            "a crypto-agile TCG log",
            error.to_string(),
            "check the agent's tpm.eventlog path; it should name the kernel's binary_bios_measurements",
        )
    })?;
    let mut all = Explained {
        events: Vec::new(),
        measured: Vec::new(),
        values: BTreeMap::new(),
    };
    let boot = expected.selection.without_runtime();
    for bank in &boot.0 {
        let values: BTreeMap<u8, Vec<u8>> = quoted
            .values
            .iter()
            .filter(|((hash, _), _)| *hash == bank.bank)
            .map(|((_, index), value)| (*index, value.clone()))
            .collect();
        let single = expected.selection.0.len() == 1;
        let digest_of = |replayed: &[Vec<u8>], running: Option<&Vec<u8>>| {
            let mut parts: Vec<&[u8]> = replayed.iter().map(Vec::as_slice).collect();
            if let Some(running) = running {
                let lower = bank.indices.iter().filter(|index| **index < RUNTIME_REGISTER);
                parts.insert(lower.count(), running);
            }
            quoted.hash.digest(&parts)
        };
        let list = runtime.as_deref_mut();
        let matches = |replayed: &[Vec<u8>]| match list {
            Some(list) => {
                single
                    && list
                        .find(|running| ct_eq(&digest_of(replayed, running.get(&bank.bank)), &quoted.digest))
            }
            None => single && ct_eq(&digest_of(replayed, None), &quoted.digest),
        };
        let known = (!values.is_empty()).then_some(&values);
        let both = known.is_none() && expected.selection.covers_runtime();
        let explained = explain(&log, bank.bank, &bank.indices, known, matches).map_err(|unexplained| {
            let found = match (both, unexplained.reason) {
                (true, Reason::LogMismatch) => {
                    "a boot log and a list of measurements that do not lead to the quote together; the host sent no values, \
                     so which of them is not known"
                        .to_owned()
                }
                _ => unexplained.found,
            };
            Check::failed(
                NAME,
                unexplained.reason,
                "a log that leads to every quoted register",
                found,
                "something was measured that the log does not show, or the log was edited: do not trust this boot; \
                 reboot the host and compare",
            )
        })?;
        all.events.extend(explained.events);
        all.measured.extend(explained.measured);
        all.values.extend(explained.values);
    }
    out.checks.push(Check::passed(
        NAME,
        format!("{} events explain {}", all.events.len(), expected.selection),
    ));
    check_boot(out, &log.explained_by(&all), expected)?;
    out.claims.set(
        "tpm.log_events",
        ClaimValue::Int(i64::try_from(all.events.len()).unwrap_or(i64::MAX)),
    );
    out.events = all.events;
    out.measured = all.measured;
    Ok(all.values)
}

/// What the explained part of the log says of the boot, and whether firmware says it like that.
fn check_boot(out: &mut Appraisal, log: &BootLog<'_>, expected: &Expected<'_>) -> Result<(), Check> {
    let Some(bank) = expected.selection.0.iter().map(|bank| bank.bank).max() else {
        return Ok(());
    };
    let boot = Boot::read(log, bank, Registers::Pcr, Detail::Claims);
    let quoted = |pcr| {
        let pcr = u8::try_from(pcr).ok();
        let mut banks = expected.selection.0.iter();
        pcr.is_some_and(|pcr| banks.any(|quoted| quoted.bank == bank && quoted.indices.contains(&pcr)))
    };
    // A register that nothing at all was measured into is held against the reference values, which have to allow that.
    let extended = log.registers();
    let known = |pcr| quoted(pcr) && extended.contains(&pcr);
    let checks = rules(log, bank, Registers::Pcr, &boot, known);
    if let Some(failed) = checks.iter().find(|check| check.reason().is_some()) {
        return Err(failed.clone());
    }
    let mut boot = boot.into_claims(quoted);
    let notes = checks
        .iter()
        .filter_map(Check::note)
        .map(|note| note.code().to_owned())
        .collect();
    boot.set("boot.notes", ClaimValue::Texts(notes));
    out.claims.extend(&boot);
    out.checks.extend(checks);
    Ok(())
}
