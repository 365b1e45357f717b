//! Bundles: one file that carries all that an appraisal needs to where there is no network.

use appraisal::{EndorsementsBuilder, Expiry, Needs, UnixTime, needs};
use coset::TaggedCborSerializable;
use endorsements::{Bundle, BundleError, BundleKey, BundleSigner, expiry_warnings};
use evidence::Endorsements;

use crate::vectors::recorded;
use crate::vectors::{
    GENOA, GENOA_AT, SGX, SGX_2025, TDX, TDX_2025, TDX_2025_AT, at, client, evidence, look,
};
use testkit::vendor::Vendor;

fn signer() -> BundleSigner {
    BundleSigner::generate().unwrap().0
}

fn needs_of(file: &str) -> Needs {
    needs(&evidence(file)).unwrap().unwrap()
}

fn tdx(signer: &BundleSigner) -> Bundle {
    Bundle::make(recorded(TDX_2025), &needs_of(TDX), at(TDX_2025_AT), signer).unwrap()
}

#[test]
fn a_bundle_says_what_is_in_it() {
    let bundle = tdx(&signer());
    assert_eq!(bundle.subject(), "tdx-b0c06f000000-platform");
    assert_eq!(bundle.made_at(), at(TDX_2025_AT));
    assert_eq!(bundle.window(), (at("2025-06-19T10:32:27Z"), at("2025-07-19T10:00:35Z")));
    let numbers = bundle.numbers();
    assert_eq!((numbers.evaluation, numbers.root_ca_crl, numbers.pck_crl), (Some(17), Some(1), Some(1)));
    let digest = hex::encode(bundle.digest());
    assert_eq!(bundle.file_name(), format!("tdx-b0c06f000000-platform-{}.bundle", &digest[..12]));
}

/// Fetched here, carried there, appraised without a network: by whoever checks the maker, and by whoever does not.
#[tokio::test]
async fn a_bundle_is_enough_for_an_air_gapped_verifier() {
    let vendor = Vendor::start().await;
    for (file, collateral, now) in [(TDX, Some(TDX_2025), TDX_2025_AT), (GENOA, None, GENOA_AT)] {
        collateral.into_iter().for_each(|collateral| vendor.load_intel(collateral));
        let (evidence, now) = (evidence(file), at(now));
        let fetched = client(&vendor).endorsements_for(&evidence, now).await.unwrap();
        let signer = signer();
        let made = Bundle::make(fetched.endorsements, &needs_of(file), now, &signer).unwrap();

        let opened = Bundle::open(made.bytes(), Some(signer.public_key())).unwrap();
        assert!(look(&evidence, opened.endorsements(), now).is_accepted());
        let mut builder = EndorsementsBuilder::new();
        builder.add_file_bytes(made.bytes()).unwrap();
        assert!(look(&evidence, &builder.fit(&evidence, now), now).is_accepted());
    }
}

#[test]
fn the_maker_can_be_demanded() {
    let (one, other) = (signer(), signer());
    let bundle = tdx(&one);
    assert!(Bundle::open(bundle.bytes(), None).is_ok());
    assert!(Bundle::open(bundle.bytes(), Some(one.public_key())).is_ok());
    let refused = Bundle::open(bundle.bytes(), Some(other.public_key()));
    assert!(matches!(refused, Err(BundleError::OtherSigner { .. })));
    // As if the other had made it.
    let mut forged = evidence::bundle::Bundle::from_bytes(bundle.bytes()).unwrap();
    forged.signer = other.public_key().id();
    let refused = Bundle::open(&forged.to_bytes(), Some(other.public_key()));
    assert_eq!(refused, Err(BundleError::SignatureInvalid));
}

#[test]
fn a_key_survives_its_encoding() {
    let (signer, pkcs8) = BundleSigner::generate().unwrap();
    let again = BundleSigner::from_pkcs8(&pkcs8).unwrap();
    assert_eq!(again.public_key(), signer.public_key());
    assert_eq!(BundleKey::from_spki(signer.public_key().spki()).as_ref(), Ok(signer.public_key()));
    assert!(BundleSigner::from_pkcs8(&pkcs8[1..]).is_err());
    assert!(BundleKey::from_spki(&signer.public_key().spki()[1..]).is_err());
    let ark = crate::vectors::root("ark-milan.der");
    assert!(BundleKey::from_spki(&ark.0).is_err());
}

