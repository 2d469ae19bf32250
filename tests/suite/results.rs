//! The service's own attestation results: signed, with their AR4SI vector, about hosts as they stand.

use serde_json::Value;
use touchmark_crypto::jose::{json, jws::Jws};
use touchmark_tests::{dev::Dev, power};

fn result(dev: &Dev, host: &str, more: &[&str]) -> (String, Value) {
    let output = dev.touchmark(&[&["host", "result", host], more].concat());
    assert!(output.status.success(), "{output:?}");
    let token = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let jws = Jws::parse(&token).unwrap();
    let claims = jws.unverified_claims().unwrap();
    let host = claims.claims()["submods"]["host"].clone();
    (token, host)
}

#[test]
fn a_result_tells_what_was_established_and_is_verified_by_the_key_that_relying_parties_pin() {
    let dev = Dev::start(&["--tpm", "2", "--fault", "kernel@2"]);
    let key = dev.touchmark(&["host", "result", "--key"]);
    let key = dev.file("result.jwk", &String::from_utf8(key.stdout).unwrap());
    assert!(
        json::object(std::fs::read(&key).unwrap().as_slice())
            .unwrap()
            .contains_key("x")
    );
    let (good, host) = result(&dev, "host-1", &["--nonce", "relying-party-1"]);
    assert_eq!(host["ear_status"], "affirming");
    let vector = &host["ear_trustworthiness_vector"];
    assert_eq!(
        (&vector["configuration"], &vector["executables"]),
        (&2.into(), &2.into()),
        "{host}"
    );
    assert_eq!(vector["hardware"], Value::Null, "it is simulated");
    let (bad, host) = result(&dev, "host-2", &[]);
    assert_eq!(host["ear_status"], "contraindicated");
    assert_eq!(host["ear_trustworthiness_vector"]["executables"], 33);
    assert_eq!(host["touchmark_refusal"]["reason"], "reference_mismatch");
    let verify = |token: &str, more: &[&str]| {
        let file = dev.file("result.jwt", token);
        let arguments = [&["verify", "ear", &file, "--key", &key, "--output", "json"], more].concat();
        let output = dev.touchmark(&arguments);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(verify(&good, &["--nonce", "relying-party-1"]).0, Some(0));
    let (code, report) = verify(&good, &["--nonce", "relying-party-2"]);
    assert!(code == Some(1) && report.contains("nonce_mismatch"), "{report}");
    let (code, report) = verify(&bad, &[]);
    assert!(
        code == Some(1) && report.contains("result_not_affirming"),
        "{report}"
    );
    // By the key of somebody else, who may have signed it: that of another service.
    let other = Dev::start(&[]);
    let foreign = other.touchmark(&["host", "result", "host-1"]);
    let (code, report) = verify(String::from_utf8(foreign.stdout).unwrap().trim(), &[]);
    assert!(
        code == Some(1) && report.contains("signature_invalid"),
        "{report}"
    );
    dev.json(&["host", "evict", "host-1", "--reason", "sold"]);
    let (_, host) = result(&dev, "host-1", &[]);
    assert_eq!(host["ear_status"], "contraindicated");
    assert_eq!(host["ear_trustworthiness_vector"]["instance-identity"], 96);
    assert_eq!(
        dev.touchmark(&["host", "result", "host-1", "--nonce", "short"])
            .status
            .code(),
        Some(2)
    );
}

/// Whoever resets a discrete TPM by its reset line, or sits on its bus, can feed it the measurements of a good boot: the quote is genuine.
/// What shows is that it was reset.
#[test]
fn e19_e20_measurements_that_are_replayed_into_a_reset_tpm_are_not_seen_but_the_reset_is_a_claim_that_policy_denies()
 {
    let dev = Dev::start(&[]);
    let claim = |name: &str| {
        let explained = dev.touchmark(&["policy", "explain", "host-1", "--output", "json"]);
        let document: Value = serde_json::from_slice(&explained.stdout).unwrap_or_default();
        document["claims"][name].clone()
    };
    let before = claim("tpm.reset_count").as_u64().unwrap();
    power::reset(&dev);
    power::boot_again(&dev);
    touchmark_tests::dev::eventually("the host attests again", || {
        dev.host("host-1")["state"] == "attested" && claim("tpm.reset_count").as_u64() == Some(before + 1)
    });
    // Everything that was measured matches: the boot looks good, and the class stays what the maker's certificate says.
    assert_eq!(claim("references.matched")[0], "simulated-boot");
    assert_eq!(claim("device.kind"), "physical");
    let policy = dev.file(
        "resets.cedar",
        &format!(
            "permit (principal, action, resource);\n@id(\"never-reset\")\n@reason(\"this host is never reset\")\n\
             forbid (principal == Touchmark::Host::\"host-1\", action, resource)\n\
             when {{ context has tpm && context.tpm has reset_count && context.tpm.reset_count > {before} }};\n"
        ),
    );
    let tried = dev.json(&["policy", "apply", "-f", &policy, "--dry-run"]);
    let host = &tried["hosts"][0];
    assert_eq!(
        (&host["host"], &host["decision"]),
        (&"host-1".into(), &"deny".into()),
        "{tried}"
    );
    assert!(
        host["explanation"].as_str().unwrap().contains("never-reset"),
        "{tried}"
    );
}
