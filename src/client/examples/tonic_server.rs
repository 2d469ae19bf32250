//! A gRPC server that only named workloads reach.
//!
//! cargo run -p touchmark-client --example tonic_server -- 127.0.0.1:8443 spiffe://example.org/web

use std::net::SocketAddr;

use tonic::{Request, Status, service::interceptor::InterceptedService, transport::Server};
use touchmark_client::{Listener, Peer, Peers, Source};

/// Each call knows who makes it.
fn log(request: Request<()>) -> Result<Request<()>, Status> {
    let peer = request
        .extensions()
        .get::<Peer>()
        .ok_or_else(|| Status::unauthenticated("nobody"))?;
    println!("called by {}", peer.identifier());
    Ok(request)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().ok_or("an address to listen at")?.parse()?;
    let mut peers = Peers::only(arguments)?;
    if std::env::var_os("TOUCHMARK_SIM").is_some() {
        peers = peers.accepting_simulated();
    }
    let source = Source::connect().await?;
    let listener = Listener::bind(address, &source, peers).await?;
    println!("listens at {}", listener.local_addr()?);
    let (_, health) = tonic_health::server::health_reporter();
    Server::builder()
        .add_service(InterceptedService::new(health, log))
        .serve_with_incoming(listener.incoming())
        .await?;
    Ok(())
}
