//! Evidence of simulated TPMs, collected through `touchmark-device`, judged by the appraiser.

use touchmark_attestor_tpm::{Maker, TpmAppraiser};
use touchmark_crypto::{SystemEntropy, mac::MacSha256, x509::DeviceAnchors};
use touchmark_helper::{Device, Exchange};
use touchmark_rats::{Appraiser, MakerKind, PcrSelection, Purpose, Reason, cbor, message_mac_key};
use touchmark_tests::sim::Sim;
use touchmark_verifier::{
    Attested, Believed, Challenger, Issued, Message, ReferenceSet, Refused, Subject, Wanted, appraise,
};

const DOMAIN: &str = "spiffe://example.org";
const ANCHOR: [u8; 32] = [7; 32];
const NOW: u64 = 1_900_000_000;

fn now() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

fn appraiser(sim: &Sim) -> TpmAppraiser {
    let roots = sim.certificates(&sim.tpm(1)["maker_root"]);
    TpmAppraiser::new(vec![Maker {
        name: "simulated".into(),
        anchors: DeviceAnchors::new(roots.iter().map(Vec::as_slice)).unwrap(),
        intermediates: DeviceAnchors::default(),
        kind: MakerKind::Physical,
        simulated: true,
        bare_certificates: false,
        attestation_certificates: false,
    }])
}

struct Outcome {
    result: Result<Attested, Refused>,
    captured: Option<ReferenceSet>,
}

fn attest(device: &Device, appraiser: &TpmAppraiser, references: &[&ReferenceSet]) -> Outcome {
    let challenger = Challenger::new(&SystemEntropy, DOMAIN, ANCHOR, 150).unwrap();
    // Message 1.
    let opening = cbor::encode(&touchmark_helper::opening(device, DOMAIN).unwrap());
    let opened = appraiser.open(&opening).unwrap();
    assert_eq!(opened.candidates.len(), 2);
    let candidate = &opened.candidates[0];
    let voucher = appraiser.vouch(candidate, now()).unwrap();
    let maker = voucher.as_ref().unwrap();
    assert_eq!(
        (&*maker.maker, maker.kind, maker.simulated),
        ("simulated", MakerKind::Physical, true)
    );
    let subject = Subject {
        host: Some("host-1".into()),
        endorsement_name: candidate.name.clone().into(),
        endorsement_digest: candidate.digest.into(),
        attestation_name: opened.attestation_name.clone().into(),
        voucher,
    };
    let selection = PcrSelection::boot();
    let issued: Issued = challenger
        .issue(
            &SystemEntropy,
            Wanted {
                purpose: Purpose::Enrol,
                subject,
                activation: true,
                selection: &selection,
                log_offsets: vec![0],
            },
            NOW,
        )
        .unwrap();
    let secret = issued.secret.unwrap();
    let sealed = appraiser
        .seal(candidate, &opened.attestation_name, &secret)
        .unwrap();
    // The host's side.
    let activated = device
        .activate(touchmark_api::device::Activation {
            trust_domain: DOMAIN.into(),
            endorsement_name: candidate.name.clone().into(),
            credential_blob: sealed.credential_blob.into(),
            encrypted_secret: sealed.encrypted_secret.into(),
        })
        .unwrap();
    assert_eq!(activated, secret);
    let key = device.create_key(Some(&selection)).unwrap();
    let offer = b"offer";
    let exchange = Exchange {
        purpose: Purpose::Enrol,
        trust_domain: DOMAIN,
        anchor: ANCHOR,
        challenge_id: issued.id,
        nonce: issued.nonce,
        cookie: &issued.cookie,
        selection: &selection,
        log_offsets: &[0],
    };
    let evidence = touchmark_helper::evidence(device, &exchange, offer, &[&key]).unwrap();
    let evidence = cbor::encode(&evidence);
    let log = device.boot_log().unwrap();
    let mut mac = MacSha256::new(&message_mac_key(&activated, &issued.id).unwrap());
    mac.update(&evidence);
    // The server's side.
    let challenge = challenger.open(&issued.cookie, NOW + 1).unwrap();
    let mut expected = challenge.mac().unwrap();
    expected.update(&evidence);
    assert!(expected.verify(&mac.finish()));
    let message = Message {
        cookie: &issued.cookie,
        offer,
        evidence: &evidence,
        log: &log,
        runtime: None,
        attestation_public: &opened.attestation_public,
        keys: &[key.public.to_vec()],
    };
    match appraise(
        &challenger,
        &challenge,
        appraiser,
        &message,
        references,
        &touchmark_verifier::ByReferences,
        NOW + 1,
    ) {
        Ok(Believed {
            attested,
            events,
            measured,
            ..
        }) => Outcome {
            result: Ok(attested),
            captured: ReferenceSet::capture("captured", &events, &measured).ok(),
        },
        Err(refused) => {
            let captured = ReferenceSet::capture("captured", &refused.events, &refused.measured).ok();
            Outcome {
                result: Err(*refused),
                captured,
            }
        }
    }
}

#[test]
fn r062_a_tpm_is_attested_against_values_captured_from_it() {
    let sim = Sim::start(&["--tpm", "2"]);
    let appraiser = appraiser(&sim);
    let device = sim.device(1);
    let first = attest(&device, &appraiser, &[]);
    let refused = first.result.unwrap_err();
    assert_eq!(
        refused.refusal.reason,
        Reason::NoReferenceValues,
        "{}",
        refused.refusal
    );
    assert!(refused.authenticated);
    let good = first.captured.unwrap();
    let attested = attest(&device, &appraiser, &[&good]).result.unwrap();
    assert_eq!(attested.keys().len(), 1);
    // The other host booted the same: the same values admit it.
    attest(&sim.device(2), &appraiser, &[&good]).result.unwrap();
}
