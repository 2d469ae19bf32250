//! Which identifiers are refused, and for which reason.

use touchmark_identity::{IdentifierClass, IdentifierError, Scheme, TrustDomain, WorkloadId};

/// The identifier is refused for this reason, and no constructor takes a way around it.
fn assert_refused(text: &str, reason: &str) {
    let result = WorkloadId::parse(text);
    assert_eq!(
        result.clone().map_err(IdentifierError::reason),
        Err(reason),
        "{text:?}"
    );
    assert_eq!(text.parse(), result);
}

#[test]
fn r021_what_a_uri_name_in_a_certificate_may_not_be_is_refused() {
    for (text, reason) in [
        ("spiffe://td\u{e9}.example/a", "not_ascii"),
        ("wimse://td\u{e9}.example/a", "not_ascii"),
        ("wimse://td.example/\u{430}", "not_ascii"),
        ("\u{feff}wimse://td.example/a", "not_ascii"),
        ("wimse://td.example/a\u{2028}", "not_ascii"),
        ("wimse://td.example/a\u{85}", "not_ascii"),
        ("wimse://td.example\u{ff0f}a", "not_ascii"),
        ("wimse://td.example/a\0", "control_character"),
        ("wimse://td.example\0.evil.example/a", "control_character"),
        ("wimse://td.example/a\n", "control_character"),
        ("\twimse://td.example/a", "control_character"),
        ("wimse://td.example/a\r\n", "control_character"),
        ("wimse://td.example/\u{7f}", "control_character"),
        ("wimse:", "no_authority"),
        ("wimse:/", "no_authority"),
        ("wimse://", "empty_authority"),
        ("wimse://?", "query"),
        ("wimse://td!/a", "forbidden_character"),
    ] {
        assert_refused(text, reason);
    }
}

#[test]
fn r022_relative_references_and_broken_uris_are_refused() {
    for (text, reason) in [
        ("", "empty"),
        ("/", "relative"),
        ("/a", "relative"),
        ("a/b", "relative"),
        ("/service/a", "relative"),
        ("service/a", "relative"),
        ("//td/a", "relative"),
        ("//td.example:443/a", "relative"),
        ("/a:b", "relative"),
        ("./wimse://td.example/a", "relative"),
        ("?x=wimse://td.example/a", "relative"),
        ("#wimse://td.example/a", "relative"),
        ("td.example", "relative"),
        ("wimse", "relative"),
        (":", "scheme_syntax"),
        (":x", "scheme_syntax"),
        ("://td.example/a", "scheme_syntax"),
        ("1abc://td/a", "scheme_syntax"),
        ("+a://td/a", "scheme_syntax"),
        ("wim_se://td.example/a", "scheme_syntax"),
        (" wimse://td.example/a", "scheme_syntax"),
        ("wimse ://td.example/a", "scheme_syntax"),
        ("%77imse://td.example/a", "scheme_syntax"),
        ("wimse://td.example/a%", "bad_percent_triplet"),
        ("wimse://td.example/a%6", "bad_percent_triplet"),
        ("wimse://td.example/a%6/1", "bad_percent_triplet"),
        ("wimse://td.example/%zz", "bad_percent_triplet"),
        ("spiffe://td%.example/a", "bad_percent_triplet"),
        ("wimse://td.example/a b", "forbidden_character"),
        ("wimse://td.example/a ", "forbidden_character"),
        ("wimse://td.example /a", "forbidden_character"),
        ("wimse://td.example\\a", "forbidden_character"),
        ("wimse://td.example/a\\b", "forbidden_character"),
        ("wimse://td.example/<a>", "forbidden_character"),
        ("wimse://td.example/\"a\"", "forbidden_character"),
        ("wimse://td.example/{a}", "forbidden_character"),
        ("wimse://td.example/a|b", "forbidden_character"),
        ("wimse://td.example/a^b", "forbidden_character"),
        ("wimse://td.example/a`b", "forbidden_character"),
    ] {
        assert_refused(text, reason);
    }
}

#[test]
fn r023_the_authority_is_a_trust_domain_and_nothing_more() {
    for (text, reason) in [
        ("urn:a:b", "no_authority"),
        ("urn:uuid:3f2b8c1e-0a4d-4f6b-9c2d-7e5a1b0c9d8f", "no_authority"),
        ("spiffe:a", "no_authority"),
        ("spiffe:example.org/a", "no_authority"),
        ("spiffe:/example.org/a", "no_authority"),
        ("td.example:443/a", "no_authority"),
        ("wimse:///a", "empty_authority"),
        ("wimse:////td.example/a", "empty_authority"),
        ("wimse://td.example:443/a", "port"),
        ("wimse://td.example:/a", "port"),
        ("wimse://:443/a", "port"),
        ("wimse://td.example:80:80/a", "port"),
        ("wimse://192.0.2.1:443/a", "port"),
        ("wimse://u@td.example/a", "userinfo"),
        ("wimse://@td.example/a", "userinfo"),
        ("wimse://td.example@/a", "userinfo"),
        ("wimse://u:p@td.example:443/a", "userinfo"),
        ("wimse://u@[::1]/a", "userinfo"),
        ("wimse://td.example/a@b", "forbidden_character"),
        ("wimse://td.example/a:b", "forbidden_character"),
        ("wimse://td,example/a", "forbidden_character"),
        ("wimse://td~.example/a", "forbidden_character"),
        ("spiffe://td*.example/a", "forbidden_character"),
        ("wimse://a]/a", "forbidden_character"),
    ] {
        assert_refused(text, reason);
    }
}

