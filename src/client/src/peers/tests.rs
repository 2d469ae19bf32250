//! Peers by certificates of every kind: what is accepted, and the reason of each refusal.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use touchmark_crypto::{der, x509::Anchors};
use touchmark_identity::TrustDomain;
use touchmark_rats::ear::{Ear, HostResult, KeyResult};
use touchmark_wimse::Issuer;

use super::*;

const NOW: u64 = 1_800_000_000;

struct Authority(CertifiedIssuer<'static, KeyPair>);

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "root");
    let key = KeyPair::generate().unwrap();
    Authority(CertifiedIssuer::self_signed(params, key).unwrap())
}

impl Authority {
    fn anchors(&self) -> Anchors {
        Anchors::new([self.0.as_ref().der().to_vec()]).unwrap()
    }

    fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Chain {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![uri("spiffe://example.org/api")];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params.not_before = time::OffsetDateTime::from_unix_timestamp(1_799_999_000).unwrap();
        params.not_after = time::OffsetDateTime::from_unix_timestamp(1_800_003_600).unwrap();
        params.custom_extensions = vec![custody("hardware", false)];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.0).unwrap();
        Chain {
            leaf: leaf.der().to_vec(),
            between: Vec::new(),
        }
    }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn custody(class: &str, simulated: bool) -> CustomExtension {
    let ear = Ear {
        issued_at: NOW,
        build: "test".into(),
        host: HostResult {
            simulated,
            vouched: true,
            boot: true,
            evidence: [0; 32],
        },
        key: KeyResult {
            custody: class.into(),
            simulated,
            usage: "agent".into(),
            evidence: [0; 32],
        },
    };
    let oid = [1, 3, 6, 1, 5, 5, 7, 1, 35];
    let cmw = ear.to_cmw().to_string();
    CustomExtension::from_oid_content(&oid, der::tlv(0x0c, &[cmw.as_bytes()]))
}

fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse_origin(&format!("spiffe://{name}")).unwrap()
}

fn trust(domains: &[(&str, &Authority)]) -> Trust {
    let mut trust = Trust::default();
    for (name, authority) in domains {
        let issuer = Issuer {
            keys: Vec::new(),
            algorithms: Vec::new(),
            issuers: None,
            max_lifetime: 0,
        };
        trust.insert(domain(name), authority.anchors(), issuer);
    }
    trust
}

fn api() -> Peers {
    Peers::only(["spiffe://example.org/api"]).unwrap()
}

#[test]
fn a_named_peer_with_a_key_in_hardware_is_accepted_in_both_roles() {
    let authority = authority();
    let chain = authority.issue(|_| {});
    for role in [Role::Client, Role::Server] {
        let peer = api()
            .judge(&chain, &trust(&[("example.org", &authority)]), role, NOW)
            .unwrap();
        assert_eq!(peer.identifier().as_str(), "spiffe://example.org/api");
        assert_eq!(peer.custody(), Some(Class::Hardware));
        assert_eq!((peer.is_simulated(), peer.not_after()), (false, 1_800_003_600));
    }
}

/// Two issuers in one verifier: what is valid below one says nothing about the other.
#[test]
fn r026_r027_r028_an_identifier_counts_only_below_its_own_trust_domains_anchors() {
    let (ours, theirs, strangers) = (authority(), authority(), authority());
    let trust = trust(&[("example.org", &ours), ("example.com", &theirs)]);
    let anybody = Peers::matching(|_| true);
    let of = |authority: &Authority, text: &str| {
        let chain = authority.issue(|params| params.subject_alt_names = vec![uri(text)]);
        anybody.judge(&chain, &trust, Role::Client, NOW)
    };
    let (one, other) = (
        of(&ours, "spiffe://example.org/api").unwrap(),
        of(&theirs, "spiffe://example.com/api").unwrap(),
    );
    assert_ne!(
        one.identifier(),
        other.identifier(),
        "the same path, two principals"
    );
    // Below the other's valid anchor, which this verifier knows and accepts, for that one.
    for (authority, text) in [
        (&theirs, "spiffe://example.org/api"),
        (&ours, "spiffe://example.com/api"),
        (&strangers, "spiffe://example.org/api"),
    ] {
        assert!(
            matches!(
                of(authority, text),
                Err(NotAccepted::Certificate(PeerError::Path(_)))
            ),
            "{text}"
        );
    }
    assert_eq!(
        of(&strangers, "spiffe://example.net/api"),
        Err(NotAccepted::TrustDomain)
    );
    // Another scheme is another trust domain.
    assert_eq!(
        of(&ours, "wimse://example.org/api"),
        Err(NotAccepted::TrustDomain)
    );
}

