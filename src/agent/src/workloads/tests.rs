//! Which credentials a caller may use: its own, while they live, under the registrations as they are.

use std::path::Path;

use serde_bytes::ByteBuf;
use touchmark_api::device::{KeyDescription, Settings};
use touchmark_crypto::{Purpose, Signer, SigningAlg, SoftwareKey};
use touchmark_custody::{
    HeldKey, InMemory,
    tss2::{PARENT_OWNER, Tss2Key},
};
use touchmark_helper::Device;
use touchmark_tls::Pins;

use super::*;
use crate::workload_key::WorkloadKey;

fn workloads(folder: &Path) -> Workloads {
    let settings = Settings::at("");
    let config = Config {
        verifiers: Vec::new(),
        pins: Pins {
            trust_domain: TrustDomain::parse_origin("spiffe://example.org").unwrap(),
            roots: Vec::new(),
        },
        state: folder.to_owned(),
        socket: folder.join("agent.sock"),
        attest: String::new(),
        hosts: String::new(),
        device: Device::new(Path::new("/nonexistent"), settings),
        token: None,
    };
    let (_, standing) = watch::channel(Standing::Attesting {
        detail: String::new(),
        device: false,
    });
    Workloads::new(Arc::new(config), standing, Arc::default(), None).unwrap()
}

fn registration(uid: u32, usage: &str) -> Registration {
    Registration {
        reference: "payments/api".into(),
        revision: [u8::try_from(usage.len()).unwrap(); 32].into(),
        identifier: "spiffe://example.org/api".into(),
        uid: Some(uid),
        gid: None,
        exe: None,
        exe_sha256: None,
        kinds: vec!["x509".into()],
        custody: vec!["hardware".into()],
        usage: usage.into(),
    }
}

fn credential(handle: &str, not_after: u64) -> Credential {
    let key = Arc::new(InMemory::new(SoftwareKey::generate(SigningAlg::Es256).unwrap()));
    let file = Tss2Key {
        empty_auth: true,
        policy: Vec::new(),
        parent: PARENT_OWNER,
        public: vec![0, 0],
        private: vec![0, 0],
    };
    Credential {
        registration: "payments/api".into(),
        identifier: "spiffe://example.org/api".into(),
        kind: "x509".into(),
        chain: Vec::new(),
        token: String::new(),
        handle: handle.into(),
        key: HeldKey::new(key, false, &[Purpose::TlsHandshake]),
        description: WorkloadKey::Tpm(KeyDescription {
            key: ByteBuf::from(file.to_der().unwrap()),
            public: ByteBuf::new(),
            spki: ByteBuf::new(),
            exportable: false,
            sealed_to: Vec::new(),
        }),
        custody: "hardware".into(),
        simulated: true,
        usage: "agent".into(),
        revision: [5; 32].into(),
        renew_at: clock::now(),
        not_after,
    }
}

async fn learn(workloads: &Workloads, generation: u64, registrations: &[Registration]) {
    let bundle = Bundle {
        trust_domain: "spiffe://example.org".into(),
        x509: Vec::new(),
        jwks: String::new(),
        sequence: 1,
    };
    workloads.learn(generation, registrations.to_vec(), &bundle).await;
}

fn caller(uid: u32) -> Caller {
    Caller {
        pid: 1,
        uid,
        gid: uid,
        exe: None,
        exe_sha256: None,
    }
}

#[tokio::test]
async fn a_credential_that_was_replaced_signs_until_it_expires_and_for_its_caller_only() {
    let folder = tempfile::tempdir().unwrap();
    let workloads = workloads(folder.path());
    let key_file = |handle: &str| folder.path().join(format!("keys/{handle}.tss2"));
    learn(&workloads, 1, &[registration(7, "agent")]).await;
    let expiring = clock::now() + 3600;
    workloads.keep(credential("one", expiring)).await.unwrap();
    workloads.keep(credential("two", expiring)).await.unwrap();
    for handle in ["one", "two"] {
        let found = workloads.by_handle(&caller(7), handle).unwrap();
        found.key.sign(Purpose::TlsHandshake, b"message").unwrap();
        assert!(workloads.by_handle(&caller(8), handle).is_none(), "{handle}");
        assert!(key_file(handle).exists());
    }
    // Expired ones answer no more, and their keys go when the next one comes.
    workloads
        .keep(credential("three", clock::now() - 1))
        .await
        .unwrap();
    assert!(workloads.by_handle(&caller(7), "three").is_none());
    workloads.keep(credential("four", expiring)).await.unwrap();
    assert!(!key_file("three").exists() && key_file("one").exists());
}

