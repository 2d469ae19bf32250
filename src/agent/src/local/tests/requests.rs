//! What each call answers, and what it refuses.

use std::{sync::atomic::Ordering, time::Duration};

use tonic::{Code, Request};
use touchmark_api::workload::{
    FetchBundleRequest, FetchWitRequest, FetchX509Request, GUARD, ProveRequest, Purpose, SignRequest,
    Standing, StatusRequest, WatchRequest,
};

use super::fake::{Agent, Fake, guarded};
use crate::local::Limits;

fn handshake() -> Vec<u8> {
    let mut message = vec![b' '; 64];
    message.extend(b"TLS 1.3, server CertificateVerify\0");
    message.extend([7; 32]);
    message
}

fn sign(handle: &str, message: Vec<u8>) -> SignRequest {
    SignRequest {
        handle: handle.into(),
        purpose: Purpose::TlsHandshake.into(),
        message,
    }
}

fn prove(audience: &str) -> ProveRequest {
    ProveRequest {
        audience: audience.into(),
        identifier: String::new(),
        ..ProveRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r029_a_registered_caller_gets_credentials_signatures_and_proofs() {
    let agent = Agent::start(Limits::default(), Fake::default());
    let mut client = agent.client().await;
    let x509 = client.fetch_x509(guarded(FetchX509Request::default())).await;
    let x509 = x509.unwrap().into_inner().identities.remove(0);
    assert_eq!(x509.identifier, "spiffe://example.org/api");
    assert_eq!((x509.chain, x509.bundle), (vec![vec![1], vec![2]], vec![vec![3]]));
    let key = x509.key.unwrap();
    assert_eq!(
        (key.custody.as_str(), key.r#use.as_str(), key.simulated),
        ("hardware", "agent", true)
    );
    assert!(
        key.tss2_key.is_empty(),
        "the file of a key that answers only through the agent left it"
    );

    let wit = client.fetch_wit(guarded(FetchWitRequest::default())).await;
    let wit = wit.unwrap().into_inner().identities.remove(0);
    assert_eq!((wit.token.as_str(), wit.jwks.as_str()), ("a.b.c", "{}"));
    let key = wit.key.unwrap();
    assert_eq!((key.r#use.as_str(), key.tss2_key), ("file", vec![0x30]));

    let signed = client.sign(guarded(sign("one", handshake()))).await;
    assert_eq!(signed.unwrap().into_inner().signature, b"    ");
    let proof = client.prove(guarded(prove("https://b.example.org/x"))).await;
    let proof = proof.unwrap().into_inner();
    assert_eq!(proof.audience, "https://b.example.org/x");
    assert_eq!(proof.wpt, "for https://b.example.org/x");

    let status = client
        .status(guarded(StatusRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (status.state.as_str(), status.refusal.as_str(), status.not_after),
        ("refused", "r", 0)
    );
    let bundle = client
        .fetch_bundle(guarded(FetchBundleRequest {}))
        .await
        .unwrap_err();
    assert_eq!(
        (bundle.code(), bundle.message()),
        (Code::Unavailable, "not attested yet")
    );
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r067_a_call_without_the_guard_is_an_invalid_argument() {
    let agent = Agent::start(Limits::default(), Fake::default());
    let mut client = agent.client().await;
    let mut refusals = vec![
        client.fetch_x509(FetchX509Request::default()).await.err(),
        client.fetch_wit(FetchWitRequest::default()).await.err(),
        client.fetch_bundle(FetchBundleRequest {}).await.err(),
        client.sign(sign("one", handshake())).await.err(),
        client.prove(prove("https://b")).await.err(),
        client.status(StatusRequest {}).await.err(),
    ];
    for values in [&["false"][..], &[""], &["TRUE"], &["true", "true"]] {
        let mut request = Request::new(StatusRequest {});
        for value in values {
            request.metadata_mut().append(GUARD, value.parse().unwrap());
        }
        refusals.push(client.status(request).await.err());
    }
    for refusal in refusals {
        assert_eq!(refusal.unwrap().code(), Code::InvalidArgument);
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a01_a_caller_without_a_registration_hears_the_same_whatever_it_asks() {
    let fake = Fake {
        nobody_is_registered: true.into(),
        ..Fake::default()
    };
    let agent = Agent::start(Limits::default(), fake);
    let mut client = agent.client().await;
    let named = FetchX509Request {
        identifier: "spiffe://example.org/other".into(),
    };
    let refusals = [
        client
            .fetch_x509(guarded(FetchX509Request::default()))
            .await
            .err(),
        client.fetch_x509(guarded(named)).await.err(),
        client.fetch_wit(guarded(FetchWitRequest::default())).await.err(),
        client.sign(guarded(sign("one", handshake()))).await.err(),
        client.sign(guarded(sign("a-wit-key", handshake()))).await.err(),
        client.prove(guarded(prove("https://b"))).await.err(),
    ];
    for refusal in refusals {
        let refusal = refusal.unwrap();
        assert_eq!(
            (refusal.code(), refusal.message()),
            (Code::PermissionDenied, "no identity for this caller")
        );
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a01_an_identifier_or_a_handle_of_another_is_refused_like_none() {
    let agent = Agent::start(Limits::default(), Fake::default());
    let mut client = agent.client().await;
    let other = FetchX509Request {
        identifier: "spiffe://example.org/other".into(),
    };
    for refusal in [
        client.fetch_x509(guarded(other)).await.err(),
        client.sign(guarded(sign("two", handshake()))).await.err(),
    ] {
        assert_eq!(refusal.unwrap().code(), Code::PermissionDenied);
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_signs_whole_handshakes_for_its_purpose_and_nothing_else() {
    let agent = Agent::start(Limits::default(), Fake::default());
    let mut client = agent.client().await;
    let unknown = |purpose| SignRequest {
        purpose,
        ..sign("one", handshake())
    };
    for request in [
        sign("one", vec![0; 32]),
        sign("one", Vec::new()),
        sign("", handshake()),
        sign(&"h".repeat(257), handshake()),
        unknown(0),
        unknown(2),
    ] {
        let refused = client.sign(guarded(request)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    let refused = client
        .sign(guarded(sign("a-wit-key", handshake())))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ill_formed_and_oversized_requests_are_refused_and_the_connection_goes_on() {
    let agent = Agent::start(Limits::default(), Fake::default());
    let mut client = agent.client().await;
    let identifier = "spiffe://Example.org/api".into();
    let refused = client
        .fetch_x509(guarded(FetchX509Request { identifier }))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("upper_case"), "{refused}");
    for audience in ["", "b.example.org", "https://b\n"] {
        let refused = client.prove(guarded(prove(audience))).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    let refused = client
        .sign(guarded(sign("one", vec![b' '; 17 * 1024])))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    let mut long = guarded(StatusRequest {});
    long.metadata_mut()
        .insert("x", "y".repeat(16 * 1024).parse().unwrap());
    assert!(client.status(long).await.is_err());
    assert!(client.status(guarded(StatusRequest {})).await.is_ok());
    agent.stop().await;
}

#[tokio::test]
async fn listeners_hear_what_they_have_and_when_it_is_withdrawn() {
    let agent = Agent::start(Limits::default(), Fake::default());
    let mut client = agent.client().await;
    let mut heard = client
        .watch(guarded(WatchRequest::default()))
        .await
        .unwrap()
        .into_inner();
    let first = heard.message().await.unwrap().unwrap();
    assert_eq!(first.standing(), Standing::Current);
    assert_eq!((first.x509.len(), first.wit.len()), (1, 1));
    // Nothing is said twice.
    agent.identities.changed.send_replace(());
    agent
        .identities
        .nobody_is_registered
        .store(true, Ordering::SeqCst);
    agent.identities.changed.send_replace(());
    let then = heard.message().await.unwrap().unwrap();
    assert_eq!(then.standing(), Standing::Withdrawn);
    assert!(then.x509.is_empty() && then.wit.is_empty());
    // Whoever has nothing is not listened to in the first place.
    let refused = client.watch(guarded(WatchRequest::default())).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    agent
        .identities
        .nobody_is_registered
        .store(false, Ordering::SeqCst);
    agent.identities.changed.send_replace(());
    let again = heard.message().await.unwrap().unwrap();
    assert_eq!(again.standing(), Standing::Current);
}

#[tokio::test]
async fn listeners_are_counted_apart_from_requests_and_their_connections_are_not_idle() {
    let limits = Limits {
        watches_per_user: 1,
        requests_per_user: 1,
        idle: Duration::from_millis(100),
        ..Limits::default()
    };
    let agent = Agent::start(limits, Fake::default());
    let mut client = agent.client().await;
    let mut heard = client
        .watch(guarded(WatchRequest::default()))
        .await
        .unwrap()
        .into_inner();
    heard.message().await.unwrap().unwrap();
    client.status(guarded(StatusRequest {})).await.unwrap();
    let full = client.watch(guarded(WatchRequest::default())).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    tokio::time::sleep(Duration::from_millis(400)).await;
    agent
        .identities
        .nobody_is_registered
        .store(true, Ordering::SeqCst);
    agent.identities.changed.send_replace(());
    let then = heard.message().await.unwrap().unwrap();
    assert_eq!(then.standing(), Standing::Withdrawn);
    drop(heard);
    agent
        .identities
        .nobody_is_registered
        .store(false, Ordering::SeqCst);
    // The place is free once it is gone.
    for _ in 0..100 {
        if client.watch(guarded(WatchRequest::default())).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the place is not given back");
}
