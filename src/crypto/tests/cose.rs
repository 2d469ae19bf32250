//! Messages in COSE as another implementation writes them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::LazyLock;

use coset::{CoseSign1, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable, iana};
use proptest::prelude::*;
use touchmark_crypto::{
    Purpose, Signer, SigningAlg, SoftwareKey,
    cose::{ContentType, CoseError, CoseMessage},
    jose::VerifyingKey,
};

static KEY: LazyLock<SoftwareKey> = LazyLock::new(|| SoftwareKey::generate(SigningAlg::Es256).unwrap());

fn key() -> VerifyingKey {
    VerifyingKey::new(KEY.public_key().clone()).unwrap()
}

fn signed(input: &[u8]) -> Vec<u8> {
    KEY.sign(Purpose::AttestationResult, input).unwrap()
}

/// A message with this payload, or for it.
fn message(payload: &[u8], aad: &[u8], media_type: &str, attached: bool) -> CoseSign1 {
    let header = HeaderBuilder::new()
        .algorithm(iana::Algorithm::ES256)
        .content_type(media_type.to_owned())
        .build();
    let builder = CoseSign1Builder::new().protected(header);
    if attached {
        builder
            .payload(payload.to_vec())
            .create_signature(aad, signed)
            .build()
    } else {
        builder.create_detached_signature(payload, aad, signed).build()
    }
}

proptest! {
    #[test]
    fn what_was_signed_is_read_and_nothing_else_is_given_out(
        payload in prop::collection::vec(any::<u8>(), 0..300),
        aad in prop::collection::vec(any::<u8>(), 0..40),
        media_type in "application/[a-z]{1,20}\\+cbor",
        attached: bool,
    ) {
        let bytes = message(&payload, &aad, &media_type, attached).to_tagged_vec().unwrap();
        let read = CoseMessage::parse(&bytes).unwrap();
        prop_assert_eq!(read.content_type(), Some(&ContentType::Media(media_type)));
        let detached = (!attached).then_some(payload.as_slice());
        prop_assert_eq!(read.verify(&key(), &aad, detached), Ok(payload.as_slice()));
        let other = [&aad[..], b"x"].concat();
        prop_assert_eq!(read.verify(&key(), &other, detached), Err(CoseError::SignatureInvalid));
        if !attached {
            prop_assert_eq!(read.verify(&key(), &aad, None), Err(CoseError::PayloadMissing));
        }
    }

    #[test]
    fn what_is_cut_short_is_not(payload in prop::collection::vec(any::<u8>(), 0..60), at: prop::sample::Index) {
        let bytes = message(&payload, &[], "application/x+cbor", true).to_tagged_vec().unwrap();
        prop_assert!(CoseMessage::parse(&bytes[..at.index(bytes.len())]).is_err());
    }
}

#[test]
fn a_second_payload_that_the_signature_does_not_cover_is_refused() {
    let bytes = message(b"signed", &[], "application/x+cbor", true)
        .to_tagged_vec()
        .unwrap();
    let read = CoseMessage::parse(&bytes).unwrap();
    assert_eq!(read.verify(&key(), &[], Some(b"signed")), Ok(&b"signed"[..]));
    let other = read.verify(&key(), &[], Some(b"not signed"));
    assert!(matches!(other, Err(CoseError::Malformed(_))), "{other:?}");
}

#[test]
fn a_payload_is_bytes_or_nil_and_nothing_that_decoders_take_for_nil() {
    let bytes = message(b"signed", &[], "application/x+cbor", false)
        .to_tagged_vec()
        .unwrap();
    CoseMessage::parse(&bytes).unwrap();
    // nil stands before the signature: two bytes of head, then 64.
    let nil = bytes.len() - 64 - 2 - 1;
    assert_eq!(bytes[nil], 0xf6);
    for (value, what) in [(0xf7, "undefined"), (0xf4, "false"), (0x60, "text")] {
        let mut other = bytes.clone();
        other[nil] = value;
        let read = CoseMessage::parse(&other);
        assert!(matches!(read, Err(CoseError::Malformed(_))), "{what}");
    }
}
