//! Hosts over time: told at once, asked to attest again, silent, suspect, replaced.

mod impersonated;

use std::fs;

use touchmark_api::{
    attest::{Admission, Introduction},
    frame,
    host::{Push, REATTEST_PATH, REGISTRATIONS_PATH, STREAM_PATH, take_push},
};
use touchmark_crypto::pem;
use touchmark_rats::cbor;
use touchmark_tests::{
    calls::uid,
    count::Commands,
    dev::{Dev, Restarted, eventually},
    power,
    sim::device,
    wire,
};

use impersonated::{Impersonated, admitted, impersonate};

/// The service again, with hosts that have to attest within so many seconds.
fn within(dev: &Dev, seconds: u32) -> Restarted {
    dev.restart_server(|text| format!("reattest_interval = \"{seconds}s\"\n{text}"))
}

fn fetch(dev: &Dev) -> Option<i32> {
    dev.touchmark(&["workload", "fetch", "x509"]).status.code()
}

#[test]
fn b18_a_registration_that_is_applied_is_a_credential_before_anybody_asks() {
    let dev = Dev::start(&[]);
    let issued = |identifier: &str| {
        dev.events("credential.issued")
            .iter()
            .any(|event| event["detail"].as_str().unwrap().contains(identifier))
    };
    let identifier = "spiffe://example.org/pushed";
    let file = dev.file(
        "pushed.toml",
        &format!(
            "label = \"pushed\"\n[[registration]]\nname = \"one\"\nidentifier = \"{identifier}\"\nworkload = {{ uid = {} }}\nkinds = [\"wit\"]\ncustody = [\"hardware\"]\n",
            uid()
        ),
    );
    assert!(!issued(identifier));
    dev.json(&["registration", "apply", "-f", &file]);
    eventually("the credential", || issued(identifier));
    dev.json(&["workload", "fetch", "wit", "--identifier", identifier]);
    // And as fast it is nobody's any more.
    dev.json(&["registration", "delete", "pushed/one"]);
    let gone = || {
        dev.touchmark(&["workload", "fetch", "wit", "--identifier", identifier])
            .status
            .code()
            == Some(1)
    };
    eventually("the withdrawal", gone);
}

#[test]
fn c06_an_evicted_host_hears_of_it_at_once_and_renews_nothing() {
    let dev = Dev::start(&[]);
    assert_eq!(fetch(&dev), Some(0));
    let start = std::time::Instant::now();
    dev.json(&["host", "evict", "host-1", "--reason", "test"]);
    eventually("the workloads' refusal", || fetch(&dev) != Some(0));
    eprintln!("workloads get nothing {:?} after the eviction", start.elapsed());
    let after = dev.events("credential.issued").len();
    eventually("the agent's refusal", || fetch(&dev) == Some(1));
    assert_eq!(dev.events("credential.issued").len(), after);
    assert_eq!(dev.host("host-1")["state"], "evicted");
    let why = dev.json(&["why", "host-1"]);
    assert_eq!(
        (&why["reason"], &why["found"]),
        (&"evicted".into(), &"test".into()),
        "{why}"
    );
}

#[test]
fn r036_b11_hosts_attest_again_with_one_command() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("count");
    let dev = Dev::start(&["--count", &file.display().to_string()]);
    eventually("two keys for the workload", || {
        Commands::read(&file).end_with_key(3)
    });
    let _server = within(&dev, 8);
    let attested = || dev.host("host-1")["last_attested"].as_str().unwrap().to_owned();
    let first = attested();
    eventually("another attestation", || attested() != first);
    let (before, second) = (Commands::read(&file), attested());
    eventually("the one after that", || attested() != second);
    let again = Commands::read(&file).since(&before);
    assert_eq!(again.len(), 1, "{again:#?}");
    assert_eq!(dev.events("host.attested").len(), 1, "it began only once");
    assert!(dev.events("host.refused").is_empty());
}

