//! What modules say of keys: recorded statements in whole and in pieces, and forged ones below a maker of our own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::path::PathBuf;

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256,
    RsaKeySize, SigningKey,
};
use time::OffsetDateTime;
use touchmark_attestor_hsm::{AttestedKey, Exportability, Format, Origin, Statement, judge};
use touchmark_crypto::x509::DeviceAnchors;
use touchmark_rats::{Check, Reason};

/// 2024-09-01.
const THEN: u64 = 1_725_148_800;

fn recorded(path: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/hsm-attestation");
    std::fs::read(folder.join(path)).unwrap()
}

/// A statement with what vouches for it.
struct Scene {
    format: Format,
    bytes: Vec<u8>,
    certificates: Vec<Vec<u8>>,
    makers: Vec<Vec<u8>>,
    owners: Option<Vec<Vec<u8>>>,
}

impl Scene {
    /// A recorded statement, `folder/file`, with what lies beside it.
    fn recorded(format: Format, statement: &str, makers: &[&str], certificates: &[&str]) -> Self {
        let (folder, _) = statement.split_once('/').unwrap();
        let of = |names: &[&str]| {
            let paths = names.iter().map(|name| format!("{folder}/{name}"));
            paths.map(|path| recorded(&path)).collect()
        };
        Self {
            format,
            bytes: recorded(statement),
            certificates: of(certificates),
            makers: of(makers),
            owners: None,
        }
    }

    fn yubihsm() -> Self {
        let statement = "yubihsm2-key-0x7e57/attestation.der";
        let certificates = ["issuer0.der", "issuer1.der"];
        Self::recorded(Format::YubiHsm2, statement, &["root.der"], &certificates)
    }

    fn piv() -> Self {
        let statement = "yubikey-piv-28751259/attestation.der";
        Self::recorded(Format::YubiKeyPiv, statement, &["root.der"], &["issuer0.der"])
    }

    fn marvell() -> Self {
        let statement = "gcp-cloudhsm-marvell/attestation.bin";
        let certificates = ["cert0.der", "cert1.der", "cert2.der", "cert3.der"];
        Self {
            owners: Some(vec![recorded("gcp-cloudhsm-marvell/root0.der")]),
            ..Self::recorded(Format::Marvell, statement, &["root1.der"], &certificates)
        }
    }

    fn judge(&self, bytes: &[u8]) -> Result<AttestedKey, Check> {
        let anchors = |ders: &[Vec<u8>]| DeviceAnchors::new(ders.iter().map(Vec::as_slice)).unwrap();
        let owners = self.owners.as_deref().map(anchors);
        let statement = Statement {
            format: self.format,
            bytes,
            certificates: &self.certificates,
            makers: &anchors(&self.makers),
            owners: owners.as_ref(),
        };
        judge(&statement, THEN)
    }

    fn reason(&self) -> Option<Reason> {
        self.judge(&self.bytes).err().and_then(|check| check.reason())
    }
}

#[test]
fn e17_recorded_statements_of_real_modules_say_where_their_keys_live() {
    for (scene, serial, firmware, fips) in [
        (Scene::yubihsm(), "31650425", Some("2.4.0"), None),
        (Scene::piv(), "28751259", Some("5.4.3"), Some(true)),
        (Scene::marvell(), "5.3G1953-ICM001225", None, Some(true)),
    ] {
        let attested = scene.judge(&scene.bytes).unwrap();
        assert_eq!(attested.serial.as_deref(), Some(serial));
        assert_eq!(attested.firmware.as_deref(), firmware);
        assert_eq!(attested.fips, fips);
        assert_eq!(attested.held().reason(), None, "{attested:?}");
        assert_eq!(attested.has_serial(serial).reason(), None);
        assert_eq!(attested.has_serial("1").reason(), Some(Reason::SerialMismatch));
        assert_eq!(Format::of(&scene.bytes), scene.format);
    }
}

#[test]
fn e17_any_single_bit_of_a_statement_that_is_another_is_refused() {
    for scene in [Scene::yubihsm(), Scene::piv(), Scene::marvell()] {
        for at in 0..scene.bytes.len() {
            let mut bytes = scene.bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            let refused = scene.judge(&bytes).unwrap_err();
            let reason = refused.reason().unwrap();
            let expected = match scene.format {
                Format::Marvell => [Reason::SignatureInvalid].as_slice(),
                // Names, dates and algorithms of a certificate are looked at before its signature is.
                _ => &[
                    Reason::PathInvalid,
                    Reason::Malformed,
                    Reason::CertExpired,
                    Reason::AlgNotAllowed,
                    Reason::WeakHash,
                ],
            };
            assert!(
                expected.contains(&reason),
                "{:?} byte {at}: {refused:?}",
                scene.format
            );
        }
    }
}

