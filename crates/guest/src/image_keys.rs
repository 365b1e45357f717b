//! Layer keys of encrypted images, for ocicrypt in this guest (image-rs, containerd, skopeo): the packet in an image's
//! annotation is unwrapped by a key that the broker releases, or by the broker itself, which keeps the key.

use std::sync::Arc;

use ::image_keys::{BackendError, Form, Kek, Packet, Provider, Unwrapper};
use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::{Guest, broker::BrokerError};

/// A provider that unwraps, and does not wrap: guests pull images, people encrypt them.
pub fn provider(guest: Arc<Guest>) -> Provider {
    Provider::default().unwrapping(Releasing(guest))
}

struct Releasing(Arc<Guest>);

#[async_trait]
impl Unwrapper for Releasing {
    async fn unwrap(&self, packet: &Packet) -> Result<Zeroizing<Vec<u8>>, BackendError> {
        let broker = self.0.broker();
        let key =
            packet.key.path().parse().map_err(|_| BackendError::Refused("the key is no resource".into()))?;
        if !matches!(packet.form, Form::Bailey { .. }) {
            match broker.resource(&key).await {
                Ok(kek) => return Ok(Kek::new(&kek)?.unwrap(packet)?),
                // A key that is not released may still be one that the broker unwraps with.
                Err(error) if error.denied() => {}
                Err(error) => return Err(told(&error)),
            }
        }
        broker.unwrap_key(&key, &packet.to_json()).await.map_err(|error| told(&error))
    }
}

/// For whoever runs ocicrypt: that it was refused, or that nobody could be asked. Never what was asked for.
fn told(error: &BrokerError) -> BackendError {
    let words = format!("{error}; {}", error.remedy());
    if error.denied() { BackendError::Refused(words) } else { BackendError::Unavailable(words) }
}
