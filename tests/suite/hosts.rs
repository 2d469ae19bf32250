//! Attested hosts of the test's own making, at the mutual-TLS listener: what one host may not have of another.

use std::sync::Arc;

use rustls::sign::CertifiedKey;
use touchmark_api::{
    attest::{Admission, Challenge, MESSAGE},
    device::{KeyDescription, TokenKeyKind},
    frame,
    host::{Assignments, ISSUE_PATH, IssueOffer, REGISTRATIONS_PATH, RENEW_PATH},
};
use touchmark_crypto::Purpose as KeyPurpose;
use touchmark_helper::{Device, Exchange, Token, created_key};
use touchmark_rats::{
    PcrSelection, Purpose, cbor, cmw,
    token::{self, TokenReport},
    tpm,
};
use touchmark_tests::{
    dev::Dev,
    modules::{Module, PIN},
    sim::device,
    wire::{self, Answer},
};

/// A host with a certificate.
pub(crate) struct Attested {
    address: String,
    pin: [u8; 32],
    device: Device,
    identity: Arc<CertifiedKey>,
}

/// A host that was just admitted.
pub(crate) fn attested(dev: &Dev, device: &Device, admission: &Admission, key: &KeyDescription) -> Attested {
    let held = created_key(device, key, &[KeyPurpose::TlsHandshake]).unwrap();
    let chain: Vec<Vec<u8>> = admission.chain.iter().map(|der| der.to_vec()).collect();
    let (_, address) = dev.addresses();
    Attested {
        address,
        pin: dev.pin(),
        device: device.clone(),
        identity: touchmark_tls::identity(&chain, held),
    }
}

/// Attests device `n` of a system, in its agent's place: a bare TPM has too few slots for two.
fn attest(dev: &Dev, n: usize) -> Attested {
    dev.end_agent(n);
    let device = device(&dev.description()["tpms"][n - 1]);
    let (address, _) = dev.addresses();
    let visit = wire::introduce(&address, dev.pin(), &device);
    let (parts, key) = wire::evidence(&device, &visit, dev.pin());
    let answer = wire::send(&address, dev.pin(), &parts.message(&visit));
    let admission: Admission = cbor::decode(&answer.body, 1 << 20).unwrap();
    attested(dev, &device, &admission, &key)
}

impl Attested {
    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let identity = Some(Arc::clone(&self.identity));
        wire::request(&self.address, self.pin, identity, method, path, MESSAGE, body).unwrap()
    }

    fn challenge(&self) -> Challenge {
        let answer = self.ask("GET", REGISTRATIONS_PATH, b"");
        cbor::decode::<Assignments>(&answer.body, 1 << 20)
            .unwrap()
            .challenge
    }

    /// A message for a new key of `key_device`, certified by that device.
    fn message(&self, challenge: &Challenge, key_device: &Device, registration: &str, kind: &str) -> Vec<u8> {
        let key = key_device.create_key(None).unwrap();
        self.message_for(challenge, key_device, &key, registration, kind)
    }

    fn exchange<'a>(&self, challenge: &'a Challenge, nothing: &'a PcrSelection) -> Exchange<'a> {
        Exchange {
            purpose: Purpose::Workload,
            trust_domain: wire::DOMAIN,
            anchor: self.pin,
            challenge_id: challenge.id.into_array(),
            nonce: challenge.nonce.into_array(),
            cookie: &challenge.cookie,
            selection: nothing,
            log_offsets: &challenge.log_offsets,
        }
    }

    fn message_for(
        &self,
        challenge: &Challenge,
        key_device: &Device,
        key: &KeyDescription,
        registration: &str,
        kind: &str,
    ) -> Vec<u8> {
        let offer = cbor::encode(&IssueOffer {
            registration: registration.into(),
            kind: kind.into(),
            key: key.public.clone(),
        });
        let nothing = PcrSelection(Vec::new());
        let exchange = self.exchange(challenge, &nothing);
        let evidence = touchmark_helper::evidence(key_device, &exchange, &offer, &[key]).unwrap();
        framed(challenge, &offer, tpm::MEDIA_TYPE, cbor::encode(&evidence))
    }

    /// Asks for a credential for a key in a token, of which this is said; status and refusal id.
    fn report(&self, path: &str, registration: &str, token: &Token, report: &TokenReport) -> (u16, String) {
        let challenge = self.challenge();
        let offer = cbor::encode(&IssueOffer {
            registration: registration.into(),
            kind: "x509".into(),
            key: cbor::encode(report).into(),
        });
        let nothing = PcrSelection(Vec::new());
        let exchange = self.exchange(&challenge, &nothing);
        let proof = touchmark_helper::token_possession(token, &exchange, &offer, &report.key).unwrap();
        let message = framed(&challenge, &offer, token::MEDIA_TYPE, cbor::encode(&proof));
        let answer = self.ask("POST", path, &message);
        (answer.status, refusal(&answer))
    }

    /// Asks for a credential for a key of its own; status and refusal id.
    pub(crate) fn issue(&self, registration: &str, kind: &str) -> (u16, String) {
        let challenge = self.challenge();
        let answer = self.ask(
            "POST",
            ISSUE_PATH,
            &self.message(&challenge, &self.device, registration, kind),
        );
        (answer.status, refusal(&answer))
    }
}

