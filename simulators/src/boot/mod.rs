//! A measured boot of a Debian host: UEFI firmware, shim, GRUB and a kernel, as the TCG PC Client Platform
//! Firmware Profile (sections 3.3 and 10) and those programs measure it.
//!
//! What is measured is fixed: all hosts without a fault have the same log, byte for byte. Images and files are
//! stand-ins: their digests are those of a fixed text for each file.

mod device_path;
mod event;
mod firmware;
mod log;
mod os_loader;
mod variables;

use std::io;
use std::path::Path;

pub use event::Event;

use crate::command::Channel;
use crate::error::SimError;
use crate::pcr;

/// A kernel that Debian shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// What hosts without a fault boot.
    Usual,
    /// Another version.
    Other,
}

impl Kernel {
    /// The version in file names.
    fn version(self) -> &'static str {
        match self {
            Self::Usual => "6.1.0-28-amd64",
            Self::Other => "6.1.0-31-amd64",
        }
    }
}

/// How a host booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// Whether the firmware verified what it loaded.
    pub secure_boot: bool,
    /// What was booted.
    pub kernel: Kernel,
}

impl Boot {
    /// A host without a fault.
    pub const GOOD: Self = Self {
        secure_boot: true,
        kernel: Kernel::Usual,
    };

    /// All measurements, in order.
    #[must_use]
    pub fn events(self) -> Vec<Event> {
        let mut events = firmware::before_loader(self.secure_boot);
        events.extend(os_loader::shim_and_grub(self.secure_boot, self.kernel));
        events.extend(firmware::exit_boot_services());
        events
    }

    /// Extends a freshly started TPM as this boot does.
    ///
    /// # Errors
    /// When the TPM refuses.
    pub fn measure(self, tpm: &mut Channel) -> Result<(), SimError> {
        self.events()
            .iter()
            .try_for_each(|event| pcr::extend(tpm, event.pcr, &event.digests))
    }

    /// Writes the log of this boot, in the form of Linux's `binary_bios_measurements`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_log(self, path: &Path) -> io::Result<()> {
        std::fs::write(path, log::encode(&self.events()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pcrs_that_differ(one: Boot, other: Boot) -> Vec<u32> {
        let of = |boot: Boot, pcr| {
            boot.events()
                .into_iter()
                .filter(|event| event.pcr == pcr)
                .collect::<Vec<_>>()
        };
        (0..24).filter(|&pcr| of(one, pcr) != of(other, pcr)).collect()
    }

    /// Reference values that were recorded once have to stay good.
    #[test]
    fn the_good_boot_never_changes_by_accident() {
        let log = pcr::Digests::of(&log::encode(&Boot::GOOD.events()));
        assert_eq!(
            hex::encode(log.sha256),
            "01f597cf9e477009cdd9b8f82404384397e80bb1e62bf10377353d25218e2d4a"
        );
    }

    #[test]
    fn another_kernel_shows_in_the_registers_of_images_commands_and_files() {
        assert_eq!(
            pcrs_that_differ(
                Boot::GOOD,
                Boot {
                    kernel: Kernel::Other,
                    ..Boot::GOOD
                }
            ),
            [4, 8, 9]
        );
    }

    #[test]
    fn secure_boot_shows_in_register_7_only() {
        assert_eq!(
            pcrs_that_differ(
                Boot::GOOD,
                Boot {
                    secure_boot: false,
                    ..Boot::GOOD
                }
            ),
            [7]
        );
    }

    #[test]
    fn every_firmware_register_has_exactly_one_separator_and_registers_2_and_3_nothing_else() {
        let events = Boot::GOOD.events();
        for pcr in 0..8 {
            let separators = events
                .iter()
                .filter(|event| event.pcr == pcr && event.kind == event::SEPARATOR);
            assert_eq!(separators.count(), 1, "PCR {pcr}");
        }
        for pcr in [2, 3] {
            assert_eq!(
                events.iter().filter(|event| event.pcr == pcr).count(),
                1,
                "PCR {pcr}"
            );
        }
    }
}
