//! Parties of a database with their own CAs, certificates of theirs, and a small manifest of theirs.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

/// A party's CA.
pub struct Authority {
    /// Its certificate.
    pub pem: String,
    /// The same, DER.
    pub der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
pub struct Holder {
    /// The certificate, PEM.
    pub pem: String,
    /// The same, DER.
    pub der: Vec<u8>,
    /// Its key, PKCS #8 as PEM.
    pub key: String,
}

impl Authority {
    /// A CA with a new key and that common name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a CA");
        Self { pem: certificate.pem(), der: certificate.der().to_vec(), issuer: Issuer::new(params, key) }
    }

    /// A client's certificate with that common name, valid in all of this century.
    #[must_use]
    pub fn issue(&self, name: &str) -> Holder {
        self.issue_valid(name, OffsetDateTime::UNIX_EPOCH, time::macros::datetime!(2099-12-31 00:00 UTC))
    }

    /// A server's certificate for that DNS name.
    #[must_use]
    pub fn serve(&self, name: &str) -> Holder {
        let mut params =
            CertificateParams::new(vec![name.to_owned(), "127.0.0.1".to_owned()]).expect("a DNS name");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Holder { pem: certificate.pem(), der: certificate.der().to_vec(), key: key.serialize_pem() }
    }

    /// As that, valid from one time to another.
    #[must_use]
    pub fn issue_valid(&self, name: &str, from: OffsetDateTime, to: OffsetDateTime) -> Holder {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = from;
        params.not_after = to;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Holder { pem: certificate.pem(), der: certificate.der().to_vec(), key: key.serialize_pem() }
    }

    /// As [`Authority::issue`], valid for so long from the time that is given.
    #[must_use]
    pub fn issue_for(&self, name: &str, from: OffsetDateTime, lifetime: Duration) -> Holder {
        self.issue_valid(name, from, from + lifetime)
    }
}

/// Two banks that write, an analyst that computes, an auditor that reads notes and the audit log, and two who decide
/// changes: C and D.
pub struct Parties {
    /// Writes `payments` and `accounts`.
    pub bank_a: Authority,
    /// Writes `payments` and `notes`.
    pub bank_b: Authority,
    /// Calls `volume` and `total`.
    pub analyst: Authority,
    /// Reads `notes` and the audit log.
    pub auditor: Authority,
    /// Decides; owner of `payments` and `accounts`.
    pub approver_c: Authority,
    /// Decides; owner of `notes`.
    pub approver_d: Authority,
}

impl Parties {
    /// With new keys.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bank_a: Authority::new("Bank A"),
            bank_b: Authority::new("Bank B"),
            analyst: Authority::new("Analyst"),
            auditor: Authority::new("Auditor"),
            approver_c: Authority::new("C"),
            approver_d: Authority::new("D"),
        }
    }

    /// Each party's name with its CA.
    #[must_use]
    pub fn all(&self) -> [(&'static str, &Authority); 6] {
        [
            ("bank_a", &self.bank_a),
            ("bank_b", &self.bank_b),
            ("analyst", &self.analyst),
            ("auditor", &self.auditor),
            ("approver_c", &self.approver_c),
            ("approver_d", &self.approver_d),
        ]
    }

    /// A manifest of these parties, JSON as a tree that a test may change.
    #[must_use]
    pub fn manifest(&self) -> serde_json::Value {
        let parties: serde_json::Map<_, _> = self
            .all()
            .into_iter()
            .map(|(name, authority)| (name.to_owned(), serde_json::json!({"Anchors": [authority.pem]})))
            .collect();
        serde_json::json!({
            "Name": "shared",
            "Parties": parties,
            "Schema": SCHEMA,
            "Tables": {
                "payments": {
                    "Owner": "approver_c",
                    "Writers": ["bank_a", "bank_b"],
                    "Unit": "account",
                    "Stamp": "bank"
                },
                "accounts": {"Owner": "approver_c", "Writers": ["bank_a"], "Unit": "account"},
                "notes": {"Owner": "approver_d", "Writers": ["bank_b"], "Readers": ["auditor"]}
            },
            "Algorithms": {
                "volume": {
                    "Callers": ["analyst"],
                    "Arguments": [{"Name": "least", "Type": "integer", "From": "0", "To": "1000000"}],
                    "Sql": "SELECT city, sum(amount) AS total, count(DISTINCT account) AS contributors \
                            FROM payments WHERE amount >= $1 GROUP BY city",
                    "Output": {
                        "Columns": [{"Name": "city", "Type": "text"}, {"Name": "total", "Type": "numeric"}],
                        "Contributors": "contributors",
                        "MinContributors": 10,
                        "MaxRows": 100
                    }
                },
                "total": {
                    "Callers": ["analyst"],
                    "Sql": "SELECT count(*) AS payments FROM payments",
                    "Output": {
                        "Columns": [{
                            "Name": "payments",
                            "Type": "integer",
                            "Noise": {"Mechanism": "laplace", "Sensitivity": 1, "Epsilon": 0.1}
                        }],
                        "MaxRows": 1,
                        "Privacy": {"Epsilon": 1}
                    }
                }
            },
            "Updates": {"Approvers": ["approver_c", "approver_d"], "Threshold": 2, "Expiry": "7d"},
            "Audit": {"Readers": ["auditor"]},
            "Freshness": {"AnchorRequired": false},
            "MaxSize": "1GiB"
        })
    }

    /// The same as text.
    #[must_use]
    pub fn manifest_text(&self) -> String {
        serde_json::to_string_pretty(&self.manifest()).expect("JSON")
    }
}

impl Default for Parties {
    fn default() -> Self {
        Self::new()
    }
}

const SCHEMA: &str = "\
CREATE TABLE payments (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account text NOT NULL,
    city text NOT NULL,
    amount bigint NOT NULL CHECK (amount >= 0),
    at timestamptz NOT NULL DEFAULT now(),
    bank text NOT NULL DEFAULT ''
);
CREATE INDEX payments_account ON payments (account);
CREATE TABLE accounts (account text PRIMARY KEY, opened date NOT NULL);
CREATE TABLE notes (id bigint PRIMARY KEY, body text NOT NULL);
";
