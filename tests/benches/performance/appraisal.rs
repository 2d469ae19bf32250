//! Appraising what hosts send: quotes by software keys, boot logs of 200 events, lists of 10,000 files, policies; beside the raw rates of the
//! crypto library.

use std::cell::Cell;

use serde_bytes::ByteBuf;
use touchmark_attestor_tpm::{LogUse, PcrValues, Registers, TpmAppraiser, judge_log};
use touchmark_crypto::{
    HashAlg, PublicKey, Purpose as KeyPurpose, SigScheme, Signer, SigningAlg, SoftwareKey, SystemEntropy,
};
use touchmark_policy::{Policies, Source, Subject};
use touchmark_rats::{
    Appraiser, ClaimValue, Claims, Expected, PcrSelection, Purpose, RUNTIME_REGISTER, RuntimeList, cbor,
    tpm::{TpmAttestation, TpmEvidence},
};
use touchmark_verifier::{Challenger, FileList, KnownLists, Subject as ChallengeSubject, Wanted};

use super::table::{Table, rate};

const NOW: u64 = 1_800_000_000;
/// Distinct quotes that are appraised in turn.
const QUOTES: usize = 10_000;
const EVENTS: usize = 200;
const FILES: usize = 10_000;

/// An attestation key in software that signs as a TPM does.
struct Attester {
    key: SoftwareKey,
    area: Vec<u8>,
}

impl Attester {
    fn new() -> Self {
        let key = SoftwareKey::generate(SigningAlg::Es256).unwrap();
        let (x, y) = key.public_key().ec_coordinates().unwrap();
        // ECC, SHA-256; fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign; no policy.
        let mut area = vec![0, 0x23, 0, 0x0b, 0, 0x05, 0, 0x72, 0, 0];
        // No symmetric cipher; ECDSA with SHA-256; P-256; no key derivation.
        area.extend([0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10]);
        for number in [x, y] {
            area.extend(sized(number));
        }
        Self { key, area }
    }

    /// TPMS_ATTEST and TPMT_SIGNATURE of a quote.
    fn quote(&self, bind: &[u8], selection: &PcrSelection, digest: &[u8]) -> TpmAttestation {
        let mut attest = vec![0xff, b'T', b'C', b'G', 0x80, 0x18];
        attest.extend(sized(&[0; 34]));
        attest.extend(sized(bind));
        attest.extend([0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 1]);
        attest.extend([0; 8]);
        attest.extend([0, 0, 0, 1, 0, 0x0b, 3]);
        let mut bits = [0_u8; 3];
        for index in &selection.0[0].indices {
            bits[usize::from(index / 8)] |= 1 << (index % 8);
        }
        attest.extend(bits);
        attest.extend(sized(digest));
        let raw = self.key.sign(KeyPurpose::Wit, &attest).unwrap();
        let mut signature = vec![0, 0x18, 0, 0x0b];
        for number in raw.chunks(32) {
            signature.extend(sized(number));
        }
        TpmAttestation {
            attest: ByteBuf::from(attest),
            signature: ByteBuf::from(signature),
        }
    }
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn little(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat()
}

fn extended(value: &[u8], digest: &[u8]) -> Vec<u8> {
    HashAlg::Sha256.digest(&[value, digest])
}

/// A crypto-agile log of so many events in registers 0 to 9, and the values that it leads to.
fn boot_log(events: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut spec = b"Spec ID Event03\0".to_vec();
    spec.extend([0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0b, 0, 32, 0, 0]);
    let mut log = [&[0, 0, 0, 0, 3, 0, 0, 0][..], &[0; 20], &little(&spec)].concat();
    let mut values = vec![vec![0; 32]; 10];
    let mut put = |register: usize, kind: u32, hashed: &[u8], data: &[u8]| {
        let digest = HashAlg::Sha256.digest(&[hashed]);
        log.extend(u32::try_from(register).unwrap().to_le_bytes());
        log.extend(kind.to_le_bytes());
        log.extend([1, 0, 0, 0, 0x0b, 0]);
        log.extend(&digest);
        log.extend(little(data));
        values[register] = extended(&values[register], &digest);
    };
    for number in 0..events.saturating_sub(8) {
        // EV_IPL, as GRUB measures commands and files: the prefix is not hashed.
        let command = format!("insmod module_{number:03}_with_a_name_of_some_length");
        put(
            8 + number % 2,
            0x0d,
            command.as_bytes(),
            format!("grub_cmd: {command}\0").as_bytes(),
        );
    }
    if events > 0 {
        (0..8).for_each(|register| put(register, 4, &[0; 4], &[0; 4]));
    }
    (log, values)
}

/// An ima-ng list of so many files, the register that it leads to, and the digests of its files as sha256sum prints them.
fn runtime_list(files: usize) -> (Vec<u8>, Vec<u8>, String) {
    let (mut list, mut value, mut known) = (Vec::new(), vec![0; 32], String::new());
    for number in 0..files {
        let path = format!("/usr/lib/x86_64-linux-gnu/libsomething{number}.so.{number}");
        let digest = HashAlg::Sha256.digest(&[path.as_bytes()]);
        known += &format!("{}  {path}\n", hex::encode(&digest));
        let file = [b"sha256:\0".as_slice(), &digest].concat();
        let data = [little(&file), little(&[path.as_bytes(), &[0]].concat())].concat();
        list.extend(10_u32.to_le_bytes());
        list.extend(HashAlg::Sha1.digest(&[&data]));
        list.extend(little(b"ima-ng"));
        list.extend(little(&data));
        value = extended(&value, &HashAlg::Sha256.digest(&[&data]));
    }
    (list, value, known)
}

/// Quotes of one host under distinct bindings, and what is expected of each.
struct Scene {
    attester: Attester,
    selection: PcrSelection,
    log: Vec<u8>,
    evidence: Vec<([u8; 32], Vec<u8>)>,
    appraiser: TpmAppraiser,
}

impl Scene {
    fn new(log: Vec<u8>, values: &[Vec<u8>], selection: PcrSelection, count: usize) -> Self {
        let attester = Attester::new();
        let parts: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let digest = HashAlg::Sha256.digest(&parts);
        let evidence = (0..count)
            .map(|number| {
                let mut bind = [0; 32];
                bind[..8].copy_from_slice(&number.to_be_bytes());
                let quote = attester.quote(&bind, &selection, &digest);
                let evidence = TpmEvidence {
                    quote: Some(quote),
                    certifications: Vec::new(),
                    pcr_values: Vec::new(),
                };
                (bind, cbor::encode(&evidence))
            })
            .collect();
        Self {
            attester,
            selection,
            log,
            evidence,
            appraiser: TpmAppraiser::new(Vec::new()),
        }
    }

