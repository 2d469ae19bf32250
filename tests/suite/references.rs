//! Reference values: staged before they decide, several generations at once, compared, signed by a vendor.

use ciborium::Value;
use serde_json::json;
use touchmark_crypto::{Purpose, Signer, SigningAlg, SoftwareKey, jose::Jwk};
use touchmark_tests::dev::{Dev, eventually};

fn captured(dev: &Dev, host: &str, label: &str) -> String {
    let output = dev.touchmark(&["reference", "capture", host, "--label", label]);
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn states(dev: &Dev, label: &str) -> Vec<(u64, String)> {
    let list = dev.json(&["reference", "list"]);
    let of_label = list
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["label"] == label);
    of_label
        .map(|one| {
            (
                one["generation"].as_u64().unwrap(),
                one["state"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

#[test]
fn a_staged_generation_decides_nothing_and_a_promoted_one_stands_beside_the_one_before() {
    let dev = Dev::start(&["--tpm", "2", "--fault", "kernel@2"]);
    let release = "release";
    let first = dev.file("first.toml", &captured(&dev, "host-1", release));
    let second = dev.file("second.toml", &captured(&dev, "host-2", release));
    let simulated = dev.json(&["reference", "list"])[0]["label"]
        .as_str()
        .unwrap()
        .to_owned();
    dev.json(&["reference", "apply", "-f", &first]);
    assert!(
        dev.touchmark(&["reference", "delete", &simulated])
            .status
            .success()
    );
    let staged = dev.json(&["reference", "apply", "-f", &second, "--stage"]);
    assert_eq!(
        (&staged["state"], &staged["generation"]),
        (&json!("staged"), &json!(2))
    );
    let hosts = staged["hosts"].as_array().unwrap();
    assert_eq!(
        hosts.iter().map(|host| host["fits"] == true).collect::<Vec<_>>(),
        [false, true],
        "it says whose boots it would fit: {hosts:?}"
    );
    assert_eq!(states(&dev, release), [(1, "valid".into()), (2, "staged".into())]);
    assert_eq!(dev.host("host-2")["state"], "refused");
    // What differs, in words: the kernel by its path and digest.
    let diff = dev.json(&["reference", "diff", "release", "release@2"]);
    let only = diff["only_right"].to_string();
    assert!(only.contains("vmlinuz-6.1.0-31"), "{diff}");
    assert!(diff["same"].as_u64().unwrap() > 20, "{diff}");
    let named = dev.touchmark(&["reference", "diff", "release@x", "release"]);
    let text = String::from_utf8_lossy(&named.stderr).into_owned();
    assert_eq!(named.status.code(), Some(2), "{text}");
    assert!(text.contains("generation"), "{text}");
    // Offline, the other log is told with exactly these events marked, in the bank that the values are of.
    let log = &dev.description()["tpms"][1]["eventlog"];
    let told = dev.touchmark(&[
        "verify",
        "eventlog",
        log.as_str().unwrap(),
        "--reference",
        &first,
        "--output",
        "json",
    ]);
    assert_eq!(told.status.code(), Some(1));
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["bank"], "sha256");
    let marked: Vec<&str> = told["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["differs"] == true)
        .map(|event| event["description"].as_str().unwrap())
        .collect();
    assert_eq!(
        marked.len(),
        diff["only_right"].as_array().unwrap().len(),
        "{marked:?}"
    );
    assert!(marked.iter().all(|text| text.contains("6.1.0-31")), "{marked:?}");
    dev.json(&["reference", "promote", release]);
    assert_eq!(states(&dev, release), [(1, "valid".into()), (2, "valid".into())]);
    eventually("host 2 is admitted", || dev.host("host-2")["state"] == "attested");
    // Both releases are good at once; then the update is through.
    let _server = dev.restart_server(|text| format!("reattest_interval = \"8s\"\n{text}"));
    dev.json(&["reference", "retire", release]);
    eventually("host 1 is refused", || {
        dev.host("host-1")["reason"] == "reference_mismatch"
    });
    assert_eq!(dev.host("host-2")["state"], "attested");
    assert_eq!(
        dev.touchmark(&["reference", "promote", release]).status.code(),
        Some(1)
    );
    assert_eq!(
        dev.touchmark(&["reference", "retire", release]).status.code(),
        Some(1)
    );
}

#[test]
fn a_fleet_is_attested_in_the_other_bank_against_values_captured_in_it() {
    let dev = Dev::start(&[]);
    let _server = dev.restart_server(|text| {
        let (before, after) = text.split_once("[[tpm.maker]]").expect("a maker");
        format!("reattest_interval = \"8s\"\n{before}[tpm]\nbank = \"sha384\"\n[[tpm.maker]]{after}")
    });
    dev.end_agent(1);
    dev.forget(1);
    let _agent = dev.start_agent(1);
    // No value of one bank is one of the other.
    eventually("the refusal", || {
        dev.host("host-1")["reason"] == "reference_mismatch"
    });
    let captured = dev.touchmark(&["reference", "capture", "host-1", "--label", "sha384"]);
    let text = String::from_utf8(captured.stdout).unwrap();
    let digest = text.lines().find(|line| line.starts_with("digest")).unwrap();
    assert_eq!(digest.split('"').nth(1).unwrap().len(), 96, "{digest}");
    let file = dev.file("sha384.toml", &text);
    assert!(
        dev.touchmark(&["reference", "apply", "-f", &file])
            .status
            .success()
    );
    eventually("the admission", || dev.host("host-1")["state"] == "attested");
    let first = dev.host("host-1")["last_attested"].clone();
    eventually("another attestation", || {
        dev.host("host-1")["last_attested"] != first
    });
    assert!(dev.touchmark(&["workload", "fetch", "x509"]).status.success());
}

/// A manifest (CoRIM) that states these digests of register 4, signed by `key`.
fn manifest(key: &SoftwareKey, digests: &[&str], content_type: &str) -> Vec<u8> {
    manifest_until(key, digests, content_type, Some(4_000_000_000))
}

/// What else a manifest of [`manifest_with`] says: a member of the manifest, of its statements, of each measurement's values; and the name of
/// each measurement.
#[derive(Default)]
struct Beside {
    manifest: Option<(i64, Value)>,
    statements: Option<(i64, Value)>,
    values: Option<(i64, Value)>,
    name: Option<Value>,
}

/// The same, with a signature that holds until then; `None`: whose signer is not named.
fn manifest_until(key: &SoftwareKey, digests: &[&str], content_type: &str, until: Option<i64>) -> Vec<u8> {
    manifest_with(key, digests, content_type, until, Beside::default())
}

fn manifest_with(
    key: &SoftwareKey,
    digests: &[&str],
    content_type: &str,
    until: Option<i64>,
    beside: Beside,
) -> Vec<u8> {
    let int = |number: i64| Value::from(number);
    let map = |members: Vec<(i64, Value)>| {
        Value::Map(
            members
                .into_iter()
                .map(|(key, value)| (int(key), value))
                .collect(),
        )
    };
    let measurements = digests
        .iter()
        .map(|digest| {
            let digest = Value::Array(vec![int(1), Value::Bytes(hex::decode(digest).unwrap())]);
            let mut values = vec![(2, Value::Array(vec![digest]))];
            values.extend(beside.values.clone());
            let name = beside.name.clone().unwrap_or(int(4));
            map(vec![(0, name), (1, map(values))])
        })
        .collect();
    let environment = map(vec![(0, map(vec![(1, Value::Text("ACME".into()))]))]);
    let triple = Value::Array(vec![environment, Value::Array(measurements)]);
    let mut triples = vec![(0, Value::Array(vec![triple]))];
    triples.extend(beside.statements);
    let comid = map(vec![
        (1, map(vec![(0, Value::Text("boot".into()))])),
        (4, map(triples)),
    ]);
    let tag = Value::Tag(506, Box::new(Value::Bytes(encoded(&comid))));
    let mut members = vec![(0, Value::Text("release".into())), (1, Value::Array(vec![tag]))];
    members.extend(beside.manifest);
    let corim = Value::Tag(501, Box::new(map(members)));
    let payload = encoded(&corim);
    let mut protected = vec![(1, int(-7)), (3, Value::Text(content_type.into()))];
    protected.extend(until.map(|until| {
        let signer = map(vec![(0, Value::Text("acme".into()))]);
        let validity = map(vec![(1, Value::Tag(1, Box::new(int(until))))]);
        (8, Value::Bytes(encoded(&map(vec![(0, signer), (1, validity)]))))
    }));
    let protected = encoded(&map(protected));
    let signed = encoded(&Value::Array(vec![
        Value::Text("Signature1".into()),
        Value::Bytes(protected.clone()),
        Value::Bytes(Vec::new()),
        Value::Bytes(payload.clone()),
    ]));
    let signature = key.sign(Purpose::Wit, &signed).unwrap();
    encoded(&Value::Tag(
        18,
        Box::new(Value::Array(vec![
            Value::Bytes(protected),
            Value::Map(Vec::new()),
            Value::Bytes(payload),
            Value::Bytes(signature),
        ])),
    ))
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    ciborium::into_writer(value, &mut out).unwrap();
    out
}

#[test]
fn c08_poisoned_or_unsigned_reference_values_change_nothing_and_signed_ones_are_staged() {
    const RIM: &str = "application/rim+cbor";
    let dev = Dev::start(&[]);
    let (vendor, stranger) = (
        SoftwareKey::generate(SigningAlg::Es256).unwrap(),
        SoftwareKey::generate(SigningAlg::Es256).unwrap(),
    );
    let jwk = Jwk::new(vendor.public_key().clone()).unwrap();
    let jwk = dev.file("vendor.jwk", &serde_json::to_string(&jwk.to_json()).unwrap());
    let digest = "ab".repeat(32);
    let good = manifest(&vendor, &[&digest], RIM);
    let import = |bytes: &[u8]| {
        let path = dev.system().join("manifest.cose");
        std::fs::write(&path, bytes).unwrap();
        dev.touchmark(&[
            "reference",
            "import",
            path.to_str().unwrap(),
            "--label",
            "vendor",
            "--output",
            "json",
        ])
    };
    let refused = |bytes: &[u8], why: &str| {
        let output = import(bytes);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains(why) && text.contains("nothing was changed"),
            "{text}"
        );
    };
    let before = dev.json(&["reference", "list"]);
    refused(&good, "no signer is pinned");
    let _server = dev.restart_server(|text| format!("{text}\n[reference.signers]\nacme = \"{jwk}\"\n"));
    eventually("the service answers", || {
        dev.json(&["reference", "list"]) == before
    });
    refused(&manifest(&stranger, &[&digest], RIM), "no signer that is pinned");
    refused(&manifest(&vendor, &[&digest], "application/cbor"), "content type");
    refused(
        &manifest_until(&vendor, &[&digest], RIM, None),
        "its signer has to be named",
    );
    refused(
        &manifest_until(&vendor, &[&digest], RIM, Some(1_700_000_000)),
        "does not hold at this time",
    );
    let mut poisoned = good.clone();
    let at = poisoned
        .windows(32)
        .position(|bytes| bytes == [0xab; 32])
        .unwrap();
    poisoned[at] ^= 1;
    refused(&poisoned, "no signer that is pinned");
    // The manifest itself, which nobody signed.
    refused(&good[40..], "signed");
    refused(b"", "signed");
    // What says more than is understood is not taken for less.
    let with = |beside| manifest_with(&vendor, &[&digest], RIM, Some(4_000_000_000), beside);
    let profile = Value::Tag(32, Box::new(Value::Text("https://acme.example/scheme".into())));
    refused(
        &with(Beside {
            manifest: Some((3, profile)),
            ..Beside::default()
        }),
        "profile",
    );
    refused(
        &with(Beside {
            name: Some(Value::from(40)),
            ..Beside::default()
        }),
        "not named by the number of a register",
    );
    let one = Value::Array(vec![Value::from(1), Value::Bytes(vec![7; 32])]);
    let registers = Value::Map(vec![(Value::from(4), Value::Array(vec![one]))]);
    refused(
        &with(Beside {
            values: Some((14, registers)),
            ..Beside::default()
        }),
        "final values of registers",
    );
    let version = Value::Map(vec![(Value::from(0), Value::Text("1.2.3".into()))]);
    refused(
        &with(Beside {
            values: Some((0, version)),
            ..Beside::default()
        }),
        "a version: digests",
    );
    // An endorsed triple has the form of a reference triple.
    let endorsed = Value::Array(vec![Value::Array(vec![
        Value::Map(vec![(
            Value::from(0),
            Value::Map(vec![(Value::from(1), Value::Text("ACME".into()))]),
        )]),
        Value::Array(vec![Value::Map(vec![
            (Value::from(0), Value::from(4)),
            (
                Value::from(1),
                Value::Map(vec![(Value::from(11), Value::Text("x".into()))]),
            ),
        ])]),
    ])]);
    refused(
        &with(Beside {
            statements: Some((1, endorsed)),
            ..Beside::default()
        }),
        "states more than reference values",
    );
    assert_eq!(dev.json(&["reference", "list"]), before);
    let output = import(&good);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let staged: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&staged["state"], &staged["source"]),
        (&json!("staged"), &json!("acme"))
    );
    assert_eq!(states(&dev, "vendor"), [(1, "staged".into())]);
    // What was staged meanwhile is not what was looked at.
    let next = "cd".repeat(32);
    assert!(import(&manifest(&vendor, &[&next], RIM)).status.success());
    let promote = |name: &str| dev.touchmark(&["reference", "promote", name]);
    let several = promote("vendor");
    assert_eq!(several.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&several.stderr).contains("vendor@1 or vendor@2"));
    assert_eq!(promote("vendor@7").status.code(), Some(1));
    assert_eq!(promote("vendor@x").status.code(), Some(2));
    assert!(promote("vendor@1").status.success());
    assert_eq!(
        states(&dev, "vendor"),
        [(1, "valid".into()), (2, "staged".into())]
    );
    assert_eq!(dev.json(&["policy", "explain", "host-1"])["decision"], "permit");
}
