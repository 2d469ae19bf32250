//! Whom hosts trust, whom the service trusts, and what neither writes down.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
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
    clock::Clock,
    dev::{Dev, eventually},
    sim::binary,
    wire,
};

pub(crate) struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An agent of its own, configured like the system's first but for what `change` does to the text.
pub(crate) fn agent(dev: &Dev, change: impl FnOnce(String) -> String) -> (Killed, String) {
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

pub(crate) fn status(dev: &Dev, socket: &str) -> serde_json::Value {
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
pub(crate) struct Authority {
    pub(crate) root: touchmark_crypto::x509::Certificate,
    root_key: SoftwareKey,
    leaf_key: Arc<SoftwareKey>,
}

impl Authority {
    pub(crate) fn new() -> Self {
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
    pub(crate) fn server(&self, path: &str) -> Arc<rustls::ServerConfig> {
        let leaf = template(Profile::Leaf, "", &format!("{}{path}", wire::DOMAIN));
        let leaf = issue(&leaf, self.leaf_key.public_key(), &self.root, &self.root_key).unwrap();
        let key = Arc::new(touchmark_custody::InMemory::new(Arc::clone(&self.leaf_key)));
        let held = touchmark_custody::HeldKey::new(key, false, &[touchmark_crypto::Purpose::TlsHandshake]);
        let identity = touchmark_tls::identity(&[leaf, self.root.der.clone()], held);
        let shown = Arc::new(touchmark_tls::Current::new(identity));
        Arc::new(touchmark_tls::server(shown, None).unwrap())
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
fn a_makers_root_that_is_withdrawn_takes_its_chips_along() {
    let dev = Dev::start(&[]);
    assert_eq!(dev.host("host-1")["state"], "attested");
    let other = Authority::new();
    let pem = touchmark_crypto::pem::encode("CERTIFICATE", &other.root.der);
    let roots = dev.file("other-maker.pem", &pem);
    let genuine = dev.description()["tpms"][0]["maker_root"]
        .as_str()
        .unwrap()
        .to_owned();
    let _server = dev.restart_server(|text| {
        assert!(text.contains(&genuine));
        text.replace(&genuine, &roots)
    });
    // The maker is still pinned by its name, and the attestation key is on record: it is the root that counts.
    eventually("no credential for a workload", || {
        !dev.touchmark(&["workload", "fetch", "wit"]).status.success()
    });
    dev.end_agent(1);
    let _agent = dev.start_agent(1);
    eventually("the refusal of the attestation", || {
        dev.json(&["host", "list"])[0]["reason"] == "path_invalid"
    });
    let why = dev.json(&["why", "host-1"]);
    let check = why["check"].as_str().unwrap();
    assert!(check.starts_with("tpm.endorsement_certificate"), "{why}");
    // By its record first, then from the beginning: neither leads to another root.
    let found = why["found"].as_str().unwrap();
    assert!(
        found.contains("no longer pinned")
            || found.contains("no certificate at hand is named like the issuer"),
        "{why}"
    );
    eventually("the end of what it held", || {
        dev.touchmark(&["workload", "fetch", "x509"]).status.code() != Some(0)
    });
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
fn every_channel_of_ours_prefers_the_hybrid_group_and_speaks_nothing_before_tls_13() {
    let dev = Dev::start(&[]);
    let (attest, hosts) = dev.addresses();
    let bundle = dev.description()["service"]["bundle"].as_str().map(str::to_owned);
    for address in [Some(attest), Some(hosts), bundle].into_iter().flatten() {
        let seen = wire::handshake(&address, dev.pin());
        assert_eq!(
            seen,
            (
                rustls::ProtocolVersion::TLSv1_3,
                rustls::NamedGroup::X25519MLKEM768
            ),
            "{address}"
        );
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &address, "-tls1_2"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("alert protocol version"), "{address}: {said}");
    }
}

#[test]
fn clocks_that_differ_a_little_do_no_harm_and_by_more_are_named() {
    let mut clock = Clock::new();
    let environment = clock.environment();
    let environment: Vec<(&str, &str)> = environment
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let dev = Dev::start(&[]);
    dev.end_agent(1);
    dev.forget(1);
    dev.end_server();
    // The service is ahead by less than a minute: what it issues has begun for everybody.
    clock.advance(45);
    let server = dev.start_server_with(&environment, |text| text);
    let agent = dev.start_agent(1);
    eventually("a credential", || {
        dev.touchmark(&["workload", "fetch", "x509"]).status.success()
    });
    let proof = dev.json(&["workload", "prove", "--audience", "https://peer.example.org/"]);
    assert!(proof["wpt"].is_string());
    drop((agent, server));
    // By ten: nothing holds, and the agent says why.
    eventually("the end of both", || {
        dev.touchmark(&["agent", "status"]).status.code() == Some(3)
            && dev.touchmark(&["host", "list"]).status.code() == Some(3)
    });
    clock.advance(600);
    dev.forget(1);
    // Its TLS certificate is made anew, under its own clock.
    let _server = dev.start_server_with(&environment, |text| text);
    let _agent = dev.start_agent(1);
    eventually("the reason", || {
        let socket = dev.description()["hosts"][0]["agent_socket"]
            .as_str()
            .unwrap()
            .to_owned();
        status(&dev, &socket)["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("not valid yet"))
    });
}
