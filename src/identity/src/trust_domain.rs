//! Trust domains: a scheme and a name.

use std::fmt;
use std::str::FromStr;

use crate::uri::{self, refused_character};
use crate::{IdentifierError, Naming, Scheme, WorkloadId, ip};

/// A trust domain, which is the pair of scheme and name and is written `<scheme>://<name>`.
///
/// `spiffe://example.org` and `wimse://example.org` are two trust domains. Having the shape of a DNS name proves
/// nothing about who owns that name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain {
    scheme: Scheme,
    name: Box<str>,
}

impl TrustDomain {
    /// Longest name in bytes. SPIFFE-ID section 2.1 sets it; under `wimse` the same limit follows from RFC 5280
    /// section 4.2.1.6, by which the host of a URI name is a fully qualified domain name or an IP address.
    pub const MAX_NAME_LENGTH: usize = 255;

    /// Longest domain name in text form that [`check_fqdn`](Self::check_fqdn) lets pass, in bytes (RFC 1035
    /// section 2.3.4, without the length bytes).
    const MAX_FQDN_LENGTH: usize = 253;

    /// A trust domain from its two halves; positions in errors count from the start of `name`.
    ///
    /// The name is one or more of `a-z`, `0-9`, `.`, `-` and `_`, and no spelling of an IP address; under `wimse` it
    /// does not end with a dot.
    ///
    /// # Errors
    ///
    /// Says which rule the name breaks.
    pub fn new(scheme: &Scheme, name: &str) -> Result<Self, IdentifierError> {
        Self::from_authority(scheme.clone(), name, 0, None)
    }

    /// Reads an origin such as `spiffe://example.org`: no path, not even `/`.
    ///
    /// # Errors
    ///
    /// Says which rule the origin breaks; `path_in_origin` if something follows the name.
    pub fn parse_origin(text: &str) -> Result<Self, IdentifierError> {
        Self::configured(text, &Naming::default())
    }

    /// Reads the origin of a trust domain that its operator's configuration names, with what that configuration admits
    /// beyond the usual: a scheme of its own, an address as its name. Its identifiers are read by
    /// [`workload`](Self::workload); for everybody else they stay unknown.
    ///
    /// # Errors
    ///
    /// Says which rule the origin breaks. An address in another spelling than the one that
    /// [`Naming::ip_literal`] gives, or one that is not canonical, is an `ip_literal` like any other.
    pub fn configured(text: &str, naming: &Naming) -> Result<Self, IdentifierError> {
        let parts = uri::split(text, naming.scheme.as_deref())?;
        let address = naming.ip_literal.as_deref();
        let domain = Self::from_authority(parts.scheme, parts.authority, parts.authority_at, address)?;
        if !parts.path.is_empty() {
            return Err(IdentifierError::PathInOrigin { at: parts.path_at });
        }
        Ok(domain)
    }

    /// Reads an identifier that has to be in this trust domain.
    ///
    /// # Errors
    ///
    /// Says which rule is broken; `other_trust_domain` for a valid identifier of another one.
    pub fn workload(&self, text: &str) -> Result<WorkloadId, IdentifierError> {
        WorkloadId::parse_in(text, self)
    }

    /// Checks the authority of a URI that begins at offset `base`; `address` is the one IP literal that is admitted.
    pub(crate) fn from_authority(
        scheme: Scheme,
        name: &str,
        base: usize,
        address: Option<&str>,
    ) -> Result<Self, IdentifierError> {
        if name.is_empty() {
            return Err(IdentifierError::EmptyAuthority);
        }
        if name.contains('@') {
            return Err(IdentifierError::UserInfo);
        }
        // Ahead of the port, because an IPv6 address has colons.
        if ip::is_ip_literal(name) {
            // SPIFFE-ID section 2.1 has no brackets in a name.
            let admitted = address == Some(name) && ip::is_canonical(name);
            if admitted && !(scheme == Scheme::Spiffe && name.starts_with('[')) {
                return Ok(Self {
                    scheme,
                    name: name.into(),
                });
            }
            return Err(IdentifierError::IpLiteral);
        }
        if let Some(at) = name.find(':') {
            return Err(IdentifierError::Port { at: base + at });
        }
        for (at, c) in name.char_indices() {
            match c {
                'a'..='z' | '0'..='9' | '.' | '-' | '_' => {}
                'A'..='Z' => return Err(IdentifierError::UpperCase { at: base + at }),
                _ => return Err(refused_character(name, c, at, base)),
            }
        }
        if scheme != Scheme::Spiffe && name.ends_with('.') {
            return Err(IdentifierError::TrailingDot);
        }
        if name.len() > Self::MAX_NAME_LENGTH {
            return Err(IdentifierError::TrustDomainTooLong { length: name.len() });
        }
        Ok(Self {
            scheme,
            name: name.into(),
        })
    }

    /// Whether the name could be a fully qualified domain name, to be asked when a trust domain is *created*.
    ///
    /// Names of trust domains are taken from a global name space, so that two organisations do not choose the same.
    /// Domains of others are used as they are: parsing an origin or an identifier does not ask this question.
    /// The labels are those of RFC 1123 section 2.1, two or more of them, and the last one is not a number.
    ///
    /// # Errors
    ///
    /// Says which rule of host names the name breaks; positions count from the start of the name.
    pub fn check_fqdn(&self) -> Result<(), IdentifierError> {
        let name = self.name();
        if name.len() > Self::MAX_FQDN_LENGTH {
            return Err(IdentifierError::FqdnTooLong { length: name.len() });
        }
        if name.ends_with('.') {
            return Err(IdentifierError::TrailingDot);
        }
        let mut at = 0;
        for label in name.split('.') {
            if label.is_empty() {
                return Err(IdentifierError::EmptyLabel { at });
            }
            if label.len() > 63 {
                return Err(IdentifierError::LabelTooLong {
                    length: label.len(),
                    at,
                });
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err(IdentifierError::LabelHyphen { at });
            }
            if let Some(underscore) = label.find('_') {
                return Err(IdentifierError::LabelUnderscore { at: at + underscore });
            }
            at += label.len() + 1;
        }
        match name.rsplit_once('.') {
            None => Err(IdentifierError::SingleLabel),
            Some((_, last)) if ip::is_number(last) => Err(IdentifierError::NumericTopLabel),
            Some(_) => Ok(()),
        }
    }

    /// Whether the name is an IP address, which only configuration admits.
    pub fn is_ip_literal(&self) -> bool {
        ip::is_ip_literal(&self.name)
    }

    /// The naming scheme.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// The name alone, `example.org`. Never compare names without the schemes.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The origin, `spiffe://example.org`; [`TrustDomain::parse_origin`] reads it back.
impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.name)
    }
}

impl FromStr for TrustDomain {
    type Err = IdentifierError;

    fn from_str(text: &str) -> Result<Self, IdentifierError> {
        Self::parse_origin(text)
    }
}
