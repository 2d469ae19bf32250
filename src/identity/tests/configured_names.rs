//! What a trust domain's configuration admits, and that it admits nothing more.

use touchmark_identity::{IdentifierError, Naming, Scheme, TrustDomain, WorkloadId};

fn scheme(own: &str) -> Naming {
    Naming {
        scheme: Some(own.to_owned()),
        ..Naming::default()
    }
}

fn address(literal: &str) -> Naming {
    Naming {
        ip_literal: Some(literal.to_owned()),
        ..Naming::default()
    }
}

#[test]
fn r024_a_third_scheme_is_read_where_it_is_configured_and_nowhere_else() {
    let domain = TrustDomain::configured("acme+w://td.example", &scheme("acme+w")).unwrap();
    assert!(matches!(domain.scheme(), Scheme::Configured(_)));
    let id = domain.workload("acme+w://td.example/payments/api~1").unwrap();
    assert!(id.is_in(&domain));
    assert_eq!(id.as_str(), "acme+w://td.example/payments/api~1");
    assert_eq!(id.path(), "/payments/api~1");
    assert_eq!(
        WorkloadId::new(&domain, "/a").unwrap().as_str(),
        "acme+w://td.example/a"
    );
    assert_eq!(
        WorkloadId::server(&domain).as_str(),
        "acme+w://td.example/touchmark/server"
    );

    for (text, reason) in [
        ("acme+w://other.example/a", "other_trust_domain"),
        ("spiffe://td.example/a", "other_trust_domain"),
        ("wimse://td.example/a", "other_trust_domain"),
        ("acme://td.example/a", "unknown_scheme"),
        ("acme+W://td.example/a", "unknown_scheme"),
        ("acme+w://td.example", "no_path"),
        ("acme+w://td.example/a/", "trailing_slash"),
        ("acme+w://td.example/%61", "percent_encoding"),
        ("acme+w://td.example./a", "trailing_dot"),
        ("acme+w://192.0.2.1/a", "ip_literal"),
        ("acme+w:td.example/a", "no_authority"),
    ] {
        assert_eq!(domain.workload(text).unwrap_err().reason(), reason, "{text}");
    }
    // Without this configuration the scheme does not exist, in another trust domain neither.
    assert_eq!(
        WorkloadId::parse(id.as_str()),
        Err(IdentifierError::UnknownScheme)
    );
    let other = TrustDomain::parse_origin("wimse://td.example").unwrap();
    assert_eq!(other.workload(id.as_str()), Err(IdentifierError::UnknownScheme));
    for (origin, naming) in [
        ("acme://td.example", Naming::default()),
        ("acme://td.example", scheme("acme+w")),
        ("Acme://td.example", scheme("Acme")),
        ("spifee://td.example", scheme("spiffe")),
    ] {
        let error = TrustDomain::configured(origin, &naming).unwrap_err();
        assert_eq!(error, IdentifierError::UnknownScheme, "{origin}");
    }
    assert_eq!(
        TrustDomain::configured("1a://td.example", &scheme("1a")),
        Err(IdentifierError::SchemeSyntax { at: 0 })
    );
    // The known ones remain what they are.
    let known = TrustDomain::configured("spiffe://td.example", &scheme("spiffe")).unwrap();
    assert_eq!(known, TrustDomain::parse_origin("spiffe://td.example").unwrap());
}

#[test]
fn r025_exactly_the_configured_address_is_a_trust_domain() {
    let domain = TrustDomain::configured("spiffe://192.0.2.1", &address("192.0.2.1")).unwrap();
    assert!(domain.is_ip_literal());
    let id = domain.workload("spiffe://192.0.2.1/api").unwrap();
    assert!(id.is_in(&domain));
    assert_eq!(WorkloadId::parse(id.as_str()), Err(IdentifierError::IpLiteral));
    for text in [
        "spiffe://192.0.2.2/api",
        "spiffe://192.0.2.001/api",
        "spiffe://192.0.513/api",
        "spiffe://0xc0000201/api",
        "spiffe://3221225985/api",
        "spiffe://192.0.2.1./api",
        "spiffe://[::ffff:192.0.2.1]/api",
    ] {
        assert_eq!(domain.workload(text), Err(IdentifierError::IpLiteral), "{text}");
    }
    assert_eq!(
        domain.workload("wimse://192.0.2.1/api"),
        Err(IdentifierError::OtherTrustDomain)
    );
    assert_eq!(
        domain.workload("spiffe://td.example/api"),
        Err(IdentifierError::OtherTrustDomain)
    );
    assert_eq!(
        domain
            .workload("spiffe://192.0.2.1:443/api")
            .unwrap_err()
            .reason(),
        "port"
    );
}

#[test]
fn r025_only_a_canonical_spelling_can_be_configured() {
    for (origin, literal) in [
        ("spiffe://192.0.2.1", "192.0.2.2"),
        ("spiffe://192.0.2.001", "192.0.2.001"),
        ("spiffe://127.1", "127.1"),
        ("spiffe://0x7f000001", "0x7f000001"),
        ("spiffe://192.0.2.1.", "192.0.2.1."),
        ("wimse://2001:db8::1", "2001:db8::1"),
        ("wimse://[2001:DB8::1]", "[2001:DB8::1]"),
        ("wimse://[2001:db8:0::1]", "[2001:db8:0::1]"),
        ("wimse://[fe80::1%25eth0]", "[fe80::1%25eth0]"),
        ("spiffe://[2001:db8::1]", "[2001:db8::1]"),
    ] {
        assert_eq!(
            TrustDomain::configured(origin, &address(literal)),
            Err(IdentifierError::IpLiteral),
            "{origin}"
        );
    }
    let six = TrustDomain::configured("wimse://[2001:db8::1]", &address("[2001:db8::1]")).unwrap();
    assert_eq!(six.workload("wimse://[2001:db8::1]/a").unwrap().path(), "/a");
    // The setting names an address; it does not make a name of something else.
    assert_eq!(
        TrustDomain::configured("spiffe://exa mple", &address("exa mple"))
            .unwrap_err()
            .reason(),
        "forbidden_character"
    );
}