#[tokio::test]
async fn what_is_no_longer_registered_answers_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let workloads = workloads(folder.path());
    learn(&workloads, 1, &[registration(7, "agent")]).await;
    let expiring = clock::now() + 3600;
    workloads.keep(credential("one", expiring)).await.unwrap();
    workloads.keep(credential("two", expiring)).await.unwrap();
    // Registered for another user now: neither the present nor the replaced one is the old user's.
    learn(&workloads, 2, &[registration(8, "agent")]).await;
    for handle in ["one", "two"] {
        assert!(workloads.by_handle(&caller(7), handle).is_none(), "{handle}");
        assert!(workloads.by_handle(&caller(8), handle).is_some(), "{handle}");
    }
    // Under the same name another identifier: what was issued for the old one is of no use.
    let other = Registration {
        identifier: "spiffe://example.org/other".into(),
        ..registration(8, "agent")
    };
    learn(&workloads, 3, &[other]).await;
    for handle in ["one", "two"] {
        assert!(workloads.by_handle(&caller(8), handle).is_none(), "{handle}");
        assert!(
            !folder.path().join(format!("keys/{handle}.tss2")).exists(),
            "{handle}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_was_overtaken_by_a_newer_one_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let workloads = workloads(folder.path());
    learn(&workloads, 5, &[registration(7, "agent")]).await;
    workloads
        .keep(credential("one", clock::now() + 3600))
        .await
        .unwrap();
    learn(&workloads, 4, &[]).await;
    assert!(workloads.by_handle(&caller(7), "one").is_some());
    learn(&workloads, 6, &[]).await;
    assert!(workloads.by_handle(&caller(7), "one").is_none());
}

#[tokio::test]
async fn a_credential_under_another_registration_is_obtained_anew() {
    let folder = tempfile::tempdir().unwrap();
    let workloads = workloads(folder.path());
    learn(&workloads, 1, &[registration(7, "agent")]).await;
    workloads
        .keep(credential("one", clock::now() + 3600))
        .await
        .unwrap();
    let living = |registration: &Registration| workloads.held.living(registration, "x509").is_some();
    assert!(living(&registration(7, "agent")));
    let changed = Registration {
        revision: [6; 32].into(),
        ..registration(7, "agent")
    };
    assert!(!living(&changed));
}

#[test]
fn a_refusal_is_remembered_for_the_registration_as_it_was_and_says_nothing_of_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let workloads = workloads(folder.path());
    let refused = |retry: &str| {
        AttestationError::Channel(ChannelError::Refused {
            refusal: "id".into(),
            retry: retry.into(),
        })
    };
    let registration = registration(7, "agent");
    let doubted = || {
        let mut notified = std::pin::pin!(workloads.doubt.notified());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        notified.as_mut().poll(&mut context).is_ready()
    };
    let failed = workloads.failed(&refused("later"), &registration, "x509");
    assert!(matches!(failed, NoCredential::Refused(why) if why.contains("id")));
    assert!(workloads.refused_lately(&registration, "x509").is_some());
    assert!(workloads.refused_lately(&registration, "wit").is_none());
    let mended = Registration {
        revision: [9; 32].into(),
        ..registration
    };
    assert!(workloads.refused_lately(&mended, "x509").is_none());
    assert!(!doubted());
    // A refusal that a fresh attestation can help is about the host.
    let failed = workloads.failed(&refused("fresh"), &mended, "x509");
    assert!(matches!(failed, NoCredential::Unavailable(_)));
    assert!(workloads.refused_lately(&mended, "x509").is_none());
    assert!(doubted());
}
