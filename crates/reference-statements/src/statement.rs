//! A statement: told apart by content, verified, and asked at each use whether it still holds.

use std::fmt;

use appraisal::UnixTime;
use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::intoto::{self, Provenance};
use crate::refused::Refused;
use crate::signer::Signers;
use crate::values::Values;
use crate::{corim, dsse, jws, sigstore};

/// A statement longer than this is refused unread.
pub const MAX_LENGTH: usize = 256 * 1024;

/// The bytes of a statement, to be verified.
#[derive(Clone, Copy, Debug)]
pub struct Statement;

/// SHA-256 of a statement's exact bytes: its name. Text form: 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatementId(pub [u8; 32]);

/// The form that a statement came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// A DSSE envelope by keys.
    Dsse,
    /// A Sigstore bundle.
    Sigstore,
    /// A JWS.
    Jws,
    /// A CoRIM.
    Corim,
}

/// What a statement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// What Evidence ought to show.
    Values(Values),
    /// How artefacts were built.
    Provenance(Provenance),
}

/// Where a signature is in a transparency log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogEntry {
    /// The log's identity: SHA-256 of its key, hexadecimal.
    pub log: String,
    /// The entry.
    pub index: u64,
}

/// What the CA of a Sigstore instance certified of a signer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certified {
    /// The certificate's subject.
    pub identity: String,
    /// Who vouched for it.
    pub issuer: String,
    /// The repository that the workflow ran for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Its revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

/// A statement whose signature is that of a signer whom the caller named. [`Statement::verify`] and
/// [`Statement::authenticate`] are its only origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    id: StatementId,
    form: Form,
    signers: Vec<String>,
    says: Says,
    log: Option<LogEntry>,
    signed_at: Option<UnixTime>,
    certified: Option<Certified>,
    root: Option<(String, UnixTime)>,
}

impl Statement {
    /// Reads a statement, verifies its signatures, and that it holds at `now`.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn verify(bytes: &[u8], signers: &Signers, now: UnixTime) -> Result<Verified, Refused> {
        let verified = Self::authenticate(bytes, signers)?;
        verified.holds(now)?;
        Ok(verified)
    }

    /// Reads a statement and verifies its signatures. Whether it holds is for [`Verified::holds`] to say, at each use.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn authenticate(bytes: &[u8], signers: &Signers) -> Result<Verified, Refused> {
        if bytes.len() > MAX_LENGTH {
            return Err(Refused::TooLong { limit: MAX_LENGTH, seen: bytes.len() });
        }
        let id = StatementId::of(bytes);
        let plain = |form, signers, says| Verified {
            id,
            form,
            signers,
            says,
            log: None,
            signed_at: None,
            certified: None,
            root: None,
        };
        match Looks::of(bytes)? {
            Looks::Dsse => {
                let (signers, payload) = dsse::Envelope::parse(bytes)?.verify(signers)?;
                Ok(plain(Form::Dsse, signers, intoto::read(&payload)?))
            }
            Looks::Jws => {
                let (signers, payload) = jws::Message::parse(bytes)?.verify(signers)?;
                Ok(plain(Form::Jws, signers, Says::Values(Values::from_json(&payload)?)))
            }
            Looks::Corim => {
                let (signers, values) = corim::verify(bytes, signers)?;
                Ok(plain(Form::Corim, signers, Says::Values(values)))
            }
            Looks::Bundle => {
                let proven = sigstore::Bundled::parse(bytes)?.verify(signers)?;
                Ok(Verified {
                    id,
                    form: Form::Sigstore,
                    signers: vec![proven.signer],
                    says: proven.says,
                    log: Some(proven.log),
                    signed_at: proven.signed_at,
                    certified: proven.certified,
                    root: Some(proven.root),
                })
            }
        }
    }
}

impl Verified {
    /// Whether it holds now: its own span, that of its trust root, and that it was not signed in the future.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn holds(&self, now: UnixTime) -> Result<(), Refused> {
        if let Some((signer, expires)) = &self.root
            && now > *expires
        {
            return Err(Refused::TrustRootExpired { signer: signer.clone(), expires: *expires, now });
        }
        if let Some(signed) = self.signed_at.filter(|signed| *signed > now) {
            return Err(Refused::SignedInFuture { signed, now });
        }
        let Says::Values(values) = &self.says else { return Ok(()) };
        let (not_before, expires) = (values.starts(), values.expires);
        if now < not_before {
            return Err(Refused::NotYetValid { not_before, now });
        }
        if now > expires {
            return Err(Refused::Expired { expires, now });
        }
        Ok(())
    }

    /// Its name.
    pub fn id(&self) -> StatementId {
        self.id
    }

    /// The form that it came in.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Who signed it, by the caller's names; never nobody.
    pub fn signers(&self) -> &[String] {
        &self.signers
    }

    /// What it says.
    pub fn says(&self) -> &Says {
        &self.says
    }

    /// Where the signature is in a log, where it must be.
    pub fn log(&self) -> Option<&LogEntry> {
        self.log.as_ref()
    }

    /// When it was signed, by the word of a log or of a timestamping authority.
    pub fn signed_at(&self) -> Option<UnixTime> {
        self.signed_at
    }

    /// What a CA certified of the signer.
    pub fn certified(&self) -> Option<&Certified> {
        self.certified.as_ref()
    }

    /// Until when the trust root is believed that the signature depends on.
    pub fn root_expires(&self) -> Option<UnixTime> {
        self.root.as_ref().map(|(_, expires)| *expires)
    }
}

/// What bytes look like.
enum Looks {
    Dsse,
    Bundle,
    Jws,
    Corim,
}

impl Looks {
    fn of(bytes: &[u8]) -> Result<Self, Refused> {
        /// Fields that only one form has.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Fields {
            payload_type: Option<serde::de::IgnoredAny>,
            media_type: Option<serde::de::IgnoredAny>,
            protected: Option<serde::de::IgnoredAny>,
        }
        match bytes.trim_ascii_start() {
            [b'{', ..] => {
                let fields: Fields =
                    serde_json::from_slice(bytes).map_err(|error| Refused::malformed("JSON", error))?;
                match fields {
                    Fields { media_type: Some(_), .. } => Ok(Self::Bundle),
                    Fields { payload_type: Some(_), .. } => Ok(Self::Dsse),
                    Fields { protected: Some(_), .. } => Ok(Self::Jws),
                    // Values as `bailey measure` prints them, a predicate alone: anybody can have written that.
                    _ => Err(Refused::Unsigned),
                }
            }
            [b'e', b'y', ..] => Ok(Self::Jws),
            _ if evidence::corim::Document::recognises(bytes) => Ok(Self::Corim),
            _ => Err(Refused::Unrecognised),
        }
    }
}

impl StatementId {
    /// The name of these bytes, whether or not they are a statement.
    pub fn of(bytes: &[u8]) -> Self {
        let mut id = [0; 32];
        id.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(id)
    }
}

impl fmt::Display for StatementId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl fmt::Debug for StatementId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StatementId({self})")
    }
}

impl std::str::FromStr for StatementId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or("a statement's name has 64 hexadecimal digits")
    }
}
