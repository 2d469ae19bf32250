//! What operators type, and what they read.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::Stdio,
};

use touchmark_tests::{
    dev::{Dev, eventually},
    sim::binary,
};

#[test]
fn a_withdrawn_set_of_reference_values_admits_nobody_any_more_and_followers_of_the_trail_see_it() {
    let dev = Dev::start(&[]);
    let mut follower = dev
        .command(binary("touchmark"))
        .args(["events", "--follow", "--output", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let label = dev.json(&["reference", "list"])[0]["label"]
        .as_str()
        .unwrap()
        .to_owned();
    let delete = || dev.touchmark(&["reference", "delete", &label]).status.code();
    assert_eq!(delete(), Some(0));
    assert_eq!(delete(), Some(1), "there is none any more");
    let mut seen = Vec::new();
    for line in BufReader::new(follower.stdout.take().unwrap()).lines() {
        let event: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        seen.push((
            event["id"].as_u64().unwrap(),
            event["kind"].as_str().unwrap().to_owned(),
        ));
        if seen.last().unwrap().1 == "reference.deleted" {
            break;
        }
    }
    let _ = follower.kill();
    let _ = follower.wait();
    assert!(seen.iter().any(|(_, kind)| kind == "host.attested"), "{seen:?}");
    assert!(
        seen.windows(2).all(|pair| pair[0].0 < pair[1].0),
        "in order, each once: {seen:?}"
    );
    // The host keeps what it has and is refused when it attests again.
    dev.json(&["workload", "fetch", "wit"]);
    let _server = dev.restart_server(|text| format!("reattest_interval = \"8s\"\n{text}"));
    eventually("the host's refusal", || {
        dev.host("host-1")["reason"] == "no_reference_values"
    });
    assert!(
        dev.json(&["why", "host-1"])["remedy"]
            .as_str()
            .unwrap()
            .contains("reference capture")
    );
}

#[test]
fn a_configuration_whose_device_cannot_be_had_is_found_out_before_anything_starts() {
    let dev = Dev::start(&[]);
    for (role, file) in [("server", "server.toml"), ("agent", "agent1.toml")] {
        let text = fs::read_to_string(dev.system().join(file)).unwrap();
        let check = |command: &str, change: &dyn Fn(&str) -> String| {
            let config = dev.file("changed.toml", &change(&text));
            let arguments: &[&str] = match command {
                "check" => &[role, "config", "check", "--config", &config],
                _ => &[role, "run", "--config", &config],
            };
            let output = dev.touchmark(arguments);
            (
                output.status.code(),
                String::from_utf8_lossy(&output.stderr).into_owned(),
            )
        };
        let nowhere = |text: &str| text.replace("[device]\n", "[device]\npath = \"/nonexistent/helper\"\n");
        let slip = |text: &str| {
            text.lines()
                .map(|line| match line.starts_with("tcti") {
                    true => "tcti = \"/dev/tpmrm0\"\n".to_owned(),
                    false => format!("{line}\n"),
                })
                .collect()
        };
        assert_eq!(check("check", &|text| text.to_owned()).0, Some(0), "{role}");
        for command in ["check", "run"] {
            let (code, why) = check(command, &nowhere);
            assert_eq!(code, Some(2), "{role} {command}: {why}");
            assert!(
                why.contains("device.path") && why.contains("changed.toml"),
                "{why}"
            );
            let (code, why) = check(command, &slip);
            assert_eq!(code, Some(2), "{role} {command}: {why}");
            assert!(
                why.contains("device.tcti") && why.contains("device:/dev/tpmrm0"),
                "{why}"
            );
        }
    }
}

#[test]
fn an_evicted_host_gets_nothing_more_and_can_be_enrolled_again_under_its_name() {
    let dev = Dev::start(&[]);
    dev.json(&["workload", "fetch", "wit"]);
    let certificates: Vec<String> = dev.description()["tpms"][0]["ek_certs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|path| path.as_str().unwrap().to_owned())
        .collect();
    let evicted = dev.json(&["host", "evict", "host-1", "--reason", "board swapped"]);
    assert_eq!(evicted["state"], "evicted");
    assert!(evicted["until"].as_str().unwrap() > "2026");
    assert_eq!(
        dev.touchmark(&["host", "evict", "host-1"]).status.code(),
        Some(1),
        "once"
    );
    // At once, on the connection and certificate that it still holds.
    assert_ne!(
        dev.touchmark(&["workload", "fetch", "x509"]).status.code(),
        Some(0)
    );
    eventually("the host at the door", || {
        dev.json(&["host", "list", "--pending"]).as_array().unwrap().len() == 1
    });
    let mut enrol = vec!["host", "enrol", "--name", "host-1"];
    for certificate in &certificates {
        enrol.extend(["--ek-cert", certificate]);
    }
    assert!(dev.touchmark(&enrol).status.success());
    eventually("its admission", || dev.host("host-1")["state"] == "attested");
    eventually("a credential", || {
        dev.touchmark(&["workload", "fetch", "x509"]).status.success()
    });
    let hosts = dev.json(&["host", "list"]);
    let states: Vec<&str> = hosts
        .as_array()
        .unwrap()
        .iter()
        .map(|host| host["state"].as_str().unwrap())
        .collect();
    assert!(
        states.contains(&"evicted") && states.contains(&"attested"),
        "{hosts}"
    );
    let evictions = dev.events("host.evicted");
    assert!(
        evictions.len() == 1 && evictions[0]["detail"] == "board swapped",
        "{evictions:?}"
    );
}

#[test]
fn a_tpm_that_is_enrolled_by_one_of_its_keys_does_not_wait_to_be_enrolled_by_the_other() {
    let dev = Dev::start(&[]);
    let certificates = dev.description()["tpms"][0]["ek_certs"].clone();
    let rsa = certificates
        .as_array()
        .unwrap()
        .iter()
        .map(|path| path.as_str().unwrap())
        .find(|path| path.contains("rsa"))
        .unwrap();
    dev.json(&["host", "evict", "host-1"]);
    let pending = || dev.json(&["host", "list", "--pending"]).as_array().unwrap().len();
    dev.end_agent(1);
    let agent = dev.start_agent(1);
    eventually("both keys' host at the door", || pending() == 1);
    // The one that knocked is not the one that is enrolled.
    assert!(
        dev.touchmark(&["host", "enrol", "--name", "one", "--ek-cert", rsa])
            .status
            .success()
    );
    eventually("its admission", || dev.host("one")["state"] == "attested");
    eventually("an empty door", || pending() == 0);
    drop(agent);
}

#[test]
fn l06_silent_connections_hold_up_nobody() {
    let dev = Dev::start(&[]);
    let (attest, hosts) = dev.addresses();
    let silent: Vec<std::net::TcpStream> = [attest, hosts]
        .iter()
        .flat_map(|address| (0..120).map(move |_| std::net::TcpStream::connect(address).unwrap()))
        .collect();
    let start = std::time::Instant::now();
    for kind in ["x509", "wit"] {
        dev.json(&["workload", "fetch", kind]);
    }
    // A stalled handshake is given up after ten seconds: nobody waited for one.
    assert!(start.elapsed().as_secs() < 8, "{:?}", start.elapsed());
    drop(silent);
}

#[test]
fn input_that_is_too_large_or_no_file_is_said_to_be() {
    let dev = Dev::start(&[]);
    let large = dev.file("large.toml", &"#".repeat(9 * 1024 * 1024));
    for command in ["registration", "reference"] {
        let output = dev.touchmark(&[command, "apply", "--file", &large]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(why.contains("over the limit"), "{why}");
    }
    let endless = dev.touchmark(&["host", "enrol", "--file", "/dev/zero"]);
    assert_eq!(endless.status.code(), Some(2));
    let pipe = dev.system().join("pipe.toml");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    for role in ["server", "agent"] {
        let output = dev.touchmark(&[role, "config", "check", "--config", &pipe.display().to_string()]);
        assert_eq!(output.status.code(), Some(2), "{role}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("not a regular file"));
    }
    let text = fs::read_to_string(dev.system().join("agent1.toml")).unwrap();
    let log = dev.description()["tpms"][0]["eventlog"]
        .as_str()
        .unwrap()
        .to_owned();
    let config = dev.file("nolog.toml", &text.replace(&log, "/nonexistent/log"));
    let output = dev.touchmark(&["agent", "config", "check", "--config", &config]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("tpm.eventlog"));
}
