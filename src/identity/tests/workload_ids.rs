//! What an identifier shows of itself, how it is compared, and the identifiers that are made here.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use touchmark_identity::{IdentifierError, Scheme, TrustDomain, WorkloadId};

const UUID: &str = "3f2b8c1e-0a4d-4f6b-9c2d-7e5a1b0c9d8f";

fn domain(origin: &str) -> Result<TrustDomain, IdentifierError> {
    TrustDomain::parse_origin(origin)
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn an_identifier_keeps_its_bytes_and_shows_its_parts() {
    for (text, scheme, name, path) in [
        ("spiffe://example.org/a", Scheme::Spiffe, "example.org", "/a"),
        (
            "spiffe://example.org/payments/API_v1.2-x",
            Scheme::Spiffe,
            "example.org",
            "/payments/API_v1.2-x",
        ),
        (
            "spiffe://under_score-.x/...",
            Scheme::Spiffe,
            "under_score-.x",
            "/...",
        ),
        ("spiffe://localhost/a", Scheme::Spiffe, "localhost", "/a"),
        // SPIFFE-ID knows no rule about dots, so these are names of others that are as good as any.
        ("spiffe://td.example./a", Scheme::Spiffe, "td.example.", "/a"),
        ("spiffe://a..b/a", Scheme::Spiffe, "a..b", "/a"),
        (
            "wimse://td.example/~a/.b/..c/d..",
            Scheme::Wimse,
            "td.example",
            "/~a/.b/..c/d..",
        ),
        (
            "wimse://1.2.3.4.example/A",
            Scheme::Wimse,
            "1.2.3.4.example",
            "/A",
        ),
        ("wimse://-/-", Scheme::Wimse, "-", "/-"),
    ] {
        let id = WorkloadId::parse(text).unwrap();
        assert_eq!(id.as_str(), text);
        assert_eq!(id.to_string(), text);
        assert_eq!(id.trust_domain().scheme(), &scheme, "{text}");
        assert_eq!(id.trust_domain().name(), name, "{text}");
        assert_eq!(id.path(), path, "{text}");
        assert_eq!(WorkloadId::new(id.trust_domain(), path), Ok(id.clone()));
        assert_eq!(id.trust_domain(), &TrustDomain::new(&scheme, name).unwrap());
        assert!(id.is_in(&domain(&format!("{scheme}://{name}")).unwrap()));
    }
}

#[test]
fn r024_the_same_authority_under_the_other_scheme_is_another_trust_domain() {
    let spiffe = WorkloadId::parse("spiffe://td.example/a").unwrap();
    let wimse = WorkloadId::parse("wimse://td.example/a").unwrap();
    assert_ne!(spiffe, wimse);
    assert_ne!(spiffe.trust_domain(), wimse.trust_domain());
    assert!(!spiffe.is_in(wimse.trust_domain()));
    assert!(!wimse.is_in(&domain("spiffe://td.example").unwrap()));
}

#[test]
fn t10_neither_a_longer_name_nor_the_same_path_elsewhere_is_the_same() {
    let here = domain("spiffe://example.org").unwrap();
    let pay = WorkloadId::new(&here, "/pay").unwrap();
    for other in [
        "spiffe://example.org/payroll",
        "spiffe://example.org/pay/roll",
        "spiffe://example.org/Pay",
        "spiffe://example.org.evil.example/pay",
        "spiffe://a.example.org/pay",
        "spiffe://example.or/g/pay",
        "wimse://example.org/pay",
    ] {
        let other = WorkloadId::parse(other).unwrap();
        assert_ne!(pay, other);
        assert_eq!(
            other.is_in(&here),
            other.as_str().starts_with("spiffe://example.org/"),
            "{other}"
        );
    }
    assert_eq!(
        WorkloadId::new(&here, ".evil.example/pay"),
        Err(IdentifierError::NoLeadingSlash)
    );
    assert_eq!(WorkloadId::new(&here, ""), Err(IdentifierError::NoPath));
    assert_eq!(WorkloadId::new(&here, "/"), Err(IdentifierError::NoPath));
    assert_eq!(
        WorkloadId::new(&here, "/a?"),
        Err(IdentifierError::Query { at: 22 })
    );
    assert_eq!(
        WorkloadId::new(&here, "//a"),
        Err(IdentifierError::EmptySegment { at: 21 })
    );
}

#[test]
fn identifiers_of_2048_bytes_are_accepted_and_longer_ones_refused() {
    for origin in ["spiffe://td.example/", "wimse://td.example/"] {
        let longest = format!("{origin}{}", "a".repeat(WorkloadId::MAX_LENGTH - origin.len()));
        assert_eq!(longest.len(), 2048);
        assert_eq!(WorkloadId::parse(&longest).unwrap().as_str(), longest);
        assert_eq!(
            WorkloadId::parse(&format!("{longest}a")),
            Err(IdentifierError::TooLong { length: 2049 })
        );
    }
    // Many segments are as good as one.
    let longest = format!("wimse://td.example{}", "/a".repeat(1015));
    assert_eq!(longest.len(), 2048);
    assert!(WorkloadId::parse(&longest).is_ok());
}

#[test]
fn order_equality_and_hash_are_those_of_the_bytes() {
    let mut texts = [
        "wimse://a/b",
        "spiffe://a/b",
        "spiffe://a/B",
        "spiffe://a-b/a",
        "spiffe://a/b/c",
        "spiffe://a.b/a",
    ];
    let mut ids: Vec<WorkloadId> = texts
        .iter()
        .map(|text| WorkloadId::parse(text).unwrap())
        .collect();
    texts.sort_unstable();
    ids.sort();
    assert_eq!(ids.iter().map(WorkloadId::as_str).collect::<Vec<_>>(), texts);
    for (id, text) in ids.iter().zip(texts) {
        let again = WorkloadId::parse(text).unwrap();
        assert_eq!(*id, again);
        assert_eq!(hash(id), hash(&again));
    }
}

#[test]
fn r012_every_identifier_made_here_carries_its_trust_domain() {
    for origin in ["spiffe://example.org", "wimse://td.example"] {
        let domain = domain(origin).unwrap();
        let server = WorkloadId::server(&domain);
        let host = WorkloadId::host(&domain, UUID).unwrap();
        assert_eq!(server.as_str(), format!("{origin}/touchmark/server"));
        assert_eq!(host.as_str(), format!("{origin}/touchmark/host/{UUID}"));
        assert_eq!(host.host_uuid(), Some(UUID));
        assert_eq!(server.host_uuid(), None);
        for id in [server, host] {
            assert!(id.is_in(&domain));
            assert!(id.is_reserved());
            assert_eq!(WorkloadId::parse(id.as_str()), Ok(id.clone()));
        }
    }
}

#[test]
fn the_longest_trust_domain_still_has_a_server_and_hosts() {
    let domain = TrustDomain::new(&Scheme::Spiffe, &"a".repeat(TrustDomain::MAX_NAME_LENGTH)).unwrap();
    for id in [
        WorkloadId::server(&domain),
        WorkloadId::host(&domain, UUID).unwrap(),
    ] {
        assert_eq!(WorkloadId::parse(id.as_str()), Ok(id.clone()));
    }
}

#[test]
fn hosts_are_named_by_uuids_in_lower_case_only() {
    let domain = domain("spiffe://example.org").unwrap();
    for uuid in [
        "",
        "3f2b8c1e-0a4d-4f6b-9c2d-7e5a1b0c9d8",
        "3f2b8c1e-0a4d-4f6b-9c2d-7e5a1b0c9d8ff",
        "3F2B8C1E-0A4D-4F6B-9C2D-7E5A1B0C9D8F",
        "3f2b8c1e0a4d4f6b9c2d7e5a1b0c9d8f",
        "3f2b8c1e-0a4d-4f6b-9c2d-7e5a1b0c9d8g",
        "3f2b8c1e-0a4d-4f6b-9c2d7-e5a1b0c9d8f",
        "{3f2b8c1e-0a4d-4f6b-9c2d-7e5a1b0c9d8f}",
        "urn:uuid:3f2b8c1e-0a4d-4f6b-9c2d-7e5a1b0c9d8f",
        "3f2b8c1e-0a4d-4f6b-9c2d-7e5a1b0c9d8\u{e9}",
        "../../../../../../../../../../a/b/c/d",
    ] {
        assert_eq!(
            WorkloadId::host(&domain, uuid),
            Err(IdentifierError::HostUuid),
            "{uuid}"
        );
    }
    for path in [
        "/touchmark/host",
        "/touchmark/host/a",
        "/touchmark/host/3F2B8C1E-0A4D-4F6B-9C2D-7E5A1B0C9D8F",
        "/touchmark/host/3f2b8c1e-0a4d-4f6b-9c2d-7e5a1b0c9d8f/a",
        "/a/touchmark/host/3f2b8c1e-0a4d-4f6b-9c2d-7e5a1b0c9d8f",
        "/touchmark/hosts/3f2b8c1e-0a4d-4f6b-9c2d-7e5a1b0c9d8f",
    ] {
        assert_eq!(
            WorkloadId::new(&domain, path).unwrap().host_uuid(),
            None,
            "{path}"
        );
    }
}

#[test]
fn what_is_below_touchmark_is_reserved_and_nothing_else() {
    for (path, reserved) in [
        ("/touchmark", true),
        ("/touchmark/server", true),
        ("/touchmark/host/a", true),
        ("/touchmark/anything/else", true),
        ("/touchmarks", false),
        ("/touchmark-server", false),
        ("/touchmark.server", false),
        ("/Touchmark/server", false),
        ("/a/touchmark/server", false),
        ("/touch/mark", false),
    ] {
        let id = WorkloadId::parse(&format!("spiffe://example.org{path}")).unwrap();
        assert_eq!(id.is_reserved(), reserved, "{path}");
    }
}

#[test]
fn errors_tell_where_and_what_to_do() {
    let error = WorkloadId::parse("wimse://td.example/a b").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the character ' ' at byte 20 is not allowed there"
    );
    let error = WorkloadId::parse("wimse://td.Example/a").unwrap_err();
    assert_eq!(error, IdentifierError::UpperCase { at: 11 });
    assert_eq!(error.remedy(), "write scheme and trust domain in lower case");
    let error = WorkloadId::parse("wimse://td.example/abc/%41").unwrap_err();
    assert_eq!(error, IdentifierError::PercentEncoding { at: 23 });
    assert_eq!(error.class().to_string(), "identifier_not_canonical");
    let error = WorkloadId::parse("wimse://td.example:443/a").unwrap_err();
    assert_eq!(error, IdentifierError::Port { at: 18 });
    assert_eq!(error.class().to_string(), "identifier_invalid");
    assert_eq!(
        WorkloadId::parse("wiMse://td.example/a"),
        Err(IdentifierError::UpperCase { at: 2 })
    );
}
