//! The one test binary of this crate.

mod evidence;
mod protocol;
