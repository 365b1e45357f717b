//! The claims of the platform's token (draft-ffm-rats-cca-token, §4.2 to §4.6).

use std::collections::BTreeMap;

use super::{
    CHALLENGE, HashAlgorithm, PLATFORM, PROFILE, array_of, claims, digest, items, required, short_text,
};
use crate::Malformed;
use crate::cbor::Cursor;

const INSTANCE_ID: i64 = 256;
const LIFECYCLE: i64 = 2395;
const IMPLEMENTATION_ID: i64 = 2396;
const SOFTWARE_COMPONENTS: i64 = 2399;
const VERIFICATION_SERVICE: i64 = 2400;
const CONFIGURATION: i64 = 2401;
const HASH_ALGORITHM: i64 = 2402;
/// The profile of the draft, and that of tokens from before it.
const PROFILES: [&str; 2] = ["tag:arm.com,2023:cca_platform#1.0.0", "http://arm.com/CCA-SSD/1.0.0"];
/// Real ones have up to 16.
const MAX_COMPONENTS: usize = 64;
/// The longest that we have seen has 33 bytes.
const MAX_CONFIGURATION: usize = 1024;

/// What a platform says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformClaims {
    /// Which description of claims the token follows.
    pub profile: String,
    /// What the realm's monitor asked to be covered: the digest of the realm's key.
    pub challenge: Vec<u8>,
    /// The kind of hardware and of its immutable firmware.
    pub implementation_id: [u8; 32],
    /// The instance: byte 1, then the digest of the platform's key.
    pub instance_id: [u8; 33],
    /// How the hardware is configured; the meaning is the maker's.
    pub configuration: Vec<u8>,
    /// In which state of its life the platform is.
    pub lifecycle: Lifecycle,
    /// The firmware, one entry for each part.
    pub components: Vec<SoftwareComponent>,
    /// Where the maker says that tokens can be verified: a hint.
    pub verification_service: Option<String>,
    /// The algorithm of the components' measurements, where they do not say.
    pub hash_algorithm: HashAlgorithm,
    /// Claims that we do not know.
    pub unknown: Vec<String>,
}

/// One part of the platform's firmware.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SoftwareComponent {
    /// What it is, such as `RMM` or `AP_BL31`.
    pub kind: Option<String>,
    /// Its digest.
    pub measurement: Vec<u8>,
    /// Its version, in its maker's words.
    pub version: Option<String>,
    /// The digest of the key that signed it.
    pub signer_id: Vec<u8>,
    /// The name of the algorithm of `measurement`.
    pub hash_algorithm: Option<String>,
}

/// The state of a platform's life (§4.4.1): the upper byte counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifecycle(pub u16);

impl Lifecycle {
    /// The state's name in the specification; `reserved` for those that it does not have.
    pub const fn name(self) -> &'static str {
        match self.0 >> 8 {
            0x00 => "unknown",
            0x10 => "assembly_and_test",
            0x20 => "cca_platform_rot_provisioning",
            0x30 => "secured",
            0x40 => "non_cca_platform_rot_debug",
            0x50 => "recoverable_cca_platform_rot_debug",
            0x60 => "decommissioned",
            _ => "reserved",
        }
    }

    /// Whether everything is locked as it is for production.
    pub const fn is_secured(self) -> bool {
        self.0 >> 8 == 0x30
    }

    /// Whether some part of the platform can be debugged.
    pub const fn is_debug(self) -> bool {
        matches!(self.0 >> 8, 0x40 | 0x50)
    }
}

