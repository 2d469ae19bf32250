//! The challenge is a cookie: everything the second message has to match travels in it, sealed, so that nothing is kept
//! for a challenge that is never answered.
//!
//! AES-256-GCM under a key derived per cookie from a random id (which is also the challenge's id), with the protocol
//! version, the trust domain and the anchor as associated data. Whoever holds the cookie key can enrol as any host: it
//! lives in memory, new at each start of a server.

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};
use touchmark_crypto::{CryptoError, Entropy, Secret, aead, mac::MacSha256};
use touchmark_rats::{PcrSelection, Purpose, Voucher, cbor, message_mac_key};
use zeroize::Zeroize;

/// Version of the cookie's contents.
const VERSION: u8 = 1;
/// Largest cookie accepted, in bytes.
pub(crate) const MAX_COOKIE: usize = 4 * 1024;
/// Length of an activation secret in bytes.
const SECRET_LEN: usize = 32;
/// Every cookie seals this many bytes, so that its length says nothing about what is in it.
const PADDED: usize = 1024;
const SEAL_LABEL: &[u8] = b"touchmark challenge cookie";

/// Why a cookie was not accepted. To the peer both look the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    /// Not sealed by this server since it started, for this trust domain and anchor, or altered.
    #[error("not a challenge of this server, or altered")]
    Invalid,
    /// Past its lifetime.
    #[error("the challenge has expired")]
    Expired,
    /// The provider failed.
    #[error("cryptographic provider failed")]
    Provider,
}

/// Whom a challenge is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The host's record; `None` marks a challenge whose answer is refused unread (nobody enrolled knows this
    /// endorsement key, or its chain failed).
    pub host: Option<String>,
    /// Name of the endorsement key that the secret was sealed to; empty where there is no activation.
    pub endorsement_name: ByteBuf,
    /// Digest of the endorsement key.
    pub endorsement_digest: ByteArray<32>,
    /// Name of the attestation key.
    pub attestation_name: ByteBuf,
    /// The maker that vouches for the device, if any.
    pub voucher: Option<Voucher>,
}

#[derive(Serialize, Deserialize)]
struct Contents {
    purpose: String,
    nonce: ByteArray<32>,
    subject: Subject,
    secret: Option<ByteArray<SECRET_LEN>>,
    selection: Vec<(u16, Vec<u8>)>,
    offsets: Vec<u64>,
    issued: u64,
    expiry: u64,
}

/// What a challenge is to be for.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// Purpose.
    pub purpose: Purpose,
    /// Who is to answer.
    pub subject: Subject,
    /// Whether there is a secret to activate.
    pub activation: bool,
    /// The registers to quote, empty for none.
    pub selection: &'a PcrSelection,
    /// Where each log is to begin, in bytes: the boot log, then what was measured since. What comes before is on record.
    pub log_offsets: Vec<u64>,
}

/// A challenge as its maker sends it.
#[derive(Debug)]
pub struct Issued {
    /// The challenge's id, by which its consumption is recorded.
    pub id: [u8; 16],
    /// The nonce.
    pub nonce: [u8; 32],
    /// The cookie.
    pub cookie: Vec<u8>,
    /// The activation secret, to be sealed to the endorsement key; `None` where there is no activation.
    pub secret: Option<Secret>,
    /// The offsets that the logs are to begin at.
    pub log_offsets: Vec<u64>,
    /// When it expires, seconds since the epoch.
    pub expiry: u64,
}

/// Issues challenges and recognizes them again.
pub struct Challenger {
    key: Secret,
    trust_domain: String,
    anchor: [u8; 32],
    lifetime: u64,
}

impl Challenger {
    /// A challenger for one trust domain (an origin) and anchor, whose challenges live `lifetime` seconds.
    pub fn new(
        entropy: &impl Entropy,
        trust_domain: &str,
        anchor: [u8; 32],
        lifetime: u64,
    ) -> Result<Self, CryptoError> {
        let mut key = vec![0; 32];
        entropy.fill(&mut key)?;
        Ok(Self {
            key: Secret::new(key),
            trust_domain: trust_domain.to_owned(),
            anchor,
            lifetime,
        })
    }

    /// The trust domain, as it is bound.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The anchor, as it is bound.
    pub fn anchor(&self) -> [u8; 32] {
        self.anchor
    }

