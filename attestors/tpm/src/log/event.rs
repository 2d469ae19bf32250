//! One event of a boot log, whatever the log's format.

use touchmark_crypto::HashAlg;

/// EV_POST_CODE.
pub(crate) const EV_POST_CODE: u32 = 0x0000_0001;
/// EV_NO_ACTION: never extended.
pub(crate) const EV_NO_ACTION: u32 = 0x0000_0003;
/// EV_SEPARATOR.
pub(crate) const EV_SEPARATOR: u32 = 0x0000_0004;
/// EV_EVENT_TAG.
pub(crate) const EV_EVENT_TAG: u32 = 0x0000_0006;
/// EV_S_CRTM_CONTENTS.
pub(crate) const EV_S_CRTM_CONTENTS: u32 = 0x0000_0007;
/// EV_S_CRTM_VERSION.
pub(crate) const EV_S_CRTM_VERSION: u32 = 0x0000_0008;
/// EV_IPL: what boot loaders measure.
pub(crate) const EV_IPL: u32 = 0x0000_000d;
/// EV_POST_CODE2.
pub(crate) const EV_POST_CODE2: u32 = 0x0000_0013;
/// EV_EFI_VARIABLE_DRIVER_CONFIG.
pub(crate) const EV_VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
/// EV_EFI_VARIABLE_BOOT.
pub(crate) const EV_VARIABLE_BOOT: u32 = 0x8000_0002;
/// EV_EFI_BOOT_SERVICES_APPLICATION.
pub(crate) const EV_APPLICATION: u32 = 0x8000_0003;
/// EV_EFI_RUNTIME_SERVICES_DRIVER: the last of the three types for images.
pub(crate) const EV_RUNTIME_DRIVER: u32 = 0x8000_0005;
/// EV_EFI_GPT_EVENT.
pub(crate) const EV_GPT: u32 = 0x8000_0006;
/// EV_EFI_ACTION.
pub(crate) const EV_EFI_ACTION: u32 = 0x8000_0007;
/// EV_EFI_PLATFORM_FIRMWARE_BLOB.
pub(crate) const EV_FIRMWARE_BLOB: u32 = 0x8000_0008;
/// EV_EFI_PLATFORM_FIRMWARE_BLOB2.
pub(crate) const EV_FIRMWARE_BLOB2: u32 = 0x8000_000a;
/// EV_EFI_VARIABLE_BOOT2.
pub(crate) const EV_VARIABLE_BOOT2: u32 = 0x8000_000c;
/// EV_EFI_GPT_EVENT2.
pub(crate) const EV_GPT2: u32 = 0x8000_000d;
/// EV_EFI_VARIABLE_AUTHORITY.
pub(crate) const EV_VARIABLE_AUTHORITY: u32 = 0x8000_00e0;

