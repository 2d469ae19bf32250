//! A client that calls one workload over mutual TLS, with a proof of its identity in each request.
//!
//! cargo run -p touchmark-client --example http_client -- spiffe://example.org/api https://127.0.0.1:8443/proved

use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use touchmark_client::{Client, Peers, Proving, Source};
use tower::{Service, ServiceBuilder, ServiceExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let mut peers = Peers::only(arguments.next())?;
    if std::env::var_os("TOUCHMARK_SIM").is_some() {
        peers = peers.accepting_simulated();
    }
    let source = Source::connect().await?;
    let mut client = ServiceBuilder::new()
        .layer(Proving::new(&source))
        .service(Client::new(&source, peers)?);
    for uri in arguments {
        let request = Request::get(uri).body(Empty::<Bytes>::new())?;
        let answer = client.ready().await?.call(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        println!("{status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(())
}
