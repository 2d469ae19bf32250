//! reqwest over mutual TLS: its connections are judged when they are made, and its requests carry proofs.
//!
//! cargo run -p touchmark-client --example reqwest_client -- spiffe://example.org/api https://127.0.0.1:8443/proved

use std::time::Duration;

use touchmark_client::{Peers, Source, client_config};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut peers = Peers::only(arguments.next())?;
    if std::env::var_os("TOUCHMARK_SIM").is_some() {
        peers = peers.accepting_simulated();
    }
    let source = Source::connect().await?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(client_config(&source, &peers)?)
        // What it pools it does not judge again: nothing stays for long.
        .pool_idle_timeout(Duration::from_secs(30))
        .build()?;
    for uri in arguments {
        let proof = source.prove(&uri).await?;
        let answer = client
            .get(&uri)
            .header("workload-identity-token", proof.wit)
            .header("authorization", format!("WPT {}", proof.wpt))
            .send()
            .await?;
        println!("{}: {}", answer.status(), answer.text().await?);
    }
    Ok(())
}
