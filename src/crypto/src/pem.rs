//! PEM (RFC 7468): strict reading of a few labels, writing with 64-character lines.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::CryptoError;

/// The label of an X.509 certificate.
pub const CERTIFICATE: &str = "CERTIFICATE";
/// The label of a PKCS #10 request.
pub const CERTIFICATE_REQUEST: &str = "CERTIFICATE REQUEST";

/// Writes one PEM block.
pub fn encode(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// Writes one block after the other.
pub fn encode_all<'a>(label: &str, ders: impl IntoIterator<Item = &'a [u8]>) -> String {
    ders.into_iter().map(|der| encode(label, der)).collect()
}

/// Reads every block labelled `label`, in order; text between blocks and blocks with other labels are passed over.
/// A block that does not end or does not decode is an error, as is a text without any.
pub fn decode_all(label: &str, text: &str) -> Result<Vec<Vec<u8>>, CryptoError> {
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(&begin) {
        let (body, tail) = after.split_once(&end).ok_or(CryptoError::Malformed("PEM"))?;
        let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        blocks.push(STANDARD.decode(body).map_err(|_| CryptoError::Malformed("PEM"))?);
        rest = tail;
    }
    if blocks.is_empty() {
        return Err(CryptoError::Malformed("PEM"));
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let ders: Vec<Vec<u8>> = vec![vec![1; 100], vec![], vec![2; 48]];
        let text = encode_all("X", ders.iter().map(Vec::as_slice));
        assert_eq!(decode_all("X", &text).unwrap(), ders);
        assert!(decode_all("Y", &text).is_err());
        assert!(decode_all("X", "-----BEGIN X-----\nAAAA").is_err());
    }
}
