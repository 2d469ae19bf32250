//! Evidence that was made for another exchange: driven through the verifier, as a server does it.

use serde_bytes::{ByteArray, ByteBuf};
use touchmark_attestor_tpm::TpmAppraiser;
use touchmark_crypto::SystemEntropy;
use touchmark_rats::{
    Binding, PcrSelection, Purpose,
    Reason::{
        self, AttestationKeyMismatch, LogMismatch, Malformed, NonceMismatch, PcrsUnmeasured, SignatureInvalid,
    },
    Retry, cbor, rest_digest,
};
use touchmark_verifier::{
    Attested, ChallengeError, Challenger, Issued, Message, ReferenceSet, Refused, Subject, Wanted, appraise,
};

use crate::forge::{Case, Tpm, key::Key, log::Log};

const DOMAIN: &str = "spiffe://example.org";
const ANCHOR: [u8; 32] = [7; 32];
const NOW: u64 = 1_800_000_000;
const OFFER: &[u8] = b"offer";

fn challenger() -> Challenger {
    Challenger::new(&SystemEntropy, DOMAIN, ANCHOR, 150).unwrap()
}

fn subject(case: &Case) -> Subject {
    Subject {
        host: Some("host".into()),
        endorsement_name: ByteBuf::from(case.tpm.ek_area.name()),
        endorsement_digest: ByteArray::new(case.tpm.ek.public().digest()),
        attestation_name: ByteBuf::from(case.tpm.ak_area.name()),
        voucher: None,
    }
}

fn issue(challenger: &Challenger, case: &Case, purpose: Purpose) -> Issued {
    challenger
        .issue(&SystemEntropy, wanted(case, purpose, subject(case)), NOW)
        .unwrap()
}

fn wanted(case: &Case, purpose: Purpose, subject: Subject) -> Wanted<'_> {
    Wanted {
        purpose,
        subject,
        activation: true,
        selection: &case.selection,
        log_offsets: vec![0],
    }
}

/// The host's side: evidence for this challenge, with the binding altered by `alter`.
fn answer(
    case: &mut Case,
    issued: &Issued,
    purpose: Purpose,
    alter: impl FnOnce(&mut Binding<'_>),
) -> Vec<u8> {
    let names: Vec<Vec<u8>> = case.keys.iter().map(|key| key.area.name()).collect();
    let selection = case.selection.clone();
    let mut binding = Binding {
        purpose,
        trust_domain: DOMAIN,
        anchor: ANCHOR,
        challenge_id: issued.id,
        nonce: issued.nonce,
        key_names: &names,
        selection: &selection,
        log_offsets: &[0],
        rest: rest_digest(&[&issued.cookie, OFFER]),
    };
    alter(&mut binding);
    case.rebind(binding.value());
    cbor::encode(&case.evidence())
}

/// A second message, and whose attestation key is on record for it.
struct Sent<'a> {
    cookie: &'a [u8],
    offer: &'a [u8],
    evidence: &'a [u8],
    case: &'a Case,
}

impl Sent<'_> {
    fn judged(&self, server: &Challenger, references: &[&ReferenceSet]) -> Result<Attested, Box<Refused>> {
        let challenge = server.open(self.cookie, NOW + 1).unwrap();
        let keys: Vec<Vec<u8>> = self.case.keys.iter().map(|key| key.area.bytes()).collect();
        let message = Message {
            cookie: self.cookie,
            offer: self.offer,
            evidence: self.evidence,
            log: &self.case.log,
            runtime: None,
            attestation_public: &self.case.tpm.ak_area.bytes(),
            keys: &keys,
        };
        let appraiser = TpmAppraiser::new(Vec::new());
        appraise(
            server,
            &challenge,
            &appraiser,
            &message,
            references,
            &touchmark_verifier::ByReferences,
            NOW + 1,
        )
        .map(|believed| believed.attested)
    }

    #[track_caller]
    fn refused(&self, server: &Challenger, reason: Reason) {
        let refused = self.judged(server, &[&reference()]).unwrap_err();
        assert_eq!(refused.refusal.reason, reason, "{}", refused.refusal);
        assert!(!refused.authenticated && refused.events.is_empty() && refused.measured.is_empty());
        assert_eq!(refused.refusal.retry, Retry::Fresh);
    }
}

/// The values of the ordinary boot.
fn reference() -> ReferenceSet {
    let appraisal = Case::good().appraise();
    ReferenceSet::capture("good", &appraisal.events, &appraisal.measured).unwrap()
}

