//! What the firmware measures, in the order of EDK II.

use super::device_path::{self, ESP_BLOCKS, ESP_GUID, ESP_START, utf16z};
use super::event::{
    ACTION, CRTM_VERSION, Event, GPT, PLATFORM_FIRMWARE_BLOB2, SEPARATOR, VARIABLE_BOOT2,
    VARIABLE_DRIVER_CONFIG,
};
use super::os_loader::SHIM;
use super::variables::{
    GLOBAL, Guid, SECURITY_DATABASE, certificate_list, digest_list, guid, length, measured,
};
use crate::pcr::Digests;

pub(super) const DB_CERTIFICATE: &[u8] = include_bytes!("certificates/db.der");
const PLATFORM_KEY: &[u8] = include_bytes!("certificates/platform-key.der");
const KEY_EXCHANGE_KEY: &[u8] = include_bytes!("certificates/key-exchange-key.der");

/// Everything up to the moment at which the firmware hands over to a boot loader.
pub(super) fn before_loader(secure_boot: bool) -> Vec<Event> {
    let mut events = vec![
        Event::of_data(0, CRTM_VERSION, utf16z("Touchmark Simulated Firmware 1.0")),
        blob(),
    ];
    let config = |vendor, name, content: &[u8]| measured(7, VARIABLE_DRIVER_CONFIG, vendor, name, content);
    events.push(config(GLOBAL, "SecureBoot", &[u8::from(secure_boot)]));
    events.push(config(GLOBAL, "PK", &certificate_list(PLATFORM_KEY)));
    events.push(config(GLOBAL, "KEK", &certificate_list(KEY_EXCHANGE_KEY)));
    events.push(config(SECURITY_DATABASE, "db", &certificate_list(DB_CERTIFICATE)));
    events.push(config(
        SECURITY_DATABASE,
        "dbx",
        &digest_list(&forbidden_images()),
    ));
    events.push(separator(7));

    events.push(measured(
        1,
        VARIABLE_BOOT2,
        GLOBAL,
        "BootOrder",
        &0_u16.to_le_bytes(),
    ));
    events.push(measured(1, VARIABLE_BOOT2, GLOBAL, "Boot0000", &boot_option()));
    events.push(action(4, "Calling EFI Application from Boot Option"));
    events.extend((0..7).map(separator));
    events.push(Event::of_data(5, GPT, partition_table()));
    events
}

/// What the firmware measures when the kernel takes over.
pub(super) fn exit_boot_services() -> Vec<Event> {
    vec![
        action(5, "Exit Boot Services Invocation"),
        action(5, "Exit Boot Services Returned with Success"),
    ]
}

fn separator(pcr: u32) -> Event {
    Event::of_data(pcr, SEPARATOR, [0; 4])
}

/// The text is measured without a NUL.
fn action(pcr: u32, text: &str) -> Event {
    Event::of_data(pcr, ACTION, text)
}

/// UEFI_PLATFORM_FIRMWARE_BLOB2: a description, and where the blob lies.
fn blob() -> Event {
    let description = b"Firmware volume";
    let (base, size) = (0xffc0_0000_u64, 0x0040_0000_u64);
    let mut data = length(description.len())[..1].to_vec();
    data.extend_from_slice(description);
    data.extend_from_slice(&base.to_le_bytes());
    data.extend_from_slice(&size.to_le_bytes());
    Event::of(
        0,
        PLATFORM_FIRMWARE_BLOB2,
        b"touchmark-sim stand-in: firmware volume 1.0",
        data,
    )
}

/// Digests of images that may not be loaded: stand-ins.
fn forbidden_images() -> [[u8; 32]; 2] {
    [1, 2].map(|number| {
        Digests::of(format!("touchmark-sim stand-in: forbidden image {number}").as_bytes()).sha256
    })
}

/// EFI_LOAD_OPTION: active, with a description and a path.
fn boot_option() -> Vec<u8> {
    let path = device_path::boot_option_file(SHIM);
    let active = 1_u32;
    let mut option = active.to_le_bytes().to_vec();
    option.extend_from_slice(&length(path.len())[..2]);
    option.extend(utf16z("debian"));
    option.extend(path);
    option
}

/// UEFI_GPT_DATA: the header of the partition table, and its two partitions.
fn partition_table() -> Vec<u8> {
    const DISK: Guid = guid(0x9a3c_7e15_88f4_4c6d_a2b1_60d5_77e0_4b38);
    const ROOT: Guid = guid(0xb7e2_90d4_1f63_4a8c_8d27_f19c_3e5a_6027);
    const SYSTEM_PARTITION: Guid = guid(0xc12a_7328_f81f_11d2_ba4b_00a0_c93e_c93b);
    const LINUX_FILESYSTEM: Guid = guid(0x0fc6_3daf_8483_4772_8e79_3d69_d847_7de4);
    const LAST_BLOCK: u64 = 67_108_863;
    let root_start = ESP_START + ESP_BLOCKS;
    let last_usable = LAST_BLOCK - 33;

    let mut data = b"EFI PART".to_vec();
    // Revision 1.0, header size, checksum (the firmware does not recompute it for the log), reserved.
    for word in [0x0001_0000_u32, 92, 0x6c8f_20b7, 0] {
        data.extend_from_slice(&word.to_le_bytes());
    }
    // This header, its copy, first and last usable block.
    for block in [1, LAST_BLOCK, 34, last_usable] {
        data.extend_from_slice(&block.to_le_bytes());
    }
    data.extend_from_slice(&DISK);
    data.extend_from_slice(&2_u64.to_le_bytes());
    // Number and size of entries, their checksum.
    for word in [128_u32, 128, 0x1d4e_93a2] {
        data.extend_from_slice(&word.to_le_bytes());
    }
    data.extend_from_slice(&2_u64.to_le_bytes());
    for (kind, partition, first, last, name) in [
        (
            SYSTEM_PARTITION,
            ESP_GUID,
            ESP_START,
            root_start - 1,
            "EFI System Partition",
        ),
        (LINUX_FILESYSTEM, ROOT, root_start, last_usable, "root"),
    ] {
        data.extend_from_slice(&kind);
        data.extend_from_slice(&partition);
        data.extend_from_slice(&first.to_le_bytes());
        data.extend_from_slice(&last.to_le_bytes());
        let attributes = 0_u64;
        data.extend_from_slice(&attributes.to_le_bytes());
        let mut name = utf16z(name);
        name.resize(72, 0);
        data.extend(name);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_table_has_a_header_of_92_bytes_and_entries_of_128() {
        assert_eq!(partition_table().len(), 92 + 8 + 2 * 128);
    }
}
