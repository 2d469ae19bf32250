//! The crypto-agile event log: TCG PC Client Platform Firmware Profile, section 10.2. All integers little-endian.

use super::event::{Event, NO_ACTION};
use crate::command::{ALG_SHA256, ALG_SHA384};

const SHA1_LENGTH: usize = 20;
/// TCG_EfiSpecIDEvent: its signature, a client platform, family 2.0, 64-bit UINTN.
const SPEC_ID_SIGNATURE: &[u8; 16] = b"Spec ID Event03\0";
const UINTN_64: u8 = 2;

/// The whole log: the header in the form of a SHA-1 log, then an entry for each event.
pub(super) fn encode(events: &[Event]) -> Vec<u8> {
    let mut log = Vec::new();
    let header = spec_id();
    log.extend_from_slice(&0_u32.to_le_bytes());
    log.extend_from_slice(&NO_ACTION.to_le_bytes());
    log.extend_from_slice(&[0; SHA1_LENGTH]);
    append_sized(&mut log, &header);
    for event in events {
        log.extend_from_slice(&event.pcr.to_le_bytes());
        log.extend_from_slice(&event.kind.to_le_bytes());
        log.extend_from_slice(&2_u32.to_le_bytes());
        log.extend_from_slice(&ALG_SHA256.to_le_bytes());
        log.extend_from_slice(&event.digests.sha256);
        log.extend_from_slice(&ALG_SHA384.to_le_bytes());
        log.extend_from_slice(&event.digests.sha384);
        append_sized(&mut log, &event.data);
    }
    log
}

fn spec_id() -> Vec<u8> {
    let mut header = SPEC_ID_SIGNATURE.to_vec();
    let platform_class_client = 0_u32;
    header.extend_from_slice(&platform_class_client.to_le_bytes());
    // Minor and major version, errata.
    header.extend_from_slice(&[0, 2, 0, UINTN_64]);
    header.extend_from_slice(&2_u32.to_le_bytes());
    for (algorithm, length) in [(ALG_SHA256, 32_u16), (ALG_SHA384, 48)] {
        header.extend_from_slice(&algorithm.to_le_bytes());
        header.extend_from_slice(&length.to_le_bytes());
    }
    // No vendor information.
    header.push(0);
    header
}

/// Event data are a few hundred bytes of our own making; their size always fits.
fn append_sized(log: &mut Vec<u8>, data: &[u8]) {
    let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
    log.extend_from_slice(&size.to_le_bytes());
    log.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_lists_both_banks() {
        let log = encode(&[]);
        assert_eq!(log.len(), 32 + 37);
        assert_eq!(&log[32..48], SPEC_ID_SIGNATURE);
        assert_eq!(&log[56..69], [2, 0, 0, 0, 0x0b, 0, 32, 0, 0x0c, 0, 48, 0, 0]);
    }
}
