//! Whole logs, judged as somebody does who looks at one: in every bank that is compared, and with what is only unusual.

use std::collections::BTreeMap;

use touchmark_attestor_tpm::{BootLog, Judged, LogUse, Registers, boot_values, judge_log};
use touchmark_crypto::HashAlg;
use touchmark_rats::{
    Check,
    Reason::{
        self, EventDataMismatch, EventDataUnauthenticated, EventDigestSet, EventOrderInvalid, LogIncomplete,
        Malformed, NoActionDigest, PcrIndexInvalid, SecureBootInvalid, SecureBootOff, SeparatorInvalid,
    },
};

use crate::forge::{
    log::{AUTHORITY, Event, Log, NO_ACTION, SEPARATOR, VARIABLE, variable},
    write::{SHA1, SHA256, digest},
};

const POST_CODE: u32 = 0x0000_0001;
const GPT: u32 = 0x8000_0006;
const FIRMWARE_BLOB: u32 = 0x8000_0008;

type Values = BTreeMap<HashAlg, BTreeMap<u8, Vec<u8>>>;

/// Judged against the values that the log itself leads to.
fn judged(bytes: &[u8], registers: Registers, secure_boot: bool) -> Judged {
    let values = boot_values(&BootLog::parse(bytes).unwrap());
    against(bytes, registers, &values, secure_boot)
}

fn against(bytes: &[u8], registers: Registers, values: &Values, secure_boot: bool) -> Judged {
    let wanted = LogUse {
        secure_boot,
        bank: None,
    };
    judge_log(bytes, registers, values, wanted)
}

fn reasons(judged: &Judged) -> Vec<Reason> {
    judged.checks.iter().filter_map(Check::reason).collect()
}

fn notes(judged: &Judged) -> Vec<Reason> {
    judged.checks.iter().filter_map(Check::note).collect()
}

/// The ordinary boot, altered, is accepted with this note, which it does not have otherwise.
#[track_caller]
fn noted(alter: impl FnOnce(&mut Log), note: Reason) {
    let ordinary = judged(&Log::boot().bytes(), Registers::Pcr, false);
    assert!(reasons(&ordinary).is_empty() && !notes(&ordinary).contains(&note));
    let mut log = Log::boot();
    alter(&mut log);
    let judged = judged(&log.bytes(), Registers::Pcr, false);
    assert_eq!(reasons(&judged), [], "{:?}", judged.checks);
    assert!(notes(&judged).contains(&note), "{:?}", judged.checks);
}

#[test]
fn p01_in_each_bank_that_is_compared_the_data_is_what_was_hashed() {
    // On, says the data, and so does the stronger bank; what the other one holds is another story.
    let mut log = Log::boot();
    let switch = log
        .events
        .iter_mut()
        .find(|event| event.kind == VARIABLE)
        .unwrap();
    switch.digests[0].1 = digest(SHA1, &[b"off"]);
    let both = judged(&log.bytes(), Registers::Pcr, false);
    assert_eq!(reasons(&both), [EventDataMismatch]);
    // A bank that nobody compares is nobody's concern.
    let mut values = boot_values(&BootLog::parse(&log.bytes()).unwrap());
    values.remove(&HashAlg::Sha1);
    let one = against(&log.bytes(), Registers::Pcr, &values, false);
    assert_eq!(reasons(&one), []);
}

#[test]
fn a_confidential_vm_extends_measurement_registers_1_to_4_and_no_others() {
    for (index, refused) in [(0, true), (1, false), (4, false), (5, true)] {
        let mut log = Log::empty();
        log.measure(index, POST_CODE, b"code");
        let judged = judged(&log.bytes(), Registers::Rtmr, false);
        assert_eq!(reasons(&judged).contains(&PcrIndexInvalid), refused, "{index}");
    }
}

#[test]
fn a_log_that_begins_in_another_register_is_refused() {
    let mut bytes = Log::boot().bytes();
    bytes[0] = 1;
    assert_eq!(reasons(&judged(&bytes, Registers::Pcr, false)), [Malformed]);
    // As the logs of confidential VMs do.
    let mut log = Log::empty();
    log.measure(1, POST_CODE, b"code");
    let mut bytes = log.bytes();
    bytes[0] = 1;
    assert_eq!(reasons(&judged(&bytes, Registers::Rtmr, false)), []);
}

