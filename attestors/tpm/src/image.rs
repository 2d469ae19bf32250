//! Digests of boot images as firmware and loaders measure them: of an EFI executable its Authenticode digest (Windows Authenticode Portable
//! Executable Signature Format), of a unified kernel image each section by name and content (systemd-stub).

use touchmark_crypto::HashAlg;

/// Why a file is no EFI executable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an EFI executable: {0}")]
pub struct ImageError(&'static str);

/// Sections that systemd-stub measures into PCR 11, in its order (src/fundamental/uki.c).
pub(crate) const MEASURED: [&str; 14] = [
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey",
    ".profile", ".dtbauto", ".hwids", ".efifw",
];
/// Most sections of an image.
const MAX_SECTIONS: usize = 96;

/// An EFI executable.
#[derive(Debug, Clone)]
pub struct EfiImage<'a> {
    bytes: &'a [u8],
    /// Where the checksum is.
    checksum: usize,
    /// Where the entry of the certificate table is, if there is one, and where the table begins and ends.
    certificates: Option<(usize, usize, usize)>,
    headers: usize,
    sections: Vec<Section>,
}

#[derive(Debug, Clone)]
struct Section {
    name: String,
    /// Where its content is in the file.
    at: usize,
    /// How much of the file it takes.
    size: usize,
    /// How much of that counts: what is beyond is filling.
    length: usize,
}

/// A value that an image leads to: register, digest, and what it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageValue {
    /// The register.
    pub pcr: u8,
    /// The digest that is extended.
    pub digest: Vec<u8>,
    /// What it is of.
    pub description: String,
}

