//! What we accept, an independent RFC 3986 parser (`fluent-uri`) accepts too, and it sees the same parts.

use std::collections::HashSet;

use fluent_uri::Uri;
use proptest::prelude::*;
use touchmark_identity::{IdentifierError, Scheme, TrustDomain, WorkloadId};

/// Checks one string; true if it was accepted.
fn check(text: &str) -> Result<bool, String> {
    let id = match WorkloadId::parse(text) {
        Ok(id) => id,
        Err(error) => return check_refusal(text, error).map(|()| false),
    };
    let uri = Uri::parse(text).map_err(|e| format!("{text:?} is accepted, but is no URI: {e}"))?;
    let authority = uri
        .authority()
        .ok_or_else(|| format!("{text:?} has no authority"))?;
    let same = uri.scheme().as_str() == id.trust_domain().scheme().as_str()
        && authority.as_str() == id.trust_domain().name()
        && authority.host() == id.trust_domain().name()
        && authority.userinfo().is_none()
        && authority.port().is_none()
        && matches!(authority.host_parsed(), fluent_uri::component::Host::RegName(_))
        && uri.path().as_str() == id.path()
        && uri.query().is_none()
        && uri.fragment().is_none();
    if !same {
        return Err(format!("{text:?} is taken apart differently: {id:?}, {uri:?}"));
    }
    if uri.normalize().as_str() != text {
        return Err(format!(
            "{text:?} has another spelling after RFC 3986 section 6.2.2"
        ));
    }
    let canonical = text.is_ascii()
        && text.len() <= WorkloadId::MAX_LENGTH
        && !text.contains(['%', '@', '?', '#', '[', ' '])
        && id.as_str() == text
        && id.to_string() == text
        && id.is_in(&TrustDomain::parse_origin(&id.trust_domain().to_string()).map_err(|e| e.to_string())?)
        && WorkloadId::new(id.trust_domain(), id.path()).as_ref() == Ok(&id)
        && WorkloadId::parse(id.as_str()).as_ref() == Ok(&id);
    if canonical {
        Ok(true)
    } else {
        Err(format!("{text:?} was accepted in a form that is not canonical"))
    }
}

/// What we call a relative reference, or say has no authority, is so for the other parser as well.
fn check_refusal(text: &str, error: IdentifierError) -> Result<(), String> {
    let agreed = match (error, Uri::parse(text)) {
        (IdentifierError::Relative | IdentifierError::SchemeSyntax { .. }, Ok(_)) => false,
        (IdentifierError::BadPercentTriplet { .. } | IdentifierError::NotAscii { .. }, Ok(_)) => false,
        (IdentifierError::NoAuthority, Ok(uri)) => uri.authority().is_none(),
        (IdentifierError::Query { .. }, Ok(uri)) => uri.has_query(),
        (IdentifierError::Fragment { .. }, Ok(uri)) => uri.has_fragment(),
        (IdentifierError::UserInfo, Ok(uri)) => uri.authority().is_some_and(|a| a.has_userinfo()),
        (IdentifierError::EmptyAuthority, Ok(uri)) => uri.authority().is_some_and(|a| a.as_str().is_empty()),
        _ => true,
    };
    if agreed {
        Ok(())
    } else {
        Err(format!(
            "{text:?} is refused for a reason that is not there: {error}"
        ))
    }
}

/// SplitMix64: the same strings on each run.
struct Generator(u64);

impl Generator {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or(0)
    }
}

const SEEDS: [&str; 12] = [
    "spiffe://example.org/payments/api",
    "spiffe://td.example/a",
    "spiffe://a-b_c.example/A/b.c/D-e_f",
    "spiffe://example.org/touchmark/server",
    "spiffe://1.2.3.a/1/2",
    "wimse://td.example/a",
    "wimse://td.example/~user/.hidden/x..y",
    "wimse://0x7g.example/9",
    "wimse://example.org/touchmark/host/3f2b8c1e-0a4d-4f6b-9c2d-7e5a1b0c9d8f",
    "wimse://a.b.c.d.e.f/g/h/i/j/k",
    "wimse://x1.example/Z",
    "wimse://127.0.0.1.example/a",
];

/// Pieces that matter to one parser or another.
const TELLING: [&str; 36] = [
    "/", "//", "/.", "/..", "/./", "..", ":", ":443", "@", "u@", "?", "#", "%", "%41", "%2e", "%zz", "[",
    "]", "[::1]", " ", "\\", "\0", "\n", "\u{7f}", "\u{e9}", "\u{ff0f}", "!", "&", "'", "*", "+", ",", ";",
    "=", "|", "A",
];

/// Ordinary pieces, so that enough mutants stay valid.
const ORDINARY: [&str; 16] = [
    "a", "bc", "z", "0", "12", "9", "-", "_", "~", ".", "x", "7f", "d-e", "f_g", "h.i", "/s",
];

