//! What the Keep must be.

use appraisal::{Policy, ReferenceValue, binding::Role};
use attested_tls::{
    channel::{ClaimsRefused, Expectations, PeerPolicy},
    claims::{Claims, DirectClaims},
    key::sha256,
    launch::DirectConfiguration,
};
use keep_protocol::host::{Platform, Tee};

/// What the Keep must be, by the client's own word.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Acceptable platforms.
    pub policy: Policy,
    /// Acceptable code: releases of `bailey-keep`.
    pub measurements: Vec<ReferenceValue>,
}

impl Wanted {
    /// What we would take, best first: hardware before what is emulated, and only what policy and reference values
    /// leave possible. The host picks among what it has.
    pub fn tees(&self) -> Vec<Tee> {
        let known = |platform| self.measurements.iter().any(|value| value.platform == evidence(platform));
        let wanted = |platform| {
            self.policy.platforms.is_empty() || self.policy.platforms.contains(&evidence(platform))
        };
        let possible: Vec<Platform> = [Platform::Snp, Platform::Tdx, Platform::Sgx, Platform::Tpm]
            .into_iter()
            .filter(|platform| known(*platform) && wanted(*platform))
            .collect();
        let hardware = possible.iter().map(|platform| Tee { emulated: false, platform: *platform });
        let named = !self.policy.emulated_roots.is_empty();
        // A TPM's maker is an anchor of the policy, whether the TPM is a chip or a program.
        let emulated = |platform: &&Platform| named || **platform == Platform::Tpm;
        let emulated =
            possible.iter().filter(emulated).map(|platform| Tee { emulated: true, platform: *platform });
        hardware.chain(emulated).collect()
    }
}

fn evidence(platform: Platform) -> evidence::Platform {
    match platform {
        Platform::Sgx => evidence::Platform::Sgx,
        Platform::Tdx => evidence::Platform::Tdx,
        Platform::Snp => evidence::Platform::Snp,
        Platform::Tpm => evidence::Platform::Tpm,
    }
}

impl PeerPolicy for Wanted {
    fn role(&self) -> Role {
        Role::DirectKeep
    }

    /// The claims are believed only once the Evidence is; then they must be of a Keep of this version.
    fn expectations(&self, _: evidence::Platform, claims: &[u8]) -> Result<Expectations, ClaimsRefused> {
        let refused = |code, reason| ClaimsRefused { code, reason };
        let claims = DirectClaims::from_bytes(claims)
            .map_err(|error| refused("CLAIMS_MALFORMED", format!("not a direct Keep's: {error}")))?;
        let configuration = DirectConfiguration { version: keep_protocol::VERSION };
        if *claims.configuration != sha256(&configuration.to_json()) {
            let reason =
                "the Keep was launched for something else, or speaks another version of the protocol";
            return Err(refused("LAUNCH_CONFIGURATION_MISMATCH", reason.into()));
        }
        Ok(Expectations { policy: self.policy.clone(), measurements: self.measurements.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attested_tls::launch::Purpose;

    fn value(platform: evidence::Platform) -> ReferenceValue {
        let measurement = evidence::Measurement::new(&[1; 48]).unwrap();
        ReferenceValue::program("keep", platform, measurement)
    }

    #[test]
    fn only_what_can_be_accepted_is_asked_for() {
        let measurements = vec![value(evidence::Platform::Snp), value(evidence::Platform::Tdx)];
        let mut wanted = Wanted { policy: Policy::production(), measurements };
        let tee = |platform| Tee { emulated: false, platform };
        assert_eq!(wanted.tees(), [tee(Platform::Snp), tee(Platform::Tdx)]);
        wanted.policy.platforms.insert(evidence::Platform::Tdx);
        assert_eq!(wanted.tees(), [tee(Platform::Tdx)]);
        wanted.measurements.clear();
        assert_eq!(wanted.tees(), []);
    }

    #[test]
    fn a_keep_of_another_version_is_refused() {
        let wanted = Wanted { policy: Policy::production(), measurements: Vec::new() };
        let claims = |configuration: &[u8]| {
            let configuration = serde_bytes::ByteArray::new(sha256(configuration));
            let client = serde_bytes::ByteArray::new([0; 32]);
            DirectClaims { client, engine: String::new(), configuration }.to_bytes()
        };
        let ours = DirectConfiguration { version: 1 }.to_json();
        assert!(matches!(Purpose::from_json(&ours), Ok(Purpose::Direct(_))));
        assert!(wanted.expectations(evidence::Platform::Snp, &claims(&ours)).is_ok());
        let other = DirectConfiguration { version: 2 }.to_json();
        let refused = wanted.expectations(evidence::Platform::Snp, &claims(&other)).map(|_| ());
        assert_eq!(refused.unwrap_err().code, "LAUNCH_CONFIGURATION_MISMATCH");
        assert!(wanted.expectations(evidence::Platform::Snp, &[0xa0]).is_err());
    }
}
