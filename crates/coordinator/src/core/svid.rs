//! SPIFFE identities: `spiffe://<trust domain>/marble/<name>` and `spiffe://<trust domain>/guest/<package>`. Who asks
//! decides which; a request names a key or audiences and never an ID. Nothing is kept of what was issued: it ends
//! within the hour.

use appraisal::UnixTime;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_bytes::ByteArray;
use spiffe_workload::{
    id::{SpiffeId, TrustDomain},
    jwt::JwtKeys,
    wire::{BundleWire, JwtAnswer, JwtWire, LONGEST_AUDIENCE, MOST_AUDIENCES, X509Answer, X509Wire},
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Caller, Mesh, Refusal, State, activation, broker::guest::Guest};
use crate::authority::{CsrFault, SvidRole, requested_key};

/// What of a request for an SVID is not right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SvidFault {
    /// The certificate request.
    #[error("the certificate request is refused: {0}")]
    Csr(CsrFault),
    /// The audiences.
    #[error("a JWT-SVID is for 1 to {MOST_AUDIENCES} audiences of 1 to {LONGEST_AUDIENCE} bytes each")]
    Audiences,
    /// A guest that was appraised under another manifest, or too long ago.
    #[error("the guest was appraised under another manifest, or too long ago")]
    Over,
    /// A guest that is no package by its Evidence.
    #[error("the guest's Evidence proves no package, so it has no SPIFFE ID")]
    Nobody,
    /// A guest that is more than any guest is.
    #[error(
        "the guest's Evidence meets more than {MOST_IDS} packages: have fewer with the same measurements"
    )]
    TooMany,
}

impl SvidFault {
    /// Stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Csr(CsrFault::Malformed) => "CSR_MALFORMED",
            Self::Csr(CsrFault::Key) => "CSR_KEY_REFUSED",
            Self::Csr(CsrFault::Signature) => "CSR_SIGNATURE_INVALID",
            Self::Audiences => "AUDIENCES_REFUSED",
            Self::Over => "ATTESTATION_OVER",
            Self::Nobody => "PACKAGE_NOT_PROVEN",
            Self::TooMany => "PACKAGES_TOO_MANY",
        }
    }
}

/// How many IDs one holder has, at most.
const MOST_IDS: usize = 64;
/// How long after its appraisal what a guest was issued may last.
const GUEST_LIFETIME: i64 = 60 * 60;

/// Who has SPIFFE identities, as it was proven: the only way to SVIDs.
#[derive(Debug, Clone)]
pub struct Holder {
    /// The default one first.
    ids: Vec<SpiffeId>,
    kind: &'static str,
    emulated: bool,
    /// When the proof itself ends.
    until: UnixTime,
}

impl Holder {
    /// A Marble, by its certificate of this epoch, if it was not evicted.
    pub fn marble(state: &State, caller: &Caller, now: UnixTime) -> Result<Self, Refusal> {
        let mesh = state.running()?;
        let (marble, _) = activation::instance_of(mesh, caller, now)?;
        let certificate = caller.certificate()?;
        let identity = mesh.intermediate().marble_of(certificate, now).ok_or(Refusal::NotAMarble)?;
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| Refusal::NotAMarble)?;
        // As in its certificate: the names of Marbles are segments as they are.
        let id = format!("{}/marble/{marble}", domain(state)?.id());
        Ok(Self {
            ids: vec![id.parse().map_err(internal)?],
            kind: "marble",
            emulated: identity.emulated,
            until: UnixTime(parsed.validity().not_after.timestamp()),
        })
    }

    /// A guest, by the packages that its Evidence meets, in their order; what it is issued ends within an hour of its
    /// appraisal. CoCo's sample proves no package, whatever policies let it pass as.
    pub fn guest(state: &State, guest: &Guest, now: UnixTime) -> Result<Self, Refusal> {
        let mesh = state.running()?;
        let in_force = guest.epoch() == mesh.epoch() && *guest.manifest() == mesh.manifest().digest();
        if !in_force || now >= guest.expires() {
            return Err(Refusal::Svid(SvidFault::Over));
        }
        if guest.platform().is_none() || guest.packages().is_empty() {
            return Err(Refusal::Svid(SvidFault::Nobody));
        }
        if guest.packages().len() > MOST_IDS {
            return Err(Refusal::Svid(SvidFault::TooMany));
        }
        let domain = domain(state)?;
        let id =
            |package: &manifest::PackageName| SpiffeId::new(domain.clone(), &["guest", package.as_str()]);
        Ok(Self {
            ids: guest.packages().iter().map(id).collect::<Result<_, _>>().map_err(internal)?,
            kind: "guest",
            emulated: guest.emulated(),
            until: UnixTime(guest.attested_at().0.saturating_add(GUEST_LIFETIME)),
        })
    }

    /// Its IDs, the default one first.
    pub fn ids(&self) -> &[SpiffeId] {
        &self.ids
    }
}

/// X.509-SVIDs of a holder for the key of a certificate request.
pub fn x509(state: &State, holder: &Holder, csr: &[u8], now: UnixTime) -> Result<X509Answer, Refusal> {
    let mesh = state.running()?;
    let key = requested_key(csr).map_err(|fault| Refusal::Svid(SvidFault::Csr(fault)))?;
    let role = SvidRole {
        holder: holder.kind,
        epoch: mesh.epoch(),
        manifest: ByteArray::new(mesh.manifest_digest()),
        emulated: holder.emulated || state.emulated(),
    };
    let svid = |id: &SpiffeId| {
        let leaf = mesh.svids().certify_svid(&key, id, &role, (now, holder.until))?;
        let chain = [&leaf, mesh.svids().certificate()].map(|certificate| BASE64.encode(certificate));
        Ok(X509Wire { id: id.to_string(), chain: chain.into() })
    };
    let svids = holder.ids.iter().map(svid).collect::<Result<_, Refusal>>()?;
    Ok(X509Answer { svids, bundle: bundle(state)? })
}

/// JWT-SVIDs of a holder for audiences.
pub fn jwt(
    state: &State,
    holder: &Holder,
    audiences: &[String],
    now: UnixTime,
) -> Result<JwtAnswer, Refusal> {
    let fits = |audience: &String| (1..=LONGEST_AUDIENCE).contains(&audience.len());
    if !(1..=MOST_AUDIENCES).contains(&audiences.len()) || !audiences.iter().all(fits) {
        return Err(Refusal::Svid(SvidFault::Audiences));
    }
    let authority = state.running()?.svids();
    let svid = |id: &SpiffeId| {
        let token = authority.sign_jwt_svid(id, audiences, (now, holder.until))?;
        Ok(JwtWire { id: id.to_string(), token })
    };
    Ok(JwtAnswer { svids: holder.ids.iter().map(svid).collect::<Result<_, Refusal>>()? })
}

/// By what SVIDs of this mesh are verified: the root, and this epoch's key of JWT-SVIDs. An epoch ends its JWT-SVIDs.
pub fn bundle(state: &State) -> Result<BundleWire, Refusal> {
    let mesh: &Mesh = state.running()?;
    Ok(BundleWire {
        trust_domain: state.trust_domain(),
        x509: vec![BASE64.encode(state.root().certificate())],
        jwks: JwtKeys::new([mesh.svids().jwt_svid_key()?]).to_jwks(),
    })
}

fn domain(state: &State) -> Result<TrustDomain, Refusal> {
    state.trust_domain().parse().map_err(internal)
}

fn internal(fault: spiffe_workload::id::InvalidId) -> Refusal {
    Refusal::Internal(format!("a name of this mesh is no SPIFFE ID: {fault}"))
}
