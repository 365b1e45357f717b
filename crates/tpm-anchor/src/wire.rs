//! Bytes of commands and responses: big-endian integers, and sized buffers with a length of 16 bits.

use crate::TpmError;

/// Larger answers are not read (a TPM's own limit is about 4096).
pub const MAX_RESPONSE: usize = 4096;

pub(crate) const NO_SESSIONS: u16 = 0x8001;
pub(crate) const SESSIONS: u16 = 0x8002;

/// The fields of an answer, read from the front.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// So many bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], TpmError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(TpmError::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TpmError> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| TpmError::Malformed("it ends too early"))
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, TpmError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, TpmError> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, TpmError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A buffer behind its length.
    pub fn sized(&mut self) -> Result<&'a [u8], TpmError> {
        let length = self.u16()?;
        self.take(length.into())
    }

    /// All that follows.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Nothing may follow.
    pub fn end(self) -> Result<(), TpmError> {
        if self.0.is_empty() { Ok(()) } else { Err(TpmError::Malformed("bytes follow it")) }
    }
}

/// A response, taken apart.
#[derive(Debug)]
pub struct Response<'a> {
    /// Response code; 0 is success.
    pub code: u32,
    /// The handle, where the command gives one.
    pub handle: Option<u32>,
    /// What the command gives.
    pub parameters: &'a [u8],
    /// Of the session, where there is one.
    pub session: Option<SessionAnswer<'a>>,
}

/// A session's part of a response.
#[derive(Debug)]
pub struct SessionAnswer<'a> {
    /// The TPM's new nonce.
    pub nonce: &'a [u8],
    /// `TPMA_SESSION`.
    pub attributes: u8,
    /// Over the response.
    pub hmac: &'a [u8],
}

impl<'a> Response<'a> {
    /// Reads a whole response; `has_handle` says whether the command gives a handle.
    pub fn parse(bytes: &'a [u8], has_handle: bool) -> Result<Self, TpmError> {
        let mut reader = Reader::new(bytes);
        let tag = reader.u16()?;
        let size = reader.u32()?;
        if usize::try_from(size) != Ok(bytes.len()) {
            return Err(TpmError::Malformed("its size is not the one that it says"));
        }
        let code = reader.u32()?;
        if code != 0 {
            return Ok(Self { code, handle: None, parameters: &[], session: None });
        }
        let handle = if has_handle { Some(reader.u32()?) } else { None };
        match tag {
            NO_SESSIONS => Ok(Self { code, handle, parameters: reader.0, session: None }),
            SESSIONS => {
                let size = reader.u32()?;
                let size = usize::try_from(size).map_err(|_| TpmError::Malformed("it ends too early"))?;
                let parameters = reader.take(size)?;
                let session =
                    SessionAnswer { nonce: reader.sized()?, attributes: reader.u8()?, hmac: reader.sized()? };
                reader.end()?;
                Ok(Self { code, handle, parameters, session: Some(session) })
            }
            _ => Err(TpmError::Malformed("its tag is unknown")),
        }
    }
}

/// A buffer behind its length.
pub(crate) fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], bytes].concat()
}

/// A whole command.
pub(crate) fn command(tag: u16, code: u32, rest: &[&[u8]]) -> Vec<u8> {
    let rest = rest.concat();
    let size = u32::try_from(10 + rest.len()).unwrap_or(u32::MAX);
    [&tag.to_be_bytes()[..], &size.to_be_bytes(), &code.to_be_bytes(), &rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_read_strictly() {
        let error = [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x8B];
        assert_eq!(Response::parse(&error, true).unwrap().code, 0x18B);
        let plain = [0x80, 1, 0, 0, 0, 14, 0, 0, 0, 0, 1, 2, 3, 4];
        let response = Response::parse(&plain, true).unwrap();
        assert_eq!((response.handle, response.parameters), (Some(0x0102_0304), &[][..]));
        let session = [0x80, 2, 0, 0, 0, 23, 0, 0, 0, 0, 0, 0, 0, 1, 7, 0, 1, 8, 1, 0, 2, 9, 9];
        let response = Response::parse(&session, false).unwrap();
        let answer = response.session.unwrap();
        assert_eq!(
            (response.parameters, answer.nonce, answer.attributes, answer.hmac),
            (&[7][..], &[8][..], 1, &[9, 9][..])
        );
        for cut in 0..session.len() {
            assert!(Response::parse(&session[..cut], false).is_err(), "{cut}");
            let mut short = session[..cut].to_vec();
            if cut >= 6 {
                short[5] = cut as u8;
                assert!(Response::parse(&short, false).is_err(), "{cut}");
            }
        }
        let long = [&[0x80, 2, 0, 0, 0, 24][..], &session[6..], &[0]].concat();
        assert!(Response::parse(&long, false).is_err());
        assert!(Response::parse(&[0x80, 3, 0, 0, 0, 10, 0, 0, 0, 0], false).is_err());
    }
}
