//! Logs that lead to the registers, and say of the boot what no firmware says.

use touchmark_rats::{
    ClaimValue,
    Reason::{self, BootNotCompleted, EventOrderInvalid, SeparatorInvalid},
};

use crate::forge::{
    Case, Tpm,
    key::Key,
    log::{ACTION, CRTM_VERSION, Event, IPL, Log, NO_ACTION, SEPARATOR, VARIABLE},
    passed, refused,
    write::{SHA1, SHA256, digest},
};

/// EFI_GLOBAL_VARIABLE and EFI_IMAGE_SECURITY_DATABASE.
const GLOBAL: [u8; 16] = [
    0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c,
];
const DATABASE: [u8; 16] = [
    0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f,
];
/// EFI_CERT_SHA256.
const SHA256_LIST: [u8; 16] = [
    0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28,
];

fn event(pcr: u32, kind: u32, data: Vec<u8>) -> Event {
    Event {
        pcr,
        kind,
        digests: vec![(SHA1, digest(SHA1, &[&data])), (SHA256, digest(SHA256, &[&data]))],
        data,
    }
}

fn variable(vendor: [u8; 16], name: &str, value: &[u8]) -> Vec<u8> {
    let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut out = vendor.to_vec();
    out.extend(u64::try_from(name.len() / 2).unwrap().to_le_bytes());
    out.extend(u64::try_from(value.len()).unwrap().to_le_bytes());
    [out, name, value.to_vec()].concat()
}

/// An EFI_SIGNATURE_LIST of one SHA-256 digest, with a header of this length in front of it.
fn signature_list(header: usize) -> Vec<u8> {
    let mut out = SHA256_LIST.to_vec();
    for number in [28 + header + 48, header, 48] {
        out.extend(u32::try_from(number).unwrap().to_le_bytes());
    }
    out.extend(vec![0x5a; header]);
    out.extend([0x11; 48]);
    out
}

/// The ordinary boot without its variables, with these in register 7 before its separator.
fn boot(variables: &[Vec<u8>]) -> Log {
    let mut log = Log::boot();
    log.events.retain(|event| event.kind != VARIABLE);
    for (at, data) in variables.iter().enumerate() {
        log.events.insert(at, event(7, VARIABLE, data.clone()));
    }
    log
}

fn case(log: Log) -> Case {
    Case::of(Tpm::with(Key::p256(), log))
}

