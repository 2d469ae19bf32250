//! The folder of a run: made at the start, and gone at the end of it, whatever the end is.

use std::fs::{DirBuilder, Permissions};
use std::io::{self, PipeWriter};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::child::OURSELVES;
use crate::error::SimError;

/// How a run's folder is called below TMPDIR; what follows is random.
pub(crate) const PREFIX: &str = "touchmark-sim-";

/// A run's folder with its [janitor](crate::janitor).
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    janitor: Child,
    /// Held open for as long as the run lives: its end is what the janitor waits for.
    lifeline: Option<PipeWriter>,
}

impl RunFolder {
    /// Makes a folder below TMPDIR. Others may pass through it (mode 0711), since the bus is for every user;
    /// what is secret inside has modes of its own.
    ///
    /// # Errors
    /// When the folder or the janitor cannot be made.
    pub fn create() -> Result<Self, SimError> {
        let making = || SimError::system("cannot make a folder for the run");
        let parent = std::env::temp_dir().canonicalize().map_err(making())?;
        let path = parent.join(format!("{PREFIX}{}", random_name().map_err(making())?));

        // The janitor comes first, so that there is no moment at which the folder could be left behind. A process
        // group of its own, so that Ctrl-C leaves it alone, and no environment, so that the janitor of a run
        // around this one does not take it for a leftover.
        let (reader, lifeline) = io::pipe().map_err(making())?;
        let mut command = Command::new(OURSELVES);
        command.arg0("touchmark-sim").arg("janitor").arg(&path);
        command
            .env_clear()
            .process_group(0)
            .stdin(reader)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let janitor = command
            .spawn()
            .map_err(SimError::system("cannot start the janitor"))?;
        let folder = Self {
            path,
            janitor,
            lifeline: Some(lifeline),
        };

        DirBuilder::new()
            .mode(0o700)
            .create(&folder.path)
            .map_err(making())?;
        std::fs::set_permissions(&folder.path, Permissions::from_mode(0o711)).map_err(making())?;
        Ok(folder)
    }

    /// Where it is; an absolute path without symbolic links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunFolder {
    /// Waits until the janitor has ended what is left of the run and removed the folder.
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let _ = self.janitor.wait();
    }
}

/// 64 random bits: enough that no other run has the same name.
fn random_name() -> io::Result<String> {
    let mut bits = [0; 8];
    aws_lc_rs::rand::fill(&mut bits).map_err(|_| io::Error::other("no random numbers"))?;
    Ok(hex::encode(bits))
}
