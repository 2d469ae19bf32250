//! Virtual machines whose endorsement key nobody certified, and whose attestation key the cloud did.

use touchmark_tests::dev::{Dev, eventually};

#[test]
fn r062_a_cloud_vouches_for_a_virtual_machine_by_the_certificate_of_its_attestation_key() {
    let dev = Dev::start(&["--tpm", "1", "--vtpm", "1"]);
    let hosts = ["host-1", "host-2"].map(|name| dev.json(&["host", "show", name]));
    let of = |host: usize, field: &str| hosts[host]["maker"][field].as_str().unwrap().to_owned();
    assert_eq!(
        (of(0, "kind"), of(0, "certified")),
        ("physical".into(), "endorsement_key".into())
    );
    assert_eq!(
        (of(1, "kind"), of(1, "certified")),
        ("hypervisor".into(), "attestation_key".into())
    );
    // It is known by its endorsement key all the same.
    assert_eq!(hosts[1]["ek_digests"], dev.description()["tpms"][1]["ek_digests"]);
    let claims = dev.json(&["policy", "explain", "host-2"])["claims"].clone();
    assert_eq!(claims["device.certified"], "attestation_key");
    // OpenSSL's serial number of the certificate that the TPM holds.
    let path = dev.description()["tpms"][1]["ak_cert"].clone();
    let output = dev
        .command("openssl")
        .args(["x509", "-noout", "-serial", "-in", path.as_str().unwrap()])
        .output()
        .unwrap();
    let serial = String::from_utf8(output.stdout).unwrap().trim().to_lowercase();
    assert_eq!(
        format!("serial={}", claims["device.serial"].as_str().unwrap()),
        serial
    );

    // The class of what it gets says who vouches, and a registration for chips does not serve it.
    let socket = |n: usize| {
        dev.description()["hosts"][n]["agent_socket"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let custody = |n: usize| {
        let fetched = dev.json(&["workload", "fetch", "x509", "--socket", &socket(n)]);
        fetched["key"]["custody"].clone()
    };
    assert_eq!((custody(0), custody(1)), ("hardware".into(), "hypervisor".into()));

    // Its agent comes back by the attestation key alone, and it attests again on its session.
    let _agent = dev.restart_agent(2);
    eventually("the host is attested after a restart of its agent", || {
        dev.host("host-2")["state"] == "attested"
    });
    let attested = |dev: &Dev| dev.host("host-2")["last_attested"].clone();
    let before = attested(&dev);
    let _server = dev.restart_server(|text| format!("reattest_interval = \"6s\"\n{text}"));
    eventually("it attests again", || {
        attested(&dev) != before && dev.host("host-2")["state"] == "attested"
    });
    assert_eq!(custody(1), "hypervisor");
}

#[test]
fn e07_a_virtual_machine_of_another_cloud_is_refused_and_why_says_what_was_looked_for() {
    let dev = Dev::start(&["--vtpm", "1", "--fault", "ek-unknown-maker"]);
    let why = dev.json(&["why", "host-1"]);
    assert_eq!(
        (&why["check"], &why["reason"]),
        (&"tpm.attestation_certificate.path".into(), &"path_invalid".into()),
        "{why}"
    );
}

#[test]
fn e07_without_attestation_certificates_in_the_configuration_nobody_vouches_for_a_virtual_machine() {
    let dev = Dev::start(&["--vtpm", "1"]);
    dev.end_agent(1);
    let _server = dev.restart_server(|text| text.replace("attestation_certificates = true\n", ""));
    let _agent = dev.start_agent(1);
    eventually("the host's refusal", || {
        dev.host("host-1")["reason"] == "path_invalid"
            && dev.json(&["why", "host-1"])["check"] == "tpm.attestation_certificate.path"
    });
    let remedy = dev.json(&["why", "host-1"])["remedy"].clone();
    assert!(
        remedy
            .as_str()
            .unwrap()
            .contains("attestation_certificates = true"),
        "{remedy}"
    );
}
