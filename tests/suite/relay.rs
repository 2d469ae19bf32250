//! Somebody between a host and the service, who forwards everything and keeps a copy.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use rustls::{ServerConnection, StreamOwned};
use touchmark_api::{
    attest::Admission,
    host::{ISSUE_PATH, REGISTRATIONS_PATH},
};
use touchmark_crypto::{Purpose, SigningAlg, SoftwareKey};
use touchmark_custody::{HeldKey, InMemory};
use touchmark_rats::cbor;
use touchmark_tests::{
    dev::{Dev, eventually},
    sim::device,
    wire,
};

use crate::trust::{Authority, agent, status};

/// Forwards every connection to one address and keeps what clients sent, a record per connection, and what servers said.
struct Wiretap {
    address: String,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
    answered: Arc<Mutex<Vec<u8>>>,
}

impl Wiretap {
    /// Serves until the test's process ends.
    fn before(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tap = Self {
            address: listener.local_addr().unwrap().to_string(),
            sent: Arc::default(),
            answered: Arc::default(),
        };
        let (sent, answered) = (Arc::clone(&tap.sent), Arc::clone(&tap.answered));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&target)) else {
                    continue;
                };
                let record = {
                    let mut sent = sent.lock().unwrap();
                    sent.push(Vec::new());
                    sent.len() - 1
                };
                let sent = Arc::clone(&sent);
                forward(&client, &server, move |bytes| {
                    sent.lock().unwrap()[record].extend_from_slice(bytes);
                });
                let answered = Arc::clone(&answered);
                forward(&server, &client, move |bytes| {
                    answered.lock().unwrap().extend_from_slice(bytes);
                });
            }
        });
        tap
    }
}

