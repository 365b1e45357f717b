//! Attestation tokens: what a guest gets for its Evidence, to show to whoever trusts this mesh, and here instead of its
//! session's cookie. Whoever steals one gets nothing for it here: what is released is encrypted to the key that the
//! guest's Evidence covers (S-38).
//!
//! ```text
//!  Guest ──issue (the epoch's key)──▶ token ──bearer (keys of our own state, by key id)──▶ Guest
//! ```

use appraisal::UnixTime;
use attestation_result::coco::{self, About, Expected, Issue, Untrusted, Unverified};
use manifest::TokenSettings;

use super::guest::Guest;
use crate::core::{Mesh, Refusal, State, secrets, signers::Known};

/// Longer words in `Authorization` are not looked at.
pub const LONGEST: usize = coco::MAX_TOKEN;

/// Why a token gives nobody anything here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotBelieved {
    /// It is not to be believed by anybody, or not here.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// It is of an epoch that is over: the guest attests again, to the manifest in force.
    #[error("it is of epoch {seen}, and epoch {current} is in force")]
    Epoch {
        /// Its epoch.
        seen: u64,
        /// The epoch in force.
        current: u64,
    },
    /// It is signed by our key, and says what no token of ours says.
    #[error("it says what no token of ours says")]
    Strange,
    /// There is no broker, or it cannot be asked.
    #[error("the broker is not there")]
    Refused(&'static str),
}

impl NotBelieved {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Untrusted(untrusted) => untrusted.code(),
            Self::Epoch { .. } => "ATTESTATION_TOKEN_EPOCH",
            Self::Strange => "ATTESTATION_TOKEN_MALFORMED",
            Self::Refused(code) => code,
        }
    }
}

/// The mesh's name as an issuer of tokens, and as the audience of those that guests show here.
pub fn issuer(state: &State) -> String {
    coco::issuer_of(state.root().certificate())
}

fn settings(mesh: &Mesh) -> Result<&TokenSettings, Refusal> {
    let broker = mesh.manifest().broker();
    broker.map(|broker| &broker.tokens).ok_or_else(|| Refusal::Internal("no token without a broker".into()))
}

/// The token of a guest that attested in the epoch in force.
///
/// # Errors
/// Where the epoch is another by now, or its key is in another TEE.
pub fn issue(state: &State, guest: &Guest, now: UnixTime) -> Result<String, Refusal> {
    let mesh = state.running()?;
    let settings = settings(mesh)?;
    if guest.epoch() != mesh.epoch() {
        return Err(Refusal::Overtaken { what: "the epoch that the guest attested in".into() });
    }
    let signer = mesh.signers().current().and_then(|signer| Some((signer.key()?, signer.chain())));
    let (key, chain) = signer.ok_or(crate::authority::AuthorityError::Lost)?;
    let lifetime = i64::try_from(settings.lifetime.as_secs()).unwrap_or(coco::MAX_LIFETIME);
    let own = issuer(state);
    let audiences = std::iter::once(&own).chain(&settings.audiences).cloned().collect();
    let issue = Issue {
        subject: format!("urn:bailey:session:{}", guest.session()),
        id: hex::encode(&secrets::random32()?[..16]),
        audiences,
        issuer: own,
        issued: now,
        expires: UnixTime(now.0.saturating_add(lifetime)),
        about: About {
            tee: guest.tee().to_string(),
            platform: guest.platform(),
            init_data: guest.init_data().map(ToString::to_string),
            emulated: guest.emulated(),
            attested: guest.attested_at(),
        },
    };
    coco::sign(guest.claims(), &issue, key, chain)
        .map_err(|error| Refusal::Internal(format!("no token could be made: {error}")))
}

/// Who shows a token. Its epoch must be that in force, under the same manifest: keys of earlier epochs are known, so
/// that the guest is told to attest again, and sign for nobody here.
///
/// # Errors
/// [`NotBelieved`], for operators; the guest is told that it is to attest again.
pub fn bearer(state: &State, text: &str, now: UnixTime) -> Result<Guest, NotBelieved> {
    let mesh = state.running().map_err(|refusal| NotBelieved::Refused(refusal.code()))?;
    let token = Unverified::parse(text)?;
    let over = |seen| NotBelieved::Epoch { seen, current: mesh.epoch() };
    let key = match mesh.signers().known(token.key_id()) {
        Some(Known::InForce(key)) => key,
        Some(Known::Past { epoch }) => return Err(over(epoch)),
        None => return Err(Untrusted::Key.into()),
    };
    let own = issuer(state);
    let verified = token.verify(&key, &Expected { issuer: &own, audience: &own, now })?;
    let (epoch, manifest) = (verified.mesh().epoch, mesh.manifest().digest().to_string());
    if epoch != mesh.epoch() || verified.mesh().manifest != manifest {
        return Err(over(epoch));
    }
    Guest::of_token(&verified).ok_or(NotBelieved::Strange)
}
