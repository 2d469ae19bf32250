//! A connection to a TPM: one command out, one answer back.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::command::{Command, Reader, Writer};
use crate::error::SimError;
use crate::ports;

const TAG_NO_SESSIONS: u16 = 0x8001;
const TAG_SESSIONS: u16 = 0x8002;
/// TPM_RS_PW: the authorization is a password.
const PASSWORD_SESSION: u32 = 0x4000_0009;
/// Tag, size and code.
pub(crate) const HEADER: usize = 10;
/// Larger than any command or answer of a TPM 2.0.
pub(crate) const MAXIMUM: usize = 64 * 1024;
/// An RSA key takes a while on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A connection to swtpm's data port.
#[derive(Debug)]
pub struct Channel {
    stream: TcpStream,
}

/// A TPM's answer to a command that it carried out.
#[derive(Debug)]
pub struct Answer {
    command: &'static str,
    /// The handle, for commands that answer with one.
    pub handle: Option<u32>,
    parameters: Vec<u8>,
}

impl Answer {
    /// Reads the parameter area.
    #[must_use]
    pub fn parameters(&self) -> Reader<'_> {
        Reader::new(self.command, &self.parameters)
    }
}

impl Channel {
    /// Connects to a data port on the loopback interface.
    ///
    /// # Errors
    /// When nothing listens there.
    pub fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(ports::loopback(port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self { stream })
    }

    /// Sends `command` and waits for its answer.
    ///
    /// # Errors
    /// A response code other than success, an answer of the wrong shape, or a broken connection.
    pub fn execute(&mut self, command: &Command) -> Result<Answer, SimError> {
        let name = command.code.name();
        let malformed = |detail| SimError::Malformed {
            command: name,
            detail,
        };
        let request = frame(command).ok_or(malformed("the command is too long"))?;
        let exchanging = || SimError::system(format!("cannot exchange {name} with the TPM"));
        self.stream.write_all(&request).map_err(exchanging())?;
        let response = read_frame(&mut self.stream).map_err(exchanging())?;

        let mut reader = Reader::new(name, &response);
        let tag = reader.u16()?;
        let _size = reader.u32()?;
        let code = reader.u32()?;
        if code != 0 {
            return Err(SimError::ResponseCode { command: name, code });
        }
        let handle = if command.answers_handle {
            Some(reader.u32()?)
        } else {
            None
        };
        let size = if tag == TAG_SESSIONS {
            usize::try_from(reader.u32()?).map_err(|_| malformed("the answer is too long"))?
        } else {
            response.len() - HEADER - handle.map_or(0, |_| 4)
        };
        Ok(Answer {
            command: name,
            handle,
            parameters: reader.take(size)?.to_vec(),
        })
    }
}

/// The whole command; `None` when a part of it is too long.
pub(crate) fn frame(command: &Command) -> Option<Vec<u8>> {
    let mut body = Writer::default();
    for &handle in &command.handles {
        body = body.u32(handle);
    }
    if command.authorizations > 0 {
        let mut area = Writer::default();
        for _ in 0..command.authorizations {
            // No nonce, no attributes, no password.
            area = area.u32(PASSWORD_SESSION).u16(0).u8(0).u16(0);
        }
        let area = area.finish()?;
        body = body.u32(u32::try_from(area.len()).ok()?).raw(area);
    }
    let body = body.raw(command.parameters.finish()?);
    let body = body.finish()?;
    let tag = if command.authorizations > 0 {
        TAG_SESSIONS
    } else {
        TAG_NO_SESSIONS
    };
    let size = u32::try_from(HEADER + body.len()).ok()?;
    Writer::default()
        .u16(tag)
        .u32(size)
        .u32(command.code as u32)
        .raw(body)
        .finish()
        .map(<[u8]>::to_vec)
}

/// Reads one command or answer: the size is in its header.
///
/// # Errors
/// When the stream ends or breaks, or the size is impossible.
pub(crate) fn read_frame(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; HEADER];
    stream.read_exact(&mut frame)?;
    let size = frame[2..6]
        .iter()
        .fold(0_usize, |value, &byte| value << 8 | usize::from(byte));
    if !(HEADER..=MAXIMUM).contains(&size) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "impossible size of a TPM command",
        ));
    }
    frame.resize(size, 0);
    stream.read_exact(&mut frame[HEADER..])?;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Code, startup};

    #[test]
    fn startup_is_framed_as_the_specification_has_it() {
        assert_eq!(
            frame(&startup()).unwrap(),
            hex::decode("80010000000c000001440000").unwrap()
        );
    }

    #[test]
    fn an_authorized_command_has_one_empty_password_for_each_handle() {
        let parameters = Writer::default().u32(0x8101_0001);
        let command = Command::new(Code::EvictControl, [0x4000_0001, 0x8000_0000], parameters).authorized(1);
        let expected =
            "800200000023000001204000000180000000000000094000000900000000 0081010001".replace(' ', "");
        assert_eq!(hex::encode(frame(&command).unwrap()), expected);
    }

    #[test]
    fn frames_of_impossible_size_are_refused() {
        let mut short: &[u8] = &[0x80, 1, 0, 0, 0, 9, 0, 0, 0, 0];
        assert!(read_frame(&mut short).is_err());
        let mut huge: &[u8] = &[0x80, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert!(read_frame(&mut huge).is_err());
    }
}
