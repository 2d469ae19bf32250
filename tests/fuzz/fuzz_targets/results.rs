//! Any bytes as a claims set, an attestation result, a wrapper.

#![no_main]

use libfuzzer_sys::fuzz_target;
use touchmark_rats::{
    cmw::Cmw,
    ear::{AttestationResult, Profile, Tier},
    eat::{ClaimsSet, check_document},
};

fuzz_target!(|bytes: &[u8]| {
    let _ = check_document(bytes);
    for claims in [ClaimsSet::from_json(bytes), ClaimsSet::from_cbor(bytes)].into_iter().flatten() {
        for profile in [Profile::Ear03, Profile::Veraison, Profile::Trustee] {
            let Ok(result) = AttestationResult::read(&claims, profile) else {
                continue;
            };
            assert!(!result.submodules.is_empty());
            for submodule in &result.submodules {
                let worst = submodule.vector.iter().map(|(_, value)| Tier::of(*value)).max();
                // Nothing claims to be better than the worst that it sums up.
                assert!(submodule.status == Tier::None || submodule.status >= worst.unwrap_or(Tier::None));
            }
            assert!(!result.is_affirming() || result.submodules.iter().all(|one| one.status == Tier::Affirming));
        }
    }
    if let Ok(Cmw::Collection { members, .. }) = Cmw::parse(bytes) {
        assert!(!members.is_empty() && members.len() <= 32);
    }
});
