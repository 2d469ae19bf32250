//! Any bytes as a reference integrity manifest, bare or signed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use touchmark_crypto::{Signer, SigningAlg, SoftwareKey, cbor::shape, cose::CoseMessage};
use touchmark_rats::corim::{Tag, read_comid, read_corim};

fuzz_target!(|bytes: &[u8]| {
    for triples in [
        read_comid(bytes).map(|comid| comid.references).ok(),
        read_corim(bytes).ok().map(|corim| {
            let comids = corim.tags.into_iter().filter_map(|tag| match tag {
                Tag::Comid(comid) => Some(comid.references),
                _ => None,
            });
            comids.flatten().collect()
        }),
    ]
    .into_iter()
    .flatten()
    {
        for measurement in triples.iter().flat_map(|triple| &triple.measurements) {
            assert!(measurement.digests.iter().all(|(hash, digest)| hash.len() == digest.len()));
        }
        assert!(shape(bytes).is_ok_and(|shape| !shape.duplicate_key));
    }
    if let Ok(message) = CoseMessage::parse(bytes) {
        // Nobody holds this key.
        let key = SoftwareKey::generate(SigningAlg::Es256).unwrap();
        assert!(message.verify_by(key.public_key(), &[], Some(b"detached")).is_err());
    }
});
