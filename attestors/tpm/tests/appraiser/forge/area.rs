//! TPMT_PUBLIC with every field open to alteration.

use touchmark_crypto::{KeyKind, PublicKey};

use super::write::{SHA256, Writer, digest};

pub(crate) const FIXED_TPM: u32 = 1 << 1;
pub(crate) const FIXED_PARENT: u32 = 1 << 4;
pub(crate) const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
pub(crate) const USER_WITH_AUTH: u32 = 1 << 6;
pub(crate) const ADMIN_WITH_POLICY: u32 = 1 << 7;
pub(crate) const NO_DA: u32 = 1 << 10;
pub(crate) const RESTRICTED: u32 = 1 << 16;
pub(crate) const DECRYPT: u32 = 1 << 17;
pub(crate) const SIGN: u32 = 1 << 18;
pub(crate) const X509_SIGN: u32 = 1 << 19;

/// What every key that a TPM made and keeps has.
pub(crate) const HELD: u32 = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN;
pub(crate) const AK: u32 = HELD | USER_WITH_AUTH | NO_DA | RESTRICTED | SIGN;
pub(crate) const KEY: u32 = HELD | NO_DA | SIGN;
pub(crate) const EK_LOW: u32 = HELD | ADMIN_WITH_POLICY | RESTRICTED | DECRYPT;
pub(crate) const EK_HIGH: u32 = EK_LOW | USER_WITH_AUTH;

pub(crate) const RSA: u16 = 0x0001;
pub(crate) const ECC: u16 = 0x0023;
pub(crate) const NULL: u16 = 0x0010;
pub(crate) const RSASSA: u16 = 0x0014;
pub(crate) const RSAPSS: u16 = 0x0016;
pub(crate) const ECDSA: u16 = 0x0018;

/// PolicySecret(TPM_RH_ENDORSEMENT), SHA-256: two rounds over TPM_CC_PolicySecret, the hierarchy's handle and an empty
/// reference.
pub(crate) fn endorsement_policy() -> Vec<u8> {
    let first = digest(
        SHA256,
        &[&[0; 32], &0x151_u32.to_be_bytes(), &0x4000_000b_u32.to_be_bytes()],
    );
    digest(SHA256, &[&first])
}

/// PolicyB of the EK credential profile, SHA-256.
pub(crate) const ENDORSEMENT_POLICY_B: &str =
    "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0";

/// A public area before it is written.
#[derive(Clone)]
pub(crate) struct Area {
    pub(crate) kind: u16,
    pub(crate) name_alg: u16,
    pub(crate) attributes: u32,
    pub(crate) policy: Vec<u8>,
    /// TPMT_SYM_DEF_OBJECT.
    pub(crate) symmetric: Vec<u16>,
    /// TPMT_ASYM_SCHEME.
    pub(crate) scheme: Vec<u16>,
    /// Curve and key derivation scheme, or key bits and exponent.
    pub(crate) parameters: Vec<u8>,
    /// The coordinates, or the modulus.
    pub(crate) unique: Vec<Vec<u8>>,
    /// Bytes that do not belong there.
    pub(crate) tail: Vec<u8>,
}

impl Area {
    /// A key that signs with the hash `hash`.
    pub(crate) fn signing(key: &PublicKey, hash: u16, attributes: u32, policy: Vec<u8>) -> Self {
        let (kind, scheme) = match key.kind() {
            KeyKind::Rsa { .. } => (RSA, RSASSA),
            _ => (ECC, ECDSA),
        };
        let (parameters, unique) = split(key);
        Self {
            kind,
            name_alg: SHA256,
            attributes,
            policy,
            symmetric: vec![NULL],
            scheme: vec![scheme, hash],
            parameters,
            unique,
            tail: Vec::new(),
        }
    }

    /// An endorsement key of the low-range templates.
    pub(crate) fn endorsement(key: &PublicKey) -> Self {
        Self {
            attributes: EK_LOW,
            policy: endorsement_policy(),
            symmetric: vec![0x0006, 128, 0x0043],
            scheme: vec![NULL],
            ..Self::signing(key, SHA256, 0, Vec::new())
        }
    }

    /// The same key as an ECC key of this curve number.
    pub(crate) fn on_curve(mut self, curve: u16) -> Self {
        self.parameters = Writer::default().u16(curve).u16(NULL).0;
        self
    }

    /// The same area with these RSA numbers.
    pub(crate) fn rsa(mut self, bits: u16, exponent: u32, modulus: Vec<u8>) -> Self {
        self.kind = RSA;
        self.parameters = Writer::default().u16(bits).u32(exponent).0;
        self.unique = vec![modulus];
        self
    }

    /// TPMT_PUBLIC.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut writer = Writer::default()
            .u16(self.kind)
            .u16(self.name_alg)
            .u32(self.attributes)
            .sized(&self.policy);
        for word in self.symmetric.iter().chain(&self.scheme) {
            writer = writer.u16(*word);
        }
        writer = writer.raw(&self.parameters);
        for number in &self.unique {
            writer = writer.sized(number);
        }
        writer.raw(&self.tail).0
    }

    /// The Name.
    pub(crate) fn name(&self) -> Vec<u8> {
        Writer::default()
            .u16(self.name_alg)
            .raw(&digest(self.name_alg, &[&self.bytes()]))
            .0
    }
}

fn split(key: &PublicKey) -> (Vec<u8>, Vec<Vec<u8>>) {
    let curve = match key.kind() {
        KeyKind::P256 => 3,
        KeyKind::P384 => 4,
        KeyKind::P521 => 5,
        KeyKind::Secp256k1 => panic!("no TPM of ours has such keys"),
        KeyKind::Rsa { bits } => {
            // SEQUENCE { INTEGER modulus with a leading zero, INTEGER 65537 } of a 2048-bit key.
            assert_eq!(bits, 2048);
            let parameters = Writer::default().u16(2048).u32(0).0;
            return (parameters, vec![key.raw()[9..265].to_vec()]);
        }
    };
    let (x, y) = key.ec_coordinates().unwrap();
    (
        Writer::default().u16(curve).u16(NULL).0,
        vec![x.to_vec(), y.to_vec()],
    )
}
