//! A host of the test's own making: speaks the protocol byte by byte, so that it can misbehave.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
};

use rustls::{ClientConnection, StreamOwned, sign::CertifiedKey};
use serde_bytes::ByteBuf;
use touchmark_api::{
    attest::{
        Admission, CHALLENGE_PATH, CHALLENGE_REQUEST, Challenge, ChallengeRequest, EVIDENCE_PATH,
        Introduction, MAX_ANSWER, MESSAGE, Offer,
    },
    device::{Activation, KeyDescription},
    frame,
    host::Push,
};
use touchmark_crypto::{Purpose as KeyPurpose, Secret, mac::MacSha256};
use touchmark_helper::{Device, Exchange, created_key};
use touchmark_identity::TrustDomain;
use touchmark_rats::{PcrSelection, Purpose, cbor, cmw, message_mac_key, tpm};
use touchmark_tls::{Pins, host_client};

/// The trust domain of every system of `touchmark-sim dev`.
pub const DOMAIN: &str = "spiffe://example.org";

mod session;

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header, without the status line, lower case.
    pub header: String,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A refusal with everything that may differ between two of them taken out.
    pub fn without_id(&self) -> (u16, String) {
        let mut problem: serde_json::Value = serde_json::from_slice(&self.body).expect("problem document");
        problem["refusal"] = "ID".into();
        (self.status, problem.to_string())
    }
}

/// Sends one request over TLS to a server that chains to `pin`.
pub fn request(
    address: &str,
    pin: [u8; 32],
    identity: Option<Arc<CertifiedKey>>,
    method: &str,
    path: &str,
    media_type: &str,
    body: &[u8],
) -> Result<Answer, String> {
    let pins = Pins {
        trust_domain: TrustDomain::parse_origin(DOMAIN).expect("domain"),
        roots: vec![pin],
    };
    let attested = identity.is_some();
    let (config, _) = host_client(pins, identity).map_err(|error| error.to_string())?;
    if attested {
        return session::request(address, config, method, path, media_type, body);
    }
    let name = "touchmark.invalid".try_into().expect("name");
    let connection = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    let mut stream = StreamOwned::new(connection, stream);
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.flush())
        .map_err(|error| error.to_string())?;
    // A server that has read enough to refuse may close before it has read all.
    let _ = stream.write_all(body).and_then(|()| stream.flush());
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let (head, _) = text
        .split_once("\r\n\r\n")
        .ok_or_else(|| format!("no answer: {read:?}"))?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or("no status")?;
    let header = head
        .split_once("\r\n")
        .map_or("", |(_, rest)| rest)
        .to_lowercase();
    let body = bytes.get(head.len() + 4..).unwrap_or_default().to_vec();
    Ok(Answer { status, header, body })
}

/// Shakes hands as a host without a certificate; the version and the group that were negotiated.
pub fn handshake(address: &str, pin: [u8; 32]) -> (rustls::ProtocolVersion, rustls::NamedGroup) {
    let pins = Pins {
        trust_domain: TrustDomain::parse_origin(DOMAIN).expect("domain"),
        roots: vec![pin],
    };
    let (mut config, _) = host_client(pins, None).expect("configuration");
    config.alpn_protocols.clear();
    let name = "touchmark.invalid".try_into().expect("name");
    let mut connection = ClientConnection::new(Arc::new(config), name).expect("connection");
    let mut stream = TcpStream::connect(address).expect("a listener");
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).expect("a handshake");
    }
    let group = connection.negotiated_key_exchange_group().expect("a group");
    (connection.protocol_version().expect("a version"), group.name())
}

/// What `wanted` takes of a host's stream.
pub fn pushed<T>(
    address: &str,
    pin: [u8; 32],
    identity: Arc<CertifiedKey>,
    wanted: impl Fn(Push) -> Option<T>,
) -> Result<T, String> {
    let pins = Pins {
        trust_domain: TrustDomain::parse_origin(DOMAIN).expect("domain"),
        roots: vec![pin],
    };
    let (config, _) = host_client(pins, Some(identity)).map_err(|error| error.to_string())?;
    session::pushed(address, config, wanted)
}

/// Attests again as often as `count` says over one session, each time that a challenge is pushed; how long each took from the
/// challenge to the answer.
pub fn reattestations(
    address: &str,
    pin: [u8; 32],
    identity: Arc<CertifiedKey>,
    count: usize,
    message: impl Fn(&Challenge) -> Vec<u8>,
) -> Vec<std::time::Duration> {
    let pins = Pins {
        trust_domain: TrustDomain::parse_origin(DOMAIN).expect("domain"),
        roots: vec![pin],
    };
    let (config, _) = host_client(pins, Some(identity)).expect("configuration");
    session::reattestations(address, config, count, message).expect("a session")
}

/// A host between its first and its second message.
pub struct Visit {
    /// The challenge it was given.
    pub challenge: Challenge,
    /// Public area of its attestation key, where it introduced itself by endorsement keys.
    pub attestation_public: Option<Vec<u8>>,
    /// The activated secret.
    pub secret: Option<Secret>,
}

/// Introduces a device by its endorsement keys and activates the secret.
pub fn introduce(address: &str, pin: [u8; 32], device: &Device) -> Visit {
    let opening = touchmark_helper::opening(device, DOMAIN).expect("opening");
    introduce_by(address, pin, device, &opening)
}

