//! `touchmark verify` and its neighbours at the edges: options that need each other, inputs without an end, texts that would forge a line.

use std::{
    fs::File,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use touchmark_tests::sim::binary;

use crate::architecture::repository;

const REFUSED: Option<i32> = Some(1);
const UNUSABLE: Option<i32> = Some(2);

fn touchmark(arguments: &[&str]) -> Output {
    Command::new(binary("touchmark"))
        .args(arguments)
        .output()
        .unwrap()
}

fn recorded(path: &str) -> String {
    let file: PathBuf = repository().join("tests/vectors").join(path);
    file.to_str().unwrap().to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A quote that holds, with the options behind it.
fn quote(more: &[&str]) -> Output {
    let of = |name: &str| recorded(&format!("tpm-quote/thinkpad-gentoo-good/{name}"));
    let (attest, signature, key, registers) =
        (of("attest.bin"), of("sig.bin"), of("ak.pem"), of("pcrs.json"));
    let fixed = [
        "verify",
        "tpm",
        &attest,
        "--signature",
        &signature,
        "--key",
        &key,
        "--registers",
        &registers,
        "--output",
        "json",
    ];
    touchmark(&[&fixed, more].concat())
}

#[test]
fn a09_an_option_that_could_not_decide_anything_is_an_error_and_never_passed_over() {
    assert_eq!(quote(&[]).status.code(), Some(0));
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("deny.cedar");
    std::fs::write(&policy, "forbid (principal, action, resource);").unwrap();
    let policy = policy.to_str().unwrap();
    let log = recorded("tpm-quote/thinkpad-gentoo-good/eventlog.bin");
    for needs_log in [
        &["--policy", policy][..],
        &["--require-secure-boot"],
        &["--reference", policy],
    ] {
        assert_eq!(quote(needs_log).status.code(), UNUSABLE, "{needs_log:?}");
    }
    let denied = quote(&["--policy", policy, "--eventlog", &log]);
    assert_eq!(denied.status.code(), REFUSED, "{}", text(&denied.stdout));
    for needs_roots in [&["--at", "yesterday"][..], &["--intermediates", policy]] {
        assert_eq!(quote(needs_roots).status.code(), UNUSABLE, "{needs_roots:?}");
    }
}

#[test]
fn c08_reference_values_of_registers_that_were_not_quoted_are_not_matched() {
    let log = recorded("tpm-quote/thinkpad-gentoo-good/eventlog.bin");
    let shown: Value = serde_json::from_slice(&quote(&["--eventlog", &log]).stdout).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let judged = |more: &str| {
        let mut set = "label = \"release\"\n".to_owned();
        for event in shown["events"].as_array().unwrap() {
            let (pcr, digest) = (&event["pcr"], &event["digest"]);
            set += &format!("[[reference]]\npcr = {pcr}\ndigest = {digest}\n");
        }
        let file = folder.path().join("set.toml");
        std::fs::write(&file, set + more).unwrap();
        let output = quote(&["--eventlog", &log, "--reference", file.to_str().unwrap()]);
        (output.status.code(), text(&output.stdout))
    };
    let (code, out) = judged("");
    assert_eq!(code, Some(0), "{out}");
    // Register 23 is not among those that were quoted.
    let (code, out) = judged(&format!(
        "[[reference]]\npcr = 23\ndigest = \"{}\"\n",
        "07".repeat(32)
    ));
    assert_eq!(code, REFUSED, "{out}");
    assert!(out.contains("nothing of register 23"), "{out}");
}

#[test]
fn what_evidence_says_makes_no_lines_in_what_people_read() {
    // A file name with a line of our own in it, in a list of measurements in its binary form; a violation, so that it is told.
    let path = b"/bin/x\nok       ima.replay  all is well\n\0";
    let sized = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat();
    let data = [sized(&[b"sha256:\0".as_slice(), &[0; 32]].concat()), sized(path)].concat();
    let list = [
        &10_u32.to_le_bytes()[..],
        &[0; 20],
        &sized(b"ima-ng"),
        &sized(&data),
    ]
    .concat();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list");
    std::fs::write(&file, list).unwrap();
    let output = touchmark(&["verify", "ima", file.to_str().unwrap(), "--entries"]);
    let out = text(&output.stdout);
    assert!(out.contains("/bin/x?ok"), "{out}");
    assert!(
        !out.lines()
            .any(|line| line.contains("all is well") && line.starts_with("ok")),
        "{out}"
    );
}

#[test]
fn a_windows_machine_has_no_keys_of_shim() {
    let told = |name: &str| {
        let log = recorded(&format!("tcg-eventlog/{name}/eventlog.bin"));
        text(&touchmark(&["verify", "eventlog", &log]).stdout)
    };
    assert!(!told("x1carbon-windows10").contains("Shim's keys"));
    assert!(told("rhel8-gce").contains("Shim's keys"));
}

#[test]
fn p09_an_input_without_an_end_is_refused_and_an_output_without_room_is_an_error() {
    for arguments in [
        &["verify", "manifest", "/dev/zero"][..],
        &["verify", "eventlog", "/dev/zero"],
    ] {
        let output = touchmark(arguments);
        assert_eq!(output.status.code(), UNUSABLE, "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("MiB"), "{}", text(&output.stderr));
    }
    let log = recorded("tcg-eventlog/rhel8-gce/eventlog.bin");
    for arguments in [
        &["verify", "eventlog", &log, "--output", "json"][..],
        &["policy", "schema"],
        &["policy", "shipped", "exact-release"],
    ] {
        let full = Command::new(binary("touchmark"))
            .args(arguments)
            .stdout(File::create("/dev/full").unwrap())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(full.status.code(), UNUSABLE, "{arguments:?}");
        assert!(text(&full.stderr).contains("standard output"), "{arguments:?}");
    }
}

#[test]
fn what_was_meant_otherwise_is_said() {
    let manifest = recorded("MANIFEST.json");
    let none = touchmark(&["verify", "manifest", &manifest, "--only", "nosuch"]);
    assert_eq!(none.status.code(), UNUSABLE);
    let signed = recorded("rats/cmw-signed-resigned-valid/cmw.cose");
    let wrapper = touchmark(&["verify", "cmw", &signed]);
    assert_eq!(wrapper.status.code(), UNUSABLE);
    assert!(
        text(&wrapper.stderr).contains("--signer"),
        "{}",
        text(&wrapper.stderr)
    );
    let log = recorded("tcg-eventlog/rhel8-gce/eventlog.bin");
    let rtmr = touchmark(&["verify", "eventlog", &log, "--rtmr"]);
    assert!(
        text(&rtmr.stdout).contains("leave out --rtmr"),
        "{}",
        text(&rtmr.stdout)
    );
    // What can be asked for in JSON is one document.
    for arguments in [
        &["policy", "schema"][..],
        &["policy", "shipped"],
        &["policy", "shipped", "exact-release"],
    ] {
        let output = touchmark(&[arguments, &["--output", "json"]].concat());
        serde_json::from_slice::<Value>(&output.stdout).unwrap();
    }
}

#[test]
fn a_wrapper_in_a_certificate_is_read_at_the_time_that_is_asked_about() {
    let certificate = recorded("rats/cmw-in-x509-cbor/cert.der");
    let read = |more: &[&str]| {
        let output = touchmark(&[&["verify", "cmw", &certificate], more].concat());
        (output.status.code(), text(&output.stdout))
    };
    let (code, told) = read(&["--at", "2026-01-01T00:00:00Z"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("its issuer was not looked at"), "{told}");
    let (code, told) = read(&["--at", "2036-01-01T00:00:00Z"]);
    assert!(code == REFUSED && told.contains("cert_expired"), "{told}");
    // A certificate without one.
    let other = touchmark(&[
        "verify",
        "cmw",
        &recorded("tpm-ek-cert/amd-ftpm-ca-set/amdtpm-root-1.der"),
    ]);
    assert_eq!(other.status.code(), REFUSED);
    assert!(
        text(&other.stdout).contains("claim_missing"),
        "{}",
        text(&other.stdout)
    );
}

#[test]
fn a_signature_that_cannot_be_read_is_unusable_input() {
    let of = |name: &str| recorded(&format!("tpm-quote/thinkpad-gentoo-good/{name}"));
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("sig.bin");
    let whole = std::fs::read(of("sig.bin")).unwrap();
    std::fs::write(&cut, &whole[..whole.len() - 1]).unwrap();
    let cut = cut.to_str().unwrap();
    let output = touchmark(&[
        "verify",
        "tpm",
        &of("attest.bin"),
        "--signature",
        cut,
        "--key",
        &of("ak.pem"),
    ]);
    assert_eq!(output.status.code(), UNUSABLE, "{}", text(&output.stdout));
}

#[test]
fn c08_a_log_of_which_some_registers_were_given_matches_no_values_of_others() {
    let of = |name: &str| recorded(&format!("tpm-quote/thinkpad-gentoo-good/{name}"));
    let (log, all) = (of("eventlog.bin"), of("pcrs.json"));
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let shown: Value = serde_json::from_slice(&quote(&["--eventlog", &log]).stdout).unwrap();
    let mut set = "label = \"release\"\n".to_owned();
    for event in shown["events"].as_array().unwrap() {
        set += &format!(
            "[[reference]]\npcr = {}\ndigest = {}\n",
            event["pcr"], event["digest"]
        );
    }
    let set = write("set.toml", &set);
    let values: Value = serde_json::from_slice(&std::fs::read(&all).unwrap()).unwrap();
    let one = serde_json::json!({"sha256": {"0": values["sha256"]["0"]}});
    let one = write("one.json", &one.to_string());
    let matched = write(
        "matched.cedar",
        "permit (principal, action, resource) when { context.references.matched.contains(\"release\") };",
    );
    let judged = |registers: &str, policy: &[&str]| {
        let fixed = [
            "verify",
            "eventlog",
            &log,
            "--registers",
            registers,
            "--reference",
            &set,
        ];
        let output = touchmark(&[&fixed[..], policy].concat());
        (output.status.code(), text(&output.stdout))
    };
    for policy in [&[][..], &["--policy", &matched]] {
        let (code, told) = judged(&all, policy);
        assert_eq!(code, Some(0), "{told}");
        let (code, told) = judged(&one, policy);
        assert_eq!(code, REFUSED, "{told}");
        assert!(told.contains("nothing of register 1, 2"), "{told}");
        assert!(
            told.contains("Unproved      what is told of register 1, 2"),
            "{told}"
        );
    }
}

#[test]
fn a_story_is_told_in_lines_and_says_what_proves_it() {
    let log = recorded("tcg-eventlog/rhel8-gce/eventlog.bin");
    let told = text(&touchmark(&["verify", "eventlog", &log]).stdout);
    let lines: Vec<&str> = told.lines().collect();
    let at = lines
        .iter()
        .position(|line| line.ends_with("grubx64.efi"))
        .unwrap();
    assert!(lines[at].starts_with("Started       "), "{told}");
    assert!(lines[at + 1].starts_with("              PCR 4, c1d031"), "{told}");
    assert!(told.contains("proved by nothing"), "{told}");
    // A list of the kernel's is proved by register 10 and by no other.
    let list = recorded("ima/h12ssl-5071-entries/binary_runtime_measurements");
    let folder = tempfile::tempdir().unwrap();
    let registers = folder.path().join("nine.json");
    std::fs::write(
        &registers,
        format!("{{\"sha256\": {{\"9\": \"{}\"}}}}", "00".repeat(32)),
    )
    .unwrap();
    let registers = registers.to_str().unwrap();
    let output = touchmark(&[
        "verify",
        "ima",
        &list,
        "--registers",
        registers,
        "--output",
        "json",
    ]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&document["proved"], &document["attested"]),
        (&false.into(), &0.into())
    );
}

/// A manifest of one case, run.
fn case(kind: &str, more: &Value, files: &[(&str, &str, Vec<u8>)]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut listed = Vec::new();
    std::fs::create_dir(folder.path().join("case")).unwrap();
    for (name, role, bytes) in files {
        std::fs::write(folder.path().join("case").join(name), bytes).unwrap();
        listed.push(serde_json::json!({"name": name, "role": role}));
    }
    let mut case = serde_json::json!({
        "id": "case\n1 passed, 0 failed, 0 unsupported", "dir": "case", "as": kind, "expected": {"verdict": "valid"}, "files": listed,
    });
    for (name, value) in more.as_object().unwrap() {
        case[name] = value.clone();
    }
    let manifest = folder.path().join("MANIFEST.json");
    std::fs::write(
        &manifest,
        serde_json::json!({"format": 2, "cases": [case]}).to_string(),
    )
    .unwrap();
    let output = touchmark(&["verify", "manifest", manifest.to_str().unwrap()]);
    (output.status.code(), text(&output.stdout))
}

#[test]
fn what_a_manifest_demands_is_never_passed_over() {
    let read = |path: &str| std::fs::read(recorded(path)).unwrap();
    let files = [
        (
            "leaf",
            "certificate",
            read("hsm-attestation/yubihsm2-key-0x7e57/issuer1.der"),
        ),
        (
            "root",
            "root",
            read("hsm-attestation/yubihsm2-key-0x7e57/root.der"),
        ),
    ];
    let time = serde_json::json!({"verify_time": "2026-08-20T00:00:00Z"});
    let run = |policy: Value, files: &[(&str, &str, Vec<u8>)]| {
        let more = serde_json::json!({"params": time, "policy": policy});
        case("x509-chain", &more, files)
    };
    let (code, told) = run(serde_json::json!({}), &files);
    assert_eq!(code, Some(0), "{told}");
    // What a case is called makes no lines.
    assert_eq!(told.lines().count(), 2, "{told}");
    let (code, told) = run(serde_json::json!({"require_crl": true}), &files);
    assert!(code == REFUSED && told.contains("revocation_unknown"), "{told}");
    let (code, told) = run(serde_json::json!({"require_crl": "true"}), &files);
    assert!(code == REFUSED && told.contains("of another type"), "{told}");
    let mut with_list = files.to_vec();
    with_list.push(("list", "crl", vec![0x30, 0]));
    let (_, told) = run(serde_json::json!({}), &with_list);
    assert!(told.ends_with("0 passed, 0 failed, 1 unsupported\n"), "{told}");
}

#[test]
fn a_key_reference_is_told_for_what_it_is_and_holds_no_pin() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let shown = |arguments: &[&str]| {
        let output = touchmark(&[&["verify", "key", "--output", "json"], arguments].concat());
        let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), document, text(&output.stderr))
    };
    let file = recorded("tss2-key/foxboron-rsa/key.pem");
    let (code, document, _) = shown(&[&file]);
    assert_eq!(code, Some(0), "{document}");
    assert_eq!(document["key"]["form"], "tss2");
    assert_eq!(document["proved"], false);
    assert_eq!(document["key"]["spki_sha256"].as_str().unwrap().len(), 64);
    let other = recorded("tpm-quote/thinkpad-gentoo-good/ak.pem");
    let (code, document, _) = shown(&[&file, "--key", &other]);
    assert_eq!(code, REFUSED);
    let checks = document["checks"].as_array().unwrap();
    assert_eq!(checks.last().unwrap()["reason"], "binding_mismatch", "{document}");
    let changed = recorded("tss2-key/policy-pcr-digest-changed/key.pem");
    assert_eq!(shown(&[&changed]).0, REFUSED);
    let uri = write("key.uri", "pkcs11:token=fleet;id=%01;type=private\n");
    let (code, document, _) = shown(&[&uri]);
    assert_eq!(code, Some(0), "{document}");
    assert_eq!(document["key"]["id"], "01");
    let (code, _, error) = shown(&[&uri, "--key", &other]);
    assert_eq!(code, UNUSABLE);
    assert!(error.contains("holds no public key"), "{error}");
    for (name, wrong) in [
        ("pin", "pkcs11:token=fleet;id=%01?pin-value=1234"),
        ("module", "pkcs11:token=fleet;id=%01?module-path=/tmp/evil.so"),
        ("token", "pkcs11:token=fleet"),
        ("nothing", "nothing"),
        (
            "cut",
            "-----BEGIN TSS2 PRIVATE KEY-----\nMIIB\n-----END TSS2 PRIVATE KEY-----\n",
        ),
    ] {
        let (code, document, error) = shown(&[&write(name, wrong)]);
        assert_eq!(code, UNUSABLE, "{name}: {document} {error}");
        assert!(!document.to_string().contains("1234"), "{document}");
    }
}
