//! What needs no other process: issuing and verifying, beside the raw rates of the crypto library.

use std::{cell::Cell, sync::Arc};

use serde_bytes::{ByteArray, ByteBuf};
use touchmark_crypto::{
    Entropy, HashAlg, PublicKey, Purpose as KeyPurpose, SigScheme, Signer, SigningAlg, SoftwareKey,
    SystemEntropy,
    x509::{Certificate, Profile, Template, self_signed},
};
use touchmark_custody::{HeldKey, InMemory};
use touchmark_identity::TrustDomain;
use touchmark_issuer::{Authority, Kind, Registration, RegistrationFile, grant};
use touchmark_rats::{
    Assurance, AttestedKey, Binding, MakerKind, PcrSelection, Purpose, Voucher, pop_message,
    possession::Possession, rest_digest,
};
use touchmark_verifier::{Certified, Challenge, Challenger, Subject, Wanted, renew};
use touchmark_wimse::{
    Issuer, Issuers, wit,
    wpt::{self, Carried, Expected, Replays, Wpt},
};

use super::table::{Table, rate};

const NOW: u64 = 1_800_000_000;
const AUDIENCE: &str = "https://service.example.org/pay";
const ANCHOR: [u8; 32] = [7; 32];
const COOKIE: &[u8] = b"cookie";
const OFFER: &[u8] = b"offer";

pub(crate) struct Scene {
    authority: Authority,
    registration: Registration,
    challenger: Challenger,
    workload: SoftwareKey,
    certified: Certified,
}

fn software() -> SoftwareKey {
    SoftwareKey::generate(SigningAlg::Es256).unwrap()
}

fn held(purposes: &'static [KeyPurpose]) -> HeldKey {
    HeldKey::new(Arc::new(InMemory::new(software())), false, purposes)
}

fn scene() -> Scene {
    scene_with(held(&[KeyPurpose::Certificate]))
}

/// An authority with this key.
pub(crate) fn scene_with(x509_key: HeldKey) -> Scene {
    let domain = TrustDomain::parse_origin("spiffe://example.org").unwrap();
    let template = Template {
        profile: Profile::Root,
        common_name: "root".into(),
        uri: Some(domain.to_string()),
        dns_names: Vec::new(),
        not_before: NOW - 60,
        not_after: NOW + 86_400,
        serial: SystemEntropy.array().unwrap(),
        extensions: Vec::new(),
    };
    let root = self_signed(&template, &x509_key).unwrap();
    let file = "label = \"l\"\n[[registration]]\nname = \"n\"\nidentifier = \"spiffe://example.org/a\"\nworkload = { uid = 1 }\nkinds = [\"x509\", \"wit\"]\ncustody = [\"hardware\"]\n";
    let mut file = RegistrationFile::from_toml(file, &domain).unwrap();
    let workload = software();
    Scene {
        certified: Certified {
            key: AttestedKey {
                public: workload.public_key().clone(),
                name: vec![0, 11, 1],
                area: vec![1],
                assurance: Assurance::Certified,
            },
            evidence: [3; 32],
        },
        workload,
        registration: file.registrations.remove(0),
        challenger: Challenger::new(&SystemEntropy, &domain.to_string(), ANCHOR, 150).unwrap(),
        authority: Authority::new(
            domain,
            Certificate::parse(&root).unwrap(),
            x509_key,
            held(&[KeyPurpose::Wit]),
            "bench",
            true,
        )
        .unwrap(),
    }
}

impl Scene {
    /// A challenge and the proof of possession that answers it.
    pub(crate) fn proof(&self) -> (Challenge, Possession) {
        let nothing = PcrSelection(Vec::new());
        let voucher = Voucher {
            maker: "maker".into(),
            certified: touchmark_rats::CertifiedKey::EndorsementKey,
            kind: MakerKind::Physical,
            simulated: false,
            anchor: [0; 32],
            manufacturer: "IFX".into(),
            serial: vec![1; 20].into(),
            issuers: vec![[0; 32].into(); 2],
        };
        let wanted = Wanted {
            purpose: Purpose::Workload,
            subject: Subject {
                host: Some("host".into()),
                endorsement_name: ByteBuf::new(),
                endorsement_digest: ByteArray::new([0; 32]),
                attestation_name: ByteBuf::new(),
                voucher: Some(voucher),
            },
            activation: false,
            selection: &nothing,
            log_offsets: vec![0],
        };
        let issued = self.challenger.issue(&SystemEntropy, wanted, NOW).unwrap();
        let challenge = self.challenger.open(&issued.cookie, NOW).unwrap();
        let bind = Binding {
            purpose: Purpose::Workload,
            trust_domain: self.challenger.trust_domain(),
            anchor: ANCHOR,
            challenge_id: challenge.id,
            nonce: challenge.nonce,
            key_names: std::slice::from_ref(&self.certified.key.name),
            selection: &nothing,
            log_offsets: &[0],
            rest: rest_digest(&[COOKIE, OFFER]),
        }
        .value();
        let signature = self
            .workload
            .sign(KeyPurpose::ProofOfPossession, &pop_message(&bind))
            .unwrap();
        (challenge, Possession(ByteBuf::from(signature)))
    }