    /// Issues a challenge.
    pub fn issue(&self, entropy: &impl Entropy, wanted: Wanted<'_>, now: u64) -> Result<Issued, CryptoError> {
        let Wanted {
            purpose,
            subject,
            activation,
            selection,
            log_offsets,
        } = wanted;
        let id = entropy.array()?;
        let nonce = entropy.array::<32>()?;
        let mut secret = if activation {
            Some(entropy.array::<SECRET_LEN>()?)
        } else {
            None
        };
        let expiry = now + self.lifetime;
        let mut plain = cbor::encode(&Contents {
            purpose: purpose.as_str().to_owned(),
            nonce: ByteArray::new(nonce),
            subject,
            secret: secret.map(ByteArray::new),
            selection: selection.to_wire(),
            offsets: log_offsets.clone(),
            issued: now,
            expiry,
        });
        let length = u16::try_from(plain.len())
            .ok()
            .filter(|length| usize::from(*length) + 2 <= PADDED);
        let length = length.ok_or(CryptoError::Malformed("challenge: contents over their size"))?;
        let mut padded = vec![0; PADDED];
        padded.splice(..2, length.to_be_bytes());
        padded.splice(2..2 + plain.len(), plain.iter().copied());
        let sealed = aead::seal(&self.key, SEAL_LABEL, &id, &self.associated(), &padded);
        plain.zeroize();
        padded.zeroize();
        let cookie = [&[VERSION][..], &id, &sealed?].concat();
        let held = secret.map(|secret| Secret::new(secret.to_vec()));
        secret.zeroize();
        Ok(Issued {
            id,
            nonce,
            cookie,
            secret: held,
            log_offsets,
            expiry,
        })
    }

    /// Opens a cookie that came back.
    pub fn open(&self, cookie: &[u8], now: u64) -> Result<Challenge, ChallengeError> {
        const INVALID: ChallengeError = ChallengeError::Invalid;
        let (version, rest) = cookie.split_first().ok_or(INVALID)?;
        let (id, sealed) = rest.split_first_chunk::<16>().ok_or(INVALID)?;
        if *version != VERSION || cookie.len() > MAX_COOKIE {
            return Err(INVALID);
        }
        let plain = aead::open(&self.key, SEAL_LABEL, id, &self.associated(), sealed).map_err(|_| INVALID)?;
        let (length, rest) = plain.expose().split_first_chunk::<2>().ok_or(INVALID)?;
        let contents = rest.get(..u16::from_be_bytes(*length).into()).ok_or(INVALID)?;
        let contents: Contents = cbor::decode(contents, MAX_COOKIE).map_err(|_| INVALID)?;
        if now >= contents.expiry || now + CLOCK_LEEWAY < contents.issued {
            return Err(ChallengeError::Expired);
        }
        let mac_key = match contents.secret {
            None => None,
            Some(mut secret) => {
                let held = Secret::new(secret.to_vec());
                secret.zeroize();
                Some(message_mac_key(&held, id).map_err(|_| ChallengeError::Provider)?)
            }
        };
        Ok(Challenge {
            purpose: Purpose::parse(&contents.purpose).ok_or(INVALID)?,
            id: *id,
            nonce: contents.nonce.into_array(),
            subject: contents.subject,
            selection: PcrSelection::from_wire(&contents.selection).ok_or(INVALID)?,
            offsets: contents.offsets,
            issued: contents.issued,
            expiry: contents.expiry,
            mac_key,
        })
    }

    fn associated(&self) -> Vec<u8> {
        cbor::encode(&(VERSION, &self.trust_domain, serde_bytes::Bytes::new(&self.anchor)))
    }
}

/// How far two readings of one server's clock may go back, in seconds.
const CLOCK_LEEWAY: u64 = 30;

/// A challenge that came back intact and in time.
#[derive(Debug)]
pub struct Challenge {
    /// What the exchange is for.
    pub purpose: Purpose,
    /// The id.
    pub id: [u8; 16],
    /// The nonce.
    pub nonce: [u8; 32],
    /// Whom it was issued to.
    pub subject: Subject,
    /// The registers to be quoted.
    pub selection: PcrSelection,
    /// One offset per log.
    pub offsets: Vec<u64>,
    /// When it expires, seconds since the epoch.
    pub expiry: u64,
    /// When it was issued.
    pub issued: u64,
    mac_key: Option<Secret>,
}

impl Challenge {
    /// The MAC that the second message must carry; `None` where there was no activation, and the attestation's own
    /// signature takes its place.
    pub fn mac(&self) -> Option<MacSha256> {
        self.mac_key.as_ref().map(MacSha256::new)
    }
}

#[cfg(test)]
mod tests {
    use touchmark_crypto::SystemEntropy;
    use touchmark_rats::{CertifiedKey, MakerKind};

    use super::*;

