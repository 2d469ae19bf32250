//! Hosts that are reset while their agents run.

use std::os::unix::fs::MetadataExt;

use touchmark_tests::{
    dev::{Dev, eventually},
    power::{boot_again, reset},
};

/// Something new to be had: a key is certified for it.
fn register(dev: &Dev) {
    let uid = std::fs::metadata("/proc/self").unwrap().uid();
    let file = dev.file(
        "more.toml",
        &format!(
            "label = \"more\"\n[[registration]]\nname = \"one\"\nidentifier = \"spiffe://example.org/more\"\nworkload = {{ uid = {uid} }}\nkinds = [\"wit\"]\ncustody = [\"hardware\"]\n"
        ),
    );
    dev.json(&["registration", "apply", "-f", &file]);
}

#[test]
fn e18_a_host_that_was_reset_gets_nothing_more_until_it_has_attested_again() {
    let dev = Dev::start(&[]);
    dev.json(&["workload", "fetch", "wit"]);
    assert_eq!(dev.events("host.attested").len(), 1);
    reset(&dev);
    boot_again(&dev);
    // The registers are as they were, so the host's key answers: only the counter tells, when a key is certified.
    register(&dev);
    eventually("the refusal", || !dev.events("request.refused").is_empty());
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
    eventually("the next attestation", || dev.events("host.attested").len() == 2);
    eventually("a credential after it", || {
        let more = [
            "workload",
            "fetch",
            "wit",
            "--identifier",
            "spiffe://example.org/more",
        ];
        dev.touchmark(&more).status.success()
    });
}

#[test]
fn a_host_that_was_reset_into_another_state_loses_its_key_and_attests_again_at_once() {
    let dev = Dev::start(&[]);
    dev.json(&["workload", "fetch", "wit"]);
    reset(&dev);
    // Nothing was measured: the host's key is sealed to another state, and its agent does not wait for its certificate to
    // end before it asks again.
    register(&dev);
    eventually("the host's refusal", || dev.host("host-1")["state"] == "refused");
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
