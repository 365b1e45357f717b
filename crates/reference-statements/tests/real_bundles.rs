//! Real Sigstore bundles, below what they say: both are attestations of a conda package, by a workflow through the public
//! instance (log Rekor 1) and by a person through the staging instance (log Rekor 2, whose entries have no time of their
//! own). Where they are from: `vectors/README.md`. One negative for each rule.

use std::{fs, path::Path};

use appraisal::UnixTime;
use base64::{Engine, engine::general_purpose::STANDARD};
use reference_statements::{Attested, Refused, Signer, Signers, TrustRoot};
use serde_json::{Value, json};

const NOW: UnixTime = UnixTime(1_790_000_000);
const NEVER: UnixTime = UnixTime(2_000_000_000);
/// SHA-256 of the conda package that both are about.
const ARTEFACT: &str = "54303491a8418fbed24344b513546182c29b43bf282ceb433af65e2299f9271f";

/// A bundle, with all that it takes to believe it.
struct Real {
    bundle: Value,
    root: Value,
    /// The log that it is in, and another of which the key is of the same kind: places of its key in the root.
    log: (&'static str, &'static str),
    identity: &'static str,
    issuer: &'static str,
    signed: UnixTime,
}

fn vector(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn both() -> [Real; 2] {
    let of_a_workflow = Real {
        bundle: vector("conda-attestation.json"),
        root: vector("trusted_root-prod.json"),
        log: ("/tlogs/0", "/ctlogs/1"),
        identity: "https://github.com/prefix-dev/sigstore-example/.github/workflows/action.yaml@refs/heads/main",
        issuer: "https://token.actions.githubusercontent.com",
        signed: UnixTime(1_756_728_839),
    };
    let of_a_person = Real {
        bundle: vector("conda-attestation-rekor2.json"),
        root: vector("trusted_root-staging.json"),
        log: ("/tlogs/3", "/tlogs/2"),
        identity: "jku@goto.fi",
        issuer: "https://github.com/login/oauth",
        signed: UnixTime(1_779_781_336),
    };
    [of_a_workflow, of_a_person]
}

impl Real {
    fn signers(&self, expires: UnixTime) -> Signers {
        let root = TrustRoot::from_json(&self.root.to_string(), expires).unwrap();
        let signer = Signer::Sigstore { identity: self.identity.into(), issuer: self.issuer.into(), root };
        [("release".to_owned(), signer)].into_iter().collect()
    }

    fn verified(&self, artefact: &str, now: UnixTime, expires: UnixTime) -> Result<Attested, Refused> {
        let digest = hex::decode(artefact).unwrap().try_into().unwrap();
        Attested::verify(self.bundle.to_string().as_bytes(), &digest, &self.signers(expires), now)
    }

    fn code(&self) -> &'static str {
        self.verified(ARTEFACT, NOW, NEVER).expect_err("refused").code()
    }
}

/// What comes of each when this is done to it.
fn codes(change: impl Fn(&mut Real)) -> [&'static str; 2] {
    both().map(|mut real| {
        change(&mut real);
        real.code()
    })
}

const NOBODYS: [&str; 2] = ["STATEMENT_SIGNER_UNKNOWN"; 2];
const NOT_IN_LOG: [&str; 2] = ["STATEMENT_NOT_IN_LOG"; 2];

fn entry(real: &mut Real) -> &mut Value {
    &mut real.bundle["verificationMaterial"]["tlogEntries"][0]
}

/// Other bytes in the place of a field in base64: the last but three of them is another.
fn alter(value: &mut Value) {
    let mut bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
    let at = bytes.len() - 4;
    bytes[at] ^= 1;
    *value = STANDARD.encode(bytes).into();
}

#[test]
fn real_bundles_are_verified_offline() {
    for real in both() {
        let attested = real.verified(ARTEFACT, NOW, NEVER).unwrap();
        assert_eq!(attested.signer(), "release");
        let certified = attested.certified().unwrap();
        assert_eq!((certified.identity.as_str(), certified.issuer.as_str()), (real.identity, real.issuer));
        let statement: Value = serde_json::from_slice(attested.statement()).unwrap();
        assert_eq!(
            statement["predicateType"],
            "https://schemas.conda.org/attestations-publish-1.schema.json"
        );
        let index: u64 = entry(&mut { real })["logIndex"].as_str().unwrap().parse().unwrap();
        assert_eq!(attested.log().unwrap().index, index);
    }
}