    fn challenger() -> Challenger {
        Challenger::new(&SystemEntropy, "spiffe://example.org", [7; 32], 150).unwrap()
    }

    fn subject() -> Subject {
        Subject {
            host: Some("h".into()),
            endorsement_name: ByteBuf::from(vec![1]),
            endorsement_digest: ByteArray::new([2; 32]),
            attestation_name: ByteBuf::from(vec![3]),
            voucher: None,
        }
    }

    fn enrol(subject: Subject, activation: bool, selection: &PcrSelection) -> Wanted<'_> {
        Wanted {
            purpose: Purpose::Enrol,
            subject,
            activation,
            selection,
            log_offsets: vec![0],
        }
    }

    fn issue(challenger: &Challenger) -> Issued {
        let selection = PcrSelection::boot();
        challenger
            .issue(&SystemEntropy, enrol(subject(), true, &selection), 1_000)
            .unwrap()
    }

    #[test]
    fn a_cookie_opens_where_it_was_made_and_in_time() {
        let challenger = challenger();
        let issued = issue(&challenger);
        let opened = challenger.open(&issued.cookie, 1_149).unwrap();
        assert_eq!(
            (opened.id, opened.nonce, opened.subject.clone()),
            (issued.id, issued.nonce, subject())
        );
        assert_eq!(
            challenger.open(&issued.cookie, 1_150).unwrap_err(),
            ChallengeError::Expired
        );
        assert_eq!(
            challenger.open(&issued.cookie, 900).unwrap_err(),
            ChallengeError::Expired
        );
        let mut ours = opened.mac().unwrap();
        let secret = issued.secret.unwrap();
        let mut theirs = MacSha256::new(&message_mac_key(&secret, &issued.id).unwrap());
        ours.update(b"message");
        theirs.update(b"message");
        assert!(ours.verify(&theirs.finish()));
    }

    #[test]
    fn e13_a_cookie_of_another_server_or_anchor_is_refused() {
        let issued = issue(&challenger());
        assert_eq!(
            challenger().open(&issued.cookie, 1_001).unwrap_err(),
            ChallengeError::Invalid
        );
        let one = challenger();
        let issued = issue(&one);
        let moved = Challenger {
            anchor: [8; 32],
            ..one
        };
        assert_eq!(
            moved.open(&issued.cookie, 1_001).unwrap_err(),
            ChallengeError::Invalid
        );
        let renamed = Challenger {
            anchor: [7; 32],
            trust_domain: "spiffe://example.com".into(),
            ..moved
        };
        assert_eq!(
            renamed.open(&issued.cookie, 1_001).unwrap_err(),
            ChallengeError::Invalid
        );
    }

    #[test]
    fn cookies_are_of_one_length_whomever_they_are_for() {
        let challenger = challenger();
        let marked = Subject {
            host: None,
            endorsement_name: ByteBuf::new(),
            ..subject()
        };
        let boot = PcrSelection::boot();
        let issue = |subject, activation| {
            challenger
                .issue(&SystemEntropy, enrol(subject, activation, &boot), 1_000)
                .unwrap()
                .cookie
                .len()
        };
        assert_eq!(issue(marked.clone(), true), issue(subject(), true));
        assert_eq!(issue(marked, false), issue(subject(), true));
        // The most that is known of a device: a long path, serial number and names.
        let vouched = Subject {
            host: Some("0b0f1c9e-6d2c-4c55-9f0a-3f1f6e1f7d31".into()),
            endorsement_name: ByteBuf::from(vec![1; 50]),
            attestation_name: ByteBuf::from(vec![1; 34]),
            voucher: Some(Voucher {
                maker: "m".repeat(64),
                kind: MakerKind::Hypervisor,
                certified: CertifiedKey::AttestationKey,
                simulated: true,
                anchor: [0xff; 32],
                manufacturer: "m".repeat(16),
                serial: ByteBuf::from(vec![0xff; 40]),
                issuers: vec![ByteArray::new([0xff; 32]); 9],
            }),
            ..subject()
        };
        assert_eq!(issue(vouched, true), issue(subject(), true));
    }

    #[test]
    fn every_flipped_bit_of_a_cookie_is_refused() {
        let challenger = challenger();
        let issued = issue(&challenger);
        for bit in (0..issued.cookie.len() * 8).step_by(5) {
            let mut cookie = issued.cookie.clone();
            cookie[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                challenger.open(&cookie, 1_001).unwrap_err(),
                ChallengeError::Invalid,
                "bit {bit}"
            );
        }
        assert_eq!(challenger.open(&[], 1_001).unwrap_err(), ChallengeError::Invalid);
    }
}
