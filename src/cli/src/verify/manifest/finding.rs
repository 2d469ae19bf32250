//! What came out of a case, by the names that manifests use.

use touchmark_rats::{Check, Reason};

/// What came out of a case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Finding {
    /// The reasons of a refusal; none: accepted.
    pub(super) refused: Vec<&'static str>,
    /// What there is to know besides.
    pub(super) noted: Vec<&'static str>,
}

impl Finding {
    /// What named checks say together.
    pub(super) fn of<'a>(checks: impl IntoIterator<Item = &'a Check>) -> Self {
        let mut out = Self::default();
        for check in checks {
            match (check.reason(), check.note()) {
                (Some(reason), _) => out.refuse(reason),
                (None, Some(note)) => out.note(note),
                (None, None) => {}
            }
        }
        out
    }

    /// A refusal for one reason.
    pub(super) fn refused(reason: Reason) -> Self {
        let mut out = Self::default();
        out.refuse(reason);
        out
    }

    pub(super) fn refuse(&mut self, reason: Reason) {
        names(reason).for_each(|name| push(&mut self.refused, name));
    }

    pub(super) fn note(&mut self, reason: Reason) {
        names(reason).for_each(|name| push(&mut self.noted, name));
    }

    /// A note by a name of the manifests'.
    pub(super) fn remark(&mut self, name: &'static str) {
        push(&mut self.noted, name);
    }

    /// What came out of a further part.
    pub(super) fn extend(&mut self, other: Self) {
        other
            .refused
            .into_iter()
            .for_each(|name| push(&mut self.refused, name));
        other
            .noted
            .into_iter()
            .for_each(|name| push(&mut self.noted, name));
    }

    /// A refusal by a name of the manifests'.
    pub(super) fn add(&mut self, name: &'static str) {
        push(&mut self.refused, name);
    }

    pub(super) fn verdict(&self) -> &'static str {
        if self.refused.is_empty() {
            "accepted"
        } else {
            "refused"
        }
    }
}

fn push(names: &mut Vec<&'static str>, name: &'static str) {
    if !names.contains(&name) {
        names.push(name);
    }
}

/// The manifests' names of a reason: where theirs is another than ours, and where two of theirs have its meaning.
fn names(reason: Reason) -> impl Iterator<Item = &'static str> {
    let (name, wider) = match reason {
        Reason::Oversized => ("malformed", None),
        Reason::EndorsementMismatch => ("binding_mismatch", None),
        Reason::AttestationKeyAttributes => ("key_invalid", None),
        Reason::IssuerNotCa | Reason::IssuerUnavailable => (reason.code(), Some("path_invalid")),
        Reason::NonceMissing => (reason.code(), Some("nonce_mismatch")),
        // A register that holds something else than the log leads to may have been extended by more than the log has.
        Reason::LogMismatch => (reason.code(), Some("log_incomplete")),
        // What does not begin like an attestation may be none at all.
        Reason::WrongMagic => (reason.code(), Some("malformed")),
        Reason::LogIncomplete => (reason.code(), Some("log_mismatch")),
        Reason::SecureBootInvalid => (reason.code(), Some("secure_boot_unknown")),
        Reason::DuplicateMember => (reason.code(), Some("malformed")),
        other => (other.code(), None),
    };
    std::iter::once(name).chain(wider)
}
