//! What the numbers and names of a CoRIM mean, by its profile. An unknown profile gives numbers no meaning, so it is
//! refused; so is whatever would be lost and thereby widen what is accepted.

use std::collections::BTreeMap;

use evidence::corim::{ClassId, ElementKey, Measured, ReferenceTriple};
use evidence::{LaunchConfiguration, Measurement, Platform};

use super::corim::{LeftOut, ReferencesRefused};
use super::{ReferenceValue, Wire};

/// A profile.
struct Profile {
    uri: &'static str,
    platform: Platform,
    /// Reads one element of an environment into the value; says whether it did.
    element: fn(&ElementKey, &Element<'_>, &mut Wire) -> Result<bool, ReferencesRefused>,
    /// Elements that may be left out, as their values are of the platform's state or of one report alone.
    left_out: fn(&ElementKey) -> bool,
    class: fn(&ReferenceTriple, &Wire) -> bool,
}

const PROFILES: [Profile; 4] = [
    // draft-deeglaze-amd-sev-snp-corim-profile, under both names that are in use.
    Profile { uri: "tag:amd.com,2024:snp-corim-profile", ..SNP },
    SNP,
    // draft-ydb-rats-cca-endorsements, the realm's half.
    Profile {
        uri: "tag:arm.com,2025:cca_realm#1.0.0",
        platform: Platform::Cca,
        element: cca,
        left_out: |_| false,
        class: |triple, value| match &triple.environment.class_id {
            Some(ClassId::Bytes(class)) => is_measurement(class, value),
            _ => false,
        },
    },
    // Parsec's TPM provider: PCRs by number.
    Profile {
        uri: "tag:github.com/parallaxsecond,2023-03-03:tpm",
        platform: Platform::Tpm,
        element: tpm,
        left_out: |_| false,
        class: |triple, _| matches!(triple.environment.class_id, Some(ClassId::Uuid(_))),
    },
];

const SNP: Profile = Profile {
    uri: "http://amd.com/2024/snp-corim-profile",
    platform: Platform::Snp,
    element: snp,
    // VERSION to PLATFORM_INFO; REPORT_DATA; REPORT_ID to CPUID_STEP; CHIP_ID to LAUNCH_TCB.
    left_out: |key| matches!(key, ElementKey::Number(0..=7 | 640 | 645..=650 | 3328..=3330 | 3936 | 3968)),
    // 1.3.6.1.4.1.3704.3.1 (by chip) and .2 (by provider), encoded.
    class: |triple, _| match &triple.environment.class_id {
        Some(ClassId::Oid(oid)) => matches!(oid[..], [0x2b, 6, 1, 4, 1, 0x9c, 0x78, 3, 1 | 2]),
        _ => false,
    },
};

/// The value that a triple is, by the profile of its manifest.
pub(super) fn value(
    profile: Option<&str>,
    label: String,
    triple: &ReferenceTriple,
    left_out: &mut Vec<LeftOut>,
) -> Result<ReferenceValue, ReferencesRefused> {
    let known = PROFILES.iter().find(|known| Some(known.uri) == profile);
    let profile = known.ok_or_else(|| ReferencesRefused::UnknownProfile {
        profile: profile.unwrap_or_default().to_owned(),
        known: PROFILES.iter().map(|profile| profile.uri).collect(),
    })?;
    let mut value = Wire {
        label,
        platform: profile.platform,
        measurement: None,
        launch_configuration: None,
        registers: BTreeMap::new(),
        minimum: BTreeMap::new(),
    };
    for (index, measured) in triple.measurements.iter().enumerate() {
        let element = Element { label: value.label.clone(), measured };
        let key = measured.key.as_ref().ok_or_else(|| element.refused("its profile demands a key"))?;
        if measured.authorized {
            return Err(element.refused("it is bound to a signer of Evidence, which is not compared"));
        }
        if triple.measurements[..index].iter().any(|earlier| earlier.key.as_ref() == Some(key)) {
            return Err(element.refused("it is there twice"));
        }
        if (profile.element)(key, &element, &mut value)? {
            continue;
        }
        if !(profile.left_out)(key) {
            return Err(element.refused("its profile has no such element that could be compared"));
        }
        left_out.push(LeftOut { label: value.label.clone(), element: element.name() });
    }
    let environment = |reason| ReferencesRefused::Value {
        label: value.label.clone(),
        element: "environment".into(),
        reason,
    };
    if !(profile.class)(triple, &value) {
        return Err(environment("the class is not one of its profile"));
    }
    // Verifiers look values up by the measurement, and write it as the instance.
    if triple.environment.instance.as_ref().is_some_and(|instance| !is_measurement(instance, &value)) {
        return Err(environment("it is of one machine, which is not compared"));
    }
    Ok(value.try_into()?)
}

fn is_measurement(bytes: &[u8], value: &Wire) -> bool {
    value.measurement.as_ref().is_some_and(|measurement| measurement.as_bytes() == bytes)
}

fn snp(key: &ElementKey, element: &Element<'_>, value: &mut Wire) -> Result<bool, ReferencesRefused> {
    match key {
        ElementKey::Number(641) => value.measurement = Some(Measurement::new(element.digest()?)?),
        ElementKey::Number(642) => {
            value.launch_configuration = Some(LaunchConfiguration::new(element.raw(32)?)?)
        }
        ElementKey::Number(643) => {
            value.registers.insert("id_key_digest".into(), hex::encode(element.raw(48)?));
        }
        ElementKey::Number(644) => {
            value.registers.insert("author_key_digest".into(), hex::encode(element.raw(48)?));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn cca(key: &ElementKey, element: &Element<'_>, value: &mut Wire) -> Result<bool, ReferencesRefused> {
    let ElementKey::Name(name) = key else { return Ok(false) };
    let one = || match element.only_digests()? {
        [one] => element.sized(one),
        _ => Err(element.refused("one digest is expected, by the realm's algorithm")),
    };
    match name.as_str() {
        "cca.rim" => value.measurement = Some(Measurement::new(one()?)?),
        "cca.rem0" | "cca.rem1" | "cca.rem2" | "cca.rem3" => {
            value.registers.insert(name["cca.".len()..].to_owned(), hex::encode(one()?));
        }
        "cca.rpv" => value.launch_configuration = Some(LaunchConfiguration::new(element.raw(64)?)?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn tpm(key: &ElementKey, element: &Element<'_>, value: &mut Wire) -> Result<bool, ReferencesRefused> {
    let ElementKey::Number(register @ 0..=23) = key else { return Ok(false) };
    for digest in element.only_digests()? {
        let bank = match digest.0 {
            SHA_256 => "sha256",
            SHA_384 => "sha384",
            _ => "sha512",
        };
        value.registers.insert(format!("pcr{register}.{bank}"), hex::encode(element.sized(digest)?));
    }
    Ok(true)
}

/// IANA, "Named Information Hash Algorithm Registry".
const SHA_256: i64 = 1;
const SHA_384: i64 = 7;
const SHA_512: i64 = 8;

/// One element, for its errors.
struct Element<'a> {
    label: String,
    measured: &'a Measured,
}

impl<'a> Element<'a> {
    fn name(&self) -> String {
        match &self.measured.key {
            Some(ElementKey::Number(number)) => number.to_string(),
            Some(ElementKey::Name(name)) => name.clone(),
            Some(ElementKey::Bytes(bytes)) => hex::encode(bytes),
            None => "element without a key".into(),
        }
    }

    fn refused(&self, reason: &'static str) -> ReferencesRefused {
        ReferencesRefused::Value { label: self.label.clone(), element: self.name(), reason }
    }

    /// The digests, when there is nothing else.
    fn only_digests(&self) -> Result<&'a [(i64, Vec<u8>)], ReferencesRefused> {
        let values = &self.measured.values;
        let other = values.raw.is_some() || values.security_version.is_some() || !values.other.is_empty();
        match values.digests.is_empty() || other {
            true => Err(self.refused("digests are expected, and nothing else")),
            false => Ok(&values.digests),
        }
    }

    /// A digest, of the length that its algorithm has.
    fn sized(&self, (algorithm, digest): &'a (i64, Vec<u8>)) -> Result<&'a [u8], ReferencesRefused> {
        match (*algorithm, digest.len()) {
            (SHA_256, 32) | (SHA_384, 48) | (SHA_512, 64) => Ok(digest),
            _ => Err(self.refused("SHA-256, SHA-384 or SHA-512 is expected, with its length")),
        }
    }

    /// The one digest, by SHA-384.
    fn digest(&self) -> Result<&'a [u8], ReferencesRefused> {
        match self.only_digests()? {
            [(SHA_384, digest)] if digest.len() == 48 => Ok(digest),
            _ => Err(self.refused("one digest is expected, by SHA-384")),
        }
    }

    /// The bytes, when there is nothing else.
    fn raw(&self, length: usize) -> Result<&'a [u8], ReferencesRefused> {
        let values = &self.measured.values;
        let other =
            values.security_version.is_some() || !values.digests.is_empty() || !values.other.is_empty();
        match &values.raw {
            Some(raw) if !other && raw.len() == length => Ok(raw),
            _ => Err(self.refused("a raw value of the field's length is expected, and nothing else")),
        }
    }
}
