//! Why the service does not start, or a command on its state fails.

use std::path::PathBuf;

/// Each error says what went wrong and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configuration cannot be used.
    #[error("{path}: {what}", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        what: String,
    },
    /// A file or folder cannot be read, written or trusted.
    #[error("{path}: {what}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        what: String,
    },
    /// A file of configuration or state cannot be used.
    #[error(transparent)]
    Files(#[from] touchmark_tls::files::FileError),
    /// A key of the service could be exported.
    #[error(
        "{0}: this key could leave its device; the service does not start with it. Make a new one in the TPM"
    )]
    Exportable(&'static str),
    /// The device failed.
    #[error("key device: {0}")]
    Custody(#[from] touchmark_custody::CustodyError),
    /// The store failed.
    #[error("store: {0}")]
    Store(#[from] touchmark_store::StoreError),
    /// A certificate or key does not fit.
    #[error("{0}")]
    Crypto(#[from] touchmark_crypto::CryptoError),
    /// A key did not sign.
    #[error("{0}")]
    Sign(#[from] touchmark_crypto::SignError),
    /// A certificate could not be issued.
    #[error("{0}")]
    Issue(#[from] touchmark_issuer::IssueError),
    /// TLS could not be set up.
    #[error("{0}")]
    Tls(#[from] touchmark_tls::ConfigError),
    /// An address or socket cannot be bound.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// The address.
        address: String,
        /// The system's reason.
        cause: String,
    },
    /// Something else that the operator has to mend.
    #[error("{0}")]
    Other(String),
}
