//! PKCS#11 URIs (RFC 7512): which token, which key in it, and where its PIN is found.
//!
//! An attribute that is absent matches anything; one that is there matches exactly, after percent-decoding. What would leak a PIN or load
//! code from elsewhere is refused: `pin-value` shows in process lists and logs, and a module is named by configuration alone.

use std::collections::BTreeMap;

/// Longest URI accepted, in bytes.
pub const MAX_URI: usize = 2048;

/// Why a text is not a URI that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Pkcs11UriError {
    /// Over [`MAX_URI`].
    #[error("over 2,048 bytes")]
    TooLong,
    /// Another scheme.
    #[error("not a pkcs11: URI")]
    Scheme,
    /// A part that is no `name=value`, or has characters that have to be percent-encoded.
    #[error("{0:?} is no attribute: name=value, other characters percent-encoded")]
    Syntax(String),
    /// An attribute that is there twice.
    #[error("attribute {0} is there twice")]
    Twice(String),
    /// A value that the attribute cannot have.
    #[error("attribute {name}: {what}")]
    Value {
        /// The attribute.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A PIN in the URI.
    #[error(
        "pin-value: a PIN in a URI shows in logs and process lists; put it into a file and say pin-source=file:PATH"
    )]
    PinValue,
    /// A module in the URI.
    #[error("{0}: a module is named by configuration alone, never by a URI")]
    Module(String),
    /// An attribute of a vendor's among those that have to match.
    #[error("attribute {0} is a vendor's, and not known here: nothing could match it")]
    Vendor(String),
}

/// What type of object a URI names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectType {
    /// A public key.
    Public,
    /// A private key.
    Private,
    /// A certificate.
    Certificate,
    /// A secret key.
    SecretKey,
    /// Data.
    Data,
}

impl ObjectType {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Public, "public"),
        (Self::Private, "private"),
        (Self::Certificate, "cert"),
        (Self::SecretKey, "secret-key"),
        (Self::Data, "data"),
    ];

    fn parse(word: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|(_, known)| *known == word).map(|(kind, _)| kind)
    }

    /// The word in URIs.
    pub fn as_str(self) -> &'static str {
        let mut all = Self::ALL.into_iter();
        all.find(|(kind, _)| *kind == self)
            .map_or("data", |(_, word)| word)
    }
}

/// What a token and its slot and library say of themselves, padding included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenFacts {
    /// Label of the token.
    pub label: String,
    /// Manufacturer of the token.
    pub manufacturer: String,
    /// Model.
    pub model: String,
    /// Serial number.
    pub serial: String,
    /// Number of the slot.
    pub slot_id: u64,
    /// Description of the slot.
    pub slot_description: String,
    /// Manufacturer of the slot.
    pub slot_manufacturer: String,
    /// Manufacturer of the library.
    pub library_manufacturer: String,
    /// Description of the library.
    pub library_description: String,
    /// Version of the library.
    pub library_version: (u8, u8),
}

/// A URI.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pkcs11Uri {
    /// Attributes that are text, by their names; none of them of an object.
    texts: BTreeMap<&'static str, String>,
    slot_id: Option<u64>,
    library_version: Option<(u8, u8)>,
    object: Option<String>,
    id: Option<Vec<u8>>,
    kind: Option<ObjectType>,
    pin_source: Option<String>,
}

/// Attributes of token, slot and library that are text.
const TEXTS: [&str; 8] = [
    "token",
    "manufacturer",
    "serial",
    "model",
    "library-manufacturer",
    "library-description",
    "slot-manufacturer",
    "slot-description",
];

