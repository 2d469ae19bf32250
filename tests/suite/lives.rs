//! Workloads that live for long, and for less than a second.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use touchmark_tests::{
    calls::{Serving, command, identifier, register, uid},
    clock::Clock,
    dev::{Dev, eventually},
    sim::binary,
};

/// Renewals of the long life.
const RENEWALS: usize = 20;
/// Short lives.
const LIVES: usize = 200;

#[test]
fn r005_a_workload_lives_through_twenty_renewals_and_no_request_fails() {
    let mut clock = Clock::new();
    let environment = clock.environment();
    let environment: Vec<(&str, &str)> = environment
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let dev = Dev::start_with(&[], &environment);
    // The host's own attestation is another test's.
    dev.end_server();
    let _server = dev.start_server_with(&environment, |text| {
        format!(
            "host_lifetime = \"24h\"\nreattest_interval = \"24h\"\n{}",
            text.replace("host_lifetime", "# ")
        )
    });
    dev.end_agent(1);
    dev.forget(1);
    let _agent = dev.start_agent_with(1, &environment);
    let caller = binary("touchmark-test-caller");
    let file = dev.file(
        "lives.toml",
        &format!(
            "label = \"calls\"\n[[registration]]\nname = \"api\"\nidentifier = \"{}\"\nworkload = {{ uid = {uid}, exe = \"{}\" }}\nkinds = [\"x509\", \"wit\"]\ncustody = [\"hardware\"]\n[[registration]]\nname = \"web\"\nidentifier = \"{}\"\nworkload = {{ uid = {uid}, exe = \"{}\" }}\nkinds = [\"x509\", \"wit\"]\ncustody = [\"hardware\"]\n",
            identifier("api"),
            binary("examples/axum_server").display(),
            identifier("web"),
            caller.display(),
            uid = uid(),
        ),
    );
    eventually("the registrations", || {
        dev.touchmark(&["registration", "apply", "-f", &file])
            .status
            .success()
    });
    dev.touchmark(&["registration", "delete", &format!("dev/user-{}", uid())]);
    let faked = |mut command: Command| {
        command.envs(environment.iter().copied());
        command
    };
    let api = Serving::start_as(faked(command(&dev, "axum_server")), &["web"]);
    let mut workload = faked(dev.command(&caller))
        .args([identifier("api"), format!("https://{}/proved", api.address)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let issued = |name: &str| {
        let wanted = format!("x509 {} ", identifier(name));
        dev.events("credential.issued")
            .iter()
            .filter(|event| event["detail"].as_str().unwrap().starts_with(&wanted))
            .count()
    };
    eventually("the first credentials", || issued("web") > 0 && issued("api") > 0);
    let (mut told, mut said) = (
        workload.stdin.take().unwrap(),
        BufReader::new(workload.stdout.take().unwrap()),
    );
    let mut line = String::new();
    for renewal in 1..=RENEWALS {
        // No clock jumps by half an hour while a request is under way: for that moment there is none.
        told.write_all(b"pause\n").unwrap();
        line.clear();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "paused\n");
        // Five eighths of an hour: the latest moment at which a credential of an hour is renewed.
        clock.advance(38 * 60);
        told.write_all(b"go on\n").unwrap();
        eventually("the next credentials", || {
            issued("web") > renewal && issued("api") > renewal
        });
    }
    drop(told);
    line.clear();
    said.read_line(&mut line).unwrap();
    assert!(workload.wait().unwrap().success());
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    eprintln!("long life: {said}");
    assert_eq!(said["failed"], serde_json::json!([]), "{said}");
    assert!(said["credentials"].as_u64().unwrap() >= RENEWALS as u64, "{said}");
    assert!(said["answered"].as_u64().unwrap() > 100, "{said}");
}

#[test]
fn r005_two_hundred_short_lives_have_and_use_an_identity_each() {
    let dev = Dev::start(&[]);
    register(&dev, &[("api", "axum_server"), ("web", "http_client")]);
    let api = Serving::start(&dev, "axum_server", &["web"]);
    let uri = format!("https://{}/proved", api.address);
    let (left, lives) = (Mutex::new(LIVES), Mutex::new(Vec::new()));
    let take = || {
        let mut left = left.lock().unwrap();
        let some = *left > 0;
        *left = left.saturating_sub(1);
        some
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while take() {
                    let start = Instant::now();
                    let output = command(&dev, "http_client")
                        .args([&identifier("api"), &uri])
                        .output()
                        .unwrap();
                    let life = start.elapsed();
                    assert!(
                        output.status.success(),
                        "{}",
                        String::from_utf8_lossy(&output.stderr)
                    );
                    assert!(output.stdout.starts_with(b"200 OK: proved"));
                    lives.lock().unwrap().push(life);
                }
            });
        }
    });
    let mut lives = lives.into_inner().unwrap();
    lives.sort_unstable();
    let at = |percent: usize| lives[(LIVES * percent / 100).min(LIVES - 1)];
    eprintln!(
        "{LIVES} lives from start to end, four at a time: p50 {:?}, p90 {:?}, p99 {:?}, longest {:?}",
        at(50),
        at(90),
        at(99),
        at(100)
    );
    assert!(
        at(50) < Duration::from_secs(1),
        "most live under a second: {:?}",
        at(50)
    );
}
