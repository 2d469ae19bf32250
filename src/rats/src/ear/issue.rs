//! The attestation result: an EAR of profile ear-03 (draft-ietf-rats-ear), as an unprotected EAT claims set
//! (RFC 9782) that the credential around it protects.

use serde::Serialize;
use serde_json::Value;
use touchmark_crypto::jose::b64u;

use super::PROFILE;
use crate::cmw::Record;

/// Media type of an unprotected claims set in JSON.
pub const MEDIA_TYPE: &str = "application/eat-ucs+json";

/// What the result says of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostResult {
    /// Whether configuration marks the maker as simulated.
    pub simulated: bool,
    /// Whether a pinned maker vouches for the device.
    pub vouched: bool,
    /// Whether what was quoted covers the boot: firmware, its configuration, loader and kernel.
    pub boot: bool,
    /// SHA-256 of the evidence that was appraised.
    pub evidence: [u8; 32],
}

/// What the result says of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyResult {
    /// Custody class.
    pub custody: String,
    /// Whether the device is simulated.
    pub simulated: bool,
    /// `agent` or `file`.
    pub usage: String,
    /// SHA-256 of the evidence that was appraised.
    pub evidence: [u8; 32],
}

/// An attestation result with the submodules `host` and `key`. Only affirming results exist: a host or key that did
/// not pass has a refusal instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ear {
    /// When it was concluded, seconds since the epoch.
    pub issued_at: u64,
    /// Version of the verifier.
    pub build: String,
    /// The host.
    pub host: HostResult,
    /// The key.
    pub key: KeyResult,
}

impl Ear {
    /// The claims.
    fn claims(&self) -> Claims<'_> {
        // AR4SI (draft-ietf-rats-ar4si): 2 for an instance that is recognized and for genuine hardware, 3 for
        // executables that were approved up to the end of boot. A simulated device claims nothing of its hardware.
        Claims {
            eat_profile: PROFILE,
            iat: self.issued_at,
            ear_verifier_id: Verifier {
                developer: "https://touchmark.dev",
                build: &self.build,
            },
            submods: Submods {
                host: HostClaims {
                    ear_status: "affirming",
                    ear_trustworthiness_vector: Vector {
                        instance_identity: 2,
                        executables: self.host.boot.then_some(3),
                        hardware: (self.host.vouched && !self.host.simulated).then_some(2),
                    },
                    touchmark_simulated: self.host.simulated,
                    touchmark_evidence: b64u(&self.host.evidence),
                },
                key: OwnKeyClaims {
                    ear_status: "affirming",
                    ear_trustworthiness_vector: Vector {
                        instance_identity: 2,
                        executables: None,
                        hardware: None,
                    },
                    touchmark_custody: &self.key.custody,
                    touchmark_simulated: self.key.simulated,
                    touchmark_use: &self.key.usage,
                    touchmark_evidence: b64u(&self.key.evidence),
                },
            },
        }
    }

    /// The result in a CMW, as both kinds of credential carry it.
    pub fn to_cmw(&self) -> Value {
        // It cannot fail: maps of text.
        let value = serde_json::to_vec(&self.claims()).unwrap_or_default();
        Record {
            media_type: MEDIA_TYPE.to_owned(),
            value,
            indicator: None,
        }
        .to_json()
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    eat_profile: &'a str,
    iat: u64,
    ear_verifier_id: Verifier<'a>,
    submods: Submods<'a>,
}

#[derive(Serialize)]
struct Verifier<'a> {
    developer: &'a str,
    build: &'a str,
}

#[derive(Serialize)]
struct Submods<'a> {
    host: HostClaims<'a>,
    key: OwnKeyClaims<'a>,
}

#[derive(Serialize)]
struct Vector {
    #[serde(rename = "instance-identity")]
    instance_identity: i8,
    #[serde(skip_serializing_if = "Option::is_none")]
    executables: Option<i8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hardware: Option<i8>,
}

#[derive(Serialize)]
struct HostClaims<'a> {
    ear_status: &'a str,
    ear_trustworthiness_vector: Vector,
    touchmark_simulated: bool,
    touchmark_evidence: String,
}

