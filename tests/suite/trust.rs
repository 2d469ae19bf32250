//! Whom hosts trust, whom the service trusts, and what neither writes down.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use rustls::{ServerConnection, StreamOwned};
use touchmark_api::attest::{CHALLENGE_PATH, CHALLENGE_REQUEST};
use touchmark_crypto::{
    Entropy, Signer, SigningAlg, SoftwareKey, SystemEntropy,
    x509::{Anchors, Profile, Template, Usage, issue, self_signed, verify_path},
};
use touchmark_tests::{
    dev::{Dev, eventually},
    sim::binary,
    wire,
};

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An agent of its own, configured like the system's first but for what `change` does to the text.
fn agent(dev: &Dev, change: impl FnOnce(String) -> String) -> (Killed, String) {
    let text = fs::read_to_string(dev.system().join("agent1.toml")).unwrap();
    let socket = dev.system().join("other.sock").display().to_string();
    let text = change(
        text.replace("agent1.sock", "other.sock")
            .replace("system/agent1", "system/other"),
    );
    let config = dev.file("other.toml", &text);
    let child = dev
        .command(binary("touchmark"))
        .args(["agent", "run", "--config", &config])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    (Killed(child), socket)
}

fn status(dev: &Dev, socket: &str) -> serde_json::Value {
    let output = dev.touchmark(&["agent", "status", "--socket", socket, "--output", "json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

#[test]
fn c02_a_host_says_nothing_to_a_server_whose_root_it_does_not_pin() {
    let dev = Dev::start(&[]);
    let pin = hex::encode(dev.pin());
    let (_agent, socket) = agent(&dev, |text| text.replace(&pin, &"ab".repeat(32)));
    eventually("the agent's refusal of the server", || {
        status(&dev, &socket)["state"] == "unavailable"
    });
    let detail = status(&dev, &socket)["detail"].as_str().unwrap().to_owned();
    assert!(
        detail.contains("not the credential service this host trusts"),
        "{detail}"
    );
    assert!(detail.contains("root_pins"), "{detail}");
    // The same root under another trust domain's name is another authority.
    drop(_agent);
    let (_agent, socket) = agent(&dev, |text| {
        text.replace("spiffe://example.org", "spiffe://example.com")
    });
    eventually("the agent's refusal of the domain", || {
        status(&dev, &socket)["state"] == "unavailable"
    });
    let detail = status(&dev, &socket)["detail"].as_str().unwrap().to_owned();
    assert!(
        detail.contains("not in trust domain spiffe://example.com"),
        "{detail}"
    );
}

/// A certification authority of the test's own, and identities below it.
struct Authority {
    root: touchmark_crypto::x509::Certificate,
    root_key: SoftwareKey,
    leaf_key: Arc<SoftwareKey>,
}

impl Authority {
    fn new() -> Self {
        let key = || SoftwareKey::generate(SigningAlg::Es256).unwrap();
        let root_key = key();
        let root = self_signed(&template(Profile::Root, "root", wire::DOMAIN), &root_key).unwrap();
        let root = touchmark_crypto::x509::Certificate::parse(&root).unwrap();
        Self {
            root,
            root_key,
            leaf_key: Arc::new(key()),
        }
    }

    /// A TLS server that shows this path of the trust domain.
    fn server(&self, path: &str) -> Arc<rustls::ServerConfig> {
        let leaf = template(Profile::Leaf, "", &format!("{}{path}", wire::DOMAIN));
        let leaf = issue(&leaf, self.leaf_key.public_key(), &self.root, &self.root_key).unwrap();
        let key = Arc::<SoftwareKey>::clone(&self.leaf_key);
        let held = touchmark_custody::HeldKey::new(key, false, &[touchmark_crypto::Purpose::TlsHandshake]);
        let identity = touchmark_tls::identity(&[leaf, self.root.der.clone()], held);
        Arc::new(touchmark_tls::server(identity, None).unwrap())
    }
}

fn template(profile: Profile, name: &str, uri: &str) -> Template {
    Template {
        profile,
        common_name: name.into(),
        uri: Some(uri.into()),
        dns_names: Vec::new(),
        not_before: 1,
        not_after: 4_000_000_000,
        serial: SystemEntropy.array().unwrap(),
        extensions: Vec::new(),
    }
}

#[test]
fn e15_a_workload_below_the_same_root_cannot_pose_as_the_server() {
    let authority = Authority::new();
    for (path, accepted) in [
        ("/touchmark/server", true),
        ("/payments/api", false),
        ("/touchmark/server2", false),
    ] {
        let config = authority.server(path);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heard = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
            let mut first = [0; 1];
            stream.read(&mut first).unwrap_or(0)
        });
        let pin = authority.root.spki_digest();
        let answer = wire::request(
            &address,
            pin,
            None,
            "POST",
            CHALLENGE_PATH,
            CHALLENGE_REQUEST,
            b"x",
        );
        let heard = heard.join().unwrap();
        assert!(answer.is_err());
        // Before the root and the identifier are verified not a byte is sent.
        assert_eq!(heard == 1, accepted, "{path}: {answer:?}");
        if !accepted {
            assert!(
                answer.unwrap_err().contains("is not the credential service"),
                "{path}"
            );
        }
    }
}

#[test]
fn a_server_that_answers_nonsense_harms_no_agent() {
    let dev = Dev::start(&[]);
    let authority = Authority::new();
    let config = authority.server("/touchmark/server");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // It serves until the test's process ends.
    std::thread::spawn(move || {
        let answers: [&[u8]; 3] = [
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.touchmark.challenge.v1+cbor\r\ncontent-length: 1\r\n\r\n\xff",
            b"\x00\x01\x02",
        ];
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = StreamOwned::new(
                ServerConnection::new(Arc::clone(&config)).unwrap(),
                stream.unwrap(),
            );
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answers[number % answers.len()]);
            let _ = stream.flush();
        }
    });
    let pin = hex::encode(dev.pin());
    let own = hex::encode(authority.root.spki_digest());
    let (attest, _) = dev.addresses();
    let (_agent, socket) = agent(&dev, |text| text.replace(&pin, &own).replace(&attest, &address));
    let mut seen = std::collections::BTreeSet::new();
    eventually("all three kinds of nonsense", || {
        let status = status(&dev, &socket);
        if status["state"] == "unavailable" {
            seen.insert(status["detail"].as_str().unwrap().to_owned());
        }
        seen.len() >= 3
    });
    assert!(
        seen.iter()
            .any(|detail| detail.contains("answered what was not asked")),
        "{seen:?}"
    );
    assert!(
        seen.iter().any(|detail| detail.contains("answer does not hold")),
        "{seen:?}"
    );
}