    /// Judges the proof and issues what is asked for.
    pub(crate) fn issue(
        &self,
        kind: Kind,
        challenge: &Challenge,
        proof: &Possession,
    ) -> touchmark_issuer::Credential {
        let sections = [COOKIE, OFFER];
        let attested = renew(&self.challenger, challenge, &self.certified, sections, proof, NOW).unwrap();
        let key = attested.keys()[0].clone();
        let grant = grant(&self.registration, kind, key, attested.voucher()).unwrap();
        self.authority
            .issue(&grant, &attested, [0; 32], &SystemEntropy)
            .unwrap()
    }
}

/// B5, B6 and B8.
pub(crate) fn measure(table: &mut Table) {
    let scene = scene();
    let (signer, message) = (software(), [7; 200]);
    let signature = signer.sign(KeyPurpose::Wit, &message).unwrap();
    let public = PublicKey::from_spki(signer.public_key().spki()).unwrap();
    let verify = rate(|| {
        public
            .verify(SigScheme::Ecdsa(HashAlg::Sha256), &message, &signature)
            .unwrap();
    });
    let sign = rate(|| {
        signer.sign(KeyPurpose::Wit, &message).unwrap();
    });
    table.heading("in one process, keys in memory; V and S as measured now");
    table.figure("V: P-256 verifications per second", &format!("{verify:.0}"));
    table.figure("S: P-256 signatures per second", &format!("{sign:.0}"));

    let proofs: Vec<_> = (0..64).map(|_| scene.proof()).collect();
    let turn = Cell::new(0);
    let next = || {
        turn.set(turn.get() + 1);
        turn.get() % proofs.len()
    };
    let x509 = rate(|| {
        let (challenge, proof) = &proofs[next()];
        scene.issue(Kind::X509, challenge, proof);
    });
    table.at_least(
        "B5",
        "X.509 issued / (1/(1/V + 1/S)), possession proved",
        0.70,
        x509 / (1.0 / (1.0 / verify + 1.0 / sign)),
    );
    let attested = {
        let (challenge, proof) = &proofs[0];
        renew(
            &scene.challenger,
            challenge,
            &scene.certified,
            [COOKIE, OFFER],
            proof,
            NOW,
        )
        .unwrap()
    };
    let granted = grant(
        &scene.registration,
        Kind::Wit,
        attested.keys()[0].clone(),
        attested.voucher(),
    )
    .unwrap();
    let wits = rate(|| {
        scene
            .authority
            .issue(&granted, &attested, [0; 32], &SystemEntropy)
            .unwrap();
    });
    table.at_least("B6", "WIT issued / S", 0.70, wits / sign);
    tokens(table, &scene, verify);
}

fn tokens(table: &mut Table, scene: &Scene, verify: f64) {
    let (challenge, proof) = scene.proof();
    let credential = scene.issue(Kind::Wit, &challenge, &proof);
    let token = credential.token().unwrap().to_owned();
    let mut issuers = Issuers::default();
    let jwks =
        touchmark_wimse::bundle::to_jwks(&[], std::slice::from_ref(scene.authority.wit_public()), 1).unwrap();
    issuers.insert(
        scene.authority.trust_domain.clone(),
        Issuer::from_jwks(jwks.as_object().unwrap()),
    );
    let expected = Expected::at(AUDIENCE);
    let mut made = Vec::new();
    let mut proofs = |count: usize| -> Vec<String> {
        while made.len() < count {
            let wpt = Wpt {
                wit: &token,
                audience: AUDIENCE,
                expires_at: NOW + 60,
                id: SystemEntropy.array().unwrap(),
                access: None,
                transaction: None,
            };
            made.push(wpt::mint(&wpt, &scene.workload).unwrap());
        }
        made.drain(..count).collect()
    };
    let mut measured = |cached: bool| {
        let mut rates: Vec<f64> = (0..5)
            .map(|_| {
                let proofs = proofs(1_500);
                let mut replays = Replays::new(10_000);
                let known = wit::verify(&token, &issuers, NOW).unwrap();
                let start = std::time::Instant::now();
                for proof in &proofs {
                    let carried = Carried {
                        wit: &token,
                        proof,
                        transaction: None,
                        access: None,
                    };
                    let fresh;
                    let wit = if cached {
                        &known
                    } else {
                        fresh = wit::verify(&token, &issuers, NOW).unwrap();
                        &fresh
                    };
                    wpt::verify(&carried, wit, &expected, &mut replays, NOW).unwrap();
                }
                1_500.0 / start.elapsed().as_secs_f64()
            })
            .collect();
        rates.sort_by(f64::total_cmp);
        rates[2]
    };
    table.at_least(
        "B8",
        "WPT verified / V, its WIT verified before, replays noted",
        0.85,
        measured(true) / verify,
    );
    table.at_least(
        "B8",
        "WIT and WPT verified / (V/2), replays noted",
        0.85,
        measured(false) / (verify / 2.0),
    );
}
