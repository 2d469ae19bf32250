//! Policies: applied, tried before they are applied, and felt by hosts.

use touchmark_tests::dev::{Dev, eventually};

const STRICT: &str = r#"
@id("new-firmware")
@reason("only this firmware")
@remedy("update the firmware")
forbid (principal, action == Touchmark::Action::"attest", resource)
unless { context has boot && context.boot has firmware && context.boot.firmware == "Another 2.0" };
"#;
const PERMIT: &str = r#"@id("all") permit (principal, action, resource);"#;

fn apply(dev: &Dev, label: &str, text: &str, more: &[&str]) -> std::process::Output {
    let file = dev.file(&format!("{label}.cedar"), text);
    dev.touchmark(&[&["policy", "apply", "-f", &file, "--output", "json"], more].concat())
}

#[test]
fn r065_policies_are_tried_on_the_last_evidence_of_every_host_and_decide_when_it_attests_again() {
    let dev = Dev::start(&["--tpm", "2", "--fault", "kernel@2"]);
    assert_eq!(dev.host("host-2")["reason"], "reference_mismatch");
    // Of what no policy of an operator's has changed, reference values decide.
    assert_eq!(dev.json(&["policy", "explain", "host-1"])["decision"], "permit");
    let dry = apply(&dev, "all", PERMIT, &["--dry-run"]);
    let dry: serde_json::Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert_eq!(dry["hosts"].as_array().unwrap().len(), 1, "{dry}");
    assert_eq!(
        (&dry["hosts"][0]["host"], &dry["hosts"][0]["decision"]),
        (&"host-2".into(), &"permit".into())
    );
    assert_eq!(
        dev.json(&["policy", "list"]),
        serde_json::json!([]),
        "nothing was applied"
    );
    assert!(apply(&dev, "all", PERMIT, &[]).status.success());
    eventually("host 2 is admitted", || dev.host("host-2")["state"] == "attested");
    // A stricter set: both would fall out, and do so when they attest again.
    let strict = apply(&dev, "strict", STRICT, &[]);
    let strict: serde_json::Value = serde_json::from_slice(&strict.stdout).unwrap();
    assert_eq!(strict["hosts"].as_array().unwrap().len(), 2, "{strict}");
    let _server = dev.restart_server(|text| format!("reattest_interval = \"8s\"\n{text}"));
    eventually("the hosts' refusal", || {
        dev.host("host-1")["reason"] == "policy_denied"
    });
    let why = dev.json(&["why", "host-1"]);
    assert_eq!(
        (&why["check"], &why["remedy"]),
        (&"policy".into(), &"update the firmware".into())
    );
    let found = why["found"].as_str().unwrap();
    assert!(
        found
            .contains("strict/new-firmware forbids: only this firmware (boot.firmware = Touchmark Simulated"),
        "{found}"
    );
    assert!(dev.touchmark(&["policy", "delete", "strict"]).status.success());
    eventually("the hosts are admitted", || {
        dev.host("host-1")["state"] == "attested"
    });
}

#[test]
fn a_set_that_only_observes_refuses_nobody_and_the_trail_tells_whom_it_would() {
    let dev = Dev::start(&[]);
    let _server = dev.restart_server(|text| format!("reattest_interval = \"4s\"\n{text}"));
    // Nothing else is applied: reference values go on deciding.
    assert!(
        apply(&dev, "strict", STRICT, &["--observe", "simulated"])
            .status
            .success()
    );
    let observed = || dev.host("host-1")["observed"].as_str().unwrap().to_owned();
    eventually("what the set would do", || {
        observed().contains("strict would deny")
    });
    let told = dev.touchmark(&["policy", "explain", "host-1"]);
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(
        told.contains("permit") && told.contains("strict only observes, and would deny: strict/"),
        "{told}"
    );
    for _ in 0..2 {
        let attested = dev.host("host-1")["last_attested"].clone();
        eventually("another attestation", || {
            dev.host("host-1")["last_attested"].as_str() > attested.as_str()
        });
    }
    assert_eq!(dev.host("host-1")["state"], "attested");
    assert_eq!(
        dev.events("policy.observed").len(),
        1,
        "told once, while nothing changes"
    );
    assert!(dev.touchmark(&["policy", "delete", "strict"]).status.success());
    eventually("agreement", || observed().is_empty());
    let trail = dev.events("policy.observed");
    assert_eq!(trail.len(), 2);
    assert_eq!(trail[0]["detail"], "policies that only observe agree");
}