impl Pkcs11Uri {
    /// Reads a URI.
    pub fn parse(text: &str) -> Result<Self, Pkcs11UriError> {
        if text.len() > MAX_URI {
            return Err(Pkcs11UriError::TooLong);
        }
        let scheme = text
            .get(..7)
            .filter(|scheme| scheme.eq_ignore_ascii_case("pkcs11:"));
        let rest = scheme.and_then(|_| text.get(7..)).ok_or(Pkcs11UriError::Scheme)?;
        let (path, query) = rest
            .split_once('?')
            .map_or((rest, None), |(path, query)| (path, Some(query)));
        let mut out = Self::default();
        for (name, value) in attributes(path, ';', PATH_MARKS)? {
            out.set(name, value)?;
        }
        for (name, value) in query.map_or(Ok(Vec::new()), |query| attributes(query, '&', QUERY_MARKS))? {
            match name {
                "pin-source" => out.pin_source = Some(text_of(name, value)?),
                "pin-value" => return Err(Pkcs11UriError::PinValue),
                "module-name" | "module-path" => return Err(Pkcs11UriError::Module(name.to_owned())),
                // What a vendor adds here decides nothing about which key is meant.
                _ => {}
            }
        }
        Ok(out)
    }

    fn set(&mut self, name: &str, value: Vec<u8>) -> Result<(), Pkcs11UriError> {
        let wrong = |what| Pkcs11UriError::Value {
            name: name.to_owned(),
            what,
        };
        if let Some(known) = TEXTS.into_iter().find(|known| *known == name) {
            self.texts.insert(known, text_of(name, value)?);
            return Ok(());
        }
        match name {
            "id" => self.id = Some(value),
            "object" => self.object = Some(text_of(name, value)?),
            "type" => {
                let kind = ObjectType::parse(&text_of(name, value)?);
                self.kind = Some(kind.ok_or(wrong("it is public, private, cert, secret-key or data"))?);
            }
            "slot-id" => {
                let number = decimal(&text_of(name, value)?);
                self.slot_id = Some(number.ok_or(wrong("it is a decimal number"))?);
            }
            "library-version" => {
                let text = text_of(name, value)?;
                let (major, minor) = text.split_once('.').unwrap_or((&text, "0"));
                let part = |text: &str| decimal(text).and_then(|number| u8::try_from(number).ok());
                let version = part(major).zip(part(minor));
                self.library_version = Some(version.ok_or(wrong("it is MAJOR or MAJOR.MINOR"))?);
            }
            other => return Err(Pkcs11UriError::Vendor(other.to_owned())),
        }
        Ok(())
    }

    /// The URI of one private key, by what tells it apart.
    pub fn of_key(token: &TokenFacts, label: &str, id: &[u8]) -> Self {
        let padded = [("token", &token.label), ("serial", &token.serial)];
        let texts = padded
            .into_iter()
            .map(|(name, value)| (name, unpadded(value).to_owned()));
        Self {
            texts: texts.filter(|(_, value)| !value.is_empty()).collect(),
            object: Some(label.to_owned()).filter(|label| !label.is_empty()),
            id: Some(id.to_vec()).filter(|id| !id.is_empty()),
            kind: Some(ObjectType::Private),
            ..Self::default()
        }
    }

    /// Whether a token is one that it names.
    pub fn names_token(&self, token: &TokenFacts) -> bool {
        let own = |name: &str| match name {
            "token" => &token.label,
            "manufacturer" => &token.manufacturer,
            "serial" => &token.serial,
            "model" => &token.model,
            "library-manufacturer" => &token.library_manufacturer,
            "library-description" => &token.library_description,
            "slot-manufacturer" => &token.slot_manufacturer,
            _ => &token.slot_description,
        };
        self.texts
            .iter()
            .all(|(name, wanted)| unpadded(own(name)) == wanted)
            && self.slot_id.is_none_or(|wanted| wanted == token.slot_id)
            && self
                .library_version
                .is_none_or(|wanted| wanted == token.library_version)
    }

    /// The label of the object, where it names one.
    pub fn object(&self) -> Option<&str> {
        self.object.as_deref()
    }

    /// The id of the object, where it names one.
    pub fn id(&self) -> Option<&[u8]> {
        self.id.as_deref()
    }

    /// The type of the object, where it names one.
    pub fn kind(&self) -> Option<ObjectType> {
        self.kind
    }

    /// Where the PIN is found: a path, or `file:` and a path.
    pub fn pin_source(&self) -> Option<&str> {
        self.pin_source.as_deref()
    }

