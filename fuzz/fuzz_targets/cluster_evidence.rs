//! Files of cluster evidence: what parses is written and parses to the same.
#![no_main]
use appraisal::cluster::ClusterEvidence;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(cluster) = ClusterEvidence::parse(bytes) {
        let written = cluster.to_json();
        assert!(ClusterEvidence::recognises(written.as_bytes()));
        assert_eq!(ClusterEvidence::parse(written.as_bytes()).as_ref(), Ok(&cluster));
    }
    let _ = appraisal::Examination::new(bytes);
});