#[test]
fn r062_an_endorsement_certificate_is_revoked_by_its_serial_number_and_authority() {
    let dev = Dev::start(&["--tpm", "2"]);
    let of = |host: &str| dev.json(&["policy", "explain", host])["claims"].clone();
    let (one, two) = (of("host-1"), of("host-2"));
    // What OpenSSL reads out of the certificate in the simulated chip.
    let certificates = dev.description()["tpms"][1]["ek_certs"].clone();
    let serials: Vec<String> = certificates
        .as_array()
        .unwrap()
        .iter()
        .map(|path| {
            let output = dev
                .command("openssl")
                .args(["x509", "-noout", "-serial", "-in", path.as_str().unwrap()])
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap().trim().to_lowercase();
            text.trim_start_matches("serial=")
                .trim_start_matches('0')
                .to_owned()
        })
        .collect();
    let serial = two["device.serial"].as_str().unwrap();
    assert!(
        serials.contains(&serial.trim_start_matches('0').to_owned()),
        "{serial} {serials:?}"
    );
    assert_ne!(one["device.serial"], two["device.serial"]);
    let issuer = two["device.issuers"][0].as_str().unwrap();
    let revoked = format!(
        "{PERMIT}\n@id(\"revoked\") forbid (principal, action, resource) when {{ context.device has issuers && \
         context.device.issuers.contains(\"{issuer}\") && context.device has serial && [\"{serial}\"].contains(context.device.serial) }};"
    );
    let dry = apply(&dev, "revoked", &revoked, &["--dry-run"]);
    let dry: serde_json::Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert_eq!(dry["hosts"].as_array().unwrap().len(), 1, "{dry}");
    assert!(apply(&dev, "revoked", &revoked, &[]).status.success());
    let _server = dev.restart_server(|text| format!("reattest_interval = \"8s\"\n{text}"));
    eventually("the host's refusal", || {
        dev.host("host-2")["reason"] == "policy_denied"
    });
    let found = dev.json(&["why", "host-2"])["found"].as_str().unwrap().to_owned();
    assert!(
        found.contains("revoked/revoked forbids") && found.contains(serial),
        "{found}"
    );
    assert_eq!(dev.host("host-1")["state"], "attested");
}

