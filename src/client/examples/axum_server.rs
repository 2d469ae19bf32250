//! An axum server that only named workloads reach, over mutual TLS, with its own key in the host's TPM. `/proved` asks for a
//! Workload Identity Token and a proof on top.
//!
//! cargo run -p touchmark-client --example axum_server -- 127.0.0.1:8443 spiffe://example.org/web

use std::net::SocketAddr;

use axum::{Extension, Router, extract::ConnectInfo, routing::get};
use touchmark_client::{Caller, Listener, Peer, Peers, Proved, Source};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Who is refused, and why, is in the log.
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().ok_or("an address to listen at")?.parse()?;
    let mut peers = Peers::only(arguments)?;
    if std::env::var_os("TOUCHMARK_SIM").is_some() {
        peers = peers.accepting_simulated();
    }
    let source = Source::connect().await?;
    let listener = Listener::bind(address, &source, peers.clone()).await?;
    let address = listener.local_addr()?;
    let proved = Proved::new(&source, peers, [format!("https://{address}")]);
    let app = Router::new()
        .route("/proved", get(proven).layer(proved))
        .route("/", get(hello));
    let identity = source.identity().ok_or("no identity any more")?;
    println!("{} listens at {address}", identity.identifier());
    axum::serve(listener, app.into_make_service_with_connect_info::<Peer>()).await?;
    Ok(())
}

async fn hello(ConnectInfo(peer): ConnectInfo<Peer>) -> String {
    format!("hello, {}", peer.identifier())
}

async fn proven(Extension(Caller(peer)): Extension<Caller>) -> String {
    format!("proved, {}", peer.identifier())
}