/// Introduces a device by this first message.
pub fn introduce_by(address: &str, pin: [u8; 32], device: &Device, opening: &tpm::TpmOpening) -> Visit {
    let public = opening.attestation.public.to_vec();
    let challenge = challenge(
        address,
        pin,
        Introduction::Opening(ByteBuf::from(cbor::encode(opening))),
    );
    let sealed = challenge.activation.clone().expect("an activation");
    let secret = device
        .activate(Activation {
            trust_domain: DOMAIN.into(),
            endorsement_name: sealed.endorsement_name,
            credential_blob: sealed.credential_blob,
            encrypted_secret: sealed.encrypted_secret,
        })
        .expect("activation");
    Visit {
        challenge,
        attestation_public: Some(public),
        secret: Some(secret),
    }
}

/// Asks for a challenge.
pub fn challenge(address: &str, pin: [u8; 32], introduction: Introduction) -> Challenge {
    let request_body = cbor::encode(&ChallengeRequest {
        media_type: tpm::MEDIA_TYPE.to_owned(),
        introduction,
    });
    let answer = request(
        address,
        pin,
        None,
        "POST",
        CHALLENGE_PATH,
        CHALLENGE_REQUEST,
        &request_body,
    )
    .expect("an answer");
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    cbor::decode(&answer.body, MAX_ANSWER).expect("challenge")
}

/// The parts of a second message.
#[derive(Clone)]
pub struct Parts {
    /// Cookie.
    pub cookie: Vec<u8>,
    /// Offer.
    pub offer: Vec<u8>,
    /// Evidence, wrapped.
    pub evidence: Vec<u8>,
    /// Log.
    pub log: Vec<u8>,
    /// What was measured at run time.
    pub runtime: Vec<u8>,
    /// Results of other verifiers.
    pub results: Vec<u8>,
}

impl Parts {
    fn enclosed(&self) -> frame::Enclosed<'_> {
        frame::Enclosed {
            log: &self.log,
            runtime: &self.runtime,
            results: &self.results,
        }
    }

    /// The message, with the MAC that the secret gives.
    pub fn message(&self, visit: &Visit) -> Vec<u8> {
        let body = frame::encode(&self.cookie, &self.offer, &self.evidence, self.enclosed());
        let mac = visit.secret.as_ref().map(|secret| {
            let key = message_mac_key(secret, &visit.challenge.id.into_array()).expect("key");
            let mut mac = MacSha256::new(&key);
            mac.update(&body);
            mac.finish().to_vec()
        });
        frame::finish(body, &mac.unwrap_or_default())
    }
}

/// A message up to its MAC, whose length is 32 bytes.
pub fn frame_of(parts: &Parts) -> Vec<u8> {
    let body = frame::encode(&parts.cookie, &parts.offer, &parts.evidence, parts.enclosed());
    let mut message = frame::finish(body, &[0; 32]);
    message.truncate(message.len() - 32);
    message
}

/// Evidence for a visit, with a fresh host key; `anchor` is what the host believes the channel ended in.
pub fn evidence(device: &Device, visit: &Visit, anchor: [u8; 32]) -> (Parts, KeyDescription) {
    let selection = PcrSelection::from_wire(&visit.challenge.selection).expect("selection");
    let key = device
        .create_key(Some(&selection.without_runtime()))
        .expect("key");
    let offer = cbor::encode(&Offer {
        attestation_public: visit.attestation_public.clone().map(ByteBuf::from),
        key: key.public.clone(),
    });
    let exchange = Exchange {
        purpose: Purpose::Enrol,
        trust_domain: DOMAIN,
        anchor,
        challenge_id: visit.challenge.id.into_array(),
        nonce: visit.challenge.nonce.into_array(),
        cookie: &visit.challenge.cookie,
        selection: &selection,
        log_offsets: &visit.challenge.log_offsets,
    };
    let evidence = touchmark_helper::evidence(device, &exchange, &offer, &[&key]).expect("evidence");
    let log = device.boot_log().expect("log");
    let runtime = match visit.challenge.log_offsets.get(1) {
        None => Vec::new(),
        Some(from) => device.runtime_list(*from, frame::MAX_RUNTIME).expect("list"),
    };
    let evidence = cmw::Record::evidence(tpm::MEDIA_TYPE, cbor::encode(&evidence)).to_cbor();
    (
        Parts {
            cookie: visit.challenge.cookie.to_vec(),
            offer,
            evidence,
            log,
            runtime,
            results: Vec::new(),
        },
        key,
    )
}

/// The identity of a host that was admitted.
pub fn identity(device: &Device, admission: &Admission, key: &KeyDescription) -> Arc<CertifiedKey> {
    let held = created_key(device, key, &[KeyPurpose::TlsHandshake]).expect("a key");
    let chain: Vec<Vec<u8>> = admission.chain.iter().map(|der| der.to_vec()).collect();
    touchmark_tls::identity(&chain, held)
}

/// Sends a second message.
pub fn send(address: &str, pin: [u8; 32], message: &[u8]) -> Answer {
    request(address, pin, None, "POST", EVIDENCE_PATH, MESSAGE, message).expect("an answer")
}