#[test]
fn p03_a_statement_that_was_cut_anywhere_is_refused() {
    for scene in [Scene::yubihsm(), Scene::piv(), Scene::marvell()] {
        for length in 0..scene.bytes.len() {
            let refused = scene.judge(&scene.bytes[..length]).unwrap_err();
            let reason = refused.reason().unwrap();
            let cut_signature = scene.format == Format::Marvell && length >= 256;
            let expected = if cut_signature {
                Reason::SignatureInvalid
            } else {
                Reason::Malformed
            };
            assert_eq!(reason, expected, "{:?} at {length}", scene.format);
        }
        let long = [scene.bytes.as_slice(), &[0]].concat();
        assert!(scene.judge(&long).is_err());
    }
}

#[test]
fn e17_a_statement_counts_below_its_makers_root_alone() {
    let mut scene = Scene::yubihsm();
    scene.makers = vec![recorded("yubihsm2-wrong-yubico-root/root.der")];
    assert_eq!(scene.reason(), Some(Reason::PathInvalid));
    scene.makers = Vec::new();
    assert_eq!(scene.reason(), Some(Reason::IssuerUnavailable));
    let mut forged = Scene::yubihsm();
    forged.bytes = recorded("yubihsm2-self-signed-copy-of-extensions/attestation.der");
    assert_eq!(forged.reason(), Some(Reason::PathInvalid));
    // The module's own certificate says nothing of a key.
    let mut device = Scene::yubihsm();
    device.bytes = recorded("yubihsm2-key-0x7e57/issuer0.der");
    assert_eq!(device.reason(), Some(Reason::ClaimMissing));
}

#[test]
fn e17_an_owners_chain_that_is_demanded_has_to_be_there() {
    let mut scene = Scene::marvell();
    scene.owners = Some(vec![recorded("yubihsm2-key-0x7e57/root.der")]);
    assert_eq!(scene.reason(), Some(Reason::OwnerChainMissing));
    scene.owners = None;
    assert_eq!(scene.reason(), None);
    // Without the partition's certificate nobody signed it.
    let mut unsigned = Scene::marvell();
    unsigned.certificates = vec![recorded("gcp-cloudhsm-marvell/cert1.der")];
    assert_eq!(unsigned.reason(), Some(Reason::SignatureInvalid));
    // The owner's chain is no maker's.
    let mut swapped = Scene::marvell();
    swapped.makers = vec![recorded("yubihsm2-key-0x7e57/root.der")];
    assert_eq!(swapped.reason(), Some(Reason::IssuerNotCa));
}

/// A maker of our own, with a device below it.
struct Maker {
    root: Vec<u8>,
    device: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

const ARC: [u64; 8] = [1, 3, 6, 1, 4, 1, 41482, 4];

fn extension(number: u64, value: &[u8]) -> CustomExtension {
    CustomExtension::from_oid_content(&[&ARC[..], &[number]].concat(), value.to_vec())
}

fn params(name: &str, extensions: Vec<CustomExtension>) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::from_unix_timestamp(1_500_000_000).unwrap();
    params.not_after = OffsetDateTime::from_unix_timestamp(3_000_000_000).unwrap();
    params.custom_extensions = extensions;
    params
}

