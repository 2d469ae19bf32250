//! What happens at the same moment.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use touchmark_crypto::{
    Entropy, Purpose, Signer, SigningAlg, SoftwareKey, SystemEntropy,
    x509::{Certificate, Profile, Template, self_signed},
};
use touchmark_custody::{HeldKey, InMemory};
use touchmark_identity::TrustDomain;
use touchmark_issuer::{Authority, Credential, RegistrationFile};
use touchmark_store::{
    Admitted, AttestationKey, Consumed, Consumption, Issuance, NewHost, Store, StoreError, StoredRegistration,
};

const NOW: u64 = 1_800_000_000;
const RACES: u16 = 1_000;

fn authority() -> Authority {
    let held = |purpose: &'static [Purpose]| {
        let key = SoftwareKey::generate(SigningAlg::Es256).unwrap();
        HeldKey::new(Arc::new(InMemory::new(key)), false, purpose)
    };
    let x509_key = held(&[Purpose::Certificate]);
    let template = Template {
        profile: Profile::Root,
        common_name: "root".into(),
        uri: Some("spiffe://example.org".into()),
        dns_names: Vec::new(),
        not_before: NOW - 60,
        not_after: NOW + 86_400,
        serial: SystemEntropy.array().unwrap(),
        extensions: Vec::new(),
    };
    let root = self_signed(&template, &x509_key).unwrap();
    Authority::new(
        TrustDomain::parse_origin("spiffe://example.org").unwrap(),
        Certificate::parse(&root).unwrap(),
        x509_key,
        held(&[Purpose::Wit]),
        "test",
        true,
    )
    .unwrap()
}

fn credential(authority: &Authority) -> Credential {
    let key = SoftwareKey::generate(SigningAlg::Es256).unwrap();
    authority
        .server_certificate(key.public_key(), 3_600, NOW, &SystemEntropy)
        .unwrap()
}

fn consumption(host: &str) -> Consumption {
    Consumption {
        challenge: SystemEntropy.array().unwrap(),
        message: [1; 32],
        host: host.into(),
        status: 200,
        answer: Vec::new(),
        expires_at: NOW + 150,
    }
}

fn admitted(host: &str, number: u16, credential: Credential) -> Admitted {
    Admitted {
        key: AttestationKey {
            name: number.to_be_bytes().to_vec(),
            host: host.into(),
            endorsement: vec![0; 32],
            public: Vec::new(),
            voucher: None,
            reset_count: 1,
            clock: 1,
            seen_at: NOW,
            evidence: vec![0; 32],
        },
        evidence: Vec::new(),
        log: Vec::new(),
        kept: touchmark_store::Kept::default(),
        observed: String::new(),
        issuance: Issuance {
            registration: "host".into(),
            registered: String::new(),
            credential,
            certified: None,
        },
    }
}

/// Either the credential was there first, and the eviction names its end, or it is refused: none outlives what the operator was
/// told.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a14_no_credential_is_issued_outside_an_evictions_list() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("server.db")).await.unwrap();
    let authority = authority();
    let file = "label = \"l\"\n[[registration]]\nname = \"n\"\nidentifier = \"spiffe://example.org/a\"\nworkload = { uid = 1 }\nkinds = [\"x509\"]\ncustody = [\"hardware\"]\n";
    let file = RegistrationFile::from_toml(file, &authority.trust_domain).unwrap();
    let registered = file.registrations[0].to_json();
    let wanted = StoredRegistration {
        label: "l".into(),
        name: "n".into(),
        identifier: "spiffe://example.org/a".into(),
        body: registered.clone(),
    };
    store
        .apply_registrations("l", &[wanted], false, false, NOW)
        .await
        .unwrap();
    let credential = credential(&authority);
    let (mut issued, mut refused) = (0, 0);
    for number in 0..RACES {
        let mut digest = [0; 32];
        digest[..2].copy_from_slice(&number.to_be_bytes());
        let new = NewHost {
            name: format!("h{number}"),
            labels: Vec::new(),
            endorsements: vec![(digest, true)],
        };
        let host = store.enrol(&[new], NOW).await.unwrap().remove(0).id;
        let first = admitted(&host, number, credential.clone());
        store.admit(&consumption(&host), &first, NOW).await.unwrap();
        let issuance = Issuance {
            registration: "l/n".into(),
            registered: registered.clone(),
            credential: credential.clone(),
            certified: None,
        };
        let consumption = consumption(&host);
        let key = first.key.clone();
        let (won, evicted) = {
            let (one, other) = (store.clone(), store.clone());
            let id = host.clone();
            let issue = tokio::spawn(async move { one.issue(&consumption, &issuance, &key, NOW + 1).await });
            let evict = tokio::spawn(async move { other.evict(&id, "race", NOW + 1).await });
            (issue.await.unwrap(), evict.await.unwrap())
        };
        let until = evicted.unwrap();
        let events = store.events(3, None).await.unwrap();
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        match won {
            Ok(Consumed::First) => {
                issued += 1;
                assert_eq!(kinds[..2], ["host.evicted", "credential.issued"], "before it");
                assert!(until >= credential.not_after());
            }
            Err(StoreError::Conflict(_)) => {
                refused += 1;
                assert_eq!(kinds[0], "host.evicted", "and nothing after it");
            }
            other => panic!("{other:?}"),
        }
    }
    eprintln!("{issued} were issued before the eviction, {refused} refused after it");
    assert_eq!(issued + refused, RACES);
}
