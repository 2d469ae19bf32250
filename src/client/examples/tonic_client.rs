//! A gRPC client that calls one workload.
//!
//! cargo run -p touchmark-client --example tonic_client -- spiffe://example.org/api https://127.0.0.1:8443

use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use touchmark_client::{Connector, Peers, Source};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut peers = Peers::only(arguments.next())?;
    if std::env::var_os("TOUCHMARK_SIM").is_some() {
        peers = peers.accepting_simulated();
    }
    let source = Source::connect().await?;
    let connector = Connector::new(&source, peers)?;
    let uri = arguments.next().ok_or("whom to call")?;
    // The connector speaks TLS: to tonic the connection is an open one.
    let uri = uri.replacen("https://", "http://", 1);
    let channel = Endpoint::from_shared(uri)?
        .connect_with_connector(connector)
        .await?;
    let answer = HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await?;
    println!("{:?}", answer.into_inner().status());
    Ok(())
}
