//! What is written is read: results as we sign them, claims and manifests as others encode them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use ciborium::Value;
use proptest::prelude::*;
use touchmark_crypto::{
    SigningAlg, SoftwareKey,
    jose::{b64u_decode, json},
};
use touchmark_rats::{
    Reason,
    corim::{Tag, read_corim},
    ear::{AttestationResult, HostAppraisal, Profile, Tier, VECTOR_CLAIMS},
    eat::ClaimsSet,
};

fn tier() -> impl Strategy<Value = Tier> {
    prop::sample::select(vec![
        Tier::None,
        Tier::Affirming,
        Tier::Warning,
        Tier::Contraindicated,
    ])
}

fn appraisal() -> impl Strategy<Value = HostAppraisal> {
    let vector = prop::collection::btree_map(0..VECTOR_CLAIMS.len(), any::<i8>(), 0..8);
    let nonce = prop::option::of("[A-Za-z0-9_-]{8,88}");
    let policies = prop::collection::vec("[a-z][a-z0-9-]{0,20}", 0..4);
    let times = (0_u64..1 << 40, 1_u64..1 << 20);
    (tier(), vector, nonce, policies, times).prop_map(
        |(status, vector, nonce, policies, (issued_at, life))| HostAppraisal {
            identifier: "spiffe://example.org/host/1".into(),
            issued_at,
            expires_at: issued_at + life,
            build: "touchmark".into(),
            status,
            vector: vector.into_iter().collect(),
            policies,
            simulated: false,
            refusal: None,
            nonce,
        },
    )
}

fn read(token: &str) -> Result<AttestationResult, Reason> {
    let payload = token.split('.').nth(1).unwrap();
    let claims = ClaimsSet::from_json(&b64u_decode(payload).unwrap()).map_err(|error| error.reason)?;
    claims.check().map_err(|error| error.reason)?;
    AttestationResult::read(&claims, Profile::Ear03).map_err(|error| error.reason)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_result_is_read_as_it_was_signed_or_refused_where_its_status_is_better_than_its_vector(
        written in appraisal(),
    ) {
        let key = SoftwareKey::generate(SigningAlg::Es256).unwrap();
        let read = read(&written.sign(&key).unwrap());
        let worst = written.vector.iter().map(|(_, value)| Tier::of(*value)).max().unwrap_or(Tier::None);
        if written.status != Tier::None && written.status < worst {
            prop_assert_eq!(read.unwrap_err(), Reason::ClaimInvalid);
            return Ok(());
        }
        let read = read.unwrap();
        prop_assert_eq!(u64::try_from(read.issued_at), Ok(written.issued_at));
        prop_assert_eq!(read.expires_at.map(u64::try_from), Some(Ok(written.expires_at)));
        let nonces: Vec<Vec<u8>> = written.nonce.into_iter().map(String::into_bytes).collect();
        prop_assert_eq!(read.nonces, nonces);
        let host = &read.submodules[0];
        prop_assert_eq!(host.status, written.status);
        prop_assert_eq!(&host.vector, &written.vector);
        prop_assert_eq!(&host.policies, &written.policies);
    }

    #[test]
    fn claims_in_json_are_the_same_in_cbor(
        nonce in prop::collection::vec(any::<u8>(), 8..64),
        swname in "[ -~]{1,40}",
        uptime in any::<u32>(),
        secure: bool,
    ) {
        let text = touchmark_crypto::jose::b64u(&nonce);
        let members = serde_json::json!({
            "eat_nonce": text, "swname": swname, "uptime": uptime, "oemboot": secure,
        });
        let from_json = ClaimsSet::from_json(members.to_string().as_bytes()).unwrap();
        from_json.check().unwrap();
        let number = |label: i64, value: Value| (Value::from(label), value);
        let mut encoded = Vec::new();
        let map = Value::Map(vec![
            number(10, Value::Bytes(nonce)),
            number(261, Value::from(uptime)),
            number(262, Value::Bool(secure)),
            number(270, Value::Text(swname)),
        ]);
        ciborium::into_writer(&map, &mut encoded).unwrap();
        ClaimsSet::from_cbor(&encoded).unwrap().check().unwrap();
        for length in 0..encoded.len() {
            prop_assert!(ClaimsSet::from_cbor(&encoded[..length]).is_err());
        }
        prop_assert!(json::object(members.to_string().as_bytes()).is_ok());
    }

    #[test]
    fn a_manifest_is_read_with_every_measurement_that_was_written(
        id in "[a-z0-9-]{1,30}",
        vendor in "[A-Za-z ]{1,20}",
        digests in prop::collection::vec(prop::collection::vec(any::<u8>(), 32), 1..6),
        (start, life) in (0_i64..1 << 40, 0_i64..1 << 20),
    ) {
        let end = start + life;
        let bytes = manifest(&id, &vendor, &digests, (start, end));
        let read = read_corim(&bytes).unwrap();
        prop_assert_eq!(&read.id, &id);
        prop_assert_eq!(read.validity, Some((Some(start), end)));
        let [Tag::Comid(module)] = read.tags.as_slice() else { panic!("one module") };
        let [triple] = module.references.as_slice() else { panic!("one triple") };
        prop_assert_eq!(triple.environment.class.as_ref().unwrap().vendor.as_ref(), Some(&vendor));
        let found: Vec<Vec<u8>> = triple
            .measurements
            .iter()
            .flat_map(|measurement| measurement.digests.iter().map(|digest| digest.1.clone()))
            .collect();
        prop_assert_eq!(found, digests);
        for length in 0..bytes.len() {
            prop_assert!(read_corim(&bytes[..length]).is_err());
        }
    }
}

