//! The attestation protocol against a running service, by hosts of the test's own making.

use std::sync::{Arc, Barrier};

use serde_bytes::ByteBuf;
use touchmark_api::{
    attest::{ADMISSION, Admission, CHALLENGE_PATH, CHALLENGE_REQUEST, EVIDENCE_PATH, Introduction, MESSAGE},
    host::{ISSUE_PATH, REGISTRATIONS_PATH},
};
use touchmark_crypto::{Secret, x509::Certificate};
use touchmark_rats::cbor;
use touchmark_tests::{
    dev::{Dev, eventually},
    sim::{Sim, device},
    wire::{self, Answer, Visit},
};

/// A system, its address and pin, and the device of its first host.
struct Scene {
    dev: Dev,
    address: String,
    pin: [u8; 32],
    device: touchmark_helper::Device,
}

/// The agent gives way: a bare TPM has too few slots for two.
fn scene(arguments: &[&str]) -> Scene {
    let dev = Dev::start(arguments);
    dev.end_agent(1);
    let (address, _) = dev.addresses();
    let pin = dev.pin();
    let device = device(&dev.description()["tpms"][0]);
    Scene {
        dev,
        address,
        pin,
        device,
    }
}

impl Scene {
    fn visit(&self) -> Visit {
        wire::introduce(&self.address, self.pin, &self.device)
    }

    fn send(&self, message: &[u8]) -> Answer {
        wire::send(&self.address, self.pin, message)
    }

    fn issued_to_host(&self) -> usize {
        self.dev.events("host.attested").len()
    }
}

fn admission(answer: &Answer) -> Admission {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert!(answer.header.contains(ADMISSION));
    cbor::decode(&answer.body, 1 << 20).unwrap()
}

#[test]
fn e12_w11_one_message_is_answered_once_and_the_same_bytes_get_the_same_answer() {
    let scene = scene(&[]);
    let before = scene.issued_to_host();
    let visit = scene.visit();
    let (parts, _) = wire::evidence(&scene.device, &visit, scene.pin);
    let message = parts.message(&visit);
    // Serially: the answer was lost, the same bytes come again.
    let first = scene.send(&message);
    admission(&first);
    assert_eq!(scene.send(&message).body, first.body);
    // Another message under the same challenge whose evidence is nobody's: refused, and the stored answer stays.
    let (mut other, _) = wire::evidence(&scene.device, &visit, scene.pin);
    let last = other.evidence.len() - 1;
    other.evidence[last] ^= 1;
    let refused = scene.send(&other.message(&visit));
    assert_eq!(refused.status, 403);
    assert_eq!(scene.send(&message).body, first.body);
    assert_eq!(scene.issued_to_host(), before + 1);
}

#[test]
fn e21_a_challenge_that_is_answered_twice_by_one_device_makes_its_host_suspect() {
    let scene = scene(&[]);
    let visit = scene.visit();
    let (parts, _) = wire::evidence(&scene.device, &visit, scene.pin);
    admission(&scene.send(&parts.message(&visit)));
    // No agent signs twice under one nonce: there are two of this device.
    let (other, _) = wire::evidence(&scene.device, &visit, scene.pin);
    assert_eq!(scene.send(&other.message(&visit)).status, 403);
    let host = scene.dev.host("host-1");
    assert_eq!(host["state"], "suspect", "{host}");
    assert_eq!(scene.dev.json(&["why", "host-1"])["reason"], "nonce_reused");
    // It gets nothing more, not even the answer that was stored, whoever of the two asks.
    assert_eq!(scene.send(&parts.message(&visit)).status, 403);
    let Scene { dev, device, .. } = scene;
    drop(device);
    let _agent = dev.start_agent(1);
    eventually("the agent is told", || {
        dev.touchmark(&["workload", "fetch", "x509"]).status.code() == Some(1)
    });
}