/// A request for a credential with its evidence.
fn framed(challenge: &Challenge, offer: &[u8], media_type: &str, evidence: Vec<u8>) -> Vec<u8> {
    let evidence = cmw::Record::evidence(media_type, evidence).to_cbor();
    let body = frame::encode(&challenge.cookie, offer, &evidence, frame::Enclosed::default());
    frame::finish(body, &[])
}

fn refusal(answer: &Answer) -> String {
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    problem["refusal"].as_str().unwrap_or_default().to_owned()
}

/// A registration for one host only.
fn register(dev: &Dev, name: &str, host: &str) {
    let file = dev.file(
        &format!("{name}.toml"),
        &format!(
            "label = \"{name}\"\n[[registration]]\nname = \"{name}\"\nidentifier = \"spiffe://example.org/{name}\"\n\
             host = {{ names = [\"{host}\"] }}\nworkload = {{ uid = 1 }}\nkinds = [\"x509\"]\ncustody = [\"hardware\"]\n"
        ),
    );
    assert!(
        dev.touchmark(&["registration", "apply", "--file", &file])
            .status
            .success()
    );
}

#[test]
fn a01_a_host_cannot_ask_for_what_is_registered_for_another_or_not_at_all() {
    let dev = Dev::start(&["--tpm", "2"]);
    register(&dev, "one", "host-1");
    register(&dev, "two", "host-2");
    let (first, second) = (attest(&dev, 1), attest(&dev, 2));
    assert_eq!(first.issue("one/one", "x509").0, 200);
    assert_eq!(second.issue("two/two", "x509").0, 200);
    for (host, registration, kind, reason) in [
        (&first, "two/two", "x509", "no_registration"),
        (&second, "one/one", "x509", "no_registration"),
        (&first, "none/none", "x509", "no_registration"),
        (&first, "one/one", "wit", "kind_not_allowed"),
        (&first, "one/one", "root", "kind_not_allowed"),
    ] {
        let (status, refusal) = host.issue(registration, kind);
        assert_eq!(status, 403, "{registration} {kind}");
        assert_eq!(
            dev.json(&["why", &refusal])["reason"],
            reason,
            "{registration} {kind}"
        );
    }
    // Neither does a host see the other's registrations.
    let answer = second.ask("GET", REGISTRATIONS_PATH, b"");
    let assignments: Assignments = cbor::decode(&answer.body, 1 << 20).unwrap();
    assert!(
        assignments
            .registrations
            .iter()
            .all(|entry| entry.reference != "one/one")
    );
}

#[test]
fn e27_a_key_certified_by_another_hosts_attestation_key_is_refused() {
    let dev = Dev::start(&["--tpm", "2"]);
    register(&dev, "one", "host-1");
    let (first, second) = (attest(&dev, 1), attest(&dev, 2));
    // Host 1, compromised, asks for a certificate for a key that lives in host 2 and is certified there.
    let challenge = first.challenge();
    let message = first.message(&challenge, &second.device, "one/one", "x509");
    let answer = first.ask("POST", ISSUE_PATH, &message);
    assert_eq!(answer.status, 403);
    let why = dev.json(&["why", &refusal(&answer)]);
    assert_eq!(why["reason"], "signature_invalid");
    assert_eq!(why["check"], "tpm.certify.signature");
    // Nothing was consumed by that: the host's own key under the same challenge passes, once.
    let own = first.message(&challenge, &first.device, "one/one", "x509");
    assert_eq!(first.ask("POST", ISSUE_PATH, &own).status, 200);
    assert_eq!(first.ask("POST", ISSUE_PATH, &own).status, 200);
    let other = first.message(&challenge, &first.device, "one/one", "x509");
    assert_eq!(first.ask("POST", ISSUE_PATH, &other).status, 403);
    // Host 2 cannot use host 1's challenge at all.
    let challenge = first.challenge();
    let message = second.message(&challenge, &second.device, "one/one", "x509");
    assert_eq!(second.ask("POST", ISSUE_PATH, &message).status, 403);
}

