//! X.509: reading, path validation against given anchors, and issuing (RFC 5280).

mod certificate;
mod csr;
mod device;
mod issue;
mod path;

pub use certificate::{Certificate, DirectoryAttribute, MAX_CERTIFICATE, distinguished_names};
pub use csr::{parse_request, write_request};
pub use device::{DeviceAnchors, DeviceCertificate, DeviceError, DevicePath, Habits, verify_device_path};
pub use issue::{Extension, Profile, Template, issue, self_signed};
pub use path::{Anchors, MAX_INTERMEDIATES, PathError, Usage, verify_path};
