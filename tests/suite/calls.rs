//! Workloads call each other with keys in the TPM: the library as its users have it.

mod proofs;

use std::time::{Duration, Instant};

use http::{HeaderMap, Request, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use rustls::NamedGroup;
use touchmark_client::{Class, Client, Connector, Listener, Peers, Proved, Source, State};
use touchmark_tests::{
    calls::{Serving, block_on, call, identifier, own_peers, register, source, this_process, uid},
    dev::{Dev, eventually},
};

/// A server in this process that answers every request with the header that it got; where it listens.
async fn mirror(source: &Source, peers: Peers, layer: Option<Proved>) -> String {
    let listener = Listener::bind("127.0.0.1:0", source, peers).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let names = |headers: HeaderMap| async move {
        headers
            .keys()
            .map(|name| name.as_str().to_owned())
            .collect::<Vec<_>>()
            .join(",")
    };
    let slow = || async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        "done"
    };
    let mut app = axum::Router::new()
        .route("/mirror", axum::routing::get(names))
        .route("/slow", axum::routing::get(slow));
    if let Some(proved) = layer {
        app = app.layer(proved);
    }
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn get(uri: &str) -> Request<Empty<Bytes>> {
    Request::get(uri).body(Empty::new()).unwrap()
}

#[test]
fn r043_r074_the_examples_call_each_other_and_somebody_else_is_refused_by_identifier() {
    let dev = Dev::start(&[]);
    register(
        &dev,
        &[
            ("api", "axum_server"),
            ("web", "http_client"),
            ("batch", "reqwest_client"),
            ("rpc", "tonic_server"),
            ("caller", "tonic_client"),
        ],
    );
    let api = Serving::start(&dev, "axum_server", &["web"]);
    let at = |path: &str| format!("https://{}{path}", api.address);
    let called = call(
        &dev,
        "http_client",
        "api",
        &[&at("/"), &at("/proved"), &at("/proved?q=1")],
    );
    let text = String::from_utf8_lossy(&called.stdout);
    let web = identifier("web");
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            format!("200 OK: hello, {web}"),
            format!("200 OK: proved, {web}"),
            format!("200 OK: proved, {web}")
        ],
        "{}",
        String::from_utf8_lossy(&called.stderr)
    );
    // Below the same root, and registered: who is not named is not let in.
    assert!(!call(&dev, "reqwest_client", "api", &[&at("/")]).status.success());
    // And whoever was called and is somebody else is not spoken to.
    let called = call(&dev, "http_client", "rpc", &[&at("/")]);
    assert!(!called.status.success());
    assert!(
        String::from_utf8_lossy(&called.stderr).contains("Identifier"),
        "{called:?}"
    );
    drop(api);
    let api = Serving::start(&dev, "axum_server", &["batch"]);
    let at = |path: &str| format!("https://{}{path}", api.address);
    let called = call(&dev, "reqwest_client", "api", &[&at("/"), &at("/proved")]);
    let text = String::from_utf8_lossy(&called.stdout);
    let batch = identifier("batch");
    assert_eq!(
        text,
        format!("200 OK: hello, {batch}\n200 OK: proved, {batch}\n"),
        "{called:?}"
    );
    let rpc = Serving::start(&dev, "tonic_server", &["caller"]);
    let called = call(
        &dev,
        "tonic_client",
        "rpc",
        &[&format!("https://{}", rpc.address)],
    );
    assert_eq!(String::from_utf8_lossy(&called.stdout), "Serving\n", "{called:?}");
}

