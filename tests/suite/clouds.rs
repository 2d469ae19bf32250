//! Virtual machines whose endorsement key nobody certified, and whose attestation key the cloud did.

use rcgen::{CertificateParams, Issuer, KeyPair};
use touchmark_api::attest::Introduction;
use touchmark_crypto::{PublicKey, Signer, SigningAlg, SoftwareKey};
use touchmark_rats::{
    PcrSelection, cbor,
    tpm::{TpmDeviceKey, TpmOpening},
};
use touchmark_tests::{
    dev::{Dev, eventually},
    sim::{Sim, device},
    subject::Subject,
    wire,
};

/// Has an operator take host 1 anew, by the digest of its first endorsement key.
fn replace_by_digest(dev: &Dev) {
    let digests = dev.description()["tpms"][0]["ek_digests"].clone();
    let digest = digests[0].as_str().unwrap();
    let taken = dev.touchmark(&[
        "host",
        "replace",
        "host-1",
        "--ek-digest",
        digest,
        "--reason",
        "by its digest",
    ]);
    assert!(taken.status.success());
}

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
    // Its record says that more was believed of it.
    eventually("the host's refusal", || {
        dev.host("host-1")["reason"] == "attestation_key_mismatch"
            && dev.json(&["why", "host-1"])["found"] == "no certificate"
    });
    // An operator may have it as what it is now.
    replace_by_digest(&dev);
    eventually("the host is attested as what nobody vouches for", || {
        dev.host("host-1")["state"] == "attested" && dev.json(&["host", "show", "host-1"])["maker"].is_null()
    });
}

#[test]
fn e28_another_virtual_machines_attestation_key_does_not_stand_in_for_the_one_on_record() {
    let dev = Dev::start(&["--vtpm", "2", "--tpm", "1"]);
    (1..=3).for_each(|n| dev.end_agent(n));
    let (address, _) = dev.addresses();
    let opening = |n: usize| {
        let device = device(&dev.description()["tpms"][n - 1]);
        touchmark_helper::opening(&device, wire::DOMAIN).unwrap()
    };
    let (chip, own, other) = (opening(1), opening(2), opening(3));
    let introduce = |opening: &TpmOpening| {
        let encoded = Introduction::Opening(cbor::encode(opening).into());
        wire::challenge(&address, dev.pin(), encoded);
    };
    // The endorsement key of one, whose certificate nobody has, and the attestation key of another one of the same cloud.
    introduce(&TpmOpening {
        attestation: other.attestation.clone(),
        endorsements: own.endorsements,
    });
    let refused = |host: &str, found: &str| {
        let why = dev.json(&["why", host]);
        assert_eq!(
            (&why["check"], &why["reason"]),
            (
                &"tpm.attestation_key.record".into(),
                &"attestation_key_mismatch".into()
            ),
            "{why}"
        );
        assert_eq!(why["found"], found);
    };
    refused("host-2", "a certificate of another attestation key");
    // A chip whose endorsement certificate was believed does not come back by the other kind, or by none.
    let mut less = chip.clone();
    less.endorsements
        .iter_mut()
        .for_each(|key| key.certificate = None);
    replace_by_digest(&dev);
    let _agent = dev.start_agent(1);
    eventually("the chip is attested", || {
        dev.host("host-1")["state"] == "attested"
    });
    dev.end_agent(1);
    introduce(&less);
    refused("host-1", "no certificate");
    // Who is not enrolled at all is not said to be certified by whoever certified another key.
    let mut stranger = other;
    stranger.endorsements = vec![chip.endorsements[0].clone()];
    stranger.endorsements[0].certificate = None;
    introduce(&stranger);
    eventually("the stranger is pending", || {
        let pending = dev.json(&["host", "list", "--pending"]);
        let note = pending[0]["note"].as_str().unwrap_or_default().to_owned();
        note.starts_with("not certified") && note.contains("proves nothing of this one")
    });
}