fn secure_boot(log: Log) -> String {
    let appraisal = case(log).appraise();
    passed(&appraisal);
    match appraisal.claims.get("boot.secure_boot") {
        Some(ClaimValue::Text(state)) => state.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_claimed_of_secure_boot_is_what_a_digest_commits_to_where_firmware_measures_it() {
    let on = variable(GLOBAL, "SecureBoot", &[1]);
    let off = variable(GLOBAL, "SecureBoot", &[0]);
    assert_eq!(secure_boot(boot(std::slice::from_ref(&on))), "on");
    assert_eq!(secure_boot(boot(std::slice::from_ref(&off))), "off");
    assert_eq!(secure_boot(boot(&[variable(GLOBAL, "SecureBoot", &[])])), "off");
    assert_eq!(secure_boot(boot(&[])), "unknown");
    for wrong in [
        vec![on.clone(), off],
        vec![on.clone(), on.clone()],
        vec![variable(GLOBAL, "SecureBoot", &[1, 0])],
        vec![variable(GLOBAL, "SecureBoot", &[2])],
        vec![variable(DATABASE, "SecureBoot", &[1])],
        vec![on[..20].to_vec()],
    ] {
        assert_eq!(secure_boot(boot(&wrong)), "invalid");
    }
    // In another register it says nothing.
    let mut elsewhere = boot(&[]);
    elsewhere.events.insert(0, event(1, VARIABLE, on));
    assert_eq!(secure_boot(elsewhere), "unknown");
}

#[test]
fn p02_bytes_of_a_signature_lists_header_never_become_what_secure_boot_accepts() {
    let db = |header| variable(DATABASE, "db", &signature_list(header));
    passed(&case(boot(&[db(0)])).appraise());
    for header in [1, 16, 48, 4096] {
        refused(
            &case(boot(&[db(header)])).appraise(),
            "log.databases",
            Reason::Malformed,
        );
    }
    let mut cut = signature_list(0);
    cut.pop();
    refused(
        &case(boot(&[variable(DATABASE, "db", &cut)])).appraise(),
        "log.databases",
        Reason::Malformed,
    );
}

#[test]
fn separators_come_once_in_each_register_and_report_no_error() {
    let mut twice = Log::boot();
    twice.events.push(event(2, SEPARATOR, vec![0; 4]));
    refused(&case(twice).appraise(), "log.separators", SeparatorInvalid);
    for data in [vec![1, 0, 0, 0], vec![0; 5], Vec::new()] {
        let mut wrong = Log::boot();
        let at = wrong
            .events
            .iter()
            .position(|event| event.kind == SEPARATOR)
            .unwrap();
        wrong.events[at] = event(wrong.events[at].pcr, SEPARATOR, data);
        refused(&case(wrong).appraise(), "log.separators", SeparatorInvalid);
    }
    let mut ones = Log::boot();
    let at = ones
        .events
        .iter()
        .position(|event| event.kind == SEPARATOR)
        .unwrap();
    ones.events[at] = event(ones.events[at].pcr, SEPARATOR, vec![0xff; 4]);
    passed(&case(ones).appraise());
}

#[test]
fn what_comes_too_late_to_be_what_it_says_is_refused() {
    let mut late = boot(&[]);
    late.events
        .push(event(7, VARIABLE, variable(GLOBAL, "SecureBoot", &[1])));
    refused(&case(late).appraise(), "log.order", EventOrderInvalid);
    let locality = |at: usize, mut log: Log| {
        log.events.insert(
            at,
            Event {
                pcr: 0,
                kind: NO_ACTION,
                digests: vec![(SHA1, vec![0; 20]), (SHA256, vec![0; 32])],
                data: b"StartupLocality\0\0".to_vec(),
            },
        );
        log
    };
    passed(&case(locality(0, Log::boot())).appraise());
    refused(
        &case(locality(1, Log::boot())).appraise(),
        "log.order",
        EventOrderInvalid,
    );
    refused(
        &case(locality(0, locality(0, Log::boot()))).appraise(),
        "log.order",
        EventOrderInvalid,
    );
}

#[test]
fn a_boot_that_never_left_the_firmware_is_noted_and_one_that_did_is_told() {
    let appraisal = case(Log::boot()).appraise();
    let notes = appraisal.checks.iter().filter_map(touchmark_rats::Check::note);
    assert!(notes.eq([BootNotCompleted]));
    assert_eq!(
        appraisal.claims.get("boot.left_firmware"),
        Some(&ClaimValue::Bool(false))
    );
    let mut left = Log::boot();
    left.events.push(event(
        5,
        ACTION,
        b"Exit Boot Services Returned with Success".to_vec(),
    ));
    let appraisal = case(left).appraise();
    assert_eq!(
        appraisal.claims.get("boot.left_firmware"),
        Some(&ClaimValue::Bool(true))
    );
}

#[test]
fn a_command_line_is_believed_only_where_the_digest_is_that_of_the_text() {
    let with_command = |digest_of: &[u8], text: &str| {
        let mut log = Log::boot();
        let mut event = event(8, IPL, format!("kernel_cmdline: {text}\0").into_bytes());
        event.digests = vec![
            (SHA1, digest(SHA1, &[digest_of])),
            (SHA256, digest(SHA256, &[digest_of])),
        ];
        log.events.push(event);
        let appraisal = case(log).appraise();
        passed(&appraisal);
        appraisal.claims.get("boot.command_lines").unwrap().to_string()
    };
    assert_eq!(
        with_command(b"/vmlinuz quiet", "/vmlinuz quiet"),
        "/vmlinuz quiet"
    );
    assert_eq!(with_command(b"/vmlinuz quiet", "/vmlinuz init=/bin/sh"), "");
}

#[test]
fn p01_what_the_log_calls_otherwise_than_firmware_does_is_not_believed() {
    let renamed = |log: &mut Log, of: &dyn Fn(&Event) -> bool| {
        log.events.iter_mut().find(|event| of(event)).unwrap().kind = IPL;
    };
    // The digest commits to a switch that is on, and still: no firmware writes such a log.
    let mut switch = boot(&[variable(GLOBAL, "SecureBoot", &[1])]);
    renamed(&mut switch, &|event| event.kind == VARIABLE);
    assert_eq!(secure_boot(switch), "invalid");
    let mut separator = Log::boot();
    renamed(&mut separator, &|event| event.kind == SEPARATOR && event.pcr == 7);
    refused(&case(separator).appraise(), "log.separators", SeparatorInvalid);
}

#[test]
fn secure_boot_counts_for_nothing_while_the_firmwares_debugger_can_be_used() {
    let mut log = boot(&[variable(GLOBAL, "SecureBoot", &[1])]);
    log.events
        .insert(0, event(7, ACTION, b"UEFI Debug Mode".to_vec()));
    assert_eq!(secure_boot(log), "invalid");
}

#[test]
fn what_firmware_begins_with_does_not_come_after_its_separator() {
    let mut log = Log::boot();
    log.measure(0, CRTM_VERSION, b"firmware 2.0");
    refused(&case(log).appraise(), "log.order", EventOrderInvalid);
}

#[test]
fn a_register_of_the_firmware_that_something_was_measured_into_has_its_separator() {
    for pcr in 0..8 {
        let mut log = Log::boot();
        log.events
            .retain(|event| event.pcr != pcr || event.kind != SEPARATOR);
        // Of registers 3 and 6 the ordinary boot has nothing else: that is held against the reference values.
        if log.events.iter().any(|event| event.pcr == pcr) {
            refused(&case(log).appraise(), "log.separators", SeparatorInvalid);
        } else {
            passed(&case(log).appraise());
        }
    }
}
