//! What a TSS2 PRIVATE KEY file is, whether its parts fit together, and whether its policy's steps can satisfy it. No TPM is asked.

use touchmark_crypto::pem;
use touchmark_rats::{Check, Reason};

use super::{
    KeyFile, KeyType, LABEL, MAX_FILE, ObjectKind, PolicyError, PublicArea, Tss2Error, is_hierarchy,
    is_persistent, policy, public::Reader,
};

/// A file that holds together.
#[derive(Clone)]
pub struct Inspected {
    /// What was looked at, in order; all passed or noted.
    pub checks: Vec<Check>,
    /// What the file says.
    pub file: KeyFile,
    /// The key's public area.
    pub public: PublicArea,
}

const STRUCTURE: &str = "key.structure";
const PARENT: &str = "key.parent";
const PUBLIC: &str = "key.public";
const PRIVATE: &str = "key.private";
const POLICY: &str = "key.policy";

/// Reads a file, PEM, and judges it.
pub fn inspect(bytes: &[u8]) -> Result<Inspected, Check> {
    let file = read(bytes).map_err(|error| {
        let reason = match error {
            Tss2Error::Oversized => Reason::Oversized,
            _ => Reason::Malformed,
        };
        let expected = "one key in PEM, as draft-bottomley-tpm-keys has it";
        refused(STRUCTURE, reason, expected, error.to_string())
    })?;
    let mut checks = vec![Check::passed(
        STRUCTURE,
        format!("a {} key, parent {:#x}", file.kind.as_str(), file.parent),
    )];
    if file.lax_boolean {
        let found = "a truth value that is encoded otherwise than DER has it";
        checks.push(Check::noted(STRUCTURE, Reason::NotDer, found));
    }
    checks.push(parent(file.parent)?);
    let public = public(&file)?;
    checks.push(Check::passed(PUBLIC, told(&public)));
    whole(&file.private).ok_or_else(|| {
        let expected = "TPM2B_PRIVATE, whole";
        refused(
            PRIVATE,
            Reason::Malformed,
            expected,
            "its size is not that of what follows".into(),
        )
    })?;
    if file.kind == KeyType::Importable && file.secret.is_none() {
        let expected = "the seed of an importable key (secret [2])";
        return Err(refused(PRIVATE, Reason::Malformed, expected, "none".into()));
    }
    checks.extend(steps(&file, &public)?);
    Ok(Inspected { checks, file, public })
}

fn read(bytes: &[u8]) -> Result<KeyFile, Tss2Error> {
    if bytes.len() > MAX_FILE {
        return Err(Tss2Error::Oversized);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Tss2Error::Pem)?;
    let ders = pem::decode_all(LABEL, text).map_err(|_| Tss2Error::Pem)?;
    match ders.as_slice() {
        [der] => KeyFile::from_der(der),
        _ => Err(Tss2Error::Pem),
    }
}

fn refused(name: &'static str, reason: Reason, expected: &str, found: String) -> Check {
    Check::failed(name, reason, expected, found, "make the file again from the key")
}

fn parent(handle: u32) -> Result<Check, Check> {
    match handle {
        handle if is_hierarchy(handle) => Ok(Check::passed(PARENT, "a storage primary of a hierarchy")),
        handle if is_persistent(handle) => Ok(Check::passed(PARENT, format!("persistent, {handle:#x}"))),
        // Loaded by hand: after a reset it is something else, or nothing.
        handle if handle >> 24 == 0x80 => Ok(Check::noted(
            PARENT,
            Reason::ParentUnusual,
            format!("transient, {handle:#x}: it is gone with the next reset"),
        )),
        handle => Err(Check::failed(
            PARENT,
            Reason::ParentUnusual,
            "a hierarchy or a persistent handle (0x81xxxxxx)",
            format!("{handle:#x}"),
            "make the file again below a storage key",
        )),
    }
}

/// A TPM2B with nothing after it.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(bytes);
    let contents = reader.sized()?;
    (reader.is_empty() && !contents.is_empty()).then_some(contents)
}