#[test]
fn r024_schemes_that_are_not_configured_are_refused() {
    for (text, reason) in [
        ("https://td.example/a", "unknown_scheme"),
        ("spiffes://td.example/a", "unknown_scheme"),
        ("spiff://td.example/a", "unknown_scheme"),
        ("wimse+x://td.example/a", "unknown_scheme"),
        ("x://td.example/a", "unknown_scheme"),
    ] {
        assert_refused(text, reason);
    }
}

#[test]
fn r025_ip_addresses_are_not_trust_domains_in_any_spelling() {
    for name in [
        "192.0.2.1",
        "127.1",
        "10.0.1",
        "0x7f000001",
        "0x7f.0.0.1",
        "2130706433",
        "0177.0.0.1",
        "00000300.0.2.1",
        "1.2.3.4.",
        "256.256.256.256",
        "0",
        "[2001:db8::1]",
        "[::ffff:192.0.2.1]",
        "[fe80::1%25eth0]",
        "[v1.a]",
        "[::1]:443",
        "[",
        "2001:db8::1",
        "::1",
    ] {
        for scheme in [Scheme::Spiffe, Scheme::Wimse] {
            assert_refused(&format!("{scheme}://{name}/a"), "ip_literal");
            assert_eq!(TrustDomain::new(&scheme, name), Err(IdentifierError::IpLiteral));
        }
    }
}

#[test]
fn an_origin_or_a_query_or_a_fragment_is_no_workload_identifier() {
    for (text, reason) in [
        ("wimse://td.example", "no_path"),
        ("wimse://td.example/", "no_path"),
        ("spiffe://td.example", "no_path"),
        ("spiffe://td.example/", "no_path"),
        ("wimse://td.example/a?x=1", "query"),
        ("wimse://td.example/a?", "query"),
        ("wimse://td.example?x", "query"),
        ("wimse://td.example/a?x#f", "query"),
        ("wimse://td.example/a#f", "fragment"),
        ("wimse://td.example/a#", "fragment"),
        ("wimse://td.example#", "fragment"),
        ("wimse://td.example/a#f?x", "fragment"),
        ("spiffe://td.example/a?", "query"),
        ("spiffe://td.example/a#", "fragment"),
    ] {
        assert_refused(text, reason);
    }
}

#[test]
fn the_tilde_is_allowed_in_wimse_paths_only() {
    assert!(WorkloadId::parse("wimse://td.example/a~b").is_ok());
    assert_eq!(
        WorkloadId::parse("spiffe://td.example/a~b"),
        Err(IdentifierError::ForbiddenCharacter {
            character: '~',
            at: 21
        })
    );
    for c in "!$&'()*+,;=:@".chars() {
        assert_refused(&format!("wimse://td.example/a{c}b"), "forbidden_character");
        assert_refused(&format!("spiffe://td.example/a{c}b"), "forbidden_character");
    }
}

#[test]
fn t09_non_canonical_identifiers_are_refused_not_repaired() {
    for (text, reason) in [
        ("/td.example/a/", "trailing_slash"),
        ("/td.example//a", "empty_segment"),
        ("/td.example//", "empty_segment"),
        ("/td.example/a//b", "empty_segment"),
        ("/td.example/a//", "empty_segment"),
        ("/td.example/./a", "dot_segment"),
        ("/td.example/a/.", "dot_segment"),
        ("/td.example/a/..", "dot_segment"),
        ("/td.example/a/../b", "dot_segment"),
        ("/td.example/..", "dot_segment"),
        ("/td.example/%61", "percent_encoding"),
        ("/td.example/%2e%2e/a", "percent_encoding"),
        ("/td.example/a%2Fb", "percent_encoding"),
        ("/td.example/a%00", "percent_encoding"),
        ("/td.example/%C3%A9", "percent_encoding"),
        ("/td%2eexample/a", "percent_encoding"),
        ("/%74d.example/a", "percent_encoding"),
        ("/TD.example/a", "upper_case"),
        ("/td.examplE/a", "upper_case"),
    ] {
        for scheme in ["spiffe", "wimse"] {
            let text = format!("{scheme}:/{text}");
            assert_refused(&text, reason);
            let class = WorkloadId::parse(&text).map_err(IdentifierError::class);
            assert_eq!(class, Err(IdentifierClass::NotCanonical), "{text}");
        }
    }
    for text in [
        "WIMSE://td.example/a",
        "Spiffe://td.example/a",
        "spiffE://td.example/a",
    ] {
        assert_refused(text, "upper_case");
    }
    assert_refused("wimse://td.example./a", "trailing_dot");
    // Capitals in a path are other names, not other spellings.
    let (lower, upper) = ("wimse://td.example/api", "wimse://td.example/API");
    assert_ne!(
        WorkloadId::parse(lower).unwrap(),
        WorkloadId::parse(upper).unwrap()
    );
}
