//! Events in words. Only digests are authenticated; of the data, what its digest covers (variables, actions,
//! separators). The rest is the log's own account, good for telling people which line to look at and for nothing else.

use super::events::Event;

/// Event types of the PC Client Platform Firmware Profile.
const KINDS: [(u32, &str); 22] = [
    (0x0000_0001, "EV_POST_CODE"),
    (0x0000_0003, "EV_NO_ACTION"),
    (0x0000_0004, "EV_SEPARATOR"),
    (0x0000_0005, "EV_ACTION"),
    (0x0000_0007, "EV_S_CRTM_CONTENTS"),
    (0x0000_0008, "EV_S_CRTM_VERSION"),
    (0x0000_0009, "EV_CPU_MICROCODE"),
    (0x0000_000a, "EV_PLATFORM_CONFIG_FLAGS"),
    (0x0000_000b, "EV_TABLE_OF_DEVICES"),
    (0x0000_000d, "EV_IPL"),
    (0x8000_0001, "EV_EFI_VARIABLE_DRIVER_CONFIG"),
    (0x8000_0002, "EV_EFI_VARIABLE_BOOT"),
    (0x8000_0003, "EV_EFI_BOOT_SERVICES_APPLICATION"),
    (0x8000_0004, "EV_EFI_BOOT_SERVICES_DRIVER"),
    (0x8000_0005, "EV_EFI_RUNTIME_SERVICES_DRIVER"),
    (0x8000_0006, "EV_EFI_GPT_EVENT"),
    (0x8000_0007, "EV_EFI_ACTION"),
    (0x8000_0008, "EV_EFI_PLATFORM_FIRMWARE_BLOB"),
    (0x8000_0009, "EV_EFI_HANDOFF_TABLES"),
    (0x8000_000a, "EV_EFI_PLATFORM_FIRMWARE_BLOB2"),
    (0x8000_000c, "EV_EFI_VARIABLE_BOOT2"),
    (0x8000_00e0, "EV_EFI_VARIABLE_AUTHORITY"),
];

/// Longest description, in characters.
const MAX_TEXT: usize = 160;

/// The type of an event by its number.
pub(crate) fn kind(kind: u32) -> String {
    KINDS
        .iter()
        .find(|(number, _)| *number == kind)
        .map_or_else(|| format!("type {kind:#x}"), |(_, n)| (*n).to_owned())
}

/// An event in words, printable and short.
pub(crate) fn describe(event: &Event<'_>) -> String {
    let name = kind(event.kind);
    let detail = match event.kind {
        0x4 => separator(event.data),
        0x8 => Some(utf16(event.data)),
        0x5 | 0xd | 0x8000_0007 => Some(text(event.data)),
        0x8000_0001 | 0x8000_0002 | 0x8000_000c | 0x8000_00e0 => variable(event.data),
        0x8000_0003..=0x8000_0005 => image_path(event.data),
        0x8000_000a => event
            .data
            .get(1..)
            .map(|data| text(data.get(..text_len(event.data)).unwrap_or(data))),
        _ => None,
    };
    match detail {
        Some(detail) if !detail.is_empty() => format!("{} ({name})", shorten(&detail)),
        _ => name,
    }
}

fn text_len(data: &[u8]) -> usize {
    data.first().copied().map_or(0, usize::from)
}

fn separator(data: &[u8]) -> Option<String> {
    Some(
        if data == [0; 4] {
            "separator"
        } else {
            "separator with an error code"
        }
        .to_owned(),
    )
}

/// UEFI_VARIABLE_DATA: GUID, name length, data length, name, data.
fn variable(data: &[u8]) -> Option<String> {
    let length = usize::try_from(u64::from_le_bytes(data.get(16..24)?.try_into().ok()?)).ok()?;
    let size = usize::try_from(u64::from_le_bytes(data.get(24..32)?.try_into().ok()?)).ok()?;
    let name = utf16(data.get(32..32_usize.checked_add(length.checked_mul(2)?)?)?);
    let value = data.get(32 + 2 * length..)?.get(..size)?;
    Some(match (name.as_str(), value) {
        ("SecureBoot", [1]) => "Secure Boot on".to_owned(),
        ("SecureBoot", [0]) => "Secure Boot off".to_owned(),
        _ => format!("variable {name}, {size} bytes"),
    })
}

/// UEFI_IMAGE_LOAD_EVENT: four 64-bit numbers, the last the length of the device path behind them; its File Path nodes.
fn image_path(data: &[u8]) -> Option<String> {
    let mut path = data.get(32..)?;
    let mut names = Vec::new();
    while let [kind, subtype, low, high, ..] = *path {
        let length = usize::from(u16::from_le_bytes([low, high]));
        if kind == 0x7f || length < 4 {
            break;
        }
        if (kind, subtype) == (4, 4) {
            names.push(utf16(path.get(4..length)?));
        }
        path = path.get(length..)?;
    }
    Some(names.join(""))
}

fn utf16(data: &[u8]) -> String {
    let units = data
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    char::decode_utf16(units)
        .map(|unit| unit.unwrap_or('?'))
        .take_while(|c| *c != '\0')
        .collect()
}

fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).trim_end_matches('\0').to_owned()
}

/// Printable ASCII and at most [`MAX_TEXT`] characters: what a log says must not steer a terminal or a log file.
fn shorten(text: &str) -> String {
    let clean: String = text
        .chars()
        .take(MAX_TEXT)
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .collect();
    if text.chars().count() > MAX_TEXT {
        format!("{clean}...")
    } else {
        clean
    }
}