    fn appraise(&self, number: usize, altered: Option<&[u8]>, runtime: Option<RuntimeList<'_>>) -> bool {
        let (bind, evidence) = &self.evidence[number % self.evidence.len()];
        let expected = Expected {
            bind: *bind,
            attestation_public: &self.attester.area,
            selection: &self.selection,
            keys: &[],
            sealed_to_boot: false,
            log: &self.log,
            runtime,
        };
        let appraisal = self.appraiser.appraise(altered.unwrap_or(evidence), &expected);
        appraisal.failure().is_none()
    }
}

pub(crate) fn measure(table: &mut Table) {
    let raw = SoftwareKey::generate(SigningAlg::Es256).unwrap();
    let message = vec![7; 145];
    let signature = raw.sign(KeyPurpose::Wit, &message).unwrap();
    let public = PublicKey::from_spki(raw.public_key().spki()).unwrap();
    let verify = rate(|| {
        public
            .verify(SigScheme::Ecdsa(HashAlg::Sha256), &message, &signature)
            .unwrap();
    });
    table.heading("appraisals in one process; V and SHA-256 as measured now");
    table.figure("V: P-256 verifications per second", &format!("{verify:.0}"));
    let next = Cell::new(0);
    let turn = || {
        next.set(next.get() + 1);
        next.get()
    };

    // The header alone: nothing was measured, and the registers say so.
    let (empty, zeros) = boot_log(0);
    let bare = Scene::new(empty, &zeros, PcrSelection::boot(), QUOTES);
    let quotes = rate(|| assert!(bare.appraise(turn(), None, None)));
    table.at_least(
        "B1",
        "TPM appraisals / V, no events, 10,000 distinct quotes",
        0.80,
        quotes / verify,
    );

    let (log, values) = boot_log(EVENTS);
    let hashed = rate(|| {
        HashAlg::Sha256.digest(&[&log]);
    });
    let booted = Scene::new(log.clone(), &values, PcrSelection::boot(), 1_000);
    let logs = rate(|| assert!(booted.appraise(turn(), None, None)));
    table.at_least(
        "B2",
        "the same with a log of 200 events / (V and SHA-256 of the same bytes)",
        0.75,
        logs / (1.0 / (1.0 / verify + 1.0 / hashed)),
    );
    let registers: PcrValues = [(HashAlg::Sha256, (0_u8..).zip(values.clone()).collect())]
        .into_iter()
        .collect();
    let told = rate(|| {
        judge_log(&log, Registers::Pcr, &registers, LogUse::default());
    });
    table.figure(
        &format!(
            "time for that log ({} bytes): read, replayed, judged, told",
            log.len()
        ),
        &format!("{:.0} us", 1e6 / told),
    );

    let (list, register, known) = runtime_list(FILES);
    let files = KnownLists(vec![FileList::from_text("bench", &known).unwrap().into()]);
    let selection = PcrSelection::sha256((0..10).chain([RUNTIME_REGISTER]));
    let running = Scene::new(log, &[values, vec![register]].concat(), selection, 100);
    let whole = rate(|| {
        let list = RuntimeList {
            state: None,
            gained: &list,
            files: &files,
        };
        assert!(running.appraise(turn(), None, Some(list)));
    });
    table.figure(
        &format!(
            "time for a list of 10,000 files ({} KiB) from its beginning",
            list.len() / 1024
        ),
        &format!("{:.1} ms", 1e3 / whole),
    );

    refusals(table, &bare, verify);
    policies(table);
}

fn refusals(table: &mut Table, scene: &Scene, verify: f64) {
    let mut forged: TpmEvidence = cbor::decode(&scene.evidence[0].1, 1 << 16).unwrap();
    let signature = &mut forged.quote.as_mut().unwrap().signature;
    let last = signature.len() - 1;
    signature[last] ^= 1;
    let forged = cbor::encode(&forged);
    let refused = rate(|| assert!(!scene.appraise(0, Some(&forged), None)));
    table.at_most(
        "B24",
        "refusing a forged quote / one verification",
        1.2,
        verify / refused,
    );
    let challenger = Challenger::new(&SystemEntropy, "spiffe://example.org", [7; 32], 150).unwrap();
    let wanted = Wanted {
        purpose: Purpose::Enrol,
        subject: ChallengeSubject {
            host: Some("host".into()),
            endorsement_name: ByteBuf::new(),
            endorsement_digest: serde_bytes::ByteArray::new([0; 32]),
            attestation_name: ByteBuf::new(),
            voucher: None,
        },
        activation: true,
        selection: &PcrSelection::boot(),
        log_offsets: vec![0],
    };
    let mut cookie = challenger.issue(&SystemEntropy, wanted, NOW).unwrap().cookie;
    cookie[20] ^= 1;
    let unknown = rate(|| assert!(challenger.open(&cookie, NOW).is_err()));
    table.at_most(
        "B24",
        "refusing a nonce that was not given out / one verification",
        0.1,
        verify / unknown,
    );
}

fn policies(table: &mut Table) {
    let compiled = |count: usize| {
        // One for everybody, the rest for groups and hosts of their own.
        let mut text = String::from(
            "permit (principal, action, resource) when { !context.references.matched.isEmpty() };\n",
        );
        for number in 1..count {
            text += &format!(
                "forbid (principal in Touchmark::HostGroup::\"rack-{number}\", action, resource) \
                 when {{ context has tpm && context.tpm has reset_count && context.tpm.reset_count > {number} }};\n"
            );
        }
        let source = Source {
            label: "bench".into(),
            text,
            observe: Vec::new(),
        };
        Policies::compile(&[source]).unwrap()
    };
    let mut claims = Claims::default();
    claims.set("device.vouched", ClaimValue::Bool(true));
    claims.set("device.simulated", ClaimValue::Bool(false));
    claims.set("references.matched", ClaimValue::Texts(vec!["release".into()]));
    claims.set("tpm.reset_count", ClaimValue::Int(0));
    let labels = ["rack-7".to_owned()];
    let subject = Subject {
        name: "web-1",
        labels: &labels,
        platform: "tpm",
    };
    let time = |count| {
        let policies = compiled(count);
        1.0 / rate(|| assert!(policies.decide(&subject, &claims).allowed))
    };
    let (ten, thousand) = (time(10), time(1_000));
    table.figure(
        "time of a decision, ten policies",
        &format!("{:.1} us", ten * 1e6),
    );
    table.at_most(
        "B22",
        "policy time with 1,000 policies / with 10",
        1.5,
        thousand / ten,
    );
}
