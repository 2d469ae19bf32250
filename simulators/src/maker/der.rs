//! The few DER structures of an EK certificate that rcgen has no words for.

const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// GeneralName's directoryName, which is explicitly tagged since Name is a CHOICE.
const DIRECTORY_NAME: u8 = 0xa4;

/// The contents octets of 2.23.133.2.`last`: tcg-attribute (TCG EK Credential Profile, section 4).
fn tcg_attribute(last: u8) -> Vec<u8> {
    value(OBJECT_IDENTIFIER, &[0x67, 0x81, 0x05, 0x02, last])
}

/// One DER value.
fn value(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut encoded = vec![tag];
    let length = contents.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|&&byte| byte == 0).count()..];
    match significant {
        [] => encoded.push(0),
        [short] if *short < 0x80 => encoded.push(*short),
        long => {
            // At most eight bytes.
            encoded.push(long.iter().fold(0x80, |count, _| count + 1));
            encoded.extend_from_slice(long);
        }
    }
    encoded.extend_from_slice(contents);
    encoded
}

/// A DER value around others.
fn around(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    value(tag, &parts.concat())
}

/// A non-negative INTEGER from its big-endian magnitude.
fn unsigned(magnitude: &[u8]) -> Vec<u8> {
    let zeros = magnitude.iter().take_while(|&&byte| byte == 0).count();
    let mut contents = magnitude[zeros..].to_vec();
    if contents.first().is_none_or(|&first| first >= 0x80) {
        contents.insert(0, 0);
    }
    value(INTEGER, &contents)
}

/// RSAPublicKey (RFC 8017, appendix A.1.1).
#[must_use]
pub fn rsa_public_key(modulus: &[u8], exponent: u32) -> Vec<u8> {
    around(
        SEQUENCE,
        &[&unsigned(modulus), &unsigned(&exponent.to_be_bytes())],
    )
}

/// The subject alternative name of an EK certificate: a directory name with the TPM's manufacturer, model and
/// version, in this order.
#[must_use]
pub fn tpm_alternative_name(manufacturer: &str, model: &str, version: &str) -> Vec<u8> {
    let names = [(1, manufacturer), (2, model), (3, version)].map(|(last, text)| {
        let attribute = around(
            SEQUENCE,
            &[&tcg_attribute(last), &value(UTF8_STRING, text.as_bytes())],
        );
        value(SET, &attribute)
    });
    let name = value(SEQUENCE, &names.concat());
    value(SEQUENCE, &value(DIRECTORY_NAME, &name))
}

/// Subject directory attributes with the specification that the TPM implements.
#[must_use]
pub fn tpm_specification(family: &str, level: u8, revision: u8) -> Vec<u8> {
    let specification = around(
        SEQUENCE,
        &[
            &value(UTF8_STRING, family.as_bytes()),
            &unsigned(&[level]),
            &unsigned(&[revision]),
        ],
    );
    let attribute = around(SEQUENCE, &[&tcg_attribute(16), &value(SET, &specification)]);
    value(SEQUENCE, &attribute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        assert_eq!(value(SEQUENCE, &[]), [0x30, 0]);
        assert_eq!(value(SEQUENCE, &[1; 127])[..2], [0x30, 127]);
        assert_eq!(value(SEQUENCE, &[1; 128])[..3], [0x30, 0x81, 128]);
        assert_eq!(value(SEQUENCE, &[1; 256])[..4], [0x30, 0x82, 1, 0]);
    }

    #[test]
    fn integers_are_minimal_and_not_negative() {
        assert_eq!(unsigned(&[0, 0]), [2, 1, 0]);
        assert_eq!(unsigned(&[0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(
            rsa_public_key(&[0xff], 65537),
            [0x30, 9, 2, 2, 0, 0xff, 2, 3, 1, 0, 1]
        );
    }
}
