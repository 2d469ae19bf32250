//! The certification authority in an HSM: root, intermediate and the keys that sign tokens and results, alone or beside a TPM.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
    process::{Command, Output},
};

use touchmark_tests::{
    dev::{Dev, eventually},
    modules::{Module, PIN},
    sim::binary,
    wire,
};

/// An authority's folder, with what its commands need.
struct Authority {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Authority {
    fn new(environment: Vec<(&str, &str)>) -> Self {
        let owned = environment.into_iter();
        Self {
            folder: tempfile::tempdir().unwrap(),
            environment: owned.map(|(name, value)| (name.into(), value.into())).collect(),
        }
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn touchmark(&self, arguments: &[&str]) -> Output {
        Command::new(binary("touchmark"))
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .output()
            .unwrap()
    }

    #[track_caller]
    fn must(&self, arguments: &[&str]) -> String {
        let output = self.touchmark(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A configuration with these sections; nothing listens.
    fn configure(&self, sections: &str) -> String {
        let config = self.at("server.toml");
        let text = format!(
            "trust_domain = \"{}\"\nstate = \"{}\"\n[listen]\nattest = \"127.0.0.1:0\"\nhosts = \"127.0.0.1:0\"\n\
             [admin]\nsocket = \"{}\"\n{sections}",
            wire::DOMAIN,
            self.at("state"),
            self.at("admin.sock"),
        );
        fs::write(&config, text).unwrap();
        fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
        config
    }

    /// The four acts, the root's device named by these arguments.
    fn make(&self, config: &str, device: &[&str]) {
        let root = self.at("root");
        self.must(
            &[
                &["ca", "init", "--dir", &root, "--trust-domain", wire::DOMAIN][..],
                device,
            ]
            .concat(),
        );
        self.sign_and_install(config, &root, device);
    }

    fn sign_and_install(&self, config: &str, root: &str, device: &[&str]) {
        let (request, signed) = (self.at("request.pem"), self.at("intermediate.pem"));
        self.must(&["ca", "request", "--config", config, "--out", &request]);
        let sign = [
            "ca",
            "sign-intermediate",
            "--yes",
            "--dir",
            root,
            "--out",
            &signed,
            "--transcript",
            &self.at("transcript.txt"),
            &request,
        ];
        self.must(&[&sign[..], device].concat());
        let root_certificate = format!("{root}/root.pem");
        let install = ["--root", &root_certificate, "--certificate", &signed];
        self.must(&[&["ca", "install", "--config", config][..], &install].concat());
    }
}

/// How the root's device is named on a command line.
fn root_in(module: &Module) -> Vec<String> {
    [
        "--hsm-module",
        &module.library.display().to_string(),
        "--hsm-token",
        &module.token,
        "--hsm-pin-file",
        &module.pin_file.display().to_string(),
    ]
    .map(str::to_owned)
    .to_vec()
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn r030_r031_root_and_intermediate_live_in_a_token_and_stock_tools_build_their_chain() {
    for module in [Module::softhsm(), Module::tpm2_pkcs11()] {
        let authority = Authority::new(module.environment());
        let config = authority.configure(&module.section());
        authority.make(&config, &borrowed(&root_in(&module)));
        // No file of a key, but where it is.
        for (file, label) in [
            ("root/root.uri", "touchmark root"),
            ("state/keys/intermediate.uri", "touchmark intermediate"),
        ] {
            let uri = fs::read_to_string(authority.at(file)).unwrap();
            assert!(
                uri.starts_with("pkcs11:token=fleet;") && uri.contains(";type=private"),
                "{uri}"
            );
            let listed = module.tool(&[
                "--login",
                "--pin",
                &module.pin(),
                "--list-objects",
                "--type",
                "privkey",
            ]);
            assert!(
                listed.contains(label) && listed.contains("never extractable"),
                "{listed}"
            );
        }
        let verified = Command::new("openssl")
            .args([
                "verify",
                "-CAfile",
                &authority.at("root/root.pem"),
                &authority.at("intermediate.pem"),
            ])
            .output()
            .unwrap();
        assert!(
            verified.status.success(),
            "{}",
            String::from_utf8_lossy(&verified.stderr)
        );
        // The certificates stand beside their keys, for whoever looks for them there.
        let certificates = module.tool(&["--list-objects", "--type", "cert"]);
        for label in ["touchmark root", "touchmark intermediate"] {
            assert!(certificates.contains(label), "{}: {certificates}", module.name);
        }
        // What a second person finds out is what the transcript says.
        let transcript = fs::read_to_string(authority.at("transcript.txt")).unwrap();
        let check = |command: &str| {
            let output = Command::new("sh")
                .args(["-c", command])
                .current_dir(authority.folder.path())
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            text.split_whitespace().next().unwrap_or_default().to_owned()
        };
        for command in [
            "sha256sum request.pem",
            "openssl req -in request.pem -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum",
            "openssl x509 -in intermediate.pem -outform DER | sha256sum",
            "openssl x509 -in root/root.pem -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum",
        ] {
            let digest = check(command);
            assert!(
                digest.len() == 64 && transcript.contains(&digest),
                "{command}: {digest}\n{transcript}"
            );
        }
        assert!(transcript.contains("never able to leave it"), "{transcript}");
        let shown = authority.must(&["ca", "show", "--config", &config]);
        assert!(shown.contains("Touchmark root example.org"), "{shown}");
        // Another token than the one that is configured holds no key of ours.
        let other = authority.configure(&module.section().replace("token=fleet", "token=nowhere"));
        let refused = authority.touchmark(&["ca", "request", "--config", &other]);
        assert_eq!(
            refused.status.code(),
            Some(3),
            "{}",
            String::from_utf8_lossy(&refused.stderr)
        );
    }
}

#[test]
fn c03_the_service_does_not_start_with_a_key_that_its_hsm_would_give_away() {
    let module = Module::softhsm();
    let authority = Authority::new(module.environment());
    let config = authority.configure(&module.section());
    authority.make(&config, &borrowed(&root_in(&module)));
    let login = ["--login", "--pin", PIN];
    let generate = |label: &str, more: &[&str]| {
        let fixed = [
            "--keypairgen",
            "--key-type",
            "EC:prime256v1",
            "--label",
            label,
            "--id",
            "0b",
        ];
        module.tool(&[&login[..], &fixed, more].concat());
    };
    generate("loose", &["--extractable"]);
    let path = PathBuf::from(authority.at("state/keys/wit.uri"));
    let refused = |uri: &str, says: &str| {
        fs::write(&path, uri).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let output = authority.touchmark(&["server", "run", "--config", &config]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(says), "{uri}: {text}");
        assert!(
            !PathBuf::from(authority.at("admin.sock")).exists(),
            "nothing was bound"
        );
    };
    refused(
        "pkcs11:object=loose;type=private",
        "wit: this key could leave its device",
    );
    refused("pkcs11:object=nobody;type=private", "no private key");
    refused("pkcs11:token=fleet", "names no key");
    refused("pkcs11:object=loose?pin-value=1234", "pin-source");
    // Two keys of one name.
    fs::write(authority.at("state/keys/wit.tss2"), "").unwrap();
    refused("pkcs11:object=loose;type=private", "two keys of this name");
}

#[test]
fn configuration_says_where_each_key_is_and_what_is_missing_for_it() {
    let module = Module::softhsm();
    let authority = Authority::new(module.environment());
    let check = |sections: &str| {
        let config = authority.configure(sections);
        let output = authority.touchmark(&["server", "config", "check", "--config", &config]);
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let hsm = module.section();
    assert_eq!(check(&hsm).0, Some(0));
    let tpm = "[device]\ntcti = \"swtpm:\"\n";
    assert_eq!(
        check(&format!("{tpm}{hsm}[keys]\nintermediate = \"hsm\"\n")).0,
        Some(0)
    );
    for (sections, says) in [
        ("", "give one of them"),
        (
            "[keys]\nwit = \"hsm\"\n[device]\ntcti = \"swtpm:\"\n",
            "there is no [hsm]",
        ),
        (&format!("{hsm}[keys]\nwit = \"tpm\"\n"), "device.tcti names none"),
        (&format!("{hsm}[keys]\nroot = \"hsm\"\n"), "root"),
        (&format!("{hsm}sessions = 0\n"), "hsm.sessions"),
        (&hsm.replace("libsofthsm2.so", "nothing.so"), "hsm.module"),
        (&hsm.replace("pin\"", "nopin\""), "hsm.pin_file"),
    ] {
        let (code, text) = check(sections);
        assert!(code == Some(2) && text.contains(says), "{sections}: {text}");
    }
}

/// Which keys of a service are in its HSM; the others are in its TPM.
const MIXES: [(&str, &str); 3] = [
    ("the intermediate alone", "[keys]\nintermediate = \"hsm\"\n"),
    (
        "what signs tokens and results",
        "[keys]\nwit = \"hsm\"\nresult = \"hsm\"\n",
    ),
    (
        "all of them",
        "[keys]\nintermediate = \"hsm\"\nwit = \"hsm\"\nresult = \"hsm\"\ntls = \"hsm\"\n",
    ),
];

#[test]
fn r074_hosts_attest_and_get_credentials_from_a_service_whose_keys_are_in_an_hsm_or_a_tpm() {
    for (what, keys) in MIXES {
        let module = Module::softhsm();
        let dev = Dev::start_with(&[], &module.environment());
        let system = dev.system();
        let mut authority = Authority::new(module.environment());
        dev.end_server();
        let config = system.join("server.toml").display().to_string();
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, format!("{text}\n{}{keys}", module.section())).unwrap();
        for name in ["intermediate", "wit", "result", "tls"] {
            if keys.contains(&format!("{name} = \"hsm\"")) {
                fs::remove_file(system.join(format!("server/keys/{name}.tss2"))).unwrap();
            }
        }
        if keys.contains("intermediate") {
            let root = system.join("root").display().to_string();
            let tcti = text.split("tcti = \"").nth(1).unwrap().split('"').next().unwrap();
            let simulated = dev.environment().iter().cloned();
            authority.environment.extend(simulated);
            authority.sign_and_install(&config, &root, &["--device", tcti]);
        }
        let server = dev.start_server_with(&module.environment(), |text| text);
        eventually("the host's attestation", || {
            dev.host("host-1")["state"] == "attested"
        });
        let mut fetched = None;
        eventually("a credential", || {
            let output = dev.touchmark(&["workload", "fetch", "x509", "--output", "json"]);
            fetched = Some(output.stdout);
            output.status.success()
        });
        let credential: serde_json::Value = serde_json::from_slice(&fetched.unwrap()).unwrap();
        let chain = dev.file("chain.pem", credential["chain_pem"].as_str().unwrap());
        let root = system.join("root/root.pem").display().to_string();
        let verified = Command::new("openssl")
            .args(["verify", "-CAfile", &root, "-untrusted", &chain, &chain])
            .output()
            .unwrap();
        assert!(
            verified.status.success(),
            "{what}: {}",
            String::from_utf8_lossy(&verified.stderr)
        );
        assert!(
            dev.touchmark(&["workload", "prove", "--audience", "https://api.example.org/"])
                .status
                .success(),
            "{what}"
        );
        let held = fs::read_dir(system.join("server/keys"))
            .unwrap()
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .path()
                    .extension()
                    .is_some_and(|ending| ending == "uri")
            })
            .count();
        assert_eq!(held, keys.matches("hsm").count(), "{what}");
        // A module that dies takes its helper down and nothing else.
        let killed = helpers(&config);
        assert!(!killed.is_empty(), "{what}");
        assert!(
            Command::new("kill")
                .arg("-KILL")
                .args(&killed)
                .status()
                .unwrap()
                .success()
        );
        let registered = dev.file("second.toml", &second());
        eventually("another credential", || {
            let applied = dev.touchmark(&["registration", "apply", "--file", &registered]);
            let wanted = format!("{}/second", wire::DOMAIN);
            let fetched = dev.touchmark(&["workload", "fetch", "x509", "--identifier", &wanted]);
            applied.status.success() && fetched.status.success()
        });
        assert!(killed.iter().all(|pid| !helpers(&config).contains(pid)), "{what}");
        drop(server);
    }
}

/// Another identifier for whoever runs the tests.
fn second() -> String {
    format!(
        "label = \"second\"\n[[registration]]\nname = \"second\"\nidentifier = \"{}/second\"\n\
         workload = {{ uid = {} }}\nkinds = [\"x509\"]\ncustody = [\"hardware\"]\nlifetime = \"1h\"\n",
        wire::DOMAIN,
        fs::metadata("/proc/self").unwrap().uid()
    )
}

/// The helpers of the service with this configuration.
fn helpers(config: &str) -> Vec<String> {
    let about = |pid: &str, file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|pid| about(pid, "cmdline").contains("touchmark-device"))
        .filter(|pid| {
            let status = about(pid, "status");
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
            parent.is_some_and(|parent| about(parent.trim(), "cmdline").contains(config))
        })
        .collect()
}