/// Every bit of the file is under the maker's signature, is that signature, or is fixed.
#[test]
fn no_flipped_bit_is_opened_for_its_maker() {
    let signer = signer();
    let bundle = tdx(&signer);
    let mut bytes = bundle.bytes().to_vec();
    for index in 0..bytes.len() {
        bytes[index] ^= 1 << (index % 8);
        assert!(Bundle::open(&bytes, Some(signer.public_key())).is_err(), "byte {index}");
        bytes[index] ^= 1 << (index % 8);
    }
}

/// Without a demanded maker, the vendors' signatures decide; what the bundle says of itself must be so all the same.
#[test]
fn a_bundle_that_lies_about_its_contents_is_refused() {
    let lie = |change: fn(&mut evidence::bundle::Contents)| {
        let mut bundle = evidence::bundle::Bundle::from_bytes(tdx(&signer()).bytes()).unwrap();
        change(&mut bundle.contents);
        Bundle::open(&bundle.to_bytes(), None).unwrap_err()
    };
    assert_eq!(lie(|contents| contents.not_after += 86_400), BundleError::Inconsistent("another time"));
    assert_eq!(lie(|contents| contents.not_before -= 1), BundleError::Inconsistent("another time"));
    assert_eq!(
        lie(|contents| contents.numbers.evaluation = Some(18)),
        BundleError::Inconsistent("other numbers")
    );
    let emptied = lie(|contents| contents.endorsements = Endorsements::default());
    assert!(matches!(emptied, BundleError::Incomplete(_)));
}

/// A bundle of another platform is no use, and no harm.
#[test]
fn a_bundle_of_another_platform_is_refused_by_the_appraisal() {
    let bundle = Bundle::make(recorded(SGX_2025), &needs_of(SGX), at(TDX_2025_AT), &signer()).unwrap();
    assert!(!look(&evidence(TDX), bundle.endorsements(), at(TDX_2025_AT)).is_accepted());
}

#[test]
fn what_cannot_be_read_is_not_bundled() {
    let mut endorsements = recorded(TDX_2025);
    endorsements.intel.as_mut().unwrap().pck_crl.0.truncate(100);
    let refused = Bundle::make(endorsements, &needs_of(TDX), UnixTime(0), &signer());
    assert_eq!(refused, Err(BundleError::Incomplete("the PCK CRL cannot be read".into())));
    let refused = Bundle::make(Endorsements::default(), &needs_of(TDX), UnixTime(0), &signer());
    assert!(matches!(refused, Err(BundleError::Incomplete(_))));
}

/// Another implementation of COSE (RFC 9052) reads and verifies it.
#[test]
fn a_bundle_is_cose() {
    let signer = signer();
    let bundle = tdx(&signer);
    let cose = coset::CoseSign1::from_tagged_slice(bundle.bytes()).unwrap();
    assert_eq!(cose.protected.header.alg, Some(coset::Algorithm::Assigned(coset::iana::Algorithm::ES256)));
    assert_eq!(cose.protected.header.key_id, signer.public_key().id());
    let point = &signer.public_key().spki()[26..];
    let key =
        aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED, point);
    assert!(cose.verify_signature(b"", |signature, message| key.verify(message, signature)).is_ok());
}

#[test]
fn expiry_names_the_part_that_ends_first() {
    let expiry = Expiry::of(&recorded(TDX_2025));
    let first = expiry.first().unwrap();
    assert_eq!((first.part, first.not_after), ("PCK CRL", at("2025-07-19T10:00:35Z")));
    assert_eq!(expiry.days_left(at("2025-07-16T10:00:35Z")), Some(3));
    assert_eq!(expiry.days_left(at("2026-01-01T00:00:00Z")), Some(0));
    assert!(expiry.unreadable.is_empty());
    assert!(expiry_warnings(&recorded(TDX_2025), at(TDX_2025_AT), 7).is_empty());
    assert_eq!(Expiry::of(&Endorsements::default()).whole(), None);
}