#[test]
fn l03_leaves_of_another_form_are_refused_by_their_reasons() {
    let authority = authority();
    let trust = trust(&[("example.org", &authority)]);
    let judged = |change: fn(&mut CertificateParams)| {
        Peers::matching(|_| true)
            .judge(&authority.issue(change), &trust, Role::Client, NOW)
            .unwrap_err()
    };
    assert_eq!(
        judged(|params| params.subject_alt_names.push(uri("spiffe://example.org/other"))),
        NotAccepted::Certificate(PeerError::UriCount(2))
    );
    assert_eq!(
        judged(|params| params.subject_alt_names.clear()),
        NotAccepted::Certificate(PeerError::UriCount(0))
    );
    let profile = NotAccepted::Certificate(PeerError::LeafProfile);
    assert_eq!(
        judged(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        profile
    );
    assert_eq!(
        judged(|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign)),
        profile
    );
    assert_eq!(
        judged(|params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]),
        profile
    );
    let path = |error| matches!(error, NotAccepted::Certificate(PeerError::Path(_)));
    assert!(path(judged(
        |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]
    )));
    assert!(path(judged(|params| {
        params.not_after = time::OffsetDateTime::from_unix_timestamp(1_799_999_999).unwrap();
    })));
    assert!(path(judged(|params| {
        params.not_before = time::OffsetDateTime::from_unix_timestamp(1_800_000_001).unwrap();
    })));
    assert!(matches!(
        judged(|params| params.subject_alt_names = vec![uri("spiffe://example.org")]),
        NotAccepted::TrustDomain
    ));
}

#[test]
fn keys_that_are_held_otherwise_than_demanded_are_refused_and_none_is_believed_without_a_word() {
    let authority = authority();
    let trust = trust(&[("example.org", &authority)]);
    let judged = |peers: &Peers, extensions: Vec<CustomExtension>| {
        let chain = authority.issue(|params| params.custom_extensions = extensions);
        peers.judge(&chain, &trust, Role::Client, NOW)
    };
    let hardware = api().demanding([Class::Hardware]);
    assert!(judged(&hardware, vec![custody("hardware", false)]).is_ok());
    for class in ["token", "software", "hypervisor", "unheard-of"] {
        assert_eq!(
            judged(&hardware, vec![custody(class, false)]),
            Err(NotAccepted::Custody(class.into()))
        );
    }
    assert_eq!(judged(&api(), Vec::new()), Err(NotAccepted::NoCustody));
    assert_eq!(
        judged(&api(), vec![custody("hardware", true)]),
        Err(NotAccepted::Simulated)
    );
    assert!(judged(&api().accepting_simulated(), vec![custody("hardware", true)]).is_ok());
    // Simulated is not hardware, whatever it is called: both have to be told.
    assert_eq!(
        judged(&hardware, vec![custody("hardware", true)]),
        Err(NotAccepted::Simulated)
    );
}

/// Neither a prefix nor the same path elsewhere.
#[test]
fn t10_only_the_very_identifier_is_the_one_that_was_named() {
    let authority = authority();
    let trust = trust(&[("example.org", &authority), ("example.com", &authority)]);
    for text in [
        "spiffe://example.org/apis",
        "spiffe://example.org/ap",
        "spiffe://example.org/api/v1",
        "spiffe://example.com/api",
        "spiffe://example.org/API",
    ] {
        let chain = authority.issue(|params| params.subject_alt_names = vec![uri(text)]);
        assert_eq!(
            api().judge(&chain, &trust, Role::Client, NOW),
            Err(NotAccepted::Identifier(text.into()))
        );
    }
}
