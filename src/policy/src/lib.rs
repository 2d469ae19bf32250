//! Policy decides whether evidence is good enough, in Cedar: always with a schema, always validated strictly.
//!
//! Fail closed: what no policy permits is denied, one `forbid` that holds denies, and so does an error while a policy is evaluated. Sets are
//! compiled whole: one that does not validate compiles to nothing, and whoever holds the old one keeps it.

mod context;
mod decision;
mod depth;
mod engine;
mod error;
mod names;
mod shipped;

pub use decision::{Decision, Determining, Effect, Observed};
pub use engine::{Policies, Source, Subject};
pub use error::PolicyError;
pub use names::{claim_type, is_claim};
pub use shipped::{DEFAULT, Shipped, shipped};

/// The schema, in Cedar's own notation.
pub const SCHEMA: &str = include_str!("schema.cedarschema");
/// Most bytes of one set, and most policies of all.
pub const MAX_TEXT: usize = 1024 * 1024;
/// Most policies of all sets together.
pub const MAX_POLICIES: usize = 10_000;
