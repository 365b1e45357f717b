//! TCB info: which versions of a platform's parts are good, as Intel signs it (Intel PCS API v4, "Get TCB
//! Info"). Version 3, and 2, which has no TDX. Strict: an unknown field or status word is a refusal, since a
//! word that we do not understand may be the one that matters (S-37).

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::{TcbStatus, UnixTime};

/// TCB info, either version.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TcbInfo<'a> {
    /// `SGX` or `TDX`; absent in version 2, which is SGX's.
    #[serde(borrow, default)]
    pub(crate) id: Option<Cow<'a, str>>,
    pub(crate) version: u32,
    pub(crate) issue_date: UnixTime,
    pub(crate) next_update: UnixTime,
    #[serde(with = "hexadecimal")]
    pub(crate) fmspc: [u8; 6],
    #[serde(with = "hexadecimal")]
    pub(crate) pce_id: [u8; 2],
    pub(crate) tcb_type: u32,
    pub(crate) tcb_evaluation_data_number: u32,
    #[serde(default)]
    pub(crate) tdx_module: Option<TdxModule>,
    #[serde(borrow, default)]
    pub(crate) tdx_module_identities: Vec<TdxModuleIdentity<'a>>,
    #[serde(borrow)]
    pub(crate) tcb_levels: Vec<TcbLevel<'a>>,
}

/// The TDX module of major version 0.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TdxModule {
    #[serde(with = "hexadecimal")]
    pub(crate) mrsigner: [u8; 48],
    #[serde(with = "hexadecimal")]
    pub(crate) attributes: [u8; 8],
    #[serde(with = "hexadecimal")]
    pub(crate) attributes_mask: [u8; 8],
}

/// A TDX module of a major version above 0, with levels of its own.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TdxModuleIdentity<'a> {
    /// `TDX_` and the major version in two hexadecimal digits.
    #[serde(borrow)]
    pub(crate) id: Cow<'a, str>,
    #[serde(with = "hexadecimal")]
    pub(crate) mrsigner: [u8; 48],
    #[serde(with = "hexadecimal")]
    pub(crate) attributes: [u8; 8],
    #[serde(with = "hexadecimal")]
    pub(crate) attributes_mask: [u8; 8],
    #[serde(borrow)]
    pub(crate) tcb_levels: Vec<SvnLevel<'a>>,
}

/// A level of a part with one security version: a TDX module, or a quoting enclave.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SvnLevel<'a> {
    pub(crate) tcb: Svn,
    pub(crate) tcb_date: UnixTime,
    #[serde(deserialize_with = "published_status")]
    pub(crate) tcb_status: TcbStatus,
    #[serde(borrow, default, deserialize_with = "text::list", rename = "advisoryIDs")]
    pub(crate) advisories: Vec<Cow<'a, str>>,
}

/// The two statuses about launching again are made by comparing levels; no level has them.
fn published_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TcbStatus, D::Error> {
    match TcbStatus::deserialize(deserializer)? {
        TcbStatus::TDRelaunchAdvised | TcbStatus::TDRelaunchAdvisedConfigurationNeeded => {
            Err(D::Error::custom("a status that Intel gives to no level"))
        }
        status => Ok(status),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Svn {
    pub(crate) isvsvn: u16,
}

/// The first level whose version is not above `svn`, by its index: they are listed from new to old.
pub(crate) fn svn_level(levels: &[SvnLevel<'_>], svn: u16) -> Option<usize> {
    levels.iter().position(|level| level.tcb.isvsvn <= svn)
}

/// A level of the whole platform.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TcbLevel<'a> {
    #[serde(borrow)]
    pub(crate) tcb: PlatformTcb<'a>,
    pub(crate) tcb_date: UnixTime,
    #[serde(deserialize_with = "published_status")]
    pub(crate) tcb_status: TcbStatus,
    #[serde(borrow, default, deserialize_with = "text::list", rename = "advisoryIDs")]
    pub(crate) advisories: Vec<Cow<'a, str>>,
}

/// The versions of a platform's parts.
#[derive(Debug)]
pub(crate) struct PlatformTcb<'a> {
    pub(crate) sgx: Components<'a>,
    pub(crate) pce_svn: u16,
    pub(crate) tdx: Option<Components<'a>>,
}

/// The sixteen parts, apart from their level: so that lists of levels are small to move, and those of SGX have
/// no empty room for TDX's.
#[derive(Debug, Deserialize)]
pub(crate) struct Components<'a>(#[serde(borrow)] Box<[Component<'a>; 16]>);

