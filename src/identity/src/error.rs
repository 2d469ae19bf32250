//! Why a trust domain or an identifier was refused.

use std::fmt;

use crate::{TrustDomain, WorkloadId};

/// A reason to refuse a trust domain or an identifier. Positions are byte offsets counted from 0.
///
/// [`reason`](Self::reason) is a stable code, [`class`](Self::class) the coarser one that credential verifiers report,
/// `Display` says what is wrong, and [`remedy`](Self::remedy) what to do about it. No variant carries text from the
/// input beyond one printable ASCII character, so every one is safe to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum IdentifierError {
    /// Longer than [`WorkloadId::MAX_LENGTH`].
    #[error("the identifier has {length} bytes, more than {max}", max = WorkloadId::MAX_LENGTH)]
    TooLong {
        /// Length in bytes.
        length: usize,
    },
    /// Nothing at all.
    #[error("the identifier is empty")]
    Empty,
    /// A byte above 127; URI names in certificates are IA5 strings (RFC 5280 section 4.2.1.6).
    #[error("there is a character outside ASCII at byte {at}")]
    NotAscii {
        /// Where.
        at: usize,
    },
    /// NUL, another control character or DEL.
    #[error("there is a control character at byte {at}")]
    ControlCharacter {
        /// Where.
        at: usize,
    },

    /// A relative reference (RFC 3986 section 4.2), which has no scheme.
    #[error("there is no scheme, so this is a relative reference")]
    Relative,
    /// What is before the colon is no scheme (RFC 3986 section 3.1).
    #[error("what is before the first colon is not a URI scheme (byte {at})")]
    SchemeSyntax {
        /// Where.
        at: usize,
    },
    /// A scheme other than the known and the configured ones.
    #[error("the scheme is neither `spiffe` nor `wimse`")]
    UnknownScheme,
    /// An identifier of another trust domain than the one that it has to be in.
    #[error("the identifier is not in this trust domain")]
    OtherTrustDomain,

    /// No `//` after the scheme.
    #[error("there is no authority: `//` does not follow the scheme")]
    NoAuthority,
    /// Nothing between `//` and the path.
    #[error("the authority is empty, so no trust domain is named")]
    EmptyAuthority,
    /// User information, perhaps empty, in the authority.
    #[error("the authority has user information (`@`)")]
    UserInfo,
    /// A port, perhaps empty, in the authority.
    #[error("the authority has a port (`:` at byte {at})")]
    Port {
        /// Where the colon is.
        at: usize,
    },
    /// The trust domain is an IP address in some spelling.
    #[error("the trust domain is an IP address, or a number that is read as one")]
    IpLiteral,
    /// Name of a trust domain longer than [`TrustDomain::MAX_NAME_LENGTH`].
    #[error("the trust domain's name has {length} bytes, more than {max}", max = TrustDomain::MAX_NAME_LENGTH)]
    TrustDomainTooLong {
        /// Length in bytes.
        length: usize,
    },
    /// The name of the trust domain ends with a dot.
    #[error("the trust domain's name ends with a dot")]
    TrailingDot,

    /// No path, or `/` alone: an origin, not a workload.
    #[error("there is no path, so a trust domain is named but no workload")]
    NoPath,
    /// A path where an origin was expected.
    #[error("a path follows the trust domain (byte {at})")]
    PathInOrigin {
        /// Where the path begins.
        at: usize,
    },
    /// A path to be put behind an origin does not begin with `/`.
    #[error("the path does not begin with `/`")]
    NoLeadingSlash,
    /// Two slashes in a row.
    #[error("the path has an empty segment at byte {at}")]
    EmptySegment {
        /// Where the segment would begin.
        at: usize,
    },
    /// A segment `.` or `..`.
    #[error("the path has a segment `.` or `..` at byte {at}")]
    DotSegment {
        /// Where the segment begins.
        at: usize,
    },
    /// A slash at the end.
    #[error("the path ends with `/`")]
    TrailingSlash,

    /// A query, perhaps empty.
    #[error("there is a query (`?` at byte {at})")]
    Query {
        /// Where the question mark is.
        at: usize,
    },
    /// A fragment, perhaps empty.
    #[error("there is a fragment (`#` at byte {at})")]
    Fragment {
        /// Where the number sign is.
        at: usize,
    },
    /// A percent-encoded byte.
    #[error("there is percent-encoding at byte {at}")]
    PercentEncoding {
        /// Where the percent sign is.
        at: usize,
    },
    /// A percent sign without two hexadecimal digits, which no URI may have (RFC 3986 section 2.1).
    #[error("there is a `%` without two hexadecimal digits at byte {at}")]
    BadPercentTriplet {
        /// Where the percent sign is.
        at: usize,
    },
    /// A capital letter in the scheme or in the name of the trust domain.
    #[error("there is a capital letter in the scheme or the trust domain at byte {at}")]
    UpperCase {
        /// Where.
        at: usize,
    },
    /// Another character that may not stand where it stands.
    #[error("the character {character:?} at byte {at} is not allowed there")]
    ForbiddenCharacter {
        /// Which.
        character: char,
        /// Where.
        at: usize,
    },

    /// A host's UUID that is not 8-4-4-4-12 lower-case hexadecimal digits.
    #[error("the host's id is not a UUID in lower case")]
    HostUuid,

    /// A name of one label, such as `localhost`.
    #[error("the name has one label only, so it is not a fully qualified domain name")]
    SingleLabel,
    /// Two dots in a row, or a dot in front.
    #[error("the name has an empty label at byte {at}")]
    EmptyLabel {
        /// Where the label would begin.
        at: usize,
    },
    /// A label of more than 63 bytes (RFC 1035 section 2.3.4).
    #[error("the label at byte {at} has {length} bytes, more than 63")]
    LabelTooLong {
        /// Length in bytes.
        length: usize,
        /// Where the label begins.
        at: usize,
    },
    /// A label that begins or ends with a hyphen.
    #[error("the label at byte {at} begins or ends with a hyphen")]
    LabelHyphen {
        /// Where the label begins.
        at: usize,
    },
    /// A label with an underscore.
    #[error("there is an underscore at byte {at}, which host names do not have")]
    LabelUnderscore {
        /// Where the underscore is.
        at: usize,
    },
    /// The last label is a number.
    #[error("the last label is a number, and there is no such top-level domain")]
    NumericTopLabel,
    /// A name of more than 253 bytes.
    #[error("the name has {length} bytes, more than the 253 of a domain name")]
    FqdnTooLong {
        /// Length in bytes.
        length: usize,
    },
}