#[test]
fn a_real_bundle_is_nobody_elses() {
    assert_eq!(codes(|real| real.identity = "https://github.com/prefix-dev/sigstore-example"), NOBODYS);
    assert_eq!(codes(|real| real.identity = "somebody@else.example"), NOBODYS);
    assert_eq!(codes(|real| real.issuer = "https://accounts.google.com"), NOBODYS);
    // Each by the other's root.
    let [one, other] = both();
    assert_eq!(Real { root: other.root.clone(), ..both().into_iter().next().unwrap() }.code(), NOBODYS[0]);
    assert_eq!(Real { root: one.root, ..other }.code(), NOBODYS[1]);
}

#[test]
fn a_real_bundle_is_about_its_artefact_and_says_what_was_signed() {
    for real in both() {
        let other = real.verified(&"11".repeat(32), NOW, NEVER).unwrap_err();
        assert_eq!(other.code(), "STATEMENT_SIGNER_UNKNOWN");
    }
    let payload = |edit: fn(&mut Value)| {
        codes(|real| {
            let envelope = &mut real.bundle["dsseEnvelope"]["payload"];
            let bytes = STANDARD.decode(envelope.as_str().unwrap()).unwrap();
            let mut statement: Value = serde_json::from_slice(&bytes).unwrap();
            edit(&mut statement);
            *envelope = STANDARD.encode(statement.to_string()).into();
        })
    };
    assert_eq!(payload(|it| it["predicate"]["targetChannel"] = "https://prefix.dev/other".into()), NOBODYS);
    assert_eq!(payload(|it| it["subject"][0]["name"] = "other.conda".into()), NOBODYS);
    assert_eq!(codes(|real| alter(&mut real.bundle["dsseEnvelope"]["signatures"][0]["sig"])), NOBODYS);
    let kind = codes(|real| real.bundle["dsseEnvelope"]["payloadType"] = "application/json".into());
    assert_eq!(kind, ["STATEMENT_MALFORMED"; 2]);
}

#[test]
fn s62_a_real_bundle_counts_by_the_proof_that_it_is_in_the_log() {
    let without = codes(|real| drop(entry(real).as_object_mut().unwrap().remove("inclusionProof")));
    assert_eq!(without, NOT_IN_LOG);
    assert_eq!(codes(|real| real.bundle["verificationMaterial"]["tlogEntries"] = json!([])), NOT_IN_LOG);
    assert_eq!(codes(|real| alter(&mut entry(real)["inclusionProof"]["hashes"][0])), NOBODYS);
    let checkpoint = |from: &'static str, to: &'static str| {
        codes(move |real| {
            let note = &mut entry(real)["inclusionProof"]["checkpoint"]["envelope"];
            let altered = note.as_str().unwrap().replacen(from, to, 1);
            assert_ne!(note.as_str().unwrap(), altered);
            *note = altered.into();
        })
    };
    assert_eq!(checkpoint(".sig", ".gis"), NOBODYS);
    let size = codes(|real| {
        let note = &mut entry(real)["inclusionProof"]["checkpoint"]["envelope"];
        let mut lines: Vec<String> = note.as_str().unwrap().split('\n').map(str::to_owned).collect();
        lines[1].push('0');
        *note = lines.join("\n").into();
    });
    assert_eq!(size, NOBODYS);
    let no_checkpoint =
        codes(|real| drop(entry(real)["inclusionProof"].as_object_mut().unwrap().remove("checkpoint")));
    assert!(
        no_checkpoint.iter().all(|code| ["STATEMENT_SIGNER_UNKNOWN", "STATEMENT_MALFORMED"].contains(code))
    );
    // An entry of something else: its own hashes are in it.
    let body = codes(|real| {
        let body = &mut entry(real)["canonicalizedBody"];
        let text = String::from_utf8(STANDARD.decode(body.as_str().unwrap()).unwrap()).unwrap();
        *body = STANDARD.encode(text.replacen("0.0.", "0.1.", 1)).into();
    });
    assert_eq!(body, NOBODYS);
}

