//! Sessions of guests: a ticket that the guest carries, so that one half open costs no memory; nonces that are good
//! once; and what was attested, kept in bounded memory for minutes.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use appraisal::UnixTime;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
    hmac, rand,
};
use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;
use zeroize::Zeroizing;

use super::guest::SessionId;
use crate::core::{Refusal, State};

/// How long a guest has for its Evidence, and how long what it attested counts: Trustee's five minutes.
pub const LIFETIME: i64 = 5 * 60;
/// No cookie of ours is longer; a longer one is not looked at.
pub const LONGEST_COOKIE: usize = 1024;

const TICKET: &[u8] = b"bailey/broker/ticket/1";
const SEALING: &[u8] = b"bailey/broker/session/1";
const TAG: usize = 32;

/// The keys of sessions, derived from the state, so that every replica has them and nobody else.
pub struct SessionKeys {
    ticket: hmac::Key,
    sealing: Zeroizing<[u8; 32]>,
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derived(secret: &[u8], info: &[&[u8]]) -> Result<Zeroizing<[u8; 32]>, Refusal> {
    let failed = |_| Refusal::Internal("a key of the broker's sessions could not be derived".into());
    let mut key = Zeroizing::new([0; 32]);
    let extracted = Salt::new(HKDF_SHA256, b"").extract(secret);
    extracted.expand(info, Length(32)).and_then(|okm| okm.fill(&mut *key)).map_err(failed)?;
    Ok(key)
}

impl SessionKeys {
    /// Those of this state. They change when its root secret does.
    pub fn of(state: &State) -> Result<Self, Refusal> {
        let ticket = derived(state.root_secret(), &[TICKET])?;
        let ticket = hmac::Key::new(hmac::HMAC_SHA256, ticket.as_slice());
        Ok(Self { ticket, sealing: derived(state.root_secret(), &[SEALING])? })
    }

    /// What was attested, for a place that others can read. The key is the session's own, and seals one thing.
    pub fn seal(&self, session: &SessionId, attested: &[u8]) -> Result<Vec<u8>, Refusal> {
        let failed = |_| Refusal::Internal("a session could not be sealed".into());
        let mut body = attested.to_vec();
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        self.cipher(session)?.seal_in_place_append_tag(nonce, Aad::empty(), &mut body).map_err(failed)?;
        Ok(body)
    }

    /// `None` where it is not what was sealed for this session.
    pub fn open(&self, session: &SessionId, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut body = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let length = self.cipher(session).ok()?.open_in_place(nonce, Aad::empty(), &mut body).ok()?.len();
        body.truncate(length);
        Some(body)
    }

    /// A session is attested once, so a key of its own never seals twice.
    fn cipher(&self, session: &SessionId) -> Result<LessSafeKey, Refusal> {
        let key = derived(self.sealing.as_slice(), &[SEALING, &session.0])?;
        let key = UnboundKey::new(&AES_256_GCM, key.as_slice());
        key.map(LessSafeKey::new).map_err(|_| Refusal::Internal("a session's key is no key".into()))
    }
}

/// What a guest gets for its request, and shows again with its Evidence: authenticated, not encrypted, for it says
/// nothing that the guest was not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// What the Evidence must cover.
    pub nonce: [u8; 32],
    /// The TEE that the guest said to be in.
    pub tee: String,
    /// The protocol that it speaks.
    pub version: String,
    /// After that it is worth nothing.
    pub expires: UnixTime,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire(ByteArray<32>, String, String, i64);

/// Why a cookie is no ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTicket {
    /// We did not issue it, or it was changed.
    #[error("it is none of this coordinator's")]
    Forged,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
}

impl Ticket {
    /// A fresh one.
    pub fn issue(tee: String, version: String, now: UnixTime) -> Result<Self, Refusal> {
        let mut nonce = [0; 32];
        rand::fill(&mut nonce).map_err(|_| Refusal::Internal("no random numbers could be had".into()))?;
        Ok(Self { nonce, tee, version, expires: UnixTime(now.0.saturating_add(LIFETIME)) })
    }

    /// The nonce as the protocol writes it.
    pub fn nonce_text(&self) -> String {
        STANDARD.encode(self.nonce)
    }

    /// The session that begins with it: by its nonce, so that whoever claims one claims the other.
    pub fn session(&self) -> SessionId {
        SessionId::of(&self.nonce)
    }