/// A TPM with an attestation key where Azure has one, made with tpm2-tools, and what is written beside it.
struct Furnished {
    sim: Sim,
    folder: tempfile::TempDir,
}

impl Furnished {
    fn new() -> Self {
        Self {
            sim: Sim::start(&["--tpm", "1"]),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Makes a key with these attributes and keeps it.
    fn key(&self, attributes: &str) -> PublicKey {
        let (context, public) = (self.file("key.ctx"), self.file("key.der"));
        let scheme = "ecc256:ecdsa-sha256:null";
        let made = ["-C", "e", "-G", scheme, "-a", attributes, "-c", &context];
        self.sim.tool("tpm2_createprimary", &made);
        self.sim
            .tool("tpm2_evictcontrol", &["-C", "o", "-c", &context, "0x81000003"]);
        self.sim.tool("tpm2_flushcontext", &["-t"]);
        let read = ["-c", "0x81000003", "-f", "der", "-o", &public];
        self.sim.tool("tpm2_readpublic", &read);
        PublicKey::from_spki(&std::fs::read(public).unwrap()).unwrap()
    }

    /// Writes an index that its owner alone may read.
    fn index(&self, contents: &[u8]) {
        let (file, size) = (self.file("contents"), contents.len().to_string());
        std::fs::write(&file, contents).unwrap();
        let define = ["0x01C101D0", "-C", "o", "-s", &size, "-a", "ownerread|ownerwrite"];
        self.sim.tool("tpm2_nvdefine", &define);
        self.sim
            .tool("tpm2_nvwrite", &["0x01C101D0", "-C", "o", "-i", &file]);
    }

    fn clear(&self) {
        self.sim.tool("tpm2_nvundefine", &["0x01C101D0", "-C", "o"]);
        self.sim
            .tool("tpm2_evictcontrol", &["-C", "o", "-c", "0x81000003"]);
    }

    /// The attestation key of a helper that has just started, and whether it quotes.
    fn attestation_key(&self) -> TpmDeviceKey {
        let device = self.sim.device(1);
        let key = device.attestation_key(wire::DOMAIN).unwrap();
        device
            .quote(wire::DOMAIN, &PcrSelection::sha256([0]), &[7; 32])
            .unwrap();
        key
    }
}

fn certificate(key: PublicKey) -> Vec<u8> {
    let issuer = Issuer::new(CertificateParams::default(), KeyPair::generate().unwrap());
    let certificate = CertificateParams::default().signed_by(&Subject(key), &issuer);
    certificate.unwrap().der().to_vec()
}

#[test]
fn a_key_or_certificate_in_the_tpm_that_cannot_be_used_is_passed_over_for_a_key_of_our_own() {
    const RESTRICTED: &str = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign";
    let tpm = Furnished::new();
    let own = tpm.attestation_key();
    assert_eq!(own.certificate, None);
    // Where both are as they should be, they are used, with what stands behind the certificate.
    let key = tpm.key(RESTRICTED);
    let (leaf, above) = (
        certificate(key),
        certificate(
            SoftwareKey::generate(SigningAlg::Es256)
                .unwrap()
                .public_key()
                .clone(),
        ),
    );
    tpm.index(&[leaf.clone(), above.clone()].concat());
    let used = tpm.attestation_key();
    assert_ne!(used.public, own.public);
    assert_eq!(used.certificate.as_deref(), Some(&leaf));
    assert_eq!(used.intermediates, std::slice::from_ref(&above));
    tpm.clear();
    // The certificate of another key; nothing that is one; a key that signs whatever it is given.
    for (attributes, contents) in [
        (RESTRICTED, Some(above)),
        (RESTRICTED, Some(vec![0xff; 64])),
        (RESTRICTED, Some(leaf[..leaf.len() - 1].to_vec())),
        ("fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign", None),
    ] {
        let key = tpm.key(attributes);
        tpm.index(&contents.unwrap_or_else(|| certificate(key)));
        assert_eq!(tpm.attestation_key(), own);
        tpm.clear();
    }
}
