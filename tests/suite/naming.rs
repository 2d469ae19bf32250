//! Trust domains named in another way than by a domain name under `spiffe`, from the authority to the workload's hand.

use std::os::unix::fs::MetadataExt;

use serde_json::Value;
use touchmark_crypto::{jose::b64u_decode, pem, x509::Certificate};
use touchmark_tests::dev::Dev;

/// Both credentials of the calling user: the URI in the certificate, and the token's claims.
fn credentials(dev: &Dev) -> (Vec<String>, Value) {
    let x509 = dev.json(&["workload", "fetch", "x509"]);
    let chain = pem::decode_all("CERTIFICATE", x509["chain_pem"].as_str().unwrap()).unwrap();
    let leaf = Certificate::parse(&chain[0]).unwrap();
    let wit = dev.json(&["workload", "fetch", "wit"]);
    let payload = wit["token"].as_str().unwrap().split('.').nth(1).unwrap();
    let claims = serde_json::from_slice(&b64u_decode(payload).unwrap()).unwrap();
    (leaf.uri_sans, claims)
}

/// What `registration apply` says to an identifier.
fn register(dev: &Dev, identifier: &str) -> (Option<i32>, String) {
    let file = dev.file(
        "more.toml",
        &format!(
            "label = \"more\"\n[[registration]]\nname = \"a\"\nidentifier = \"{identifier}\"\n\
             workload = {{ uid = 1 }}\nkinds = [\"x509\"]\ncustody = [\"hardware\"]\n"
        ),
    );
    let output = dev.touchmark(&["registration", "apply", "--file", &file]);
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn r024_a_trust_domain_under_wimse_or_a_scheme_of_its_own_works_end_to_end() {
    for origin in ["wimse://example.org", "acme+w://example.org"] {
        let dev = Dev::start(&["--trust-domain", origin]);
        let (uris, claims) = credentials(&dev);
        let uid = std::fs::metadata("/proc/self").unwrap().uid();
        let identifier = format!("{origin}/user/{uid}");
        assert_eq!(uris, [identifier.as_str()]);
        assert_eq!(claims["sub"], identifier.as_str());
        assert_eq!(claims["iss"], origin);
        assert_eq!(dev.json(&["workload", "fetch", "bundle"])["trust_domain"], origin);
        let proof = dev.json(&["workload", "prove", "--audience", "https://peer.example.org/"]);
        assert_eq!(proof["identifier"], identifier.as_str());
        // The same name under another scheme is another trust domain.
        for other in ["spiffe://example.org/a", "other://example.org/a"] {
            let (code, why) = register(&dev, other);
            assert_eq!(code, Some(2), "{other}");
            assert!(why.contains("identifier"), "{why}");
        }
        assert_eq!(register(&dev, &format!("{origin}/a")).0, Some(0));
        let asked = dev.touchmark(&[
            "workload",
            "fetch",
            "x509",
            "--identifier",
            "spiffe://example.org/a",
        ]);
        assert_ne!(asked.status.code(), Some(0));
    }
}

#[test]
fn r024_a_scheme_that_is_not_configured_is_refused_by_every_role() {
    let dev = Dev::start(&["--trust-domain", "acme+w://example.org"]);
    for (role, file) in [("server", "server.toml"), ("agent", "agent1.toml")] {
        let text = std::fs::read_to_string(dev.system().join(file)).unwrap();
        let without = text.replace("naming.scheme = \"acme+w\"\n", "");
        assert_ne!(text, without);
        let config = dev.file("without.toml", &without);
        let output = dev.touchmark(&[role, "config", "check", "--config", &config]);
        assert_eq!(output.status.code(), Some(2), "{role}");
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            why.contains("trust_domain") && why.contains("naming.scheme"),
            "{why}"
        );
    }
    let check = |arguments: &[&str]| {
        let all = [&["id", "check", "acme+w://example.org/a"], arguments].concat();
        dev.touchmark(&all).status.code()
    };
    assert_eq!(check(&[]), Some(1));
    assert_eq!(check(&["--trust-domain", "acme+w://example.org"]), Some(0));
    assert_eq!(check(&["--trust-domain", "acme+w://example.com"]), Some(1));
    assert_eq!(check(&["--trust-domain", "acme+w"]), Some(2));
}

#[test]
fn r025_a_configured_address_is_a_trust_domain_and_the_audit_trail_says_so() {
    let dev = Dev::start(&["--trust-domain", "spiffe://192.0.2.7"]);
    let (uris, claims) = credentials(&dev);
    assert!(uris[0].starts_with("spiffe://192.0.2.7/user/"), "{uris:?}");
    assert_eq!(claims["sub"], uris[0].as_str());
    let audited = dev.events("trust_domain.name");
    assert!(
        audited.len() == 1 && audited[0]["subject"] == "spiffe://192.0.2.7",
        "{audited:?}"
    );
    for other in ["spiffe://192.0.2.8/a", "spiffe://192.0.519/a"] {
        let (code, why) = register(&dev, other);
        assert_eq!(code, Some(2), "{other}");
        assert!(why.contains("IP address"), "{why}");
    }
    // Without the switch the same configuration is refused.
    let text = std::fs::read_to_string(dev.system().join("server.toml")).unwrap();
    let config = dev.file(
        "without.toml",
        &text.replace("naming.ip_literal", "# naming.ip_literal"),
    );
    let output = dev.touchmark(&["server", "config", "check", "--config", &config]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("naming.ip_literal"));
}

#[test]
fn r025_an_address_is_audited_only_where_it_is_one() {
    let dev = Dev::start(&[]);
    assert!(dev.events("trust_domain.name").is_empty());
}