    /// The cookie's value.
    pub fn to_cookie(&self, keys: &SessionKeys) -> Result<String, Refusal> {
        let wire = Wire(ByteArray::new(self.nonce), self.tee.clone(), self.version.clone(), self.expires.0);
        let mut bytes = Vec::new();
        ciborium::into_writer(&wire, &mut bytes)
            .map_err(|_| Refusal::Internal("a ticket could not be written".into()))?;
        let tag = hmac::sign(&keys.ticket, &bytes);
        bytes.extend_from_slice(tag.as_ref());
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// What a guest shows.
    ///
    /// # Errors
    /// [`BadTicket`]. Nothing in it is read before its tag is.
    pub fn from_cookie(text: &str, keys: &SessionKeys, now: UnixTime) -> Result<Self, BadTicket> {
        if text.len() > LONGEST_COOKIE {
            return Err(BadTicket::Forged);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadTicket::Forged)?;
        let (body, tag) =
            bytes.len().checked_sub(TAG).map(|at| bytes.split_at(at)).ok_or(BadTicket::Forged)?;
        hmac::verify(&keys.ticket, body, tag).map_err(|_| BadTicket::Forged)?;
        let Wire(nonce, tee, version, expires) =
            ciborium::from_reader(body).map_err(|_| BadTicket::Forged)?;
        let ticket = Self { nonce: nonce.into_array(), tee, version, expires: UnixTime(expires) };
        if now >= ticket.expires { Err(BadTicket::Expired) } else { Ok(ticket) }
    }
}

/// No more can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many sessions are under way")]
pub struct Full;

/// The nonces that were shown, each until its ticket expires. Full, it refuses and forgets none: what is forgotten
/// could be shown again (S-14).
pub struct Nonces {
    most: usize,
    held: usize,
    /// The newest minute that was seen: the host's clock may go back, and what was forgotten stays refused.
    over: i64,
    /// By the minute in which their tickets expire.
    minutes: BTreeMap<i64, HashSet<[u8; 16]>>,
}

impl Nonces {
    /// Room for so many.
    pub fn new(most: usize) -> Self {
        Self { most, held: 0, over: i64::MIN, minutes: BTreeMap::new() }
    }

    /// Whether this is the first time that the nonce of a valid ticket is shown; from now on it is not.
    ///
    /// # Errors
    /// [`Full`].
    pub fn claim(&mut self, session: SessionId, expires: UnixTime, now: UnixTime) -> Result<bool, Full> {
        self.over = self.over.max(now.0.div_euclid(60));
        while let Some(minute) = self.minutes.first_entry().filter(|minute| *minute.key() < self.over) {
            self.held -= minute.remove().len();
        }
        let minute = expires.0.div_euclid(60);
        if minute < self.over {
            return Ok(false);
        }
        let minute = self.minutes.entry(minute).or_default();
        if minute.contains(&session.0) {
            return Ok(false);
        }
        if self.held >= self.most {
            return Err(Full);
        }
        self.held += 1;
        Ok(minute.insert(session.0))
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        self.held
    }
}

/// What one entry of [`Sessions`] weighs besides what is kept: the map's and the queue's share, and the allocation.
pub const ENTRY: usize = 128;

/// What guests attested, until it expires, or until newer sessions need the room: whoever is forgotten attests again.
pub struct Sessions {
    most: usize,
    most_bytes: usize,
    bytes: usize,
    kept: HashMap<SessionId, (UnixTime, Box<[u8]>)>,
    /// In the order in which they came, which is about that in which they expire.
    order: VecDeque<SessionId>,
}

impl Sessions {
    /// Room for so many, of so many bytes together.
    pub fn new(most: usize, most_bytes: usize) -> Self {
        Self { most, most_bytes, bytes: 0, kept: HashMap::new(), order: VecDeque::new() }
    }

    /// Keeps a session.
    pub fn keep(&mut self, session: SessionId, expires: UnixTime, attested: &[u8], now: UnixTime) {
        let weight = ENTRY + attested.len();
        if self.kept.contains_key(&session) || weight > self.most_bytes {
            return;
        }
        while let Some(oldest) = self.order.front() {
            let expired = self.kept.get(oldest).is_none_or(|(expires, _)| now >= *expires);
            if !expired && self.kept.len() < self.most && self.bytes + weight <= self.most_bytes {
                break;
            }
            if let Some((_, gone)) = self.kept.remove(oldest) {
                self.bytes -= ENTRY + gone.len();
            }
            self.order.pop_front();
        }
        self.bytes += weight;
        self.order.push_back(session);
        self.kept.insert(session, (expires, attested.into()));
    }

    /// What was attested, while it counts.
    pub fn attested(&self, session: &SessionId, now: UnixTime) -> Option<&[u8]> {
        self.kept.get(session).filter(|(expires, _)| now < *expires).map(|(_, attested)| &**attested)
    }

    /// How many are kept, expired ones among them that nobody needed the room of.
    pub fn held(&self) -> usize {
        self.kept.len()
    }

    /// What they weigh together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
