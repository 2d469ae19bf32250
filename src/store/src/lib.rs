//! What the service remembers. Each method that writes is one transaction, durable before it returns: an answer that
//! leaves has its row on disk.

mod consume;
mod error;
mod events;
mod hosts;
mod open;
mod references;
mod registrations;

pub use consume::{Admitted, Consumed, Consumption, Issuance, RefusedAttempt, Stored};
pub use error::StoreError;
pub use events::{Event, StoredRefusal};
pub use hosts::{AttestationKey, Enrolled, Host, NewHost, Pending};
pub use open::Store;
pub use registrations::{Change, StoredRegistration};
