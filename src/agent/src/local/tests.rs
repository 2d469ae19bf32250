//! The service on real sockets, with stock gRPC clients.

mod fake;
mod requests;
mod sockets;
mod stalls;
