//! The programs that the simulator starts, and where they come from.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::SimError;

/// Where daemons live although an ordinary user's PATH may not say so.
const MORE_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// What simulated TPMs need.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The TPM emulator.
    pub swtpm: PathBuf,
    /// The resource manager that lets several programs use one TPM.
    pub abrmd: PathBuf,
    /// The private message bus between them.
    pub dbus_daemon: PathBuf,
    /// Asks the bus whether a resource manager is ready.
    pub dbus_send: PathBuf,
}

impl Programs {
    /// Looks for all of them.
    ///
    /// # Errors
    /// [`SimError::MissingProgram`] for the first that is not installed.
    pub fn find() -> Result<Self, SimError> {
        Ok(Self {
            swtpm: find("swtpm", "swtpm")?,
            abrmd: find("tpm2-abrmd", "tpm2-abrmd")?,
            dbus_daemon: find("dbus-daemon", "dbus")?,
            dbus_send: find("dbus-send", "dbus")?,
        })
    }
}

/// What simulated HSMs need.
#[derive(Debug, Clone)]
pub struct HsmPrograms {
    /// SoftHSM's module.
    pub module: PathBuf,
    /// Makes tokens.
    pub softhsm2_util: PathBuf,
}

impl HsmPrograms {
    /// Where Debian has SoftHSM's module, and others.
    const MODULES: [&str; 4] = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib64/softhsm/libsofthsm2.so",
        "/usr/lib64/pkcs11/libsofthsm2.so",
        "/usr/local/lib/softhsm/libsofthsm2.so",
    ];

    /// Looks for SoftHSM.
    ///
    /// # Errors
    /// [`SimError::MissingProgram`] where it is not installed.
    pub fn find() -> Result<Self, SimError> {
        let softhsm2_util = find("softhsm2-util", "softhsm2")?;
        let module = Self::MODULES
            .iter()
            .map(PathBuf::from)
            .find(|path| path.is_file());
        Ok(Self {
            module: module.ok_or(SimError::MissingProgram {
                program: "libsofthsm2.so",
                package: "softhsm2",
            })?,
            softhsm2_util,
        })
    }

    /// A C compiler, for modules with faults.
    ///
    /// # Errors
    /// [`SimError::MissingProgram`] where there is none.
    pub fn compiler(&self) -> Result<PathBuf, SimError> {
        find("cc", "gcc")
    }
}

fn find(program: &'static str, package: &'static str) -> Result<PathBuf, SimError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(MORE_FOLDERS.into_iter().map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| is_executable(candidate))
        .ok_or(SimError::MissingProgram { program, package })
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_answered_with_the_package_to_install() {
        let error = find("no-such-program-anywhere", "some-package").unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert!(error.remedy().contains("apt-get install some-package"));
        assert!(find("sh", "dash").is_ok());
    }
}
