//! What the coordinator's routes for SVIDs take and give, as JSON: `svid/x509`, `svid/jwt` and `svid/bundle`, the same
//! for guests and Marbles. Binary fields are base64.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// More audiences than anyone needs in one token.
pub const MOST_AUDIENCES: usize = 16;
/// Longer than any name of a service.
pub const LONGEST_AUDIENCE: usize = 512;

/// `POST svid/x509`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct X509Request {
    /// A certificate request (PKCS #10, DER) by a P-256 key. It proves that the key is the caller's; nothing else of it
    /// is used.
    pub csr: String,
}

/// `POST svid/jwt`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct JwtRequest {
    /// 1 to [`MOST_AUDIENCES`].
    pub audiences: Vec<String>,
}

/// The answer to [`X509Request`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct X509Answer {
    /// One for each ID that the caller has, the default one first.
    pub svids: Vec<X509Wire>,
    /// By what they are verified.
    pub bundle: BundleWire,
}

/// One X.509-SVID.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct X509Wire {
    /// The SPIFFE ID.
    pub id: String,
    /// DER, the leaf first, the root left out.
    pub chain: Vec<String>,
}

/// The answer to [`JwtRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct JwtAnswer {
    /// One for each ID that the caller has, the default one first.
    pub svids: Vec<JwtWire>,
}

/// One JWT-SVID.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct JwtWire {
    /// The SPIFFE ID.
    pub id: String,
    /// The token, in the compact form.
    pub token: String,
}

/// `GET svid/bundle`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BundleWire {
    /// Its name.
    pub trust_domain: String,
    /// Roots, DER.
    pub x509: Vec<String>,
    /// A JWK set.
    pub jwks: Value,
}
