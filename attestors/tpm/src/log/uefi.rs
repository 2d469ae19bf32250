//! What firmware puts into event data (UEFI 2.10, PC Client Platform Firmware Profile section 10.4): variables, signature lists,
//! image loads with their device paths, partition tables, firmware blobs. Every length is checked against what is there.

use super::little::Little;

/// Most signatures that are read of one list of lists.
const MAX_SIGNATURES: usize = 20_000;
/// Most nodes of a device path.
const MAX_NODES: usize = 64;
/// Most partitions of a table.
const MAX_PARTITIONS: usize = 256;

/// A GUID as it is stored; its text has the first three fields turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Guid(pub(crate) [u8; 16]);

impl Guid {
    /// EFI_GLOBAL_VARIABLE.
    pub(crate) const GLOBAL: Self = Self([
        0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c,
    ]);
    /// EFI_IMAGE_SECURITY_DATABASE.
    pub(crate) const DATABASE: Self = Self([
        0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f,
    ]);
    /// EFI_CERT_X509.
    const X509: Self = Self([
        0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72,
    ]);
    /// EFI_CERT_SHA256.
    const SHA256: Self = Self([
        0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28,
    ]);
}

impl std::fmt::Display for Guid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g, h, i, rest @ ..] = self.0;
        write!(f, "{d:02x}{c:02x}{b:02x}{a:02x}-{g:02x}{e:02x}-{i:02x}{h:02x}-")?;
        for (at, byte) in rest.iter().enumerate() {
            if at == 2 {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// UEFI_VARIABLE_DATA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable<'a> {
    pub(crate) vendor: Guid,
    pub(crate) name: String,
    pub(crate) value: &'a [u8],
}

impl<'a> Variable<'a> {
    /// Reads a variable with nothing after it.
    pub(crate) fn parse(data: &'a [u8]) -> Option<Self> {
        let mut reader = Little(data);
        let vendor = Guid(reader.take(16)?.try_into().ok()?);
        let (name, value) = (reader.size64()?, reader.size64()?);
        let name = reader.take(name.checked_mul(2)?)?;
        let value = reader.take(value)?;
        reader.is_empty().then(|| Self {
            vendor,
            name: whole_utf16(name),
            value,
        })
    }
}

/// One entry of a signature database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Signature<'a> {
    /// A certificate, DER.
    X509(&'a [u8]),
    /// The digest of an image.
    Sha256(&'a [u8]),
    /// Of another type.
    Other(Guid),
}

/// A run of EFI_SIGNATURE_LIST. For the types that are read the header has no length: a list that claims one would move the
/// border between header and signatures.
pub(crate) fn signatures(mut data: &[u8]) -> Option<Vec<Signature<'_>>> {
    let mut out = Vec::new();
    while !data.is_empty() {
        let mut reader = Little(data);
        let kind = Guid(reader.take(16)?.try_into().ok()?);
        let (list, header, size) = (reader.size()?, reader.size()?, reader.size()?);
        let body = list.checked_sub(28)?;
        let mut body = Little(reader.take(body)?);
        data = reader.0;
        if kind == Guid::X509 || kind == Guid::SHA256 {
            if header != 0 || (kind == Guid::SHA256 && size != 48) {
                return None;
            }
        } else {
            body.take(header)?;
        }
        if size < 17 || body.0.len() % size != 0 {
            return None;
        }
        while !body.is_empty() {
            if out.len() >= MAX_SIGNATURES {
                return None;
            }
            let value = body.take(size)?.get(16..)?;
            out.push(match kind {
                Guid::X509 => Signature::X509(value),
                Guid::SHA256 => Signature::Sha256(value),
                other => Signature::Other(other),
            });
        }
    }
    Some(out)
}

/// UEFI_IMAGE_LOAD_EVENT: the device path of an image. The digest of the event is that of the image, and covers nothing of this.
pub(crate) fn image_path(data: &[u8]) -> Option<String> {
    let mut reader = Little(data);
    // Where it was loaded, its length, where it was linked for.
    reader.take(24)?;
    let length = reader.size64()?;
    // shim writes eight bytes more than the structure has.
    device_path(reader.take(length)?)
}

/// An EFI_DEVICE_PATH_PROTOCOL in words: files and partitions by name, other nodes by their kind.
pub(crate) fn device_path(data: &[u8]) -> Option<String> {
    let mut reader = Little(data);
    let mut parts: Vec<String> = Vec::new();
    let mut nodes = 0;
    while !reader.is_empty() {
        nodes += 1;
        if nodes > MAX_NODES {
            return None;
        }
        let (kind, subtype, length) = (reader.u8()?, reader.u8()?, usize::from(reader.u16()?));
        let node = reader.take(length.checked_sub(4)?)?;
        match (kind, subtype) {
            (0x7f, _) => break,
            (1, 1) => parts.push(format!("Pci({},{})", node.get(1)?, node.first()?)),
            (2, 1 | 2) => parts.push("PciRoot".to_owned()),
            (3, 1) => parts.push("Ata".to_owned()),
            (3, 2) => parts.push("Scsi".to_owned()),
            (3, 5) => parts.push("Usb".to_owned()),
            (3, 11) => parts.push("Mac".to_owned()),
            (3, 12 | 13) => parts.push("Ip".to_owned()),
            (3, 18) => parts.push("Sata".to_owned()),
            (3, 23) => parts.push("NVMe".to_owned()),
            (3, 24) => parts.push(format!("Uri({})", text(node))),
            (3, 10) => parts.push("VenMsg".to_owned()),
            (4, 1) => {
                let mut partition = Little(node);
                let number = partition.u32()?;
                partition.take(16)?;
                let signature = Guid(partition.take(16)?.try_into().ok()?);
                parts.push(format!("HD({number},{signature})"));
            }
            (4, 4) => parts.push(utf16(node)),
            (4, 6) => parts.push(format!("FvFile({})", Guid(node.try_into().ok()?))),
            (4, 7) => parts.push(format!("Fv({})", Guid(node.try_into().ok()?))),
            (4, 8) => parts.push("Offset".to_owned()),
            _ => parts.push(format!("Node({kind},{subtype})")),
        }
    }
    // File nodes hold their own separators.
    let mut out = String::new();
    for part in parts {
        if !out.is_empty() && !part.starts_with('\\') && !out.ends_with('\\') {
            out.push('/');
        }
        out.push_str(&part);
    }
    Some(out)
}

/// A partition of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) name: String,
    pub(crate) id: Guid,
}

