//! Boot logs.

use touchmark_attestor_tpm::{LogUse, Registers, judge_log};

use super::{case::Case, finding::Finding};

pub(super) fn boot(case: &Case) -> Result<Finding, String> {
    let log = case.file("eventlog")?;
    let registers = match case.text("registers") {
        Some("rtmr") => Registers::Rtmr,
        _ => Registers::Pcr,
    };
    let values = match case.registers("pcr_values_json")? {
        Some(values) => Some(values),
        None => case.registers("replayed_json")?,
    };
    let wanted = LogUse {
        secure_boot: case.requires("require_secure_boot"),
        bank: None,
    };
    let judged = judge_log(&log, registers, &values.unwrap_or_default(), wanted);
    Ok(Finding::of(&judged.checks))
}