    /// Whether it names any attribute of an object.
    pub fn names_object(&self) -> bool {
        self.object.is_some() || self.id.is_some()
    }
}

impl std::fmt::Display for Pkcs11Uri {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        for name in TEXTS {
            parts.extend(
                self.texts
                    .get(name)
                    .map(|value| format!("{name}={}", encoded(value.as_bytes()))),
            );
        }
        parts.extend(self.slot_id.map(|number| format!("slot-id={number}")));
        let version = self.library_version;
        parts.extend(version.map(|(major, minor)| format!("library-version={major}.{minor}")));
        parts.extend(
            self.object
                .as_ref()
                .map(|label| format!("object={}", encoded(label.as_bytes()))),
        );
        // Identifiers are bytes: each is written as such, as other tools do.
        parts.extend(self.id.as_ref().map(|id| {
            let bytes: String = id.iter().map(|byte| format!("%{byte:02X}")).collect();
            format!("id={bytes}")
        }));
        parts.extend(self.kind.map(|kind| format!("type={}", kind.as_str())));
        write!(f, "pkcs11:{}", parts.join(";"))?;
        match &self.pin_source {
            Some(source) => write!(f, "?pin-source={}", encoded(source.as_bytes())),
            None => Ok(()),
        }
    }
}

/// Text of a token, without the blanks that fill it up.
fn unpadded(text: &str) -> &str {
    text.trim_end_matches([' ', '\0'])
}

/// Marks that stand for themselves beside letters, digits and `-._~`: in the path, and behind the question mark.
const PATH_MARKS: &str = ":[]@!$'()*+,=&";
const QUERY_MARKS: &str = ":[]@!$'()*+,=/?|";

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn encoded(bytes: &[u8]) -> String {
    let one = |byte: &u8| match is_unreserved(*byte) {
        true => char::from(*byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    bytes.iter().map(one).collect()
}

/// Attributes, decoded, none of them twice.
fn attributes<'a>(
    text: &'a str,
    separator: char,
    marks: &str,
) -> Result<Vec<(&'a str, Vec<u8>)>, Pkcs11UriError> {
    let mut out: Vec<(&str, Vec<u8>)> = Vec::new();
    if text.is_empty() {
        return Ok(out);
    }
    for part in text.split(separator) {
        // A part may hold what was meant to be secret: only its name is told.
        let named = part.split_once('=');
        let shown = named.map_or(part, |(name, _)| name);
        let wrong = || Pkcs11UriError::Syntax(shown.chars().take(64).collect());
        let (name, value) = named.ok_or_else(wrong)?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(wrong());
        }
        if out.iter().any(|(other, _)| *other == name) {
            return Err(Pkcs11UriError::Twice(name.to_owned()));
        }
        out.push((name, decoded(value, marks).ok_or_else(wrong)?));
    }
    Ok(out)
}

/// A value, percent-decoded; `None` where it has what should have been encoded.
fn decoded(value: &str, marks: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            out.extend(hex::decode(digits).ok()?);
        } else if is_unreserved(byte) || marks.as_bytes().contains(&byte) {
            out.push(byte);
        } else {
            return None;
        }
    }
    Some(out)
}

fn text_of(name: &str, value: Vec<u8>) -> Result<String, Pkcs11UriError> {
    String::from_utf8(value).map_err(|_| Pkcs11UriError::Value {
        name: name.to_owned(),
        what: "it is not UTF-8",
    })
}

