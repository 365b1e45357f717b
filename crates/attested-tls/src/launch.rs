//! Measured launch configurations of our own programs: what is fixed before they start and covered by their
//! Evidence. Everything else that a host passes (addresses, paths) is a hint that decides nothing.

use appraisal::{Policy, ReferenceValue};
use serde::{Deserialize, Serialize};

use crate::{anchor::AnchorKind, key::SpkiDigest};

/// No honest configuration is larger.
pub const MAX_CONFIGURATION: usize = 256 * 1024;

/// What a coordinator is launched with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoordinatorConfiguration {
    /// Who may set the first manifest: the digest of the owner's public key.
    pub owner: SpkiDigest,
    /// DNS names and IP addresses in the certificate of the client API.
    pub names: Vec<String>,
    /// The TPM without which it does not serve.
    pub tpm: Option<RequiredTpm>,
}

/// A TPM that must keep the chain of the state log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredTpm {
    /// SHA-256 of the SubjectPublicKeyInfo of its endorsement key; where absent, the TPM that the host shows when the
    /// mesh is founded.
    pub key: Option<[u8; 32]>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct CoordinatorWire {
    owner: String,
    names: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    anchors: Vec<AnchorWire>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct AnchorWire {
    kind: AnchorKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl CoordinatorConfiguration {
    /// Reads the JSON object `{"Owner": "<64 hex digits>", "Names": ["localhost", …]}`, which may have
    /// `"Anchors": [{"Kind": "tpm-nv", "Key": "<64 hex digits>"}]`; the key may be left out.
    pub fn from_json(bytes: &[u8]) -> Result<Self, LaunchError> {
        let wire: CoordinatorWire = read(bytes)?;
        let mut owner = [0; 32];
        hex::decode_to_slice(&wire.owner, &mut owner).map_err(|_| LaunchError::Owner)?;
        if wire.names.is_empty() {
            return Err(LaunchError::NoNames);
        }
        Ok(Self { owner: SpkiDigest(owner), names: wire.names, tpm: required_tpm(&wire.anchors)? })
    }

    /// The bytes to launch with. The same configuration always gives the same bytes, so that its
    /// measurement can be computed beforehand.
    pub fn to_json(&self) -> Vec<u8> {
        let anchor =
            |tpm: &RequiredTpm| AnchorWire { kind: AnchorKind::TpmNv, key: tpm.key.map(hex::encode) };
        let anchors = self.tpm.iter().map(anchor).collect();
        let wire = CoordinatorWire { owner: self.owner.to_string(), names: self.names.clone(), anchors };
        serde_json::to_vec(&wire).expect("strings always serialise")
    }
}

fn required_tpm(anchors: &[AnchorWire]) -> Result<Option<RequiredTpm>, LaunchError> {
    match anchors {
        [] => Ok(None),
        [AnchorWire { kind: AnchorKind::TpmNv, key }] => {
            Ok(Some(RequiredTpm { key: key.as_ref().map(anchor_key).transpose()? }))
        }
        _ => Err(LaunchError::Anchors),
    }
}

fn anchor_key(text: &String) -> Result<[u8; 32], LaunchError> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).map(|()| digest).map_err(|_| LaunchError::AnchorKey)
}

/// What a Keep is launched with: which Marble it is to be, and which coordinator it accepts. The host writes
/// it and cannot change it unseen.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepConfiguration {
    /// The Marble to become.
    pub marble: String,
    /// What the coordinator must be.
    pub coordinator: CoordinatorRequirements,
}

/// What a coordinator must prove before a Keep takes anything from it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinatorRequirements {
    /// Acceptable platforms.
    pub policy: Policy,
    /// Acceptable code.
    pub measurements: Vec<ReferenceValue>,
}

