//! Properties over arbitrary bytes and over good messages with some bytes altered.

use proptest::{collection::vec, prelude::*, sample::Index};
use touchmark_attestor_tpm::{BootLog, PublicArea, TpmAppraiser};
use touchmark_rats::{Appraiser, MeasuredEvent, cbor};

use crate::forge::{Case, Tpm, log::Log};

/// A change of some bytes: positions with what to write there, and a length to cut to.
fn changes() -> impl Strategy<Value = (Vec<(Index, u8)>, Option<Index>)> {
    (
        vec((any::<Index>(), any::<u8>()), 1..6),
        proptest::option::weighted(0.2, any::<Index>()),
    )
}

fn change(bytes: &[u8], (writes, cut): &(Vec<(Index, u8)>, Option<Index>)) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for (at, byte) in writes {
        let at = at.index(out.len());
        out[at] = *byte;
    }
    if let Some(cut) = cut {
        out.truncate(cut.index(out.len()));
    }
    out
}

fn digests(events: &[MeasuredEvent]) -> Vec<(u8, Vec<u8>)> {
    let mut out: Vec<_> = events
        .iter()
        .map(|event| (event.pcr, event.digest.clone()))
        .collect();
    out.sort();
    out
}

/// A public area that is accepted reads back as itself: same bytes, same Name.
fn stable(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(area) = PublicArea::parse(bytes) {
        prop_assert_eq!(&area.bytes, bytes);
        let again = PublicArea::parse(&area.bytes).unwrap();
        prop_assert_eq!(again.name(), area.name());
        prop_assert_eq!(area.name().len(), 2 + area.name_alg.len());
        prop_assert_eq!(&area.name()[2..], area.name_alg.digest(&[bytes]));
        prop_assert_eq!(again, area);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..600)) {
        let appraiser = TpmAppraiser::new(Vec::new());
        stable(&bytes)?;
        prop_assert!(BootLog::parse(&bytes).is_err());
        prop_assert!(appraiser.open(&bytes).is_err());
        let _ = appraiser.key_name(&bytes);
        prop_assert!(Case::good().appraise_bytes(&bytes).failure().is_some());
    }

    #[test]
    fn p06_an_accepted_public_area_has_one_stable_name(changes in changes(), which in 0..3) {
        let tpm = Tpm::new();
        let area = match which {
            0 => &tpm.ak_area,
            1 => &tpm.ek_area,
            _ => &Case::good().keys[0].area,
        };
        let changed = change(&area.bytes(), &changes);
        stable(&changed)?;
        if changed != area.bytes() && let Ok(other) = PublicArea::parse(&changed) {
            prop_assert_ne!(other.name(), area.name());
        }
    }

    #[test]
    fn p03_a_changed_log_is_read_or_refused_and_events_never_outnumber_its_bytes(changes in changes()) {
        let changed = change(&Log::boot().bytes(), &changes);
        if let Ok(log) = BootLog::parse(&changed) {
            prop_assert!(log.len() * 16 <= changed.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn p01_a_changed_log_passes_only_with_the_same_measurements(changes in changes(), values in any::<bool>()) {
        let mut case = Case::good();
        if !values {
            case.values.clear();
        }
        case.log = change(&case.log, &changes);
        let appraisal = case.appraise();
        if appraisal.failure().is_none() {
            prop_assert_eq!(digests(&appraisal.events), digests(&Case::good().appraise().events));
        }
    }

    #[test]
    fn changed_evidence_passes_only_as_what_was_signed(changes in changes()) {
        let case = Case::good();
        let good = case.evidence();
        let changed = change(&cbor::encode(&good), &changes);
        let appraisal = case.appraise_bytes(&changed);
        if appraisal.failure().is_none() {
            let read: touchmark_rats::tpm::TpmEvidence = cbor::decode(&changed, usize::MAX).unwrap();
            prop_assert_eq!(read.quote.unwrap().attest, good.quote.unwrap().attest);
            prop_assert_eq!(
                &read.certifications[0].certify.attest,
                &good.certifications[0].certify.attest
            );
            prop_assert_eq!(appraisal.keys.len(), 1);
        }
    }

    #[test]
    fn a_changed_opening_is_refused_or_names_what_it_holds(changes in changes()) {
        let tpm = Tpm::new();
        let changed = change(&cbor::encode(&tpm.opening(None)), &changes);
        if let Ok(opening) = TpmAppraiser::new(Vec::new()).open(&changed) {
            let area = PublicArea::parse(&opening.attestation_public).unwrap();
            prop_assert_eq!(area.name(), opening.attestation_name);
            for candidate in &opening.candidates {
                let area = PublicArea::parse(&candidate.public).unwrap();
                prop_assert_eq!(&area.name(), &candidate.name);
                prop_assert_eq!(area.key.digest(), candidate.digest);
            }
        }
    }
}
