//! Other verifiers: what of their answers is taken for a result, and what a result makes of a host.

use std::{fs::read_to_string, time::Duration};

use serde_json::json;
use tokio::runtime::Runtime;
use touchmark_crypto::jose::b64u;
use touchmark_external::{EVIDENCE_TYPE, Endpoint, Unanswered};
use touchmark_tests::{
    dev::{Dev, Restarted, eventually},
    verifier::{DEVELOPER, Manner, Verifier},
};

const NONCE: [u8; 32] = [0xfe; 32];

/// What comes of asking a verifier that behaves like this.
fn asked(
    runtime: &Runtime,
    verifier: &Verifier,
    manner: Manner,
    patience: u64,
) -> Result<String, Unanswered> {
    verifier.speak(manner);
    let patience = Duration::from_secs(patience);
    let endpoint = Endpoint::configured(&verifier.url(), Some(&verifier.roots()), patience).unwrap();
    runtime.block_on(endpoint.result(&NONCE, EVIDENCE_TYPE, vec![1, 2, 3].into()))
}

#[test]
fn r065_a_verifier_is_asked_in_a_session_under_the_nonce_that_the_evidence_has() {
    let (verifier, runtime) = (Verifier::start(), Runtime::new().unwrap());
    for manner in [
        Manner::Direct,
        Manner::Later(3),
        Manner::Takes("application/cmw+cbor;cmwc_t=\"tag:touchmark.dev,2026:tpm-host\""),
        Manner::Location(format!("{}/challenge-response/v1/session/4", verifier.url())),
    ] {
        let token = asked(&runtime, &verifier, manner.clone(), 10).unwrap();
        assert_eq!(token.split('.').count(), 3, "{manner:?}");
        eventually("the session's end", || {
            let behaviour = verifier.behaviour();
            behaviour.closed == behaviour.opened
        });
    }
    assert_eq!(verifier.behaviour().evidence, [1, 2, 3]);
}

#[test]
fn r065_a04_what_is_no_result_is_named_and_nobody_is_led_elsewhere() {
    let (verifier, elsewhere) = (Verifier::start(), Verifier::start());
    let runtime = Runtime::new().unwrap();
    let says = |manner, what: &str| {
        let error = asked(&runtime, &verifier, manner, 2).unwrap_err().to_string();
        assert!(error.contains(what), "{what}: {error}");
    };
    says(Manner::Problem(400), "status 400: cannot: no plugin for that");
    says(Manner::Problem(503), "status 503");
    says(
        Manner::Takes("application/psa-attestation-token"),
        "application/psa-attestation-token",
    );
    says(Manner::OwnNonce, "another nonce");
    says(Manner::Flood(3 << 20), "2 MiB");
    says(Manner::Flood(10), "not a session");
    says(Manner::State(json!({"status": "failed"})), "failed");
    says(Manner::State(json!({"status": "complete"})), "without a result");
    says(Manner::State(json!({"status": 7})), "not a session");
    says(Manner::Slow(Duration::from_secs(5)), "within 2 s");
    // One that is never done is waited for no longer than one that is slow.
    says(Manner::Later(u32::MAX), "within 2 s");
    let foreign = format!("{}/challenge-response/v1/session/1", elsewhere.url());
    says(Manner::Location(foreign.clone()), "Location");
    says(Manner::Redirect(foreign), "status 307");
    assert_eq!(elsewhere.behaviour().opened, 0);
    assert!(elsewhere.behaviour().evidence.is_empty());
    // A server below other roots is not spoken to.
    let patience = Duration::from_secs(2);
    let endpoint = Endpoint::configured(&elsewhere.url(), Some(&verifier.roots()), patience).unwrap();
    let result = runtime.block_on(endpoint.result(&NONCE, EVIDENCE_TYPE, vec![1].into()));
    assert!(matches!(result, Err(Unanswered::Unreachable(_))), "{result:?}");
    assert_eq!(elsewhere.behaviour().opened, 0);
}

/// `[[verifier]]` for this one.
fn section(verifier: &Verifier, more: &str) -> String {
    format!(
        "\n[[verifier]]\nname = \"second\"\nurl = \"{}\"\nroots = \"{}\"\nkeys = [\"{}\"]\ndeveloper = \"{DEVELOPER}\"\n{more}\n",
        verifier.url(),
        verifier.roots().display(),
        verifier.key().display(),
    )
}

fn demand(dev: &Dev, verifier: &Verifier, more: &str) -> Restarted {
    let section = section(verifier, more);
    dev.restart_server(|text| format!("reattest_interval = \"4s\"\n{text}{section}"))
}

