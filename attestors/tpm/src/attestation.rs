//! What every attestation has to pass, whatever it is of: structure, signature, magic, type, binding.

use touchmark_crypto::{HashAlg, ct_eq};
use touchmark_rats::{Check, Reason};

use crate::{
    attest::{Attest, MAGIC, TYPE_CERTIFY, TYPE_QUOTE},
    signature::{AttestSignature, Attester, TpmSignature},
};

/// What tells a quote from a certification in the checks they share.
pub(crate) struct Shape {
    kind: u16,
    pub(crate) structure: &'static str,
    signature: &'static str,
    magic: &'static str,
    kind_name: &'static str,
    pub(crate) binding: &'static str,
}

pub(crate) const QUOTE: Shape = Shape {
    kind: TYPE_QUOTE,
    structure: "tpm.quote.structure",
    signature: "tpm.quote.signature",
    magic: "tpm.quote.magic",
    kind_name: "tpm.quote.type",
    binding: "tpm.quote.binding",
};
pub(crate) const CERTIFY: Shape = Shape {
    kind: TYPE_CERTIFY,
    structure: "tpm.certify.structure",
    signature: "tpm.certify.signature",
    magic: "tpm.certify.magic",
    kind_name: "tpm.certify.type",
    binding: "tpm.certify.binding",
};

/// Structure, signature, magic, type, binding: in this order for every attestation. Cheap checks that need no
/// signature come after it all the same, because what is not signed says nothing. `bound_to` is the qualifying data that is
/// expected, `None` where nobody asked for any.
pub(crate) fn check_attestation(
    checks: &mut Vec<Check>,
    shape: &Shape,
    signer: &Attester,
    attest_bytes: &[u8],
    signature: AttestSignature<'_>,
    bound_to: Option<&[u8]>,
) -> Result<(Attest, HashAlg), Check> {
    let attest = Attest::parse(attest_bytes, shape.kind).map_err(|_| {
        // What does not even begin like one was made by no TPM.
        let magic = attest_bytes.first_chunk().map(|magic| u32::from_be_bytes(*magic));
        match magic.filter(|magic| *magic != MAGIC) {
            Some(magic) => wrong_magic(shape, magic),
            None => malformed(shape.structure, "not a TPMS_ATTEST, or bytes after it".into()),
        }
    })?;
    let failed = |(reason, found): (Reason, String)| {
        Check::failed(
            shape.signature,
            reason,
            "a signature by the attestation key of this host",
            found,
            "the evidence was altered or comes from another TPM; if it repeats, treat the host as compromised",
        )
    };
    let signature = TpmSignature::read(signature, signer).map_err(failed)?;
    signature.verify(signer, attest_bytes).map_err(failed)?;
    checks.push(Check::passed(
        shape.signature,
        "verifies under the attestation key",
    ));
    if attest.magic != MAGIC {
        return Err(wrong_magic(shape, attest.magic));
    }
    if attest.kind != shape.kind {
        return Err(wrong_type(shape, format!("{:#06x}", attest.kind)));
    }
    if let Some(bound_to) = bound_to {
        if !ct_eq(&attest.extra_data, bound_to) {
            let (reason, found) = if attest.extra_data.is_empty() {
                (Reason::NonceMissing, "no qualifying data at all")
            } else {
                (Reason::NonceMismatch, "another value")
            };
            return Err(Check::failed(
                shape.binding,
                reason,
                "the binding value of this exchange",
                found,
                "evidence is made for one exchange and cannot be used in another; ask for a new challenge",
            ));
        }
        checks.push(Check::passed(shape.binding, "bound to this exchange"));
    }
    Ok((attest, signature.hash()))
}

fn wrong_magic(shape: &Shape, found: u32) -> Check {
    Check::failed(
        shape.magic,
        Reason::WrongMagic,
        format!("{MAGIC:#010x}"),
        format!("{found:#010x}"),
        "this was not made by a TPM: treat the host as compromised",
    )
}

fn wrong_type(shape: &Shape, found: String) -> Check {
    Check::failed(
        shape.kind_name,
        Reason::WrongType,
        format!("{:#06x}", shape.kind),
        found,
        "send the attestation that was asked for",
    )
}

/// A check that failed because bytes cannot be read.
pub(crate) fn malformed(name: &'static str, found: String) -> Check {
    Check::failed(
        name,
        Reason::Malformed,
        "a well-formed message",
        found,
        "run compatible versions at both ends",
    )
}
