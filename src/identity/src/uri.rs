//! Taking a URI apart (RFC 3986 section 3) far enough to tell which part is wrong.

use crate::{IdentifierError, Scheme};

/// The parts of an absolute URI without query and fragment. Authority and path are not yet checked.
pub(crate) struct Parts<'a> {
    pub(crate) scheme: Scheme,
    pub(crate) authority: &'a str,
    /// Offset of the authority in the whole text, in bytes.
    pub(crate) authority_at: usize,
    pub(crate) path: &'a str,
    /// Offset of the path in the whole text, in bytes.
    pub(crate) path_at: usize,
}

/// Splits `text`, which is ASCII without control characters and has a scheme that is known or `configured`, and an
/// authority, when this succeeds.
pub(crate) fn split<'a>(text: &'a str, configured: Option<&str>) -> Result<Parts<'a>, IdentifierError> {
    if text.is_empty() {
        return Err(IdentifierError::Empty);
    }
    if let Some((at, c)) = text
        .char_indices()
        .find(|(_, c)| !c.is_ascii() || c.is_ascii_control())
    {
        return Err(refused_character(text, c, at, 0));
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err(IdentifierError::Relative);
    };
    if scheme.contains(['/', '?', '#']) {
        return Err(IdentifierError::Relative);
    }
    check_scheme_syntax(scheme)?;
    let Some(hierarchy) = rest.strip_prefix("//") else {
        return Err(IdentifierError::NoAuthority);
    };
    let authority_at = text.len() - hierarchy.len();
    let scheme = Scheme::parse_or(scheme, configured)?;
    match hierarchy.char_indices().find(|(_, c)| matches!(c, '?' | '#')) {
        Some((at, '?')) => {
            return Err(IdentifierError::Query {
                at: authority_at + at,
            });
        }
        Some((at, _)) => {
            return Err(IdentifierError::Fragment {
                at: authority_at + at,
            });
        }
        None => {}
    }
    let (authority, path) = match hierarchy.find('/') {
        Some(at) => hierarchy.split_at(at),
        None => (hierarchy, ""),
    };
    let path_at = authority_at + authority.len();
    Ok(Parts {
        scheme,
        authority,
        authority_at,
        path,
        path_at,
    })
}

/// RFC 3986 section 3.1: a letter, then letters, digits, `+`, `-` and `.`.
fn check_scheme_syntax(scheme: &str) -> Result<(), IdentifierError> {
    let bad = scheme.char_indices().find(|&(at, c)| {
        let allowed = if at == 0 {
            c.is_ascii_alphabetic()
        } else {
            c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')
        };
        !allowed
    });
    match bad {
        Some((at, _)) => Err(IdentifierError::SchemeSyntax { at }),
        None if scheme.is_empty() => Err(IdentifierError::SchemeSyntax { at: 0 }),
        None => Ok(()),
    }
}

/// Why `c`, found at offset `at` of `part`, may not stand there; `part` begins at offset `base` of the whole text.
pub(crate) fn refused_character(part: &str, c: char, at: usize, base: usize) -> IdentifierError {
    let position = base + at;
    match c {
        '%' => {
            let digits = part
                .bytes()
                .skip(at + 1)
                .take(2)
                .filter(u8::is_ascii_hexdigit)
                .count();
            if digits == 2 {
                IdentifierError::PercentEncoding { at: position }
            } else {
                IdentifierError::BadPercentTriplet { at: position }
            }
        }
        _ if !c.is_ascii() => IdentifierError::NotAscii { at: position },
        _ if c.is_ascii_control() => IdentifierError::ControlCharacter { at: position },
        _ => IdentifierError::ForbiddenCharacter {
            character: c,
            at: position,
        },
    }
}