#[test]
fn a_log_without_measurements_leads_to_registers_without_any() {
    let empty = Log::empty().bytes();
    let values = |value: u8| -> Values {
        let register = BTreeMap::from([(0, vec![value; 32])]);
        BTreeMap::from([(HashAlg::Sha256, register)])
    };
    assert_eq!(reasons(&against(&empty, Registers::Pcr, &values(0), false)), []);
    let held = against(&empty, Registers::Pcr, &values(1), false);
    assert_eq!(reasons(&held), [LogIncomplete]);
    let none = BTreeMap::from([(HashAlg::Sha256, BTreeMap::new())]);
    assert_eq!(reasons(&against(&empty, Registers::Pcr, &none, false)), []);
}

#[test]
fn a_switch_without_a_value_is_off_and_none_that_was_measured_right() {
    let mut log = Log::boot();
    log.events.retain(|event| event.kind != VARIABLE);
    let mut data = [
        0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c,
    ]
    .to_vec();
    data.extend(10_u64.to_le_bytes());
    data.extend(0_u64.to_le_bytes());
    data.extend("SecureBoot".encode_utf16().flat_map(u16::to_le_bytes));
    let switch = Event {
        pcr: 7,
        kind: VARIABLE,
        digests: vec![(SHA1, digest(SHA1, &[&data])), (SHA256, digest(SHA256, &[&data]))],
        data,
    };
    log.events.insert(0, switch);
    let bytes = log.bytes();
    assert_eq!(
        reasons(&judged(&bytes, Registers::Pcr, true)),
        [SecureBootOff, SecureBootInvalid]
    );
    assert_eq!(reasons(&judged(&bytes, Registers::Pcr, false)), []);
}

#[test]
fn a_whole_boot_has_a_separator_in_each_register_of_the_firmware() {
    for pcr in 0..8 {
        let mut log = Log::boot();
        log.events
            .retain(|event| event.pcr != pcr || event.kind != SEPARATOR);
        let judged = judged(&log.bytes(), Registers::Pcr, false);
        assert!(reasons(&judged).contains(&SeparatorInvalid), "{pcr}");
    }
}

#[test]
fn what_is_unusual_is_noted_and_refuses_nothing() {
    let no_action = |pcr: u32, digests: Vec<(u16, Vec<u8>)>, data: &[u8]| Event {
        pcr,
        kind: NO_ACTION,
        digests,
        data: data.to_vec(),
    };
    let zeros = || vec![(SHA1, vec![0; 20]), (SHA256, vec![0; 32])];
    for locality in [&b"StartupLocality\0"[..], b"StartupLocality\0\x05"] {
        let event = no_action(0, zeros(), locality);
        noted(|log| log.events.insert(0, event), EventDataUnauthenticated);
    }
    noted(
        |log| log.events.push(no_action(24, zeros(), b"vendor")),
        PcrIndexInvalid,
    );
    noted(
        |log| log.events.push(no_action(0, Vec::new(), b"vendor")),
        EventDigestSet,
    );
    noted(
        |log| log.image(2, FIRMWARE_BLOB, b"code", &[0; 15]),
        EventDataUnauthenticated,
    );
    noted(|log| log.image(5, GPT, b"table", &[0; 100]), EventDataMismatch);
    noted(|log| log.measure(0, POST_CODE, b"late"), EventOrderInvalid);

    let mut header = Log::boot().bytes();
    header[8] = 1;
    assert!(notes(&judged(&header, Registers::Pcr, false)).contains(&NoActionDigest));
    // A register that the log is silent about; that of the kernel has a list of its own.
    for (index, expected) in [(9, true), (10, false)] {
        let mut log = Log::boot();
        log.events.retain(|event| event.pcr != 9);
        let bytes = log.bytes();
        let mut values = boot_values(&BootLog::parse(&bytes).unwrap());
        values.values_mut().for_each(|bank| {
            bank.insert(index, vec![7; 32]);
        });
        let judged = against(&bytes, Registers::Pcr, &values, false);
        assert_eq!(reasons(&judged), []);
        assert_eq!(notes(&judged).contains(&LogIncomplete), expected, "{index}");
    }
}

#[test]
fn a_text_that_shim_measures_is_no_certificate() {
    let mut log = Log::boot();
    let before = judged(&log.bytes(), Registers::Pcr, false).boot.authorities;
    // Behind its first sixteen bytes there is an ASCII zero, by which DER has sequences begin.
    log.measure(
        7,
        AUTHORITY,
        &variable("SbatLevel", b"sbat,1,202202080\nshim,2\n"),
    );
    let with = judged(&log.bytes(), Registers::Pcr, false);
    assert_eq!(reasons(&with), [], "{:?}", with.checks);
    assert_eq!(with.boot.authorities, before);
}
