//! The operator's protocol: one request and one answer per connection to a local socket, JSON.
//!
//! The client writes a [`Request`] and closes its sending side; the server writes an [`Answer`]. The socket is for root
//! and the server's own user.

use serde::{Deserialize, Serialize};

/// Largest request and answer, in bytes.
pub const MAX_MESSAGE: usize = 128 * 1024 * 1024;
/// Where the socket is.
pub const DEFAULT_SOCKET: &str = "/run/touchmark/admin.sock";

/// What an operator can ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Enrols hosts, all or none.
    HostEnrol {
        /// The hosts.
        hosts: Vec<Enrolment>,
    },
    /// Lists hosts.
    HostList {
        /// Hosts that knocked without being enrolled, instead of those that are.
        pending: bool,
    },
    /// One host with its keys.
    HostShow {
        /// Id or name.
        host: String,
    },
    /// A signed attestation result about a host, as it stands.
    HostResult {
        /// Id or name.
        host: String,
        /// Freshness, as the relying party gave it.
        nonce: Option<String>,
    },
    /// Gives a host another device; its record stays.
    HostReplace {
        /// Id or name.
        host: String,
        /// Its endorsement keys from now on; name and labels are not looked at.
        device: Enrolment,
        /// Why, for the audit trail.
        reason: String,
    },
    /// Takes a host out: it gets nothing more; its endorsement keys and its name can be enrolled again.
    HostEvict {
        /// Id or name.
        host: String,
        /// Why, for the audit trail.
        reason: String,
    },
    /// A stored refusal, or a host's latest.
    Why {
        /// Refusal id, host id or host name.
        id: String,
    },
    /// The reference values that a host's last evidence matches.
    ReferenceCapture {
        /// Id or name.
        host: String,
        /// Label of the set; the host's name where absent.
        label: Option<String>,
    },
    /// Applies a set of reference values, TOML.
    ReferenceApply {
        /// The file's text.
        file: String,
        /// Only stage it: it decides nothing until it is promoted.
        stage: bool,
        /// Valid beside the generations before, instead of in their place.
        beside: bool,
    },
    /// Stages the values of a vendor's manifest (CoRIM), if one of the signers that the configuration names signed it.
    ReferenceImport {
        /// The manifest in COSE_Sign1, base64.
        manifest: String,
        /// Label of the set.
        label: String,
    },
    /// Makes a staged generation valid beside the others.
    ReferencePromote {
        /// Its label.
        label: String,
    },
    /// Retires all valid generations but the newest.
    ReferenceRetire {
        /// Their label.
        label: String,
    },
    /// What one set has and another has not: `LABEL`, `LABEL@GENERATION`, or a host for its last boot.
    ReferenceDiff {
        /// The one.
        left: String,
        /// The other.
        right: String,
    },
    /// Lists sets of reference values.
    ReferenceList,
    /// Withdraws a set of reference values: hosts that match no other are refused at their next attestation.
    ReferenceDelete {
        /// Its label.
        label: String,
    },
    /// Applies a set of policies, Cedar.
    PolicyApply {
        /// Label of the set, replaced as a whole.
        label: String,
        /// The policies.
        text: String,
        /// Labels of hosts for which the set only observes.
        observe: Vec<String>,
        /// Only say which hosts' decisions would change.
        dry_run: bool,
    },
    /// Lists sets of policies, or shows one.
    PolicyList,
    /// A set of policies, whole.
    PolicyShow {
        /// Its label.
        label: String,
    },
    /// Withdraws a set of policies.
    PolicyDelete {
        /// Its label.
        label: String,
        /// Only say which hosts' decisions would change.
        dry_run: bool,
    },
    /// What the policies decide about a host by its last evidence, and why.
    PolicyExplain {
        /// Id or name.
        host: String,
    },
    /// Applies a list of known files.
    AllowlistApply {
        /// Its label.
        label: String,
        /// Labels of the hosts that it is for; all where absent.
        hosts: Option<Vec<String>>,
        /// The digests, CBOR (a map from the names of hashes to sorted digests), base64.
        digests: String,
    },
    /// Lists of known files.
    AllowlistList,
    /// Withdraws a list of known files.
    AllowlistDelete {
        /// Its label.
        label: String,
    },
    /// Applies a file of registrations, TOML.
    RegistrationApply {
        /// The file's text.
        file: String,
        /// Only say what would change.
        dry_run: bool,
        /// Delete entries of the label that the file does not have.
        prune: bool,
    },
    /// Lists registrations.
    RegistrationList,
    /// Deletes one registration.
    RegistrationDelete {
        /// Its label.
        label: String,
        /// Its name.
        name: String,
    },
    /// The audit trail, latest first.
    Events {
        /// Most entries to return.
        limit: u32,
        /// Only entries after this number, oldest first; the latest first where absent.
        after: Option<u64>,
    },
    /// The certification authority: chain, keys, expiry.
    CaShow,
}

/// A host to enrol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// The host's name: unique, for people and registrations.
    pub name: String,
    /// Labels for registrations and reference values.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Endorsement certificates, PEM or DER in base64.
    #[serde(default)]
    pub ek_certificates: Vec<String>,
    /// Digests of endorsement keys: SHA-256 of the DER SubjectPublicKeyInfo, lower-case hexadecimal.
    #[serde(default)]
    pub ek_digests: Vec<String>,
}

/// A file of hosts to enrol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentFile {
    /// The hosts.
    #[serde(rename = "host")]
    pub hosts: Vec<Enrolment>,
}

/// The answer: a document, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Done; the document depends on the request.
    Done(serde_json::Value),
    /// Refused: the input or the state does not allow it. Nothing was changed.
    Refused(String),
    /// The input cannot be used. Nothing was changed.
    Unusable(String),
    /// The service failed. Nothing was changed.
    Failed(String),
}
