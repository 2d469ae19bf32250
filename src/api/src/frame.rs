//! The second message: sections, each with its length (four bytes, big-endian), in an order that lets a receiver refuse
//! early.
//!
//! Cookie, offer, evidence, boot log, list of what was measured at run time, results of other verifiers, MAC. The cookie comes first and is opened before anything
//! else is read; the MAC over all that precedes it comes last, so that a log can be hashed as it arrives. A section may be empty: the logs
//! of a workload's key, the MAC where the attestation key is known.

/// Largest cookie, in bytes.
pub const MAX_COOKIE: usize = 4 * 1024;
/// Largest offer.
pub const MAX_OFFER: usize = 12 * 1024;
/// Largest evidence.
pub const MAX_EVIDENCE: usize = 48 * 1024;
/// Largest log.
pub const MAX_LOG: usize = 4 * 1024 * 1024;
/// Largest part of a list of what was measured at run time that is sent at once: about 360,000 files, 120,000 where each has an RSA signature.
pub const MAX_RUNTIME: usize = 48 * 1024 * 1024;
/// Largest collection of other verifiers' results.
pub const MAX_RESULTS: usize = 256 * 1024;
/// Length of a MAC.
pub const MAC_LEN: usize = 32;
/// Largest message: 64 KiB, what is enclosed, and the lengths.
pub const MAX_MESSAGE: usize =
    MAX_COOKIE + MAX_OFFER + MAX_EVIDENCE + MAX_LOG + MAX_RUNTIME + MAX_RESULTS + MAC_LEN + SECTIONS * 4;
/// Number of sections; the MAC is the last.
pub const SECTIONS: usize = 7;

/// The limits of the sections, in order.
pub const LIMITS: [usize; SECTIONS] = [
    MAX_COOKIE,
    MAX_OFFER,
    MAX_EVIDENCE,
    MAX_LOG,
    MAX_RUNTIME,
    MAX_RESULTS,
    MAC_LEN,
];

/// Why a message is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A section over its limit.
    #[error("section {section} is {length} bytes where at most {limit} are accepted")]
    Oversized {
        /// Number of the section, from 0.
        section: usize,
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The message ends within a section.
    #[error("message ends within section {0}")]
    Truncated(usize),
    /// Bytes after the last section.
    #[error("bytes after the last section")]
    Trailing,
    /// A MAC of another length than [`MAC_LEN`].
    #[error("MAC is neither empty nor 32 bytes long")]
    Mac,
}

/// What goes with evidence and its binding does not cover: the logs are held against what is quoted, results are signed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Enclosed<'a> {
    /// The boot log, from where it was asked for.
    pub log: &'a [u8],
    /// The list of what was measured at run time, from where it was asked for.
    pub runtime: &'a [u8],
    /// Results of other verifiers, a CMW collection.
    pub results: &'a [u8],
}

/// The part of a message that a MAC covers.
pub fn encode(cookie: &[u8], offer: &[u8], evidence: &[u8], enclosed: Enclosed<'_>) -> Vec<u8> {
    let Enclosed {
        log,
        runtime,
        results,
    } = enclosed;
    let sections = [cookie, offer, evidence, log, runtime, results];
    let mut out = Vec::with_capacity(sections.iter().map(|section| section.len()).sum::<usize>() + 64);
    for section in sections {
        push(&mut out, section);
    }
    out
}

/// Adds the MAC section.
pub fn finish(mut message: Vec<u8>, mac: &[u8]) -> Vec<u8> {
    push(&mut message, mac);
    message
}

fn push(out: &mut Vec<u8>, section: &[u8]) {
    out.extend(u32::try_from(section.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(section);
}

/// Takes a message apart as it arrives: feed chunks, take sections as they complete.
#[derive(Debug)]
pub struct Splitter {
    buffer: Vec<u8>,
    section: usize,
    limits: [usize; SECTIONS],
}

impl Default for Splitter {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            section: 0,
            limits: LIMITS,
        }
    }
}

/// The number of the section with the list of what was measured at run time.
pub const RUNTIME: usize = 4;

