//! Pairs of TCP ports on the loopback interface: a TPM's data port P and its control port P+1.
//!
//! The TSS expects the control port right behind the data port. The data port of a pair is always even, so that
//! pairs never overlap. They are drawn from below the ports that Linux gives to outgoing connections: the TSS
//! opens a connection for each TPM command, a closed one keeps its port for a minute, and a few busy TPMs thus
//! take every even port of that range.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::ops::Range;

use aws_lc_rs::rand::{self, SystemRandom};

/// Where pairs are drawn from: above the well-known services, below `ip_local_port_range` as Linux has it.
const PORTS: Range<u16> = 16_384..32_768;
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
        let port = draw()?;
        // The control port is bound first: whoever holds it has the pair.
        match bind(port + 1).and_then(|control| Ok((bind(port)?, control))) {
            Ok((data, control)) => return Ok(PortPair { data, control, port }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        "no two neighbouring ports are free",
    ))
}

/// An even port of [`PORTS`].
fn draw() -> io::Result<u16> {
    let drawn: [u8; 2] = rand::generate(&SystemRandom::new())
        .map_err(|_| io::Error::other("the system has no random numbers"))?
        .expose();
    let offset = u16::from_be_bytes(drawn) % (PORTS.end - PORTS.start);
    Ok(PORTS.start + (offset & !1))
}

fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(loopback(port))
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
            assert!(
                PORTS.contains(&pair.port),
                "{} may be an outgoing connection's",
                pair.port
            );
            assert_eq!(pair.control.local_addr().unwrap().port(), pair.port + 1);
            assert_eq!(pairs.iter().filter(|other| other.port == pair.port).count(), 1);
        }
    }
}