#[test]
fn e22_a_host_with_a_firmware_that_is_denied_is_refused_by_what_its_own_quote_says() {
    let dev = Dev::start(&[]);
    let claims = dev.json(&["policy", "explain", "host-1"])["claims"].clone();
    let text = |name: &str| claims[name].as_str().unwrap().to_owned();
    let (manufacturer, firmware) = (text("device.manufacturer"), text("tpm.firmware_version"));
    // The same as the TPM says of itself.
    let properties = dev
        .command("tpm2_getcap")
        .args([
            "-T",
            &format!(
                "swtpm:host=127.0.0.1,port={}",
                dev.description()["tpms"][0]["port"]
            ),
        ])
        .arg("properties-fixed")
        .output()
        .unwrap();
    let properties = String::from_utf8(properties.stdout).unwrap();
    let raw = |name: &str| {
        let behind = properties.split(name).nth(1).unwrap();
        let word = behind
            .split_whitespace()
            .find(|word| word.starts_with("0x"))
            .unwrap();
        format!("{:0>8}", word.trim_start_matches("0x").to_lowercase())
    };
    let version = format!(
        "0x{}{}",
        raw("TPM2_PT_FIRMWARE_VERSION_1"),
        raw("TPM2_PT_FIRMWARE_VERSION_2")
    );
    assert_eq!(firmware, version);
    let denied = |version: &str| {
        format!(
            "{PERMIT}\n@id(\"leaks\") forbid (principal, action, resource) when {{ context.device has manufacturer && \
             context.device.manufacturer == \"{manufacturer}\" && context has tpm && context.tpm has firmware_version && \
             [\"{version}\"].contains(context.tpm.firmware_version) }};"
        )
    };
    let _server = dev.restart_server(|text| format!("reattest_interval = \"4s\"\n{text}"));
    assert!(
        apply(&dev, "firmware", &denied("0x0000000000000001"), &[])
            .status
            .success()
    );
    let attested = dev.host("host-1")["last_attested"].clone();
    eventually("an attestation under another version's denial", || {
        dev.host("host-1")["last_attested"] != attested
    });
    assert!(apply(&dev, "firmware", &denied(&firmware), &[]).status.success());
    eventually("the host's refusal", || {
        dev.host("host-1")["reason"] == "policy_denied"
    });
    let found = dev.json(&["why", "host-1"])["found"].as_str().unwrap().to_owned();
    assert!(
        found.contains("firmware/leaks forbids") && found.contains(&firmware),
        "{found}"
    );
}

#[test]
fn a09_a_policy_that_does_not_validate_changes_nothing() {
    let dev = Dev::start(&[]);
    assert!(apply(&dev, "all", PERMIT, &[]).status.success());
    let before = dev.json(&["policy", "show", "all"]);
    for broken in [
        "permit (principal, action, resource",
        "permit (principal, action, resource) when { context.boot.nothing };",
        "forbid (principal, action, resource) when { context.ima.unknown > 0 };",
        "permit (principal == ?principal, action, resource);",
    ] {
        for label in ["all", "another"] {
            let refused = apply(&dev, label, broken, &[]);
            assert_eq!(refused.status.code(), Some(2), "{broken}");
            assert!(
                String::from_utf8_lossy(&refused.stderr).contains(label),
                "{broken}"
            );
        }
    }
    assert_eq!(dev.json(&["policy", "show", "all"]), before);
    assert_eq!(dev.json(&["policy", "list"]).as_array().unwrap().len(), 1);
    // After a restart the same policies decide.
    let _server = dev.restart_server(|text| text);
    eventually("the service answers", || {
        dev.json(&["policy", "list"])[0]["label"] == "all"
    });
    assert_eq!(dev.json(&["policy", "explain", "host-1"])["decision"], "permit");
}

const CASES: &str = r#"
policies = ["all.cedar", "files.cedar"]

[[case]]
name = "files that are known"
eventlog = "good.log"
ima = "good.list"
registers = "good.json"
allowlists = ["known.sha256"]
expect = "permit"

[[case]]
name = "files that nobody knows"
eventlog = "good.log"
ima = "good.list"
registers = "good.json"
expect = "deny"
by = "files/known-files"

[[case]]
name = "a list of another boot"
ima = "good.list"
registers = "other.json"
expect = "deny"
reason = "log_mismatch"
"#;

