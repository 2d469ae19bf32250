//! Starts `touchmark-device` and speaks to it over a socket pair.
//!
//! The helper is the only process that touches hardware; when it dies it is started again, and whoever was waiting gets
//! a retryable error. Calls block, with a deadline, and belong on device workers.

mod backend;
mod collect;
mod device;
mod error;
mod helper;
mod process;
mod token;
mod token_keys;

pub use backend::{TpmKeys, created_key};
pub use collect::{Exchange, evidence, key_name, opening, possession, token_possession};
pub use device::Device;
pub use error::DeviceError;
pub use helper::PATIENCE;
pub use token::Token;
pub use token_keys::TokenKeys;
