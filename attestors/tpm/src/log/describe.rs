//! Events in words. Only digests are authenticated; of the data, what its digest covers. The rest is the log's own account, good for
//! telling people which line to look at and for nothing else.

use super::{
    event::{
        Content, EV_APPLICATION, EV_EFI_ACTION, EV_EVENT_TAG, EV_FIRMWARE_BLOB, EV_FIRMWARE_BLOB2, EV_GPT,
        EV_GPT2, EV_IPL, EV_RUNTIME_DRIVER, EV_S_CRTM_VERSION, EV_SEPARATOR, EV_VARIABLE_AUTHORITY,
        EV_VARIABLE_BOOT, EV_VARIABLE_BOOT2, EV_VARIABLE_DRIVER_CONFIG, Event, kind,
    },
    little::Little,
    uefi::{Guid, Variable, image_path, load_option, partition_table, signatures, text, utf16},
};

/// Longest description, in characters.
const MAX_TEXT: usize = 160;

/// An event in words, printable and short.
pub(crate) fn describe(event: &Event<'_>) -> String {
    let name = match event.content {
        Content::PcClient => kind(event.kind),
        Content::Ima => "IMA record".to_owned(),
        Content::Other(content) => format!("content type {content}"),
    };
    let detail = match event.content {
        Content::PcClient => detail(event),
        Content::Ima | Content::Other(_) => None,
    };
    match detail {
        Some(detail) if !detail.is_empty() => format!("{} ({name})", shorten(&detail)),
        _ => name,
    }
}

fn detail(event: &Event<'_>) -> Option<String> {
    let data = event.data;
    match event.kind {
        EV_SEPARATOR => Some(separator(data)),
        EV_S_CRTM_VERSION => Some(utf16(data)),
        0x1 | 0x5 | EV_EFI_ACTION => Some(text(data)),
        EV_IPL => Some(loader(data)),
        EV_EVENT_TAG => tagged(data),
        EV_VARIABLE_DRIVER_CONFIG | EV_VARIABLE_BOOT | EV_VARIABLE_BOOT2 | EV_VARIABLE_AUTHORITY => {
            Variable::parse(data).map(|variable| self::variable(&variable))
        }
        EV_APPLICATION..=EV_RUNTIME_DRIVER => image_path(data),
        EV_GPT | EV_GPT2 => {
            let (disk, partitions) = partition_table(data)?;
            let names: Vec<&str> = partitions
                .iter()
                .map(|partition| partition.name.as_str())
                .filter(|name| !name.is_empty())
                .collect();
            Some(format!(
                "disk {disk}, {} partitions {}",
                partitions.len(),
                names.join(" ")
            ))
        }
        EV_FIRMWARE_BLOB => {
            let mut reader = Little(data);
            let (base, length) = (reader.size64()?, reader.size64()?);
            Some(format!("{length} bytes at {base:#x}"))
        }
        EV_FIRMWARE_BLOB2 => {
            let mut reader = Little(data);
            let length = usize::from(reader.u8()?);
            reader.take(length).map(text)
        }
        _ => None,
    }
}

fn separator(data: &[u8]) -> String {
    match data {
        [0, 0, 0, 0] | [0xff, 0xff, 0xff, 0xff] => "separator",
        b"WBCL" => "separator of Windows' loader",
        _ => "separator with an error code",
    }
    .to_owned()
}

/// A boot loader's own event: GRUB and shim write text, systemd's loader UTF-16.
pub(crate) fn loader(data: &[u8]) -> String {
    let wide = data.len() >= 2
        && data.len().is_multiple_of(2)
        && data.iter().skip(1).step_by(2).all(|byte| *byte == 0);
    if wide { utf16(data) } else { text(data) }
}

/// TCG_PCClientTaggedEvent: of systemd and Linux' stub by their identifiers, of Windows (SIPA) by its number.
fn tagged(data: &[u8]) -> Option<String> {
    let mut reader = Little(data);
    let id = reader.u32()?;
    let size = reader.size()?;
    let value = reader.take(size)?;
    Some(match id {
        0x8f3b_22ec => "initrd, as Linux' stub took it".to_owned(),
        0x8f3b_22ed => format!("kernel's load options: {}", utf16(value)),
        0xf5bc_582a => format!("loader.conf of systemd-boot: {}", text(value)),
        0x6c46_f751 => format!("device tree: {}", text(value)),
        0xdac0_8e1a => format!("initrd add-on: {}", text(value)),
        0x1341_1f87 => format!("microcode: {}", text(value)),
        0x4000_0000..=0x4fff_ffff | 0x0001_0000..=0x000f_ffff => {
            format!("Windows SIPA event {id:#x}, {size} bytes")
        }
        id => format!("tag {id:#x}, {size} bytes"),
    })
}

fn variable(variable: &Variable<'_>) -> String {
    let name = &variable.name;
    let size = variable.value.len();
    let entries = || signatures(variable.value).map(|list| list.len());
    match (name.as_str(), variable.value) {
        ("SecureBoot", [1]) if variable.vendor == Guid::GLOBAL => "Secure Boot on".to_owned(),
        ("SecureBoot", [0] | []) if variable.vendor == Guid::GLOBAL => "Secure Boot off".to_owned(),
        ("PK" | "KEK" | "db" | "dbx" | "dbt" | "dbr", _) => match entries() {
            Some(entries) => format!("variable {name}, {entries} entries"),
            None => format!("variable {name}, {size} bytes that are no signature lists"),
        },
        ("BootOrder", order) => {
            let numbers: Vec<String> = order
                .chunks_exact(2)
                .map(|pair| format!("{:04x}", u16::from_le_bytes([pair[0], pair[1]])))
                .collect();
            format!("variable BootOrder: {}", numbers.join(" "))
        }
        (boot, option) if boot.len() == 8 && boot.starts_with("Boot") => match load_option(option) {
            Some((description, path)) => format!("variable {name}: {description}, {path}"),
            None => format!("variable {name}, {size} bytes"),
        },
        _ => format!("variable {name}, {size} bytes"),
    }
}

/// Printable ASCII and at most [`MAX_TEXT`] characters: what a log says must not steer a terminal or a log file.
pub(crate) fn shorten(text: &str) -> String {
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
