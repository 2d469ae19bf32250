//! Results of other verifiers, read by the profile that the relying party configured. Members of one profile in a result of another are
//! refused: who mixes them is not understood.

use ciborium::Value;

use super::PROFILE;
use crate::{
    Reason,
    eat::{ClaimsError, ClaimsSet, Form, bytes_of},
};

/// The claims of the AR4SI vector by their numbers (draft-ietf-rats-ear, section 4.3).
pub const VECTOR_CLAIMS: [&str; 8] = [
    "instance-identity",
    "configuration",
    "executables",
    "file-system",
    "hardware",
    "runtime-opaque",
    "storage-opaque",
    "sourced-data",
];

/// A profile of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// draft-ietf-rats-ear-03.
    Ear03,
    /// Veraison's services and rust-ear.
    Veraison,
    /// Confidential Containers' Trustee.
    Trustee,
}

impl Profile {
    /// The value of `eat_profile`.
    pub fn uri(self) -> &'static str {
        match self {
            Self::Ear03 => PROFILE,
            Self::Veraison => "tag:github.com,2023:veraison/ear",
            Self::Trustee => "tag:github.com,2024:confidential-containers/Trustee",
        }
    }

    fn names(self) -> &'static Names {
        match self {
            Self::Ear03 => &UNDERSCORED,
            Self::Veraison | Self::Trustee => &DOTTED,
        }
    }
}

struct Names {
    status: &'static str,
    vector: &'static str,
    raw: &'static str,
    policy: &'static str,
    verifier: &'static str,
    key: &'static str,
    /// How names of the other kind begin.
    foreign: &'static str,
}

const UNDERSCORED: Names = Names {
    status: "ear_status",
    vector: "ear_trustworthiness_vector",
    raw: "ear_raw_evidence",
    policy: "ear_appraisal_policy_ids",
    verifier: "ear_verifier_id",
    key: "ear_veraison_key_attestation",
    foreign: "ear.",
};
const DOTTED: Names = Names {
    status: "ear.status",
    vector: "ear.trustworthiness-vector",
    raw: "ear.raw-evidence",
    policy: "ear.appraisal-policy-id",
    verifier: "ear.verifier-id",
    key: "ear.veraison.key-attestation",
    foreign: "ear_",
};

/// A tier of AR4SI, from nothing known to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// No assertion: never to be taken for success.
    None,
    /// As it should be.
    Affirming,
    /// Worth a look.
    Warning,
    /// Not to be trusted.
    Contraindicated,
}

impl Tier {
    /// The tier of a value (draft-ietf-rats-ar4si, section 2.3.2).
    pub fn of(value: i8) -> Self {
        match value {
            -1..=1 => Self::None,
            -32..=-2 | 2..=31 => Self::Affirming,
            -96..=-33 | 32..=95 => Self::Warning,
            i8::MIN..=-97 | 96..=i8::MAX => Self::Contraindicated,
        }
    }

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Affirming => "affirming",
            Self::Warning => "warning",
            Self::Contraindicated => "contraindicated",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "none" => Self::None,
            "affirming" => Self::Affirming,
            "warning" => Self::Warning,
            "contraindicated" => Self::Contraindicated,
            _ => return None,
        })
    }

    fn from_number(number: i128) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            2 => Self::Affirming,
            32 => Self::Warning,
            96 => Self::Contraindicated,
            _ => return None,
        })
    }
}

/// What a result says of one submodule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppraisedSubmodule {
    /// Its name.
    pub name: String,
    /// The status.
    pub status: Tier,
    /// The entries of the vector that are there, by their positions in [`VECTOR_CLAIMS`]. One that is absent affirms nothing.
    pub vector: Vec<(usize, i8)>,
    /// By which policies it was appraised.
    pub policies: Vec<String>,
    /// The key that the evidence was bound to, where the verifier says (SubjectPublicKeyInfo, DER).
    pub key: Option<Vec<u8>>,
    /// The nonces that were in the evidence: mostly one, or none.
    pub nonces: Vec<Vec<u8>>,
}

/// A result, read; nobody has checked its signature or its times here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationResult {
    /// When it was issued, seconds since the epoch.
    pub issued_at: i64,
    /// When it ends.
    pub expires_at: Option<i64>,
    /// Before when it is not to be accepted (RFC 7519 section 4.1.5).
    pub not_before: Option<i64>,
    /// Developer and build of the verifier.
    pub verifier: (String, String),
    /// The status of the whole, where it says one.
    pub status: Option<Tier>,
    /// Freshness of the result itself.
    pub nonces: Vec<Vec<u8>>,
    /// What it says of each submodule; never empty.
    pub submodules: Vec<AppraisedSubmodule>,
}

