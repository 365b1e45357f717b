//! A call of an algorithm over HTTPS: its body, and arguments of every type.
#![no_main]

use std::sync::LazyLock;

use database_manifest::{AlgorithmName, Manifest};

static MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
    let mut tree = testkit::parties::Parties::new().manifest();
    let algorithm = &mut tree["Algorithms"]["volume"];
    algorithm["Arguments"] = serde_json::json!([
        {"Name": "least", "Type": "integer", "From": "0", "To": "1000000"},
        {"Name": "share", "Type": "numeric", "From": "0.1", "To": "0.9"},
        {"Name": "since", "Type": "date", "From": "2000-01-01", "To": "2030-01-01"},
        {"Name": "at", "Type": "timestamp", "From": "2000-01-01T00:00:00Z", "To": "2030-01-01T00:00:00Z"},
        {"Name": "ratio", "Type": "float", "From": "-1", "To": "1e9"},
        {"Name": "city", "Type": "text", "MaxLength": 40}
    ]);
    algorithm["Sql"] = "SELECT city, sum(amount) AS total, count(DISTINCT account) AS contributors FROM payments \
                        WHERE amount >= $1 AND amount < $2 AND at >= $3 AND at < $4 AND amount > $5 AND city = $6 \
                        GROUP BY city"
        .into();
    Manifest::parse(tree.to_string().as_bytes()).expect("a manifest")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let name = AlgorithmName::new("volume").expect("a name");
    database::algorithms::api::takes(&MANIFEST.algorithms[&name], bytes);
});
