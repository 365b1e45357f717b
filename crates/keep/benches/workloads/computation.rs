//! What programs compute, one of them as `--cfg computation="…"` says. Built for WASI by the bench itself.

/// Numbers without a generator of random ones.
#[allow(dead_code)]
fn numbers(count: usize) -> impl Iterator<Item = u64> {
    let step = |state: &mut u64| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        Some(*state)
    };
    let mut state = 0x9e37_79b9_7f4a_7c15;
    std::iter::from_fn(move || step(&mut state)).take(count)
}

/// Sorts a million numbers, and looks each of them up.
#[cfg(computation = "sort")]
fn main() {
    let mut all: Vec<u64> = numbers(1_000_000).collect();
    all.sort();
    assert!(numbers(1_000_000).all(|number| all.binary_search(&number).is_ok()));
}

/// Counts words of a text in a hash map.
#[cfg(computation = "words")]
fn main() {
    let text: String = numbers(600_000).map(|number| format!("word{} ", number % 5000)).collect();
    let mut counts = std::collections::HashMap::new();
    for word in text.split_whitespace() {
        *counts.entry(word).or_insert(0_u32) += 1;
    }
    assert_eq!(counts.values().sum::<u32>(), 600_000);
}

/// SHA-256's compression function (FIPS 180-4, section 6.2.2) over 16 MiB.
#[cfg(computation = "digest")]
fn main() {
    let constants: Vec<u32> = numbers(64).map(|number| number as u32).collect();
    let mut state: [u32; 8] = std::array::from_fn(|place| place as u32);
    for block in 0..(16 << 20) / 64 {
        let mut schedule = [block as u32; 64];
        for t in 16..64 {
            let (a, b) = (schedule[t - 15], schedule[t - 2]);
            let a = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
            let b = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
            schedule[t] = schedule[t - 16].wrapping_add(a).wrapping_add(schedule[t - 7]).wrapping_add(b);
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
        for (word, constant) in schedule.iter().zip(&constants) {
            let sum = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let choice = (e & f) ^ (!e & g);
            let first = h.wrapping_add(sum).wrapping_add(choice).wrapping_add(*word).wrapping_add(*constant);
            let sum = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let second = sum.wrapping_add((a & b) ^ (a & c) ^ (b & c));
            (h, g, f, e, d, c, b, a) = (g, f, e, d.wrapping_add(first), c, b, a, first.wrapping_add(second));
        }
        for (place, value) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *place = place.wrapping_add(value);
        }
    }
    assert_ne!(state, [0; 8]);
}

/// Multiplies two matrices of 300 × 300 numbers, four times.
#[cfg(computation = "matrices")]
fn main() {
    const N: usize = 300;
    let matrix: Vec<f64> = numbers(N * N).map(|number| (number % 1000) as f64 / 1000.0).collect();
    let mut product = matrix.clone();
    for _ in 0..4 {
        let left = std::mem::replace(&mut product, vec![0.0; N * N]);
        for (row, sums) in left.chunks_exact(N).zip(product.chunks_exact_mut(N)) {
            for (factor, column) in row.iter().zip(matrix.chunks_exact(N)) {
                for (sum, value) in sums.iter_mut().zip(column) {
                    *sum += factor * value;
                }
            }
        }
    }
    assert!(product.iter().all(|value| value.is_finite()));
}

/// Writes and reads numbers as text.
#[cfg(computation = "text")]
fn main() {
    let text: String = numbers(300_000).map(|number| format!("{number},{:.3};", number as f64 / 7.0)).collect();
    let mut sum = 0.0;
    for record in text.split_terminator(';') {
        let (whole, part) = record.split_once(',').expect("two");
        sum += whole.parse::<u64>().expect("a number") as f64 + part.parse::<f64>().expect("a number");
    }
    assert!(sum > 0.0);
}
