//! The reference values of the boot that hosts without a fault share: known here because this is who boots them.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::boot::Boot;
use crate::error::SimError;

/// Writes the set, TOML. Registers 0 to 9, SHA-256: what the service asks for by default.
pub(super) fn good_boot(folder: &Path) -> Result<PathBuf, SimError> {
    let mut text = String::from("label = \"simulated-boot\"\n");
    for (number, event) in Boot::GOOD
        .events()
        .iter()
        .enumerate()
        .filter(|(_, event)| event.pcr < 10)
    {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n[[reference]]\npcr = {}\ndigest = \"{}\"\ndescription = \"simulated boot, event {}\"\n",
            event.pcr,
            hex::encode(event.digests.sha256),
            number + 1
        );
    }
    super::config::write(&folder.join("reference.toml"), &text)
}