impl AttestationResult {
    /// Reads the claims of a result of this profile.
    pub fn read(claims: &ClaimsSet, profile: Profile) -> Result<Self, ClaimsError> {
        let names = profile.names();
        match claims.get(265, "eat_profile") {
            None => return Err(ClaimsError::missing("eat_profile")),
            Some(Value::Text(uri)) if uri == profile.uri() => {}
            Some(Value::Text(uri)) => {
                return Err(ClaimsError {
                    reason: Reason::WrongProfile,
                    what: format!("profile {uri}, where {} is configured", profile.uri()),
                });
            }
            Some(_) => return Err(ClaimsError::invalid("eat_profile")),
        }
        unmixed(claims, names)?;
        let time = |label, name: &str| match claims.get(label, name) {
            None => Ok(None),
            Some(value) => whole(value)
                .and_then(|seconds| i64::try_from(seconds).ok())
                .map(Some)
                .ok_or_else(|| ClaimsError::invalid(name)),
        };
        let issued_at = time(6, "iat")?.ok_or_else(|| ClaimsError::missing("iat"))?;
        let expires_at = time(4, "exp")?;
        let not_before = time(5, "nbf")?;
        let verifier = claims
            .get(1004, names.verifier)
            .ok_or_else(|| ClaimsError::missing(names.verifier))?;
        let verifier =
            ClaimsSet::of(claims.form(), verifier).ok_or_else(|| ClaimsError::invalid(names.verifier))?;
        let part = |label, name: &str| match verifier.get(label, name) {
            None => Err(ClaimsError::missing(name)),
            Some(Value::Text(text)) => Ok(text.clone()),
            Some(_) => Err(ClaimsError::invalid(name)),
        };
        let verifier = (part(0, "developer")?, part(1, "build")?);
        if claims
            .get(1002, names.raw)
            .is_some_and(|raw| bytes(raw, claims.form()).is_none())
        {
            return Err(ClaimsError::invalid(names.raw));
        }
        let submods = claims
            .get(266, "submods")
            .ok_or_else(|| ClaimsError::missing("submods"))?;
        let submods = submods
            .as_map()
            .filter(|members| !members.is_empty())
            .ok_or_else(|| ClaimsError::invalid("submods"))?;
        let submodules = submods
            .iter()
            .map(|(name, value)| {
                let name = name.as_text().ok_or_else(|| ClaimsError::invalid("submods"))?;
                submodule(name, value, claims.form(), names)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let status = match claims.get(1000, names.status) {
            None => None,
            Some(value) => {
                Some(status(value, claims.form(), names).ok_or_else(|| ClaimsError::invalid(names.status))?)
            }
        };
        // A status for the whole must not be better than that of the worst part.
        let worst = submodules.iter().map(|submodule| submodule.status).max();
        if status.is_some_and(|whole| better(whole, worst.unwrap_or(Tier::None))) {
            return Err(ClaimsError::contradicts(
                names.status,
                "of the whole is better than that of its worst submodule",
            ));
        }
        Ok(Self {
            issued_at,
            expires_at,
            not_before,
            verifier,
            status,
            nonces: nonces(claims)?,
            submodules,
        })
    }

    /// Whether every submodule is affirming, and the whole where it says so.
    pub fn is_affirming(&self) -> bool {
        let parts = self.submodules.iter().map(|submodule| submodule.status);
        parts.chain(self.status).all(|status| status == Tier::Affirming)
    }
}

fn submodule(
    name: &str,
    value: &Value,
    form: Form,
    names: &Names,
) -> Result<AppraisedSubmodule, ClaimsError> {
    let claims = ClaimsSet::of(form, value).ok_or_else(|| ClaimsError::invalid("submods"))?;
    unmixed(&claims, names)?;
    let value = claims
        .get(1000, names.status)
        .ok_or_else(|| ClaimsError::missing(names.status))?;
    let status = status(value, claims.form(), names).ok_or_else(|| ClaimsError::invalid(names.status))?;
    let vector = match claims.get(1001, names.vector) {
        None => Vec::new(),
        Some(value) => vector(value, form).ok_or_else(|| ClaimsError::invalid(names.vector))?,
    };
    let worst = vector.iter().map(|(_, value)| Tier::of(*value)).max();
    if better(status, worst.unwrap_or(Tier::None)) {
        return Err(ClaimsError::contradicts(
            names.status,
            "is better than the worst entry of its trustworthiness vector",
        ));
    }
    let policies = match claims.get(1003, names.policy) {
        None => Vec::new(),
        Some(Value::Text(one)) if names.foreign == "ear_" => vec![one.clone()],
        Some(Value::Array(list)) if !list.is_empty() && names.foreign == "ear." => list
            .iter()
            .map(|policy| policy.as_text().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(|| ClaimsError::invalid(names.policy))?,
        Some(_) => return Err(ClaimsError::invalid(names.policy)),
    };
    for (label, extension) in [
        (-70000, "ear.veraison.annotated-evidence"),
        (-70001, "ear.veraison.policy-claims"),
    ] {
        for name in [
            extension,
            &extension
                .replacen('.', "_", 1)
                .replacen('.', "_", 1)
                .replace('-', "_"),
        ] {
            if claims.get(label, name).is_some_and(|value| !value.is_map()) {
                return Err(ClaimsError::invalid(extension));
            }
        }
    }
    let key = match claims.get(-70002, names.key) {
        None => None,
        Some(value) => {
            let attested = ClaimsSet::of(form, value).ok_or_else(|| ClaimsError::invalid(names.key))?;
            let key = attested
                .get(0, "akpub")
                .or_else(|| attested.get(-1, "akpub"))
                .or_else(|| attested.named("akpub"))
                .ok_or_else(|| ClaimsError::missing("akpub"))?;
            Some(bytes(key, form).ok_or_else(|| ClaimsError::invalid("akpub"))?)
        }
    };
    Ok(AppraisedSubmodule {
        name: name.to_owned(),
        status,
        vector,
        policies,
        key,
        nonces: nonces(&claims)?,
    })
}

/// Whether a status claims more than what it sums up. One that says nothing claims nothing.
fn better(status: Tier, worst: Tier) -> bool {
    status != Tier::None && status < worst
}

fn unmixed(claims: &ClaimsSet, names: &Names) -> Result<(), ClaimsError> {
    match claims.names().find(|name| name.starts_with(names.foreign)) {
        Some(name) => Err(ClaimsError {
            reason: Reason::ClaimInvalid,
            what: format!("{name} is of another profile"),
        }),
        None => Ok(()),
    }
}

/// A name in JSON, a number in CBOR; who wrote the older profiles did not always keep them apart.
fn status(value: &Value, form: Form, names: &Names) -> Option<Tier> {
    let strict = names.foreign == UNDERSCORED.foreign;
    match (value, form) {
        (Value::Text(_), Form::Cbor) | (Value::Integer(_), Form::Json) if strict => None,
        (Value::Text(name), _) => Tier::from_name(name),
        (value, _) => Tier::from_number(whole(value)?),
    }
}

/// The entries of a vector by their positions: whether a JSON object keeps its order is the reader's affair.
fn vector(value: &Value, form: Form) -> Option<Vec<(usize, i8)>> {
    let entries = value.as_map().filter(|entries| !entries.is_empty())?;
    let mut vector = entries
        .iter()
        .map(|(key, value)| {
            let at = match (key, form) {
                (Value::Text(name), Form::Json) => VECTOR_CLAIMS.iter().position(|known| known == name)?,
                (Value::Integer(number), Form::Cbor) => usize::try_from(*number)
                    .ok()
                    .filter(|at| *at < VECTOR_CLAIMS.len())?,
                _ => return None,
            };
            Some((at, i8::try_from(whole(value)?).ok()?))
        })
        .collect::<Option<Vec<(usize, i8)>>>()?;
    vector.sort_unstable();
    Some(vector)
}

/// One nonce, or a list of them (RFC 9711 section 4.1).
fn nonces(claims: &ClaimsSet) -> Result<Vec<Vec<u8>>, ClaimsError> {
    let list = match claims.get(10, "eat_nonce") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) if !list.is_empty() => list.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    let nonce = |value: &Value| match value {
        Value::Text(text) if (8..=88).contains(&text.len()) => Ok(text.clone().into_bytes()),
        Value::Bytes(bytes) if (8..=64).contains(&bytes.len()) => Ok(bytes.clone()),
        _ => Err(ClaimsError::invalid("eat_nonce")),
    };
    list.iter().map(nonce).collect()
}

fn whole(value: &Value) -> Option<i128> {
    value.as_integer().map(i128::from)
}

fn bytes(value: &Value, form: Form) -> Option<Vec<u8>> {
    match (value, form) {
        (Value::Bytes(bytes), Form::Cbor) => Some(bytes.clone()),
        (Value::Text(text), Form::Json) => bytes_of(text).or_else(|| standard(text)),
        _ => None,
    }
}

/// Some verifiers write the other alphabet.
fn standard(text: &str) -> Option<Vec<u8>> {
    bytes_of(&text.replace('+', "-").replace('/', "_"))
}
