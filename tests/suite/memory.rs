//! Where private keys are not.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use touchmark_attestor_tpm::PublicArea;
use touchmark_crypto::{PublicKey, jose::b64u_decode, pem, x509::Certificate};
use touchmark_custody::tss2::Tss2Key;
use touchmark_tests::{
    calls::{Serving, command, identifier, register},
    dev::{Dev, eventually},
    search::Search,
};

/// Every key that rests below a folder in a TSS2 file.
fn held_keys(folder: &Path, search: &mut Search) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            held_keys(&path, search);
        } else if path.extension().is_some_and(|extension| extension == "tss2") {
            let key = Tss2Key::from_pem(&std::fs::read(&path).unwrap()).unwrap();
            // TPM2B_PUBLIC: a size in front of the area.
            let area = PublicArea::parse(&key.public[2..]).unwrap();
            search.add(&path.display().to_string(), &area.key);
        }
    }
}

#[test]
fn r031_no_process_and_no_file_of_ours_holds_a_private_key() {
    let dev = Dev::start(&[]);
    let x509 = dev.json(&["workload", "fetch", "x509"]);
    let proof = dev.json(&["workload", "prove", "--audience", "https://peer.example.org/"]);
    let mut search = Search::default();
    // Root, intermediate, WIT, result and TLS keys of the service, X.509 and WIT keys of the workload.
    held_keys(&dev.system(), &mut search);
    assert_eq!(search.len(), 7);
    let chain = pem::decode_all("CERTIFICATE", x509["chain_pem"].as_str().unwrap()).unwrap();
    let leaf = Certificate::parse(&chain[0]).unwrap();
    search.add("x509", &PublicKey::from_spki(&leaf.spki).unwrap());
    assert_eq!(search.len(), 7, "the workload's key is one of them");
    assert!(b64u_decode(proof["wpt"].as_str().unwrap().split('.').nth(2).unwrap()).is_ok());

    let processes = dev.processes();
    let of = |name: &str| {
        processes
            .iter()
            .filter(|(_, command)| command.contains(name))
            .count()
    };
    assert_eq!(
        (of("server run"), of("agent run"), of("device serve")),
        (1, 1, 2),
        "{processes:?}"
    );
    for (pid, command) in &processes {
        let found = search.process(*pid);
        assert!(found.is_empty(), "{command} holds {found:?}");
    }
    assert!(search.tried() > 10_000, "{} windows", search.tried());
    let found = search.folder(&dev.system());
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn c05_r031_workloads_that_call_each_other_hold_no_private_key() {
    let dev = Dev::start(&[]);
    register(&dev, &[("api", "axum_server"), ("web", "steady_client")]);
    let api = Serving::start(&dev, "axum_server", &["web"]);
    let mut caller = command(&dev, "steady_client")
        .args([identifier("api"), format!("https://{}/", api.address)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(caller.stdout.as_mut().unwrap()),
        &mut line,
    )
    .unwrap();
    assert_eq!(line, "calling\n");
    let mut search = Search::default();
    held_keys(&dev.system(), &mut search);
    // Five keys of the service, two of each workload.
    assert_eq!(search.len(), 9);
    for (name, pid) in [("server", api.id()), ("client", caller.id())] {
        let found = search.process(pid);
        assert!(found.is_empty(), "the {name} holds {found:?}");
    }
    for (pid, command) in &dev.processes() {
        let found = search.process(*pid);
        assert!(found.is_empty(), "{command} holds {found:?}");
    }
    assert!(search.tried() > 10_000, "{} windows", search.tried());
    let _ = caller.kill();
    let _ = caller.wait();
}

/// The same search finds what is there: a key that OpenSSL holds in memory and has on disk.
#[test]
fn r031_a_software_key_is_found_by_the_same_search() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let run = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        output.stdout
    };
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let files = ["-keyout", &at("key.pem"), "-out", &at("cert.pem")];
    run(&[
        &["req", "-x509", "-subj", "/CN=x", "-days", "1"][..],
        &curve,
        &files,
    ]
    .concat());
    let spki = run(&["pkey", "-in", &at("key.pem"), "-pubout", "-outform", "DER"]);
    let mut search = Search::default();
    search.add("openssl", &PublicKey::from_spki(&spki).unwrap());
    assert!(search.folder(folder.path()).is_empty(), "PEM is another encoding");
    run(&[
        "pkey",
        "-in",
        &at("key.pem"),
        "-outform",
        "DER",
        "-out",
        &at("key.der"),
    ]);
    assert_eq!(search.folder(folder.path()).len(), 1);

    let mut server = Command::new("openssl")
        .args([
            "s_server",
            "-accept",
            "127.0.0.1:0",
            "-key",
            &at("key.pem"),
            "-cert",
            &at("cert.pem"),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut search = Search::default();
    search.add("openssl", &PublicKey::from_spki(&spki).unwrap());
    eventually("the key in OpenSSL's memory", || {
        search.process(server.id()).contains(&"openssl".to_owned())
    });
    let _ = server.kill();
    let _ = server.wait();
}