#[test]
fn e12_a_message_sent_many_times_at_once_leads_to_one_issuance() {
    let scene = scene(&[]);
    let before = scene.issued_to_host();
    let visit = scene.visit();
    let (parts, _) = wire::evidence(&scene.device, &visit, scene.pin);
    let message = Arc::new(parts.message(&visit));
    let barrier = Arc::new(Barrier::new(32));
    let senders: Vec<_> = (0..32)
        .map(|_| {
            let (message, barrier) = (Arc::clone(&message), Arc::clone(&barrier));
            let (address, pin) = (scene.address.clone(), scene.pin);
            std::thread::spawn(move || {
                barrier.wait();
                wire::send(&address, pin, &message)
            })
        })
        .collect();
    let answers: Vec<Answer> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
    admission(&answers[0]);
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    assert_eq!(scene.issued_to_host(), before + 1);
}

#[test]
fn e08_r097_strangers_and_wrong_secrets_learn_nothing_but_an_id() {
    let scene = scene(&["--tpm", "2"]);
    let mut visit = scene.visit();
    let (parts, _) = wire::evidence(&scene.device, &visit, scene.pin);
    visit.secret = Some(Secret::new(vec![9; 32]));
    let wrong_secret = scene.send(&parts.message(&visit));
    let mut flipped = parts;
    flipped.cookie[40] ^= 1;
    let wrong_cookie = scene.send(&flipped.message(&visit));
    let nonsense = scene.send(b"nonsense");
    let empty = scene.send(b"");
    let pin = scene.pin;
    let ask = |method: &str, path: &str, media: &str, body: &[u8]| {
        wire::request(&scene.address, pin, None, method, path, media, body).unwrap()
    };
    let no_such_path = ask("GET", "/v1/hosts", "text/plain", b"");
    let wrong_media = ask("POST", CHALLENGE_PATH, "application/json", b"{}");
    let no_cbor = ask("POST", CHALLENGE_PATH, CHALLENGE_REQUEST, b"\xff");
    let oversized = ask("POST", CHALLENGE_PATH, CHALLENGE_REQUEST, &vec![0; 20 * 1024]);
    let all = [
        &wrong_secret,
        &wrong_cookie,
        &nonsense,
        &empty,
        &no_such_path,
        &wrong_media,
        &no_cbor,
        &oversized,
    ];
    for answer in all {
        assert_eq!(answer.without_id(), wrong_secret.without_id());
        let text = format!("{} {}", answer.header, String::from_utf8_lossy(&answer.body));
        for word in [
            "example.org",
            "spiffe",
            "touchmark",
            env!("CARGO_PKG_VERSION"),
            "mac",
            "cookie",
        ] {
            assert!(!text.contains(word), "{word}: {text}");
        }
    }
    // Nothing was consumed, stored or changed: the right secret still works.
    assert_eq!(scene.dev.host("host-1")["refusal"], serde_json::Value::Null);
    let visit = scene.visit();
    let (parts, _) = wire::evidence(&scene.device, &visit, scene.pin);
    admission(&scene.send(&parts.message(&visit)));
}

#[test]
fn e13_a_challenge_of_one_host_or_server_is_of_no_use_to_another() {
    let scene = scene(&["--tpm", "2"]);
    let second = device(&scene.dev.description()["tpms"][1]);
    let visit_one = scene.visit();
    let mut visit_two = wire::introduce(&scene.address, scene.pin, &second);
    // Host 2 answers host 1's challenge with its own secret and evidence.
    visit_two.challenge = visit_one.challenge.clone();
    let (parts, _) = wire::evidence(&second, &visit_two, scene.pin);
    assert_eq!(scene.send(&parts.message(&visit_two)).status, 403);
    // Even with host 1's secret, the attestation key is not the one that the challenge names.
    visit_two.secret = visit_one.secret;
    assert_eq!(scene.send(&parts.message(&visit_two)).status, 403);
    // Another server knows nothing of it.
    let other = Dev::start(&[]);
    let (address, _) = other.addresses();
    let visit = scene.visit();
    let (parts, _) = wire::evidence(&scene.device, &visit, scene.pin);
    assert_eq!(
        wire::send(&address, other.pin(), &parts.message(&visit)).status,
        403
    );
    admission(&scene.send(&parts.message(&visit)));
}