impl<'a> EfiImage<'a> {
    /// Reads the headers of an executable.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ImageError> {
        const SHORT: ImageError = ImageError("it ends too early");
        let u16_at = |at: usize| -> Result<usize, ImageError> {
            let part = bytes.get(at..at + 2).ok_or(SHORT)?;
            Ok(usize::from(u16::from_le_bytes(
                part.try_into().map_err(|_| SHORT)?,
            )))
        };
        let u32_at = |at: usize| -> Result<usize, ImageError> {
            let part = bytes.get(at..at + 4).ok_or(SHORT)?;
            usize::try_from(u32::from_le_bytes(part.try_into().map_err(|_| SHORT)?)).map_err(|_| SHORT)
        };
        if !bytes.starts_with(b"MZ") {
            return Err(ImageError("no MZ header"));
        }
        let pe = u32_at(0x3c)?;
        if bytes.get(pe..).is_none_or(|rest| !rest.starts_with(b"PE\0\0")) {
            return Err(ImageError("no PE header"));
        }
        let count = u16_at(pe + 6)?;
        let optional = pe + 24;
        let optional_size = u16_at(pe + 20)?;
        // How far the directories are from the start of the optional header.
        let directories = match u16_at(optional)? {
            0x10b => 96,
            0x20b => 112,
            _ => return Err(ImageError("an optional header that is not known")),
        };
        if count > MAX_SECTIONS {
            return Err(ImageError("more sections than an image has"));
        }
        let headers = u32_at(optional + 60)?;
        // The fifth directory is the certificate table; its address is a place in the file.
        let entry = optional + directories + 4 * 8;
        let certificates = if u32_at(optional + directories - 4)? > 4 {
            let (at, size) = (u32_at(entry)?, u32_at(entry + 4)?);
            let end = at.checked_add(size).filter(|end| *end <= bytes.len());
            let end = end.ok_or(ImageError("a certificate table beyond its end"))?;
            Some((entry, at, end))
        } else {
            None
        };
        let mut sections = Vec::new();
        for number in 0..count {
            let at = optional + optional_size + 40 * number;
            let name = bytes.get(at..at + 8).ok_or(SHORT)?;
            let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
            let (length, size, place) = (u32_at(at + 8)?, u32_at(at + 16)?, u32_at(at + 20)?);
            let end = place.checked_add(size).filter(|end| *end <= bytes.len());
            end.ok_or(ImageError("a section beyond its end"))?;
            sections.push(Section {
                name,
                at: place,
                size,
                length: length.min(size),
            });
        }
        if headers > bytes.len() || optional + 68 > headers {
            return Err(ImageError("headers beyond its end"));
        }
        Ok(Self {
            bytes,
            checksum: optional + 64,
            certificates,
            headers,
            sections,
        })
    }

    /// The digest that firmware extends into PCR 4 when it starts the image: of everything but the checksum, the certificate table and
    /// what names it.
    pub fn authenticode(&self, hash: HashAlg) -> Result<Vec<u8>, ImageError> {
        const SHORT: ImageError = ImageError("it ends too early");
        let part = |from: usize, to: usize| self.bytes.get(from..to).ok_or(SHORT);
        let mut parts: Vec<&[u8]> = vec![part(0, self.checksum)?];
        let after_checksum = self.checksum + 4;
        match self.certificates {
            Some((entry, ..)) => {
                parts.push(part(after_checksum, entry)?);
                parts.push(part(entry + 8, self.headers)?);
            }
            None => parts.push(part(after_checksum, self.headers)?),
        }
        let mut ordered: Vec<&Section> = self.sections.iter().filter(|section| section.size > 0).collect();
        ordered.sort_by_key(|section| section.at);
        let mut hashed = self.headers;
        for section in ordered {
            parts.push(part(section.at, section.at + section.size)?);
            hashed += section.size;
        }
        // What follows the sections, but for the certificates, which come last.
        let table = self.certificates.map_or(0, |(_, at, end)| end - at);
        let end = self.bytes.len().checked_sub(table).ok_or(SHORT)?;
        if end > hashed {
            parts.push(part(hashed, end)?);
        }
        Ok(hash.digest(&parts))
    }

    /// Whether it is a unified kernel image.
    pub fn is_unified(&self) -> bool {
        self.section(".linux").is_some()
    }

    fn section(&self, name: &str) -> Option<&'a [u8]> {
        let section = self.sections.iter().find(|section| section.name == name)?;
        self.bytes.get(section.at..section.at + section.length)
    }

    /// A section for which the stub hands the kernel more than `.initrd` as its initrd: then PCR 9 holds another digest than that of `.initrd`.
    pub fn beside_initrd(&self) -> Option<&'static str> {
        let more = [".ucode", ".pcrsig", ".pcrpkey"];
        more.into_iter().find(|name| self.section(name).is_some())
    }

    /// What a unified kernel image leads to: in PCR 4 itself and the kernel in it, in PCR 9 the initrd as Linux' stub takes it, in PCR 11
    /// its sections.
    pub fn values(&self, hash: HashAlg, name: &str) -> Result<Vec<ImageValue>, ImageError> {
        let value = |pcr, digest, description: String| ImageValue {
            pcr,
            digest,
            description,
        };
        let mut out = vec![value(4, self.authenticode(hash)?, name.to_owned())];
        if let Some(kernel) = self.section(".linux") {
            let kernel =
                EfiImage::parse(kernel).map_err(|_| ImageError("what is in its section .linux is none"))?;
            out.push(value(4, kernel.authenticode(hash)?, format!("{name}, .linux")));
        }
        if let Some(initrd) = self.section(".initrd") {
            out.push(value(9, hash.digest(&[initrd]), format!("{name}, .initrd")));
        }
        for section in MEASURED {
            let Some(content) = self.section(section) else {
                continue;
            };
            let named = [section.as_bytes(), &[0]].concat();
            out.push(value(
                11,
                hash.digest(&[&named]),
                format!("name of section {section}"),
            ));
            out.push(value(11, hash.digest(&[content]), format!("{name}, {section}")));
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PE32+ image of these sections, with a certificate table where there is one.
    fn image(sections: &[(&str, &[u8])], certificates: &[u8]) -> Vec<u8> {
        let headers = 1024;
        let mut out = vec![0; headers];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"MZ");
        put(0x3c, &0x80_u32.to_le_bytes());
        put(0x80, b"PE\0\0");
        put(0x86, &u16::try_from(sections.len()).unwrap().to_le_bytes());
        put(0x94, &240_u16.to_le_bytes());
        let optional = 0x98;
        put(optional, &0x20b_u16.to_le_bytes());
        put(optional + 60, &1024_u32.to_le_bytes());
        put(optional + 64, &[0xaa; 4]);
        put(optional + 108, &16_u32.to_le_bytes());
        let mut place = headers;
        for (number, (name, content)) in sections.iter().enumerate() {
            let at = optional + 240 + 40 * number;
            let size = content.len().next_multiple_of(512);
            put(at, name.as_bytes());
            put(at + 8, &u32::try_from(content.len()).unwrap().to_le_bytes());
            put(at + 16, &u32::try_from(size).unwrap().to_le_bytes());
            put(at + 20, &u32::try_from(place).unwrap().to_le_bytes());
            place += size;
        }
        if !certificates.is_empty() {
            put(optional + 112 + 32, &u32::try_from(place).unwrap().to_le_bytes());
            put(
                optional + 112 + 36,
                &u32::try_from(certificates.len()).unwrap().to_le_bytes(),
            );
        }
        for (_, content) in sections {
            out.extend_from_slice(content);
            out.resize(out.len().next_multiple_of(512), 0);
        }
        out.extend_from_slice(certificates);
        out
    }

    fn digest(bytes: &[u8]) -> Vec<u8> {
        EfiImage::parse(bytes)
            .unwrap()
            .authenticode(HashAlg::Sha256)
            .unwrap()
    }

    #[test]
    fn signing_an_image_and_its_checksum_do_not_change_its_digest_and_everything_else_does() {
        let bare = image(&[(".text", &[1; 600]), (".data", &[2; 10])], &[]);
        let signed = image(&[(".text", &[1; 600]), (".data", &[2; 10])], &[7; 64]);
        assert_eq!(digest(&bare), digest(&signed));
        let optional = 0x98;
        for at in 0..bare.len() {
            let mut changed = bare.clone();
            changed[at] ^= 1;
            let free = (optional + 64..optional + 68).contains(&at)
                || (optional + 144..optional + 152).contains(&at);
            let changed = EfiImage::parse(&changed).map(|image| image.authenticode(HashAlg::Sha256));
            // Otherwise headers lead nowhere.
            if let Ok(Ok(found)) = changed {
                assert_eq!(found == digest(&bare), free, "{at}");
            }
        }
    }

    #[test]
    fn a_unified_image_leads_to_names_and_contents_of_its_sections_in_the_stubs_order() {
        let kernel = image(&[(".text", &[3; 5])], &[]);
        let unified = image(
            &[
                (".initrd", b"initrd"),
                (".cmdline", b"quiet"),
                (".linux", &kernel),
            ],
            &[],
        );
        let image = EfiImage::parse(&unified).unwrap();
        assert!(image.is_unified());
        let values = image.values(HashAlg::Sha256, "uki").unwrap();
        let of = |pcr| -> Vec<&str> {
            values
                .iter()
                .filter(|value| value.pcr == pcr)
                .map(|value| value.description.as_str())
                .collect()
        };
        assert_eq!(of(4), ["uki", "uki, .linux"]);
        assert_eq!(of(9), ["uki, .initrd"]);
        assert_eq!(
            of(11),
            [
                "name of section .linux",
                "uki, .linux",
                "name of section .cmdline",
                "uki, .cmdline",
                "name of section .initrd",
                "uki, .initrd",
            ]
        );
        let initrd = values.iter().find(|value| value.pcr == 9).unwrap();
        assert_eq!(initrd.digest, HashAlg::Sha256.digest(&[b"initrd"]));
    }

    #[test]
    fn p03_an_image_cut_anywhere_is_refused_or_shorter_and_never_read_beyond() {
        let whole = image(&[(".text", &[1; 600])], &[7; 64]);
        for length in 0..whole.len() {
            if let Ok(image) = EfiImage::parse(&whole[..length]) {
                let _ = image.values(HashAlg::Sha256, "cut");
            }
        }
        assert!(EfiImage::parse(b"MZ").is_err());
        assert!(EfiImage::parse(&[0xff; 4096]).is_err());
    }
}
