//! One measurement: TCG_PCR_EVENT2 before it is encoded.

use crate::pcr::Digests;

/// EV_NO_ACTION.
pub(super) const NO_ACTION: u32 = 0x0000_0003;
/// EV_SEPARATOR.
pub(super) const SEPARATOR: u32 = 0x0000_0004;
/// EV_S_CRTM_VERSION.
pub(super) const CRTM_VERSION: u32 = 0x0000_0008;
/// EV_IPL.
pub(super) const IPL: u32 = 0x0000_000d;
/// EV_EFI_VARIABLE_DRIVER_CONFIG.
pub(super) const VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
/// EV_EFI_BOOT_SERVICES_APPLICATION.
pub(super) const BOOT_SERVICES_APPLICATION: u32 = 0x8000_0003;
/// EV_EFI_GPT_EVENT.
pub(super) const GPT: u32 = 0x8000_0006;
/// EV_EFI_ACTION.
pub(super) const ACTION: u32 = 0x8000_0007;
/// EV_EFI_PLATFORM_FIRMWARE_BLOB2.
pub(super) const PLATFORM_FIRMWARE_BLOB2: u32 = 0x8000_000a;
/// EV_EFI_VARIABLE_BOOT2.
pub(super) const VARIABLE_BOOT2: u32 = 0x8000_000c;
/// EV_EFI_VARIABLE_AUTHORITY.
pub(super) const VARIABLE_AUTHORITY: u32 = 0x8000_00e0;

/// A measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The register that was extended.
    pub pcr: u32,
    /// The event type.
    pub kind: u32,
    /// What it was extended with.
    pub digests: Digests,
    /// What the log says about it.
    pub data: Vec<u8>,
}

impl Event {
    /// An event whose digests are those of its data.
    pub(super) fn of_data(pcr: u32, kind: u32, data: impl Into<Vec<u8>>) -> Self {
        let data = data.into();
        Self {
            pcr,
            kind,
            digests: Digests::of(&data),
            data,
        }
    }

    /// An event that says `data` about the bytes `measured`.
    pub(super) fn of(pcr: u32, kind: u32, measured: &[u8], data: impl Into<Vec<u8>>) -> Self {
        Self {
            pcr,
            kind,
            digests: Digests::of(measured),
            data: data.into(),
        }
    }
}