#[test]
fn s62_a_real_bundle_is_of_a_log_that_the_root_knows_by_its_key() {
    let other_key = codes(|real| {
        let (own, other) = real.log;
        let key = real.root.pointer(other).unwrap()["publicKey"]["rawBytes"].clone();
        real.root.pointer_mut(own).unwrap()["publicKey"]["rawBytes"] = key;
    });
    assert_eq!(other_key, NOBODYS);
    let unknown = codes(|real| {
        let (list, index) = real.log.0.rsplit_once('/').unwrap();
        real.root.pointer_mut(list).unwrap().as_array_mut().unwrap().remove(index.parse().unwrap());
        if real.root["tlogs"] == json!([]) {
            real.root["tlogs"] = both()[1].root["tlogs"].clone();
        }
    });
    assert_eq!(unknown, NOBODYS);
    // The log had ended when it was signed, or had not yet begun.
    for (field, times) in [
        ("end", ["2025-08-31T00:00:00Z", "2026-05-25T00:00:00Z"]),
        ("start", ["2025-09-02T00:00:00Z", "2026-05-27T00:00:00Z"]),
    ] {
        let [one, other] = both();
        for (mut real, time) in [(one, times[0]), (other, times[1])] {
            let own = real.log.0;
            real.root.pointer_mut(own).unwrap()["publicKey"]["validFor"][field] = time.into();
            assert_eq!(real.code(), NOBODYS[0], "{own} {field}");
        }
    }
}

#[test]
fn a_real_certificate_counts_by_its_ca_and_its_log() {
    assert_eq!(codes(|real| real.root["ctlogs"] = json!([])), NOBODYS);
    assert_eq!(
        codes(|real| alter(&mut real.bundle["verificationMaterial"]["certificate"]["rawBytes"])),
        NOBODYS
    );
    let ended = codes(|real| {
        for authority in real.root["certificateAuthorities"].as_array_mut().unwrap() {
            authority["validFor"]["end"] = "2024-01-01T00:00:00Z".into();
            authority["validFor"]["start"] = "2021-01-01T00:00:00Z".into();
        }
    });
    assert_eq!(ended, NOBODYS);
}

/// The time of signing is the log's signed promise, or a timestamp; the certificate lasted ten minutes.
#[test]
fn a_real_bundle_has_a_time_that_somebody_vouched_for() {
    let promise = codes(|real| {
        let entry = entry(real).as_object_mut().unwrap();
        entry.remove("inclusionPromise");
        real.bundle["verificationMaterial"].as_object_mut().unwrap().remove("timestampVerificationData");
    });
    assert_eq!(promise, NOBODYS);
    let moved = codes(|real| {
        if entry(real)["integratedTime"].is_string() {
            entry(real)["integratedTime"] = "1756728840".into();
        } else {
            let data = &mut real.bundle["verificationMaterial"]["timestampVerificationData"];
            alter(&mut data["rfc3161Timestamps"][0]["signedTimestamp"]);
        }
    });
    assert_eq!(moved, NOBODYS);
    for real in both() {
        let early = real.verified(ARTEFACT, UnixTime(real.signed.0 - 600), NEVER).unwrap_err();
        assert_eq!(early.code(), "STATEMENT_SIGNED_IN_FUTURE");
    }
}

#[test]
fn s63_a_real_bundle_is_refused_by_a_root_that_is_over() {
    for real in both() {
        let expires = UnixTime(NOW.0 - 1);
        let refused = real.verified(ARTEFACT, NOW, expires).unwrap_err();
        assert_eq!(refused, Refused::TrustRootExpired { signer: "release".into(), expires, now: NOW });
        assert!(real.verified(ARTEFACT, NOW, NOW).is_ok());
    }
}