/// What a database is launched with. Its first manifest is fixed by it, and so nobody is the first to set one.
#[derive(Debug, Clone)]
pub struct DatabaseConfiguration {
    /// SHA-256 of the exact bytes of the first manifest, of which all later ones are successors.
    pub manifest: [u8; 32],
    /// DNS names and IP addresses in its certificate.
    pub names: Vec<String>,
    /// The TPM without which it does not serve.
    pub tpm: Option<RequiredTpm>,
    /// Where its key and the head of its log are kept, if it is a Marble of a mesh.
    pub marble: Option<KeepConfiguration>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct DatabaseWire {
    manifest: String,
    names: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tpm: Option<TpmWire>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    coordinator: Option<CoordinatorRequirements>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    marble: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct TpmWire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl DatabaseConfiguration {
    /// Reads the JSON object `{"Manifest": "<64 hex digits>", "Names": ["localhost", …]}`, which may have
    /// `"Tpm": {"Key": "<64 hex digits>"}` (the key may be left out), or else `"Marble": "name"` with
    /// `"Coordinator": {"policy": …, "measurements": …}`.
    pub fn from_json(bytes: &[u8]) -> Result<Self, LaunchError> {
        let wire: DatabaseWire = read(bytes)?;
        let mut manifest = [0; 32];
        hex::decode_to_slice(&wire.manifest, &mut manifest).map_err(|_| LaunchError::Manifest)?;
        if wire.names.is_empty() {
            return Err(LaunchError::NoNames);
        }
        let marble = match (wire.marble, wire.coordinator) {
            (Some(marble), Some(coordinator)) => Some(KeepConfiguration { marble, coordinator }),
            (None, None) => None,
            _ => return Err(LaunchError::HalfAMarble),
        };
        if marble.is_some() && wire.tpm.is_some() {
            return Err(LaunchError::TwoAnchors);
        }
        let tpm = wire.tpm.map(|tpm| tpm.key.as_ref().map(anchor_key).transpose());
        let tpm = tpm.transpose()?.map(|key| RequiredTpm { key });
        Ok(Self { manifest, names: wire.names, tpm, marble })
    }

    /// The bytes to launch with; the same configuration always gives the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        let wire = DatabaseWire {
            manifest: hex::encode(self.manifest),
            names: self.names.clone(),
            tpm: self.tpm.as_ref().map(|tpm| TpmWire { key: tpm.key.map(hex::encode) }),
            coordinator: self.marble.as_ref().map(|it| it.coordinator.clone()),
            marble: self.marble.as_ref().map(|it| it.marble.clone()),
        };
        serde_json::to_vec(&wire).expect("plain data always serialises")
    }
}

/// What a Keep of direct deployments is launched with: that it is one, and of which version. It waits for one client,
/// who then decides everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectConfiguration {
    /// The version of the protocol that it speaks.
    pub version: u16,
}

/// What a Keep was launched for. Its launch configuration says so, and so does its Evidence.
#[derive(Debug, Clone)]
pub enum Purpose {
    /// To become a Marble: `{"marble": …, "coordinator": …}`.
    Marble(Box<KeepConfiguration>),
    /// For one direct deployment: `{"direct": {"version": 1}}`.
    Direct(DirectConfiguration),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DirectWire {
    direct: DirectConfiguration,
}

impl Purpose {
    /// Reads the JSON object strictly.
    pub fn from_json(bytes: &[u8]) -> Result<Self, LaunchError> {
        /// Whether there is such a key, whatever else there is.
        #[derive(Deserialize)]
        struct Key {
            direct: Option<serde::de::IgnoredAny>,
        }
        match read::<Key>(bytes)?.direct {
            Some(_) => read(bytes).map(|DirectWire { direct }| Self::Direct(direct)),
            None => KeepConfiguration::from_json(bytes).map(|marble| Self::Marble(Box::new(marble))),
        }
    }
}

impl DirectConfiguration {
    /// The bytes to launch with.
    pub fn to_json(self) -> Vec<u8> {
        serde_json::to_vec(&DirectWire { direct: self }).expect("plain data always serialises")
    }
}

impl KeepConfiguration {
    /// Reads the JSON object strictly.
    pub fn from_json(bytes: &[u8]) -> Result<Self, LaunchError> {
        read(bytes)
    }

