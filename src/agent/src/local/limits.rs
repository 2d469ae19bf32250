//! What one connection, one user and all together may take.

use std::time::Duration;

/// What one connection, one user and all together may take. A test pins the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections overall. One more is closed at once.
    pub connections: usize,
    /// Connections of one user.
    pub connections_per_user: usize,
    /// Requests of one user that are being worked on. One more is answered RESOURCE_EXHAUSTED.
    pub requests_per_user: usize,
    /// Listeners of one user, whose answers do not end. One more is answered RESOURCE_EXHAUSTED.
    pub watches_per_user: usize,
    /// Requests of one connection that are open (HTTP/2 streams).
    pub streams_per_connection: u32,
    /// Bytes of headers in a request.
    pub header_bytes: u32,
    /// How long a connection may take to begin its first request.
    pub first_request: Duration,
    /// How long a request may take, its arrival included.
    pub request: Duration,
    /// How long a connection stays without a request.
    pub idle: Duration,
    /// How long a connection that is to end may take to finish.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_user: 64,
            requests_per_user: 32,
            watches_per_user: 64,
            streams_per_connection: 16,
            header_bytes: 8 * 1024,
            first_request: Duration::from_secs(10),
            request: Duration::from_secs(60),
            idle: Duration::from_secs(300),
            farewell: Duration::from_secs(5),
        }
    }
}
