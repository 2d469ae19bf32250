//! The operator's client: one request over the server's local socket.

use std::{
    io::{Error, ErrorKind, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use serde_json::Value;
use touchmark_api::admin::{Answer, DEFAULT_SOCKET, Request};
use touchmark_tls::files;

use crate::{
    exit::{REFUSED, UNREACHABLE, UNUSABLE, fail},
    output::Output,
};

/// How every operator command reaches the server and reports.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Operator {
    /// The server's local socket.
    #[arg(long, env = "TOUCHMARK_ADMIN_SOCKET", default_value = DEFAULT_SOCKET, global = true)]
    pub(crate) admin_socket: PathBuf,
    /// How to report.
    #[arg(long, value_enum, default_value_t, global = true)]
    pub(crate) output: Output,
}

impl Operator {
    /// Sends a request and returns the document, or the exit code after saying why there is none.
    pub(crate) fn ask(&self, request: &Request) -> Result<Value, ExitCode> {
        match self.exchange(request) {
            Ok(Answer::Done(document)) => Ok(document),
            Ok(Answer::Refused(why)) => Err(fail(REFUSED, why)),
            Ok(Answer::Unusable(why)) => Err(fail(UNUSABLE, why)),
            Ok(Answer::Failed(why)) => Err(fail(UNREACHABLE, why)),
            Err(error) => Err(fail(
                UNREACHABLE,
                format!(
                    "cannot ask the server at {}: {error}. Is it running, and are you its user or root? \
                     (--admin-socket or TOUCHMARK_ADMIN_SOCKET names another)",
                    self.admin_socket.display()
                ),
            )),
        }
    }

    fn exchange(&self, request: &Request) -> std::io::Result<Answer> {
        let mut stream = UnixStream::connect(&self.admin_socket)?;
        // Longer than the service takes at most: it answers, or closes.
        stream.set_read_timeout(Some(Duration::from_secs(90)))?;
        stream.write_all(&serde_json::to_vec(request)?)?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = Vec::new();
        stream
            .read_to_end(&mut answer)
            .map_err(|error| match error.kind() {
                ErrorKind::WouldBlock => {
                    Error::other("it accepted but does not answer; whether it did what was asked is unknown")
                }
                _ => error,
            })?;
        if answer.is_empty() {
            return Err(Error::other("it closed the connection without an answer"));
        }
        Ok(serde_json::from_slice(&answer)?)
    }
}

/// Largest input file: what fits into a request.
const MAX_INPUT: u64 = 8 * 1024 * 1024;

/// Reads an input file that fits into a request, `-` for standard input.
pub(crate) fn read_file(path: &std::path::Path) -> Result<String, ExitCode> {
    read_text(path, MAX_INPUT)
}

/// Reads an input file of at most so many bytes, `-` for standard input.
pub(crate) fn read_text(path: &std::path::Path, limit: u64) -> Result<String, ExitCode> {
    let bytes = if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        match std::io::stdin().take(limit + 1).read_to_end(&mut bytes) {
            Err(error) => return Err(fail(UNUSABLE, format!("standard input: {error}"))),
            Ok(length) if u64::try_from(length).is_ok_and(|length| length > limit) => {
                let why = format!("standard input: over the limit of {limit} bytes; split it");
                return Err(fail(UNUSABLE, why));
            }
            Ok(_) => bytes,
        }
    } else {
        files::read_input(path, limit).map_err(|error| fail(UNUSABLE, error))?
    };
    String::from_utf8(bytes).map_err(|_| fail(UNUSABLE, format!("{}: not UTF-8 text", path.display())))
}
