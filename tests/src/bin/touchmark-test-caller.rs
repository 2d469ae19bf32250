//! A workload for tests: calls a server again and again until its standard input ends, and then says how that went. A line on
//! its standard input has it pause, which it confirms, and the next one go on.
//!
//! touchmark-test-caller SERVER-IDENTIFIER URI

#![allow(clippy::unwrap_used, reason = "test support fails loudly")]

use std::{collections::BTreeSet, time::Duration};

use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use touchmark_client::{Client, Peers, Proving, Source};
use tower::{Service, ServiceBuilder, ServiceExt};

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let peers = Peers::only(arguments.next()).unwrap().accepting_simulated();
    let uri = arguments.next().unwrap();
    let source = Source::connect().await.unwrap();
    let mut client = ServiceBuilder::new()
        .layer(Proving::new(&source))
        .service(Client::new(&source, peers).unwrap());
    let (line, mut told) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for _ in std::io::stdin().lines() {
            line.blocking_send(()).unwrap();
        }
    });
    let (mut answered, mut failed, mut ends) = (0, Vec::new(), BTreeSet::new());
    loop {
        tokio::select! {
            paused = told.recv() => match paused {
                None => break,
                Some(()) => {
                    println!("paused");
                    if told.recv().await.is_none() {
                        break;
                    }
                }
            },
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
        if let Some(x509) = source
            .identity()
            .and_then(|identity| Some(identity.x509()?.not_after()))
        {
            ends.insert(x509);
        }
        let request = Request::get(&uri).body(Empty::<Bytes>::new()).unwrap();
        let answer = async {
            let answer = client.ready().await?.call(request).await?;
            let status = answer.status();
            answer.into_body().collect().await?;
            Ok::<_, tower::BoxError>(status)
        };
        match answer.await {
            Ok(status) if status.is_success() => answered += 1,
            other => failed.push(format!("after {answered}: {other:?}")),
        }
    }
    println!(
        "{}",
        serde_json::json!({"answered": answered, "failed": failed, "credentials": ends.len()})
    );
}