impl Splitter {
    /// Feeds the next bytes. More than the present section can hold is refused at once.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), FrameError> {
        self.buffer.extend_from_slice(chunk);
        match (self.section, self.length()?) {
            (SECTIONS, _) if !self.buffer.is_empty() => Err(FrameError::Trailing),
            _ => Ok(()),
        }
    }

    /// Accepts no more than this of a section that is still to come.
    pub fn limit(&mut self, section: usize, limit: usize) {
        if let Some(place) = self.limits.get_mut(section) {
            *place = limit;
        }
    }

    /// The next section if it has arrived whole.
    pub fn next_section(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some(length) = self.length()? else {
            return Ok(None);
        };
        let Some(section) = self.buffer.get(4..4 + length).map(<[u8]>::to_vec) else {
            return Ok(None);
        };
        if self.section == SECTIONS - 1 && ![0, MAC_LEN].contains(&length) {
            return Err(FrameError::Mac);
        }
        self.buffer.drain(..4 + length);
        self.section += 1;
        if self.section == SECTIONS && !self.buffer.is_empty() {
            return Err(FrameError::Trailing);
        }
        Ok(Some(section))
    }

    /// Fails unless the message ended where it should.
    pub fn end(&self) -> Result<(), FrameError> {
        if self.section == SECTIONS && self.buffer.is_empty() {
            Ok(())
        } else {
            Err(FrameError::Truncated(self.section))
        }
    }

    /// The length of the present section, once it is known.
    fn length(&self) -> Result<Option<usize>, FrameError> {
        let Some(limit) = self.limits.get(self.section).copied() else {
            return Ok(None);
        };
        let Some(length) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > limit {
            return Err(FrameError::Oversized {
                section: self.section,
                length,
                limit,
            });
        }
        Ok(Some(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENCLOSED: Enclosed<'_> = Enclosed {
        log: b"log",
        runtime: b"list",
        results: b"results",
    };

    #[test]
    fn sections_come_out_however_the_bytes_arrive() {
        let message = finish(encode(b"cookie", b"offer", b"", ENCLOSED), &[7; 32]);
        for size in [1, 3, 1000] {
            let mut splitter = Splitter::default();
            let mut sections = Vec::new();
            for chunk in message.chunks(size) {
                splitter.feed(chunk).unwrap();
                while let Some(section) = splitter.next_section().unwrap() {
                    sections.push(section);
                }
            }
            splitter.end().unwrap();
            assert_eq!(
                sections,
                [
                    &b"cookie"[..],
                    b"offer",
                    b"",
                    b"log",
                    b"list",
                    b"results",
                    &[7; 32]
                ]
            );
        }
    }

    #[test]
    fn oversized_truncated_and_trailing_messages_are_refused() {
        let mut splitter = Splitter::default();
        let length = u32::try_from(MAX_COOKIE + 1).unwrap().to_be_bytes();
        assert!(matches!(
            splitter.feed(&length),
            Err(FrameError::Oversized { section: 0, .. })
        ));
        let message = finish(encode(b"c", b"o", b"e", ENCLOSED), &[]);
        let mut splitter = Splitter::default();
        splitter.feed(&message[..7]).unwrap();
        splitter.next_section().unwrap().unwrap();
        assert_eq!(splitter.end(), Err(FrameError::Truncated(1)));
        let mut splitter = Splitter::default();
        splitter.feed(&[message.clone(), vec![0]].concat()).unwrap();
        let last = (0..SECTIONS)
            .map(|_| splitter.next_section())
            .find(Result::is_err);
        assert_eq!(last, Some(Err(FrameError::Trailing)));
        let mut splitter = Splitter::default();
        splitter
            .feed(&finish(encode(b"c", b"o", b"e", ENCLOSED), &[1; 5]))
            .unwrap();
        let last = (0..SECTIONS)
            .map(|_| splitter.next_section())
            .find(Result::is_err);
        assert_eq!(last, Some(Err(FrameError::Mac)));
    }
}
