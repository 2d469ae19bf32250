//! `touchmark-device` and its supervision: leaks, deaths, resets, slow and absent TPMs, and what they cost in commands.

use std::{process::Command, time::Duration};

use touchmark_api::{
    Guarded,
    device::{Activation, Settings},
};
use touchmark_crypto::Secret;
use touchmark_custody::tss2::Tss2Key;
use touchmark_helper::{Device, DeviceError};
use touchmark_rats::{Appraiser, PcrSelection, cbor};
use touchmark_tests::{
    count::Commands,
    dev::{Dev, eventually},
    sim::{Sim, binary},
};

const DOMAIN: &str = "spiffe://example.org";

#[test]
fn d06_ten_thousand_operations_leave_no_handle_and_no_session() {
    let sim = Sim::start(&["--tpm", "1"]);
    let device = sim.device(1);
    let boot = PcrSelection::boot();
    let sealed = device.create_key(Some(&boot)).unwrap();
    for round in 0..2_500_u32 {
        let bind = touchmark_crypto::sha256(&[&round.to_be_bytes()]);
        device.quote(DOMAIN, &boot, &bind).unwrap();
        device.sign(&sealed.key, &bind).unwrap();
        device.certify(DOMAIN, &sealed.key, &bind).unwrap();
        // An operation that fails on the way.
        device
            .sign(&sealed.key[..sealed.key.len() - 1], &bind)
            .unwrap_err();
    }
    drop(device);
    eventually("the helper's end", || {
        let handles = sim.tool("tpm2_getcap", &["handles-transient"]);
        let sessions = sim.tool("tpm2_getcap", &["handles-loaded-session"]);
        handles.trim().is_empty() && sessions.trim().is_empty()
    });
    let saved = sim.tool("tpm2_getcap", &["handles-saved-session"]);
    assert!(saved.trim().is_empty(), "{saved}");
}

#[test]
fn a_helper_that_dies_is_started_again_and_callers_see_a_retryable_error() {
    let sim = Sim::start(&["--tpm", "1"]);
    let device = sim.device(1);
    let public = device.attestation_key(DOMAIN).unwrap();
    for _ in 0..3 {
        let helper = device.helper_pid().unwrap().to_string();
        assert!(
            Command::new("kill")
                .args(["-KILL", &helper])
                .status()
                .unwrap()
                .success()
        );
        let mut failures = 0;
        // Perhaps the death is noticed before the call, perhaps during it.
        let again = loop {
            match device.attestation_key(DOMAIN) {
                Ok(public) => break public,
                Err(error) => {
                    assert!(error.is_retryable(), "{error}");
                    failures += 1;
                    assert!(failures < 5, "{error}");
                }
            }
        };
        assert_eq!(again, public, "the attestation key is the same after any loss");
    }
}

#[test]
fn the_attestation_key_is_the_same_after_a_reset_and_another_in_each_trust_domain() {
    let sim = Sim::start(&["--tpm", "1"]);
    let device = sim.device(1);
    let public = device.attestation_key(DOMAIN).unwrap();
    assert_ne!(device.attestation_key("spiffe://example.com").unwrap(), public);
    let sealed = device.create_key(Some(&PcrSelection::boot())).unwrap();
    device.sign(&sealed.key, b"message").unwrap();
    // A power cycle: what was loaded is gone, the registers are zero.
    let control = format!("127.0.0.1:{}", sim.port(1) + 1);
    assert!(
        Command::new("swtpm_ioctl")
            .args(["--tcp", &control, "-i"])
            .status()
            .unwrap()
            .success()
    );
    sim.tool("tpm2_startup", &["-c"]);
    assert_eq!(device.attestation_key(DOMAIN).unwrap(), public);
    // The key that was sealed to the boot state does not answer in another.
    let refused = device.sign(&sealed.key, b"message").unwrap_err();
    assert!(refused.is_sealed(), "{refused}");
}

#[test]
fn a_tpm_that_is_not_there_is_told_with_what_to_do() {
    let gone = |tcti: &str| {
        let settings = Settings::at(tcti);
        Device::new(&binary("touchmark-device"), settings)
            .attestation_key(DOMAIN)
            .unwrap_err()
    };
    let error = gone("swtpm:host=127.0.0.1,port=9");
    assert!(
        error.is_retryable() && error.to_string().contains("tpm.device"),
        "{error}"
    );
    let error = gone("device:/nonexistent");
    assert!(
        error.is_retryable() && error.to_string().contains("group tss"),
        "{error}"
    );
    let error = gone("bogus");
    assert!(
        !error.is_retryable() && error.to_string().contains("device:/dev/tpmrm0"),
        "{error}"
    );
    let nobody = Device::new(
        std::path::Path::new("/nonexistent/touchmark-device"),
        Settings::at("swtpm:"),
    );
    assert!(matches!(
        nobody.attestation_key(DOMAIN),
        Err(DeviceError::Start { .. })
    ));
}

