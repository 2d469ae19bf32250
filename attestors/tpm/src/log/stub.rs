//! Sections of a unified kernel image, as systemd-stub measures them into register 11: the name with its NUL, then what is in the section.

use touchmark_crypto::HashAlg;

use super::{
    boot::{Image, image},
    event::Event,
};
use crate::image::MEASURED;

/// Goes through the events of register 11. A digest commits to a section's name, and the next event is of what is in it.
#[derive(Default)]
pub(super) struct Sections {
    names: Vec<(&'static str, Vec<u8>)>,
    of: Option<&'static str>,
}

impl Sections {
    /// The section, where this event is of what is in one.
    pub(super) fn next(&mut self, event: &Event<'_>, bank: HashAlg) -> Option<Image> {
        if self.names.is_empty() {
            let digest = |name: &'static str| (name, bank.digest(&[name.as_bytes(), &[0]]));
            self.names = MEASURED.into_iter().map(digest).collect();
        }
        let found = event.digest(bank)?;
        let name = self.names.iter().find(|(_, digest)| digest == found);
        match (self.of.take(), name) {
            (_, Some((name, _))) => {
                self.of = Some(name);
                None
            }
            (Some(name), None) => image(event, bank, name.to_owned()),
            (None, None) => None,
        }
    }
}
