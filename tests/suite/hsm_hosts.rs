//! Hosts with an HSM beside their TPM: the host attests by the TPM, and workloads have keys in the token.

use std::{process::Command, time::Duration};

use serde_json::Value;
use touchmark_client::{Connector, Listener, Peers};
use touchmark_custody::Class;
use touchmark_tests::{
    calls::{Serving, block_on, call, identifier, register_in, source, uid},
    clock::Clock,
    dev::{Dev, eventually},
    sim::binary,
};

/// A system whose calling user is to have keys of class `token`.
fn with_hsm(arguments: &[&str]) -> Dev {
    let dev = Dev::start(&[&["--tpm", "1", "--hsm"][..], arguments].concat());
    register(&dev, "token", "");
    dev
}

/// Registers the calling user for keys of this class, and for nothing else.
fn register(dev: &Dev, custody: &str, more: &str) {
    let file = dev.file(
        "in-token.toml",
        &format!(
            "label = \"dev\"\n[[registration]]\nname = \"held\"\nidentifier = \"{}\"\nworkload = {{ uid = {} }}\n\
             kinds = [\"x509\", \"wit\"]\ncustody = [\"{custody}\"]\ndns_names = [\"localhost\"]\n{more}",
            identifier("held"),
            uid()
        ),
    );
    dev.json(&["registration", "apply", "--prune", "--file", &file]);
    // What the caller had before is withdrawn by a push.
    eventually("the registration", || {
        let fetched = dev.touchmark(&["workload", "fetch", "x509", "--output", "json"]);
        let fetched: Value = serde_json::from_slice(&fetched.stdout).unwrap_or_default();
        [Value::Null, identifier("held").into()].contains(&fetched["identifier"])
            && (fetched["key"]["custody"].is_null() || fetched["key"]["custody"] == custody)
    });
}

/// The first host's HSM, as `sim.json` describes it.
fn hsm(dev: &Dev) -> Value {
    dev.description()["hsms"][0].clone()
}