#[test]
fn a_caller_waits_no_longer_than_it_said() {
    let sim = Sim::start(&["--tpm", "1"]);
    let device = sim.device(1);
    device.attestation_key(DOMAIN).unwrap();
    // The simulator is stopped in the middle of its life: it neither answers nor refuses.
    let pid = sim.tpm(1)["pid"].to_string();
    assert!(
        Command::new("kill")
            .args(["-STOP", &pid])
            .status()
            .unwrap()
            .success()
    );
    let error = device
        .patient(Duration::from_millis(300))
        .quote(DOMAIN, &PcrSelection::boot(), &[1])
        .unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(
        Command::new("kill")
            .args(["-CONT", &pid])
            .status()
            .unwrap()
            .success()
    );
    eventually("the TPM's return", || {
        device.quote(DOMAIN, &PcrSelection::boot(), &[1]).is_ok()
    });
}

#[test]
fn b10_b12_enrolment_and_new_keys_stay_within_their_number_of_tpm_commands() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("count");
    let dev = Dev::start(&["--count", &file.display().to_string()]);
    let ready = |since: &dyn Fn() -> Commands| {
        eventually("two keys for the workload", || since().end_with_key(3));
        since().attestation()
    };
    let (first, keys) = ready(&|| Commands::read(&file));
    assert!(first.len() <= 30, "{first:#?}");
    assert_eq!(keys.handshake(), 3, "one session for everything: {keys:#?}");
    assert!(keys.len() - keys.handshake() <= 2 * 4, "{keys:#?}");
    // What was obtained ahead of need costs the TPM nothing when it is asked for.
    let before = Commands::read(&file);
    dev.json(&["workload", "fetch", "wit"]);
    assert!(Commands::read(&file).since(&before).is_empty());
    // An agent that has forgotten everything but its attestation key.
    dev.end_agent(1);
    dev.forget(1);
    let _agent = dev.start_agent(1);
    let (later, _) = ready(&|| Commands::read(&file).since(&before));
    assert!(later.len() <= 14, "{later:#?}");
}

#[test]
fn secrets_sealed_in_software_open_under_both_endorsement_keys_and_only_with_their_attestation_key() {
    let sim = Sim::start(&["--tpm", "1"]);
    let device = sim.device(1);
    assert_eq!(activated(&device, DOMAIN), [true, true], "P-256 and RSA");
    // Another attestation key of the same chip does not open what was sealed for this one.
    assert_eq!(activated(&device, "spiffe://example.com"), [false, false]);
}

#[test]
fn endorsement_keys_that_are_missing_are_made_again_from_their_templates_and_kept() {
    let sim = Sim::start(&["--tpm", "1"]);
    let before = sim.device(1).endorsements().unwrap();
    for handle in ["0x8101000a", "0x81010001"] {
        sim.tool("tpm2_evictcontrol", &["-C", "o", "-c", handle]);
    }
    let device = sim.device(1);
    assert_eq!(
        device.endorsements().unwrap(),
        before,
        "the same keys, for the same certificates"
    );
    let kept = sim.tool("tpm2_getcap", &["handles-persistent"]);
    assert!(
        kept.contains("0x8101000A") && kept.contains("0x81010001"),
        "{kept}"
    );
}

#[test]
fn hierarchy_authorizations_are_used_where_configured_and_asked_for_where_not() {
    let sim = Sim::start(&["--tpm", "1"]);
    sim.tool("tpm2_changeauth", &["-c", "o", "owner-secret"]);
    sim.tool("tpm2_changeauth", &["-c", "e", "endorsement-secret"]);
    let device = |owner: &str, endorsement: &str| {
        let settings = Settings {
            tcti: sim.tcti(1),
            boot_log: None,
            runtime_list: None,
            owner_auth: Guarded::new(owner.as_bytes().to_vec()),
            endorsement_auth: Guarded::new(endorsement.as_bytes().to_vec()),
        };
        Device::new(&binary("touchmark-device"), settings)
    };
    let good = device("owner-secret", "endorsement-secret");
    let key = good.create_key(Some(&PcrSelection::boot())).unwrap();
    good.quote(DOMAIN, &PcrSelection::boot(), &[1]).unwrap();
    good.certify(DOMAIN, &key.key, &[1]).unwrap();
    good.sign(&key.key, b"message").unwrap();
    drop(good);
    let error = device("", "").attestation_key(DOMAIN).unwrap_err();
    assert!(
        !error.is_retryable() && error.to_string().contains("authorization"),
        "{error}"
    );
    let error = device("", "endorsement-secret").create_key(None).unwrap_err();
    assert!(error.to_string().contains("owner_auth_file"), "{error}");
}

