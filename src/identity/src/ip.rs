//! Which trust domain names are really IP addresses.
//!
//! An IP literal is not a trust domain (draft-ietf-wimse-identifier), and the dotted quad of RFC 3986 section 3.2.2
//! is not the only spelling: resolvers built on `inet_aton` also read `127.1`, `0x7f000001`, `2130706433`,
//! `0177.0.0.1` and `1.2.3.4.` as addresses. The shape decides, not the value: `999.1.1.1` is refused too, since
//! parsers differ on what they do with numbers that do not fit.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether some software would take `name` for an IPv4 or IPv6 address.
pub(crate) fn is_ip_literal(name: &str) -> bool {
    // Brackets hold nothing but IPv6 and later literals (RFC 3986 section 3.2.2).
    name.starts_with('[') || name.parse::<Ipv6Addr>().is_ok() || is_ipv4_spelling(name)
}

/// Whether `name` is an address in its one canonical spelling: a dotted quad, or the form of RFC 5952 in brackets.
pub(crate) fn is_canonical(name: &str) -> bool {
    match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner
            .parse::<Ipv6Addr>()
            .is_ok_and(|address| address.to_string() == inner),
        None => name
            .parse::<Ipv4Addr>()
            .is_ok_and(|address| address.to_string() == name),
    }
}

/// One to four numbers with dots between them, perhaps a dot at the end.
fn is_ipv4_spelling(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.split('.').count() <= 4 && name.split('.').all(is_number)
}

/// Whether `label` is a number as `inet_aton` writes them: decimal, octal with `0`, hexadecimal with `0x`.
pub(crate) fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x").or_else(|| label.strip_prefix("0X")) {
        // A bare `0x` counts as zero for some.
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::is_ip_literal;

    #[test]
    fn every_spelling_of_an_address_is_seen() {
        for name in [
            "192.0.2.1",
            "127.1",
            "127.0.1",
            "0x7f000001",
            "0x7F.1",
            "0x",
            "2130706433",
            "0177.0.0.1",
            "089.0.0.1",
            "1.2.3.4.",
            "127.1.",
            "0",
            "999.1.1.1",
            "4294967296",
            "[::1]",
            "[v1.future]",
            "::1",
            "2001:db8::1",
            "::ffff:192.0.2.1",
        ] {
            assert!(is_ip_literal(name), "{name}");
        }
    }

    #[test]
    fn names_with_numbers_in_them_are_not_addresses() {
        for name in [
            "example.org",
            "1.example",
            "1.2.3.4.example.org",
            "1.2.3.4.in-addr.arpa",
            "1.2.3.4.5",
            "1..2",
            "1.2.3.4..",
            "0xg",
            "x7f",
            "a",
            "1a",
            "1-2",
            "",
            ".",
        ] {
            assert!(!is_ip_literal(name), "{name}");
        }
    }
}
