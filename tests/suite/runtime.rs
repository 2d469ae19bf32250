//! What hosts' kernels measure while they run (IMA), end to end: lists that grow, files of no package, lists of known files.

use serde_json::Value;
use touchmark_tests::dev::{Dev, Restarted, eventually};

fn within(dev: &Dev, seconds: u32) -> Restarted {
    dev.restart_server(|text| format!("reattest_interval = \"{seconds}s\"\n{text}"))
}

fn claim(dev: &Dev, host: &str, name: &str) -> Value {
    // It ends with 1 where the decision is to deny.
    let explained = dev.touchmark(&["policy", "explain", host, "--output", "json"]);
    let document: Value = serde_json::from_slice(&explained.stdout).unwrap_or_default();
    document["claims"][name].clone()
}

/// Permits by reference values, and only what the shipped policy on files lets through.
fn files_policy(dev: &Dev) -> String {
    let shipped = dev.touchmark(&["policy", "shipped", "ima-known-packages"]);
    let by_values = dev.touchmark(&["policy", "shipped", "reference-values"]);
    assert!(shipped.status.success() && by_values.status.success());
    let text = [by_values.stdout, shipped.stdout].concat();
    dev.file("files.cedar", &String::from_utf8(text).unwrap())
}

#[test]
fn a_list_grows_while_its_host_runs_and_each_round_brings_only_what_is_new() {
    let dev = Dev::start(&[]);
    assert_eq!(claim(&dev, "host-1", "ima.boot_aggregate"), "matches");
    let first = claim(&dev, "host-1", "ima.entries").as_u64().unwrap();
    let _server = within(&dev, 4);
    for round in 1..=3 {
        eventually("the list has grown", || {
            claim(&dev, "host-1", "ima.entries").as_u64().unwrap() >= first + round
        });
    }
    assert_eq!(claim(&dev, "host-1", "ima.unknown"), 0);
    assert_eq!(dev.host("host-1")["state"], "attested");
    // A list is withdrawn: what was measured before is read again, and none of it is known.
    dev.json(&["allowlist", "delete", "simulated-files"]);
    eventually("nothing is known", || {
        let (entries, unknown) = (
            claim(&dev, "host-1", "ima.entries"),
            claim(&dev, "host-1", "ima.unknown"),
        );
        unknown.as_u64() == entries.as_u64().map(|entries| entries - 1)
    });
    assert_eq!(
        dev.host("host-1")["state"],
        "attested",
        "reference values alone decide"
    );
}

#[test]
fn r065_a_file_of_no_package_is_refused_by_path_and_digest_and_admitted_once_it_is_known() {
    let dev = Dev::start(&["--tpm", "2", "--fault", "ima-unknown-file@2"]);
    let policy = files_policy(&dev);
    let tried = dev.json(&["policy", "apply", "-f", &policy, "--dry-run"]);
    let hosts = tried["hosts"].as_array().unwrap();
    assert_eq!(hosts.len(), 1, "{tried}");
    assert_eq!(hosts[0]["host"], "host-2");
    dev.json(&["policy", "apply", "-f", &policy]);
    let _server = within(&dev, 4);
    eventually("host 2 is refused", || {
        dev.host("host-2")["reason"] == "policy_denied"
    });
    let why = dev.json(&["why", "host-2"]);
    let found = why["found"].as_str().unwrap();
    assert!(
        found.contains("known-files") && found.contains("ima.unknown = 1"),
        "{found}"
    );
    let named = claim(&dev, "host-2", "ima.unknown_files");
    let file = named[0].as_str().unwrap();
    assert!(file.starts_with("/var/tmp/.cache/kworkerd sha256:"), "{named}");
    assert_eq!(dev.host("host-1")["state"], "attested");
    // An operator finds that it is good.
    let (path, digest) = file.split_once(" sha256:").unwrap();
    let list = dev.file("own.sha256", &format!("{digest}  {path}\n"));
    let applied = dev.json(&["allowlist", "apply", "--label", "own", "-f", &list]);
    assert_eq!(applied["files"], 1);
    eventually("host 2 is admitted", || dev.host("host-2")["state"] == "attested");
    assert_eq!(dev.json(&["allowlist", "list"]).as_array().unwrap().len(), 2);
}

#[test]
fn a_list_that_hides_what_runs_does_not_lead_to_the_register() {
    let dev = Dev::start(&["--fault", "ima-edited"]);
    let why = dev.json(&["why", "host-1"]);
    assert_eq!(
        (&why["check"], &why["reason"]),
        (&"ima.replay".into(), &"log_mismatch".into()),
        "{why}"
    );
}

#[test]
fn what_is_no_list_of_digests_changes_nothing_and_says_which_line() {
    let dev = Dev::start(&[]);
    let before = dev.json(&["allowlist", "list"]);
    let bad = dev.file("bad", "0123  /usr/bin/x\n");
    let answer = dev.touchmark(&["allowlist", "apply", "--label", "simulated-files", "-f", &bad]);
    assert_eq!(answer.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&answer.stderr).contains("line 1"),
        "{answer:?}"
    );
    assert_eq!(dev.json(&["allowlist", "list"]), before);
    assert_eq!(
        dev.touchmark(&["allowlist", "delete", "nobody"]).status.code(),
        Some(1)
    );
}