fn public(file: &KeyFile) -> Result<PublicArea, Check> {
    let area = whole(&file.public).and_then(PublicArea::read).ok_or_else(|| {
        let found = "it is none, or of a type or hash that is not known";
        refused(PUBLIC, Reason::Malformed, "TPM2B_PUBLIC, whole", found.into())
    })?;
    if area.name_hash.is_weak() {
        let expected = "a name of SHA-256 or longer";
        return Err(refused(
            PUBLIC,
            Reason::WeakHash,
            expected,
            "a name of SHA-1".into(),
        ));
    }
    if let ObjectKind::Asymmetric(Err(why)) = &area.kind {
        return Err(refused(
            PUBLIC,
            Reason::KeyInvalid,
            "a key that can be used",
            (*why).into(),
        ));
    }
    if file.kind == KeyType::Sealed && area.kind != ObjectKind::KeyedHash {
        let expected = "sealed data";
        return Err(refused(PUBLIC, Reason::WrongType, expected, "a key".into()));
    }
    Ok(area)
}

fn told(area: &PublicArea) -> String {
    let kind = match &area.kind {
        ObjectKind::Asymmetric(Ok(key)) => format!("{:?}", key.kind()),
        ObjectKind::Asymmetric(Err(_)) => "no key that is accepted".to_owned(),
        ObjectKind::KeyedHash => "keyed hash or sealed data".to_owned(),
        ObjectKind::Symmetric => "symmetric key".to_owned(),
    };
    format!(
        "{kind}, attributes {:#x}, named by {}",
        area.attributes,
        area.name_hash.name()
    )
}

/// Whether the steps come to the policy that the public area has.
fn steps(file: &KeyFile, public: &PublicArea) -> Result<Vec<Check>, Check> {
    let mut checks = Vec::new();
    if file
        .approved
        .iter()
        .any(|approved| approved.steps.len() > policy::MAX_STEPS)
    {
        let expected = format!("at most {} steps", policy::MAX_STEPS);
        return Err(refused(
            POLICY,
            Reason::Oversized,
            &expected,
            "an approved policy of more".into(),
        ));
    }
    let zeros = !public.policy.is_empty() && public.policy.iter().all(|byte| *byte == 0);
    if zeros && file.policy.is_empty() {
        let found = "a policy that a session without any step satisfies";
        checks.push(Check::noted(POLICY, Reason::AuthPolicyEmpty, found));
        return Ok(checks);
    }
    match (file.policy.is_empty(), public.policy.is_empty()) {
        (true, true) => {
            checks.push(Check::passed(POLICY, "none"));
            return Ok(checks);
        }
        (true, false) => {
            let found = "the key has a policy, and the file no step of it: whoever uses it has to know them";
            checks.push(Check::noted(POLICY, Reason::PolicyStepsMissing, found));
            return Ok(checks);
        }
        _ => {}
    }
    let expected = "steps that come to the policy in the public area";
    let computed = policy::digest(&file.policy, public.name_hash).map_err(|error| {
        let reason = match error {
            PolicyError::Parameters { .. } | PolicyError::AuthorizeLater { .. } => Reason::Malformed,
            PolicyError::TooMany => Reason::Oversized,
            PolicyError::Unknown { .. } | PolicyError::NoAlternative { .. } => Reason::PolicyDigestMismatch,
        };
        refused(POLICY, reason, expected, error.to_string())
    })?;
    if computed.digest != public.policy {
        let found = format!(
            "steps that come to {}, where the key has {}",
            hex::encode(&computed.digest),
            match public.policy.is_empty() {
                true => "none".to_owned(),
                false => hex::encode(&public.policy),
            }
        );
        return Err(refused(POLICY, Reason::PolicyDigestMismatch, expected, found));
    }
    checks.push(if computed.alternatives {
        let found = "the steps before PolicyOR are its alternatives: one of them is to be chosen, and none follows another";
        Check::noted(POLICY, Reason::PolicyOrAlternatives, found)
    } else {
        Check::passed(POLICY, format!("{} steps that come to the key's policy", file.policy.len()))
    });
    Ok(checks)
}
