//! Reference integrity manifests.

use touchmark_rats::{
    Reason,
    corim::{CONTENT_TYPE, read_comid, read_corim},
    eat::ClaimsError,
};

use super::{case::Case, finding::Finding, results::signed};

pub(super) fn manifest(case: &Case) -> Result<Finding, String> {
    Ok(of(read_corim(&case.file("document")?)))
}

pub(super) fn modules(case: &Case) -> Result<Finding, String> {
    Ok(of(read_comid(&case.file("document")?)))
}

/// A manifest in COSE_Sign1: content type, signature, what is in it, and whether it holds now.
pub(super) fn signed_manifest(case: &Case) -> Result<Finding, String> {
    let bytes = case.file("document")?;
    let now = i64::try_from(case.time()?).unwrap_or(i64::MAX);
    signed(case, &bytes, CONTENT_TYPE, |payload| match read_corim(payload) {
        Ok(corim) => match corim.validity {
            Some((_, end)) if now > end => Finding::refused(Reason::Expired),
            Some((Some(start), _)) if now < start => Finding::refused(Reason::NotYetValid),
            _ => Finding::default(),
        },
        Err(error) => Finding::refused(error.reason),
    })
}

fn of<T>(read: Result<T, ClaimsError>) -> Finding {
    match read {
        Ok(_) => Finding::default(),
        Err(error) => Finding::refused(error.reason),
    }
}
