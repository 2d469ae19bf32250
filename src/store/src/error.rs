//! What can go wrong with storage.

/// Why an operation on the store failed. Nothing of it was written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state of the store does not allow it; the text is for the operator.
    #[error("{0}")]
    Conflict(String),
    /// There is no such record.
    #[error("no {what} {id:?}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// By what.
        id: String,
    },
    /// The database failed.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("database schema: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A row does not hold what it should.
    #[error("database row: {0}")]
    Row(String),
}
