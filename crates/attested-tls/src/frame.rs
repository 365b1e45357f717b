//! Length-prefixed CBOR messages on a stream: four bytes big-endian length, then one CBOR item.

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::channel::ChannelError;

pub(crate) async fn write<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> Result<(), ChannelError> {
    let mut body = Vec::new();
    ciborium::into_writer(message, &mut body).expect("writing plain data to memory cannot fail");
    let length = u32::try_from(body.len()).map_err(|_| ChannelError::Malformed("message over 4 GiB"))?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(&body).await?;
    stream.flush().await?;
    Ok(())
}

pub(crate) async fn read<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    max: usize,
) -> Result<T, ChannelError> {
    let length = stream.read_u32().await? as usize;
    if length > max {
        return Err(ChannelError::TooLarge { size: length, max });
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let mut rest = body.as_slice();
    let message =
        ciborium::from_reader(&mut rest).map_err(|_| ChannelError::Malformed("not the expected message"))?;
    if !rest.is_empty() {
        return Err(ChannelError::Malformed("bytes follow the message"));
    }
    Ok(message)
}
