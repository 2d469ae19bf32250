//! Where a key is, in a form that is no secret: a TSS2 PRIVATE KEY file, which no other TPM can load, or a PKCS#11 URI.

use crate::{
    pkcs11_uri::Pkcs11Uri,
    tss2::{LABEL, Tss2Key},
};

/// A key at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyReference {
    /// In a TPM, wrapped by a key of its own.
    Tss2(Tss2Key),
    /// In a PKCS#11 token.
    Pkcs11(Pkcs11Uri),
}

/// Why a file is no reference to a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It looks like a TSS2 PRIVATE KEY file, and is none that can be used.
    #[error(transparent)]
    Tss2(#[from] crate::tss2::Tss2Error),
    /// It looks like a URI, and is none that can be used.
    #[error(transparent)]
    Uri(#[from] crate::pkcs11_uri::Pkcs11UriError),
    /// A URI that names a token and no key in it.
    #[error("the URI names no key: it has neither object nor id")]
    NoKey,
    /// Neither.
    #[error("neither a {LABEL} nor a pkcs11: URI")]
    Neither,
}

impl KeyReference {
    /// How the names of such files end.
    pub const ENDINGS: [&'static str; 2] = ["tss2", "uri"];

    /// How the name of its file ends.
    pub fn ending(&self) -> &'static str {
        let [tss2, uri] = Self::ENDINGS;
        match self {
            Self::Tss2(_) => tss2,
            Self::Pkcs11(_) => uri,
        }
    }

    /// What its file holds: PEM, or a URI on a line.
    pub fn to_file(&self) -> Result<String, ReferenceError> {
        Ok(match self {
            Self::Tss2(key) => key.to_pem()?,
            Self::Pkcs11(uri) => format!("{uri}\n"),
        })
    }

    /// Reads a file of either kind.
    pub fn from_file(bytes: &[u8]) -> Result<Self, ReferenceError> {
        if bytes.starts_with(b"-----BEGIN") {
            return Ok(Self::Tss2(Tss2Key::from_pem(bytes)?));
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|_| ReferenceError::Neither)?
            .trim();
        if !text
            .get(..7)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("pkcs11:"))
        {
            return Err(ReferenceError::Neither);
        }
        let uri = Pkcs11Uri::parse(text)?;
        if uri.names_object() {
            Ok(Self::Pkcs11(uri))
        } else {
            Err(ReferenceError::NoKey)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_read_back_and_what_is_no_reference_is_told() {
        let uri = Pkcs11Uri::parse("pkcs11:token=a;id=%01").unwrap();
        let reference = KeyReference::Pkcs11(uri);
        let file = reference.to_file().unwrap();
        assert_eq!(file, "pkcs11:token=a;id=%01\n");
        assert_eq!(KeyReference::from_file(file.as_bytes()), Ok(reference));
        for (text, says) in [
            ("", "neither"),
            ("pkcs11:token=a", "names no key"),
            ("pkcs11:object=a?pin-value=1", "pin-source"),
            (
                "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n",
                "not a PEM file",
            ),
        ] {
            let error = KeyReference::from_file(text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(says), "{text:?}: {error}");
        }
    }
}
