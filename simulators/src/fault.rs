//! What can be made wrong on purpose, and on which device.
//!
//! A fault belongs to one device. What has to be seen from outside is in its description; how it is brought
//! about is in [`crate::tpm`] (boot and certificates) and [`crate::proxy`] (behaviour).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::str::FromStr;

use crate::error::SimError;

/// One way in which a simulated host differs from a good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The host booted another kernel.
    Kernel,
    /// Secure Boot was off.
    SecureBootOff,
    /// PCR 4 has an extend that the log does not show.
    PcrUnexplained,
    /// The log shows the usual kernel although another one was booted.
    LogEdited,
    /// The host runs a file that is of no package.
    ImaUnknownFile,
    /// The host runs such a file, and its list does not show it.
    ImaEdited,
    /// Another maker signed the EK certificates.
    EkUnknownMaker,
    /// Every command takes 200 ms longer.
    TpmSlow,
    /// The TPM does not answer.
    TpmGone,
    /// The TPM was reset after the boot.
    TpmReset,
    /// The token has no room for another object.
    TokenFull,
    /// The token's PIN is locked.
    PinLocked,
    /// Each signature takes 5 ms longer.
    HsmSlow,
    /// The module ends its process.
    HsmCrash,
}

/// Which kind of device a fault is one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A host's TPM, and its boot.
    Tpm,
    /// An HSM.
    Hsm,
}

impl Kind {
    /// What it is called, and the option that makes one.
    #[must_use]
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Tpm => ("TPM", "--tpm N with N at least 1"),
            Self::Hsm => ("HSM", "--hsm"),
        }
    }
}

impl Fault {
    /// All of them, in the order of the help text.
    pub const ALL: [Self; 14] = [
        Self::Kernel,
        Self::SecureBootOff,
        Self::PcrUnexplained,
        Self::LogEdited,
        Self::ImaUnknownFile,
        Self::ImaEdited,
        Self::EkUnknownMaker,
        Self::TpmSlow,
        Self::TpmGone,
        Self::TpmReset,
        Self::TokenFull,
        Self::PinLocked,
        Self::HsmSlow,
        Self::HsmCrash,
    ];

    /// Which kind of device it is a fault of.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::TokenFull | Self::PinLocked | Self::HsmSlow | Self::HsmCrash => Kind::Hsm,
            _ => Kind::Tpm,
        }
    }

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::SecureBootOff => "secure-boot-off",
            Self::PcrUnexplained => "pcr-unexplained",
            Self::LogEdited => "log-edited",
            Self::ImaUnknownFile => "ima-unknown-file",
            Self::ImaEdited => "ima-edited",
            Self::EkUnknownMaker => "ek-unknown-maker",
            Self::TpmSlow => "tpm-slow",
            Self::TpmGone => "tpm-gone",
            Self::TpmReset => "tpm-reset",
            Self::TokenFull => "token-full",
            Self::PinLocked => "pin-locked",
            Self::HsmSlow => "hsm-slow",
            Self::HsmCrash => "hsm-crash",
        }
    }

    /// What is different, in a line.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Kernel => "another kernel was booted: PCRs 4, 8 and 9 differ, and the log says so",
            Self::SecureBootOff => "Secure Boot was off: PCR 7 differs, and the log says so",
            Self::PcrUnexplained => "PCR 4 was extended once more than the log shows",
            Self::LogEdited => "another kernel was booted, but the log shows the usual one",
            Self::ImaUnknownFile => "a file of no package runs: the IMA list shows it, known_files does not",
            Self::ImaEdited => "a file of no package runs: PCR 10 has it, the IMA list does not",
            Self::EkUnknownMaker => "the EK certificates chain to a maker that sim.json does not name",
            Self::TpmSlow => "each TPM command takes 200 ms longer, from the start of CMD",
            Self::TpmGone => "the TPM no longer answers, from the start of CMD",
            Self::TpmReset => "the TPM was reset after the boot: the PCRs are empty, the log is still there",
            Self::TokenFull => "the HSM's token has no room: no key and no certificate can be made in it",
            Self::PinLocked => "the PIN of the HSM's token is locked: nobody can log in",
            Self::HsmSlow => "each signature of the HSM takes 5 ms longer",
            Self::HsmCrash => "the HSM's module ends its process at its third signature",
        }
    }

    /// Why `self` and `other` cannot both be seen on one device.
    fn excludes(self, other: Self) -> Option<&'static str> {
        match (self, other) {
            (Self::Kernel, Self::LogEdited) => Some("log-edited hides that kernel from the log"),
            (Self::PcrUnexplained, Self::LogEdited) => Some("either alone makes the log disagree"),
            (Self::PcrUnexplained | Self::LogEdited, Self::TpmReset) => {
                Some("a reset TPM has no PCR values of the boot left")
            }
            (Self::ImaUnknownFile, Self::ImaEdited) => Some("ima-edited hides that file from the list"),
            (Self::TpmSlow, Self::TpmGone) => Some("a TPM that does not answer is not slow"),
            _ => None,
        }
    }
}

/// The help text's list: a line for each fault.
#[must_use]
pub fn list() -> String {
    let mut text = String::from("Faults (by default of the last device; NAME@K is for device K, from 1):\n");
    for fault in Fault::ALL {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:<17} {}", fault.name(), fault.description());
    }
    text.truncate(text.trim_end().len());
    text
}

