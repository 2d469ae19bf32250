//! The few DER encodings that are written by hand: public keys, signatures, extension values.

/// A tag-length-value with the concatenation of `parts` as its contents.
pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    match length {
        0..=0x7f => out.push(low_byte(length)),
        0x80..=0xff => out.extend([0x81, low_byte(length)]),
        0x100..=0xffff => out.extend([0x82, low_byte(length >> 8), low_byte(length)]),
        _ => out.extend([
            0x83,
            low_byte(length >> 16),
            low_byte(length >> 8),
            low_byte(length),
        ]),
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// An object identifier in dotted form; `None` where an arc does not end, begins with a
/// byte that says nothing, or is over 64 bits.
pub(crate) fn oid(contents: &[u8]) -> Option<String> {
    let mut arcs: Vec<u64> = Vec::new();
    let mut arc: u64 = 0;
    let mut open = false;
    for byte in contents {
        if !open && *byte == 0x80 {
            return None;
        }
        arc = arc
            .checked_mul(128)
            .and_then(|arc| arc.checked_add(u64::from(byte & 0x7f)))?;
        open = byte & 0x80 != 0;
        if !open {
            if arcs.is_empty() {
                let first = (arc / 40).min(2);
                arcs.extend([first, arc - 40 * first]);
            } else {
                arcs.push(arc);
            }
            arc = 0;
        }
    }
    if open || arcs.is_empty() {
        return None;
    }
    let text: Vec<String> = arcs.iter().map(u64::to_string).collect();
    Some(text.join("."))
}

/// The contents of one tag-length-value that is all there is; `None` for another tag, or a length that is not the shortest.
pub fn contents(tag: u8, value: &[u8]) -> Option<&[u8]> {
    let (found, rest) = value.split_first()?;
    let (short, rest) = rest.split_first()?;
    let (length, contents) = match short {
        0..=0x7f => (usize::from(*short), rest),
        0x81..=0x83 => {
            let (length, contents) = rest.split_at_checked(usize::from(short & 0x7f))?;
            let length = length
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte));
            (length, contents)
        }
        _ => return None,
    };
    (*found == tag && contents.len() == length && tlv(tag, &[contents]) == value).then_some(contents)
}

/// An INTEGER holding the unsigned big-endian number `bytes`.
pub fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let digits = bytes.get(start..).unwrap_or_default();
    match digits.first() {
        None => tlv(0x02, &[&[0]]),
        Some(first) if *first >= 0x80 => tlv(0x02, &[&[0], digits]),
        Some(_) => tlv(0x02, &[digits]),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low byte is what is wanted")]
fn low_byte(n: usize) -> u8 {
    n as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_minimal_and_never_negative() {
        assert_eq!(unsigned(&[0, 0, 1]), [2, 1, 1]);
        assert_eq!(unsigned(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(unsigned(&[]), [2, 1, 0]);
    }

    #[test]
    fn contents_are_those_of_the_whole_and_only_in_their_shortest_form() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let value = tlv(0x0c, &[&vec![7; length]]);
            assert_eq!(contents(0x0c, &value).map(<[u8]>::len), Some(length));
            assert_eq!(contents(0x04, &value), None);
            assert_eq!(contents(0x0c, &value[..value.len() - 1]), None);
            assert_eq!(contents(0x0c, &[value, vec![0]].concat()), None);
        }
        assert_eq!(contents(0x0c, &[0x0c, 0x81, 1, 7]), None);
        assert_eq!(contents(0x0c, &[0x0c, 0x80]), None);
        assert_eq!(contents(0x0c, &[]), None);
    }

    #[test]
    fn object_identifiers_have_one_text_and_one_encoding() {
        for (bytes, text) in [
            ([0x67, 0x81, 0x05, 8, 1].as_slice(), Some("2.23.133.8.1")),
            (&[0x2a, 0x86, 0x48], Some("1.2.840")),
            (&[0x88, 0x37, 3], Some("2.999.3")),
            (&[0xd2, 0xf9, 0xfe, 0xfb, 1, 3], Some("2.22267542833.3")),
            (&[0x2a, 0x80, 0x48], None),
            (&[0x80, 0x2a], None),
            (&[0x2a, 0x86], None),
            (&[], None),
            (
                &[0x2a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
                None,
            ),
        ] {
            assert_eq!(oid(bytes).as_deref(), text, "{bytes:x?}");
        }
    }

    #[test]
    fn lengths_take_as_many_bytes_as_they_need() {
        assert_eq!(tlv(4, &[&[0; 200]])[..3], [4, 0x81, 200]);
        assert_eq!(tlv(4, &[&[0; 300]])[..4], [4, 0x82, 1, 44]);
    }
}
