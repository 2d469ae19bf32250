//! Calls one workload ten times a second until that ends, and says why.
//!
//! cargo run -p touchmark-client --example steady_client -- spiffe://example.org/api https://127.0.0.1:8443/

use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use touchmark_client::{Client, Peers, Source, State};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let mut peers = Peers::only(arguments.next())?;
    if std::env::var_os("TOUCHMARK_SIM").is_some() {
        peers = peers.accepting_simulated();
    }
    let uri = arguments.next().ok_or("whom to call")?;
    let source = Source::connect().await?;
    let client = Client::new(&source, peers)?;
    let mut changes = source.changes();
    let mut calls = 0;
    let why = loop {
        let request = Request::get(&uri).body(Empty::<Bytes>::new())?;
        let called = async {
            client
                .request(request)
                .await?
                .into_body()
                .collect()
                .await
                .map_err(Box::<dyn std::error::Error + Send + Sync>::from)
        };
        if let Err(error) = called.await {
            break error.to_string();
        }
        calls += 1;
        if calls == 1 {
            println!("calling");
        }
        let pause = tokio::time::sleep(Duration::from_millis(100));
        tokio::select! {
            () = pause => {}
            _ = changes.changed() => {}
        }
        if let State::Withdrawn(why) = source.state() {
            break why;
        }
    };
    println!("ended after {calls} calls: {why}");
    Ok(())
}