#[test]
fn e17_a_key_without_certification_or_possession_is_refused() {
    let dev = Dev::start(&[]);
    register(&dev, "one", "host-1");
    let host = attest(&dev, 1);
    let challenge = host.challenge();
    let whole = host.message(&challenge, &host.device, "one/one", "x509");
    // The evidence of one key with the public area of another.
    let other = host.device.create_key(None).unwrap();
    let offer = cbor::encode(&IssueOffer {
        registration: "one/one".into(),
        kind: "x509".into(),
        key: other.public,
    });
    let mut splitter = frame::Splitter::default();
    splitter.feed(&whole).unwrap();
    let sections: Vec<Vec<u8>> = (0..frame::SECTIONS)
        .map(|_| splitter.next_section().unwrap().unwrap())
        .collect();
    let swapped = frame::finish(
        frame::encode(&sections[0], &offer, &sections[2], frame::Enclosed::default()),
        &[],
    );
    let answer = host.ask("POST", ISSUE_PATH, &swapped);
    assert_eq!(answer.status, 403);
    assert_eq!(dev.json(&["why", &refusal(&answer)])["reason"], "nonce_mismatch");
    // A bare public key with empty evidence.
    let none = tpm::TpmEvidence {
        quote: None,
        certifications: Vec::new(),
        pcr_values: Vec::new(),
    };
    let evidence = cmw::Record::evidence(tpm::MEDIA_TYPE, cbor::encode(&none)).to_cbor();
    let bare = frame::finish(
        frame::encode(&sections[0], &offer, &evidence, frame::Enclosed::default()),
        &[],
    );
    let answer = host.ask("POST", ISSUE_PATH, &bare);
    assert_eq!(answer.status, 403);
    assert_eq!(dev.json(&["why", &refusal(&answer)])["reason"], "malformed");
}

#[test]
fn one_key_is_for_one_identifier_and_one_kind() {
    let dev = Dev::start(&["--tpm", "1"]);
    register(&dev, "one", "host-1");
    register(&dev, "two", "host-1");
    let host = attest(&dev, 1);
    let key = host.device.create_key(None).unwrap();
    let ask = |registration, kind| {
        let challenge = host.challenge();
        let message = host.message_for(&challenge, &host.device, &key, registration, kind);
        host.ask("POST", ISSUE_PATH, &message)
    };
    assert_eq!(ask("one/one", "x509").status, 200);
    assert_eq!(ask("one/one", "x509").status, 200, "a renewal may keep its key");
    let refused = ask("two/two", "x509");
    assert_eq!(refused.status, 403);
    let why = dev.json(&["why", &refusal(&refused)]);
    assert_eq!(why["reason"], "conflict", "{why}");
    assert_eq!(why["found"], "x509 spiffe://example.org/one", "{why}");
}

#[test]
fn e17_a_key_in_a_token_is_of_class_token_at_most_and_one_that_could_leave_it_of_none() {
    let dev = Dev::start(&[]);
    register(&dev, "hard", "host-1");
    let file = dev.file(
        "soft.toml",
        "label = \"soft\"\n[[registration]]\nname = \"soft\"\nidentifier = \"spiffe://example.org/soft\"\n\
         workload = { uid = 1 }\nkinds = [\"x509\"]\ncustody = [\"token\"]\n",
    );
    dev.json(&["registration", "apply", "--file", &file]);
    let host = attest(&dev, 1);
    let module = Module::softhsm();
    let token = module.open();
    let report = |key| TokenReport {
        token: token.describe().unwrap(),
        key,
        simulated: false,
    };
    let reason = |id: &str| dev.json(&["why", id])["reason"].clone();
    let good = report(token.create_key(TokenKeyKind::P256, "good").unwrap());
    // The host's TPM is of a maker, and that makes the agent's word about another device no better.
    let (status, refusal) = host.report(ISSUE_PATH, "hard/hard", &token, &good);
    assert_eq!(status, 403);
    assert_eq!(reason(&refusal), "custody_insufficient");
    assert_eq!(host.report(ISSUE_PATH, "soft/soft", &token, &good).0, 200);
    // Again, as for a renewal; but not where a certification on record is what counts.
    assert_eq!(host.report(ISSUE_PATH, "soft/soft", &token, &good).0, 200);
    assert_eq!(host.report(RENEW_PATH, "soft/soft", &token, &good).0, 403);
    // A key that can be wrapped, as the token says.
    let loose = [
        "--keypairgen",
        "--key-type",
        "EC:prime256v1",
        "--label",
        "loose",
        "--id",
        "bb",
    ];
    module.tool(&[&["--login", "--pin", PIN][..], &loose, &["--extractable"]].concat());
    let loose = report(token.describe_key("pkcs11:object=loose").unwrap());
    let (status, refusal) = host.report(ISSUE_PATH, "soft/soft", &token, &loose);
    assert_eq!(status, 403);
    let why = dev.json(&["why", &refusal]);
    assert_eq!(why["reason"], "key_not_hardware", "{why}");
    assert!(
        why["found"].as_str().unwrap().contains("CKA_EXTRACTABLE"),
        "{why}"
    );
    // A signature by another key than the one that is reported.
    let mut other = report(token.create_key(TokenKeyKind::P256, "other").unwrap());
    other.key.uri.clone_from(&good.key.uri);
    let (status, refusal) = host.report(ISSUE_PATH, "soft/soft", &token, &other);
    assert_eq!(status, 403);
    assert_eq!(reason(&refusal), "proof_of_possession");
}
