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
        push(&mut self.refused, name(reason));
    }

    pub(super) fn note(&mut self, reason: Reason) {
        push(&mut self.noted, name(reason));
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

/// The manifests' name of a reason, where it is another than ours.
fn name(reason: Reason) -> &'static str {
    match reason {
        Reason::Oversized => "malformed",
        Reason::EndorsementMismatch => "binding_mismatch",
        Reason::AttestationKeyAttributes => "key_invalid",
        other => other.code(),
    }
}