/// UEFI_GPT_DATA: the disk's identifier and its partitions.
pub(crate) fn partition_table(data: &[u8]) -> Option<(Guid, Vec<Partition>)> {
    let mut reader = Little(data);
    let header = reader.take(92)?;
    if !header.starts_with(b"EFI PART") {
        return None;
    }
    let disk = Guid(header.get(56..72)?.try_into().ok()?);
    let entry = usize::try_from(u32::from_le_bytes(header.get(84..88)?.try_into().ok()?)).ok()?;
    let count = reader.size64()?;
    if count > MAX_PARTITIONS || entry < 128 {
        return None;
    }
    let mut partitions = Vec::with_capacity(count);
    for _ in 0..count {
        let entry = reader.take(entry)?;
        partitions.push(Partition {
            id: Guid(entry.get(16..32)?.try_into().ok()?),
            name: utf16(entry.get(56..128)?),
        });
    }
    Some((disk, partitions))
}

/// EFI_LOAD_OPTION, which Boot#### variables hold: description and device path.
pub(crate) fn load_option(data: &[u8]) -> Option<(String, String)> {
    let mut reader = Little(data);
    let _attributes = reader.u32()?;
    let length = usize::from(reader.u16()?);
    let end = reader.0.chunks_exact(2).position(|unit| unit == [0, 0])?;
    let description = utf16(reader.take(2 * end)?);
    reader.take(2)?;
    Some((description, device_path(reader.take(length)?)?))
}

/// UTF-16 up to its first NUL.
pub(crate) fn utf16(data: &[u8]) -> String {
    let units = data
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    char::decode_utf16(units)
        .map(|unit| unit.unwrap_or('?'))
        .take_while(|c| *c != '\0')
        .collect()
}

/// UTF-16 without NULs at its end: one within it makes another name.
fn whole_utf16(data: &[u8]) -> String {
    let units = data
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let name: String = char::decode_utf16(units)
        .map(|unit| unit.unwrap_or('?'))
        .collect();
    name.trim_end_matches('\0').replace('\0', "?")
}

/// UTF-8, or what can be read of it, without NULs at its end.
pub(crate) fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).trim_end_matches('\0').to_owned()
}
