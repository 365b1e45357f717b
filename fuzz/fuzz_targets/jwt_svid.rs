//! SPIFFE IDs, JWT-SVIDs before anything of them is verified, and bundles. An ID has one form.
#![no_main]

use spiffe_workload::{
    id::{SpiffeId, segment},
    jwt::{JwtKeys, Unverified},
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(id) = text.parse::<SpiffeId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(domain) = "td".parse()
        && let Ok(id) = SpiffeId::new(domain, &["guest", text])
    {
        assert_eq!(id.path(), format!("/guest/{}", segment(text)));
    }
    if let Ok(token) = Unverified::parse(text)
        && let Ok(domain) = "td".parse()
    {
        assert!(token.verify(&JwtKeys::default(), &domain, "db", 0).is_err());
    }
    if let Ok(jwks) = serde_json::from_str(text)
        && let Ok(keys) = JwtKeys::from_jwks(&jwks)
    {
        assert_eq!(JwtKeys::from_jwks(&keys.to_jwks()).ok(), Some(keys));
    }
});
