//! Certificates as makers of chips wrote them, and paths to the roots that are pinned as theirs (RFC 5280 section 6, TCG EK
//! Credential Profile).
//!
//! Genuine endorsement certificates break DER in ways that strict parsers refuse: lengths that are not the shortest, defaults
//! that are written out, names without order, negative serial numbers. They are read all the same, and each deviation is noted, so
//! that whoever wants DER can still demand it. What is signed is never read anew: signatures are checked over the bytes that
//! arrived.

mod path;
mod read;
mod tlv;

pub use path::{DeviceAnchors, DeviceError, DevicePath, Habits, verify_device_path};
pub use read::DeviceCertificate;
pub(super) use tlv::is_whole_sequence;
