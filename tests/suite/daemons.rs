//! Daemons as an operator and an attacker on the machine meet them: files, sockets, logs, keys.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::Command,
};

use touchmark_identity::TrustDomain;
use touchmark_tests::{dev::Dev, sim::binary, wire};
use touchmark_wimse::{
    Issuer, Issuers, wit,
    wpt::{self, Carried, Expected, Profile, Replays},
};

#[test]
fn w10_daemons_refuse_configuration_and_state_that_others_can_change() {
    let dev = Dev::start(&[]);
    let check = |role: &str, config: &str| dev.touchmark(&[role, "config", "check", "--config", config]);
    let text = fs::read_to_string(dev.system().join("server.toml")).unwrap();
    let config = dev.file("loose.toml", &text);
    assert!(check("server", &config).status.success());
    for mode in [0o666, 0o664, 0o646] {
        fs::set_permissions(&config, fs::Permissions::from_mode(mode)).unwrap();
        let output = check("server", &config);
        assert_eq!(output.status.code(), Some(2), "{mode:o}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("chmod go-w"),
            "{mode:o}"
        );
    }
    // A key file that others can read: the service does not start with it.
    let key = dev.system().join("server/keys/wit.tss2");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let config = dev.system().join("server.toml").display().to_string();
    let output = dev.touchmark(&["server", "run", "--config", &config]);
    assert_ne!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("chmod 600"));
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused_and_the_first_goes_on() {
    let dev = Dev::start(&[]);
    let config = dev.system().join("agent1.toml").display().to_string();
    let output = dev.touchmark(&["agent", "run", "--config", &config]);
    assert_eq!(
        output.status.code(),
        Some(3),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    dev.json(&["workload", "fetch", "bundle"]);
}

#[test]
fn r095_logs_at_the_highest_level_hold_no_token_no_proof_and_no_key_file() {
    let dev = Dev::start_with(&[], &[("RUST_LOG", "trace")]);
    let proof = dev.json(&["workload", "prove", "--audience", "https://peer.example.org/"]);
    let x509 = dev.json(&["workload", "fetch", "x509"]);
    let secrets: Vec<String> = [&proof["wit"], &proof["wpt"]]
        .iter()
        .flat_map(|token| token.as_str().unwrap().split('.').map(str::to_owned))
        .filter(|part| part.len() > 40)
        .collect();
    let handle = x509["key"]["handle"].as_str().unwrap();
    let key = fs::read_to_string(dev.system().join(format!("agent1/keys/{handle}.tss2"))).unwrap();
    let lines: Vec<String> = key
        .lines()
        .filter(|line| line.len() == 64)
        .map(str::to_owned)
        .collect();
    assert!(secrets.len() >= 4 && !lines.is_empty());
    for name in ["server.log", "agent1.log"] {
        let log = fs::read(dev.system().join(name)).unwrap();
        let log = String::from_utf8_lossy(&log);
        assert!(log.contains("TRACE"), "{name} is at the highest level");
        for secret in secrets.iter().chain(&lines) {
            // Each part is long enough that a prefix of it identifies it.
            assert!(!log.contains(&secret[..40]), "{name} holds {secret}");
        }
        assert!(!log.contains("TSS2 PRIVATE KEY"), "{name}");
    }
}

#[test]
fn r001_a_process_has_an_identity_soon_after_its_start_and_none_while_the_agent_is_away() {
    let dev = Dev::start(&[]);
    let empty = tempfile::tempdir().unwrap();
    let prove = |arguments: &[&str]| {
        let mut command = dev.command(binary("touchmark"));
        command
            .current_dir(empty.path())
            .args(["workload", "prove", "--output", "json", "--audience", AUDIENCE])
            .args(arguments);
        command
    };
    let start = std::time::Instant::now();
    let output = prove(&[]).output().unwrap();
    assert!(output.status.success());
    eprintln!("identity after {:?}", start.elapsed());
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    assert_eq!(
        fs::read_dir(empty.path()).unwrap().count(),
        0,
        "nothing was needed or left"
    );
    // What it has is an identity for others: its request is authenticated with the trust domain's keys and nothing else.
    let jwks = dev.json(&["workload", "fetch", "bundle"])["jwks"].clone();
    let user = format!(
        "spiffe://example.org/user/{}",
        fs::metadata("/proc/self").unwrap().uid()
    );
    assert_eq!(authenticated(&output.stdout, &jwks), user);

    // Without an agent it has none, and says so at once.
    dev.end_agent(1);
    let output = prove(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no agent"));
    // One that may wait tries again until there is one.
    let waiting = prove(&["--wait", "60"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let _agent = dev.start_agent(1);
    let output = waiting.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(authenticated(&output.stdout, &jwks), user);
    // What no waiting helps is said at once.
    let start = std::time::Instant::now();
    let nobodys = ["--wait", "60", "--identifier", "spiffe://example.org/nobody"];
    assert_eq!(prove(&nobodys).output().unwrap().status.code(), Some(1));
    assert!(start.elapsed().as_secs() < 30);
}

/// For whom the workloads of these tests prove themselves.
const AUDIENCE: &str = "https://peer.example.org/";

/// Whom the peer of a request takes its sender for: by token and proof, under the keys of a trust bundle.
fn authenticated(proof: &[u8], jwks: &serde_json::Value) -> String {
    let proof: serde_json::Value = serde_json::from_slice(proof).unwrap();
    let mut issuers = Issuers::default();
    issuers.insert(
        TrustDomain::parse_origin(wire::DOMAIN).unwrap(),
        Issuer::from_jwks(jwks.as_object().unwrap()),
    );
    let authorization = format!("WPT {}", proof["wpt"].as_str().unwrap());
    let fields = [
        ("workload-identity-token", proof["wit"].as_str().unwrap()),
        ("authorization", &authorization),
    ];
    let fields = fields.map(|(name, value)| (name, value.as_bytes()));
    let carried = Carried::from_fields(fields, Profile::Wpt02).unwrap();
    let now = touchmark_tls::clock::now();
    let verified = wit::verify(carried.wit, &issuers, now).unwrap();
    let expected = Expected::at(AUDIENCE);
    wpt::verify(&carried, &verified, &expected, &mut Replays::new(1), now).unwrap();
    verified.identifier().as_str().to_owned()
}

#[test]
fn c03_the_service_does_not_start_with_a_key_that_could_be_exported() {
    let sim = touchmark_tests::sim::Sim::start(&["--tpm", "1"]);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let tcti = sim.tcti(1);
    let config = at("server.toml");
    let text = format!(
        "trust_domain = \"{}\"\nstate = \"{}\"\n[listen]\nattest = \"127.0.0.1:0\"\nhosts = \"127.0.0.1:0\"\n\
         [admin]\nsocket = \"{}\"\n[device]\ntcti = \"{tcti}\"\n",
        wire::DOMAIN,
        at("state"),
        at("admin.sock"),
    );
    fs::write(&config, text).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    let touchmark = |arguments: &[&str]| {
        Command::new(binary("touchmark"))
            .args(arguments)
            .output()
            .unwrap()
    };
    let must = |arguments: &[&str]| {
        let output = touchmark(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let root = at("root");
    must(&[
        "ca",
        "init",
        "--dir",
        &root,
        "--trust-domain",
        wire::DOMAIN,
        "--device",
        &tcti,
    ]);
    must(&["ca", "request", "--config", &config, "--out", &at("request.pem")]);
    let signed = at("intermediate.pem");
    must(&[
        "ca",
        "sign-intermediate",
        "--yes",
        "--dir",
        &root,
        "--device",
        &tcti,
        "--out",
        &signed,
        &at("request.pem"),
    ]);
    let root_certificate = format!("{root}/root.pem");
    must(&[
        "ca",
        "install",
        "--config",
        &config,
        "--root",
        &root_certificate,
        "--certificate",
        &signed,
    ]);
    // A key that another tool made: it signs, but may be duplicated to another parent.
    let storage = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt";
    sim.tool(
        "tpm2_createprimary",
        &[
            "-Q",
            "-C",
            "o",
            "-G",
            "ecc",
            "-a",
            storage,
            "-c",
            &at("storage.ctx"),
        ],
    );
    let loose = "sensitivedataorigin|userwithauth|noda|sign";
    let parts = ["-u", &at("pub"), "-r", &at("priv")];
    sim.tool(
        "tpm2_create",
        &[
            &[
                "-Q",
                "-C",
                &at("storage.ctx"),
                "-G",
                "ecc256:ecdsa-sha256",
                "-a",
                loose,
            ][..],
            &parts[..],
        ]
        .concat(),
    );
    sim.tool("tpm2_flushcontext", &["-t"]);
    let key = touchmark_custody::tss2::Tss2Key {
        empty_auth: true,
        policy: Vec::new(),
        parent: touchmark_custody::tss2::PARENT_OWNER,
        public: fs::read(at("pub")).unwrap(),
        private: fs::read(at("priv")).unwrap(),
    };
    let path = at("state/keys/wit.tss2");
    fs::write(&path, key.to_pem().unwrap()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let output = touchmark(&["server", "run", "--config", &config]);
    assert_ne!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("wit: this key could leave its device"), "{text}");
    assert!(
        !std::path::Path::new(&at("admin.sock")).exists(),
        "nothing was bound"
    );
}

#[test]
fn the_bundle_endpoint_serves_the_trust_domains_keys_and_nothing_else() {
    let dev = Dev::start(&[]);
    let address = dev.description()["service"]["bundle"]
        .as_str()
        .unwrap()
        .to_owned();
    let ask = |path: &str| wire::request(&address, dev.pin(), None, "GET", path, "text/plain", b"").unwrap();
    let answer = ask(touchmark_api::host::BUNDLE_PATH);
    assert_eq!(answer.status, 200);
    assert!(answer.header.contains("application/json"));
    let jwks: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let uses: Vec<&str> = jwks["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["use"].as_str().unwrap())
        .collect();
    assert_eq!(uses, ["x509-svid", "wit-svid"]);
    assert!(jwks["spiffe_sequence"].as_u64().unwrap() >= 1);
    assert_eq!(jwks, dev.json(&["workload", "fetch", "bundle"])["jwks"]);
    assert_eq!(ask("/v1/attest/challenge").status, 404);
}

#[test]
fn a_rack_is_enrolled_from_a_file_all_or_none() {
    let dev = Dev::start(&[]);
    let host = |name: &str, digest: &str| {
        format!("[[host]]\nname = \"{name}\"\nlabels = [\"rack-7\"]\nek_digests = [\"{digest}\"]\n")
    };
    let (one, two) = ("11".repeat(32), "22".repeat(32));
    let twice = dev.file("twice.toml", &(host("a", &one) + &host("b", &one)));
    let output = dev.touchmark(&["host", "enrol", "--file", &twice]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        dev.json(&["host", "list"]).as_array().unwrap().len(),
        1,
        "all or none"
    );
    let same = dev.file("same.toml", &(host("a", &one) + &host("a", &two)));
    let output = dev.touchmark(&["host", "enrol", "--file", &same]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("appears twice"));
    let bad = dev.file("bad.toml", &host("a", &one.to_uppercase().replace('1', "A")));
    assert_eq!(
        dev.touchmark(&["host", "enrol", "--file", &bad]).status.code(),
        Some(2)
    );
    let rack = dev.file("rack.toml", &(host("a", &one) + &host("b", &two)));
    assert!(
        dev.touchmark(&["host", "enrol", "--file", &rack])
            .status
            .success()
    );
    assert_eq!(dev.json(&["host", "show", "b"])["labels"][0], "rack-7");
}

#[test]
fn the_services_own_certificate_is_issued_for_a_day_and_audited() {
    let dev = Dev::start(&[]);
    let mut own = dev.events("credential.issued");
    own.retain(|event| event["subject"] == "server");
    assert_eq!(own.len(), 1, "{own:?}");
    assert_eq!(
        own[0]["detail"],
        "x509 spiffe://example.org/touchmark/server token"
    );
    // What is shown ends within a day: OpenSSL as the outside judge.
    let (attest, _) = dev.addresses();
    let judged = Command::new("sh")
        .args([
            "-c",
            "openssl s_client -connect \"$1\" </dev/null 2>/dev/null | openssl x509 -noout -checkend \"$2\"",
            "sh",
        ])
        .args([&attest, "86401"])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&judged.stdout).trim(),
        "Certificate will expire"
    );
}

#[test]
fn a_fleet_that_needs_more_than_half_of_what_the_device_signs_is_refused() {
    let dev = Dev::start(&[]);
    let hosts: Vec<String> = (0..5_000)
        .map(|n| format!("[[host]]\nname = \"h{n}\"\nlabels = [\"many\"]\nek_digests = [\"{n:064x}\"]\n"))
        .collect();
    let rack = dev.file("rack.toml", &hosts.concat());
    assert!(
        dev.touchmark(&["host", "enrol", "--file", &rack])
            .status
            .success()
    );
    let file = |lifetime: &str| {
        let entry = |n: u32| {
            format!(
                "[[registration]]\nname = \"r{n}\"\nidentifier = \"spiffe://example.org/r{n}\"\n\
                 host = {{ labels = [\"many\"] }}\nworkload = {{ uid = {n} }}\nkinds = [\"x509\", \"wit\"]\n\
                 custody = [\"hardware\"]\nlifetime = \"{lifetime}\"\n"
            )
        };
        let entries: Vec<String> = (1..=100).map(entry).collect();
        dev.file("many.toml", &format!("label = \"many\"\n{}", entries.concat()))
    };
    // 5000 hosts with 200 credentials each, every minute.
    let output = dev.touchmark(&["registration", "apply", "--file", &file("60s")]);
    assert_eq!(output.status.code(), Some(1));
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        why.contains("signatures a second") && why.contains("longer lifetime"),
        "{why}"
    );
    assert_eq!(dev.json(&["registration", "list"]).as_array().unwrap().len(), 1);
}
