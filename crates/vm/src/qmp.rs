//! QEMU's monitor protocol (`docs/interop/qmp-spec.rst`): a line of JSON for each command, answer and event. QEMU is the
//! host's own program, but its guest may have taken it over: what it says is bounded, in length and time.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddrV4},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustix::process::Pid;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Forward, VmError};

const PATIENCE: Duration = Duration::from_secs(20);
/// Of a line; what is read of the console comes in one.
const LONGEST: u64 = 1 << 20;
/// How much of the console is asked for at once, in bytes.
const PIECE: usize = 64 * 1024;

/// A connection to a monitor.
#[derive(Debug)]
pub(crate) struct Monitor {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    /// The guest switched itself off, or was reset, which ends it, too.
    pub(crate) shut_down: bool,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "return")]
    returned: Option<Value>,
    error: Option<Fault>,
    event: Option<String>,
}

#[derive(Deserialize)]
struct Fault {
    desc: String,
}

impl Monitor {
    /// Connects to the monitor at `socket`.
    pub(crate) fn connect(socket: &Path) -> Result<Self, VmError> {
        let stream = UnixStream::connect(socket).map_err(|_| VmError::Gone)?;
        let failed = |error: std::io::Error| VmError::Monitor(error.to_string());
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let writer = stream.try_clone().map_err(failed)?;
        let mut monitor = Self { reader: BufReader::new(stream), writer, shut_down: false };
        // The greeting.
        monitor.line()?;
        monitor.command("qmp_capabilities", json!({}))?;
        // What happened before is asked for.
        let status = monitor.command("query-status", json!({}))?;
        monitor.shut_down =
            matches!(status["status"].as_str(), Some("shutdown" | "guest-panicked" | "internal-error"));
        Ok(monitor)
    }

    /// The process at the other end, by the kernel's word.
    pub(crate) fn process(&self) -> Option<Pid> {
        rustix::net::sockopt::socket_peercred(&self.writer).ok().map(|peer| peer.pid)
    }

    fn line(&mut self) -> Result<Line, VmError> {
        let mut line = String::new();
        let read = (&mut self.reader).take(LONGEST).read_line(&mut line);
        match read {
            Ok(0) => Err(VmError::Gone),
            Ok(_) if line.ends_with('\n') => {
                serde_json::from_str(&line).map_err(|error| VmError::Monitor(format!("no JSON: {error}")))
            }
            Ok(_) => Err(VmError::Monitor("a line without an end".into())),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                Err(VmError::Gone)
            }
            Err(error) => Err(VmError::Monitor(error.to_string())),
        }
    }

    fn command(&mut self, name: &str, arguments: Value) -> Result<Value, VmError> {
        let line = format!("{}\n", json!({ "execute": name, "arguments": arguments }));
        self.writer.write_all(line.as_bytes()).map_err(|_| VmError::Gone)?;
        // More events than this in a row are no machine's.
        for _ in 0..1024 {
            match self.line()? {
                Line { event: Some(event), .. } => {
                    self.shut_down |= matches!(event.as_str(), "SHUTDOWN" | "GUEST_PANICKED");
                }
                Line { error: Some(fault), .. } => {
                    return Err(VmError::Monitor(format!("{name}: {}", fault.desc)));
                }
                Line { returned, .. } => return Ok(returned.unwrap_or(Value::Null)),
            }
        }
        Err(VmError::Monitor("events without end".into()))
    }

    /// What of the console was not read yet, up to a limit; nothing when there is nothing.
    pub(crate) fn console(&mut self) -> Result<Vec<u8>, VmError> {
        let arguments = json!({ "device": "console", "size": PIECE, "format": "base64" });
        let text = self.command("ringbuf-read", arguments)?;
        let text = text.as_str().ok_or_else(|| VmError::Monitor("no text of the console".into()))?;
        STANDARD.decode(text).map_err(|_| VmError::Monitor("no base64 of the console".into()))
    }

    /// The host's ports that lead to the guest.
    pub(crate) fn forwarded(&mut self) -> Result<Vec<Forward>, VmError> {
        let text = self.command("human-monitor-command", json!({ "command-line": "info usernet" }))?;
        Ok(forwarded(text.as_str().unwrap_or_default()))
    }

    /// Ends QEMU at once.
    pub(crate) fn quit(&mut self) {
        let _ = self.command("quit", json!({}));
    }
}

/// Of a table for people: protocol and state, descriptor, address and port of the host, of the guest, queues.
fn forwarded(text: &str) -> Vec<Forward> {
    let forward = |line: &str| {
        let mut columns = line.split_whitespace();
        if columns.next()? != "TCP[HOST_FORWARD]" {
            return None;
        }
        let mut columns = columns.skip(1);
        let address = match columns.next()? {
            // What people read for all of the host's.
            "*" => Ipv4Addr::UNSPECIFIED,
            address => address.parse().ok()?,
        };
        let host = SocketAddrV4::new(address, columns.next()?.parse().ok()?);
        Some(Forward { host, guest: columns.nth(1)?.parse().ok()? })
    };
    text.lines().filter_map(forward).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forwarded_ports_are_those_of_the_host() {
        let table = "Hub -1 (net):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
                     TCP[HOST_FORWARD]  12       127.0.0.1 40123       10.0.2.15  7000     0     0\r\n  \
                     TCP[ESTABLISHED]   14       127.0.0.1 40123       10.0.2.15  7000     0     0\r\n  \
                     TCP[HOST_FORWARD]  13               *   443       10.0.2.15  8443     0     0\r\n";
        let ports = [("127.0.0.1:40123", 7000), ("0.0.0.0:443", 8443)];
        let ports = ports.map(|(host, guest)| Forward { host: host.parse().unwrap(), guest });
        assert_eq!(forwarded(table), ports);
        assert_eq!(forwarded("Hub -1 (net):\r\n"), []);
    }
}
