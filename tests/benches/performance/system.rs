//! What a whole small system costs: service, agent, and a TPM that swtpm simulates.

use std::time::{Duration, Instant};

use touchmark_client::{Connector, Listener};
use touchmark_crypto::{Purpose as KeyPurpose, Signer};
use touchmark_helper::{Exchange, created_key};
use touchmark_rats::{PcrSelection, Purpose, cbor, cmw, tpm};
use touchmark_tests::{
    calls::{block_on, own_peers, source, uid},
    clock::Clock,
    count::Commands,
    dev::{Dev, eventually},
    sim::device,
    wire,
};

use super::table::{Table, percentile};

/// SPIRE 1.16-dev on two cores: registration to SVID on an open stream, p99; agent start to first SVID.
const SPIRE_CHANGE: f64 = 8_900.0;
const SPIRE_START: f64 = 110.0;

/// B10 to B12: commands in front of the TPM.
pub(crate) fn commands(table: &mut Table) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("count");
    let mut clock = Clock::new();
    let environment = clock.environment();
    let environment: Vec<(&str, &str)> = environment
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let dev = Dev::start(&["--count", &file.display().to_string()]);
    let after = |before: Option<&Commands>, keys: usize| {
        let read = || {
            let all = Commands::read(&file);
            before.map_or(all.clone(), |before| all.since(before))
        };
        eventually("the keys", || read().end_with_key(keys));
        read()
    };
    let (first, keys) = after(None, 3).attestation();
    table.heading("TPM commands; context load, save and flush not counted");
    table.count("B10", "to enrol, the first time", 30, first.len());
    table.count(
        "B12",
        "for a new certified key, possession proved (of two, the mean)",
        4,
        (keys.len() - keys.handshake()).div_ceil(2),
    );
    // Under a clock that can be set, from here on.
    dev.end_agent(1);
    dev.forget(1);
    dev.end_server();
    let server = dev.start_server_with(&environment, |text| {
        let text = text.replace("host_lifetime", "# ");
        format!("host_lifetime = \"24h\"\nreattest_interval = \"24h\"\n{text}")
    });
    let before = Commands::read(&file);
    let _agent = dev.start_agent_with(1, &environment);
    let (later, _) = after(Some(&before), 3).attestation();
    table.count(
        "B10",
        "to enrol later, the attestation key on record",
        14,
        later.len(),
    );
    let issued = || dev.events("credential.issued").len();
    let (before, had) = (Commands::read(&file), issued());
    clock.advance(38 * 60);
    eventually("two renewals", || issued() >= had + 2);
    table.count(
        "B12",
        "for a renewal (of two, the mean)",
        1,
        Commands::read(&file).since(&before).len().div_ceil(2),
    );
    dev.end_server();
    drop(server);
    let _server = dev.start_server_with(&environment, |text| {
        text.replace(
            "\"24h\"\nreattest_interval = \"24h\"",
            "\"24h\"\nreattest_interval = \"8s\"",
        )
    });
    let attested = || dev.host("host-1")["last_attested"].as_str().unwrap().to_owned();
    let first = attested();
    eventually("another attestation", || attested() != first);
    let (before, second) = (Commands::read(&file), attested());
    eventually("the one after that", || attested() != second);
    table.count(
        "B11",
        "for a re-attestation",
        1,
        Commands::read(&file).since(&before).len(),
    );
}

/// B13: a re-attestation beside a raw quote.
pub(crate) fn reattestation(table: &mut Table) {
    let dev = Dev::start(&[]);
    let _server = dev.restart_server(|text| format!("reattest_interval = \"3s\"\n{text}"));
    dev.end_agent(1);
    let device = device(&dev.description()["tpms"][0]);
    let (address, hosts) = dev.addresses();
    let visit = wire::introduce(&address, dev.pin(), &device);
    let (parts, key) = wire::evidence(&device, &visit, dev.pin());
    let answer = wire::send(&address, dev.pin(), &parts.message(&visit));
    let admission = cbor::decode(&answer.body, 1 << 20).unwrap();
    let identity = wire::identity(&device, &admission, &key);
    let boot = PcrSelection::boot();
    let mut quotes: Vec<Duration> = (0..100)
        .map(|_| {
            let start = Instant::now();
            device.quote(wire::DOMAIN, &boot, &[1; 32]).unwrap();
            start.elapsed()
        })
        .collect();
    let pin = dev.pin();
    let mut taken = wire::reattestations(&hosts, pin, identity, 15, |challenge| {
        let selection = PcrSelection::from_wire(&challenge.selection).unwrap();
        let exchange = Exchange {
            purpose: Purpose::Reattest,
            trust_domain: wire::DOMAIN,
            anchor: pin,
            challenge_id: challenge.id.into_array(),
            nonce: challenge.nonce.into_array(),
            cookie: &challenge.cookie,
            selection: &selection,
            log_offsets: &challenge.log_offsets,
        };
        let evidence = touchmark_helper::evidence(&device, &exchange, &[], &[]).unwrap();
        let runtime = match challenge.log_offsets.get(1) {
            None => Vec::new(),
            Some(from) => device
                .runtime_list(*from, touchmark_api::frame::MAX_RUNTIME)
                .unwrap(),
        };
        let wrapped = cmw::Record::evidence(tpm::MEDIA_TYPE, cbor::encode(&evidence)).to_cbor();
        touchmark_api::frame::finish(
            touchmark_api::frame::encode(
                &challenge.cookie,
                &[],
                &wrapped,
                touchmark_api::frame::Enclosed {
                    runtime: &runtime,
                    ..Default::default()
                },
            ),
            &[],
        )
    });
    let (quote, whole) = (percentile(&mut quotes, 50), percentile(&mut taken, 50));
    table.figure("raw Quote on swtpm, p50, ms", &format!("{quote:.1}"));
    table.at_most(
        "B13",
        "re-attestation p50 / raw Quote p50, durable record included",
        1.5,
        whole / quote,
    );
}

