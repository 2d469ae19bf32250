//! What the service remembers, durable before visible: SQLite.
