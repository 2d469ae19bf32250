//! Conceptual message wrappers (draft-ietf-rats-msg-wrap-23): records, tags and collections, in JSON and in CBOR.

mod message;
mod record;

pub use message::{Cmw, CmwError, EXTENSION, MAX_CMW, Member, Type, read_extension};
pub use record::{IND_EVIDENCE, IND_RESULTS, Record};