impl PlatformClaims {
    /// Parses a map of claims that stands alone, without a signature around it.
    ///
    /// # Errors
    /// [`Malformed`] names the first claim that is not as its format demands.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::read(Cursor::at(PLATFORM, bytes, 0))
    }

    pub(super) fn read(cursor: Cursor<'_>) -> Result<Self, Malformed> {
        let (mut profile, mut challenge, mut implementation_id, mut instance_id) = (None, None, None, None);
        let (mut configuration, mut lifecycle, mut components, mut service) = (None, None, None, None);
        let mut hash_algorithm = None;
        let unknown = claims(cursor, |label, cursor| {
            match label {
                PROFILE => profile = Some(read_profile(cursor)?),
                CHALLENGE => challenge = Some(digest(cursor, "challenge")?),
                IMPLEMENTATION_ID => implementation_id = Some(array_of(cursor, "implementation id")?),
                INSTANCE_ID => instance_id = Some(read_instance_id(cursor)?),
                CONFIGURATION => {
                    let bytes = cursor.bytes_of("configuration", 0..=MAX_CONFIGURATION, &[])?;
                    configuration = Some(bytes.to_vec());
                }
                LIFECYCLE => lifecycle = Some(read_lifecycle(cursor)?),
                SOFTWARE_COMPONENTS => {
                    components = Some(items(cursor, "software components", 1..=MAX_COMPONENTS, component)?);
                }
                VERIFICATION_SERVICE => service = Some(short_text(cursor, "verification service")?),
                HASH_ALGORITHM => hash_algorithm = Some(HashAlgorithm::read(cursor, "hash algorithm")?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(Self {
            profile: required(PLATFORM, "profile", profile)?,
            challenge: required(PLATFORM, "challenge", challenge)?,
            implementation_id: required(PLATFORM, "implementation id", implementation_id)?,
            instance_id: required(PLATFORM, "instance id", instance_id)?,
            configuration: required(PLATFORM, "configuration", configuration)?,
            lifecycle: required(PLATFORM, "lifecycle", lifecycle)?,
            components: required(PLATFORM, "software components", components)?,
            verification_service: service,
            hash_algorithm: required(PLATFORM, "hash algorithm", hash_algorithm)?,
            unknown,
        })
    }

    pub(super) fn measured(&self) -> BTreeMap<String, String> {
        let mut measured = BTreeMap::from([
            ("implementation_id".to_owned(), hex::encode(self.implementation_id)),
            ("instance_id".to_owned(), hex::encode(self.instance_id)),
            ("platform_configuration".to_owned(), hex::encode(&self.configuration)),
            ("lifecycle".to_owned(), self.lifecycle.0.to_string()),
            ("sw.count".to_owned(), self.components.len().to_string()),
        ]);
        for (index, component) in self.components.iter().enumerate() {
            let name = self.name_of(index, component);
            let values = [
                ("measurement", Some(hex::encode(&component.measurement))),
                ("signer_id", Some(hex::encode(&component.signer_id))),
                ("version", component.version.clone()),
                ("hash_algorithm", component.hash_algorithm.clone()),
            ];
            measured.extend(
                values.into_iter().filter_map(|(value, text)| Some((format!("sw.{name}.{value}"), text?))),
            );
        }
        measured
    }

    /// The component's type, where no other can be meant by it, and otherwise its index.
    pub fn name_of(&self, index: usize, component: &SoftwareComponent) -> String {
        let plain = |kind: &&String| {
            kind.starts_with(|first: char| first.is_ascii_alphabetic())
                && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
                && kind.as_str() != "count"
        };
        let kind = component.kind.as_ref().filter(plain);
        let once = |kind: &&String| {
            self.components.iter().filter(|other| other.kind.as_ref() == Some(*kind)).count() == 1
        };
        kind.filter(once).cloned().unwrap_or_else(|| index.to_string())
    }
}

fn read_profile(cursor: &mut Cursor<'_>) -> Result<String, Malformed> {
    let offset = cursor.offset();
    let text = cursor.text("profile")?;
    if PROFILES.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(Malformed::unsupported(PLATFORM, "profile", offset, PROFILES.join(" or "), text))
}

fn read_instance_id(cursor: &mut Cursor<'_>) -> Result<[u8; 33], Malformed> {
    let offset = cursor.offset();
    let id: [u8; 33] = array_of(cursor, "instance id")?;
    match id[0] {
        1 => Ok(id),
        kind => {
            let expected = "a random identifier (RFC 9711, §4.2.1), which begins with 1";
            Err(cursor.value("instance id", offset, expected, kind.to_string()))
        }
    }
}

fn read_lifecycle(cursor: &mut Cursor<'_>) -> Result<Lifecycle, Malformed> {
    let offset = cursor.offset();
    let state = cursor.unsigned("lifecycle")?;
    let state = u16::try_from(state)
        .map_err(|_| cursor.value("lifecycle", offset, "0 to 65535", state.to_string()))?;
    Ok(Lifecycle(state))
}

/// A component (§4.6.1): 1 type, 2 measurement, 4 version, 5 signer id, 6 hash algorithm.
fn component(cursor: &mut Cursor<'_>) -> Result<SoftwareComponent, Malformed> {
    const FIELD: &str = "software component";
    let (mut kind, mut measurement, mut version, mut signer_id, mut hash_algorithm) =
        (None, None, None, None, None);
    let start = cursor.offset();
    let mut left = cursor.map(FIELD)?;
    while cursor.more(&mut left) {
        let offset = cursor.offset();
        let twice = match cursor.integer(FIELD)? {
            1 => kind.replace(short_text(cursor, "component type")?).is_some(),
            2 => measurement.replace(digest(cursor, "component measurement")?).is_some(),
            4 => version.replace(short_text(cursor, "component version")?).is_some(),
            5 => signer_id.replace(digest(cursor, "component signer")?).is_some(),
            6 => hash_algorithm.replace(short_text(cursor, "component hash algorithm")?).is_some(),
            other => return Err(cursor.value(FIELD, offset, "keys 1, 2, 4, 5 and 6", other.to_string())),
        };
        if twice {
            return Err(cursor.value(FIELD, offset, "each key once", "one twice"));
        }
    }
    match (measurement, signer_id) {
        (Some(measurement), Some(signer_id)) => {
            Ok(SoftwareComponent { kind, measurement, version, signer_id, hash_algorithm })
        }
        _ => Err(cursor.value(FIELD, start, "a measurement and a signer", "one of them or none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lifecycle_is_told_by_the_upper_byte() {
        for (state, name, secured, debug) in [
            (0x0000, "unknown", false, false),
            (0x2fff, "reserved", false, false),
            (0x3000, "secured", true, false),
            (0x30ff, "secured", true, false),
            (0x3100, "reserved", false, false),
            (0x4001, "non_cca_platform_rot_debug", false, true),
            (0x5000, "recoverable_cca_platform_rot_debug", false, true),
            (0x6000, "decommissioned", false, false),
        ] {
            let lifecycle = Lifecycle(state);
            assert_eq!(
                (lifecycle.name(), lifecycle.is_secured(), lifecycle.is_debug()),
                (name, secured, debug)
            );
        }
    }
}
