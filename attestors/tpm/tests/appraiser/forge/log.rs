//! TCG2 crypto-agile event logs, written event by event, and what they lead to.

use super::write::{SHA1, SHA256, digest};

pub(crate) const NO_ACTION: u32 = 0x0000_0003;
pub(crate) const SEPARATOR: u32 = 0x0000_0004;
pub(crate) const CRTM_VERSION: u32 = 0x0000_0008;
pub(crate) const IPL: u32 = 0x0000_000d;
pub(crate) const VARIABLE: u32 = 0x8000_0001;
pub(crate) const APPLICATION: u32 = 0x8000_0003;
pub(crate) const ACTION: u32 = 0x8000_0007;
pub(crate) const AUTHORITY: u32 = 0x8000_00e0;

/// The digests of an event, each with its TPM_ALG_ID.
pub(crate) type Digests = Vec<(u16, Vec<u8>)>;

/// TCG_PCR_EVENT2 before it is written.
#[derive(Clone)]
pub(crate) struct Event {
    pub(crate) pcr: u32,
    pub(crate) kind: u32,
    pub(crate) digests: Digests,
    pub(crate) data: Vec<u8>,
}

impl Event {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = self.pcr.to_le_bytes().to_vec();
        out.extend(self.kind.to_le_bytes());
        out.extend(u32::try_from(self.digests.len()).unwrap().to_le_bytes());
        for (alg, digest) in &self.digests {
            out.extend(alg.to_le_bytes());
            out.extend(digest);
        }
        out.extend(u32::try_from(self.data.len()).unwrap().to_le_bytes());
        out.extend(&self.data);
        out
    }
}

/// A log before it is written.
#[derive(Clone)]
pub(crate) struct Log {
    /// Algorithms and digest sizes of the header.
    pub(crate) algorithms: Vec<(u16, u16)>,
    pub(crate) events: Vec<Event>,
}

impl Log {
    /// A log of the SHA-1 and the SHA-256 bank, as firmware writes them, without events.
    pub(crate) fn empty() -> Self {
        Self {
            algorithms: vec![(SHA1, 20), (SHA256, 32)],
            events: Vec::new(),
        }
    }

    /// An ordinary boot of registers 0 to 9; nothing is measured into 3 and 6 but their separators.
    pub(crate) fn boot() -> Self {
        let mut log = Self::empty();
        log.measure(0, CRTM_VERSION, &utf16("firmware 1.0\0"));
        log.measure(1, 0x0000_000a, b"setup");
        log.measure(7, VARIABLE, &variable("SecureBoot", &[1]));
        for pcr in 0..8 {
            log.measure(pcr, SEPARATOR, &[0; 4]);
        }
        let certificate = [&[7; 16][..], b"0 certificate"].concat();
        log.measure(7, AUTHORITY, &variable("db", &certificate));
        log.image(4, APPLICATION, b"boot loader", &[0; 32]);
        log.measure(5, ACTION, b"Exit Boot Services Invocation");
        log.image(8, IPL, b"command line", b"grub_cmd: linux\0");
        log.image(9, IPL, b"kernel", b"/vmlinuz\0");
        log
    }

    /// Adds an event whose digest is that of its data.
    pub(crate) fn measure(&mut self, pcr: u32, kind: u32, data: &[u8]) {
        self.image(pcr, kind, data, data);
    }

    /// Adds an event whose digest is that of something else than its data.
    pub(crate) fn image(&mut self, pcr: u32, kind: u32, measured: &[u8], data: &[u8]) {
        let digests = self.algorithms.iter();
        self.events.push(Event {
            pcr,
            kind,
            digests: digests
                .map(|(alg, _)| (*alg, digest(*alg, &[measured])))
                .collect(),
            data: data.to_vec(),
        });
    }

    /// Adds the event that tells from which locality the TPM was started.
    pub(crate) fn startup_locality(&mut self, locality: u8) {
        let digests = self
            .algorithms
            .iter()
            .map(|(alg, size)| (*alg, vec![0; usize::from(*size)]));
        let event = Event {
            pcr: 0,
            kind: NO_ACTION,
            digests: digests.collect(),
            data: [&b"StartupLocality\0"[..], &[locality]].concat(),
        };
        self.events.insert(0, event);
    }

    /// The first event's position among those of a register.
    pub(crate) fn position(&self, pcr: u32) -> usize {
        self.events.iter().position(|event| event.pcr == pcr).unwrap()
    }

    /// TCG_EfiSpecIDEvent.
    pub(crate) fn spec_id(&self) -> Vec<u8> {
        let mut out = b"Spec ID Event03\0".to_vec();
        out.extend([0, 0, 0, 0, 0, 2, 0, 2]);
        out.extend(u32::try_from(self.algorithms.len()).unwrap().to_le_bytes());
        for (alg, size) in &self.algorithms {
            out.extend(alg.to_le_bytes());
            out.extend(size.to_le_bytes());
        }
        out.push(0);
        out
    }

    /// The whole log.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = header(0, NO_ACTION, &self.spec_id());
        for event in &self.events {
            out.extend(event.bytes());
        }
        out
    }

    /// What a register of a bank holds after the first `limit` of its events, from `start`.
    pub(crate) fn replay(&self, bank: u16, pcr: u8, start: Vec<u8>, limit: usize) -> Vec<u8> {
        let events = self
            .events
            .iter()
            .filter(|event| event.pcr == u32::from(pcr) && event.kind != NO_ACTION);
        events.take(limit).fold(start, |value, event| {
            let of_bank = event.digests.iter().find(|(alg, _)| *alg == bank).unwrap();
            digest(bank, &[&value, &of_bank.1])
        })
    }
}

/// The first event of a log: TCG_PCR_EVENT in its SHA-1 form.
pub(crate) fn header(pcr: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut out = pcr.to_le_bytes().to_vec();
    out.extend(kind.to_le_bytes());
    out.extend([0; 20]);
    out.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    out.extend(data);
    out
}

/// UEFI_VARIABLE_DATA.
pub(crate) fn variable(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = vec![0x8b; 16];
    out.extend(u64::try_from(name.len()).unwrap().to_le_bytes());
    out.extend(u64::try_from(value.len()).unwrap().to_le_bytes());
    out.extend(utf16(name));
    out.extend(value);
    out
}

pub(crate) fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}
