//! Named checks and refusals: what was looked at, what was expected, what was found, what to do.

use crate::Reason;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As expected.
    Passed,
    /// Nothing that refuses by itself, but worth knowing: policy may refuse it.
    Noted(Reason),
    /// Not as expected.
    Failed(Reason),
}

/// One check of an appraisal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Stable name, for example `tpm.quote.signature`.
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What was expected, for people.
    pub expected: String,
    /// What was found, for people.
    pub found: String,
    /// What to do about it; empty when it passed.
    pub remedy: String,
}

impl Check {
    /// A check that passed, with what was found.
    pub fn passed(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            outcome: Outcome::Passed,
            expected: String::new(),
            found: found.into(),
            remedy: String::new(),
        }
    }

    /// A check that passed with something to know about it.
    pub fn noted(name: &'static str, reason: Reason, found: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Noted(reason),
            ..Self::passed(name, found)
        }
    }

    /// A check that failed.
    pub fn failed(
        name: &'static str,
        reason: Reason,
        expected: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            name,
            outcome: Outcome::Failed(reason),
            expected: expected.into(),
            found: found.into(),
            remedy: remedy.into(),
        }
    }

    /// What there is to know, if it passed all the same.
    pub fn note(&self) -> Option<Reason> {
        match self.outcome {
            Outcome::Noted(reason) => Some(reason),
            Outcome::Passed | Outcome::Failed(_) => None,
        }
    }

    /// The reason, if it failed.
    pub fn reason(&self) -> Option<Reason> {
        match self.outcome {
            Outcome::Passed | Outcome::Noted(_) => None,
            Outcome::Failed(reason) => Some(reason),
        }
    }
}

/// Whether the refused peer may usefully try again. This, and an id, is all that it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Nothing that the peer does changes the answer.
    Never,
    /// With a fresh challenge, now.
    Fresh,
    /// Later: an operator has to act, or load has to fall.
    Later,
}

/// A refusal, as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{check}: {reason}: expected {expected}; found {found}")]
pub struct Refusal {
    /// The check that failed.
    pub check: &'static str,
    /// Its stable reason.
    pub reason: Reason,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
    /// What to do.
    pub remedy: String,
    /// Whether trying again can help.
    pub retry: Retry,
}

impl Refusal {
    /// A refusal of something that cannot be read.
    pub fn malformed(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            reason: Reason::Malformed,
            expected: "a well-formed message".into(),
            found: found.into(),
            remedy: "check that both ends run compatible versions".into(),
            retry: Retry::Never,
        }
    }

    /// The same refusal with another answer about retrying.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }
}

impl From<Check> for Refusal {
    /// The refusal that a failed check leads to. A check that passed has no refusal: it becomes `malformed`, which
    /// nothing produces.
    fn from(check: Check) -> Self {
        Self {
            check: check.name,
            reason: check.reason().unwrap_or(Reason::Malformed),
            expected: check.expected,
            found: check.found,
            remedy: check.remedy,
            retry: Retry::Later,
        }
    }
}
