//! Schemes, origins and the names of trust domains.

use touchmark_identity::{IdentifierClass, IdentifierError, Scheme, TrustDomain};

#[test]
fn schemes_are_read_in_lower_case_only() {
    for scheme in [Scheme::Spiffe, Scheme::Wimse] {
        assert_eq!(Scheme::parse(scheme.as_str()), Ok(scheme.clone()));
        assert_eq!(scheme.to_string().parse(), Ok(scheme));
    }
    for (text, reason) in [
        ("SPIFFE", "upper_case"),
        ("Wimse", "upper_case"),
        ("spiffe:", "unknown_scheme"),
        (" spiffe", "unknown_scheme"),
        ("https", "unknown_scheme"),
        ("", "unknown_scheme"),
    ] {
        assert_eq!(
            Scheme::parse(text).map_err(IdentifierError::reason),
            Err(reason),
            "{text:?}"
        );
    }
}

#[test]
fn an_origin_is_read_and_printed_without_change() {
    for text in [
        "spiffe://example.org",
        "wimse://td.example",
        "spiffe://localhost",
        "wimse://a_b-c.d",
    ] {
        let domain = TrustDomain::parse_origin(text).unwrap();
        assert_eq!(domain.to_string(), text);
        assert_eq!(text.parse(), Ok(domain.clone()));
        assert_eq!(TrustDomain::new(domain.scheme(), domain.name()), Ok(domain));
    }
}

#[test]
fn origins_with_anything_more_or_less_are_refused() {
    for (text, reason) in [
        ("", "empty"),
        ("example.org", "relative"),
        ("//example.org", "relative"),
        ("spiffe:example.org", "no_authority"),
        ("spiffe://", "empty_authority"),
        ("spiffe:///", "empty_authority"),
        ("spiffe://example.org/", "path_in_origin"),
        ("spiffe://example.org/a", "path_in_origin"),
        ("spiffe://example.org?", "query"),
        ("spiffe://example.org#", "fragment"),
        ("spiffe://example.org:443", "port"),
        ("spiffe://u@example.org", "userinfo"),
        ("spiffe://Example.org", "upper_case"),
        ("SPIFFE://example.org", "upper_case"),
        ("https://example.org", "unknown_scheme"),
        ("wimse://example.org.", "trailing_dot"),
        ("spiffe://ex%61mple.org", "percent_encoding"),
        ("spiffe://example.org ", "forbidden_character"),
        ("spiffe://example.org\n", "control_character"),
        ("spiffe://ex\u{e4}mple.org", "not_ascii"),
        ("spiffe://127.1", "ip_literal"),
        ("wimse://[::1]", "ip_literal"),
    ] {
        assert_eq!(
            TrustDomain::parse_origin(text).map_err(IdentifierError::reason),
            Err(reason),
            "{text:?}"
        );
    }
}

#[test]
fn a_name_cannot_smuggle_in_other_parts_of_a_uri() {
    for (name, error) in [
        ("", IdentifierError::EmptyAuthority),
        (
            "a/b",
            IdentifierError::ForbiddenCharacter {
                character: '/',
                at: 1,
            },
        ),
        (
            "a?b",
            IdentifierError::ForbiddenCharacter {
                character: '?',
                at: 1,
            },
        ),
        (
            "a#b",
            IdentifierError::ForbiddenCharacter {
                character: '#',
                at: 1,
            },
        ),
        ("u@a", IdentifierError::UserInfo),
        ("a:1", IdentifierError::Port { at: 1 }),
        ("a%2f", IdentifierError::PercentEncoding { at: 1 }),
        ("a%", IdentifierError::BadPercentTriplet { at: 1 }),
        ("a\0", IdentifierError::ControlCharacter { at: 1 }),
        ("a\u{e9}", IdentifierError::NotAscii { at: 1 }),
        ("aB", IdentifierError::UpperCase { at: 1 }),
        ("127.0.0.1", IdentifierError::IpLiteral),
    ] {
        for scheme in [Scheme::Spiffe, Scheme::Wimse] {
            assert_eq!(TrustDomain::new(&scheme, name), Err(error), "{name:?}");
        }
    }
}

#[test]
fn names_of_255_bytes_are_accepted_and_longer_ones_refused() {
    for scheme in [Scheme::Spiffe, Scheme::Wimse] {
        assert!(TrustDomain::new(&scheme, &"a".repeat(255)).is_ok());
        let longer = TrustDomain::new(&scheme, &"a".repeat(256));
        assert_eq!(longer, Err(IdentifierError::TrustDomainTooLong { length: 256 }));
    }
}

#[test]
fn r012_names_that_are_not_fully_qualified_are_refused_at_creation_only() {
    let label64 = format!("{}.example", "a".repeat(64));
    let name254 = format!("{}.a.example", [&*"a".repeat(60); 4].join("."));
    assert_eq!(name254.len(), 253);
    let name254 = format!("b{name254}");
    for (name, reason) in [
        ("localhost", "single_label"),
        ("intranet", "single_label"),
        ("a..b", "empty_label"),
        (".a.b", "empty_label"),
        (&label64, "label_too_long"),
        (&name254, "fqdn_too_long"),
        ("example.org.", "trailing_dot"),
        ("-a.example", "label_hyphen"),
        ("a-.example", "label_hyphen"),
        ("a.-", "label_hyphen"),
        ("a_b.example", "label_underscore"),
        ("_a.example", "label_underscore"),
        ("example.1", "numeric_top_label"),
        ("example.0x1f", "numeric_top_label"),
        ("1.2.3.4.5", "numeric_top_label"),
    ] {
        let domain = TrustDomain::new(&Scheme::Spiffe, name).unwrap();
        let refused = domain.check_fqdn().unwrap_err();
        assert_eq!(refused.reason(), reason, "{name}");
        assert!(matches!(
            refused.class(),
            IdentifierClass::NotFqdn | IdentifierClass::NotCanonical
        ));
    }
}

#[test]
fn r012_domain_names_pass_the_check_at_creation() {
    let label63 = format!("{}.example", "a".repeat(63));
    let name253 = format!("{}.a.example", [&*"a".repeat(60); 4].join("."));
    for name in [
        "example.org",
        "a.b.c.example",
        "xn--bcher-kva.example",
        "1.example",
        "3com.example",
        &label63,
        &name253,
    ] {
        for scheme in [Scheme::Spiffe, Scheme::Wimse] {
            assert_eq!(
                TrustDomain::new(&scheme, name).unwrap().check_fqdn(),
                Ok(()),
                "{name}"
            );
        }
    }
}