fn is(dev: &Dev, host: &str, state: &str) {
    let start = std::time::Instant::now();
    loop {
        let found = dev.host(host);
        if found["state"] == state {
            return;
        }
        let why = dev.touchmark(&["why", host]);
        assert!(
            start.elapsed() < Duration::from_secs(90),
            "{host} is not {state}: {found} {}",
            String::from_utf8_lossy(&why.stdout)
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What was found when host 1 was refused by this check for this reason.
fn refused(dev: &Dev, check: &str, reason: &str) -> String {
    is(dev, "host-1", "refused");
    let why = dev.json(&["why", "host-1"]);
    assert_eq!(
        (&why["check"], &why["reason"]),
        (&check.into(), &reason.into()),
        "{why}"
    );
    why["found"].as_str().unwrap().to_owned()
}

#[test]
fn r008_r065_another_verifiers_result_decides_beside_our_own_appraisal() {
    let dev = Dev::start(&["--tpm", "2", "--fault", "kernel@2"]);
    let verifier = Verifier::start();
    let server = demand(
        &dev,
        &verifier,
        "submodules = [\"TPM\"]\nentries = [\"executables\"]\ntimeout = \"2s\"",
    );
    let asked = || verifier.behaviour().opened;
    eventually("a first and a second result", || asked() >= 2);
    let last = dev.host("host-1")["last_attested"].clone();
    eventually("an attestation with a result", || {
        dev.host("host-1")["last_attested"].as_str() > last.as_str()
    });
    assert_eq!(dev.host("host-1")["state"], "attested");
    // Whoever our own appraisal refuses is nobody to ask about; and what another verifier affirms makes up for nothing.
    assert_eq!(dev.host("host-2")["reason"], "reference_mismatch");
    for (change, check, reason) in [
        (
            json!({"ear_status": "warning"}),
            "ear.status",
            "result_not_affirming",
        ),
        (
            json!({"ear_status": "contraindicated"}),
            "ear.status",
            "result_not_affirming",
        ),
        (
            json!({"ear_trustworthiness_vector": {"instance-identity": 2}}),
            "ear.vector",
            "result_not_affirming",
        ),
    ] {
        verifier.say(move |claims| {
            for (name, value) in change.as_object().unwrap() {
                claims["submods"]["TPM"][name] = value.clone();
            }
        });
        assert!(refused(&dev, check, reason).starts_with("verifier second: "));
        verifier.say(|_| {});
        is(&dev, "host-1", "attested");
    }
    verifier.say(|claims| {
        let host = claims["submods"]["TPM"].take();
        claims["submods"] = json!({"another": host});
    });
    is(&dev, "host-1", "refused");
    assert_eq!(dev.json(&["why", "host-1"])["check"], "ear.submodules");
    // What keeps it out by now is told, not what did before.
    verifier.speak(Manner::Problem(503));
    verifier.say(|_| {});
    eventually("the newer obstacle", || {
        dev.json(&["why", "host-1"])["reason"] == "verifier_unavailable"
    });
    verifier.speak(Manner::Direct);
    is(&dev, "host-1", "attested");
    drop(server);
}

#[test]
fn r065_where_no_result_counts_nothing_is_concluded_and_nothing_issued() {
    let dev = Dev::start(&[]);
    let mut verifier = Verifier::start();
    let _server = demand(&dev, &verifier, "timeout = \"2s\"");
    eventually("a result", || verifier.behaviour().opened >= 2);
    let silent = |reason: &str, found: &str| {
        is(&dev, "host-1", "silent");
        eventually(&format!("a note about {reason}"), || {
            let why = dev.json(&["why", "host-1"]);
            why["reason"] == reason && why["found"].as_str().unwrap().contains(found)
        });
    };
    verifier.say(|claims| claims["eat_nonce"] = b64u(&[1; 32]).into());
    silent("nonce_mismatch", "verifier second");
    verifier.say(|_| {});
    is(&dev, "host-1", "attested");
    verifier.say(|claims| claims["ear_verifier_id"]["developer"] = "somebody".into());
    silent("verifier_mismatch", "somebody");
    verifier.say(|_| {});
    is(&dev, "host-1", "attested");
    verifier.behaviour().other_key = true;
    silent("signature_invalid", "verifier second");
    verifier.behaviour().other_key = false;
    is(&dev, "host-1", "attested");
    verifier.speak(Manner::Problem(500));
    silent("verifier_unavailable", "status 500");
    // A service and agents that start meanwhile change nothing about that.
    verifier.end();
    let _agent = {
        dev.end_agent(1);
        dev.forget(1);
        dev.start_agent(1)
    };
    silent("verifier_unavailable", "not reachable");
    let refused = dev.events("host.refused");
    assert!(refused.is_empty(), "{refused:?}");
    verifier.speak(Manner::Direct);
    verifier.again();
    is(&dev, "host-1", "attested");
}

#[test]
fn r065_a_verifier_is_asked_about_the_hosts_that_it_is_for_and_a_wrong_section_says_what_to_write() {
    let dev = Dev::start(&[]);
    let verifier = Verifier::start();
    let config = dev.system().join("server.toml");
    let good = read_to_string(&config).unwrap();
    dev.end_server();
    for (more, what) in [
        ("entries = [\"executable\"]", "there are instance-identity"),
        ("timeout = \"30s\"", "between 1s and 20s"),
        ("hosts = []", "leave it out"),
        ("profile = \"ear\"", "ear-03"),
        ("colour = 1", "colour"),
    ] {
        std::fs::write(&config, format!("{good}{}", section(&verifier, more))).unwrap();
        let output = dev.touchmark(&["server", "run", "--config", &config.display().to_string()]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && error.contains(what),
            "{what}: {error}"
        );
    }
    let keys = |keys: &str| {
        let named = format!("keys = [\"{}\"]", verifier.key().display());
        format!("{good}{}", section(&verifier, "").replace(&named, keys))
    };
    let no_key = dev.file("no.jwk", "{\"kty\": \"EC\", \"crv\": \"P-256\"}");
    for (wrong, what) in [
        (keys("keys = []"), "one to four files"),
        (keys(&format!("keys = [\"{no_key}\"]")), "no public JWK"),
    ] {
        std::fs::write(&config, wrong).unwrap();
        let output = dev.touchmark(&["server", "run", "--config", &config.display().to_string()]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && error.contains(what),
            "{what}: {error}"
        );
    }
    let twice = format!("{good}{0}{0}", section(&verifier, ""));
    std::fs::write(&config, twice).unwrap();
    let output = dev.touchmark(&["server", "run", "--config", &config.display().to_string()]);
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("appears twice")
    );
    let section = section(&verifier, "hosts = [\"lab\"]");
    let text = format!("reattest_interval = \"4s\"\n{good}{section}");
    let _server = dev.start_server_with(&[], |_| text);
    let before = dev.host("host-1")["last_attested"].clone();
    eventually("another attestation", || {
        dev.host("host-1")["last_attested"] != before
    });
    assert_eq!(verifier.behaviour().opened, 0);
}

#[test]
fn r008_r065_a_host_presents_the_result_that_it_asked_for_itself() {
    let dev = Dev::start(&[]);
    let mut verifier = Verifier::start();
    let section = format!(
        "\n[[verifier]]\nname = \"second\"\nkeys = [\"{}\"]\nentries = [\"executables\"]\n",
        verifier.key().display()
    );
    let _server = dev.restart_server(|text| format!("reattest_interval = \"4s\"\n{text}{section}"));
    // Its agent does not know of that verifier.
    assert_eq!(refused(&dev, "verifier.result", "verifier_unavailable"), "none");
    dev.end_agent(1);
    let config = dev.system().join("agent1.toml");
    let section = format!(
        "\n[[verifier]]\nname = \"second\"\nurl = \"{}\"\nroots = \"{}\"\n",
        verifier.url(),
        verifier.roots().display()
    );
    let text = read_to_string(&config).unwrap() + &section;
    std::fs::write(&config, text).unwrap();
    let _agent = dev.start_agent(1);
    is(&dev, "host-1", "attested");
    let first = verifier.behaviour().opened;
    eventually("the results of further attestations", || {
        verifier.behaviour().opened > first + 1
    });
    assert_eq!(dev.host("host-1")["state"], "attested");
    for (change, check, reason) in [
        (
            json!({"eat_nonce": b64u(&[1; 32])}),
            "ear.nonce",
            "nonce_mismatch",
        ),
        (json!({"exp": 1_000_000_000}), "ear.times", "expired"),
        (
            json!({"eat_profile": "tag:somebody,2026:ear"}),
            "ear.claims",
            "wrong_profile",
        ),
        // Evidence of another host under this binding: that host is as affirming as it likes.
        (
            json!({"submods": {"TPM": {"ear_status": "affirming", "ear_veraison_key_attestation": {"akpub": b64u(&[1; 91])}}}}),
            "ear.key",
            "attestation_key_mismatch",
        ),
        (
            json!({"submods": {"TPM": {"ear_status": "affirming"}}}),
            "ear.key",
            "attestation_key_mismatch",
        ),
    ] {
        verifier.say(move |claims| {
            for (name, value) in change.as_object().unwrap() {
                claims[name] = value.clone();
            }
        });
        assert!(refused(&dev, check, reason).starts_with("verifier second: "));
        verifier.say(|_| {});
        is(&dev, "host-1", "attested");
    }
    verifier.behaviour().other_key = true;
    refused(&dev, "ear.signature", "signature_invalid");
    verifier.behaviour().other_key = false;
    is(&dev, "host-1", "attested");
    // Where there is no result to present, the agent presents nothing: nobody heard of the host, and nothing is said about it.
    let refusals = dev.events("host.refused").len();
    verifier.end();
    is(&dev, "host-1", "silent");
    assert_eq!(dev.events("host.refused").len(), refusals);
    verifier.again();
    is(&dev, "host-1", "attested");
}