/// Event types of the PC Client Platform Firmware Profile, table 27, and of the specifications before it.
const KINDS: [(u32, &str); 41] = [
    (0x0000_0000, "EV_PREBOOT_CERT"),
    (EV_POST_CODE, "EV_POST_CODE"),
    (0x0000_0002, "EV_UNUSED"),
    (EV_NO_ACTION, "EV_NO_ACTION"),
    (EV_SEPARATOR, "EV_SEPARATOR"),
    (0x0000_0005, "EV_ACTION"),
    (EV_EVENT_TAG, "EV_EVENT_TAG"),
    (EV_S_CRTM_CONTENTS, "EV_S_CRTM_CONTENTS"),
    (EV_S_CRTM_VERSION, "EV_S_CRTM_VERSION"),
    (0x0000_0009, "EV_CPU_MICROCODE"),
    (0x0000_000a, "EV_PLATFORM_CONFIG_FLAGS"),
    (0x0000_000b, "EV_TABLE_OF_DEVICES"),
    (0x0000_000c, "EV_COMPACT_HASH"),
    (EV_IPL, "EV_IPL"),
    (0x0000_000e, "EV_IPL_PARTITION_DATA"),
    (0x0000_000f, "EV_NONHOST_CODE"),
    (0x0000_0010, "EV_NONHOST_CONFIG"),
    (0x0000_0011, "EV_NONHOST_INFO"),
    (0x0000_0012, "EV_OMIT_BOOT_DEVICE_EVENTS"),
    (EV_POST_CODE2, "EV_POST_CODE2"),
    (EV_VARIABLE_DRIVER_CONFIG, "EV_EFI_VARIABLE_DRIVER_CONFIG"),
    (EV_VARIABLE_BOOT, "EV_EFI_VARIABLE_BOOT"),
    (EV_APPLICATION, "EV_EFI_BOOT_SERVICES_APPLICATION"),
    (0x8000_0004, "EV_EFI_BOOT_SERVICES_DRIVER"),
    (EV_RUNTIME_DRIVER, "EV_EFI_RUNTIME_SERVICES_DRIVER"),
    (EV_GPT, "EV_EFI_GPT_EVENT"),
    (EV_EFI_ACTION, "EV_EFI_ACTION"),
    (EV_FIRMWARE_BLOB, "EV_EFI_PLATFORM_FIRMWARE_BLOB"),
    (0x8000_0009, "EV_EFI_HANDOFF_TABLES"),
    (EV_FIRMWARE_BLOB2, "EV_EFI_PLATFORM_FIRMWARE_BLOB2"),
    (0x8000_000b, "EV_EFI_HANDOFF_TABLES2"),
    (EV_VARIABLE_BOOT2, "EV_EFI_VARIABLE_BOOT2"),
    (EV_GPT2, "EV_EFI_GPT_EVENT2"),
    (0x8000_0010, "EV_EFI_HCRTM_EVENT"),
    (EV_VARIABLE_AUTHORITY, "EV_EFI_VARIABLE_AUTHORITY"),
    (0x8000_00e1, "EV_EFI_SPDM_FIRMWARE_BLOB"),
    (0x8000_00e2, "EV_EFI_SPDM_FIRMWARE_CONFIG"),
    (0x8000_00e3, "EV_EFI_SPDM_DEVICE_POLICY"),
    (0x8000_00e4, "EV_EFI_SPDM_DEVICE_AUTHORITY"),
    (0x8000_0000, "EV_EFI_EVENT_BASE"),
    (0x8000_000e, "EV_EFI_SPDM_DEVICE_BLOB"),
];

/// What an event's numbers count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// An event type and data of the PC Client profile.
    PcClient,
    /// A record of IMA, by its template's name and data.
    Ima,
    /// Something else that the canonical format carries, by its content type.
    Other(u8),
}

/// An event's digests, at most one of each bank that is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Digests<'a>([Option<&'a [u8]>; BANKS.len()]);

/// The banks that are known.
pub(crate) const BANKS: [HashAlg; 4] = [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512];

impl<'a> Digests<'a> {
    /// Adds a digest; `false` where the bank has one already.
    pub(crate) fn add(&mut self, bank: HashAlg, digest: &'a [u8]) -> bool {
        let mut slots = BANKS.iter().zip(&mut self.0);
        match slots.find(|(known, _)| **known == bank) {
            Some((_, slot @ None)) => {
                *slot = Some(digest);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn of(&self, bank: HashAlg) -> Option<&'a [u8]> {
        self.iter()
            .find(|(known, _)| *known == bank)
            .map(|(_, digest)| digest)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (HashAlg, &'a [u8])> + '_ {
        BANKS
            .into_iter()
            .zip(self.0)
            .filter_map(|(bank, digest)| Some((bank, digest?)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// One record of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    /// Position in the log; a header is 0.
    pub(crate) number: usize,
    /// The register. A log of a confidential VM counts its measurement registers.
    pub(crate) register: u32,
    pub(crate) kind: u32,
    pub(crate) content: Content,
    /// Digests of the banks that are known here, at most one of each.
    pub(crate) digests: Digests<'a>,
    pub(crate) data: &'a [u8],
}

impl<'a> Event<'a> {
    /// The digest that was extended into a bank.
    pub(crate) fn digest(&self, bank: HashAlg) -> Option<&'a [u8]> {
        self.digests.of(bank)
    }

    /// Whether it is extended into its register at all.
    pub(crate) fn is_extended(&self) -> bool {
        !(self.content == Content::PcClient && self.kind == EV_NO_ACTION)
    }

    /// Whether the digest in `bank` is that of these bytes.
    pub(crate) fn is_digest_of(&self, bank: HashAlg, bytes: &[u8]) -> bool {
        self.digest(bank)
            .is_some_and(|digest| bank.is_digest(digest, &[bytes]))
    }
}

/// The name of an event type, if it is one of the profile's.
pub(crate) fn known_kind(kind: u32) -> Option<&'static str> {
    KINDS
        .iter()
        .find(|(number, _)| *number == kind)
        .map(|(_, name)| *name)
}

/// The type of an event by its number.
pub(crate) fn kind(kind: u32) -> String {
    known_kind(kind).map_or_else(|| format!("type {kind:#x}"), str::to_owned)
}