#[test]
fn an_answer_to_its_own_challenge_is_attested() {
    let (server, mut case) = (challenger(), Case::good());
    let issued = issue(&server, &case, Purpose::Enrol);
    let evidence = answer(&mut case, &issued, Purpose::Enrol, |_| {});
    let sent = Sent {
        cookie: &issued.cookie,
        offer: OFFER,
        evidence: &evidence,
        case: &case,
    };
    let attested = sent.judged(&server, &[&reference()]).unwrap();
    assert_eq!((attested.host(), attested.keys().len()), ("host", 1));
    let refused = sent.judged(&server, &[]).unwrap_err();
    assert_eq!(refused.refusal.reason, Reason::NoReferenceValues);
    assert!(refused.authenticated);
}

#[test]
fn e12_the_same_message_gets_the_same_verdict_and_an_altered_one_is_refused() {
    let (server, mut case) = (challenger(), Case::good());
    let issued = issue(&server, &case, Purpose::Enrol);
    let evidence = answer(&mut case, &issued, Purpose::Enrol, |_| {});
    let sent = |offer| Sent {
        cookie: &issued.cookie,
        offer,
        evidence: &evidence,
        case: &case,
    };
    let first = sent(OFFER).judged(&server, &[&reference()]).unwrap();
    assert_eq!(sent(OFFER).judged(&server, &[&reference()]).unwrap(), first);
    for offer in [&b"offer "[..], b"Offer", b""] {
        sent(offer).refused(&server, NonceMismatch);
    }
}

#[test]
fn e12_evidence_under_a_fresh_challenge_of_the_same_server_is_refused() {
    let (server, mut case) = (challenger(), Case::good());
    let first = issue(&server, &case, Purpose::Enrol);
    let second = issue(&server, &case, Purpose::Enrol);
    let evidence = answer(&mut case, &first, Purpose::Enrol, |_| {});
    let sent = Sent {
        cookie: &second.cookie,
        offer: OFFER,
        evidence: &evidence,
        case: &case,
    };
    sent.refused(&server, NonceMismatch);
}

#[test]
fn e13_a_challenge_of_another_server_is_not_opened_and_its_evidence_not_accepted() {
    let (here, there, mut case) = (challenger(), challenger(), Case::good());
    let (ours, theirs) = (
        issue(&here, &case, Purpose::Enrol),
        issue(&there, &case, Purpose::Enrol),
    );
    assert_eq!(
        here.open(&theirs.cookie, NOW + 1).unwrap_err(),
        ChallengeError::Invalid
    );
    assert_eq!(
        there.open(&ours.cookie, NOW + 1).unwrap_err(),
        ChallengeError::Invalid
    );
    let evidence = answer(&mut case, &theirs, Purpose::Enrol, |_| {});
    let sent = Sent {
        cookie: &ours.cookie,
        offer: OFFER,
        evidence: &evidence,
        case: &case,
    };
    sent.refused(&here, NonceMismatch);
}

#[test]
fn e13_evidence_of_one_agent_under_the_challenge_of_another_is_refused() {
    let (server, mut first, second) = (challenger(), Case::good(), Case::good());
    let theirs = issue(&server, &second, Purpose::Enrol);
    let evidence = answer(&mut first, &theirs, Purpose::Enrol, |_| {});
    let sent = Sent {
        cookie: &theirs.cookie,
        offer: OFFER,
        evidence: &evidence,
        case: &second,
    };
    // The key offered is the second agent's, the signature the first one's.
    sent.refused(&server, SignatureInvalid);
}

#[test]
fn e13_an_attestation_key_that_the_challenge_does_not_name_is_refused() {
    let (server, mut first, second) = (challenger(), Case::good(), Case::good());
    let theirs = issue(&server, &second, Purpose::Enrol);
    let evidence = answer(&mut first, &theirs, Purpose::Enrol, |_| {});
    let sent = Sent {
        cookie: &theirs.cookie,
        offer: OFFER,
        evidence: &evidence,
        case: &first,
    };
    sent.refused(&server, AttestationKeyMismatch);
}

#[test]
fn e13_an_answer_without_any_attestation_is_refused() {
    let (server, mut case) = (challenger(), Case::good());
    case.selection = PcrSelection(Vec::new());
    case.quote = None;
    case.values.clear();
    case.keys.clear();
    let issued = issue(&server, &case, Purpose::Workload);
    let evidence = answer(&mut case, &issued, Purpose::Workload, |_| {});
    let sent = Sent {
        cookie: &issued.cookie,
        offer: OFFER,
        evidence: &evidence,
        case: &case,
    };
    assert!(sent.judged(&server, &[]).is_err());
}

