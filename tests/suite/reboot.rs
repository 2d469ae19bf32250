//! Hosts that are reset while their agents run.

use touchmark_tests::dev::{Dev, eventually};

fn run(dev: &Dev, program: &str, arguments: &[&str]) -> String {
    let output = dev.command(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A power cycle of host 1's TPM.
fn reset(dev: &Dev) {
    let port = dev.description()["tpms"][0]["port"].as_u64().unwrap();
    let control = format!("127.0.0.1:{}", port + 1);
    run(dev, "swtpm_ioctl", &["--tcp", &control, "-i"]);
    run(dev, "tpm2_startup", &["-c"]);
}

/// Measures the same boot again, as the log has it.
fn boot_again(dev: &Dev) {
    let log = dev.description()["tpms"][0]["eventlog"]
        .as_str()
        .unwrap()
        .to_owned();
    let text = run(dev, "tpm2_eventlog", &[&log]);
    let (mut pcr, mut kind, mut bank) = (String::new(), String::new(), String::new());
    let mut extends = Vec::new();
    for line in text.lines().take_while(|line| *line != "pcrs:") {
        let field = |name: &str| {
            line.trim_start_matches([' ', '-'])
                .strip_prefix(name)
                .map(|value| value.trim().trim_matches('"').to_owned())
        };
        if let Some(value) = field("PCRIndex:") {
            pcr = value;
        } else if let Some(value) = field("EventType:") {
            kind = value;
        } else if let Some(value) = field("AlgorithmId:") {
            bank = value;
        } else if let Some(value) = field("Digest:")
            && bank == "sha256"
            && kind != "EV_NO_ACTION"
        {
            extends.push(format!("{pcr}:sha256={value}"));
            bank.clear();
        }
    }
    assert!(extends.len() > 10, "{text}");
    for extend in &extends {
        run(dev, "tpm2_pcrextend", &[extend]);
    }
}

#[test]
fn e18_a_host_that_was_reset_gets_nothing_more_until_it_has_attested_again() {
    let dev = Dev::start(&[]);
    dev.json(&["workload", "fetch", "wit"]);
    assert_eq!(dev.events("host.attested").len(), 1);
    reset(&dev);
    boot_again(&dev);
    // The registers are as they were, so the host's key answers: only the counter tells.
    eventually("the refusal", || {
        dev.touchmark(&["workload", "fetch", "x509"]);
        !dev.events("request.refused").is_empty()
    });
    let refused = dev.events("request.refused").remove(0);
    let id = refused["detail"]
        .as_str()
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .to_owned();
    let why = dev.json(&["why", &id]);
    assert_eq!(why["reason"], "host_not_attested", "{why}");
    assert_eq!(why["check"], "host.reset_count", "{why}");
    // The agent attests again by itself.
    eventually("a credential after the next attestation", || {
        dev.touchmark(&["workload", "fetch", "x509"]).status.success()
    });
    assert_eq!(dev.events("host.attested").len(), 2);
}

#[test]
fn a_host_that_was_reset_into_another_state_loses_its_key_and_attests_again_at_once() {
    let dev = Dev::start(&[]);
    dev.json(&["workload", "fetch", "wit"]);
    reset(&dev);
    // Nothing was measured: the host's key is sealed to another state, and its agent does not wait for its certificate to
    // end before it asks again.
    eventually("the host's refusal", || {
        dev.touchmark(&["workload", "fetch", "x509"]);
        dev.host("host-1")["state"] == "refused"
    });
    let why = dev.json(&["why", "host-1"]);
    assert_eq!(why["reason"], "log_mismatch", "{why}");
}

#[test]
fn a_host_whose_tpm_is_gone_says_so_and_a_slow_one_attests_all_the_same() {
    let dev = Dev::start(&["--tpm", "2", "--fault", "tpm-slow@1", "--fault", "tpm-gone@2"]);
    assert_eq!(dev.host("host-1")["state"], "attested");
    dev.json(&["workload", "fetch", "x509"]);
    let second = dev.description()["hosts"][1]["agent_socket"]
        .as_str()
        .unwrap()
        .to_owned();
    let status = dev.touchmark(&["agent", "status", "--socket", &second, "--output", "json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["state"], "unavailable", "{status}");
    assert!(status["detail"].as_str().unwrap().contains("the TPM"), "{status}");
    let fetch = dev.touchmark(&["workload", "fetch", "x509", "--socket", &second]);
    assert_eq!(fetch.status.code(), Some(3));
    assert_eq!(dev.host("host-2")["state"], "enrolled");
    // Nothing was refused: the operator is told where to look.
    let why = dev.touchmark(&["why", "host-2"]);
    assert_eq!(why.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&why.stderr).contains("touchmark agent status"));
}
