//! Processes and their identities, on running systems.

use std::{os::unix::process::CommandExt, process::Output};

use serde_json::Value;
use touchmark_crypto::{
    jose::{Jwk, b64u_decode, jws::Jws},
    pem,
    x509::{Anchors, Certificate, Usage, verify_path},
};
use touchmark_tests::{
    dev::{Dev, eventually},
    sim::binary,
};

fn now() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

fn fetch(dev: &Dev, kind: &str) -> Value {
    dev.json(&["workload", "fetch", kind])
}

fn claims(token: &str) -> Value {
    let payload = b64u_decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn r020_r030_both_kinds_name_the_same_identifier_on_separate_held_keys() {
    let dev = Dev::start(&[]);
    let x509 = fetch(&dev, "x509");
    let wit = fetch(&dev, "wit");
    let chain = pem::decode_all("CERTIFICATE", x509["chain_pem"].as_str().unwrap()).unwrap();
    let bundle = pem::decode_all("CERTIFICATE", x509["bundle_pem"].as_str().unwrap()).unwrap();
    assert_eq!(chain.len(), 2, "leaf and intermediate, without the root");
    let leaf = Certificate::parse(&chain[0]).unwrap();
    assert_eq!(leaf.uri_sans, [x509["identifier"].as_str().unwrap()]);
    assert_eq!(leaf.dns_sans, ["localhost"]);
    assert!(!leaf.is_ca && leaf.digital_signature);
    let anchors = Anchors::new(bundle).unwrap();
    for usage in [Usage::Server, Usage::Client] {
        verify_path(&chain[0], &chain[1..], &anchors, usage, now()).unwrap();
    }
    let claims = claims(wit["token"].as_str().unwrap());
    assert_eq!(
        claims["sub"].as_str().unwrap().as_bytes(),
        leaf.uri_sans[0].as_bytes()
    );
    let key = Jwk::from_json(claims["cnf"]["jwk"].as_object().unwrap()).unwrap();
    assert_ne!(key.key().spki(), leaf.spki);
    assert_ne!(x509["key"]["handle"], wit["key"]["handle"]);
    for document in [&x509, &wit] {
        assert_eq!(document["key"]["custody"], "hardware");
        assert_eq!(document["key"]["simulated"], true);
        assert_eq!(document["key"]["use"], "agent");
    }
    // The same credential is served while it lives.
    assert_eq!(fetch(&dev, "x509")["key"]["handle"], x509["key"]["handle"]);
}

#[test]
fn custody_travels_in_both_credentials_as_an_attestation_result() {
    let dev = Dev::start(&[]);
    let x509 = fetch(&dev, "x509");
    let chain = pem::decode_all("CERTIFICATE", x509["chain_pem"].as_str().unwrap()).unwrap();
    let leaf = Certificate::parse(&chain[0]).unwrap();
    let extension = leaf.extension("1.3.6.1.5.5.7.1.35").unwrap();
    // UTF8String with a two-byte length.
    assert_eq!(extension[..2], [0x0c, 0x82]);
    let in_certificate: Value = serde_json::from_slice(&extension[4..]).unwrap();
    let in_token = claims(fetch(&dev, "wit")["token"].as_str().unwrap())["cmw"].clone();
    for cmw in [in_certificate, in_token] {
        assert_eq!(cmw[0], "application/eat-ucs+json");
        let ear: Value = serde_json::from_slice(&b64u_decode(cmw[1].as_str().unwrap()).unwrap()).unwrap();
        assert_eq!(ear["eat_profile"], "tag:ietf.org,2026:rats/ear#03");
        let key = &ear["submods"]["key"];
        assert_eq!(key["touchmark_custody"], "hardware");
        assert_eq!(key["touchmark_simulated"], true);
        assert_eq!(key["touchmark_use"], "agent");
        assert_eq!(ear["submods"]["host"]["ear_status"], "affirming");
        assert!(key["touchmark_evidence"] != ear["submods"]["host"]["touchmark_evidence"]);
    }
}

#[test]
fn a_proof_is_for_its_audience_and_verifies_under_the_key_in_the_token() {
    let dev = Dev::start(&[]);
    let proof = dev.json(&["workload", "prove", "--audience", "https://peer.example.org/path"]);
    let claims = claims(proof["wit"].as_str().unwrap());
    let key = Jwk::from_json(claims["cnf"]["jwk"].as_object().unwrap()).unwrap();
    let wpt = Jws::parse(proof["wpt"].as_str().unwrap()).unwrap();
    assert_eq!(wpt.header("typ"), Some("wpt+jwt"));
    let said = wpt.verify(key.key(), key.alg()).unwrap();
    assert_eq!(said["aud"], "https://peer.example.org/path");
    let hash = touchmark_crypto::sha256(&[proof["wit"].as_str().unwrap().as_bytes()]);
    assert_eq!(said["wth"], touchmark_crypto::jose::b64u(&hash));
    let left = said["exp"].as_u64().unwrap() - now();
    assert!(left <= 60, "{left}");
    // The token verifies under the trust domain's keys.
    let wit = fetch(&dev, "wit");
    let jws = Jws::parse(proof["wit"].as_str().unwrap()).unwrap();
    let keys = touchmark_wimse::bundle::wit_keys(wit["jwks"].as_object().unwrap());
    let (_, anchor) = keys
        .iter()
        .find(|(kid, _)| Some(kid.as_str()) == jws.header("kid"))
        .unwrap();
    jws.verify(anchor, touchmark_crypto::SigningAlg::Es256).unwrap();
    for audience in ["peer", "/path", "https://", "https://a/b?c", "https://a/b#c"] {
        let output = dev.touchmark(&["workload", "prove", "--audience", audience]);
        assert_eq!(output.status.code(), Some(2), "{audience}");
    }
}

#[test]
fn r029_r067_a_process_without_a_matching_registration_gets_nothing() {
    let dev = Dev::start(&[]);
    let exe = binary("touchmark").canonicalize().unwrap();
    let file = |selector: &str| {
        dev.file(
            "other.toml",
            &format!(
                "label = \"dev\"\n[[registration]]\nname = \"other\"\nidentifier = \"spiffe://example.org/other\"\n\
                 workload = {{ {selector} }}\nkinds = [\"x509\"]\ncustody = [\"hardware\"]\n"
            ),
        )
    };
    let apply = |path: &str| dev.touchmark(&["registration", "apply", "--prune", "--file", path]);
    // The user's own registration is pruned; another user's does not help this one.
    let uid = nix_uid();
    assert!(apply(&file(&format!("uid = {}", uid + 1))).status.success());
    let refused = dev.touchmark(&["workload", "fetch", "x509"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("no identity for this process"),
        "{}",
        stderr(&refused)
    );
    assert!(refused.stdout.is_empty());
    // By executable: this one, and a copy of it elsewhere.
    assert!(
        apply(&file(&format!("exe = \"{}\"", exe.display())))
            .status
            .success()
    );
    assert_eq!(fetch(&dev, "x509")["identifier"], "spiffe://example.org/other");
    let copy = dev.system().join("copy");
    std::fs::copy(&exe, &copy).unwrap();
    let output = dev
        .command(&copy)
        .args(["workload", "fetch", "x509"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    // By digest: the copy has it too, whatever its path.
    let digest = hex::encode(touchmark_crypto::sha256(&[&std::fs::read(&exe).unwrap()]));
    assert!(
        apply(&file(&format!("exe_sha256 = \"{digest}\"")))
            .status
            .success()
    );
    // What the service said a moment ago, when the copy was refused, may count for a moment more.
    eventually("the copy has an identity by its digest", || {
        dev.command(&copy)
            .args(["workload", "fetch", "x509"])
            .output()
            .unwrap()
            .status
            .success()
    });
    // The kind that is not listed is not had.
    assert_eq!(
        dev.touchmark(&["workload", "fetch", "wit"]).status.code(),
        Some(1)
    );
}

fn nix_uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid()
}

#[test]
fn r063_two_users_of_one_host_hold_two_identities() {
    if nix_uid() != 0 {
        eprintln!("needs root to become another user: not run");
        return;
    }
    let dev = Dev::start(&[]);
    let file = dev.file(
        "nobody.toml",
        "label = \"nobody\"\n[[registration]]\nname = \"nobody\"\nidentifier = \"spiffe://example.org/nobody\"\n\
         workload = { uid = 65534 }\nkinds = [\"x509\"]\ncustody = [\"hardware\"]\n",
    );
    assert!(
        dev.touchmark(&["registration", "apply", "--file", &file])
            .status
            .success()
    );
    // Where every user may execute it.
    let program = tempfile::tempdir().unwrap();
    std::fs::set_permissions(
        program.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let path = program.path().join("touchmark");
    std::fs::copy(binary("touchmark"), &path).unwrap();
    let mut command = dev.command(&path);
    command
        .args(["workload", "fetch", "x509", "--output", "json"])
        .uid(65534)
        .gid(65534);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(theirs["identifier"], "spiffe://example.org/nobody");
    let ours = fetch(&dev, "x509");
    assert_eq!(ours["identifier"], "spiffe://example.org/user/0");
    // Nor does the other user reach the operators' socket.
    let mut command = dev.command(&path);
    let output = command
        .args(["host", "list"])
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn e28_a_tpm_that_no_maker_vouches_for_gets_class_token_and_nothing_that_wants_hardware() {
    // Without an endorsement certificate: a TPM whose certificates are gone.
    let dev = Dev::start(&[]);
    let bare = touchmark_tests::sim::Sim::start(&["--tpm", "1"]);
    for index in ["0x01c00002", "0x01c0000a", "0x01c00100"] {
        let status = std::process::Command::new("tpm2_nvundefine")
            .args([
                "-T",
                &format!("swtpm:host=127.0.0.1,port={}", bare.port(1)),
                "-C",
                "p",
                index,
            ])
            .output()
            .unwrap();
        assert!(
            status.status.success(),
            "{}",
            String::from_utf8_lossy(&status.stderr)
        );
    }
    let device = bare.device(1);
    let (address, _) = dev.addresses();
    let pin = dev.pin();
    let knock = || {
        let visit = touchmark_tests::wire::introduce(&address, pin, &device);
        let (parts, key) = touchmark_tests::wire::evidence(&device, &visit, pin);
        (
            touchmark_tests::wire::send(&address, pin, &parts.message(&visit)),
            key,
        )
    };
    assert_eq!(knock().0.status, 403);
    let pending = dev.json(&["host", "list", "--pending"]);
    assert_eq!(pending[0]["note"], "presented no endorsement certificate");
    let digest = pending[0]["ek_digest"].as_str().unwrap();
    assert!(
        dev.touchmark(&["host", "enrol", "--name", "bare", "--ek-digest", digest])
            .status
            .success()
    );
    let (answer, key) = knock();
    let admission: touchmark_api::attest::Admission =
        touchmark_rats::cbor::decode(&answer.body, 1 << 20).unwrap();
    let leaf = Certificate::parse(&admission.chain[0]).unwrap();
    let text = String::from_utf8_lossy(leaf.extension("1.3.6.1.5.5.7.1.35").unwrap()).into_owned();
    let ear = b64u_decode(text.split('"').nth(3).unwrap()).unwrap();
    assert!(
        String::from_utf8(ear)
            .unwrap()
            .contains("\"touchmark_custody\":\"token\"")
    );
    // The registration of the calling user wants `hardware`.
    let host = crate::hosts::attested(&dev, &device, &admission, &key);
    let (status, refusal) = host.issue("dev/user-0", "x509");
    if nix_uid() == 0 {
        assert_eq!(status, 403);
        assert_eq!(dev.json(&["why", &refusal])["reason"], "custody_insufficient");
    }
}

#[test]
fn credentials_follow_the_registrations_as_they_are_now() {
    let dev = Dev::start(&[]);
    let before = fetch(&dev, "x509");
    let name = format!("dev/user-{}", nix_uid());
    assert!(dev.touchmark(&["registration", "delete", &name]).status.success());
    // As soon as the agent was told.
    eventually("the end of the credential", || {
        dev.touchmark(&["workload", "fetch", "x509"]).status.code() == Some(1)
    });
    // The identifier is not given to somebody else while what was issued lives.
    let file = dev.file(
        "taken.toml",
        &format!(
            "label = \"other\"\n[[registration]]\nname = \"thief\"\nidentifier = \"{}\"\nworkload = {{ uid = 1 }}\n\
             kinds = [\"x509\"]\ncustody = [\"hardware\"]\n",
            before["identifier"].as_str().unwrap()
        ),
    );
    let output = dev.touchmark(&["registration", "apply", "--file", &file]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("nothing was changed"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn r069_a_dry_run_says_what_would_change_and_changes_nothing() {
    let dev = Dev::start(&[]);
    let before = dev.json(&["registration", "list"]);
    let file = dev.file(
        "new.toml",
        "label = \"dev\"\n[[registration]]\nname = \"new\"\nidentifier = \"spiffe://example.org/new\"\n\
         workload = { uid = 7 }\nkinds = [\"wit\"]\ncustody = [\"token\"]\n",
    );
    let shown = dev.json(&["registration", "apply", "--dry-run", "--prune", "--file", &file]);
    let changes: Vec<&str> = shown["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["change"].as_str().unwrap())
        .collect();
    assert_eq!(changes, ["added", "deleted"]);
    assert_eq!(dev.json(&["registration", "list"]), before);
    let bad = dev.file("bad.toml", "label = \"dev\"\nbogus = 1\n");
    let output = dev.touchmark(&["registration", "apply", "--file", &bad]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("bogus"));
}

#[test]
fn a_faulty_host_is_refused_while_the_good_one_is_served() {
    let dev = Dev::start(&["--tpm", "2", "--fault", "kernel@2"]);
    assert_eq!(dev.host("host-1")["state"], "attested");
    let refused = dev.host("host-2");
    assert_eq!(
        (refused["state"].as_str(), refused["reason"].as_str()),
        (Some("refused"), Some("reference_mismatch"))
    );
    let why = dev.json(&["why", refused["refusal"].as_str().unwrap()]);
    let found = why["found"].as_str().unwrap();
    assert!(found.contains("PCR 4: /boot/vmlinuz-6.1.0-31-amd64"), "{found}");
    assert!(
        found.contains("not among the values of 'simulated-boot'"),
        "{found}"
    );
    fetch(&dev, "x509");
    let second = dev.description()["hosts"][1]["agent_socket"]
        .as_str()
        .unwrap()
        .to_owned();
    let output = dev.touchmark(&["workload", "--socket", &second, "fetch", "x509"]);
    assert_eq!(output.status.code(), Some(1), "refused, and not out of reach");
    assert!(
        stderr(&output).contains("the host was refused"),
        "{}",
        stderr(&output)
    );
    // What was found good is captured from the refused host's own evidence, and its next try is admitted.
    let captured = dev.touchmark(&["reference", "capture", "host-2", "--label", "other-kernel"]);
    let file = dev.file("captured.toml", &String::from_utf8(captured.stdout).unwrap());
    assert!(
        dev.touchmark(&["reference", "apply", "--file", &file])
            .status
            .success()
    );
    eventually("host-2's admission", || dev.host("host-2")["state"] == "attested");
}

#[test]
fn without_an_agent_or_a_server_commands_say_whom_they_looked_for() {
    let touchmark = |arguments: &[&str]| {
        std::process::Command::new(binary("touchmark"))
            .args(arguments)
            .output()
            .unwrap()
    };
    let output = touchmark(&["workload", "fetch", "x509", "--socket", "/nonexistent/agent.sock"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("/nonexistent/agent.sock"));
    let output = touchmark(&["host", "list", "--admin-socket", "/nonexistent/admin.sock"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("/nonexistent/admin.sock"));
    let output = touchmark(&["id", "check", "spiffe://example.org/a", "spiffe://example.org/a/"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        touchmark(&["id", "check", "wimse://example.org/a"]).status.code(),
        Some(0)
    );
    assert_eq!(touchmark(&["bogus"]).status.code(), Some(2));
}
