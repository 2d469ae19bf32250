//! What is unusual in a log and refuses nothing: told to whoever looks at one, and not looked for where a host attests.

use std::collections::BTreeMap;

use touchmark_crypto::HashAlg;
use touchmark_rats::{Check, Reason};

use super::{
    BootLog,
    describe::describe,
    event::{
        Content, EV_EVENT_TAG, EV_FIRMWARE_BLOB, EV_FIRMWARE_BLOB2, EV_GPT, EV_GPT2, EV_POST_CODE,
        EV_POST_CODE2, EV_S_CRTM_VERSION, EV_SEPARATOR, EV_VARIABLE_AUTHORITY, EV_VARIABLE_BOOT,
        EV_VARIABLE_BOOT2, Event,
    },
    judge::Registers,
    little::Little,
    uefi::Variable,
};

/// Register 10 belongs to the kernel, whose list is another one.
const KERNELS: u8 = 10;
/// What names no register, where an event extends none.
const NO_REGISTER: u32 = u32::MAX;

/// Notes about a log that is told in `bank` and was held against these values.
pub(super) fn notes(
    log: &BootLog<'_>,
    bank: HashAlg,
    registers: Registers,
    values: &BTreeMap<HashAlg, BTreeMap<u8, Vec<u8>>>,
) -> Vec<Check> {
    let mut notes = Vec::new();
    if log.header.is_some_and(|header| header.digested) {
        let found = "the Spec ID event: a digest of what is never extended".to_owned();
        notes.push(Check::noted("log.no_action", Reason::NoActionDigest, found));
    }
    let mut first = |name, reason, what: &str, found: &dyn Fn(&Event<'_>) -> bool| {
        if let Some(event) = log.events.iter().find(|event| found(event)) {
            let text = format!("event {}: {}: {what}", event.number, describe(event));
            notes.push(Check::noted(name, reason, text));
        }
    };
    first(
        "log.undigested_data",
        Reason::EventDataUnauthenticated,
        "no digest covers this, and it cannot be read",
        &|event| !has_its_form(event, bank),
    );
    first(
        "log.no_action",
        Reason::EventDigestSet,
        "no digest at all",
        &|event| !event.is_extended() && log.header.is_some() && event.digests.is_empty(),
    );
    first(
        "log.no_action",
        Reason::PcrIndexInvalid,
        "there is no such register",
        &|event| !event.is_extended() && event.register >= 24 && event.register != NO_REGISTER,
    );
    first(
        "log.data",
        Reason::EventDataMismatch,
        "its digest is not that of this data, as it usually is",
        &|event| event.is_extended() && promises(event) && !covers(event, bank),
    );
    notes.extend(late_firmware(log, registers));
    notes.extend(silent(log, registers, values));
    notes
}

/// Whether data that no digest covers has the form that its type promises.
fn has_its_form(event: &Event<'_>, bank: HashAlg) -> bool {
    if !event.is_extended() {
        // TPM2_Startup comes from locality 0 or 3, or after an H-CRTM from 4 (PC Client Platform Firmware Profile, section 10.4.5.3).
        return match event.data.strip_prefix(b"StartupLocality\0") {
            Some(locality) => matches!(locality, [0 | 3 | 4]),
            None => true,
        };
    }
    if event.content != Content::PcClient || event.is_digest_of(bank, event.data) {
        return true;
    }
    match event.kind {
        EV_VARIABLE_AUTHORITY => Variable::parse(event.data).is_some(),
        EV_FIRMWARE_BLOB => event.data.len() == 16,
        EV_FIRMWARE_BLOB2 => event
            .data
            .split_first()
            .is_some_and(|(length, rest)| rest.len() == usize::from(*length) + 16),
        EV_EVENT_TAG => is_tagged(event.data),
        _ => true,
    }
}

/// TCG_PCClientTaggedEvent, one or several: identifier, size, data.
fn is_tagged(data: &[u8]) -> bool {
    let mut data = Little(data);
    while !data.is_empty() {
        let whole = data
            .u32()
            .and_then(|_| data.size())
            .and_then(|size| data.take(size));
        if whole.is_none() {
            return false;
        }
    }
    true
}

/// Whether the digest of an event of this type is usually that of its data.
fn promises(event: &Event<'_>) -> bool {
    const KINDS: [u32; 6] = [
        EV_S_CRTM_VERSION,
        EV_GPT,
        EV_GPT2,
        EV_VARIABLE_BOOT,
        EV_VARIABLE_BOOT2,
        EV_VARIABLE_AUTHORITY,
    ];
    event.content == Content::PcClient && KINDS.contains(&event.kind)
}

/// Whether it is: of the whole data, of what a variable holds, or of that without its owner. Some firmware logs a byte more of an
/// authority than it hashes.
fn covers(event: &Event<'_>, bank: HashAlg) -> bool {
    let variable = Variable::parse(event.data);
    let value = variable.as_ref().map(|variable| variable.value);
    let shorter = event.data.split_last().map(|(_, rest)| rest);
    let parts = [
        Some(event.data),
        value,
        value.and_then(|value| value.get(16..)),
        shorter.filter(|_| event.kind == EV_VARIABLE_AUTHORITY),
    ];
    parts
        .into_iter()
        .flatten()
        .any(|bytes| event.is_digest_of(bank, bytes))
}

/// Firmware's own code, measured after it ended its register.
fn late_firmware(log: &BootLog<'_>, registers: Registers) -> Option<Check> {
    const KINDS: [u32; 4] = [EV_POST_CODE, EV_POST_CODE2, EV_FIRMWARE_BLOB, EV_FIRMWARE_BLOB2];
    let mut events = log
        .events
        .iter()
        .filter(|event| registers == Registers::Pcr && event.is_extended() && event.register == 0)
        .skip_while(|event| event.kind != EV_SEPARATOR);
    let late = events.find(|event| KINDS.contains(&event.kind))?;
    let found = format!("event {}: {}: after the separator", late.number, describe(late));
    Some(Check::noted("log.order", Reason::EventOrderInvalid, found))
}

/// Registers outside of the firmware's boot that hold something, of which the log says nothing.
fn silent(
    log: &BootLog<'_>,
    registers: Registers,
    values: &BTreeMap<HashAlg, BTreeMap<u8, Vec<u8>>>,
) -> Option<Check> {
    let extended = log.registers();
    let first = match registers {
        Registers::Pcr => 8,
        Registers::Rtmr => 1,
    };
    let kernels = |index: u8| registers == Registers::Pcr && index == KERNELS;
    let holds = |value: &[u8]| {
        [0, 0xff]
            .iter()
            .all(|fresh| value.iter().any(|byte| byte != fresh))
    };
    let mut silent: Vec<u8> = values
        .values()
        .flatten()
        .filter(|(index, value)| {
            **index >= first && !extended.contains(&u32::from(**index)) && !kernels(**index) && holds(value)
        })
        .map(|(index, _)| *index)
        .collect();
    silent.sort_unstable();
    silent.dedup();
    let names: Vec<String> = silent.iter().map(u8::to_string).collect();
    (!names.is_empty()).then(|| {
        let found = format!(
            "register {} holds something of which the log says nothing",
            names.join(", ")
        );
        Check::noted("log.replay", Reason::LogIncomplete, found)
    })
}
