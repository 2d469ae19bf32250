//! What a policy's steps come to (TPM 2.0 Library, part 1, section 19.7, and part 3, section 23).

use touchmark_crypto::{HashAlg, ct_eq};

use super::{
    PolicyStep,
    public::{Reader, hash_alg},
};

/// Most steps that are looked at.
pub(super) const MAX_STEPS: usize = 32;
/// Most alternatives of PolicyOR (TPML_DIGEST).
const MAX_ALTERNATIVES: u32 = 8;

/// TPM_CC of policy commands.
mod command {
    pub(super) const SECRET: u32 = 0x0151;
    pub(super) const SIGNED: u32 = 0x0160;
    pub(super) const CP_HASH: u32 = 0x0163;
    pub(super) const AUTHORIZE: u32 = 0x016a;
    pub(super) const AUTH_VALUE: u32 = 0x016b;
    pub(super) const COMMAND_CODE: u32 = 0x016c;
    pub(super) const COUNTER_TIMER: u32 = 0x016d;
    pub(super) const LOCALITY: u32 = 0x016f;
    pub(super) const NAME_HASH: u32 = 0x0170;
    pub(super) const OR: u32 = 0x0171;
    pub(super) const PHYSICAL_PRESENCE: u32 = 0x0187;
    pub(super) const PASSWORD: u32 = 0x018c;
    pub(super) const NV_WRITTEN: u32 = 0x018f;
    pub(super) const TEMPLATE: u32 = 0x0190;
}

/// Why steps come to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Parameters that are not those of the command.
    #[error("step {step}: parameters that are not those of command {command:#x}")]
    Parameters {
        /// The step, from 1.
        step: usize,
        /// TPM_CC.
        command: u32,
    },
    /// A command whose effect is not known here.
    #[error("step {step}: command {command:#x} is not known")]
    Unknown {
        /// The step, from 1.
        step: usize,
        /// TPM_CC.
        command: u32,
    },
    /// PolicyAuthorize takes what was approved in place of everything before it: it may only be the first.
    #[error("step {step}: PolicyAuthorize, which may only be the first")]
    AuthorizeLater {
        /// The step, from 1.
        step: usize,
    },
    /// None of the alternatives of PolicyOR is what the steps before come to.
    #[error("step {step}: none of the alternatives of PolicyOR is met by the steps before it")]
    NoAlternative {
        /// The step, from 1.
        step: usize,
    },
    /// More than 32 steps.
    #[error("more than {MAX_STEPS} steps")]
    TooMany,
}

/// What steps come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PolicyDigest {
    /// The digest.
    pub(super) digest: Vec<u8>,
    /// Whether the steps before a PolicyOR stand for its alternatives, one beside the other, and cannot be executed one after the other.
    pub(super) alternatives: bool,
}

/// The digest that a session has after these steps, in the hash of the key's name.
pub(super) fn digest(steps: &[PolicyStep], hash: HashAlg) -> Result<PolicyDigest, PolicyError> {
    if steps.len() > MAX_STEPS {
        return Err(PolicyError::TooMany);
    }
    let mut out = PolicyDigest {
        digest: vec![0; hash.len()],
        alternatives: false,
    };
    // Where the steps begin that the next PolicyOR is about.
    let mut from = 0;
    for (at, step) in steps.iter().enumerate() {
        if step.command != command::OR {
            out.digest = extended(&out.digest, step, at, hash)?;
            continue;
        }
        let listed = alternatives(step, hash).ok_or_else(|| parameters(step, at))?;
        let met = |digest: &[u8]| listed.iter().any(|one| ct_eq(one, digest));
        if !met(&out.digest) {
            let before = steps.get(from..at).unwrap_or_default();
            if !any_part(before, from, hash, met) {
                return Err(PolicyError::NoAlternative { step: at + 1 });
            }
            out.alternatives = true;
        }
        // PolicyOR begins anew with all that would have done.
        out.digest = hash.digest(&[
            &vec![0; hash.len()],
            &step.command.to_be_bytes(),
            &listed.concat(),
        ]);
        from = at + 1;
    }
    Ok(out)
}

/// Whether some of these steps, one after the other and by themselves, come to what is looked for.
fn any_part(steps: &[PolicyStep], first: usize, hash: HashAlg, met: impl Fn(&[u8]) -> bool) -> bool {
    (0..steps.len()).any(|begin| {
        let mut digest = vec![0; hash.len()];
        for (at, step) in steps.iter().enumerate().skip(begin) {
            let by_itself = if at == begin { 0 } else { first + at };
            match extended(&digest, step, by_itself, hash) {
                Ok(next) => digest = next,
                Err(_) => return false,
            }
            if met(&digest) {
                return true;
            }
        }
        false
    })
}

fn parameters(step: &PolicyStep, at: usize) -> PolicyError {
    PolicyError::Parameters {
        step: at + 1,
        command: step.command,
    }
}

