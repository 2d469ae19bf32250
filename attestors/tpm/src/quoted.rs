//! What a quote is over: its digest, and the values of registers that came along with it.

use std::collections::BTreeMap;

use touchmark_crypto::{HashAlg, ct_eq};
use touchmark_rats::{Check, Expected, PcrSelection, RUNTIME_REGISTER, Reason, tpm::TpmPcrValue};

use crate::{attestation::malformed, ima::Followed, public_area::hash_alg};

/// A quote that passed, and what is needed to hold the log against it.
pub(crate) struct Quoted {
    pub(crate) digest: Vec<u8>,
    pub(crate) hash: HashAlg,
    pub(crate) values: BTreeMap<(HashAlg, u8), Vec<u8>>,
}

impl Quoted {
    /// The digest over the quoted registers that keys are sealed to, in another hash: what a policy of a key with that name algorithm
    /// holds. Where it is not the quote's own digest, the register values are needed.
    pub(crate) fn digest_in(&self, hash: HashAlg, expected: &Expected<'_>) -> Option<Vec<u8>> {
        if hash == self.hash && !expected.selection.covers_runtime() {
            return Some(self.digest.clone());
        }
        let sealed = expected.selection.without_runtime();
        let values: Option<Vec<&[u8]>> = registers(&sealed)
            .map(|register| self.values.get(&register).map(Vec::as_slice))
            .collect();
        Some(hash.digest(&values?))
    }
}

/// Registers in the order in which a quote's digest has them.
pub(crate) fn registers(selection: &PcrSelection) -> impl Iterator<Item = (HashAlg, u8)> {
    selection
        .0
        .iter()
        .flat_map(|bank| bank.indices.iter().map(|index| (bank.bank, *index)))
}

/// The values that came along, believed if their digest is the quoted one. None came along: nothing to check. What the register of the
/// running system holds is not sent: its list has to lead there.
pub(crate) fn check_values(
    values: &[TpmPcrValue],
    pcr_digest: &[u8],
    hash: HashAlg,
    runtime: Option<&mut Followed<'_>>,
    expected: &Expected<'_>,
) -> Result<BTreeMap<(HashAlg, u8), Vec<u8>>, Check> {
    const NAME: &str = "tpm.quote.pcr_digest";
    if values.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut by_register = BTreeMap::new();
    for value in values {
        let bank = hash_alg(value.bank).filter(|bank| bank.len() == value.value.len());
        let bank = bank.ok_or_else(|| malformed(NAME, "value of an unknown bank".into()))?;
        by_register.insert((bank, value.index), value.value.to_vec());
    }
    let sealed = expected.selection.without_runtime();
    let complete = registers(&sealed).all(|register| by_register.contains_key(&register))
        && values.len() == by_register.len()
        && by_register.len() == registers(&sealed).count();
    let is_quoted = |running: &BTreeMap<HashAlg, Vec<u8>>| {
        let parts: Option<Vec<&[u8]>> = registers(expected.selection)
            .map(|(bank, index)| match index {
                RUNTIME_REGISTER => running.get(&bank).map(Vec::as_slice),
                _ => by_register.get(&(bank, index)).map(Vec::as_slice),
            })
            .collect();
        parts.is_some_and(|parts| ct_eq(&hash.digest(&parts), pcr_digest))
    };
    let explained = match runtime {
        Some(runtime) if complete => {
            if !runtime.find(is_quoted) {
                return Err(runtime.unexplained());
            }
            true
        }
        _ => complete && is_quoted(&BTreeMap::new()),
    };
    if explained {
        return Ok(by_register);
    }
    Err(Check::failed(
        NAME,
        Reason::PcrDigestMismatch,
        "the values of exactly the quoted registers",
        "values whose digest is not the quoted one",
        "a register moved between reading and quoting: try again",
    ))
}
