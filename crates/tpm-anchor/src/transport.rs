//! The way to a TPM: a device of the kernel, or the socket of an emulator. All of it is the host's.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use crate::wire::MAX_RESPONSE;

/// An emulator answers sooner, or never.
const PATIENCE: Duration = Duration::from_secs(30);

/// Carries one command and its answer.
pub trait Transport: Send {
    /// The bytes that came back: at most [`MAX_RESPONSE`], of which nothing is known yet.
    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>>;

    /// Whether somebody else's sessions may be in this TPM. On a kernel's resource manager and on an emulator of one's
    /// own there are none.
    fn cleans_up(&self) -> bool {
        false
    }
}

/// Where a TPM is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// The kernel's resource manager, `/dev/tpmrm0`.
    Device(PathBuf),
    /// `unix:/path` of an emulator that serves nobody else.
    Unix(PathBuf),
    /// `tcp:127.0.0.1:2321`, the same.
    Tcp(String),
}

/// Not the address of a TPM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no TPM: give /dev/tpmrm0, or unix:PATH or tcp:HOST:PORT of an emulator")]
pub struct NotAnAddress(String);

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("tcp", address)) if address.contains(':') => Ok(Self::Tcp(address.to_owned())),
            None if text.starts_with('/') => Ok(Self::Device(text.into())),
            _ => Err(NotAnAddress(text.to_owned())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => path.display().fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

impl Address {
    /// Goes there.
    pub fn connect(&self) -> io::Result<Box<dyn Transport>> {
        match self {
            Self::Device(path) => Ok(Box::new(Device(OpenOptions::new().read(true).write(true).open(path)?))),
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Box::new(Socket(stream)))
            }
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address.as_str())?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Box::new(Socket(stream)))
            }
        }
    }
}

struct Device(File);

impl Transport for Device {
    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(command)?;
        let mut answer = vec![0; MAX_RESPONSE];
        let length = self.0.read(&mut answer)?;
        answer.truncate(length);
        Ok(answer)
    }
}

struct Socket<S>(S);

impl<S: Read + Write + Send> Transport for Socket<S> {
    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(command)?;
        let mut header = [0; 10];
        self.0.read_exact(&mut header)?;
        let [_, _, a, b, c, d, ..] = header;
        let rest =
            usize::try_from(u32::from_be_bytes([a, b, c, d])).ok().and_then(|size| size.checked_sub(10));
        let rest = rest
            .filter(|rest| *rest <= MAX_RESPONSE)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an answer of no sensible size"))?;
        let mut answer = header.to_vec();
        answer.resize(10 + rest, 0);
        self.0.read_exact(&mut answer[10..])?;
        Ok(answer)
    }

    fn cleans_up(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for right in ["/dev/tpmrm0", "unix:/run/swtpm", "tcp:127.0.0.1:2321"] {
            assert_eq!(right.parse::<Address>().unwrap().to_string(), right);
        }
        for wrong in ["", "tpmrm0", "unix:", "tcp:1", "http://x", "tcp:"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }
}
