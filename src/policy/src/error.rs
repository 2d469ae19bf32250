//! The one error type of this crate.

/// Why a set of policies was refused. Nothing of it counts, and the set before it stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Over a limit.
    #[error("{label}: over the limit of {limit}")]
    Limit {
        /// The set.
        label: String,
        /// What is limited.
        limit: &'static str,
    },
    /// Not Cedar.
    #[error("{label}: {what}")]
    Syntax {
        /// The set.
        label: String,
        /// What the parser says.
        what: String,
    },
    /// Cedar that does not go with the schema.
    #[error("{label}: {what}")]
    Validation {
        /// The set.
        label: String,
        /// What the validator says, a line each.
        what: String,
    },
    /// A label that is empty, too long or not printable.
    #[error("label {0:?}: use 1 to 64 letters, digits, '.', '_' or '-'")]
    Label(String),
    /// Two policies of one name, or a template.
    #[error("{label}: {what}")]
    Policy {
        /// The set.
        label: String,
        /// What is wrong.
        what: String,
    },
    /// The schema itself, which a test rules out.
    #[error("the schema: {0}")]
    Schema(String),
}
