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
    dev.end_agent(1);
    let _agent = dev.start_agent(1);
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
