//! Pairs of TCP ports on the loopback interface: a TPM's data port P and its control port P+1.
//!
//! The TSS expects the control port right behind the data port. The data port of a pair is always even: two
//! runs that look at the same moment can then never get overlapping pairs, since whoever holds the odd port
//! has the pair.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

const ATTEMPTS: u32 = 500;

/// Both ports of a TPM, bound.
#[derive(Debug)]
pub struct PortPair {
    /// Listens on the data port.
    pub data: TcpListener,
    /// Listens on the control port.
    pub control: TcpListener,
    /// The data port's number; the control port's is one more.
    pub port: u16,
}

/// Binds a free pair.
///
/// # Errors
/// When no pair was found in many attempts, or sockets cannot be had at all.
pub fn bind_pair() -> io::Result<PortPair> {
    for _ in 0..ATTEMPTS {
        let control = TcpListener::bind(loopback(0))?;
        let above = control.local_addr()?.port();
        if above % 2 == 1
            && let Ok(data) = TcpListener::bind(loopback(above - 1))
        {
            return Ok(PortPair {
                data,
                control,
                port: above - 1,
            });
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        "no two neighbouring ports are free",
    ))
}

/// `port` on the loopback interface.
#[must_use]
pub fn loopback(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_neighbours_and_do_not_overlap() {
        let pairs: Vec<_> = (0..20).map(|_| bind_pair().unwrap()).collect();
        for pair in &pairs {
            assert_eq!(pair.port % 2, 0);
            assert_eq!(pair.control.local_addr().unwrap().port(), pair.port + 1);
            assert_eq!(pairs.iter().filter(|other| other.port == pair.port).count(), 1);
        }
    }
}