#[test]
fn d06_a_tpm_in_lockout_serves_its_host_and_says_so_of_keys_that_it_does_not() {
    let sim = Sim::start(&["--tpm", "1"]);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    // A key that is subject to lockout, which ours are not: another tool made it below the same storage primary.
    let storage = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt";
    let primary = at("storage.ctx");
    sim.tool(
        "tpm2_createprimary",
        &["-Q", "-C", "o", "-G", "ecc", "-a", storage, "-c", &primary],
    );
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign";
    let (public, private) = (at("pub"), at("priv"));
    let create = [
        "-Q",
        "-C",
        &primary,
        "-G",
        "ecc256:ecdsa-sha256",
        "-a",
        attributes,
    ];
    let parts = ["-u", public.as_str(), "-r", private.as_str()];
    sim.tool("tpm2_create", &[&create[..], &parts[..]].concat());
    let foreign = Tss2Key {
        empty_auth: true,
        policy: Vec::new(),
        parent: touchmark_custody::tss2::PARENT_OWNER,
        public: std::fs::read(&public).unwrap(),
        private: std::fs::read(&private).unwrap(),
    };
    let foreign = foreign.to_der().unwrap();
    sim.tool("tpm2_flushcontext", &["-t"]);

    let setup = ["--setup-parameters", "--max-tries=1", "--recovery-time=100000"];
    sim.tool(
        "tpm2_dictionarylockout",
        &[&setup[..], &["--lockout-recovery-time=100000"]].concat(),
    );
    // Somebody guesses a password of some object.
    let guarded = at("guarded.ctx");
    sim.tool(
        "tpm2_createprimary",
        &["-Q", "-C", "o", "-G", "ecc", "-p", "right", "-c", &guarded],
    );
    let tcti = sim.tcti(1);
    let guess = Command::new("tpm2_create")
        .args([
            "-T",
            &tcti,
            "-Q",
            "-C",
            &guarded,
            "-P",
            "wrong",
            "-u",
            &at("x"),
            "-r",
            &at("y"),
        ])
        .output()
        .unwrap();
    assert!(!guess.status.success());
    sim.tool("tpm2_flushcontext", &["-t"]);
    let state = sim.tool("tpm2_getcap", &["properties-variable"]);
    let locked = state.lines().find(|line| line.contains("inLockout")).unwrap();
    assert!(locked.trim().ends_with('1'), "{locked}");

    // Everything that attestation and workloads need goes on.
    let device = sim.device(1);
    let boot = PcrSelection::boot();
    assert_eq!(device.endorsements().unwrap().len(), 2);
    let key = device.create_key(Some(&boot)).unwrap();
    device.quote(DOMAIN, &boot, &[1]).unwrap();
    device.certify(DOMAIN, &key.key, &[1]).unwrap();
    device.sign(&key.key, b"message").unwrap();
    assert_eq!(activated(&device, DOMAIN), [true, true]);
    // What is subject to it is refused in words, and comes back when the lockout is cleared.
    let error = device.sign(&foreign, b"message").unwrap_err();
    assert!(
        !error.is_retryable()
            && error
                .to_string()
                .contains("tpm2_dictionarylockout --clear-lockout"),
        "{error}"
    );
    sim.tool("tpm2_dictionarylockout", &["--clear-lockout"]);
    device.sign(&foreign, b"message").unwrap();
}

/// Whether a secret that was sealed in software, to each endorsement key and for the attestation key of [`DOMAIN`], opens
/// with the attestation key of `domain`.
fn activated(device: &Device, domain: &str) -> Vec<bool> {
    let appraiser = touchmark_attestor_tpm::TpmAppraiser::new(Vec::new());
    let opening = cbor::encode(&touchmark_helper::opening(device, DOMAIN).unwrap());
    let opened = appraiser.open(&opening).unwrap();
    let activated = |candidate| {
        let secret = Secret::new(vec![7; 32]);
        let sealed = appraiser
            .seal(candidate, &opened.attestation_name, &secret)
            .unwrap();
        let found = device.activate(Activation {
            trust_domain: domain.into(),
            endorsement_name: candidate.name.clone().into(),
            credential_blob: sealed.credential_blob.into(),
            encrypted_secret: sealed.encrypted_secret.into(),
        });
        found.is_ok_and(|found| found == secret)
    };
    opened.candidates.iter().map(activated).collect()
}
