//! A TPM made of software keys that writes its own bytes. Nothing here calls the appraiser's parsers: what the tests
//! feed it was laid out from the specifications a second time. Every field can be altered before it is signed ("signed
//! by the right key, but wrong") and afterwards.

pub(crate) mod area;
pub(crate) mod attest;
pub(crate) mod key;
pub(crate) mod log;
pub(crate) mod maker;
pub(crate) mod write;

use serde_bytes::ByteBuf;
use touchmark_attestor_tpm::TpmAppraiser;
use touchmark_rats::{
    Appraisal, Appraiser, Expected, PcrSelection, Reason, cbor, pop_message,
    tpm::{TpmAttestation, TpmCertification, TpmDeviceKey, TpmEvidence, TpmOpening, TpmPcrValue},
};

use self::{
    area::Area,
    attest::Attest,
    key::Key,
    log::Log,
    write::{SHA256, digest},
};

/// The binding value of the exchange that the tests play.
pub(crate) const BIND: [u8; 32] = [0xb1; 32];
/// The registers that the exchange asks for.
pub(crate) const BOOT: [u8; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

/// A software TPM after a boot.
pub(crate) struct Tpm {
    pub(crate) ek: Key,
    pub(crate) ek_area: Area,
    pub(crate) ak: Key,
    pub(crate) ak_area: Area,
    pub(crate) log: Log,
    /// SHA-256 bank, registers 0 to 23.
    pub(crate) registers: Vec<Vec<u8>>,
}

impl Tpm {
    /// A TPM with a P-256 attestation key after an ordinary boot.
    pub(crate) fn new() -> Self {
        Self::with(Key::p256(), Log::boot())
    }

    /// A TPM with this attestation key after the boot that `log` tells of.
    pub(crate) fn with(ak: Key, log: Log) -> Self {
        let ek = Key::p256();
        let ak_area = Area::signing(ak.public(), ak.hash(), area::AK, Vec::new());
        let registers = (0..24)
            .map(|pcr| {
                log.replay(
                    SHA256,
                    pcr,
                    vec![if (17..=22).contains(&pcr) { 0xff } else { 0 }; 32],
                    usize::MAX,
                )
            })
            .collect();
        Self {
            ek_area: Area::endorsement(ek.public()),
            ek,
            ak,
            ak_area,
            log,
            registers,
        }
    }

    /// The digest of registers, as a quote with `hash` has it.
    pub(crate) fn pcr_digest(&self, hash: u16, indices: &[u8]) -> Vec<u8> {
        let parts: Vec<&[u8]> = indices
            .iter()
            .map(|index| self.registers[usize::from(*index)].as_slice())
            .collect();
        digest(hash, &parts)
    }

    /// The policy digest of one PolicyPCR over these registers of this boot.
    pub(crate) fn boot_policy(&self, indices: &[u8]) -> Vec<u8> {
        let selection = attest::selection(&[(SHA256, indices)]);
        let pcrs = self.pcr_digest(SHA256, indices);
        digest(SHA256, &[&[0; 32], &0x17f_u32.to_be_bytes(), &selection, &pcrs])
    }

    /// The first message.
    pub(crate) fn opening(&self, certificate: Option<Vec<u8>>) -> TpmOpening {
        TpmOpening {
            attestation: TpmDeviceKey {
                public: ByteBuf::from(self.ak_area.bytes()),
                certificate: None,
                intermediates: Vec::new(),
            },
            endorsements: vec![TpmDeviceKey {
                public: ByteBuf::from(self.ek_area.bytes()),
                certificate: certificate.map(ByteBuf::from),
                intermediates: Vec::new(),
            }],
        }
    }
}

/// A key that is offered, with how it is certified.
pub(crate) struct Offered {
    pub(crate) key: Key,
    pub(crate) area: Area,
    /// Signed by the TPM's attestation key.
    pub(crate) certify: Attest,
}

/// One exchange, to be altered and then appraised.
pub(crate) struct Case {
    pub(crate) tpm: Tpm,
    /// What the exchange expects.
    pub(crate) bind: [u8; 32],
    pub(crate) selection: PcrSelection,
    pub(crate) sealed_to_boot: bool,
    /// What is signed and sent.
    pub(crate) quote: Option<Attest>,
    pub(crate) values: Vec<(u16, u8, Vec<u8>)>,
    pub(crate) keys: Vec<Offered>,
    pub(crate) log: Vec<u8>,
}

impl Case {
    /// An exchange in which nothing is wrong.
    pub(crate) fn good() -> Self {
        Self::of(Tpm::new())
    }

    /// An exchange of this TPM in which nothing is wrong.
    pub(crate) fn of(tpm: Tpm) -> Self {
        let pcrs = tpm.pcr_digest(tpm.ak.hash(), &BOOT);
        let key = Key::p256();
        let area = Area::signing(key.public(), SHA256, area::KEY, tpm.boot_policy(&BOOT));
        Self {
            bind: BIND,
            selection: PcrSelection::boot(),
            sealed_to_boot: true,
            quote: Some(Attest::quote(
                &BIND,
                &attest::selection(&[(SHA256, &BOOT)]),
                &pcrs,
            )),
            values: BOOT
                .iter()
                .map(|index| (SHA256, *index, tpm.registers[usize::from(*index)].clone()))
                .collect(),
            keys: vec![Offered {
                certify: Attest::certify(&BIND, &area.name()),
                key,
                area,
            }],
            log: tpm.log.bytes(),
            tpm,
        }
    }

    /// The quote.
    pub(crate) fn quote(&mut self) -> &mut Attest {
        self.quote.as_mut().unwrap()
    }

    /// The key that is offered.
    pub(crate) fn key(&mut self) -> &mut Offered {
        &mut self.keys[0]
    }

    /// Certifies the offered key anew, after its public area was altered.
    pub(crate) fn recertify(&mut self) {
        let name = self.keys[0].area.name();
        self.keys[0].certify = Attest::certify(&BIND, &name);
    }

    /// Makes everything for another binding value.
    pub(crate) fn rebind(&mut self, bind: [u8; 32]) {
        self.bind = bind;
        let attestations = self.quote.iter_mut();
        for attest in attestations.chain(self.keys.iter_mut().map(|key| &mut key.certify)) {
            attest.extra = bind.to_vec();
        }
    }

    /// Signs everything.
    pub(crate) fn evidence(&self) -> TpmEvidence {
        TpmEvidence {
            quote: self.quote.as_ref().map(|quote| signed(&self.tpm.ak, quote)),
            certifications: self
                .keys
                .iter()
                .map(|offered| TpmCertification {
                    certify: signed(&self.tpm.ak, &offered.certify),
                    possession: ByteBuf::from(offered.key.sign(&pop_message(&self.bind)).concat()),
                })
                .collect(),
            pcr_values: self
                .values
                .iter()
                .map(|(bank, index, value)| TpmPcrValue {
                    bank: *bank,
                    index: *index,
                    value: ByteBuf::from(value.clone()),
                })
                .collect(),
        }
    }

    /// Appraises what was signed.
    pub(crate) fn appraise(&self) -> Appraisal {
        self.appraise_with(|_| {})
    }

    /// Appraises what was signed and then altered.
    pub(crate) fn appraise_with(&self, alter: impl FnOnce(&mut TpmEvidence)) -> Appraisal {
        let mut evidence = self.evidence();
        alter(&mut evidence);
        self.appraise_bytes(&cbor::encode(&evidence))
    }

    /// Appraises these bytes as the evidence of this exchange.
    pub(crate) fn appraise_bytes(&self, evidence: &[u8]) -> Appraisal {
        let keys: Vec<Vec<u8>> = self.keys.iter().map(|offered| offered.area.bytes()).collect();
        TpmAppraiser::new(Vec::new()).appraise(
            evidence,
            &Expected {
                bind: self.bind,
                attestation_public: &self.tpm.ak_area.bytes(),
                selection: &self.selection,
                keys: &keys,
                sealed_to_boot: self.sealed_to_boot,
                log: &self.log,
                runtime: None,
            },
        )
    }

    /// Asserts that this is refused by `check` for `reason`.
    #[track_caller]
    pub(crate) fn refused(&self, check: &str, reason: Reason) {
        refused(&self.appraise(), check, reason);
    }
}

/// An attestation with its signature by `key`.
pub(crate) fn signed(key: &Key, attest: &Attest) -> TpmAttestation {
    let bytes = attest.bytes();
    TpmAttestation {
        signature: ByteBuf::from(attest::sign(key, &bytes)),
        attest: ByteBuf::from(bytes),
    }
}

/// Asserts that the last check made is `check`, failed for `reason`, and that it is the only failure.
#[track_caller]
pub(crate) fn refused(appraisal: &Appraisal, check: &str, reason: Reason) {
    let failure = appraisal.failure().expect("refused");
    assert_eq!(
        (failure.name, failure.reason()),
        (check, Some(reason)),
        "found {}",
        failure.found
    );
    assert_eq!(appraisal.checks.last(), Some(failure));
    assert!(!failure.expected.is_empty() && !failure.found.is_empty() && !failure.remedy.is_empty());
}

/// Asserts that every check passed.
#[track_caller]
pub(crate) fn passed(appraisal: &Appraisal) {
    assert_eq!(appraisal.failure(), None);
    assert!(appraisal.authenticated);
}
