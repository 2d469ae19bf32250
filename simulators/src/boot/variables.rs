//! UEFI variables as they are measured: UEFI_VARIABLE_DATA of the TCG PC Client Platform Firmware Profile,
//! section 10.4, and signature databases of the UEFI Specification, section 32.4.1.

use super::event::Event;

/// A GUID in its binary form, of which the first three fields are little-endian.
pub(super) type Guid = [u8; 16];

/// EFI_GLOBAL_VARIABLE.
pub(super) const GLOBAL: Guid = guid(0x8be4_df61_93ca_11d2_aa0d_00e0_9803_2b8c);
/// EFI_IMAGE_SECURITY_DATABASE_GUID.
pub(super) const SECURITY_DATABASE: Guid = guid(0xd719_b2cb_3d3a_4596_a3bc_dad0_0e67_656f);
/// SHIM_LOCK_GUID.
pub(super) const SHIM_LOCK: Guid = guid(0x605d_ab50_e046_4300_abb6_3dd8_10dd_8b23);
const CERT_X509: Guid = guid(0xa5c0_59a1_94e4_4aa7_87b5_ab15_5c2b_f072);
const CERT_SHA256: Guid = guid(0xc1c4_1626_504c_4092_aca9_41f9_3693_4328);
/// Who put the simulated signatures there.
const OWNER: Guid = guid(0x544d_4b53_0001_4000_8000_746f_7563_686d);

/// The binary form of a GUID whose digits, read without the dashes, are `digits`.
pub(super) const fn guid(digits: u128) -> Guid {
    let big = digits.to_be_bytes();
    [
        big[3], big[2], big[1], big[0], big[5], big[4], big[7], big[6], big[8], big[9], big[10], big[11],
        big[12], big[13], big[14], big[15],
    ]
}

/// An event whose data, and whose digest, is a variable.
pub(super) fn measured(pcr: u32, kind: u32, vendor: Guid, name: &str, content: &[u8]) -> Event {
    let name: Vec<u16> = name.encode_utf16().collect();
    let mut data = vendor.to_vec();
    data.extend_from_slice(&length(name.len()));
    data.extend_from_slice(&length(content.len()));
    data.extend(name.iter().flat_map(|unit| unit.to_le_bytes()));
    data.extend_from_slice(content);
    Event::of_data(pcr, kind, data)
}

/// A database with one X.509 certificate.
pub(super) fn certificate_list(certificate: &[u8]) -> Vec<u8> {
    signature_list(CERT_X509, &[&signature(certificate)])
}

/// A database of SHA-256 digests of images.
pub(super) fn digest_list(digests: &[[u8; 32]]) -> Vec<u8> {
    let signatures: Vec<_> = digests.iter().map(|digest| signature(digest)).collect();
    signature_list(
        CERT_SHA256,
        &signatures.iter().map(Vec::as_slice).collect::<Vec<_>>(),
    )
}

/// EFI_SIGNATURE_DATA; also what an EV_EFI_VARIABLE_AUTHORITY event says verified an image.
pub(super) fn signature(content: &[u8]) -> Vec<u8> {
    [&OWNER, content].concat()
}

/// EFI_SIGNATURE_LIST of signatures of equal size.
fn signature_list(kind: Guid, signatures: &[&[u8]]) -> Vec<u8> {
    const HEADER: usize = 28;
    let each = signatures.first().map_or(0, |first| first.len());
    let mut list = kind.to_vec();
    list.extend_from_slice(&length(HEADER + each * signatures.len())[..4]);
    // No header of its own.
    list.extend_from_slice(&0_u32.to_le_bytes());
    list.extend_from_slice(&length(each)[..4]);
    list.extend(signatures.concat());
    list
}

/// A length as a UINT64; its first four bytes are the UINT32.
pub(super) fn length(length: usize) -> [u8; 8] {
    (length as u64).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_are_little_endian_in_their_first_three_fields() {
        assert_eq!(hex::encode(GLOBAL), "61dfe48bca93d211aa0d00e098032b8c");
    }

    #[test]
    fn a_signature_list_counts_itself_and_its_signatures() {
        let list = digest_list(&[[1; 32], [2; 32]]);
        assert_eq!(list.len(), 28 + 2 * 48);
        assert_eq!(list[16..20], 124_u32.to_le_bytes());
        assert_eq!(list[24..28], 48_u32.to_le_bytes());
    }
}