/// The coarse reason, as verifiers of credentials report it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IdentifierClass {
    /// It is no identifier, however it were spelt.
    Invalid,
    /// A careless parser could repair it into an identifier. That is how two spellings of one name, or one spelling
    /// for two parsers, come about; here it is refused.
    NotCanonical,
    /// The syntax is in order, but a new trust domain should not have this name.
    NotFqdn,
}

impl IdentifierClass {
    /// A stable code in `snake_case`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "identifier_invalid",
            Self::NotCanonical => "identifier_not_canonical",
            Self::NotFqdn => "trust_domain_not_fqdn",
        }
    }
}

impl fmt::Display for IdentifierClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl IdentifierError {
    /// A stable code in `snake_case`, one per variant.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLong { .. } => "too_long",
            Self::Empty => "empty",
            Self::NotAscii { .. } => "not_ascii",
            Self::ControlCharacter { .. } => "control_character",
            Self::Relative => "relative",
            Self::SchemeSyntax { .. } => "scheme_syntax",
            Self::UnknownScheme => "unknown_scheme",
            Self::OtherTrustDomain => "other_trust_domain",
            Self::NoAuthority => "no_authority",
            Self::EmptyAuthority => "empty_authority",
            Self::UserInfo => "userinfo",
            Self::Port { .. } => "port",
            Self::IpLiteral => "ip_literal",
            Self::TrustDomainTooLong { .. } => "trust_domain_too_long",
            Self::TrailingDot => "trailing_dot",
            Self::NoPath => "no_path",
            Self::PathInOrigin { .. } => "path_in_origin",
            Self::NoLeadingSlash => "no_leading_slash",
            Self::EmptySegment { .. } => "empty_segment",
            Self::DotSegment { .. } => "dot_segment",
            Self::TrailingSlash => "trailing_slash",
            Self::Query { .. } => "query",
            Self::Fragment { .. } => "fragment",
            Self::PercentEncoding { .. } => "percent_encoding",
            Self::BadPercentTriplet { .. } => "bad_percent_triplet",
            Self::UpperCase { .. } => "upper_case",
            Self::ForbiddenCharacter { .. } => "forbidden_character",
            Self::HostUuid => "host_uuid",
            Self::SingleLabel => "single_label",
            Self::EmptyLabel { .. } => "empty_label",
            Self::LabelTooLong { .. } => "label_too_long",
            Self::LabelHyphen { .. } => "label_hyphen",
            Self::LabelUnderscore { .. } => "label_underscore",
            Self::NumericTopLabel => "numeric_top_label",
            Self::FqdnTooLong { .. } => "fqdn_too_long",
        }
    }

    /// The coarse reason.
    pub fn class(self) -> IdentifierClass {
        match self {
            Self::TrailingDot
            | Self::EmptySegment { .. }
            | Self::DotSegment { .. }
            | Self::TrailingSlash
            | Self::PercentEncoding { .. }
            | Self::UpperCase { .. } => IdentifierClass::NotCanonical,
            Self::SingleLabel
            | Self::EmptyLabel { .. }
            | Self::LabelTooLong { .. }
            | Self::LabelHyphen { .. }
            | Self::LabelUnderscore { .. }
            | Self::NumericTopLabel
            | Self::FqdnTooLong { .. } => IdentifierClass::NotFqdn,
            _ => IdentifierClass::Invalid,
        }
    }

    /// What to do about it, as one sentence without a full stop.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::TooLong { .. } => "shorten the path; 2048 bytes is the most that others have to accept",
            Self::Empty | Self::Relative | Self::SchemeSyntax { .. } | Self::NoAuthority => {
                "write the whole identifier, as in `spiffe://example.org/payments/api`"
            }
            Self::NotAscii { .. } => "use ASCII only; write an international domain name in its `xn--` form",
            Self::ControlCharacter { .. } => {
                "remove the character; look for a line end or a NUL at the end of the input"
            }
            Self::UnknownScheme => {
                "use `spiffe` or `wimse`, whichever the trust domain was created with, or configure naming.scheme"
            }
            Self::OtherTrustDomain => "name a workload of the trust domain that is asked, scheme included",
            Self::EmptyAuthority => "name the trust domain after `//`",
            Self::UserInfo => "remove everything up to and including the `@`",
            Self::Port { .. } => "remove the port; a trust domain is a name, not an address to connect to",
            Self::IpLiteral => {
                "name the trust domain by a domain name that your organisation owns; an address that is in use as a \
                 name already has to be configured as naming.ip_literal"
            }
            Self::TrustDomainTooLong { .. } | Self::FqdnTooLong { .. } => {
                "choose a shorter name for the trust domain"
            }
            Self::TrailingDot => "remove the dot at the end of the name",
            Self::NoPath => "add a path that names the workload, as in `/payments/api`",
            Self::PathInOrigin { .. } => {
                "end after the trust domain's name, without a slash, as in `spiffe://example.org`"
            }
            Self::NoLeadingSlash => "begin the path with `/`",
            Self::EmptySegment { .. } => "write one slash between two segments",
            Self::DotSegment { .. } => "write the path that is meant, without `.` and `..`",
            Self::TrailingSlash => "remove the slash at the end",
            Self::Query { .. } | Self::Fragment { .. } => {
                "remove the `?` or `#` and what follows; put it into the path if it names the workload"
            }
            Self::PercentEncoding { .. } | Self::BadPercentTriplet { .. } => {
                "choose a name that needs no percent-encoding"
            }
            Self::UpperCase { .. } => "write scheme and trust domain in lower case",
            Self::ForbiddenCharacter { .. } => {
                "use letters, digits, `.`, `-` and `_`; lower case only in the trust domain; `~` only in a `wimse` path"
            }
            Self::HostUuid => "copy the host's id as `touchmark host list` prints it",
            Self::SingleLabel | Self::NumericTopLabel => {
                "choose a domain name that your organisation owns, as in `example.org`"
            }
            Self::EmptyLabel { .. } => "write one dot between two labels and none in front",
            Self::LabelTooLong { .. } => "shorten the label to at most 63 bytes",
            Self::LabelHyphen { .. } => "begin and end each label with a letter or a digit",
            Self::LabelUnderscore { .. } => "replace the underscore, for example by a hyphen",
        }
    }
}