/// The digest after one more step, the one at this position.
fn extended(digest: &[u8], step: &PolicyStep, at: usize, hash: HashAlg) -> Result<Vec<u8>, PolicyError> {
    let with = |command: u32, more: &[&[u8]]| {
        let code = command.to_be_bytes();
        let parts: Vec<&[u8]> = [digest, &code].into_iter().chain(more.iter().copied()).collect();
        hash.digest(&parts)
    };
    // PolicyUpdate of part 3: an entity's name, then what qualifies it.
    let updated = |digest: &[u8], name: &[u8], reference: &[u8]| {
        let first = hash.digest(&[digest, &step.command.to_be_bytes(), name]);
        hash.digest(&[&first, reference])
    };
    let data = step.parameters.as_slice();
    let wrong = || parameters(step, at);
    let exactly = |length: usize| (data.len() == length).then_some(data).ok_or_else(wrong);
    Ok(match step.command {
        super::POLICY_PCR => {
            let (selection, values) = registers(data, hash).ok_or_else(wrong)?;
            with(step.command, &[selection, values])
        }
        command::AUTH_VALUE => {
            exactly(0)?;
            with(step.command, &[])
        }
        command::PASSWORD => {
            exactly(0)?;
            // A password counts as the authorization value does.
            with(command::AUTH_VALUE, &[])
        }
        command::PHYSICAL_PRESENCE => {
            exactly(0)?;
            with(step.command, &[])
        }
        command::COMMAND_CODE => with(step.command, &[exactly(4)?]),
        command::LOCALITY | command::NV_WRITTEN => with(step.command, &[exactly(1)?]),
        command::CP_HASH | command::NAME_HASH | command::TEMPLATE => {
            let mut reader = Reader(data);
            let value = reader.sized().filter(|_| reader.is_empty()).ok_or_else(wrong)?;
            with(step.command, &[value])
        }
        command::COUNTER_TIMER => {
            let mut reader = Reader(data);
            let (operand, offset) = (reader.sized(), reader.u16());
            let (Some(operand), Some(offset), operation @ [_, _]) = (operand, offset, reader.0) else {
                return Err(wrong());
            };
            let arguments = hash.digest(&[operand, &offset.to_be_bytes(), operation]);
            with(step.command, &[&arguments])
        }
        command::SECRET => {
            let (name, reference) = secret(data).ok_or_else(wrong)?;
            updated(digest, name, reference)
        }
        command::SIGNED => {
            let (name, reference) = signer(data).ok_or_else(wrong)?;
            updated(digest, &name, reference)
        }
        command::AUTHORIZE => {
            if at != 0 {
                return Err(PolicyError::AuthorizeLater { step: at + 1 });
            }
            let (name, reference) = signer(data).ok_or_else(wrong)?;
            updated(&vec![0; hash.len()], &name, reference)
        }
        other => {
            return Err(PolicyError::Unknown {
                step: at + 1,
                command: other,
            });
        }
    })
}

/// TPML_PCR_SELECTION and the digest over the registers' values: in this order, or the digest first with its length.
fn registers(data: &[u8], hash: HashAlg) -> Option<(&[u8], &[u8])> {
    let mut reader = Reader(data);
    if let Some(values) = reader.sized().filter(|values| values.len() == hash.len())
        && selection(reader.0) == Some(reader.0.len())
    {
        return Some((reader.0, values));
    }
    let (selected, values) = data.split_at_checked(selection(data)?)?;
    (values.len() == hash.len()).then_some((selected, values))
}

/// How long the selection is that some bytes begin with.
fn selection(data: &[u8]) -> Option<usize> {
    let mut reader = Reader(data);
    let banks = reader.u32().filter(|banks| *banks <= 16)?;
    for _ in 0..banks {
        hash_alg(reader.u16()?)?;
        let bytes = *reader.take(1)?.first()?;
        reader.take(usize::from(bytes))?;
    }
    Some(data.len() - reader.0.len())
}

/// The entity of PolicySecret: a handle, its name, and a reference that may be left out; or without the handle.
fn secret(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let named = |data| {
        let mut reader = Reader(data);
        let name = reader.sized().filter(|name| !name.is_empty())?;
        let reference = match reader.is_empty() {
            true => Default::default(),
            false => reader.sized()?,
        };
        reader.is_empty().then_some((name, reference))
    };
    named(data.get(4..)?).or_else(|| named(data))
}

/// The key of PolicySigned and PolicyAuthorize: TPM2B_PUBLIC, a reference, and a signature, which says nothing of the digest.
fn signer(data: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut reader = Reader(data);
    let public = reader.sized()?;
    let hash = public.get(2..4)?.first_chunk()?;
    let hash = hash_alg(u16::from_be_bytes(*hash))?;
    let name = [public.get(2..4)?, &hash.digest(&[public])].concat();
    let reference = reader.sized()?;
    Some((name, reference))
}

