//! The protocol between an agent and the workloads of its host: gRPC over a Unix socket
//! (`proto/touchmark/agent/v1/workload.proto`), beside the SPIFFE Workload API because that one hands out private keys,
//! which hardware cannot.
//!
//! What both ends must agree on stands here: the guard that each call carries, the sizes, and what a message for a
//! TLS signature looks like.

/// Generated from the `.proto` file.
mod generated {
    #![allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
        clippy::cast_possible_truncation,
        clippy::implicit_clone,
        clippy::needless_pass_by_value
    )]
    tonic::include_proto!("touchmark.agent.v1");
}

pub use generated::*;

/// Metadata that every call carries with the value [`GUARD_VALUE`]. Whoever lures a process into sending a request of
/// the lurer's making (SSRF) can seldom choose its headers.
pub const GUARD: &str = "touchmark-workload";

/// The value of [`GUARD`].
pub const GUARD_VALUE: &str = "true";

/// Largest request, bytes.
pub const MAX_REQUEST: usize = 16 * 1024;

/// Largest response, bytes: a bundle with a few hundred roots.
pub const MAX_RESPONSE: usize = 1024 * 1024;

/// Longest audience, bytes.
pub const MAX_AUDIENCE: usize = 2048;

/// Where the agent listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/touchmark/agent.sock";

/// The environment variable that names another socket.
pub const SOCKET_VARIABLE: &str = "TOUCHMARK_AGENT_SOCKET";

/// Whether `message` has the form of a TLS 1.3 CertificateVerify input (RFC 8446, section 4.4.3): 64 spaces, the context
/// of either side, a zero octet, a transcript hash. Nothing else that is ever signed begins so: a key that signs only
/// this cannot be talked into signing a certificate or a token.
pub fn is_tls13_handshake(message: &[u8]) -> bool {
    const CONTEXTS: [&[u8]; 2] = [
        b"TLS 1.3, server CertificateVerify\0",
        b"TLS 1.3, client CertificateVerify\0",
    ];
    message.split_at_checked(64).is_some_and(|(padding, rest)| {
        padding.iter().all(|&octet| octet == b' ')
            && CONTEXTS
                .iter()
                .filter_map(|context| rest.strip_prefix(*context))
                .any(|hash| matches!(hash.len(), 32 | 48))
    })
}

/// Whether `text` can be the audience of a proof: an absolute URI with an authority, without query and fragment, which the
/// verifier leaves aside (draft-ietf-wimse-wpt-02), only the characters of RFC 3986, at most [`MAX_AUDIENCE`] bytes.
pub fn is_audience(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let authority_ok = rest
        .strip_prefix("//")
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
    let mut bytes = rest.bytes();
    let mut characters_ok = true;
    while let Some(byte) = bytes.next() {
        characters_ok &= match byte {
            b'%' => {
                let mut hex = || bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit());
                hex() && hex()
            }
            _ => byte.is_ascii_alphanumeric() || b"-._~:/[]@!$&'()*+,;=".contains(&byte),
        };
    }
    text.len() <= MAX_AUDIENCE && scheme_ok && authority_ok && !rest.is_empty() && characters_ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_certificate_verify_inputs_pass_as_tls_handshakes() {
        for context in ["server", "client"] {
            for hash in [32, 48] {
                let mut message = vec![b' '; 64];
                message.extend(format!("TLS 1.3, {context} CertificateVerify\0").bytes());
                message.extend(vec![7; hash]);
                assert!(is_tls13_handshake(&message));
                assert!(!is_tls13_handshake(&message[1..]));
                assert!(!is_tls13_handshake(&message[..message.len() - 1]));
                message.push(0);
                assert!(!is_tls13_handshake(&message));
            }
        }
        assert!(!is_tls13_handshake(b""));
        assert!(!is_tls13_handshake(&[0; 32]));
        assert!(!is_tls13_handshake(b"eyJhbGciOiJFUzI1NiJ9.e30"));
    }

    #[test]
    fn audiences_are_absolute_uris() {
        for uri in [
            "https://api.example.org",
            "https://api.example.org/",
            "https://api.example.org:8443/a/b%20c",
            "wimse://example.org/api",
            "spiffe://example.org/a",
        ] {
            assert!(is_audience(uri), "{uri}");
        }
        for text in [
            "",
            "api.example.org",
            "/path",
            "https:",
            "https://",
            "https:///path",
            "1https://a",
            ":x",
            "https://a b",
            "https://a#fragment",
            "https://a?query",
            "https://a/b?",
            "urn:example:x",
            "mailto:a@example.org",
            "https://a/%zz",
            "https://a/%2",
            "https://ä",
            "https://a\n",
        ] {
            assert!(!is_audience(text), "{text:?}");
        }
        assert!(!is_audience(&format!("https://a/{}", "b".repeat(MAX_AUDIENCE))));
    }
}
