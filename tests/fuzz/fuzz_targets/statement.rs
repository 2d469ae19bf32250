//! A byte that chooses a module and a part, then bytes in place of that part of a real module's statement: only what that module signed
//! passes.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use touchmark_attestor_hsm::{Format, Statement, judge};
use touchmark_crypto::x509::DeviceAnchors;

/// 2024-09-01.
const THEN: u64 = 1_725_148_800;

macro_rules! recorded {
    ($name:literal) => {
        include_bytes!(concat!("../../vectors/hsm-attestation/", $name)).as_slice()
    };
}

/// A recorded statement with what vouches for it.
struct Recorded {
    format: Format,
    bytes: &'static [u8],
    certificates: Vec<Vec<u8>>,
    makers: DeviceAnchors,
    owners: Option<DeviceAnchors>,
}

impl Recorded {
    fn new(
        format: Format,
        bytes: &'static [u8],
        certificates: &[&[u8]],
        maker: &[u8],
        owner: Option<&[u8]>,
    ) -> Self {
        let anchors = |root: &[u8]| DeviceAnchors::new([root]).expect("a root");
        Self {
            format,
            bytes,
            certificates: certificates.iter().map(|der| der.to_vec()).collect(),
            makers: anchors(maker),
            owners: owner.map(anchors),
        }
    }

    /// The key that a statement is about, if it is believed.
    fn judge(&self, bytes: &[u8], certificates: &[Vec<u8>]) -> Option<[u8; 32]> {
        let statement = Statement {
            format: self.format,
            bytes,
            certificates,
            makers: &self.makers,
            owners: self.owners.as_ref(),
        };
        judge(&statement, THEN).ok().map(|attested| attested.key.digest())
    }
}

static RECORDED: LazyLock<[(Recorded, [u8; 32]); 3]> = LazyLock::new(|| {
    [
        Recorded::new(
            Format::YubiHsm2,
            recorded!("yubihsm2-key-0x7e57/attestation.der"),
            &[recorded!("yubihsm2-key-0x7e57/issuer0.der"), recorded!("yubihsm2-key-0x7e57/issuer1.der")],
            recorded!("yubihsm2-key-0x7e57/root.der"),
            None,
        ),
        Recorded::new(
            Format::YubiKeyPiv,
            recorded!("yubikey-piv-28751259/attestation.der"),
            &[recorded!("yubikey-piv-28751259/issuer0.der")],
            recorded!("yubikey-piv-28751259/root.der"),
            None,
        ),
        Recorded::new(
            Format::Marvell,
            recorded!("gcp-cloudhsm-marvell/attestation.bin"),
            &[
                recorded!("gcp-cloudhsm-marvell/cert0.der"),
                recorded!("gcp-cloudhsm-marvell/cert1.der"),
                recorded!("gcp-cloudhsm-marvell/cert2.der"),
                recorded!("gcp-cloudhsm-marvell/cert3.der"),
            ],
            recorded!("gcp-cloudhsm-marvell/root1.der"),
            Some(recorded!("gcp-cloudhsm-marvell/root0.der")),
        ),
    ]
    .map(|recorded| {
        let key = recorded.judge(recorded.bytes, &recorded.certificates).expect("the recorded statement holds");
        (recorded, key)
    })
});

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else {
        return;
    };
    let (recorded, key) = &RECORDED[usize::from(*choice) % RECORDED.len()];
    let part = usize::from(*choice) / RECORDED.len();
    let believed = match part.checked_sub(1) {
        None => recorded.judge(bytes, &recorded.certificates),
        Some(number) => {
            let mut certificates = recorded.certificates.clone();
            let number = number % certificates.len();
            certificates[number] = bytes.to_vec();
            recorded.judge(recorded.bytes, &certificates)
        }
    };
    assert!(believed.is_none_or(|believed| believed == *key));
});