/// One to three insertions, deletions, replacements or repetitions.
fn mutate(seed: &str, generator: &mut Generator) -> String {
    let mut chars: Vec<char> = seed.chars().collect();
    for _ in 0..=generator.below(3) {
        let at = generator.below(chars.len() + 1);
        let end = (at + 1 + generator.below(2)).min(chars.len());
        let pieces: &[&str] = if generator.below(3) == 0 {
            &TELLING
        } else {
            &ORDINARY
        };
        let piece = pieces
            .get(generator.below(pieces.len()))
            .copied()
            .unwrap_or_default();
        match generator.below(5) {
            0 | 1 => drop(chars.splice(at..at, piece.chars())),
            2 => drop(chars.drain(at..end)),
            3 => drop(chars.splice(at..end, piece.chars())),
            _ => {
                let again: Vec<char> = chars.iter().copied().skip(at).take(4).collect();
                drop(chars.splice(at..at, again));
            }
        }
    }
    chars.into_iter().collect()
}

#[test]
fn r022_every_accepted_string_is_an_absolute_uri_for_an_independent_parser() {
    const STRINGS: usize = 100_000;
    let mut generator = Generator(22);
    let (mut seen, mut reasons) = (HashSet::new(), HashSet::new());
    let (mut spiffe, mut wimse) = (0, 0);
    while seen.len() < STRINGS {
        let text = mutate(
            SEEDS
                .get(generator.below(SEEDS.len()))
                .copied()
                .unwrap_or_default(),
            &mut generator,
        );
        if !seen.insert(text.clone()) {
            continue;
        }
        check(&text).unwrap();
        match WorkloadId::parse(&text) {
            Ok(id) if *id.trust_domain().scheme() == Scheme::Spiffe => spiffe += 1,
            Ok(_) => wimse += 1,
            Err(error) => drop(reasons.insert(error.reason())),
        }
    }
    // Otherwise the comparison would be worth little.
    assert!(
        spiffe > STRINGS / 10 && wimse > STRINGS / 10,
        "{spiffe} and {wimse} accepted"
    );
    assert!(spiffe + wimse < STRINGS / 2, "{spiffe} and {wimse} accepted");
    for reason in [
        "relative",
        "scheme_syntax",
        "unknown_scheme",
        "no_authority",
        "empty_authority",
        "userinfo",
        "port",
        "ip_literal",
        "trailing_dot",
        "no_path",
        "empty_segment",
        "dot_segment",
        "trailing_slash",
        "query",
        "fragment",
        "percent_encoding",
        "bad_percent_triplet",
        "upper_case",
        "not_ascii",
        "control_character",
        "forbidden_character",
    ] {
        assert!(reasons.contains(reason), "no string was refused as {reason}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_string_of_the_canonical_grammar_is_accepted(
        text in r"spiffe://[a-z][a-z0-9._-]{0,30}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,12}){1,6}|wimse://[a-z]([a-z0-9._-]{0,30}[a-z0-9_-])?(/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,12}){1,6}",
    ) {
        prop_assert_eq!(check(&text), Ok(true));
    }

    #[test]
    fn strings_that_look_like_uris_are_judged_alike(
        text in r"(spiffe|wimse|SPIFFE|https|urn|)(:|)(//|/|)([a-z0-9._%@:\[\]-]{0,12})(/[A-Za-z0-9._~%?#:-]{0,6}){0,4}",
    ) {
        prop_assert!(check(&text).is_ok(), "{:?}", check(&text));
    }

    #[test]
    fn authorities_that_look_like_addresses_are_judged_alike(
        name in r"(0x?[0-9a-f]{0,3}|[0-9]{1,4}|\[|\]|::|[a-f0-9]{1,4}:)(\.[0-9xa-f]{0,4}|:[0-9a-f]{0,4}){0,7}\]?",
    ) {
        for scheme in ["spiffe", "wimse"] {
            let text = format!("{scheme}://{name}/a");
            let result = check(&text);
            prop_assert!(result.is_ok(), "{:?}", result);
            // The standard library's parsers are strict; whatever they read as an address is one.
            prop_assert!(result != Ok(true) || name.parse::<std::net::IpAddr>().is_err());
        }
    }

    #[test]
    fn arbitrary_strings_do_not_panic(text in any::<String>(), rest in any::<String>()) {
        for text in [text.clone(), format!("spiffe://{text}/{rest}"), format!("wimse://td.example/{rest}")] {
            prop_assert!(check(&text).is_ok());
            if let Err(error) = WorkloadId::parse(&text) {
                prop_assert!(!error.reason().is_empty() && !error.remedy().is_empty());
                prop_assert!(error.to_string().is_ascii(), "only a printable ASCII character is repeated");
            }
        }
        if let Ok(domain) = TrustDomain::parse_origin(&text) {
            prop_assert_eq!(domain.to_string(), text);
        }
    }
}
