//! Init-data: what a guest is started with and its Evidence covers as HOST_DATA, MRCONFIGID or the like.

use std::collections::BTreeMap;

use evidence::Platform;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{HashAlgorithm, Invalid};

/// No longer init-data is taken.
pub const MAX_INIT_DATA: usize = 512 * 1024;

/// Init-data as a client sends it: exact text, which is what is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitData {
    body: String,
    algorithm: HashAlgorithm,
    data: BTreeMap<String, String>,
}

impl InitData {
    /// Reads init-data, version 0.1.0 of it, as TOML.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn parse(body: &str) -> Result<Self, Invalid> {
        #[derive(Deserialize)]
        struct Wire {
            version: String,
            algorithm: String,
            #[serde(default)]
            data: BTreeMap<String, String>,
        }
        if body.len() > MAX_INIT_DATA {
            return Err(Invalid::TooLong { what: "init-data", limit: MAX_INIT_DATA, length: body.len() });
        }
        let wire: Wire = toml::from_str(body)
            .map_err(|error| Invalid::Json { what: "init-data", fault: error.message().to_owned() })?;
        if wire.version != "0.1.0" {
            return Err(Invalid::Member { member: "init-data version", expected: "0.1.0" });
        }
        // CoCo's own tools write it as sha-384 as well as sha384.
        let name = wire.algorithm.to_ascii_lowercase().replace('-', "");
        let algorithm = HashAlgorithm::of_name(&name)
            .ok_or(Invalid::Member { member: "init-data algorithm", expected: "sha256, sha384 or sha512" })?;
        Ok(Self { body: body.to_owned(), algorithm, data: wire.data })
    }

    /// As it is in an attestation: format and body.
    pub fn to_json(&self) -> Value {
        json!({ "format": "toml", "body": self.body })
    }

    /// The exact text.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// With what it is hashed.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// Its entries, such as `aa.toml` and `policy.rego`.
    pub fn data(&self) -> &BTreeMap<String, String> {
        &self.data
    }

    /// The digest of the exact text.
    pub fn digest(&self) -> Vec<u8> {
        self.algorithm.digest(self.body.as_bytes())
    }

    /// What Evidence of a platform has where launch configuration stands, if a guest was started with this: the
    /// digest, filled with zeros or cut to the length of the field. None where it is not a field of the Evidence that
    /// tells it, but a register (see [`InitData::register`]), or nothing.
    pub fn launch_configuration(&self, platform: Platform) -> Option<Vec<u8>> {
        let length = match platform {
            Platform::Snp => 32,
            Platform::Tdx => 48,
            Platform::Sgx | Platform::Cca => 64,
            Platform::AzureSnp | Platform::AzureTdx | Platform::Tpm | Platform::Nvidia | Platform::Nitro => {
                return None;
            }
        };
        let mut digest = self.digest();
        digest.resize(length, 0);
        Some(digest)
    }

    /// What PCR 8 of SHA-256 has after the digest was extended into it once, as guests with a virtual TPM do: the hash
    /// of 32 zeros and the digest, cut to 32 bytes or filled with zeros.
    pub fn register(&self) -> Vec<u8> {
        let mut digest = self.digest();
        digest.resize(32, 0);
        HashAlgorithm::Sha256.digest(&[&[0; 32][..], &digest].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "version = \"0.1.0\"\nalgorithm = \"sha384\"\n[data]\n\"aa.toml\" = '''\n[token_configs]\n'''\n";

    #[test]
    fn the_digest_is_of_the_exact_text_and_fitted_to_the_field() {
        let init_data = InitData::parse(TEXT).expect("init-data");
        assert_eq!(init_data.data()["aa.toml"], "[token_configs]\n");
        assert_eq!(init_data.digest(), HashAlgorithm::Sha384.digest(TEXT.as_bytes()));
        assert_ne!(init_data.digest(), InitData::parse(&format!("{TEXT}\n")).expect("init-data").digest());
        let field = |platform| init_data.launch_configuration(platform);
        assert_eq!(field(Platform::Snp).as_deref(), Some(&init_data.digest()[..32]));
        assert_eq!(field(Platform::Tdx), Some(init_data.digest()));
        let long = field(Platform::Cca).expect("a field");
        assert!(long.len() == 64 && long[48..] == [0; 16]);
        assert_eq!(field(Platform::AzureSnp), None);
        assert_eq!(init_data.register().len(), 32);
    }

    #[test]
    fn what_is_no_init_data_is_refused() {
        for text in [
            "",
            "version = \"0.1.0\"\n",
            "version = \"0.2.0\"\nalgorithm = \"sha384\"\n",
            "version = \"0.1.0\"\nalgorithm = \"md5\"\n",
            "version = \"0.1.0\"\nalgorithm = \"sha384\"\n[data]\na = 1\n",
            "version = \"0.1.0\"\nalgorithm = \"sha384\"\n[data]\na = \"\"\na = \"\"\n",
            "{\"version\":\"0.1.0\"}",
        ] {
            assert!(InitData::parse(text).is_err(), "{text}");
        }
        let long = format!("{TEXT}#{}", "a".repeat(MAX_INIT_DATA));
        assert!(InitData::parse(&long).expect_err("long").is_too_long());
        assert_eq!(
            InitData::parse(&TEXT.replace("sha384", "sha-256")).expect("").algorithm(),
            HashAlgorithm::Sha256
        );
    }
}