#[test]
fn a_table_of_evidence_passes_as_expected_and_what_is_no_evidence_is_no_case_of_a_denial() {
    let sim = touchmark_tests::sim::Sim::start(&["--tpm", "1"]);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| std::fs::write(at(name), text).unwrap();
    for (name, member) in [("good.log", "eventlog"), ("good.list", "ima")] {
        std::fs::copy(sim.text(1, member), at(name)).unwrap();
    }
    let list = std::path::PathBuf::from(sim.text(1, "ima"));
    let known = list.parent().unwrap().with_file_name("known-files.sha256");
    std::fs::copy(known, at("known.sha256")).unwrap();
    write("good.json", &sim.tool("tpm2_pcrread", &["sha256:all"]));
    write(
        "other.json",
        &format!("{{\"sha256\": {{\"10\": \"{}\"}}}}", "ab".repeat(32)),
    );
    write("all.cedar", PERMIT);
    let shipped = touchmark_policy::shipped()
        .iter()
        .find(|policy| policy.name == "ima-known-packages")
        .unwrap();
    write("files.cedar", shipped.text);
    let run = |table: &str| {
        write("cases.toml", table);
        let output = std::process::Command::new(touchmark_tests::sim::binary("touchmark"))
            .args(["policy", "test", at("cases.toml").to_str().unwrap()])
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, text) = run(CASES);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("3 passed, 0 failed"), "{text}");
    // Evidence that does not hold is not what a policy is praised for.
    let (code, text) = run(&CASES.replace("reason = \"log_mismatch\"", ""));
    assert!(
        code == Some(1) && text.contains("say reason = \"log_mismatch\""),
        "{text}"
    );
    let (code, text) = run(&CASES.replace("files/known-files", "files/others"));
    assert!(
        code == Some(1) && text.contains("files/others was to decide; files/known-files forbids"),
        "{text}"
    );
    let (code, text) = run(&CASES.replace("log_mismatch", "malformed"));
    assert_eq!(code, Some(1), "{text}");
    write("good.log", "");
    let (code, text) = run(CASES);
    assert!(code == Some(1) && text.contains("does not hold"), "{text}");
    for (wrong, what) in [
        ("claims = { \"ima.entriez\" = 3 }", "ima.entriez"),
        (
            "claims = { \"boot.secure_boot\" = true }",
            "boot.secure_boot is of type String, not Bool",
        ),
        ("eventlog = \"missing\"", "missing"),
        ("policy = \"a\"", "policy"),
    ] {
        let table =
            format!("policies = [\"all.cedar\"]\n[[case]]\nname = \"wrong\"\nexpect = \"deny\"\n{wrong}\n");
        let (code, text) = run(&table);
        assert!(code == Some(2) && text.contains(what), "{wrong}: {text}");
    }
}

#[test]
fn labels_that_no_host_has_are_told_to_whoever_applies_something_for_them() {
    let dev = Dev::start(&[]);
    let scoped = r#"@id("all") permit (principal in Touchmark::HostGroup::"simulated", action, resource);
@id("lab") forbid (principal, action, resource) when { principal in Touchmark::HostGroup::"labb" };"#;
    let told = |output: std::process::Output| {
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        document["labels_of_nobody"].clone()
    };
    let dry = apply(&dev, "scoped", scoped, &["--dry-run", "--observe", "rack-9"]);
    assert_eq!(told(dry), serde_json::json!(["labb", "rack-9"]));
    let known = apply(&dev, "known", PERMIT, &["--observe", "simulated"]);
    assert_eq!(told(known), serde_json::json!([]));
    let again = apply(&dev, "known", PERMIT, &[]);
    let again: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["observes_no_more"], serde_json::json!(["simulated"]));
    let file = dev.file("scoped.cedar", scoped);
    let text = dev.touchmark(&["policy", "apply", "-f", &file, "--dry-run"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("no host has the label 'labb'"), "{text}");
    // So with reference values.
    let set = "label = \"other\"\nhosts = { labels = [\"rack-9\", \"simulated\"] }\n[[reference]]\npcr = 4\ndigest = \"";
    let file = dev.file("other.toml", &format!("{set}{}\"\n", "07".repeat(32)));
    let applied = dev.json(&["reference", "apply", "--stage", "-f", &file]);
    assert_eq!(applied["labels_of_nobody"], serde_json::json!(["rack-9"]));
    let list = dev.json(&["reference", "list"]);
    let other = list
        .as_array()
        .unwrap()
        .iter()
        .find(|set| set["label"] == "other");
    assert_eq!(
        other.unwrap()["host_labels"],
        serde_json::json!(["rack-9", "simulated"])
    );
}
