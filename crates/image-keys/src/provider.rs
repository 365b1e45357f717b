//! A key provider: a request in, the answer out, by whoever has the keys.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::{
    KekError, Packet, PacketError, Parameter, ParameterError,
    protocol::{self, Operation, Request, RequestError},
};

/// The names that a provider goes by in ocicrypt's configuration and in annotations. The second is CoCo's.
pub const NAMES: [&str; 2] = ["bailey", "attestation-agent"];

/// Wraps layer keys.
#[async_trait]
pub trait Wrapper: Send + Sync {
    /// A packet with `options`, by the key that a person named.
    async fn wrap(&self, parameter: &Parameter, options: &[u8]) -> Result<Packet, BackendError>;
}

/// Unwraps them.
#[async_trait]
pub trait Unwrapper: Send + Sync {
    /// What is in a packet.
    async fn unwrap(&self, packet: &Packet) -> Result<Zeroizing<Vec<u8>>, BackendError>;
}

/// Why whoever has the keys gave nothing. The words are for whoever runs ocicrypt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// The key at hand did not do it.
    #[error(transparent)]
    Kek(#[from] KekError),
    /// The answer is no.
    #[error("{0}")]
    Refused(String),
    /// Nobody could be asked.
    #[error("{0}")]
    Unavailable(String),
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It is none.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// What the person wrote.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// No parameter for this provider.
    #[error(
        "skopeo gave no parameter for this provider; it is `--encryption-key provider:bailey:kbs:///REPOSITORY/TYPE/TAG`"
    )]
    NoParameter,
    /// Several of them.
    #[error("skopeo gave several keys for this provider, and a layer's key is wrapped by one")]
    SeveralParameters,
    /// What the annotation has.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// Whoever has the keys.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// This provider does the other thing.
    #[error("this key provider does not {}", match .0 { Operation::Wrap => "wrap keys", Operation::Unwrap => "unwrap keys" })]
    NotOffered(Operation),
}

/// A key provider. What it has not been given, it refuses.
#[derive(Clone, Default)]
pub struct Provider {
    wrapper: Option<Arc<dyn Wrapper>>,
    unwrapper: Option<Arc<dyn Unwrapper>>,
}

impl Provider {
    /// One that wraps.
    #[must_use]
    pub fn wrapping(self, wrapper: impl Wrapper + 'static) -> Self {
        Self { wrapper: Some(Arc::new(wrapper)), ..self }
    }

    /// One that unwraps.
    #[must_use]
    pub fn unwrapping(self, unwrapper: impl Unwrapper + 'static) -> Self {
        Self { unwrapper: Some(Arc::new(unwrapper)), ..self }
    }

    /// The answer to a request in JSON, whichever it is: ocicrypt's command form has it on standard input, and the answer on
    /// standard output.
    ///
    /// # Errors
    /// See [`ProviderError`]. A failure is never an answer.
    pub async fn answer(&self, request: &[u8]) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        self.answered(Request::parse(request)?).await
    }

    /// As [`Self::answer`], where it is fixed what may be asked.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn answer_to(
        &self,
        operation: Operation,
        request: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        let request = Request::parse(request)?;
        if request.operation() != operation {
            return Err(RequestError::Operation.into());
        }
        self.answered(request).await
    }

    async fn answered(&self, request: Request) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        let not_offered = ProviderError::NotOffered(request.operation());
        match request {
            Request::Wrap { parameters, options } => {
                let wrapper = self.wrapper.as_ref().ok_or(not_offered)?;
                let parameter = Parameter::parse(parameter(&parameters)?)?;
                let packet = wrapper.wrap(&parameter, &options).await?;
                Ok(Zeroizing::new(protocol::wrapped(&packet.to_json())))
            }
            Request::Unwrap { annotation } => {
                let unwrapper = self.unwrapper.as_ref().ok_or(not_offered)?;
                let options = unwrapper.unwrap(&Packet::parse(&annotation)?).await?;
                Ok(protocol::unwrapped(&options))
            }
        }
    }
}

/// The one text that is for this provider. ocicrypt does not say by which name it calls, so that texts under both names
/// must be one.
fn parameter(parameters: &BTreeMap<String, Vec<Vec<u8>>>) -> Result<&[u8], ProviderError> {
    let mut texts = NAMES.iter().filter_map(|name| parameters.get(*name)).flatten();
    let first = texts.next().ok_or(ProviderError::NoParameter)?;
    if texts.any(|text| text != first) {
        return Err(ProviderError::SeveralParameters);
    }
    Ok(first)
}