/// Runs pkcs11-tool on the first host's token, for private keys; it has to succeed.
fn pkcs11_tool(dev: &Dev, arguments: &[&str]) -> String {
    let hsm = hsm(dev);
    let text = |member: &str| hsm[member].as_str().unwrap().to_owned();
    let pin = std::fs::read_to_string(text("pin_file")).unwrap();
    let output = Command::new("pkcs11-tool")
        .env("SOFTHSM2_CONF", text("conf"))
        .args(["--module", &text("module"), "--token-label", &text("token")])
        .args(["--login", "--pin", pin.trim(), "--type", "privkey"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What pkcs11-tool says of the private keys in the first host's token, one text for each.
fn private_keys(dev: &Dev) -> Vec<String> {
    pkcs11_tool(dev, &["--list-objects"])
        .split("Private Key Object")
        .skip(1)
        .map(str::to_owned)
        .collect()
}

/// Somebody deletes a private key by another tool.
fn delete_key(dev: &Dev, label: &str) {
    pkcs11_tool(dev, &["--delete-object", "--label", label]);
}

fn fetch(dev: &Dev, kind: &str) -> Value {
    dev.json(&["workload", "fetch", kind])
}

/// The names of the agent's key files.
fn key_files(dev: &Dev) -> Vec<String> {
    let folder = dev.system().join("agent1/keys");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn r020_r061_keys_of_workloads_are_made_in_the_token_and_the_credential_says_so() {
    let dev = with_hsm(&[]);
    let (x509, wit) = (fetch(&dev, "x509"), fetch(&dev, "wit"));
    for credential in [&x509, &wit] {
        assert_eq!(credential["identifier"], identifier("held"));
        assert_eq!(credential["key"]["custody"], "token");
        assert_eq!(credential["key"]["simulated"], true);
        assert_eq!(credential["key"]["use"], "agent");
    }
    assert_ne!(x509["key"]["handle"], wit["key"]["handle"]);
    // By another tool's word: two keys, made there, never out of it, labelled by what they are for.
    let keys = private_keys(&dev);
    assert_eq!(keys.len(), 2, "{keys:?}");
    for key in &keys {
        assert!(
            key.contains("sensitive, always sensitive, never extractable, local") && key.contains("sign"),
            "{key}"
        );
    }
    for kind in ["x509", "wit"] {
        let label = format!("touchmark dev/held {kind}");
        assert!(keys.iter().any(|key| key.contains(&label)), "{keys:?}");
    }
    // On disk is where they are, and no key.
    let files = key_files(&dev);
    assert_eq!(files.len(), 2, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(dev.system().join("agent1/keys").join(&file)).unwrap();
        assert!(
            text.starts_with("pkcs11:token=simulated-1;") && !text.contains("pin"),
            "{file}: {text}"
        );
    }
    // The token is named in no credential's claim but by its class, and a relying party can demand it.
    let proof = dev.json(&["workload", "prove", "--audience", "https://peer.example.org/"]);
    assert_eq!(proof["identifier"], identifier("held"));
}

#[test]
fn r074_mutual_tls_with_the_keys_of_both_ends_in_the_token() {
    let dev = with_hsm(&[]);
    block_on(async {
        let source = source(&dev).await;
        let own = || Peers::only([identifier("held")]).unwrap().accepting_simulated();
        let mut listener = Listener::bind("127.0.0.1:0", &source, own().demanding([Class::Token]))
            .await
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        let connector = Connector::new(&source, own()).unwrap();
        let both = async { tokio::join!(connector.connect("127.0.0.1", port), listener.next()) };
        let (client, server) = tokio::time::timeout(Duration::from_secs(60), both)
            .await
            .expect("a connection");
        for connection in [client.unwrap(), server.unwrap()] {
            assert_eq!(connection.peer().custody(), Some(Class::Token));
            assert!(connection.peer().is_simulated());
        }
        // What a token holds by its agent's word is not hardware.
        let demanding = own().demanding([Class::Hardware]);
        let refused = Connector::new(&source, demanding)
            .unwrap()
            .connect("127.0.0.1", port)
            .await;
        let error = format!("{:?}", refused.err().unwrap());
        assert!(error.contains("Custody"), "{error}");
    });
}

#[test]
fn r043_r074_examples_call_each_other_with_proofs_by_keys_in_the_token() {
    let dev = Dev::start(&["--tpm", "1", "--hsm"]);
    register_in(&dev, &[("api", "axum_server"), ("web", "http_client")], "token");
    let api = Serving::start(&dev, "axum_server", &["web"]);
    let at = |path: &str| format!("https://{}{path}", api.address);
    let called = call(&dev, "http_client", "api", &[&at("/"), &at("/proved")]);
    let web = identifier("web");
    assert_eq!(
        String::from_utf8_lossy(&called.stdout),
        format!("200 OK: hello, {web}\n200 OK: proved, {web}\n"),
        "{called:?}"
    );
    assert!(private_keys(&dev).len() >= 3);
}

#[test]
fn r061_what_is_registered_decides_which_device_and_a_host_without_it_is_refused_with_a_reason() {
    // Both devices: what demands hardware has it of the TPM, and so has what accepts both.
    let dev = Dev::start(&["--tpm", "2", "--hsm"]);
    assert_eq!(fetch(&dev, "x509")["key"]["custody"], "hardware");
    assert_eq!(private_keys(&dev).len(), 0);
    register(&dev, "token", "");
    assert_eq!(fetch(&dev, "x509")["key"]["custody"], "token");
    // An agent that has no token left has its key in the TPM, which is another class.
    let config = dev.system().join("agent1.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let without = text.split("[hsm]").next().unwrap();
    std::fs::write(&config, without).unwrap();
    let _agent = dev.restart_agent(1);
    let refused = dev.touchmark(&["workload", "fetch", "x509"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    let id = told
        .split_once("this credential (")
        .and_then(|(_, rest)| rest.split_once(')'))
        .unwrap_or_else(|| panic!("no refusal: {told}"))
        .0;
    let refusal = dev.json(&["why", id]);
    assert_eq!(refusal["reason"], "custody_insufficient", "{refusal}");
    assert_eq!(refusal["found"], "custody hardware", "{refusal}");
}

#[test]
fn what_an_earlier_run_of_the_agent_had_in_the_token_is_kept_or_destroyed() {
    let dev = with_hsm(&[]);
    let x509 = fetch(&dev, "x509");
    fetch(&dev, "wit");
    eventually("both keys", || private_keys(&dev).len() == 2);
    eventually("the certificate on disk", || {
        let kept = std::fs::read(dev.system().join("agent1/kept.cbor")).unwrap_or_default();
        String::from_utf8_lossy(&kept).contains("pkcs11:token=simulated-1")
    });
    let _agent = dev.restart_agent(1);
    // Certificates outlive the agent, with their keys; tokens are not written down, and their keys go.
    assert_eq!(fetch(&dev, "x509")["key"]["handle"], x509["key"]["handle"]);
    fetch(&dev, "wit");
    eventually("the old key's end", || private_keys(&dev).len() == 2);
    assert_eq!(key_files(&dev).len(), 2);
    // What is no longer registered leaves nothing behind.
    let deleted = dev.touchmark(&["registration", "delete", "dev/held"]);
    assert!(deleted.status.success(), "{deleted:?}");
    eventually("the keys' end", || private_keys(&dev).is_empty());
    eventually("the files' end", || key_files(&dev).is_empty());
}

#[test]
fn r005_keys_in_the_token_are_renewed_and_one_that_is_gone_is_replaced() {
    let mut clock = Clock::new();
    let environment = clock.environment();
    let environment: Vec<(&str, &str)> = environment
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let dev = Dev::start_with(&["--tpm", "1", "--hsm"], &environment);
    // The host's own attestation is another test's.
    dev.end_server();
    let _server = dev.start_server_with(&environment, |text| {
        format!("host_lifetime = \"24h\"\nreattest_interval = \"24h\"\n{text}")
    });
    dev.end_agent(1);
    dev.forget(1);
    let _agent = dev.start_agent_with(1, &environment);
    register(&dev, "token", "");
    let issued = || {
        let wanted = format!("x509 {} ", identifier("held"));
        dev.events("credential.issued")
            .iter()
            .filter(|event| event["detail"].as_str().unwrap().starts_with(&wanted))
            .count()
    };
    let held = || {
        let fetched = dev
            .command(binary("touchmark"))
            .envs(environment.iter().copied())
            .args(["workload", "fetch", "x509", "--output", "json"])
            .output()
            .unwrap();
        assert!(fetched.status.success(), "{fetched:?}");
        serde_json::from_slice::<Value>(&fetched.stdout).unwrap()
    };
    eventually("the first credential", || issued() == 1);
    eventually("both keys", || private_keys(&dev).len() == 2);
    let first = held();
    // Five eighths of an hour: the latest moment at which a credential of an hour is renewed.
    clock.advance(38 * 60);
    eventually("the renewal", || issued() == 2);
    eventually("the renewed one", || held()["not_after"] != first["not_after"]);
    assert_eq!(held()["key"]["handle"], first["key"]["handle"]);
    assert_eq!(private_keys(&dev).len(), 2);
    delete_key(&dev, "touchmark dev/held x509");
    clock.advance(38 * 60);
    eventually("the replacement", || issued() == 3);
    eventually("the other key", || {
        held()["key"]["handle"] != first["key"]["handle"]
    });
    eventually("both keys", || private_keys(&dev).len() == 2);
}

#[test]
fn a_key_that_is_gone_from_the_token_is_replaced_as_soon_as_it_is_missed() {
    let dev = with_hsm(&[]);
    let (x509, before) = (fetch(&dev, "x509"), fetch(&dev, "wit"));
    eventually("both keys", || private_keys(&dev).len() == 2);
    delete_key(&dev, "touchmark dev/held wit");
    eventually("a proof", || {
        dev.touchmark(&["workload", "prove", "--audience", "https://peer.example.org/"])
            .status
            .success()
    });
    assert_ne!(fetch(&dev, "wit")["key"]["handle"], before["key"]["handle"]);
    // The certificate's key is missed in a handshake.
    delete_key(&dev, "touchmark dev/held x509");
    block_on(async {
        let source = source(&dev).await;
        let own = || Peers::only([identifier("held")]).unwrap().accepting_simulated();
        let listener = Listener::bind("127.0.0.1:0", &source, own()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connector = Connector::new(&source, own()).unwrap();
        let connect = connector.connect("127.0.0.1", port);
        let mut listener = listener;
        let tried = async { tokio::join!(connect, listener.next()) };
        // The handshake fails, and the server goes on waiting for the next.
        let _ = tokio::time::timeout(Duration::from_secs(3), tried).await;
    });
    eventually("another key", || {
        fetch(&dev, "x509")["key"]["handle"] != x509["key"]["handle"]
    });
    eventually("both keys", || private_keys(&dev).len() == 2);
}

#[test]
fn killing_the_process_of_the_module_loses_nothing() {
    let dev = with_hsm(&[]);
    let before = fetch(&dev, "x509");
    let helpers = || -> Vec<u32> {
        dev.processes()
            .into_iter()
            .filter(|(pid, line)| {
                line.contains("touchmark-device")
                    && std::fs::read_to_string(format!("/proc/{pid}/maps"))
                        .is_ok_and(|maps| maps.contains("softhsm"))
            })
            .map(|(pid, _)| pid)
            .collect()
    };
    let serving = helpers();
    assert!(!serving.is_empty(), "{:?}", dev.processes());
    for pid in &serving {
        let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        assert!(killed.unwrap().success());
    }
    // The same credential, and its key signs, in a process of its own again.
    assert_eq!(fetch(&dev, "x509")["key"]["handle"], before["key"]["handle"]);
    eventually("a signature", || {
        dev.touchmark(&["workload", "prove", "--audience", "https://peer.example.org/"])
            .status
            .success()
    });
    assert!(helpers().iter().all(|pid| !serving.contains(pid)));
}

/// An HSM that fails takes the keys in it along, and nothing else: the host attests, and what is in the TPM is served.
#[test]
fn an_hsm_that_fails_is_told_as_that_and_takes_nothing_else_along() {
    for (fault, told) in [("token-full", "no room"), ("pin-locked", "locked")] {
        let dev = with_hsm(&["--fault", fault]);
        let failed = dev.touchmark(&["workload", "fetch", "x509"]);
        let text = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert_eq!(failed.status.code(), Some(3), "{fault}: {failed:?}");
        assert!(text.contains("HSM: ") && text.contains(told), "{fault}: {text}");
        register(&dev, "hardware", "");
        assert_eq!(fetch(&dev, "x509")["key"]["custody"], "hardware");
    }
}

#[test]
fn an_hsm_that_crashes_now_and_then_or_is_slow_serves_all_the_same() {
    for fault in ["hsm-slow", "hsm-crash"] {
        let dev = with_hsm(&["--fault", fault]);
        eventually(fault, || {
            let fetched = dev.touchmark(&["workload", "fetch", "x509"]);
            fetched.status.success()
        });
    }
}