#[derive(Serialize)]
struct OwnKeyClaims<'a> {
    ear_status: &'a str,
    ear_trustworthiness_vector: Vector,
    touchmark_custody: &'a str,
    touchmark_simulated: bool,
    touchmark_use: &'a str,
    touchmark_evidence: String,
}

/// What a result in a credential says of the credential's key, for whoever received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyClaims {
    /// Custody class.
    pub custody: String,
    /// Whether the device is simulated.
    pub simulated: bool,
    /// `agent` or `file`.
    pub usage: String,
}

impl KeyClaims {
    /// Reads them from a result in a CMW. The credential around it has to have been verified; `None` for anything but an
    /// affirming result of this profile, so that nothing is claimed where nothing can be read.
    pub fn from_cmw(cmw: &Value) -> Option<Self> {
        let record = Record::from_json(cmw).filter(|record| record.media_type == MEDIA_TYPE)?;
        let ear: Value = serde_json::from_slice(&record.value).ok()?;
        if ear.get("eat_profile")?.as_str()? != PROFILE {
            return None;
        }
        let submods = ear.get("submods")?.as_object()?;
        let affirmed = submods
            .values()
            .all(|one| one.get("ear_status").and_then(Value::as_str) == Some("affirming"));
        let key = submods.get("key").filter(|_| affirmed)?;
        Some(Self {
            custody: key.get("touchmark_custody")?.as_str()?.to_owned(),
            simulated: key.get("touchmark_simulated")?.as_bool()?,
            usage: key.get("touchmark_use")?.as_str()?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_simulated_device_claims_no_hardware() {
        let ear = Ear {
            issued_at: 1,
            build: "test".into(),
            host: HostResult {
                boot: true,
                simulated: true,
                vouched: true,
                evidence: [1; 32],
            },
            key: KeyResult {
                custody: "hardware".into(),
                simulated: true,
                usage: "agent".into(),
                evidence: [2; 32],
            },
        };
        let json = serde_json::to_value(ear.claims()).unwrap();
        assert_eq!(json["submods"]["key"]["touchmark_custody"], "hardware");
        assert_eq!(json["submods"]["key"]["touchmark_simulated"], true);
        assert!(
            json["submods"]["host"]["ear_trustworthiness_vector"]
                .get("hardware")
                .is_none()
        );
        assert_eq!(ear.to_cmw()[0], MEDIA_TYPE);
        let claims = KeyClaims::from_cmw(&ear.to_cmw()).unwrap();
        assert_eq!((claims.custody.as_str(), claims.simulated), ("hardware", true));
    }

    #[test]
    fn nothing_is_claimed_where_nothing_can_be_read() {
        let cmw = |text: &str| {
            Record {
                media_type: MEDIA_TYPE.to_owned(),
                value: text.as_bytes().to_vec(),
                indicator: None,
            }
            .to_json()
        };
        for text in [
            "",
            "{}",
            r#"{"eat_profile": "tag:ietf.org,2026:rats/ear#03", "submods": {}}"#,
            r#"{"eat_profile": "other", "submods": {"key": {"ear_status": "affirming", "touchmark_custody": "hardware", "touchmark_simulated": false, "touchmark_use": "agent"}}}"#,
            r#"{"eat_profile": "tag:ietf.org,2026:rats/ear#03", "submods": {"host": {"ear_status": "warning"}, "key": {"ear_status": "affirming", "touchmark_custody": "hardware", "touchmark_simulated": false, "touchmark_use": "agent"}}}"#,
            r#"{"eat_profile": "tag:ietf.org,2026:rats/ear#03", "submods": {"key": {"ear_status": "affirming", "touchmark_custody": "hardware", "touchmark_simulated": "no", "touchmark_use": "agent"}}}"#,
        ] {
            assert_eq!(KeyClaims::from_cmw(&cmw(text)), None, "{text}");
        }
        assert_eq!(KeyClaims::from_cmw(&json!(["text/plain", "e30"])), None);
    }
}