    /// The bytes to launch with; the same configuration always gives the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data always serialises")
    }
}

fn read<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, LaunchError> {
    if bytes.len() > MAX_CONFIGURATION {
        return Err(LaunchError::TooLarge { size: bytes.len() });
    }
    Ok(serde_json::from_slice(bytes)?)
}

/// Why a launch configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Over [`MAX_CONFIGURATION`].
    #[error("the launch configuration has {size} bytes; {MAX_CONFIGURATION} are allowed")]
    TooLarge {
        /// Bytes seen.
        size: usize,
    },
    /// Not the expected JSON object.
    #[error("the launch configuration is not the JSON object that is expected")]
    Json(#[from] serde_json::Error),
    /// `Owner` is not a digest.
    #[error("`Owner` must be the SHA-256 of the owner's public key (SubjectPublicKeyInfo): 64 hex digits")]
    Owner,
    /// `Names` is empty.
    #[error("`Names` must have at least one DNS name or IP address for the certificate")]
    NoNames,
    /// `Manifest` is not a digest.
    #[error("`Manifest` must be the SHA-256 of the first manifest's bytes: 64 hex digits")]
    Manifest,
    /// `Marble` without `Coordinator`, or the other way round.
    #[error(
        "`Marble` and `Coordinator` belong together: the database is a Marble of that coordinator's mesh, or alone"
    )]
    HalfAMarble,
    /// `Tpm` beside `Coordinator`.
    #[error("`Tpm` and `Coordinator` exclude each other: one anchor says which state is the newest")]
    TwoAnchors,
    /// `Anchors` names something else than one TPM.
    #[error("`Anchors` may have one anchor, of kind `tpm-nv`: the others are the manifest's or the store's")]
    Anchors,
    /// The key of an anchor is not a digest.
    #[error(
        "`Key` of an anchor must be the SHA-256 of the public key (SubjectPublicKeyInfo) of the TPM's endorsement \
         key: 64 hex digits"
    )]
    AnchorKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let configuration = CoordinatorConfiguration {
            owner: SpkiDigest([7; 32]),
            names: vec!["localhost".into()],
            tpm: None,
        };
        assert_eq!(CoordinatorConfiguration::from_json(&configuration.to_json()).unwrap(), configuration);
        assert!(!String::from_utf8(configuration.to_json()).unwrap().contains("Anchors"));
        for key in [None, Some([9; 32])] {
            let configuration =
                CoordinatorConfiguration { tpm: Some(RequiredTpm { key }), ..configuration.clone() };
            assert_eq!(CoordinatorConfiguration::from_json(&configuration.to_json()).unwrap(), configuration);
        }
    }

    #[test]
    fn anchors_are_one_tpm_or_nothing() {
        let with = |anchors: &str| {
            let text = format!(r#"{{"Owner":"{}","Names":["a"],"Anchors":{anchors}}}"#, "00".repeat(32));
            CoordinatorConfiguration::from_json(text.as_bytes())
        };
        assert_eq!(with("[]").unwrap().tpm, None);
        assert!(matches!(with(r#"[{"Kind":"etcd"}]"#), Err(LaunchError::Anchors)));
        assert!(matches!(with(r#"[{"Kind":"tpm-nv"},{"Kind":"tpm-nv"}]"#), Err(LaunchError::Anchors)));
        assert!(matches!(with(r#"[{"Kind":"tpm-nv","Key":"00"}]"#), Err(LaunchError::AnchorKey)));
        assert!(matches!(with(r#"[{"Kind":"tpm"}]"#), Err(LaunchError::Json(_))));
        assert!(matches!(with(r#"[{"Kind":"tpm-nv","Path":"/dev/tpm0"}]"#), Err(LaunchError::Json(_))));
    }

    #[test]
    fn s41_unknown_switch_is_refused() {
        let text = br#"{"Owner":"00","Names":["localhost"],"SkipAttestation":true}"#;
        assert!(matches!(CoordinatorConfiguration::from_json(text), Err(LaunchError::Json(_))));
    }

    #[test]
    fn malformed_owners_are_refused() {
        for owner in ["0011", &"zz".repeat(32), &"+1".repeat(32), "", &"00".repeat(33)] {
            let text = format!(r#"{{"Owner":"{owner}","Names":["localhost"]}}"#);
            let refused = CoordinatorConfiguration::from_json(text.as_bytes());
            assert!(matches!(refused, Err(LaunchError::Owner)), "{owner}");
        }
    }

    #[test]
    fn a_keep_is_for_one_purpose() {
        let direct = DirectConfiguration { version: 1 };
        assert_eq!(direct.to_json(), br#"{"direct":{"version":1}}"#);
        let read = Purpose::from_json(&direct.to_json());
        assert!(matches!(read, Ok(Purpose::Direct(read)) if read == direct));
        let coordinator = CoordinatorRequirements { policy: Policy::production(), measurements: vec![] };
        let marble = KeepConfiguration { marble: "tally".into(), coordinator }.to_json();
        assert!(matches!(Purpose::from_json(&marble), Ok(Purpose::Marble(_))));
        assert!(matches!(KeepConfiguration::from_json(&direct.to_json()), Err(LaunchError::Json(_))));
        let both = [br#"{"direct":{"version":1},"#, &marble[1..]].concat();
        for wrong in
            [both.as_slice(), br#"{"direct":{}}"#, br#"{"direct":{"version":1,"x":1}}"#, b"{}", b"[]"]
        {
            assert!(matches!(Purpose::from_json(wrong), Err(LaunchError::Json(_))));
        }
    }

    #[test]
    fn a_database_is_alone_or_a_marble_and_has_one_first_manifest() {
        let (digest, coordinator) = ("07".repeat(32), r#"{"policy":POLICY,"measurements":[]}"#);
        let policy = serde_json::to_string(&Policy::production()).unwrap();
        let coordinator = coordinator.replace("POLICY", &policy);
        let read = |rest: &str| {
            DatabaseConfiguration::from_json(
                format!(r#"{{"Manifest":"{digest}","Names":["a"]{rest}}}"#).as_bytes(),
            )
        };
        let alone = read("").unwrap();
        assert_eq!((alone.manifest, alone.tpm.is_none(), alone.marble.is_none()), ([7; 32], true, true));
        assert_eq!(alone.to_json(), format!(r#"{{"Manifest":"{digest}","Names":["a"]}}"#).as_bytes());
        let anchored = read(r#","Tpm":{}"#).unwrap();
        assert_eq!(anchored.tpm, Some(RequiredTpm { key: None }));
        let marble = read(&format!(r#","Marble":"db","Coordinator":{coordinator}"#)).unwrap();
        let again = DatabaseConfiguration::from_json(&marble.to_json()).unwrap();
        assert_eq!(again.marble.unwrap().marble, "db");
        assert!(matches!(read(r#","Marble":"db""#), Err(LaunchError::HalfAMarble)));
        let both = read(&format!(r#","Tpm":{{}},"Marble":"db","Coordinator":{coordinator}"#));
        assert!(matches!(both, Err(LaunchError::TwoAnchors)));
        assert!(matches!(read(r#","Tpm":{"Key":"0"}"#), Err(LaunchError::AnchorKey)));
        assert!(matches!(read(r#","Debug":true"#), Err(LaunchError::Json(_))));
        let wrong = br#"{"Manifest":"07","Names":["a"]}"#;
        assert!(matches!(DatabaseConfiguration::from_json(wrong), Err(LaunchError::Manifest)));
    }

    #[test]
    fn oversize_is_refused_before_parsing() {
        let text = vec![b' '; MAX_CONFIGURATION + 1];
        assert!(matches!(KeepConfiguration::from_json(&text), Err(LaunchError::TooLarge { .. })));
    }
}