/// A number without sign, and without zeros in front.
fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = text == "0" || !text.starts_with('0');
    text.parse().ok().filter(|_| digits && plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> TokenFacts {
        TokenFacts {
            label: "wimse                           ".into(),
            manufacturer: "SoftHSM project                 ".into(),
            model: "SoftHSM v2      ".into(),
            serial: "1b8a5a2e5f3b1c0d".into(),
            slot_id: 7,
            library_version: (2, 6),
            ..TokenFacts::default()
        }
    }

    #[test]
    fn a_uri_names_what_it_says_exactly_and_anything_beside() {
        for (text, named) in [
            ("pkcs11:", true),
            ("PKCS11:token=wimse", true),
            (
                "pkcs11:token=wimse;object=wl-key;type=private?pin-source=file:/run/secrets/pin",
                true,
            ),
            (
                "pkcs11:token=wims%65;manufacturer=SoftHSM%20project;model=SoftHSM%20v2",
                true,
            ),
            ("pkcs11:slot-id=7;library-version=2.6", true),
            ("pkcs11:token=Wimse", false),
            ("pkcs11:token=wim", false),
            ("pkcs11:token=", false),
            ("pkcs11:slot-id=8", false),
            ("pkcs11:library-version=2", false),
            ("pkcs11:serial=1B8A5A2E5F3B1C0D", false),
            ("pkcs11:slot-description=", true),
        ] {
            let uri = Pkcs11Uri::parse(text).unwrap();
            assert_eq!(uri.names_token(&token()), named, "{text}");
            assert_eq!(Pkcs11Uri::parse(&uri.to_string()).unwrap(), uri, "{text}");
        }
        let uri = Pkcs11Uri::parse("pkcs11:id=%69%95%3E;type=private;object=a%3bb").unwrap();
        assert_eq!(
            (uri.id(), uri.kind()),
            (Some(&[0x69, 0x95, 0x3e][..]), Some(ObjectType::Private))
        );
        assert_eq!(uri.object(), Some("a;b"));
        assert!(uri.names_object() && !Pkcs11Uri::parse("pkcs11:type=private").unwrap().names_object());
    }

    #[test]
    fn what_would_leak_a_pin_load_code_or_match_by_luck_is_refused() {
        let refused = |text: &str| Pkcs11Uri::parse(text).unwrap_err();
        assert_eq!(refused("pkcs11:token=a?pin-value=1234"), Pkcs11UriError::PinValue);
        assert_eq!(
            refused("pkcs11:?pin-source=a&pin-value=1"),
            Pkcs11UriError::PinValue
        );
        assert_eq!(
            refused("pkcs11:?module-path=/tmp/x.so"),
            Pkcs11UriError::Module("module-path".into())
        );
        assert_eq!(
            refused("pkcs11:?module-name=x"),
            Pkcs11UriError::Module("module-name".into())
        );
        assert_eq!(
            refused("pkcs11:token=a;token=a"),
            Pkcs11UriError::Twice("token".into())
        );
        assert_eq!(
            refused("pkcs11:x-vendor=1"),
            Pkcs11UriError::Vendor("x-vendor".into())
        );
        assert_eq!(refused("pkcs12:token=a"), Pkcs11UriError::Scheme);
        assert_eq!(
            refused(&format!("pkcs11:token={}", "a".repeat(MAX_URI))),
            Pkcs11UriError::TooLong
        );
        for wrong in [
            "pkcs11:token",
            "pkcs11:;",
            "pkcs11:token=a;",
            "pkcs11:token=a b",
            "pkcs11:token=%4",
            "pkcs11:token=%zz",
            "pkcs11:token=a/b",
            "pkcs11:token=a#b",
            "pkcs11:=a",
            "pkcs11:token=\u{e9}",
        ] {
            assert!(matches!(refused(wrong), Pkcs11UriError::Syntax(_)), "{wrong}");
        }
        for wrong in [
            "pkcs11:type=key",
            "pkcs11:slot-id=+1",
            "pkcs11:slot-id=01",
            "pkcs11:library-version=300",
            "pkcs11:token=%ff",
        ] {
            assert!(matches!(refused(wrong), Pkcs11UriError::Value { .. }), "{wrong}");
        }
        // What follows a name is not shown.
        let shown = refused("pkcs11:?pin=12 34").to_string();
        assert!(!shown.contains("12"), "{shown}");
    }

    #[test]
    fn the_uri_of_a_key_is_read_by_others() {
        let uri = Pkcs11Uri::of_key(&token(), "tls key", &[0, 0x7f, 0xff]);
        let text = "pkcs11:token=wimse;serial=1b8a5a2e5f3b1c0d;object=tls%20key;id=%00%7F%FF;type=private";
        assert_eq!(uri.to_string(), text);
        assert!(uri.names_token(&token()));
    }
}