#[test]
fn e29_evidence_made_for_another_anchor_is_refused_with_the_reason() {
    let scene = scene(&[]);
    let visit = scene.visit();
    // A relay stands between: the host saw another root than the server's.
    let (parts, _) = wire::evidence(&scene.device, &visit, [0xee; 32]);
    let answer = scene.send(&parts.message(&visit));
    assert_eq!(answer.status, 403);
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let why = scene.dev.json(&["why", problem["refusal"].as_str().unwrap()]);
    assert_eq!(why["reason"], "nonce_mismatch");
    assert_eq!(why["check"], "tpm.quote.binding");
}

#[test]
fn e07_an_endorsement_key_that_nobody_enrolled_gets_a_challenge_and_is_refused_unread() {
    let scene = scene(&[]);
    let stranger = Sim::start(&["--tpm", "1"]);
    let unknown = stranger.device(1);
    let visit = wire::introduce(&scene.address, scene.pin, &unknown);
    let (parts, _) = wire::evidence(&unknown, &visit, scene.pin);
    assert_eq!(scene.send(&parts.message(&visit)).status, 403);
    assert_eq!(scene.dev.json(&["host", "list"]).as_array().unwrap().len(), 1);
    let pending = scene.dev.json(&["host", "list", "--pending"]);
    let pending = pending.as_array().unwrap();
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0]["state"], "pending");
    assert!(
        pending[0]["note"].as_str().unwrap().contains("path_invalid"),
        "{pending:?}"
    );
    // The operator enrols it by the digest that is shown; it has no certificate of a pinned maker: still refused, since
    // a certificate that does not hold is worse than none.
    let digest = pending[0]["ek_digest"].as_str().unwrap();
    assert!(
        scene
            .dev
            .touchmark(&["host", "enrol", "--name", "new", "--ek-digest", digest])
            .status
            .success()
    );
    let visit = wire::introduce(&scene.address, scene.pin, &unknown);
    let (parts, _) = wire::evidence(&unknown, &visit, scene.pin);
    assert_eq!(scene.send(&parts.message(&visit)).status, 403);
    assert_eq!(scene.dev.host("new")["reason"], "path_invalid");
}

#[test]
fn e09_a_name_or_endorsement_key_that_is_enrolled_cannot_be_enrolled_again() {
    let scene = scene(&[]);
    let before = scene.dev.host("host-1");
    let certificate = scene.dev.description()["tpms"][0]["ek_certs"][0]
        .as_str()
        .unwrap()
        .to_owned();
    let digest = "ab".repeat(32);
    for arguments in [
        ["host", "enrol", "--name", "host-1", "--ek-digest", &digest],
        ["host", "enrol", "--name", "other", "--ek-cert", &certificate],
    ] {
        let output = scene.dev.touchmark(&arguments);
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            text.contains("enrolled already") && text.contains("nothing was changed"),
            "{text}"
        );
    }
    assert_eq!(scene.dev.host("host-1"), before);
    assert_eq!(scene.dev.json(&["host", "list"]).as_array().unwrap().len(), 1);
}

#[test]
fn e09_one_tpm_is_not_two_hosts() {
    let scene = scene(&[]);
    // Two endorsement keys of one TPM, pinned by digest for two hosts.
    let sim = Sim::start(&["--tpm", "1"]);
    let device = sim.device(1);
    let visit_as = |nth: usize, name: &str| {
        let mut opening = touchmark_helper::opening(&device, wire::DOMAIN).unwrap();
        let mut endorsement = opening.endorsements.swap_remove(nth);
        let certificate = Certificate::parse(&endorsement.certificate.take().unwrap()).unwrap();
        let digest = hex::encode(certificate.spki_digest());
        let arguments = ["host", "enrol", "--name", name, "--ek-digest", &digest];
        assert!(scene.dev.touchmark(&arguments).status.success());
        opening.endorsements = vec![endorsement];
        let visit = wire::introduce_by(&scene.address, scene.pin, &device, &opening);
        let (parts, _) = wire::evidence(&device, &visit, scene.pin);
        scene.send(&parts.message(&visit))
    };
    admission(&visit_as(0, "one"));
    let answer = visit_as(1, "two");
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let why = scene.dev.json(&["why", problem["refusal"].as_str().unwrap()]);
    assert_eq!(why["reason"], "attestation_key_mismatch", "{why}");
    assert_eq!(scene.dev.host("one")["state"], "attested");
    assert_ne!(scene.dev.host("two")["state"], "attested");
}

