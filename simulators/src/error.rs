//! Why a simulation could not be set up, and what to do about it.
//!
//! Every error is a pair: its `Display` says what went wrong, [`SimError::remedy`] says what to do next.

use std::io;
use std::path::{Path, PathBuf};

use crate::fault::Kind;

/// A simulation that could not be started or kept up.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A fault names a device that was not asked for.
    #[error("--fault {fault}@{device}: there is no {} {device}", .kind.names().0)]
    NoSuchDevice {
        /// The fault's name.
        fault: &'static str,
        /// Of which kind it would be.
        kind: Kind,
        /// The device, counted from 1.
        device: usize,
        /// How many there are.
        devices: usize,
    },
    /// A device's fault without any such device.
    #[error("--fault {fault}: no {} was asked for", .kind.names().0)]
    NoDevice {
        /// The fault's name.
        fault: &'static str,
        /// Of which kind it would be.
        kind: Kind,
    },
    /// A host of a `dev` system that has nothing to attest by.
    #[error("dev --hsm: a host with an HSM alone has no TPM to attest by")]
    HostWithoutTpm,
    /// Two faults of one device of which one hides the other.
    #[error("--fault {first} and --fault {second} cannot be combined on {} {device}: {reason}", .kind.names().0)]
    FaultsExclude {
        /// Of which kind the device is.
        kind: Kind,
        /// A fault's name.
        first: &'static str,
        /// The other fault's name.
        second: &'static str,
        /// The device, counted from 1.
        device: usize,
        /// Why not.
        reason: &'static str,
    },
    /// A program that the simulator starts is not installed.
    #[error("{program} was not found on PATH")]
    MissingProgram {
        /// The program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// The product's own programs are not to be found.
    #[error("touchmark and touchmark-device were found neither beside touchmark-sim nor on PATH")]
    NoTouchmark,
    /// The path of the bus socket is longer than the kernel allows (108 bytes with its end).
    #[error("the path {path} is too long for a socket", path = .path.display())]
    SocketPath {
        /// The path.
        path: PathBuf,
    },
    /// A child ended, or never answered, while the simulation was set up.
    #[error("{name} did not come up: {detail}")]
    NotReady {
        /// The program and its device.
        name: String,
        /// What was seen.
        detail: String,
    },
    /// A TPM refused a command of the set-up.
    #[error("the TPM answered {command} with response code 0x{code:03x}")]
    ResponseCode {
        /// The command's name.
        command: &'static str,
        /// TPM_RC.
        code: u32,
    },
    /// A TPM's answer, or a command to it, did not have the shape that the specification gives.
    #[error("{command}: {detail}")]
    Malformed {
        /// The command's name.
        command: &'static str,
        /// What is wrong.
        detail: &'static str,
    },
    /// A certificate or key of the test maker could not be made or read.
    #[error("the test maker's {what}: {source}")]
    Maker {
        /// Which certificate or key.
        what: &'static str,
        /// Why.
        source: rcgen::Error,
    },
    /// The folder given as `--maker` has some of the maker's files, but not all.
    #[error("the maker in {path} is incomplete: {missing} is missing", path = .path.display())]
    MakerIncomplete {
        /// The folder.
        path: PathBuf,
        /// The first missing file.
        missing: &'static str,
    },
    /// The operating system refused something.
    #[error("{action}: {source}")]
    System {
        /// What was tried.
        action: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A file that the caller named cannot be used.
    #[error("{path}: {source}", path = .path.display())]
    Unusable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl SimError {
    /// For `map_err`: the operating system refused `action`.
    pub fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }

    /// For `map_err`: the caller named a `path` that cannot be used.
    pub fn unusable(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Unusable { path, source }
    }

    /// What to do next.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::NoSuchDevice { devices, .. } => {
                format!("devices count from 1 to {devices}; ask for more of them, or name one of these")
            }
            Self::NoDevice { kind, .. } => format!("add {}", kind.names().1),
            Self::HostWithoutTpm => "add --tpm N: each host has an HSM beside its TPM then".to_owned(),
            Self::FaultsExclude { .. } => {
                "leave one out, or place them on different devices with NAME@K".to_owned()
            }
            Self::MissingProgram { package, .. } => {
                format!("install the Debian package {package}: apt-get install {package}")
            }
            Self::NoTouchmark => {
                "build them (cargo build), or name their folder with --binaries DIR".to_owned()
            }
            Self::SocketPath { .. } => "set TMPDIR to a folder with a shorter path".to_owned(),
            Self::NotReady { .. } | Self::ResponseCode { .. } | Self::Malformed { .. } => {
                "check that swtpm, tpm2-abrmd and dbus-daemon are whole and that the machine is not out of \
                 memory, disk or processes; then run again"
                    .to_owned()
            }
            Self::Maker { .. } => "name an empty folder with --maker to have a new maker made".to_owned(),
            Self::MakerIncomplete { .. } => {
                "restore the file, or empty the folder to have a new maker made".to_owned()
            }
            Self::System { .. } => "check permissions, free space and limits of TMPDIR".to_owned(),
            Self::Unusable { .. } => "name a place that this user can write".to_owned(),
        }
    }

    /// 2 for usage or unusable input, 3 for a device that could not be had.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoSuchDevice { .. }
            | Self::NoDevice { .. }
            | Self::HostWithoutTpm
            | Self::FaultsExclude { .. }
            | Self::MakerIncomplete { .. }
            | Self::Unusable { .. } => 2,
            _ => 3,
        }
    }
}