#[test]
fn r036_a_hosts_certificate_is_renewed_as_it_attests_again_and_its_key_stays() {
    let dev = Dev::start(&[]);
    dev.end_agent(1);
    // Of the certificate for an hour that it may have kept.
    dev.forget(1);
    let _server = dev.restart_server(|text| {
        format!(
            "reattest_interval = \"8s\"\nhost_lifetime = \"40s\"\n{}",
            text.replace("host_lifetime", "# ")
        )
    });
    let _agent = dev.start_agent(1);
    eventually("a credential", || fetch(&dev) == Some(0));
    let until = || {
        dev.json(&["agent", "status"])["not_after"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (first, attested) = (until(), dev.events("host.attested").len());
    eventually("a renewed certificate", || {
        assert_eq!(fetch(&dev), Some(0), "all the while");
        until() != first
    });
    assert_eq!(
        dev.events("host.attested").len(),
        attested,
        "it did not begin anew"
    );
    assert!(
        dev.events("credential.issued")
            .iter()
            .any(|event| event["detail"].as_str().unwrap().ends_with("renewed"))
    );
}

#[test]
fn e18_a_host_that_was_reset_is_refused_when_it_attests_again_and_begins_anew() {
    let dev = Dev::start(&[]);
    assert_eq!(dev.events("host.attested").len(), 1);
    power::reset(&dev);
    power::boot_again(&dev);
    let _server = within(&dev, 8);
    // The registers are as they were: only the count tells.
    eventually("the refusal", || !dev.events("host.refused").is_empty());
    let detail = dev.events("host.refused").remove(0)["detail"].clone();
    let (id, reason) = detail.as_str().unwrap().split_once(' ').unwrap();
    assert_eq!(reason, "unexpected_reset");
    assert_eq!(dev.json(&["why", id])["check"], "host.reset_count");
    eventually("the next attestation", || dev.events("host.attested").len() == 2);
    eventually("a credential", || fetch(&dev) == Some(0));
}

#[test]
fn e11_a_quote_whose_signature_is_wrong_ends_the_trust_in_its_host() {
    let dev = Dev::start(&[]);
    let _server = within(&dev, 8);
    let host = impersonate(&dev);
    let (_, good) = host.reattest(&dev, |_, _| {});
    assert_eq!(good.status, 200);
    let (_, refused) = host.reattest(&dev, |evidence, _| {
        let signature = &mut evidence.quote.as_mut().unwrap().signature;
        let last = signature.len() - 1;
        signature[last] ^= 1;
    });
    assert_eq!(refused.status, 403);
    assert_eq!(dev.host("host-1")["state"], "refused");
    assert_eq!(dev.json(&["why", "host-1"])["reason"], "signature_invalid");
    // Nothing more, on the session that is open and under the certificate that still holds.
    let identity = Some(host.identity.clone());
    let ask = wire::request(
        &host.hosts,
        dev.pin(),
        identity,
        "GET",
        REGISTRATIONS_PATH,
        "x/y",
        b"",
    )
    .unwrap();
    assert_eq!(ask.status, 403);
}

#[test]
fn a_log_that_gained_what_no_register_holds_ends_the_trust_in_its_host() {
    let dev = Dev::start(&[]);
    let _server = within(&dev, 8);
    let host = impersonate(&dev);
    let log = fs::read(dev.description()["tpms"][0]["eventlog"].as_str().unwrap()).unwrap();
    // The tail of the log once more: events that were not measured.
    let (_, refused) = host.reattest(&dev, |_, gained| gained.boot.extend(&log[log.len() - 64..]));
    assert_eq!(refused.status, 403);
    assert_eq!(dev.host("host-1")["state"], "refused", "{}", dev.host("host-1"));
}

#[test]
fn a_host_whose_registers_moved_is_refused_at_its_next_attestation_and_its_workloads_are_told() {
    let dev = Dev::start(&[]);
    let _server = within(&dev, 8);
    assert_eq!(fetch(&dev), Some(0));
    power::extend(
        &dev,
        "4:sha256=abababababababababababababababababababababababababababababababab",
    );
    eventually("the refusal", || dev.host("host-1")["state"] == "refused");
    assert_eq!(dev.json(&["why", "host-1"])["reason"], "log_mismatch");
    let found = dev.events("host.refused").remove(0)["detail"].clone();
    assert!(found.as_str().unwrap().ends_with("log_mismatch"), "{found}");
    eventually("the workloads' refusal", || fetch(&dev) == Some(1));
    let issued = dev.events("credential.issued").len();
    dev.touchmark(&["workload", "fetch", "wit"]);
    assert_eq!(dev.events("credential.issued").len(), issued, "nothing more");
}

#[test]
fn e12_e21_a_reattestation_is_answered_once_and_again_by_the_same_bytes_only() {
    let dev = Dev::start(&[]);
    let _server = within(&dev, 20);
    let host = impersonate(&dev);
    let (message, first) = host.reattest(&dev, |_, _| {});
    assert_eq!(first.status, 200);
    assert_eq!(host.post(&dev, &message).body, first.body, "the answer was lost");
    let mut other = message;
    let last = other.len() - 8;
    other[last] ^= 1;
    assert_eq!(host.post(&dev, &other).status, 403);
    assert_eq!(
        dev.host("host-1")["state"],
        "attested",
        "nobody's evidence says nothing"
    );
}

#[test]
fn a_host_that_is_not_heard_of_is_silent_until_it_attests_again() {
    let dev = Dev::start(&[]);
    dev.end_agent(1);
    let _server = within(&dev, 3);
    eventually("silence", || dev.host("host-1")["state"] == "silent");
    assert_eq!(dev.events("host.silent").len(), 1);
    let why = dev.json(&["why", "host-1"]);
    assert_eq!(why["reason"], "silent", "{why}");
    assert!(why["remedy"].as_str().unwrap().contains("agent status"), "{why}");
    let _agent = dev.start_agent(1);
    eventually("its return", || dev.host("host-1")["state"] == "attested");
    eventually("a credential", || fetch(&dev) == Some(0));
}

#[test]
fn a_host_that_does_not_answer_when_it_is_asked_is_silent_and_its_workloads_are_told() {
    let dev = Dev::start(&[]);
    let _server = within(&dev, 8);
    assert_eq!(fetch(&dev), Some(0));
    // Its agent hears everything, and its TPM says nothing.
    let agent = |pattern: &str| {
        let all = dev.processes();
        all.iter()
            .find(|(_, command)| command.contains(pattern))
            .unwrap()
            .0
    };
    let parent = agent("agent run");
    let helper = dev
        .processes()
        .into_iter()
        .map(|(pid, _)| pid)
        .find(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(')')
                .and_then(|(_, rest)| rest.split_whitespace().nth(1))
                == Some(parent.to_string().as_str())
        })
        .unwrap()
        .to_string();
    let signal = |name: &str| {
        let sent = std::process::Command::new("kill")
            .args([name, &helper])
            .status()
            .unwrap();
        assert!(sent.success());
    };
    signal("-STOP");
    eventually("silence", || dev.host("host-1")["state"] == "silent");
    eventually("the workloads' refusal", || fetch(&dev) == Some(1));
    signal("-CONT");
    eventually("its return", || dev.host("host-1")["state"] == "attested");
    eventually("a credential", || fetch(&dev) == Some(0));
}

#[test]
fn e25_evidence_from_before_a_reset_is_overtaken_by_what_was_seen_after_it() {
    let dev = Dev::start(&[]);
    let (address, _) = dev.addresses();
    let tpm = device(&dev.description()["tpms"][0]);
    let held = {
        let public = tpm.attestation_key(wire::DOMAIN).unwrap().public;
        let name = [&[0x00, 0x0b][..], &touchmark_crypto::sha256(&[&public])].concat();
        let challenge = wire::challenge(&address, dev.pin(), Introduction::Known(name.into()));
        let visit = wire::Visit {
            challenge,
            attestation_public: None,
            secret: None,
        };
        let (parts, _) = wire::evidence(&tpm, &visit, dev.pin());
        parts.message(&visit)
    };
    dev.end_agent(1);
    power::reset(&dev);
    power::boot_again(&dev);
    let _agent = dev.start_agent(1);
    eventually("the next attestation", || dev.events("host.attested").len() == 2);
    let late = wire::send(&address, dev.pin(), &held);
    assert_eq!(late.status, 403);
    let log = fs::read_to_string(dev.system().join("server.log")).unwrap();
    assert!(
        log.contains("a later attestation of this host was taken meanwhile"),
        "{log}"
    );
    // Who sends what is out of date is no second device.
    assert_eq!(dev.host("host-1")["state"], "attested");
}

#[test]
fn e21_a_device_whose_resets_go_back_is_suspect_until_an_operator_has_replaced_it() {
    let dev = Dev::start(&[]);
    dev.end_agent(1);
    // A copy of the chip's state, made now.
    let copy = power::State::of(&dev);
    power::reset(&dev);
    power::boot_again(&dev);
    let agent = dev.start_agent(1);
    eventually("the next attestation", || dev.events("host.attested").len() == 2);
    drop(agent);
    // What was copied runs in its place.
    copy.restore(&dev);
    power::boot_again(&dev);
    let _agent = dev.start_agent(1);
    eventually("suspicion", || dev.host("host-1")["state"] == "suspect");
    let why = dev.json(&["why", "host-1"]);
    assert_eq!(why["reason"], "clock_regressed", "{why}");
    assert_eq!(dev.events("host.suspect").len(), 1);
    assert_eq!(fetch(&dev), Some(1));
    // The operator has found out that there is one only.
    let certificate = dev.description()["tpms"][0]["ek_certs"][0]
        .as_str()
        .unwrap()
        .to_owned();
    dev.json(&[
        "host",
        "replace",
        "host-1",
        "--ek-cert",
        &certificate,
        "--reason",
        "one chip",
    ]);
    eventually("its return", || dev.host("host-1")["state"] == "attested");
    eventually("a credential", || fetch(&dev) == Some(0));
}

#[test]
fn a_replaced_device_keeps_the_hosts_record_and_the_old_one_gets_nothing() {
    let dev = Dev::start(&["--tpm", "2"]);
    let tpms = dev.description()["tpms"].clone();
    let certificate = |n: usize| tpms[n]["ek_certs"][0].as_str().unwrap().to_owned();
    let id = dev.host("host-1")["id"].clone();
    // A key of another host is not taken.
    let taken = dev.touchmark(&["host", "replace", "host-1", "--ek-cert", &certificate(1)]);
    assert_eq!(taken.status.code(), Some(1));
    assert_eq!(dev.host("host-1")["state"], "attested", "nothing was changed");
    dev.json(&["host", "evict", "host-2"]);
    dev.json(&["host", "replace", "host-1", "--ek-cert", &certificate(1)]);
    // Board 2 is host 1 now.
    eventually("its attestation", || dev.host("host-1")["state"] == "attested");
    assert_eq!(dev.host("host-1")["id"], id);
    eventually("the old board's refusal", || fetch(&dev) != Some(0));
    let second = dev.description()["hosts"][1]["agent_socket"]
        .as_str()
        .unwrap()
        .to_owned();
    eventually("the new board's credential", || {
        dev.touchmark(&["workload", "fetch", "x509", "--socket", &second])
            .status
            .success()
    });
}

#[test]
fn a_stream_and_a_reattestation_are_for_attested_hosts_under_their_own_challenges() {
    let dev = Dev::start(&["--tpm", "2"]);
    let (address, hosts) = dev.addresses();
    dev.end_agent(2);
    let tpm = device(&dev.description()["tpms"][1]);
    let visit = wire::introduce(&address, dev.pin(), &tpm);
    let (parts, key) = wire::evidence(&tpm, &visit, dev.pin());
    let answer = wire::send(&address, dev.pin(), &parts.message(&visit));
    let admission: Admission = cbor::decode(&answer.body, 1 << 20).unwrap();
    let identity = wire::identity(&tpm, &admission, &key);
    let ask = |method: &str, path: &str, body: &[u8]| {
        let identity = Some(std::sync::Arc::clone(&identity));
        let media_type = touchmark_api::attest::MESSAGE;
        wire::request(&hosts, dev.pin(), identity, method, path, media_type, body).unwrap()
    };
    // A challenge for the first attestation is none for another one.
    assert_eq!(ask("POST", REATTEST_PATH, &parts.message(&visit)).status, 403);
    dev.json(&["host", "evict", "host-2"]);
    // What it hears is that it has nothing any more, and then nothing.
    let mut heard = ask("GET", STREAM_PATH, b"").body;
    assert_eq!(take_push(&mut heard).unwrap(), Some(Push::Withdrawn));
    assert!(heard.is_empty());
    assert_eq!(ask("POST", REATTEST_PATH, &parts.message(&visit)).status, 403);
    assert_eq!(dev.host("host-1")["state"], "attested");
}

#[test]
fn r036_an_agent_that_starts_while_the_service_is_away_serves_what_it_had() {
    let dev = Dev::start(&[]);
    let chain = || {
        let pem = dev.json(&["workload", "fetch", "x509"])["chain_pem"].clone();
        pem::decode_all(pem::CERTIFICATE, pem.as_str().unwrap()).unwrap()
    };
    let before = chain();
    eventually("what is kept", || {
        let kept = fs::read(dev.system().join("agent1/kept.cbor")).unwrap_or_default();
        kept.windows(before[0].len()).any(|window| window == before[0])
    });
    dev.end_server();
    dev.end_agent(1);
    let agent = dev.start_agent(1);
    eventually("the same credential", || fetch(&dev) == Some(0));
    assert_eq!(chain(), before);
    drop(agent);
    // Not after a reset: what this host boots now nobody has judged.
    eventually("the agent's end", || {
        dev.touchmark(&["agent", "status"]).status.code() == Some(3)
    });
    power::reset(&dev);
    power::boot_again(&dev);
    let _agent = dev.start_agent(1);
    eventually("the agent's answer", || {
        let fetch = dev.touchmark(&["workload", "fetch", "x509"]);
        String::from_utf8_lossy(&fetch.stderr).contains("not attested")
    });
}

#[test]
fn a_replaced_board_gets_nothing_under_the_certificate_that_it_still_has() {
    let dev = Dev::start(&["--tpm", "2"]);
    let old = impersonate(&dev);
    let ask = |method: &str, path: &str| {
        let identity = Some(old.identity.clone());
        wire::request(&old.hosts, dev.pin(), identity, method, path, "x/y", b"").unwrap()
    };
    assert_eq!(ask("GET", REGISTRATIONS_PATH).status, 200);
    let board = dev.description()["tpms"][1]["ek_certs"][0]
        .as_str()
        .unwrap()
        .to_owned();
    dev.json(&["host", "evict", "host-2"]);
    dev.json(&["host", "replace", "host-1", "--ek-cert", &board]);
    eventually("the new board's attestation", || {
        dev.host("host-1")["state"] == "attested"
    });
    // The record is attested again, and it is not by this board.
    assert_eq!(ask("GET", REGISTRATIONS_PATH).status, 403);
    let mut heard = ask("GET", STREAM_PATH).body;
    assert!(
        matches!(take_push(&mut heard).unwrap(), Some(Push::Withdrawn)),
        "and it is told so"
    );
}

#[test]
fn c06_a_host_that_was_evicted_behind_its_back_hears_of_it_when_it_comes_back() {
    let dev = Dev::start(&[]);
    assert_eq!(fetch(&dev), Some(0));
    // Its agent stands still meanwhile: whatever is pushed, it does not hear.
    let agent = dev
        .processes()
        .into_iter()
        .find(|(_, command)| command.contains("agent run"))
        .unwrap()
        .0
        .to_string();
    let signal = |name: &str| {
        let sent = std::process::Command::new("kill")
            .args([name, &agent])
            .status()
            .unwrap();
        assert!(sent.success());
    };
    signal("-STOP");
    dev.json(&["host", "evict", "host-1"]);
    let _server = dev.restart_server(|text| text);
    signal("-CONT");
    eventually("the workloads' refusal", || fetch(&dev) == Some(1));
}

#[test]
fn p05_a_list_that_is_sent_again_or_cut_is_never_taken_and_its_host_begins_anew() {
    let dev = Dev::start(&[]);
    let _server = within(&dev, 8);
    let host = impersonate(&dev);
    let (_, good) = host.reattest(&dev, |_, _| {});
    assert_eq!(good.status, 200);
    // The host measures something more, and sends the whole list where only what is new was asked for.
    let list = |host: &Impersonated| host.device.runtime_list(0, frame::MAX_RUNTIME).unwrap();
    let before = list(&host).len();
    eventually("something is measured", || {
        assert!(
            dev.command("tpm2_getrandom")
                .arg("4")
                .output()
                .unwrap()
                .status
                .success()
        );
        list(&host).len() > before
    });
    let (_, refused) = host.reattest(&dev, |_, logs| logs.runtime = list(&host));
    assert_eq!(refused.status, 403);
    assert_eq!(
        dev.host("host-1")["reason"],
        "log_mismatch",
        "{}",
        dev.host("host-1")
    );
    // From the beginning, with all of it, it is admitted again.
    drop(host);
    let host = admitted(&dev);
    assert_eq!(dev.host("host-1")["state"], "attested");
    let (_, good) = host.reattest(&dev, |_, _| {});
    assert_eq!(good.status, 200);
}
