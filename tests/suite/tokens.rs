//! Keys in PKCS#11 tokens: one list of modules for all of it, and pkcs11-tool as the outside judge.

use std::{process::Command, thread};

use touchmark_api::device::{FaultKind, TokenKeyKind, TokenSettings};
use touchmark_crypto::{HashAlg, PublicKey, SigScheme};
use touchmark_helper::{DeviceError, Token};
use touchmark_rats::token::TokenKey;
use touchmark_tests::modules::{Module, PIN};

fn kind(error: &DeviceError) -> Option<FaultKind> {
    match error {
        DeviceError::Fault(fault) => Some(fault.kind),
        _ => None,
    }
}

/// What is refused, and how.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, DeviceError>, wanted: FaultKind, says: &str) {
    let error = result.unwrap_err();
    assert_eq!(kind(&error), Some(wanted), "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

#[track_caller]
fn signs(token: &Token, key: &TokenKey, hash: HashAlg) {
    let message = b"what is signed";
    let signature = token.sign(&key.uri, message).unwrap();
    let public = PublicKey::from_spki(&key.spki).unwrap();
    public
        .verify(SigScheme::Ecdsa(hash), message, &signature)
        .unwrap();
    assert!(
        public
            .verify(SigScheme::Ecdsa(hash), b"another", &signature)
            .is_err()
    );
}

#[test]
fn e17_a_key_that_is_made_in_a_token_signs_and_never_could_leave_it() {
    for module in Module::all() {
        let token = module.open();
        let about = token.describe().unwrap();
        assert!(
            about
                .mechanisms
                .iter()
                .any(|mechanism| mechanism.number == 0x1041),
            "{about:?}"
        );
        for (wanted, hash) in [
            (TokenKeyKind::P256, HashAlg::Sha256),
            (TokenKeyKind::P384, HashAlg::Sha384),
        ] {
            let key = token.create_key(wanted, "a workload").unwrap();
            assert_eq!(key.attributes.could_leave(), None, "{}", module.name);
            assert_eq!(key.attributes.sign, Some(true));
            // That module makes keys for signatures and key agreement alike, and takes no word against it.
            if module.name != "libtpm2-pkcs11" {
                let attributes = key.attributes;
                for other in [attributes.decrypt, attributes.unwrap, attributes.derive] {
                    assert_ne!(other, Some(true), "{}: {attributes:?}", module.name);
                }
            }
            signs(&token, &key, hash);
            assert_eq!(token.describe_key(&key.uri).unwrap(), key, "{}", module.name);
            // It is found again by what pkcs11-tool and p11tool users know it by.
            let listed = module.tool(&[
                "--login",
                "--pin",
                &module.pin(),
                "--list-objects",
                "--type",
                "privkey",
            ]);
            assert!(listed.contains("a workload"), "{}: {listed}", module.name);
            assert!(
                listed.contains("never extractable") && listed.contains("local"),
                "{}: {listed}",
                module.name
            );
            token.destroy_key(&key.uri).unwrap();
            refused(token.describe_key(&key.uri), FaultKind::NoKey, "no private key");
        }
    }
}

#[test]
fn a_uri_that_names_several_keys_or_none_or_no_token_is_an_error() {
    for module in Module::all() {
        let token = module.open();
        let keys = [0, 1].map(|_| token.create_key(TokenKeyKind::P256, "twice").unwrap());
        assert_ne!(keys[0].uri, keys[1].uri);
        refused(
            token.sign("pkcs11:object=twice;type=private", b"m"),
            FaultKind::Refused,
            "2 private keys",
        );
        let by_id = keys[0]
            .uri
            .split(';')
            .find(|part| part.starts_with("id="))
            .unwrap();
        assert_eq!(token.describe_key(&format!("pkcs11:{by_id}")).unwrap(), keys[0]);
        let (no_key, wrong) = (FaultKind::NoKey, FaultKind::Refused);
        for (uri, kind, says) in [
            ("pkcs11:object=nobody", no_key, "no private key"),
            ("pkcs11:token=other;object=twice", no_key, "hsm.token"),
            ("pkcs11:object=twice;type=cert", wrong, "no private key"),
            ("pkcs11:token=fleet", wrong, "names no key"),
            ("pkcs11:object=twice?pin-value=1", wrong, "pin-source"),
            ("twice", wrong, "pkcs11:"),
        ] {
            refused(token.sign(uri, b"m"), kind, says);
        }
        for key in &keys {
            token.destroy_key(&key.uri).unwrap();
        }
        let elsewhere = TokenSettings {
            token: "pkcs11:token=nowhere".into(),
            ..module.settings()
        };
        refused(
            module.open_with(elsewhere).describe(),
            FaultKind::Unavailable,
            "put it in",
        );
        let none = TokenSettings {
            module: "/etc/hostname".into(),
            ..module.settings()
        };
        refused(
            module.open_with(none).describe(),
            FaultKind::Refused,
            "hsm.module",
        );
    }
}

#[test]
fn e17_a_key_that_was_imported_or_can_be_wrapped_is_told_as_that() {
    let module = Module::softhsm();
    let token = module.open();
    let folder = tempfile::tempdir().unwrap();
    let (pem, der) = (folder.path().join("key.pem"), folder.path().join("key.der"));
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let (pem, der) = (pem.to_str().unwrap(), der.to_str().unwrap());
    run(
        "openssl",
        &[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-out",
            pem,
        ],
    );
    run(
        "openssl",
        &[
            "pkcs8", "-topk8", "-nocrypt", "-in", pem, "-outform", "DER", "-out", der,
        ],
    );
    let login = ["--login", "--pin", PIN];
    let with = |more: &[&str]| module.tool(&[&login[..], more].concat());
    let import = |kind: &str, label: &str, more: &[&str]| {
        let fixed = [
            "--write-object",
            der,
            "--type",
            kind,
            "--id",
            "aa",
            "--label",
            label,
        ];
        with(&[&fixed[..], more].concat());
    };
    import("privkey", "imported", &["--usage-sign", "--sensitive"]);
    let public = folder.path().join("public.der");
    let public = public.to_str().unwrap();
    run(
        "openssl",
        &["pkey", "-in", pem, "-pubout", "-outform", "DER", "-out", public],
    );
    with(&[
        "--write-object",
        public,
        "--type",
        "pubkey",
        "--id",
        "aa",
        "--label",
        "imported",
    ]);
    let imported = token.describe_key("pkcs11:object=imported").unwrap();
    assert_eq!(
        imported.attributes.could_leave(),
        Some("it was not made in the token (CKA_LOCAL)")
    );
    signs(&token, &imported, HashAlg::Sha256);
    with(&[
        "--keypairgen",
        "--key-type",
        "EC:prime256v1",
        "--label",
        "loose",
        "--id",
        "bb",
        "--extractable",
    ]);
    let loose = token.describe_key("pkcs11:object=loose").unwrap();
    assert!(
        loose
            .attributes
            .could_leave()
            .unwrap()
            .contains("CKA_EXTRACTABLE"),
        "{loose:?}"
    );
    // A public key of another pair beside a private one: what is signed is not believed.
    let strange = token.create_key(TokenKeyKind::P256, "pair").unwrap();
    with(&["--delete-object", "--type", "pubkey", "--label", "pair"]);
    let id = strange
        .uri
        .split("id=")
        .nth(1)
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .replace('%', "");
    with(&[
        "--write-object",
        public,
        "--type",
        "pubkey",
        "--id",
        &id,
        "--label",
        "pair",
    ]);
    refused(
        module.open().sign("pkcs11:object=pair", b"m"),
        FaultKind::Untrusted,
        "do not belong together",
    );
}

#[test]
fn a_wrong_pin_is_tried_once_and_mended_without_a_restart() {
    for module in [Module::softhsm(), Module::tpm2_pkcs11()] {
        module.write_pin("00000000");
        let token = module.open();
        refused(token.describe(), FaultKind::Authorization, "the PIN is wrong");
        for _ in 0..20 {
            refused(token.describe(), FaultKind::Authorization, "not tried again");
        }
        let helper = token.helper_pid();
        module.write_pin(PIN);
        token.describe().unwrap();
        assert_eq!(token.helper_pid(), helper, "{}", module.name);
        let pin = std::fs::read_to_string(&module.pin_file).unwrap();
        assert_eq!(pin.trim(), PIN);
    }
}

#[test]
fn w10_a_pin_that_others_can_read_or_that_is_not_there_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let module = Module::softhsm();
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&module.pin_file, open).unwrap();
    refused(
        module.open().describe(),
        FaultKind::Authorization,
        "others can read it",
    );
    std::fs::write(&module.pin_file, "\n").unwrap();
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&module.pin_file, private).unwrap();
    refused(module.open().describe(), FaultKind::Authorization, "no PIN");
    std::fs::remove_file(&module.pin_file).unwrap();
    refused(module.open().describe(), FaultKind::Authorization, "hsm.pin_file");
    let without = TokenSettings {
        pin_file: None,
        ..module.settings()
    };
    refused(
        module.open_with(without).describe(),
        FaultKind::Authorization,
        "say in hsm.pin_file",
    );
}

