//! The one test binary of this crate.

mod device;
mod evidence;
mod hosts;
mod protocol;
mod workloads;