impl<'a> Deref for Components<'a> {
    type Target = [Component<'a>; 16];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<'l, 'a> IntoIterator for &'l Components<'a> {
    type Item = &'l Component<'a>;
    type IntoIter = std::slice::Iter<'l, Component<'a>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// The version of one part, with what Intel calls it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Component<'a> {
    pub(crate) svn: u8,
    #[serde(borrow, default, deserialize_with = "text::optional")]
    pub(crate) category: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text::optional", rename = "type")]
    pub(crate) kind: Option<Cow<'a, str>>,
}

impl Component<'_> {
    /// What people can call the component.
    pub(crate) fn name(&self, family: &str, index: usize) -> String {
        match (&self.kind, &self.category) {
            (Some(kind), _) => format!("{family} component {} ({kind})", index + 1),
            (None, Some(category)) => format!("{family} component {} ({category})", index + 1),
            (None, None) => format!("{family} component {}", index + 1),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for PlatformTcb<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PlatformTcbVisitor)
    }
}

/// Version 3 has `sgxtcbcomponents` and `tdxtcbcomponents`, version 2 `sgxtcbcomp01svn` to `…16svn`.
struct PlatformTcbVisitor;

impl<'de> Visitor<'de> for PlatformTcbVisitor {
    type Value = PlatformTcb<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the versions of a platform's parts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut sgx: Option<Components<'de>> = None;
        let mut tdx = None;
        let mut pce_svn = None;
        let mut flat: [Option<u8>; 16] = [None; 16];
        while let Some(text::Text(key)) = map.next_key()? {
            let repeated = match &*key {
                "pcesvn" => pce_svn.replace(map.next_value()?).is_some(),
                "sgxtcbcomponents" => sgx.replace(map.next_value()?).is_some(),
                "tdxtcbcomponents" => tdx.replace(map.next_value()?).is_some(),
                other => match flat_index(other) {
                    Some(index) => flat[index].replace(map.next_value()?).is_some(),
                    None => {
                        map.next_value::<IgnoredAny>()?;
                        return Err(A::Error::custom(format_args!("unknown field `{other}` in tcb")));
                    }
                },
            };
            if repeated {
                return Err(A::Error::custom(format_args!("duplicate field `{key}` in tcb")));
            }
        }
        let pce_svn = pce_svn.ok_or_else(|| A::Error::missing_field("pcesvn"))?;
        let sgx = match (sgx, flat.iter().flatten().count()) {
            (Some(components), 0) => components,
            (None, 16) => {
                let component =
                    |svn: Option<u8>| Component { svn: svn.unwrap_or_default(), ..Component::default() };
                Components(Box::new(flat.map(component)))
            }
            (Some(_), _) => return Err(A::Error::custom("components of both version 2 and version 3")),
            (None, _) => return Err(A::Error::missing_field("sgxtcbcomponents")),
        };
        Ok(PlatformTcb { sgx, pce_svn, tdx })
    }
}

fn flat_index(key: &str) -> Option<usize> {
    let digits = key.strip_prefix("sgxtcbcomp")?.strip_suffix("svn")?;
    let number: usize = digits.parse().ok().filter(|_| digits.len() == 2)?;
    (1..=16).contains(&number).then(|| number - 1)
}

