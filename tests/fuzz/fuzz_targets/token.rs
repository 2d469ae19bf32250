//! Header fields of a request, as a stranger sends them: a token or a proof that nobody signed is never believed.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use touchmark_crypto::{Signer, SigningAlg, SoftwareKey};
use touchmark_identity::TrustDomain;
use touchmark_wimse::{
    Issuer, Issuers, bundle, wit,
    wpt::{Carried, Profile},
};

static ISSUERS: LazyLock<Issuers> = LazyLock::new(|| {
    let key = SoftwareKey::generate(SigningAlg::Es256).expect("a key");
    let jwks = bundle::to_jwks(&[], std::slice::from_ref(key.public_key()), 1).expect("JWKS");
    let mut issuers = Issuers::default();
    let domain = TrustDomain::parse_origin("spiffe://example.org").expect("a domain");
    issuers.insert(domain, Issuer::from_jwks(jwks.as_object().expect("an object")));
    issuers
});

fuzz_target!(|fields: Vec<(String, Vec<u8>)>| {
    let fields = || fields.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    for profile in [Profile::Wpt02, Profile::Wpt01] {
        if let Ok(carried) = Carried::from_fields(fields(), profile) {
            assert!(wit::verify(carried.wit, &ISSUERS, 1_800_000_000).is_err());
        }
    }
});
