//! TPMS_ATTEST (part 2, 10.12): what a TPM signs about itself and its keys.

use touchmark_rats::{BootCounters, PcrBank, PcrSelection};

use crate::{
    public_area::hash_alg,
    reader::{Reader, Truncated},
};

/// TPM_GENERATED_VALUE: a restricted key refuses to sign outside data that begins like this.
pub(crate) const MAGIC: u32 = 0xff54_4347;
/// TPM_ST_ATTEST_QUOTE.
pub(crate) const TYPE_QUOTE: u16 = 0x8018;
/// TPM_ST_ATTEST_CERTIFY.
pub(crate) const TYPE_CERTIFY: u16 = 0x8017;

/// Largest TPM2B_DATA: as long as a TPMT_HA of SHA-512.
const MAX_EXTRA_DATA: usize = 66;

/// An attestation, read but not believed.
pub(crate) struct Attest {
    pub(crate) magic: u32,
    pub(crate) kind: u16,
    /// Whose signature it says it is: the key's Name, qualified by what is above it.
    pub(crate) qualified_signer: Vec<u8>,
    pub(crate) extra_data: Vec<u8>,
    pub(crate) counters: BootCounters,
    pub(crate) firmware: u64,
    pub(crate) body: Body,
}

pub(crate) enum Body {
    Quote {
        selection: Option<PcrSelection>,
        pcr_digest: Vec<u8>,
        /// Whether the selection names a bank twice.
        listed_twice: bool,
    },
    Certify {
        name: Vec<u8>,
    },
    Other,
}

impl Attest {
    /// Reads a TPMS_ATTEST with nothing after it. The body is read where it is of the type that is asked for.
    pub(crate) fn parse(bytes: &[u8], asked_for: u16) -> Result<Self, Truncated> {
        let mut reader = Reader::new(bytes);
        let magic = reader.u32()?;
        let kind = reader.u16()?;
        let qualified_signer = reader.sized()?.to_vec();
        let extra_data = reader.sized()?.to_vec();
        if extra_data.len() > MAX_EXTRA_DATA {
            return Err(Truncated);
        }
        let clock = reader.u64()?;
        let reset = reader.u32()?;
        let restart = reader.u32()?;
        let safe = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Truncated),
        };
        let firmware = reader.u64()?;
        let body = match kind {
            _ if kind != asked_for => {
                reader.rest();
                Body::Other
            }
            TYPE_QUOTE => {
                let (selection, listed_twice) = selection(&mut reader)?;
                Body::Quote {
                    selection,
                    pcr_digest: reader.sized()?.to_vec(),
                    listed_twice,
                }
            }
            TYPE_CERTIFY => {
                let name = reader.sized()?.to_vec();
                let _qualified_name = reader.sized()?;
                Body::Certify { name }
            }
            _ => {
                reader.rest();
                Body::Other
            }
        };
        reader.end()?;
        let counters = BootCounters {
            reset,
            restart,
            clock,
            safe,
        };
        Ok(Self {
            magic,
            kind,
            qualified_signer,
            extra_data,
            counters,
            firmware,
            body,
        })
    }
}

/// TPML_PCR_SELECTION, and whether it names a bank twice. `None` for one that does, or names an unknown bank: it cannot equal what was
/// asked for.
fn selection(reader: &mut Reader<'_>) -> Result<(Option<PcrSelection>, bool), Truncated> {
    let count = reader.u32()?;
    if count > 16 {
        return Err(Truncated);
    }
    let mut banks: Vec<PcrBank> = Vec::new();
    let mut known = true;
    let mut listed_twice = false;
    for _ in 0..count {
        let bank = hash_alg(reader.u16()?);
        let size = reader.u8()?;
        if size > 32 {
            return Err(Truncated);
        }
        let bits = reader.take(size.into())?;
        // No register has a number that a byte does not hold.
        known &= bits.iter().skip(32).all(|byte| *byte == 0);
        let indices: Vec<u8> = (0..=u8::MAX)
            .take(bits.len() * 8)
            .filter(|index| {
                bits.get(usize::from(index / 8))
                    .is_some_and(|byte| byte >> (index % 8) & 1 == 1)
            })
            .collect();
        match bank {
            Some(bank) if !banks.iter().any(|other| other.bank == bank) => {
                banks.push(PcrBank { bank, indices });
            }
            Some(_) => listed_twice = true,
            None => known = false,
        }
    }
    Ok((
        (known && !listed_twice).then_some(PcrSelection(banks)),
        listed_twice,
    ))
}

/// TPML_PCR_SELECTION as commands carry it: three bytes of bits per bank.
pub(crate) fn marshal_selection(selection: &PcrSelection) -> Vec<u8> {
    let count = u32::try_from(selection.0.len()).unwrap_or(u32::MAX);
    let mut out = count.to_be_bytes().to_vec();
    for bank in &selection.0 {
        out.extend(crate::public_area::tcg_alg(bank.bank).to_be_bytes());
        let mut bits = [0_u8; 3];
        for index in &bank.indices {
            if let Some(byte) = bits.get_mut(usize::from(index / 8)) {
                *byte |= 1 << (index % 8);
            }
        }
        out.push(3);
        out.extend(bits);
    }
    out
}
