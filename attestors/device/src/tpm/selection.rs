//! Register selections between the wire and the library.

use touchmark_api::device::FaultKind;
use touchmark_crypto::HashAlg;
use touchmark_rats::PcrSelection;
use tss_esapi::{
    interface_types::algorithm::HashingAlgorithm,
    structures::{PcrSelectionList, PcrSelectionListBuilder, PcrSlot},
};

use super::Failure;
use crate::fault::{Outcome, fault};

/// The wire form, checked; `None` for no registers.
pub(crate) fn from_wire(wire: &[(u16, Vec<u8>)]) -> Outcome<Option<PcrSelection>> {
    if wire.is_empty() {
        return Ok(None);
    }
    PcrSelection::from_wire(wire)
        .map(Some)
        .ok_or_else(|| fault(FaultKind::Refused, "unknown bank or register"))
}

/// The library's form.
pub(crate) fn to_tss(selection: &PcrSelection) -> Result<PcrSelectionList, Failure> {
    let mut builder = PcrSelectionListBuilder::new();
    for bank in &selection.0 {
        let slots: Result<Vec<PcrSlot>, _> = bank
            .indices
            .iter()
            .map(|index| PcrSlot::try_from(1_u32 << index))
            .collect();
        let slots = slots.map_err(|error| Failure::tss("registers", error))?;
        builder = builder.with_selection(hash(bank.bank), &slots);
    }
    builder.build().map_err(|error| Failure::tss("registers", error))
}

/// The library's name of a hash.
pub(crate) fn hash(alg: HashAlg) -> HashingAlgorithm {
    match alg {
        HashAlg::Sha1 => HashingAlgorithm::Sha1,
        HashAlg::Sha256 => HashingAlgorithm::Sha256,
        HashAlg::Sha384 => HashingAlgorithm::Sha384,
        HashAlg::Sha512 => HashingAlgorithm::Sha512,
    }
}

/// TPML_PCR_SELECTION as commands carry it: three bytes of bits per bank.
pub(crate) fn marshal(selection: &PcrSelection) -> Vec<u8> {
    let wire = selection.to_wire();
    let mut out = u32::try_from(wire.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes()
        .to_vec();
    for (alg, indices) in wire {
        let bits = indices.iter().fold(0_u32, |bits, index| bits | 1 << index);
        out.extend(alg.to_be_bytes());
        out.push(3);
        out.extend(bits.to_le_bytes().iter().take(3));
    }
    out
}

/// Reads what [`marshal`] writes.
pub(crate) fn unmarshal(bytes: &[u8]) -> Option<PcrSelection> {
    let (count, mut rest) = bytes.split_at_checked(4)?;
    let count = u32::from_be_bytes(count.try_into().ok()?);
    let mut wire = Vec::new();
    while let [high, low, 3, a, b, c, ..] = *rest {
        let bits = u32::from_le_bytes([a, b, c, 0]);
        let indices = (0..24_u8).filter(|index| bits >> index & 1 == 1).collect();
        wire.push((u16::from_be_bytes([high, low]), indices));
        rest = rest.get(6..)?;
    }
    let whole = rest.is_empty() && usize::try_from(count).ok()? == wire.len();
    whole.then(|| PcrSelection::from_wire(&wire))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_read_back() {
        for selection in [
            PcrSelection::boot(),
            PcrSelection::sha256([23]),
            PcrSelection(Vec::new()),
        ] {
            assert_eq!(unmarshal(&marshal(&selection)), Some(selection));
        }
        assert_eq!(unmarshal(&[0, 0, 0, 1]), None);
    }
}
