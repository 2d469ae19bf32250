//! Reference integrity manifests.

use touchmark_rats::{
    Reason,
    corim::{CONTENT_TYPE, read_comid, read_corim, read_signature},
    eat::ClaimsError,
};

use super::{
    case::Case,
    finding::Finding,
    results::{signed, with_form},
};

pub(super) fn manifest(case: &Case) -> Result<Finding, String> {
    let finding = of(read_corim(&case.file("document")?));
    with_form(case, "document", finding)
}

pub(super) fn modules(case: &Case) -> Result<Finding, String> {
    let finding = of(read_comid(&case.file("document")?));
    with_form(case, "document", finding)
}

/// A manifest in COSE_Sign1: content type, signature, what is in it, and whether it holds now.
pub(super) fn signed_manifest(case: &Case) -> Result<Finding, String> {
    let bytes = case.file("document")?;
    let now = i64::try_from(case.time()?).unwrap_or(i64::MAX);
    signed(case, &bytes, CONTENT_TYPE, |message, payload| {
        let read = read_corim(payload).and_then(|corim| {
            let signature = read_signature(message.protected(8), message.protected(15))?;
            Ok([corim.validity, signature])
        });
        match read {
            Err(error) => Finding::refused(error.reason),
            Ok(validities) => {
                let mut finding = Finding::default();
                for (start, end) in validities.into_iter().flatten() {
                    if now > end {
                        finding.refuse(Reason::Expired);
                    } else if start.is_some_and(|start| now < start) {
                        finding.refuse(Reason::NotYetValid);
                    }
                }
                finding
            }
        }
    })
}

fn of<T>(read: Result<T, ClaimsError>) -> Finding {
    match read {
        Ok(_) => Finding::default(),
        Err(error) => Finding::refused(error.reason),
    }
}
