//! `--count FILE`: a line for each TPM command that completed.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use crate::command::name_of;
use crate::error::SimError;

/// Writes `<n> <command> <response code>`; shared by the proxies of all TPMs.
#[derive(Debug, Clone)]
pub struct Counter {
    file: Arc<File>,
}

impl Counter {
    /// Appends to the file at `path`.
    ///
    /// # Errors
    /// When it cannot be opened for appending.
    pub fn append_to(path: &Path) -> Result<Self, SimError> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .map_err(SimError::unusable(path))?;
        Ok(Self { file: Arc::new(file) })
    }

    /// Notes that TPM `n` answered a command.
    pub fn note(&self, n: usize, command: &[u8], answer: &[u8]) {
        // One write for a line, so that lines of several TPMs do not mix. A full disk shall not break the TPM.
        let _ = (&*self.file).write_all(line(n, command, answer).as_bytes());
    }
}

fn line(n: usize, command: &[u8], answer: &[u8]) -> String {
    let (command, answer) = (third_word(command), third_word(answer));
    match name_of(command) {
        Some(name) => format!("{n} {name} 0x{answer:03x}\n"),
        None => format!("{n} 0x{command:08x} 0x{answer:03x}\n"),
    }
}

/// The command or response code: behind a tag and a size.
fn third_word(frame: &[u8]) -> u32 {
    frame
        .iter()
        .skip(6)
        .take(4)
        .fold(0, |value, &byte| value << 8 | u32::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_device_the_name_and_the_response_code() {
        let command = hex::decode("80010000000c000001440000").unwrap();
        assert_eq!(
            line(2, &command, &hex::decode("80010000000a00000100").unwrap()),
            "2 TPM2_Startup 0x100\n"
        );
        let unknown = hex::decode("80010000000a20000001").unwrap();
        assert_eq!(
            line(1, &unknown, &hex::decode("80010000000a00000000").unwrap()),
            "1 0x20000001 0x000\n"
        );
    }
}