#[test]
fn r013_chains_to_either_of_two_anchors_pass_and_to_a_removed_one_fail_at_once() {
    let key = || SoftwareKey::generate(SigningAlg::Es256).unwrap();
    let short = |profile, uri: &str| Template {
        profile,
        common_name: "x".into(),
        uri: Some(uri.into()),
        dns_names: Vec::new(),
        not_before: 1_000,
        not_after: 2_000,
        serial: SystemEntropy.array().unwrap(),
        extensions: Vec::new(),
    };
    let make = || {
        let (root_key, leaf_key) = (key(), key());
        let root = self_signed(&short(Profile::Root, wire::DOMAIN), &root_key).unwrap();
        let parsed = touchmark_crypto::x509::Certificate::parse(&root).unwrap();
        let leaf = issue(
            &short(Profile::Leaf, "spiffe://example.org/a"),
            leaf_key.public_key(),
            &parsed,
            &root_key,
        );
        (root, leaf.unwrap())
    };
    let (one, two) = (make(), make());
    let both = Anchors::new([one.0.clone(), two.0.clone()]).unwrap();
    assert_eq!(verify_path(&one.1, &[], &both, Usage::Client, 1_500).unwrap(), 0);
    assert_eq!(verify_path(&two.1, &[], &both, Usage::Client, 1_500).unwrap(), 1);
    let left = Anchors::new([two.0]).unwrap();
    assert!(verify_path(&one.1, &[], &left, Usage::Client, 1_500).is_err());
    verify_path(&two.1, &[], &left, Usage::Client, 1_500).unwrap();
}

#[test]
fn r012_a_trust_domain_that_is_no_dns_name_of_an_organisation_is_not_created() {
    let folder = tempfile::tempdir().unwrap();
    let init = |domain: &str| {
        Command::new(binary("touchmark"))
            .args([
                "ca",
                "init",
                "--device",
                "swtpm:host=127.0.0.1,port=9",
                "--trust-domain",
                domain,
                "--dir",
            ])
            .arg(folder.path().join("root"))
            .output()
            .unwrap()
    };
    let long = format!("spiffe://{}.org", "a".repeat(64));
    for domain in [
        "spiffe://localhost",
        "spiffe://a..b",
        &long,
        "spiffe://example.org.",
        "spiffe://192.0.2.1",
    ] {
        let output = init(domain);
        assert_eq!(output.status.code(), Some(1), "{domain}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("--trust-domain"),
            "{domain}"
        );
    }
    // A good name gets as far as the TPM, which is not there.
    assert_eq!(init("spiffe://example.org").status.code(), Some(3));
}

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
    let start = std::time::Instant::now();
    let mut command = dev.command(binary("touchmark"));
    let output = command
        .current_dir(empty.path())
        .args(["workload", "fetch", "x509"])
        .output()
        .unwrap();
    assert!(output.status.success());
    eprintln!("identity after {:?}", start.elapsed());
    assert_eq!(
        fs::read_dir(empty.path()).unwrap().count(),
        0,
        "nothing was needed or left"
    );
    let nobody = dev.system().join("nobody.sock").display().to_string();
    assert_eq!(
        dev.touchmark(&["workload", "fetch", "x509", "--socket", &nobody])
            .status
            .code(),
        Some(3)
    );
}

#[test]
fn c03_the_service_does_not_start_with_a_key_that_could_be_exported() {
    let sim = touchmark_tests::sim::Sim::start(&["--tpm", "1"]);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let tcti = format!("swtpm:host=127.0.0.1,port={}", sim.port(1));
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
    let tool = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(["-T", &tcti])
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let storage = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt";
    tool(
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
    tool(
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
    tool("tpm2_flushcontext", &["-t"]);
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