/// B18 and B26: how soon a workload has what it is to have.
pub(crate) fn latency(table: &mut Table) {
    let dev = Dev::start(&[]);
    let mut changes = block_on(async {
        let source = source(&dev).await;
        let mut heard = source.changes();
        let mut measured = Vec::new();
        for turn in 0..60 {
            let file = dev.file(
                "turn.toml",
                &format!(
                    "label = \"dev\"\n[[registration]]\nname = \"user-{uid}\"\nidentifier = \"spiffe://example.org/user/{uid}\"\nworkload = {{ uid = {uid} }}\nkinds = [\"x509\"]\ncustody = [\"hardware\"]\ndns_names = [\"turn-{turn}.example.org\"]\n",
                    uid = uid()
                ),
            );
            let before = source.identity().unwrap().x509().unwrap().chain()[0].clone();
            heard.mark_unchanged();
            let start = Instant::now();
            dev.json(&["registration", "apply", "-f", &file]);
            heard
                .wait_for(|_| {
                    source
                        .identity()
                        .is_some_and(|now| now.x509().is_some_and(|x509| x509.chain()[0] != before))
                })
                .await
                .unwrap();
            measured.push(start.elapsed());
        }
        measured
    });
    table.heading("beside SPIRE 1.16-dev on two cores");
    table.figure(
        "registration typed to the workload's new credential, p50, ms",
        &format!("{:.0}", percentile(&mut changes, 50)),
    );
    table.at_most(
        "B18",
        "the same, p99 / SPIRE's p99 (8.9 s)",
        0.01,
        percentile(&mut changes, 99) / SPIRE_CHANGE,
    );
    dev.end_agent(1);
    let socket = dev.description()["hosts"][0]["agent_socket"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut starts: Vec<Duration> = (0..7)
        .map(|_| {
            dev.forget(1);
            let start = Instant::now();
            let agent = dev.start_agent(1);
            while !std::path::Path::new(&socket).exists() {
                std::thread::sleep(Duration::from_millis(1));
            }
            block_on(async { source(&dev).await });
            let taken = start.elapsed();
            drop(agent);
            let _ = std::fs::remove_file(&socket);
            taken
        })
        .collect();
    table.figure(
        "agent start to first credential, attestation on swtpm, median, ms",
        &format!("{:.0}", percentile(&mut starts, 50)),
    );
    table.at_most(
        "B26",
        "the same / SPIRE's with a join token (0.11 s)",
        1.0,
        percentile(&mut starts, 50) / SPIRE_START,
    );
}

/// Full mutual-TLS handshakes, both keys in one TPM, beside its raw rate of signatures.
pub(crate) fn handshakes(table: &mut Table) {
    const MANY: u32 = 200;
    let dev = Dev::start(&[]);
    // Without a resource manager in between, as the raw rate is measured.
    dev.end_agent(1);
    let config = dev.system().join("agent1.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let port = dev.description()["tpms"][0]["port"].clone();
    let direct = text.lines().map(|line| match line.starts_with("tcti = ") {
        true => format!("tcti = \"swtpm:host=127.0.0.1,port={port}\"\n"),
        false => format!("{line}\n"),
    });
    std::fs::write(&config, direct.collect::<String>()).unwrap();
    let agent = dev.start_agent(1);
    let measured = block_on(async {
        let source = source(&dev).await;
        let mut listener = Listener::bind("127.0.0.1:0", &source, own_peers()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { while listener.next().await.is_some() {} });
        let connector = Connector::new(&source, own_peers()).unwrap();
        let start = Instant::now();
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let connector = connector.clone();
            running.spawn(async move {
                for _ in 0..MANY / 4 {
                    connector.connect("127.0.0.1", port).await.unwrap();
                }
            });
        }
        running.join_all().await;
        f64::from(MANY) / start.elapsed().as_secs_f64()
    });
    drop(agent);
    let device = device(&dev.description()["tpms"][0]);
    let key = device.create_key(None).unwrap();
    let key = created_key(&device, &key, &[KeyPurpose::TlsHandshake]).unwrap();
    let start = Instant::now();
    for _ in 0..MANY {
        key.sign(KeyPurpose::TlsHandshake, &[7; 130]).unwrap();
    }
    let raw = f64::from(MANY) / start.elapsed().as_secs_f64();
    table.heading("mutual TLS, both keys in one swtpm");
    table.figure("raw Sign, per second", &format!("{raw:.0}"));
    table.figure(
        "full handshakes per second, two signatures each, four at a time",
        &format!("{measured:.0}"),
    );
    table.figure(
        "signatures in handshakes / raw Sign",
        &format!("{:.2}", measured * 2.0 / raw),
    );
}