/// `NAME` or `NAME@K` as the command line has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultRequest {
    /// What to make wrong.
    pub fault: Fault,
    /// On which device, counted from 1; the last one if absent.
    pub device: Option<usize>,
}

impl FromStr for FaultRequest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, device) = match text.split_once('@') {
            None => (text, None),
            Some((name, device)) => match device.parse() {
                Ok(device) => (name, Some(device)),
                Err(_) => return Err(format!("{device:?} is not the number of a device\n\n{}", list())),
            },
        };
        match Fault::ALL.into_iter().find(|fault| fault.name() == name) {
            Some(fault) => Ok(Self { fault, device }),
            None => Err(format!("there is no fault {name:?}\n\n{}", list())),
        }
    }
}

/// The faults of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(BTreeSet<Fault>);

impl Faults {
    /// Whether `fault` was asked for.
    #[must_use]
    pub fn has(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }

    /// Whether any of them is one of an HSM.
    #[must_use]
    pub fn of_hsm(&self) -> bool {
        self.0.iter().any(|fault| fault.kind() == Kind::Hsm)
    }
}

impl FromIterator<Fault> for Faults {
    fn from_iter<I: IntoIterator<Item = Fault>>(faults: I) -> Self {
        Self(faults.into_iter().collect())
    }
}

/// Gives each of `devices` of a kind its faults, the first one's first.
///
/// # Errors
/// A device that is not there, and faults that exclude each other.
pub fn place(requests: &[FaultRequest], kind: Kind, devices: usize) -> Result<Vec<Faults>, SimError> {
    let mut placed = vec![Faults::default(); devices];
    for &FaultRequest { fault, device } in requests {
        if fault.kind() != kind {
            continue;
        }
        if devices == 0 {
            return Err(SimError::NoDevice {
                fault: fault.name(),
                kind,
            });
        }
        let device = device.unwrap_or(devices);
        let Some(faults) = device.checked_sub(1).and_then(|index| placed.get_mut(index)) else {
            return Err(SimError::NoSuchDevice {
                fault: fault.name(),
                kind,
                device,
                devices,
            });
        };
        faults.0.insert(fault);
    }
    for (index, faults) in placed.iter().enumerate() {
        for &first in &faults.0 {
            for &second in &faults.0 {
                if let Some(reason) = first.excludes(second) {
                    let (first, second) = (first.name(), second.name());
                    return Err(SimError::FaultsExclude {
                        first,
                        second,
                        device: index + 1,
                        kind,
                        reason,
                    });
                }
            }
        }
    }
    Ok(placed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(texts: &[&str]) -> Vec<FaultRequest> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_fault_goes_to_the_last_device_unless_it_names_one() {
        let placed = place(&requests(&["kernel", "tpm-slow@1"]), Kind::Tpm, 2).unwrap();
        assert!(placed[1].has(Fault::Kernel) && !placed[1].has(Fault::TpmSlow));
        assert!(placed[0].has(Fault::TpmSlow) && !placed[0].has(Fault::Kernel));
    }

    #[test]
    fn a_fault_is_one_of_its_own_kind_of_device() {
        let asked = requests(&["kernel", "hsm-slow"]);
        assert!(place(&asked, Kind::Tpm, 1).unwrap()[0].has(Fault::Kernel));
        let hsms = place(&asked, Kind::Hsm, 2).unwrap();
        assert!(hsms[1].has(Fault::HsmSlow) && hsms[1].of_hsm() && !hsms[0].of_hsm());
        assert!(place(&asked, Kind::Hsm, 0).is_err());
    }

    #[test]
    fn devices_that_are_not_there_are_refused() {
        for (texts, devices) in [(["kernel@0"], 2), (["kernel@3"], 2)] {
            let error = place(&requests(&texts), Kind::Tpm, devices).unwrap_err();
            assert!(matches!(error, SimError::NoSuchDevice { .. }), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
        assert!(matches!(
            place(&requests(&["kernel"]), Kind::Tpm, 0),
            Err(SimError::NoDevice { .. })
        ));
    }

    #[test]
    fn faults_that_hide_each_other_are_refused_in_either_order_but_not_on_two_devices() {
        for texts in [
            ["kernel", "log-edited"],
            ["tpm-gone", "tpm-slow"],
            ["tpm-reset", "pcr-unexplained"],
        ] {
            assert!(
                matches!(
                    place(&requests(&texts), Kind::Tpm, 1),
                    Err(SimError::FaultsExclude { .. })
                ),
                "{texts:?}"
            );
        }
        assert!(place(&requests(&["kernel@1", "log-edited@2"]), Kind::Tpm, 2).is_ok());
        assert!(
            place(
                &requests(&["kernel", "secure-boot-off", "ek-unknown-maker", "tpm-slow"]),
                Kind::Tpm,
                1
            )
            .is_ok()
        );
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_list() {
        let error = "colonel".parse::<FaultRequest>().unwrap_err();
        for fault in Fault::ALL {
            assert!(error.contains(fault.name()) && error.contains(fault.description()));
        }
        assert!("kernel@last".parse::<FaultRequest>().is_err());
    }
}