#[test]
fn e13_e29_every_part_of_the_binding_counts() {
    type Alter = fn(&mut Binding<'_>);
    let alterations: [(&str, Alter); 10] = [
        ("purpose", |binding| binding.purpose = Purpose::Reattest),
        ("trust domain", |binding| {
            binding.trust_domain = "spiffe://example.com";
        }),
        ("scheme", |binding| binding.trust_domain = "wimse://example.org"),
        ("anchor", |binding| binding.anchor = [8; 32]),
        ("challenge", |binding| binding.challenge_id[0] ^= 1),
        ("nonce", |binding| binding.nonce[31] ^= 1),
        ("keys", |binding| binding.key_names = &[]),
        ("offsets", |binding| binding.log_offsets = &[1]),
        ("no offset", |binding| binding.log_offsets = &[]),
        ("rest", |binding| binding.rest[0] ^= 1),
    ];
    for (what, alter) in alterations {
        let (server, mut case) = (challenger(), Case::good());
        let issued = issue(&server, &case, Purpose::Enrol);
        let evidence = answer(&mut case, &issued, Purpose::Enrol, alter);
        let sent = Sent {
            cookie: &issued.cookie,
            offer: OFFER,
            evidence: &evidence,
            case: &case,
        };
        let refused = sent.judged(&server, &[]).unwrap_err();
        assert_eq!(
            (refused.refusal.check, refused.refusal.reason),
            ("tpm.quote.binding", NonceMismatch),
            "{what}"
        );
    }
}

#[test]
fn e25_an_expired_challenge_is_not_opened() {
    let (server, case) = (challenger(), Case::good());
    let issued = issue(&server, &case, Purpose::Reattest);
    server.open(&issued.cookie, NOW + 149).unwrap();
    for now in [NOW + 150, NOW + 86_400, 0] {
        assert_eq!(
            server.open(&issued.cookie, now).unwrap_err(),
            ChallengeError::Expired
        );
    }
}

#[test]
fn a_challenge_that_names_no_host_is_refused_unread() {
    let (server, mut case) = (challenger(), Case::good());
    let stranger = Subject {
        host: None,
        ..subject(&case)
    };
    let issued = server
        .issue(&SystemEntropy, wanted(&case, Purpose::Enrol, stranger), NOW)
        .unwrap();
    let evidence = answer(&mut case, &issued, Purpose::Enrol, |_| {});
    let sent = Sent {
        cookie: &issued.cookie,
        offer: OFFER,
        evidence: &evidence,
        case: &case,
    };
    let refused = sent.judged(&server, &[&reference()]).unwrap_err();
    assert_eq!(
        (refused.refusal.reason, refused.authenticated),
        (Malformed, false)
    );
}

#[test]
fn e04_a_bank_that_nothing_was_measured_into_is_refused_beside_a_good_log() {
    let (server, mut tpm) = (challenger(), Tpm::new());
    tpm.registers = vec![vec![0; 32]; 24];
    let mut case = Case::of(tpm);
    let issued = issue(&server, &case, Purpose::Enrol);
    let evidence = answer(&mut case, &issued, Purpose::Enrol, |_| {});
    assert_eq!(case.log, Log::boot().bytes());
    let sent = Sent {
        cookie: &issued.cookie,
        offer: OFFER,
        evidence: &evidence,
        case: &case,
    };
    let refused = sent.judged(&server, &[&reference()]).unwrap_err();
    assert_eq!(
        (refused.refusal.reason, refused.authenticated),
        (LogMismatch, true)
    );
    assert!(refused.events.is_empty() && refused.measured.is_empty());
}

#[test]
fn e04_a_boot_that_measures_nothing_and_says_so_matches_no_reference_values() {
    let server = challenger();
    let mut case = Case::of(Tpm::with(Key::p256(), Log::empty()));
    let issued = issue(&server, &case, Purpose::Enrol);
    let evidence = answer(&mut case, &issued, Purpose::Enrol, |_| {});
    let sent = Sent {
        cookie: &issued.cookie,
        offer: OFFER,
        evidence: &evidence,
        case: &case,
    };
    let refused = sent.judged(&server, &[&reference()]).unwrap_err();
    assert_eq!(
        (refused.refusal.reason, refused.authenticated),
        (PcrsUnmeasured, true)
    );
    assert_eq!(refused.measured.len(), 10);
    assert!(refused.measured.iter().all(|(_, any)| !any));
}
