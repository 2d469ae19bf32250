//! Ports for what stands between a host and its simulated TPM.

use std::net::TcpListener;

/// Listeners at two ports in a row, since the TCTI finds swtpm's control channel behind its data channel; and the first of the ports.
pub fn pair() -> (TcpListener, TcpListener, u16) {
    loop {
        let data = TcpListener::bind("127.0.0.1:0").expect("port");
        let port = data.local_addr().expect("address").port();
        let next = port.checked_add(1);
        if let Some(control) = next.and_then(|port| TcpListener::bind(("127.0.0.1", port)).ok()) {
            return (data, control, port);
        }
    }
}
