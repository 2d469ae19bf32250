//! Workload identifiers.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use crate::uri::{self, refused_character};
use crate::{IdentifierError, Scheme, TrustDomain};

/// Below this path are the identifiers of Touchmark's own parts.
const RESERVED: &str = "/touchmark";
const SERVER_PATH: &str = "/touchmark/server";
const HOST_PREFIX: &str = "/touchmark/host/";

/// The identifier of a workload: an absolute URI with a trust domain and a path, nothing else.
///
/// Always valid, always the bytes that were parsed. Equality, order and hash are those of the bytes. Valid does not
/// mean verified: whoever holds a `WorkloadId` knows that it is well-formed and no more.
#[derive(Debug, Clone)]
pub struct WorkloadId {
    text: Box<str>,
    trust_domain: TrustDomain,
}

impl WorkloadId {
    /// Longest identifier in bytes. Software has to take identifiers of this length and may refuse longer ones
    /// (draft-ietf-wimse-identifier, SPIFFE-ID section 2.3).
    pub const MAX_LENGTH: usize = 2048;

    /// Reads an identifier.
    ///
    /// The rules are those of draft-ietf-wimse-identifier and SPIFFE-ID section 2, on top of RFC 3986 section 4.3
    /// (absolute URI) and RFC 5280 section 4.2.1.6 (URI as subject alternative name):
    ///
    /// * at most [`MAX_LENGTH`](Self::MAX_LENGTH) bytes, ASCII, no control characters;
    /// * scheme `spiffe` or `wimse`, in lower case;
    /// * an authority that is a trust domain's name ([`TrustDomain::new`]): no user information, no port;
    /// * one or more path segments of `A-Z`, `a-z`, `0-9`, `.`, `-`, `_`, and `~` under `wimse`; none of them empty,
    ///   `.` or `..`; no `/` at the end;
    /// * no query and no fragment, not even empty ones; no percent-encoding anywhere.
    ///
    /// # Errors
    ///
    /// Says which rule is broken. When several are, the first from the left of the outermost part wins.
    pub fn parse(text: &str) -> Result<Self, IdentifierError> {
        if text.len() > Self::MAX_LENGTH {
            return Err(IdentifierError::TooLong { length: text.len() });
        }
        let parts = uri::split(text, None)?;
        let trust_domain =
            TrustDomain::from_authority(parts.scheme, parts.authority, parts.authority_at, None)?;
        check_path(trust_domain.scheme(), parts.path, parts.path_at)?;
        Ok(Self {
            text: text.into(),
            trust_domain,
        })
    }

    /// Reads an identifier that has to be in `domain`, whose scheme and name are as its configuration has them.
    pub(crate) fn parse_in(text: &str, domain: &TrustDomain) -> Result<Self, IdentifierError> {
        if text.len() > Self::MAX_LENGTH {
            return Err(IdentifierError::TooLong { length: text.len() });
        }
        let parts = uri::split(text, Some(domain.scheme().as_str()))?;
        let address = Some(domain.name());
        let found = TrustDomain::from_authority(parts.scheme, parts.authority, parts.authority_at, address)?;
        check_path(found.scheme(), parts.path, parts.path_at)?;
        if found != *domain {
            return Err(IdentifierError::OtherTrustDomain);
        }
        Ok(Self {
            text: text.into(),
            trust_domain: found,
        })
    }

    /// The identifier at `path`, which begins with `/`, in a trust domain. Positions in errors count from the start
    /// of the whole identifier.
    ///
    /// # Errors
    ///
    /// Says which rule the path breaks.
    pub fn new(trust_domain: &TrustDomain, path: &str) -> Result<Self, IdentifierError> {
        if path.is_empty() {
            return Err(IdentifierError::NoPath);
        }
        // Otherwise the path would lengthen the name of the trust domain.
        if !path.starts_with('/') {
            return Err(IdentifierError::NoLeadingSlash);
        }
        Self::parse_in(&format!("{trust_domain}{path}"), trust_domain)
    }

    /// `<scheme>://<td>/touchmark/server`: the Touchmark server of a trust domain.
    pub fn server(trust_domain: &TrustDomain) -> Self {
        Self::assemble(trust_domain, SERVER_PATH)
    }

    /// `<scheme>://<td>/touchmark/host/<uuid>`: an enrolled host.
    ///
    /// # Errors
    ///
    /// `host_uuid` unless `uuid` is in the form of RFC 9562 section 4 with lower-case digits.
    pub fn host(trust_domain: &TrustDomain, uuid: &str) -> Result<Self, IdentifierError> {
        if !is_canonical_uuid(uuid) {
            return Err(IdentifierError::HostUuid);
        }
        Ok(Self::assemble(trust_domain, &format!("{HOST_PREFIX}{uuid}")))
    }

    /// Puts together what is known to be valid and short enough: a name has at most
    /// [`TrustDomain::MAX_NAME_LENGTH`] bytes, and the paths are the fixed ones above.
    fn assemble(trust_domain: &TrustDomain, path: &str) -> Self {
        Self {
            text: format!("{trust_domain}{path}").into(),
            trust_domain: trust_domain.clone(),
        }
    }

    /// The identifier, byte for byte as it was parsed.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain that the authority names.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path, beginning with `/` and never empty.
    pub fn path(&self) -> &str {
        let origin = self.trust_domain.scheme().as_str().len() + "://".len() + self.trust_domain.name().len();
        self.text.get(origin..).unwrap_or_default()
    }

    /// Whether the identifier belongs to `trust_domain`: scheme and name are both the same.
    pub fn is_in(&self, trust_domain: &TrustDomain) -> bool {
        self.trust_domain == *trust_domain
    }

    /// Whether the path is `/touchmark` or below it, where Touchmark names its own parts. No registration may claim
    /// such an identifier.
    pub fn is_reserved(&self) -> bool {
        self.path()
            .strip_prefix(RESERVED)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The UUID in an identifier that [`host`](Self::host) makes; `None` for every other identifier.
    pub fn host_uuid(&self) -> Option<&str> {
        self.path()
            .strip_prefix(HOST_PREFIX)
            .filter(|uuid| is_canonical_uuid(uuid))
    }
}

/// Checks the path of an identifier that begins at offset `base`.
fn check_path(scheme: &Scheme, path: &str, base: usize) -> Result<(), IdentifierError> {
    // The authority ends at the first slash, so a path has one or is empty.
    let segments = path.strip_prefix('/').unwrap_or_default();
    if segments.is_empty() {
        return Err(IdentifierError::NoPath);
    }
    let mut at = base + 1;
    let mut segments = segments.split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "" if segments.peek().is_none() => return Err(IdentifierError::TrailingSlash),
            "" => return Err(IdentifierError::EmptySegment { at }),
            "." | ".." => return Err(IdentifierError::DotSegment { at }),
            _ => {}
        }
        if let Some((offset, c)) = segment
            .char_indices()
            .find(|&(_, c)| !scheme.allows_in_segment(c))
        {
            return Err(refused_character(segment, c, offset, at));
        }
        at += segment.len() + 1;
    }
    Ok(())
}

/// 8-4-4-4-12 lower-case hexadecimal digits.
fn is_canonical_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        })
}

// By hand because the text alone decides.

impl PartialEq for WorkloadId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for WorkloadId {}

impl PartialOrd for WorkloadId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for WorkloadId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for WorkloadId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for WorkloadId {
    type Err = IdentifierError;

    fn from_str(text: &str) -> Result<Self, IdentifierError> {
        Self::parse(text)
    }
}
