//! Addresses that evidence names: nobody goes there.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use rcgen::{CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose};
use touchmark_crypto::{PublicKey, der, x509::DeviceCertificate};
use touchmark_tests::{dev::Dev, sim::device, subject::Subject, wire};

/// Somebody who notices whoever comes.
struct Canary(TcpListener);

impl Canary {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    #[track_caller]
    fn saw_nobody(&self) {
        assert!(self.0.accept().is_err(), "somebody followed the address");
    }
}

/// An endorsement certificate by an authority that nobody has, which says where that authority's certificate, its list of revoked ones and
/// its responder are.
fn certificate(key: PublicKey, at: SocketAddr) -> Vec<u8> {
    let authority = KeyPair::generate().unwrap();
    let mut name = CertificateParams::new(Vec::new()).unwrap();
    name.distinguished_name = rcgen::DistinguishedName::new();
    name.distinguished_name
        .push(rcgen::DnType::CommonName, "An authority to be fetched");
    let issuer = Issuer::new(name, authority);
    let uri = |path: &str| der::tlv(0x86, &[format!("http://{at}/{path}").as_bytes()]);
    let access = |last: u8, path: &str| {
        // id-ad-caIssuers (2) and id-ad-ocsp (1).
        let method = der::tlv(0x06, &[&[0x2b, 6, 1, 5, 5, 7, 0x30, last]]);
        der::tlv(0x30, &[&method, &uri(path)])
    };
    let authority_information = der::tlv(0x30, &[&access(2, "issuer.crt"), &access(1, "ocsp")]);
    let full_name = der::tlv(0xa0, &[&uri("revoked.crl")]);
    let points = der::tlv(0x30, &[&der::tlv(0x30, &[&der::tlv(0xa0, &[&full_name])])]);
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.key_usages = vec![KeyUsagePurpose::KeyAgreement, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 1])];
    params.custom_extensions = vec![
        CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], authority_information),
        CustomExtension::from_oid_content(&[2, 5, 29, 31], points),
    ];
    let certificate = params.signed_by(&Subject(key), &issuer).unwrap();
    certificate.der().to_vec()
}

#[test]
fn a04_addresses_in_an_endorsement_certificate_lead_nobody_there() {
    let dev = Dev::start(&[]);
    dev.end_agent(1);
    let (address, _) = dev.addresses();
    let device = device(&dev.description()["tpms"][0]);
    let canary = Canary::new();
    let mut opening = touchmark_helper::opening(&device, wire::DOMAIN).unwrap();
    for endorsement in &mut opening.endorsements {
        let read = DeviceCertificate::parse(endorsement.certificate.as_ref().unwrap()).unwrap();
        let key = PublicKey::from_endorsement_spki(&read.facts.spki).unwrap();
        endorsement.certificate = Some(certificate(key, canary.address()).into());
        endorsement.intermediates.clear();
    }
    // The host is enrolled, and gets a challenge as anybody does; its certificate leads to nobody who is pinned.
    let visit = wire::introduce_by(&address, dev.pin(), &device, &opening);
    let (parts, _) = wire::evidence(&device, &visit, dev.pin());
    assert_eq!(
        wire::send(&address, dev.pin(), &parts.message(&visit)).status,
        403
    );
    let why = dev.json(&["why", "host-1"]);
    assert_eq!(
        (&why["check"], &why["reason"]),
        (&"tpm.endorsement_certificate.path".into(), &"path_invalid".into()),
        "{why}"
    );
    // Offline neither: what is missing is said, not fetched.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ek.der");
    std::fs::write(&file, opening.endorsements[0].certificate.as_ref().unwrap()).unwrap();
    let offline = dev.touchmark(&["verify", "ek", file.to_str().unwrap()]);
    assert_eq!(offline.status.code(), Some(1), "{offline:?}");
    // Nor later on.
    std::thread::sleep(Duration::from_millis(500));
    canary.saw_nobody();
}