fn forward(from: &TcpStream, to: &TcpStream, keep: impl Fn(&[u8]) + Send + 'static) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    std::thread::spawn(move || {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            keep(&buffer[..read]);
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn e15_a_wire_that_forwards_everything_shows_nothing_and_cannot_be_played_again() {
    let dev = Dev::start(&[]);
    let (attest, hosts) = dev.addresses();
    let (at_attest, at_hosts) = (Wiretap::before(attest.clone()), Wiretap::before(hosts.clone()));
    let (_agent, socket) = agent(&dev, |text| {
        text.replace(&attest, &at_attest.address)
            .replace(&hosts, &at_hosts.address)
    });
    eventually("an attestation over the wire", || {
        status(&dev, &socket)["state"] == "attested"
    });
    let x509 = dev.json(&["workload", "fetch", "x509", "--socket", &socket]);
    let chain =
        touchmark_crypto::pem::decode_all("CERTIFICATE", x509["chain_pem"].as_str().unwrap()).unwrap();
    // What agents obtain ahead of need is there before anything is counted.
    eventually("both credentials of both agents", || {
        let issued = dev.events("credential.issued");
        let of = |kind: &str| {
            let is = |event: &&serde_json::Value| event["detail"].as_str().unwrap().starts_with(kind);
            issued.iter().filter(is).count()
        };
        of("x509 ") >= 2 && of("wit ") >= 2
    });
    for (tap, target) in [(&at_attest, &attest), (&at_hosts, &hosts)] {
        let sent = tap.sent.lock().unwrap().clone();
        let answered = tap.answered.lock().unwrap().clone();
        assert!(!sent.is_empty() && sent.concat().len() > 1_000 && answered.len() > 1_000);
        for bytes in sent.iter().chain([&answered]) {
            for secret in [
                &b"example.org"[..],
                b"touchmark",
                b"vnd.touchmark",
                &chain[0][..64],
                &dev.pin(),
            ] {
                assert!(!holds(bytes, secret), "{}", String::from_utf8_lossy(secret));
            }
        }
        // Every connection again, byte by byte: there are no tickets and no early data, so it is a handshake that its
        // server does not finish.
        let before = dev.trail().len();
        for bytes in &sent {
            let mut stream = TcpStream::connect(target).unwrap();
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
        let mut after = dev.trail();
        after.truncate(after.len() - before);
        assert!(after.is_empty(), "nothing was issued or refused: {after:?}");
    }
}

#[test]
fn e15_whoever_sends_a_hosts_evidence_over_a_channel_of_his_own_can_use_no_answer_to_it() {
    let dev = Dev::start(&[]);
    // A bare TPM has too few slots for two.
    dev.end_agent(1);
    let (attest, hosts) = dev.addresses();
    let pin = dev.pin();
    let host = device(&dev.description()["tpms"][0]);
    let visit = wire::introduce(&attest, pin, &host);
    let (parts, key) = wire::evidence(&host, &visit, pin);
    let message = parts.message(&visit);
    // The relay has both messages of the host, and sends the second one first.
    let answer = wire::send(&attest, pin, &message);
    assert_eq!(answer.status, 200);
    let admission: Admission = cbor::decode(&answer.body, 1 << 20).unwrap();
    // Only the attested key is certified, and that key answers in its TPM only.
    let leaf = touchmark_crypto::x509::Certificate::parse(&admission.chain[0]).unwrap();
    assert_eq!(leaf.spki, key.spki.to_vec());
    let own = Arc::new(InMemory::new(SoftwareKey::generate(SigningAlg::Es256).unwrap()));
    let held = HeldKey::new(own, false, &[Purpose::TlsHandshake]);
    let chain: Vec<Vec<u8>> = admission.chain.iter().map(|der| der.to_vec()).collect();
    let posing = touchmark_tls::identity(&chain, held);
    for (method, path) in [("GET", REGISTRATIONS_PATH), ("POST", ISSUE_PATH)] {
        let asked = wire::request(&hosts, pin, Some(Arc::clone(&posing)), method, path, "x/y", b"");
        assert!(asked.is_err(), "{path}: {asked:?}");
    }
    // A key of its own in the place of the host's: the MAC is keyed by what only the host's TPM could open.
    let mut swapped = parts;
    let at = swapped
        .offer
        .windows(16)
        .position(|window| window == &key.public[key.public.len() - 16..])
        .unwrap();
    swapped.offer[at] ^= 1;
    let mut without_secret = wire::frame_of(&swapped);
    without_secret.extend_from_slice(&message[message.len() - 32..]);
    assert_eq!(wire::send(&attest, pin, &without_secret).status, 403);
    // The host itself loses nothing by it: its own message gets the very answer.
    assert_eq!(wire::send(&attest, pin, &message).body, answer.body);
}

#[test]
fn e29_a_host_makes_no_evidence_for_a_challenge_that_came_through_another_server() {
    let dev = Dev::start(&[]);
    let (attest, _) = dev.addresses();
    let pin = dev.pin();
    // A server whose root the host pins as well, for the same trust domain: it hands on what the real one says.
    let rogue = Authority::new();
    let config = rogue.server("/touchmark/server");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = Arc::clone(&asked);
    let target = attest.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream.unwrap());
            let Some((path, media_type, body)) = request(&mut stream) else {
                continue;
            };
            heard.lock().unwrap().push(path.clone());
            let answer = wire::request(&target, pin, None, "POST", &path, &media_type, &body).unwrap();
            let head = format!(
                "HTTP/1.1 {} X\r\n{}\r\n\r\n",
                answer.status,
                answer.header.replace("transfer-encoding: chunked\r\n", "")
            );
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&answer.body);
            let _ = stream.flush();
        }
    });
    let pins = format!(
        "\"{}\", \"{}\"",
        hex::encode(pin),
        hex::encode(rogue.root.spki_digest())
    );
    let (_agent, socket) = agent(&dev, |text| {
        text.replace(&format!("\"{}\"", hex::encode(pin)), &pins)
            .replace(&attest, &address)
    });
    eventually("the agent's refusal of the challenge", || {
        status(&dev, &socket)["state"] == "unavailable"
    });
    let detail = status(&dev, &socket)["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("names another anchor"), "{detail}");
    // It was asked for challenges and for nothing else: no evidence was made.
    let asked = asked.lock().unwrap();
    assert!(
        !asked.is_empty() && asked.iter().all(|path| path.ends_with("/challenge")),
        "{asked:?}"
    );
}

/// Path, media type and body of a request.
fn request(stream: &mut impl Read) -> Option<(String, String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let field = |name: &str| {
                head.lines().find_map(|line| {
                    line.to_lowercase()
                        .strip_prefix(name)
                        .map(str::trim)
                        .map(str::to_owned)
                })
            };
            let length: usize = field("content-length:")?.parse().ok()?;
            let body = bytes.get(head.len() + 4..)?;
            if body.len() >= length {
                let path = head.split(' ').nth(1)?.to_owned();
                return Some((path, field("content-type:")?, body.to_vec()));
            }
        }
        match stream.read(&mut buffer) {
            Ok(read @ 1..) => bytes.extend_from_slice(&buffer[..read]),
            _ => return None,
        }
    }
}
