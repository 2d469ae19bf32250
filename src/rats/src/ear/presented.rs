//! Results that a host presents itself (RFC 9334, section 5.1, the passport model): a collection of conceptual messages
//! (draft-ietf-rats-msg-wrap), named by verifier.

use crate::cmw::{Cmw, CmwError, IND_RESULTS, Member, Type};

/// The media type of a result.
const RESULT_TYPE: &str = "application/eat+jwt";

/// Results by the names of their verifiers; nobody has looked at them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Presented(Vec<(String, String)>);

impl Presented {
    /// Results, each a JWT.
    pub fn new(results: Vec<(String, String)>) -> Self {
        Self(results)
    }

    /// The collection in CBOR; nothing where there is no result.
    pub fn to_cmw(&self) -> Vec<u8> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let member = |(name, token): &(String, String)| {
            let message = Cmw::Message {
                kind: Type::Media(RESULT_TYPE.to_owned()),
                value: token.clone().into_bytes(),
                indicator: Some(IND_RESULTS),
            };
            (Member::Text(name.clone()), message)
        };
        let members = self.0.iter().map(member).collect();
        Cmw::Collection { kind: None, members }.to_cbor()
    }

    /// Reads a collection. Members that are no results are not for us.
    pub fn read(bytes: &[u8]) -> Result<Self, CmwError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let Cmw::Collection { members, .. } = Cmw::parse(bytes)? else {
            return Err(CmwError::Malformed("results are a collection, named by verifier"));
        };
        let result = |(name, member)| match (name, member) {
            (
                Member::Text(name),
                Cmw::Message {
                    kind: Type::Media(media),
                    value,
                    indicator: Some(IND_RESULTS),
                },
            ) if is_result(&media) => Some((name, String::from_utf8(value).ok()?)),
            _ => None,
        };
        Ok(Self(members.into_iter().filter_map(result).collect()))
    }

    /// What is presented as the result of this verifier.
    pub fn of(&self, verifier: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| name == verifier)
            .map(|(_, token)| token.as_str())
    }
}

/// Whether a media type is that of results, whatever its parameters.
fn is_result(media: &str) -> bool {
    let essence = media.split_once(';').map_or(media, |(essence, _)| essence);
    essence.trim().eq_ignore_ascii_case(RESULT_TYPE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_found_by_the_names_of_their_verifiers_and_nothing_else_is_a_result() {
        let presented = Presented::new(vec![("a".into(), "x.y.z".into()), ("b".into(), "1.2.3".into())]);
        let read = Presented::read(&presented.to_cmw()).unwrap();
        assert_eq!(read, presented);
        assert_eq!((read.of("b"), read.of("c")), (Some("1.2.3"), None));
        assert_eq!(
            Presented::read(&Presented::default().to_cmw()),
            Ok(Presented::default())
        );
        let json = br#"{"a": ["application/eat+jwt; eat_profile=\"x\"", "eC55Lno", 8],
            "b": ["application/eat+jwt", "eC55Lno", 4], "c": ["application/eat+cwt", "eC55Lno", 8]}"#;
        let read = Presented::read(json).unwrap();
        assert_eq!(
            (read.of("a"), read.of("b"), read.of("c")),
            (Some("x.y.z"), None, None)
        );
        assert!(Presented::read(br#"["application/eat+jwt", "eC55Lno", 8]"#).is_err());
        assert!(Presented::read(b"x").is_err());
    }
}