/// The digests of PolicyOR, two to eight of the session's hash.
fn alternatives(step: &PolicyStep, hash: HashAlg) -> Option<Vec<Vec<u8>>> {
    let mut reader = Reader(&step.parameters);
    let count = reader
        .u32()
        .filter(|count| (2..=MAX_ALTERNATIVES).contains(count))?;
    let listed = (0..count)
        .map(|_| {
            reader
                .sized()
                .filter(|digest| digest.len() == hash.len())
                .map(<[u8]>::to_vec)
        })
        .collect::<Option<Vec<_>>>()?;
    reader.is_empty().then_some(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(command: u32, parameters: &[u8]) -> PolicyStep {
        PolicyStep {
            command,
            parameters: parameters.to_vec(),
        }
    }

    fn of(steps: &[PolicyStep]) -> Result<PolicyDigest, PolicyError> {
        digest(steps, HashAlg::Sha256)
    }

    fn sequence(steps: &[PolicyStep]) -> String {
        let found = of(steps).unwrap();
        assert!(!found.alternatives);
        hex::encode(found.digest)
    }

    /// The endorsement hierarchy's authorization, as the TCG's EK profile has it (PolicyA), and an authorization value.
    const OF_ENDORSEMENT: &str = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
    const OF_VALUE: &str = "8fcd2169ab92694e0c633f1ab772842b8241bbc20288981fc7ac1eddc1fddb0e";

    fn of_endorsement() -> PolicyStep {
        step(command::SECRET, &[0x40, 0, 0, 0x0b, 0, 4, 0x40, 0, 0, 0x0b])
    }

    fn listed(digests: &[&str]) -> PolicyStep {
        let mut data = u32::try_from(digests.len()).unwrap().to_be_bytes().to_vec();
        for digest in digests {
            data.extend([0, 32]);
            data.extend(hex::decode(digest).unwrap());
        }
        step(command::OR, &data)
    }

    #[test]
    fn steps_come_to_the_digests_that_the_texts_and_other_tools_have() {
        assert_eq!(sequence(&[of_endorsement()]), OF_ENDORSEMENT);
        // The same without the handle, and with a reference that is empty.
        let without = step(command::SECRET, &[0, 4, 0x40, 0, 0, 0x0b, 0, 0]);
        assert_eq!(sequence(&[without]), OF_ENDORSEMENT);
        assert_eq!(sequence(&[step(command::AUTH_VALUE, &[])]), OF_VALUE);
        assert_eq!(sequence(&[step(command::PASSWORD, &[])]), OF_VALUE);
        // PolicyB of the EK profile for SHA-256: PolicyA or PolicyC.
        let policy_c = "3767e2edd43ff45a3a7e1eaefcef78643dca964632e7aad82c673a30d8633fde";
        let either = [of_endorsement(), listed(&[OF_ENDORSEMENT, policy_c])];
        assert_eq!(
            sequence(&either),
            "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0"
        );
    }

    #[test]
    fn alternatives_are_met_in_sequence_or_by_a_part_or_not_at_all() {
        let or = listed(&[OF_ENDORSEMENT, OF_VALUE]);
        let value = step(command::AUTH_VALUE, &[]);
        assert!(!of(&[value.clone(), or.clone()]).unwrap().alternatives);
        let beside = of(&[of_endorsement(), value.clone(), or.clone()]).unwrap();
        assert!(beside.alternatives);
        assert_eq!(beside.digest, of(&[value, or.clone()]).unwrap().digest);
        let other = step(command::PHYSICAL_PRESENCE, &[]);
        assert_eq!(of(&[other, or]), Err(PolicyError::NoAlternative { step: 2 }));
    }

    #[test]
    fn what_cannot_be_a_step_is_refused() {
        for (command, parameters) in [
            (command::AUTH_VALUE, &[0][..]),
            (command::LOCALITY, &[]),
            (command::COMMAND_CODE, &[0; 3]),
            (super::super::POLICY_PCR, &[0, 32, 1]),
            (command::SECRET, &[0; 4]),
            (command::OR, &[0, 0, 0, 1, 0, 0]),
            (command::AUTHORIZE, &[0, 1, 0]),
            (command::CP_HASH, &[0, 2, 1]),
            (command::COUNTER_TIMER, &[0, 0, 0]),
        ] {
            let refused = of(&[step(command, parameters)]);
            assert_eq!(
                refused,
                Err(PolicyError::Parameters { step: 1, command }),
                "{command:#x}"
            );
        }
        let unknown = PolicyError::Unknown { step: 1, command: 1 };
        assert_eq!(of(&[step(1, &[])]), Err(unknown));
        let many = vec![step(command::AUTH_VALUE, &[]); MAX_STEPS + 1];
        assert_eq!(of(&many), Err(PolicyError::TooMany));
    }
}