#[test]
fn a_token_that_comes_later_or_was_taken_out_is_found_without_a_restart() {
    let module = Module::softhsm();
    let later = TokenSettings {
        token: "pkcs11:token=later".into(),
        ..module.settings()
    };
    let token = module.open_with(later);
    refused(token.describe(), FaultKind::Unavailable, "put it in");
    let helper = token.helper_pid();
    module.init_token("later");
    assert_eq!(token.describe().unwrap().label, "later");
    assert_eq!(token.helper_pid(), helper);
    // Two of one name: which is meant has to be said.
    module.init_token("later");
    let token = module.open_with(TokenSettings {
        token: "pkcs11:token=later".into(),
        ..module.settings()
    });
    refused(token.describe(), FaultKind::Refused, "serial number");
}

#[test]
fn a_helper_that_dies_in_a_module_is_started_again_and_the_keys_are_still_there() {
    for module in [Module::softhsm(), Module::tpm2_pkcs11()] {
        let token = module.open();
        let key = token.create_key(TokenKeyKind::P256, "stays").unwrap();
        let helper = token.helper_pid().unwrap().to_string();
        assert!(
            Command::new("kill")
                .args(["-KILL", &helper])
                .status()
                .unwrap()
                .success()
        );
        let signature = loop {
            match token.sign(&key.uri, b"m") {
                Ok(signature) => break signature,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        };
        let public = PublicKey::from_spki(&key.spki).unwrap();
        public
            .verify(SigScheme::Ecdsa(HashAlg::Sha256), b"m", &signature)
            .unwrap();
    }
}

#[test]
fn d06_many_callers_share_a_tokens_sessions_and_leave_none() {
    let module = Module::softhsm();
    let token = module.open();
    let key = token.create_key(TokenKeyKind::P256, "shared").unwrap();
    let public = PublicKey::from_spki(&key.spki).unwrap();
    thread::scope(|scope| {
        for caller in 1..=8_u64 {
            let token = token.on_behalf_of(caller);
            let (key, public) = (&key, &public);
            scope.spawn(move || {
                for round in 0..250_u32 {
                    let message = round.to_be_bytes();
                    let signature = token.sign(&key.uri, &message).unwrap();
                    public
                        .verify(SigScheme::Ecdsa(HashAlg::Sha256), &message, &signature)
                        .unwrap();
                    // An operation that fails on the way.
                    token.sign("pkcs11:object=nobody", &message).unwrap_err();
                }
            });
        }
    });
    signs(&token, &key, HashAlg::Sha256);
    // The helper has its four sessions and no more; those of SoftHSM count within a process.
    let helper = token.helper_pid().unwrap();
    let threads = std::fs::read_dir(format!("/proc/{helper}/task")).unwrap().count();
    assert!(threads <= 8, "{threads} threads");
}

#[test]
fn a_token_without_room_or_with_a_locked_pin_says_so_and_what_to_do() {
    let full = Module::simulated(&["token-full"]);
    refused(
        full.open().create_key(TokenKeyKind::P256, "key"),
        FaultKind::Full,
        "no room",
    );
    let locked = Module::simulated(&["pin-locked"]);
    refused(locked.open().describe(), FaultKind::LockedOut, "security officer");
}

#[test]
fn a_slow_module_is_waited_for_and_its_sessions_sign_side_by_side() {
    let module = Module::simulated(&["hsm-slow"]);
    let token = module.open();
    let key = token.create_key(TokenKeyKind::P256, "slow").unwrap();
    let start = std::time::Instant::now();
    for _ in 0..20 {
        signs(&token, &key, HashAlg::Sha256);
    }
    // Each signature sleeps five milliseconds at least.
    assert!(
        start.elapsed() >= std::time::Duration::from_millis(100),
        "{:?}",
        start.elapsed()
    );
    thread::scope(|scope| {
        for caller in 1..=8_u64 {
            let (token, key) = (token.on_behalf_of(caller), &key);
            scope.spawn(move || (0..10).for_each(|_| signs(&token, key, HashAlg::Sha256)));
        }
    });
}

#[test]
fn a_module_that_crashes_takes_its_helper_down_and_loses_no_key() {
    let module = Module::simulated(&["hsm-crash"]);
    let token = module.open();
    let key = token.create_key(TokenKeyKind::P256, "stays").unwrap();
    let first = token.helper_pid();
    let mut signed = 0;
    let mut lost = 0;
    while signed < 10 {
        match token.sign(&key.uri, b"m") {
            Ok(_) => signed += 1,
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                lost += 1;
            }
        }
    }
    // The third signature of each process is its last.
    assert!(lost >= 4, "{lost}");
    assert_ne!(token.helper_pid(), first);
}
