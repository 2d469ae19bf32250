//! The daemon: everything is checked and bound before anything is served.

use std::{future::Future, sync::Arc, time::Instant};

use axum::{Router, http::header, routing::get};
use tokio::sync::watch;
use touchmark_api::host::BUNDLE_PATH;
use touchmark_crypto::x509::Anchors;
use touchmark_identity::TrustDomain;
use touchmark_tls::{clock, server};

use crate::{
    Config, ServerError, Service, admin, attest, host,
    limits::Gate,
    listen::{self, Front},
    own, standing,
};

/// Runs the service until `stop` completes.
pub async fn run(
    config: Config,
    ready: impl FnOnce(),
    stop: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let now = clock::now();
    let (service, tls_key) = Service::open(config, now).await?;
    let service = Arc::new(service);
    let (certified, renewing) = own::identity_of(&service, tls_key).await?;
    let config = &service.config;
    let anchors = Anchors::new([service.root.der.clone()])?;
    let strangers = Arc::new(server(Arc::clone(&certified), None)?);
    let mutual = Arc::new(server(certified, Some((config.trust_domain.clone(), anchors)))?);
    let front = |tls: &Arc<_>, routes: Router, hosts_of: Option<&TrustDomain>| Front {
        tls: Arc::clone(tls),
        routes,
        gate: Arc::new(match hosts_of {
            None => Gate::new(&config.limits, Instant::now()),
            Some(_) => Gate::new(&config.limits.for_hosts(), Instant::now()),
        }),
        hosts_of: hosts_of.map(|domain| (domain.clone(), Arc::default())),
    };
    let mut fronts = vec![
        (
            listen::bind(config.attest).await?,
            front(&strangers, attest::routes(Arc::clone(&service)), None),
        ),
        (
            listen::bind(config.hosts).await?,
            front(
                &mutual,
                host::routes(Arc::clone(&service)),
                Some(&config.trust_domain),
            ),
        ),
    ];
    if let Some(address) = config.bundle {
        fronts.push((
            listen::bind(address).await?,
            front(&strangers, bundle_routes(&service), None),
        ));
    }
    let socket = admin::bind(&config.admin_socket)?;
    let (stopping, stopped) = watch::channel(false);
    let mut tasks: Vec<tokio::task::JoinHandle<()>> = Vec::new();
    for (listener, front) in fronts {
        tasks.push(tokio::spawn(listen::serve(listener, front, stopped.clone())));
    }
    tasks.push(tokio::spawn(admin::serve(socket, Arc::clone(&service), stopped)));
    tracing::info!(
        trust_domain = %config.trust_domain,
        attest = %config.attest,
        hosts = %config.hosts,
        root = %hex::encode(service.root.spki_digest()),
        "serving"
    );
    ready();
    tokio::select! {
        () = stop => {}
        () = renewing => {}
        () = standing::watch_silence(Arc::clone(&service)) => {}
    }
    service.streams.stop();
    // The receivers live in the tasks.
    let _ = stopping.send(true);
    for task in tasks {
        let _ = task.await;
    }
    let _ = std::fs::remove_file(&service.config.admin_socket);
    service.store.close().await;
    Ok(())
}

/// The trust bundle (SPIFFE Trust Domain and Bundle, section 4), and nothing else.
fn bundle_routes(service: &Service) -> Router {
    let jwks = service.bundle.jwks.clone();
    let answer = move || async move { ([(header::CONTENT_TYPE, "application/json")], jwks) };
    Router::new().route(BUNDLE_PATH, get(answer))
}