#[test]
fn r074_keys_in_the_tpm_at_both_ends_and_the_hybrid_group_between_them() {
    let dev = Dev::start(&[]);
    block_on(async {
        let source = source(&dev).await;
        let mut listener = Listener::bind("127.0.0.1:0", &source, own_peers()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connector = Connector::new(&source, own_peers()).unwrap();
        let (client, server) = tokio::join!(connector.connect("127.0.0.1", port), listener.next());
        let (client, server) = (client.unwrap(), server.unwrap());
        for connection in [&client, &server] {
            assert_eq!(connection.key_exchange(), Some(NamedGroup::X25519MLKEM768));
            assert_eq!(connection.peer().identifier().as_str(), this_process());
            assert_eq!(connection.peer().custody(), Some(Class::Hardware));
            assert!(connection.peer().is_simulated());
        }
        // A key in a simulated device does not do unless it is told to, nor one that is held in another way than demanded.
        for (peers, reason) in [
            (Peers::only([this_process()]).unwrap(), "Simulated"),
            (own_peers().demanding([Class::Token, Class::Enclave]), "Custody"),
            (
                Peers::only([identifier("other")]).unwrap().accepting_simulated(),
                "Identifier",
            ),
            (Peers::matching(|_| true).accepting_simulated(), "Name"),
        ] {
            let refused = Connector::new(&source, peers.clone())
                .unwrap()
                .connect("127.0.0.1", port)
                .await;
            let error = format!("{:?}", refused.err().unwrap());
            assert!(error.contains(reason), "{error}");
        }
        let strict = Listener::bind("127.0.0.1:0", &source, Peers::only([this_process()]).unwrap())
            .await
            .unwrap();
        let refused = connector
            .connect("127.0.0.1", strict.local_addr().unwrap().port())
            .await;
        // TLS 1.3: a client learns of it with the first answer.
        if let Ok(mut connection) = refused {
            let read = tokio::io::AsyncReadExt::read(&mut connection, &mut [0; 1]).await;
            assert!(read.is_err(), "{read:?}");
        }
    });
}

#[test]
fn r002_credential_and_anchors_come_in_one_answer_and_are_those_of_the_service() {
    let dev = Dev::start(&[]);
    let shown = dev.json(&["workload", "fetch", "bundle"]);
    let roots =
        touchmark_crypto::pem::decode_all("CERTIFICATE", shown["x509_pem"].as_str().unwrap()).unwrap();
    let pin = touchmark_crypto::x509::Certificate::parse(&roots[0])
        .unwrap()
        .spki_digest();
    assert_eq!((roots.len(), pin), (1, dev.pin()));
    block_on(async {
        let source = source(&dev).await;
        // The first thing that a program hears is all it needs: it has not asked for anchors.
        let identity = source.identity().unwrap();
        assert_eq!(identity.identifier().as_str(), this_process());
        assert!(identity.x509().is_some() && identity.wit().is_some());
        let mut listener = Listener::bind("127.0.0.1:0", &source, own_peers()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connector = Connector::new(&source, own_peers()).unwrap();
        let (client, server) = tokio::join!(connector.connect("127.0.0.1", port), listener.next());
        assert!(client.is_ok() && server.is_some());
    });
}

#[test]
fn a_runtime_of_one_thread_goes_on_while_a_slow_tpm_signs_for_a_handshake() {
    let dev = Dev::start(&["--tpm", "1", "--fault", "tpm-slow@1"]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let source = source(&dev).await;
        let mut listener = Listener::bind("127.0.0.1:0", &source, own_peers()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connector = Connector::new(&source, own_peers()).unwrap();
        let longest = std::rc::Rc::new(std::cell::Cell::new(Duration::ZERO));
        let begin = Instant::now();
        let others = async {
            let mut last = Instant::now();
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                longest.set(longest.get().max(last.elapsed()));
                last = Instant::now();
            }
        };
        tokio::select! {
            () = others => {}
            (client, server) = async { tokio::join!(connector.connect("127.0.0.1", port), listener.next()) } => {
                assert!(client.is_ok() && server.is_some());
            }
        }
        let (whole, gap) = (begin.elapsed(), longest.get());
        // Two signatures make up nearly all of it: had one been waited for here, nothing else would have run for that long.
        assert!(gap < whole / 4, "others waited for {gap:?} of {whole:?}");
    });
}

#[test]
fn a_request_that_takes_its_time_is_not_cut_by_a_renewal() {
    let dev = Dev::start(&[]);
    block_on(async {
        let source = source(&dev).await;
        let address = mirror(&source, own_peers(), None).await;
        let client = Client::new(&source, own_peers()).unwrap();
        assert_eq!(
            client
                .request(get(&format!("https://{address}/mirror")))
                .await
                .unwrap()
                .status(),
            StatusCode::OK
        );
        let slow = tokio::spawn({
            let (client, uri) = (client.clone(), format!("https://{address}/slow"));
            async move { client.request(get(&uri)).await }
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        let before = source.identity().unwrap().x509().unwrap().chain()[0].clone();
        let file = dev.file(
            "renewed.toml",
            &format!(
                "label = \"dev\"\n[[registration]]\nname = \"user-{uid}\"\nidentifier = \"{}\"\nworkload = {{ uid = {uid} }}\nkinds = [\"x509\", \"wit\"]\ncustody = [\"hardware\"]\ndns_names = [\"renewed.example.org\"]\n",
                this_process(),
                uid = uid()
            ),
        );
        dev.json(&["registration", "apply", "-f", &file]);
        let mut changes = source.changes();
        changes
            .wait_for(|_| {
                source
                    .identity()
                    .is_some_and(|now| now.x509().is_some_and(|x509| x509.chain()[0] != before))
            })
            .await
            .unwrap();
        assert!(
            !slow.is_finished(),
            "it is under way while the certificate is another"
        );
        // Meanwhile others go over a new connection.
        assert_eq!(
            client
                .request(get(&format!("https://{address}/mirror")))
                .await
                .unwrap()
                .status(),
            StatusCode::OK
        );
        assert_eq!(slow.await.unwrap().unwrap().status(), StatusCode::OK);
    });
}

#[test]
fn a_program_has_the_identity_that_says_most_of_it_and_waits_for_one_that_is_on_its_way() {
    let dev = Dev::start(&[]);
    let exe = std::env::current_exe().unwrap();
    let file = dev.file(
        "zlast.toml",
        &format!(
            "label = \"zlast\"\n[[registration]]\nname = \"suite\"\nidentifier = \"{}\"\nworkload = {{ uid = {}, exe = \"{}\" }}\nkinds = [\"x509\", \"wit\"]\ncustody = [\"hardware\"]\n",
            identifier("suite"),
            uid(),
            exe.display()
        ),
    );
    dev.json(&["registration", "apply", "-f", &file]);
    block_on(async {
        let precise = source(&dev).await;
        // The registration is on its way to the agent; what the source has goes on to what says more.
        eventually("the identity of this very program", || {
            precise.identity().unwrap().identifier().as_str() == identifier("suite")
        });
        let named = Source::builder()
            .socket(dev.description()["hosts"][0]["agent_socket"].as_str().unwrap())
            .identifier(this_process());
        assert_eq!(
            named
                .clone()
                .connect()
                .await
                .unwrap()
                .identity()
                .unwrap()
                .identifier()
                .as_str(),
            this_process()
        );
        // Nothing means this program: it is told what would, once it has waited.
        dev.json(&["registration", "delete", "zlast/suite"]);
        dev.json(&["registration", "delete", &format!("dev/user-{}", uid())]);
        eventually("the withdrawal", || {
            dev.touchmark(&["workload", "fetch", "x509"]).status.code() == Some(1)
        });
        let socket = dev.description()["hosts"][0]["agent_socket"]
            .as_str()
            .unwrap()
            .to_owned();
        let builder = Source::builder().socket(socket);
        let none = builder
            .clone()
            .wait(Duration::from_secs(1))
            .connect()
            .await
            .unwrap_err();
        assert!(none.to_string().contains(&exe.display().to_string()), "{none}");
        // Deployed first, registered then.
        let waiting = tokio::spawn(builder.connect());
        tokio::time::sleep(Duration::from_millis(300)).await;
        dev.json(&["registration", "apply", "-f", &file]);
        assert!(waiting.await.unwrap().is_ok());
    });
}

#[test]
fn r070_c06_open_connections_end_when_the_host_is_evicted() {
    let dev = Dev::start(&[]);
    block_on(async {
        let source = source(&dev).await;
        let address = mirror(&source, own_peers(), None).await;
        let client = Client::new(&source, own_peers()).unwrap();
        let uri = format!("https://{address}/mirror");
        assert_eq!(client.request(get(&uri)).await.unwrap().status(), StatusCode::OK);
        let mut idle = Connector::new(&source, own_peers())
            .unwrap()
            .connect("127.0.0.1", address.rsplit_once(':').unwrap().1.parse().unwrap())
            .await
            .unwrap();
        let mut changes = source.changes();
        let start = Instant::now();
        dev.json(&["host", "evict", "host-1"]);
        // What waits for data hears of it, and the next request finds no connection and gets none.
        let mut buffer = [0; 1];
        let read = tokio::io::AsyncReadExt::read(&mut idle, &mut buffer);
        let read = tokio::time::timeout(Duration::from_secs(30), read).await.unwrap();
        // Whichever of the two ends heard of it first.
        assert!(read.is_err(), "{read:?}");
        eprintln!(
            "an open connection ended {:?} after the eviction was asked for",
            start.elapsed()
        );
        changes
            .wait_for(|state| matches!(state, State::Withdrawn(_)))
            .await
            .unwrap();
        assert!(client.request(get(&uri)).await.is_err());
        assert!(source.prove("https://service.example.org/").await.is_err());
        assert!(source.identity().is_none());
    });
}

#[test]
fn r036_calls_go_on_while_the_service_is_away() {
    let dev = Dev::start(&[]);
    block_on(async {
        let source = source(&dev).await;
        let address = mirror(&source, own_peers(), None).await;
        let client = Client::new(&source, own_peers()).unwrap();
        let uri = format!("https://{address}/mirror");
        let at = address.rsplit_once(':').unwrap().1.parse().unwrap();
        dev.end_server();
        for _ in 0..20 {
            assert_eq!(client.request(get(&uri)).await.unwrap().status(), StatusCode::OK);
            // New connections too: the agent signs without asking anybody.
            Connector::new(&source, own_peers())
                .unwrap()
                .connect("127.0.0.1", at)
                .await
                .unwrap();
            source.prove("https://service.example.org/").await.unwrap();
        }
        // And a workload that starts now has its identity.
        let other = self::source(&dev).await;
        assert_eq!(other.identity().unwrap().identifier().as_str(), this_process());
    });
}

#[test]
fn r036_a_source_outlives_its_agent_and_finds_the_next_one() {
    let dev = Dev::start(&[]);
    block_on(async {
        let source = source(&dev).await;
        dev.end_agent(1);
        assert!(source.identity().is_some(), "what there is counts until it ends");
        let _agent = dev.start_agent(1);
        eventually("a signature by the next agent", || {
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(async {
                    let mut listener = Listener::bind("127.0.0.1:0", &source, own_peers()).await.unwrap();
                    let port = listener.local_addr().unwrap().port();
                    let connector = Connector::new(&source, own_peers()).unwrap();
                    let (client, _) = tokio::join!(
                        connector.connect("127.0.0.1", port),
                        tokio::time::timeout(Duration::from_secs(5), listener.next())
                    );
                    client.is_ok()
                })
            })
        });
    });
}

/// One handshake of a plain rustls client under this process's identity; what it saw.
fn handshake(
    address: &str,
    config: &std::sync::Arc<rustls::ClientConfig>,
) -> Result<rustls::HandshakeKind, String> {
    let name = "127.0.0.1".try_into().unwrap();
    let connection =
        rustls::ClientConnection::new(config.clone(), name).map_err(|error| error.to_string())?;
    let stream = std::net::TcpStream::connect(address).map_err(|error| error.to_string())?;
    let mut stream = rustls::StreamOwned::new(connection, stream);
    let request = b"GET /mirror HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    std::io::Write::write_all(&mut stream, request).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let read = std::io::Read::read_to_end(&mut stream, &mut answer);
    if !answer.starts_with(b"HTTP/1.1 200") {
        return Err(format!("{read:?}: {}", String::from_utf8_lossy(&answer)));
    }
    Ok(stream.conn.handshake_kind().unwrap())
}

#[test]
fn l01_l07_no_session_is_resumed_no_early_data_taken_and_nothing_before_tls_13_spoken() {
    let dev = Dev::start(&[]);
    block_on(async {
        let source = source(&dev).await;
        let address = mirror(&source, own_peers(), None).await;
        tokio::task::spawn_blocking(move || {
            // A client that would resume and would send early data.
            let mut config = touchmark_client::client_config(&source, &own_peers()).unwrap();
            config.resumption = rustls::client::Resumption::in_memory_sessions(8);
            config.enable_early_data = true;
            let config = std::sync::Arc::new(config);
            for _ in 0..3 {
                let kind = handshake(&address, &config).unwrap();
                assert!(
                    matches!(
                        kind,
                        rustls::HandshakeKind::Full | rustls::HandshakeKind::FullWithHelloRetryRequest
                    ),
                    "{kind:?}"
                );
            }
            // OpenSSL as somebody who speaks TLS 1.2 at most.
            let output = std::process::Command::new("openssl")
                .args(["s_client", "-connect", &address, "-tls1_2"])
                .stdin(std::process::Stdio::null())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("alert protocol version"), "{said}");
            // And as somebody without a certificate.
            let output = std::process::Command::new("openssl")
                .args(["s_client", "-connect", &address, "-quiet"])
                .stdin(std::process::Stdio::null())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("certificate required"), "{said}");
        })
        .await
        .unwrap();
    });
}
