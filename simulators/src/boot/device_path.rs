//! Device paths of what is loaded: UEFI Specification, section 10.3.

use super::variables::{Guid, guid, length};

/// The partition that firmware boots from.
pub(super) const ESP_START: u64 = 2048;
pub(super) const ESP_BLOCKS: u64 = 1_048_576;
pub(super) const ESP_GUID: Guid = guid(0x3f6c_1a70_52d1_4e0b_9b8e_4a1d_0c5e_7f21);

/// A file on the EFI system partition of the first NVMe disk.
pub(super) fn esp_file(path: &str) -> Vec<u8> {
    let mut nodes = Vec::new();
    // PciRoot(0x0): ACPI, PNP0A03.
    node(
        &mut nodes,
        2,
        1,
        &[&0x0a03_41d0_u32.to_le_bytes(), &0_u32.to_le_bytes()],
    );
    // Pci(0x2,0x0): function, device.
    node(&mut nodes, 1, 1, &[&[0, 2]]);
    // NVMe(0x1): namespace and EUI-64.
    node(
        &mut nodes,
        3,
        0x17,
        &[
            &1_u32.to_le_bytes(),
            &[0x00, 0x25, 0x38, 0x54, 0x4d, 0x4b, 0x53, 0x01],
        ],
    );
    hard_drive(&mut nodes);
    file_path(&mut nodes, path);
    end(&mut nodes);
    nodes
}

/// The short form that boot options use: it starts at the partition.
pub(super) fn boot_option_file(path: &str) -> Vec<u8> {
    let mut nodes = Vec::new();
    hard_drive(&mut nodes);
    file_path(&mut nodes, path);
    end(&mut nodes);
    nodes
}

/// Only a path, as a loader gives for what it read itself.
pub(super) fn loader_file(path: &str) -> Vec<u8> {
    let mut nodes = Vec::new();
    file_path(&mut nodes, path);
    end(&mut nodes);
    nodes
}

/// HD(1,GPT,...).
fn hard_drive(nodes: &mut Vec<u8>) {
    let (gpt, guid_signature) = (2, 2);
    let fields: [&[u8]; 5] = [
        &1_u32.to_le_bytes(),
        &ESP_START.to_le_bytes(),
        &ESP_BLOCKS.to_le_bytes(),
        &ESP_GUID,
        &[gpt, guid_signature],
    ];
    node(nodes, 4, 1, &fields);
}

fn file_path(nodes: &mut Vec<u8>, path: &str) {
    node(nodes, 4, 4, &[&utf16z(path)]);
}

fn end(nodes: &mut Vec<u8>) {
    node(nodes, 0x7f, 0xff, &[]);
}

fn node(nodes: &mut Vec<u8>, kind: u8, subkind: u8, fields: &[&[u8]]) {
    let content = fields.concat();
    nodes.extend_from_slice(&[kind, subkind]);
    nodes.extend_from_slice(&length(4 + content.len())[..2]);
    nodes.extend(content);
}

/// UTF-16 with a NUL at its end.
pub(super) fn utf16z(text: &str) -> Vec<u8> {
    text.encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_count_their_own_header() {
        let path = loader_file("/a");
        assert_eq!(path, [4, 4, 10, 0, b'/', 0, b'a', 0, 0, 0, 0x7f, 0xff, 4, 0]);
        let option = boot_option_file("\\x");
        assert_eq!(option[..4], [4, 1, 42, 0]);
    }
}
