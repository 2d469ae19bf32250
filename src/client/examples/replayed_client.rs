//! What a capture is worth: one request, with its token and proof, sent a second time just as it was.
//!
//! cargo run -p touchmark-client --example replayed_client -- spiffe://example.org/api https://127.0.0.1:8443/proved

use http::Request;
use http_body_util::Empty;
use hyper::body::Bytes;
use touchmark_client::{Client, Peers, Source};

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
    let captured = source.prove(&uri).await?;
    for what in ["as it was sent", "replayed"] {
        let request = Request::get(&uri)
            .header("workload-identity-token", &captured.wit)
            .header("authorization", format!("WPT {}", captured.wpt))
            .body(Empty::<Bytes>::new())?;
        println!("{what}: {}", client.request(request).await?.status());
    }
    Ok(())
}
