//! Verification, from bytes to verdict: nothing cached (`cold`), platform and collateral seen before (`warm`), and
//! on one core and two (`throughput`), beside the sum of the signature checks that it needs and the verifiers that
//! are the best known. One run, one machine, processor time; the ratios at the end are of criterion's medians.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use appraisal::{Capacity, Verifier};
use benches::peers::{self, DcapQvl, Sev};
use benches::samples::{self, Sample};
use benches::{Counting, ThreadTime, allocated, peak};
use criterion::{BenchmarkId, Criterion};
use crypto_aws_lc::AwsLc;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Other work on the machine comes in bursts and slows what it meets, so everything is measured several times and
/// the lowest of criterion's medians counts.
const PASSES: usize = 5;

/// Microseconds, by group, function and sample.
type Medians = BTreeMap<[&'static str; 3], f64>;

fn main() {
    let samples = [samples::sgx(), samples::tdx(), samples::snp()];
    let mut medians = Medians::new();
    for _ in 0..PASSES {
        let mut criterion = Criterion::default()
            .with_measurement(ThreadTime::default())
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_millis(800))
            .sample_size(40)
            .configure_from_args();
        for sample in &samples {
            cold(&mut criterion, sample);
            warm(&mut criterion, sample);
            note(&mut medians, sample);
        }
        criterion.final_summary();
    }
    table(&samples, &medians);
    memory(&samples);
    throughput(&samples);
}

fn cold(criterion: &mut Criterion<ThreadTime>, sample: &Sample) {
    let mut group = criterion.benchmark_group("cold");
    let checks = sample.signatures();
    group.bench_function(BenchmarkId::new("signatures", sample.name), |bencher| {
        bencher.iter(|| checks.iter().for_each(|check| black_box(check).make()));
    });
    group.bench_function(BenchmarkId::new("bailey", sample.name), |bencher| {
        bencher.iter(|| black_box(sample.cold(&AwsLc)));
    });
    let id = BenchmarkId::new("peer", sample.name);
    if sample.name == "SNP" {
        let peer = Sev::new(sample);
        group.bench_function(id, |bencher| bencher.iter(|| peer.cold()));
    } else {
        let peer = DcapQvl::new(sample);
        group.bench_function(id, |bencher| bencher.iter(|| black_box(peer.verify())));
    }
}

/// dcap-qvl remembers nothing, so it has no warm figure.
fn warm(criterion: &mut Criterion<ThreadTime>, sample: &Sample) {
    let mut group = criterion.benchmark_group("warm");
    let mut checks = sample.signatures();
    let own = checks.pop().filter(|check| !check.is_endorsement).expect("Evidence is signed");
    group.bench_function(BenchmarkId::new("signatures", sample.name), |bencher| {
        bencher.iter(|| black_box(&own).make());
    });
    let verifier = seen(sample);
    group.bench_function(BenchmarkId::new("bailey", sample.name), |bencher| {
        bencher.iter(|| black_box(sample.warm(&verifier)));
    });
    if sample.name == "SNP" {
        let peer = Sev::new(sample);
        group.bench_function(BenchmarkId::new("peer", sample.name), |bencher| bencher.iter(|| peer.warm()));
    }
}

/// A verifier that has seen the sample.
fn seen(sample: &Sample) -> Verifier {
    let verifier = Verifier::new(AwsLc, Capacity::default());
    let first = sample.warm(&verifier);
    assert!(first.verdict().is_accepted(), "{}", first.verdict());
    verifier
}

/// Criterion's median, in microseconds.
fn median(group: &str, function: &str, sample: &str) -> Option<f64> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/criterion");
    let file = folder.join(group).join(function).join(sample).join("new/estimates.json");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    Some(json["median"]["point_estimate"].as_f64()? / 1e3)
}

fn note(medians: &mut Medians, sample: &Sample) {
    for group in ["cold", "warm"] {
        for function in ["signatures", "bailey", "peer"] {
            let Some(median) = median(group, function, sample.name) else { continue };
            let lowest = medians.entry([group, function, sample.name]).or_insert(median);
            *lowest = lowest.min(median);
        }
    }
}

fn table(samples: &[Sample], medians: &Medians) {
    println!("\nProcessor time, one core, µs (medians). Peers: dcap-qvl 0.7, aws-lc-rs; {}.", peers::SEV);
    println!(
        "{:5} {:5} {:>6} {:>10} {:>8} {:>8} {:>12} {:>12}",
        "", "", "checks", "signatures", "bailey", "peer", "bailey/sigs", "peer/bailey"
    );
    for sample in samples {
        for group in ["cold", "warm"] {
            let of = |function| medians.get(&[group, function, sample.name]).copied();
            let (Some(signatures), Some(own)) = (of("signatures"), of("bailey")) else { continue };
            // A peer that remembers nothing takes as long each time.
            let peer = of("peer")
                .or_else(|| medians.get(&["cold", "peer", sample.name]).copied())
                .unwrap_or(f64::NAN);
            let count = if group == "cold" { sample.signatures().len() } else { 1 };
            println!(
                "{:5} {group:5} {count:>6} {signatures:>10.1} {own:>8.1} {peer:>8.1} {:>12.2} {:>12.2}",
                sample.name,
                own / signatures,
                peer / own
            );
        }
    }
}

fn memory(samples: &[Sample]) {
    println!("\nBytes of memory for one verification: held at once at most, and asked for in all.");
    println!(
        "{:5} {:>10} {:>10} {:>10} {:>10} {:>10} {:>12}",
        "", "cold held", "cold all", "warm held", "warm all", "peer all", "remembered"
    );
    for sample in samples {
        let verifier = seen(sample);
        let peer = if sample.name == "SNP" {
            let peer = Sev::new(sample);
            allocated(|| peer.cold())
        } else {
            let peer = DcapQvl::new(sample);
            allocated(|| peer.verify())
        };
        println!(
            "{:5} {:>10} {:>10} {:>10} {:>10} {peer:>10} {:>12}",
            sample.name,
            peak(|| sample.cold(&AwsLc)),
            allocated(|| sample.cold(&AwsLc)),
            peak(|| sample.warm(&verifier)),
            allocated(|| sample.warm(&verifier)),
            verifier.remembered(),
        );
    }
}

/// Verifications a second on one core and on two, by one verifier that both share. Wall time: this part is worth
/// nothing on a machine that does other work.
fn throughput(samples: &[Sample]) {
    println!("\nVerifications a second (wall time): best of 40 short runs.");
    println!("{:5} {:5} {:>10} {:>10} {:>7}", "", "", "one core", "two cores", "ratio");
    for sample in samples {
        let verifier = seen(sample);
        let cold = || drop(black_box(sample.cold(&AwsLc)));
        let warm = || drop(black_box(sample.warm(&verifier)));
        for (name, work) in [("cold", &cold as &(dyn Fn() + Sync)), ("warm", &warm)] {
            let rates = (0..40).map(|_| (rate(1, work), rate(2, work)));
            let best = |(one, two): (f64, f64), (next_one, next_two)| (one.max(next_one), two.max(next_two));
            let (one, two) = rates.fold((0.0, 0.0), best);
            println!("{:5} {name:5} {one:>10.0} {two:>10.0} {:>7.2}", sample.name, two / one);
        }
    }
}

fn rate(threads: u32, work: &(dyn Fn() + Sync)) -> f64 {
    const EACH: u32 = 200;
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..EACH).for_each(|_| work()));
        }
    });
    f64::from(threads * EACH) / start.elapsed().as_secs_f64()
}