/// Text that stays where it is: serde borrows a `Cow` only where a field of a structure is nothing else.
pub(crate) mod text {
    use std::borrow::Cow;

    use serde::{Deserialize, Deserializer};

    #[derive(Deserialize)]
    pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

    pub(crate) fn optional<'de: 'a, 'a, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Cow<'a, str>>, D::Error> {
        Ok(Option::<Text<'a>>::deserialize(deserializer)?.map(|Text(text)| text))
    }

    pub(crate) fn list<'de: 'a, 'a, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Cow<'a, str>>, D::Error> {
        // The same shape, so the allocation is used again.
        Ok(Vec::<Text<'a>>::deserialize(deserializer)?.into_iter().map(|Text(text)| text).collect())
    }
}

/// Byte strings of known length as hexadecimal digits of either case.
pub(crate) mod hexadecimal {
    use serde::{Deserialize, Deserializer, de::Error as _};

    use super::text::Text;

    pub(crate) fn deserialize<'de, D, const N: usize>(deserializer: D) -> Result<[u8; N], D::Error>
    where
        D: Deserializer<'de>,
    {
        let Text(text) = Text::deserialize(deserializer)?;
        let mut bytes = [0; N];
        hex::decode_to_slice(text.as_bytes(), &mut bytes).map_err(|error| {
            D::Error::custom(format_args!("expected {N} bytes as hexadecimal digits: {error}"))
        })?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(numbers: std::ops::RangeInclusive<u8>) -> String {
        let fields: Vec<_> =
            numbers.map(|number| format!(r#""sgxtcbcomp{number:02}svn":{number}"#)).collect();
        format!(r#"{{{},"pcesvn":7}}"#, fields.join(","))
    }

    #[test]
    fn version_2_lists_components_one_by_one() {
        let json = flat(1..=16);
        let tcb: PlatformTcb<'_> = serde_json::from_str(&json).unwrap();
        assert_eq!((tcb.sgx[0].svn, tcb.sgx[15].svn, tcb.pce_svn), (1, 16, 7));
        assert!(serde_json::from_str::<PlatformTcb<'_>>(&flat(1..=15)).is_err());
        assert!(serde_json::from_str::<PlatformTcb<'_>>(&flat(1..=17)).is_err());
    }

    #[test]
    fn s37_a_repeated_or_unknown_field_is_refused() {
        for json in [r#"{"pcesvn":1,"pcesvn":2}"#, r#"{"pcesvn":1,"extra":2}"#] {
            assert!(serde_json::from_str::<PlatformTcb<'_>>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn s37_an_unknown_status_is_refused() {
        let level = |status| {
            format!(r#"{{"tcb":{{"isvsvn":1}},"tcbDate":"2025-01-01T00:00:00Z","tcbStatus":"{status}"}}"#)
        };
        assert!(serde_json::from_str::<SvnLevel<'_>>(&level("UpToDate")).is_ok());
        assert!(serde_json::from_str::<SvnLevel<'_>>(&level("TDRelaunchAdvised")).is_err());
        let refused = serde_json::from_str::<SvnLevel<'_>>(&level("Fine")).unwrap_err();
        assert!(refused.to_string().contains("unknown variant `Fine`"), "{refused}");
    }

    /// Everything that Intel signed from 2020 to 2026 and that we found has the fields that we know, and no other.
    #[test]
    fn what_intel_signed_over_the_years_is_read() {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Served<'a> {
            #[serde(borrow)]
            tcb_info: TcbInfo<'a>,
        }
        let directory =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/intel-collateral");
        let mut versions = Vec::new();
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let served: Served<'_> =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            versions.push((served.tcb_info.version, served.tcb_info.id.map(Cow::into_owned)));
        }
        versions.sort();
        let named = |id: &str| (3, Some(id.to_owned()));
        assert_eq!(versions, [(2, None), named("SGX"), named("SGX"), named("TDX"), named("TDX")]);
    }
}