fn map(members: Vec<(i64, Value)>) -> Value {
    Value::Map(
        members
            .into_iter()
            .map(|(label, value)| (Value::from(label), value))
            .collect(),
    )
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// corim-map of one module with a reference triple: a measurement for each digest, SHA-256.
fn manifest(id: &str, vendor: &str, digests: &[Vec<u8>], validity: (i64, i64)) -> Vec<u8> {
    let measurements = digests.iter().map(|digest| {
        let digest = Value::Array(vec![Value::from(1), Value::Bytes(digest.clone())]);
        map(vec![(1, map(vec![(2, Value::Array(vec![digest]))]))])
    });
    let environment = map(vec![(0, map(vec![(1, text(vendor))]))]);
    let triple = Value::Array(vec![environment, Value::Array(measurements.collect())]);
    let module = map(vec![
        (1, map(vec![(0, text("module"))])),
        (4, map(vec![(0, Value::Array(vec![triple]))])),
    ]);
    let mut module_bytes = Vec::new();
    ciborium::into_writer(&module, &mut module_bytes).unwrap();
    let tag = Value::Tag(506, Box::new(Value::Bytes(module_bytes)));
    let time = |seconds: i64| Value::Tag(1, Box::new(Value::from(seconds)));
    let manifest = map(vec![
        (0, text(id)),
        (1, Value::Array(vec![tag])),
        (4, map(vec![(0, time(validity.0)), (1, time(validity.1))])),
    ]);
    let mut bytes = Vec::new();
    ciborium::into_writer(&Value::Tag(501, Box::new(manifest)), &mut bytes).unwrap();
    bytes
}

#[test]
fn a_manifest_that_ends_before_it_begins_is_refused() {
    let digest = vec![vec![7; 32]];
    read_corim(&manifest("m", "v", &digest, (5, 5))).unwrap();
    let error = read_corim(&manifest("m", "v", &digest, (6, 5))).unwrap_err();
    assert_eq!(error.reason, Reason::ClaimInvalid);
}

/// RFC 9711, appendix A.1.1, writes a version as text where section 4.2.7 has a list.
#[test]
fn a_version_that_is_bare_text_is_read_and_told() {
    let read = |version: &str| {
        let claims = ClaimsSet::from_json(format!("{{\"swversion\": {version}}}").as_bytes()).unwrap();
        claims
            .check()
            .map(|()| claims.bare_versions().collect::<Vec<_>>())
            .map_err(|error| error.reason)
    };
    assert_eq!(read("[\"3.1.4\"]"), Ok(vec![]));
    assert_eq!(read("\"3.1.4\""), Ok(vec!["swversion"]));
    assert_eq!(read("3"), Err(Reason::ClaimInvalid));
}

/// The extension's CDDL names the key by text in both forms; some verifiers number it.
#[test]
fn a_key_that_evidence_was_bound_to_is_found_by_its_name_and_by_its_number() {
    let result = |key: Value| {
        let appraisal = map(vec![
            (1000, Value::from(2)),
            (1001, map(vec![(0, Value::from(2))])),
            (-70002, Value::Map(vec![(key, Value::Bytes(vec![7; 91]))])),
        ]);
        let claims = map(vec![
            (265, text(Profile::Veraison.uri())),
            (6, Value::from(1)),
            (1004, map(vec![(0, text("d")), (1, text("b"))])),
            (266, Value::Map(vec![(text("host"), appraisal)])),
        ]);
        let mut bytes = Vec::new();
        ciborium::into_writer(&claims, &mut bytes).unwrap();
        AttestationResult::read(&ClaimsSet::from_cbor(&bytes).unwrap(), Profile::Veraison)
    };
    for name in [text("akpub"), Value::from(0)] {
        assert_eq!(result(name).unwrap().submodules[0].key, Some(vec![7; 91]));
    }
    assert_eq!(result(text("other")).unwrap_err().reason, Reason::ClaimMissing);
}

#[test]
fn a_status_is_a_name_in_json_and_a_number_in_cbor() {
    let result = |status: &Value, submodule: &Value| {
        let text = |text: &str| Value::Text(text.to_owned());
        let entry = |label: i64, value: Value| (Value::from(label), value);
        let part = Value::Map(vec![entry(1000, submodule.clone())]);
        let map = Value::Map(vec![
            entry(265, text("tag:ietf.org,2026:rats/ear#03")),
            entry(6, Value::from(1_800_000_000)),
            entry(1000, status.clone()),
            entry(
                1004,
                Value::Map(vec![entry(0, text("https://v.example")), entry(1, text("1"))]),
            ),
            entry(266, Value::Map(vec![(text("host"), part)])),
        ]);
        let mut encoded = Vec::new();
        ciborium::into_writer(&map, &mut encoded).unwrap();
        let claims = ClaimsSet::from_cbor(&encoded).unwrap();
        AttestationResult::read(&claims, Profile::Ear03).map_err(|error| error.reason)
    };
    let (number, name) = (Value::from(2), Value::Text("affirming".into()));
    assert!(result(&number, &number).unwrap().is_affirming());
    assert_eq!(result(&name, &number).unwrap_err(), Reason::ClaimInvalid);
    assert_eq!(result(&number, &name).unwrap_err(), Reason::ClaimInvalid);
    let json = |status: serde_json::Value| {
        let members = serde_json::json!({
            "eat_profile": "tag:ietf.org,2026:rats/ear#03", "iat": 1_800_000_000,
            "ear_verifier_id": {"developer": "https://v.example", "build": "1"},
            "submods": {"host": {"ear_status": status}},
        });
        let claims = ClaimsSet::from_json(members.to_string().as_bytes()).unwrap();
        AttestationResult::read(&claims, Profile::Ear03).map_err(|error| error.reason)
    };
    assert!(json("affirming".into()).unwrap().is_affirming());
    assert_eq!(json(2.into()).unwrap_err(), Reason::ClaimInvalid);
}