#[test]
fn a13_listeners_for_hosts_answer_nobody_without_a_host_certificate() {
    let scene = scene(&[]);
    let (_, hosts) = scene.dev.addresses();
    for (method, path) in [("GET", REGISTRATIONS_PATH), ("POST", ISSUE_PATH)] {
        let answer = wire::request(&hosts, scene.pin, None, method, path, MESSAGE, b"");
        assert!(answer.is_err(), "{answer:?}");
    }
    // A challenge that a host had before is of no use at the other listener's paths either.
    let answer = wire::request(&scene.address, scene.pin, None, "POST", ISSUE_PATH, MESSAGE, b"").unwrap();
    assert_eq!(answer.status, 403);
}

#[test]
fn a_known_attestation_key_needs_no_activation_and_an_unknown_one_is_refused_unread() {
    let scene = scene(&[]);
    let public = scene.device.attestation_key(wire::DOMAIN).unwrap().public;
    let name = [&[0, 0x0b][..], &touchmark_crypto::sha256(&[&public])].concat();
    let ask = |name: Vec<u8>| {
        let challenge = wire::challenge(
            &scene.address,
            scene.pin,
            Introduction::Known(ByteBuf::from(name)),
        );
        assert!(challenge.activation.is_none());
        Visit {
            challenge,
            attestation_public: None,
            secret: None,
        }
    };
    let visit = ask(name.clone());
    let (parts, _) = wire::evidence(&scene.device, &visit, scene.pin);
    admission(&scene.send(&parts.message(&visit)));
    let visit = ask([&[0, 0x0b][..], &[7; 32]].concat());
    let (parts, _) = wire::evidence(&scene.device, &visit, scene.pin);
    assert_eq!(scene.send(&parts.message(&visit)).status, 403);
    // Without a MAC an altered quote is a stranger's: nothing is stored, the challenge is not consumed.
    let visit = ask(name);
    let (parts, _) = wire::evidence(&scene.device, &visit, scene.pin);
    let mut altered = parts.clone();
    // The quote comes first in the evidence: this is inside it.
    altered.evidence[150] ^= 1;
    assert_eq!(scene.send(&altered.message(&visit)).status, 403);
    assert_eq!(scene.dev.host("host-1")["state"], "attested");
    admission(&scene.send(&parts.message(&visit)));
}

#[test]
fn truncated_oversized_and_trailing_messages_are_refused_and_others_are_served() {
    let scene = scene(&[]);
    let visit = scene.visit();
    let (parts, _) = wire::evidence(&scene.device, &visit, scene.pin);
    let message = parts.message(&visit);
    for cut in [1, 3, 4, 100, message.len() / 2, message.len() - 1] {
        assert_eq!(scene.send(&message[..cut]).status, 403, "cut at {cut}");
    }
    assert_eq!(scene.send(&[message.clone(), vec![0]].concat()).status, 403);
    let mut oversized = parts;
    oversized.offer = vec![0; 13 * 1024];
    assert_eq!(scene.send(&oversized.message(&visit)).status, 403);
    // A connection that stalls in the middle of its message holds up nobody.
    let stalled = std::net::TcpStream::connect(&scene.address).unwrap();
    admission(&scene.send(&message));
    drop(stalled);
    assert_eq!(
        wire::request(
            &scene.address,
            scene.pin,
            None,
            "POST",
            EVIDENCE_PATH,
            "x/y",
            &message
        )
        .unwrap()
        .status,
        403
    );
}