fn authority(name: &str, extensions: Vec<CustomExtension>) -> CertificateParams {
    let mut params = params(name, extensions);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn serial_number(number: u8) -> CustomExtension {
    extension(2, &[2, 1, number])
}

impl Maker {
    fn new() -> Self {
        let (root_key, device_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root = authority("maker", Vec::new());
        let der = root.self_signed(&root_key).unwrap().der().to_vec();
        let root = Issuer::new(root, root_key);
        let of_device = authority("device", vec![extension(1, &[4, 3, 2, 4, 0]), serial_number(7)]);
        let device = of_device.signed_by(&device_key, &root).unwrap();
        Self {
            root: der,
            device: device.der().to_vec(),
            issuer: Issuer::new(of_device, device_key),
        }
    }

    fn scene(&self, extensions: Vec<CustomExtension>) -> Scene {
        let key = KeyPair::generate().unwrap();
        let bytes = params("key", extensions).signed_by(&key, &self.issuer).unwrap();
        Scene {
            format: Format::YubiHsm2,
            bytes: bytes.der().to_vec(),
            certificates: vec![self.device.clone()],
            makers: vec![self.root.clone()],
            owners: None,
        }
    }
}

/// What a YubiHSM 2 says of a key.
fn of_key(serial: u8, origin: u8, capabilities: u64) -> Vec<CustomExtension> {
    let capabilities = [&[3, 9, 0], &capabilities.to_be_bytes()[..]].concat();
    vec![
        extension(1, &[4, 3, 2, 4, 0]),
        serial_number(serial),
        extension(3, &[3, 2, 0, origin]),
        extension(4, &[3, 3, 0, 0, 1]),
        extension(5, &capabilities),
        extension(6, &[2, 2, 0x7e, 0x57]),
    ]
}

#[test]
fn e17_a_key_that_was_imported_unwrapped_or_is_exportable_is_never_held() {
    let maker = Maker::new();
    let sign = 0x80;
    for (origin, capabilities, from, export) in [
        (0x01, sign, Origin::Generated, Exportability::Never),
        (0x01, sign | 1 << 16, Origin::Generated, Exportability::Possible),
        (0x02, sign, Origin::Imported, Exportability::NotNow),
        (0x11, sign, Origin::Unwrapped, Exportability::NotNow),
        (0x12, sign, Origin::Unwrapped, Exportability::NotNow),
        (0x00, sign, Origin::Unknown, Exportability::NotNow),
        (0x03, sign, Origin::Unknown, Exportability::NotNow),
    ] {
        let scene = maker.scene(of_key(7, origin, capabilities));
        let attested = scene.judge(&scene.bytes).unwrap();
        assert_eq!(
            (attested.origin, attested.exportability),
            (from, export),
            "{origin:#x}"
        );
        let held = from == Origin::Generated && export == Exportability::Never;
        let expected = (!held).then_some(Reason::KeyNotHardware);
        assert_eq!(
            attested.held().reason(),
            expected,
            "{origin:#x} {capabilities:#x}"
        );
    }
}

#[test]
fn e17_a_device_speaks_for_itself_alone() {
    let maker = Maker::new();
    assert_eq!(
        maker.scene(of_key(8, 1, 0x80)).reason(),
        Some(Reason::SerialMismatch)
    );
    let missing = of_key(7, 1, 0x80).into_iter().skip(1).collect();
    assert_eq!(maker.scene(missing).reason(), Some(Reason::ClaimMissing));
    for wrong in [&[3, 2, 1, 0][..], &[3, 1, 0, 1], &[4, 1, 1], &[]] {
        let mut extensions = of_key(7, 1, 0x80);
        extensions[2] = extension(3, wrong);
        assert_eq!(
            maker.scene(extensions).reason(),
            Some(Reason::Malformed),
            "{wrong:?}"
        );
    }
}

/// A key as a LiquidSecurity module has it: attributes of its private part.
fn attributes(changed: &[(u32, Option<&[u8]>)]) -> Vec<(u32, Vec<u8>)> {
    let key = KeyPair::generate().unwrap();
    let point = rcgen::PublicKeyData::der_bytes(&key).to_vec();
    let mut out: Vec<(u32, Vec<u8>)> = vec![
        (0, vec![3]),
        (3, b"key\0\0".to_vec()),
        (0x100, vec![3]),
        (0x103, vec![1]),
        (0x120, point),
        (0x162, vec![0]),
        (0x163, vec![1]),
        (0x164, vec![1]),
        (0x165, vec![1]),
    ];
    for (kind, value) in changed {
        out.retain(|(other, _)| other != kind);
        out.extend(value.map(|value| (*kind, value.to_vec())));
    }
    out
}

/// A statement about one object, as a module writes it.
fn written(attributes: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let number = |number: usize| u32::try_from(number).unwrap().to_be_bytes();
    let body: Vec<u8> = attributes
        .iter()
        .flat_map(|(kind, value)| [&kind.to_be_bytes()[..], &number(value.len()), value].concat())
        .collect();
    let object = [
        &number(7)[..],
        &number(attributes.len()),
        &number(body.len()),
        &body,
    ]
    .concat();
    let buffer = [&[0, 1, 0, 3, 0, 8, 0, 0][..], &object].concat();
    let whole = 32 + buffer.len() + 256;
    [
        &number(0)[..],
        &number(3),
        &number(whole),
        &number(buffer.len()),
        &[0; 16],
        &buffer,
    ]
    .concat()
}

/// A module's partition below a maker of our own.
struct Partition {
    key: KeyPair,
    certificates: Vec<Vec<u8>>,
    root: Vec<u8>,
}

impl Partition {
    /// `issuer` is the name of the certificate, without cA, that certified the partition.
    fn new(issuer: &str) -> Self {
        let (root_key, module_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let root = authority("Marvell", Vec::new());
        let der = root.self_signed(&root_key).unwrap().der().to_vec();
        let root = Issuer::new(root, root_key);
        let of_module = params(issuer, Vec::new());
        let module = of_module.signed_by(&module_key, &root).unwrap().der().to_vec();
        let module_issuer = Issuer::new(of_module, module_key);
        let partition = params("HSM:1-2:PARTN:1, for FIPS mode", Vec::new());
        let partition = partition.signed_by(&key, &module_issuer).unwrap().der().to_vec();
        Self {
            key,
            certificates: vec![partition, module],
            root: der,
        }
    }

    fn judge(&self, signed: &[u8]) -> Result<AttestedKey, Check> {
        let scene = Scene {
            format: Format::Marvell,
            bytes: [signed, &self.key.sign(signed).unwrap()].concat(),
            certificates: self.certificates.clone(),
            makers: vec![self.root.clone()],
            owners: None,
        };
        scene.judge(&scene.bytes)
    }
}

#[test]
fn e17_attributes_that_a_module_signed_have_to_say_that_the_key_never_was_elsewhere() {
    let partition = Partition::new("HSM:1-2, for FIPS mode");
    let held = |changed: &[(u32, Option<&[u8]>)]| {
        let attested = partition.judge(&written(&attributes(changed))).unwrap();
        attested.held().reason()
    };
    assert_eq!(held(&[]), None);
    let no = Some(Reason::KeyNotHardware);
    for (kind, wrong) in [
        (0x162, 1), // extractable
        (0x163, 0), // not made here
        (0x164, 0), // was extractable
        (0x165, 0), // was not sensitive
        (0x103, 0), // is not sensitive
    ] {
        assert_eq!(held(&[(kind, Some(&[wrong]))]), no, "{kind:#x}");
        assert_eq!(held(&[(kind, None)]), no, "{kind:#x} absent");
        assert_eq!(held(&[(kind, Some(&[2]))]), no, "{kind:#x} is no flag");
        assert_eq!(held(&[(kind, Some(&[]))]), no, "{kind:#x} is empty");
    }
    for (changed, reason) in [
        ((0, Some(&[2][..])), Reason::ClaimMissing),
        ((0x120, Some(&[4; 65])), Reason::KeyInvalid),
        ((0x100, Some(&[9])), Reason::KeyInvalid),
        ((0x120, None), Reason::KeyInvalid),
    ] {
        let refused = partition.judge(&written(&attributes(&[changed]))).unwrap_err();
        assert_eq!(refused.reason(), Some(reason), "{changed:?}");
    }
}

#[test]
fn e17_only_the_module_itself_certifies_its_partitions() {
    for (issuer, reason) in [
        ("HSM:1-2, for FIPS mode", None),
        ("HSM:1-3, for FIPS mode", Some(Reason::IssuerNotCa)),
        ("somebody", Some(Reason::IssuerNotCa)),
    ] {
        let judged = Partition::new(issuer).judge(&written(&attributes(&[])));
        assert_eq!(judged.err().and_then(|check| check.reason()), reason, "{issuer}");
    }
}

#[test]
fn p09_what_a_module_signed_and_cannot_be_is_malformed() {
    let partition = Partition::new("HSM:1-2, for FIPS mode");
    let good = written(&attributes(&[]));
    let reason = |bytes: &[u8]| partition.judge(bytes).unwrap_err().reason();
    for length in 0..good.len() {
        assert_eq!(reason(&good[..length]), Some(Reason::Malformed), "{length}");
    }
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    // The response's code, the lengths, where the object is, how many attributes, their length.
    for (at, value) in [
        (3, 1),
        (11, 1),
        (15, 1),
        (37, 9),
        (44, 255),
        (47, 255),
        (51, 1),
        (56, 255),
    ] {
        assert_eq!(reason(&with(at, value)), Some(Reason::Malformed), "{at}");
    }
    let mut twice = attributes(&[]);
    twice.push((0x162, vec![0]));
    assert_eq!(reason(&written(&twice)), Some(Reason::Malformed));
    let huge = vec![(0x9999, vec![0; 70_000])];
    assert_eq!(reason(&written(&huge)), Some(Reason::Oversized));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn p09_whatever_bytes_there_are_nothing_is_attested(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        for scene in [Scene::yubihsm(), Scene::piv(), Scene::marvell()] {
            prop_assert!(scene.judge(&bytes).is_err());
        }
    }
}
