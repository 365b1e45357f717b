//! Durable single-row inserts the whole way, over TLS, through the gateway, sealed and synced, beside PostgreSQL with TLS and
//! `fsync` of its own, on one disk by one client library: `cargo bench -p database --bench durable`.

#[path = "gateway/stand.rs"]
mod stand;

use std::time::{Duration, Instant};

use stand::{Commits, Stand, Way};

const CLIENTS: [usize; 3] = [1, 8, 32];
const TIME: Duration = Duration::from_secs(5);
const ROUNDS: usize = 5;

/// Inserts in a second.
async fn inserts(stand: &Stand, way: Way, clients: usize) -> f64 {
    let mut sessions = Vec::new();
    for _ in 0..clients {
        sessions.push(stand.client(way).await);
    }
    let begun = Instant::now();
    let tasks: Vec<_> = sessions
        .into_iter()
        .map(|client| {
            tokio::spawn(async move {
                let insert = "INSERT INTO rows VALUES ($1, 'a row of usual length')";
                let insert = client.prepare(insert).await.expect("it is prepared");
                let mut done = 0_i64;
                while begun.elapsed() < TIME {
                    client.execute(&insert, &[&done]).await.expect("inserted");
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await.expect("a client");
    }
    done as f64 / begun.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() {
    let Some(plain) = Stand::new(64, Commits::OnDisk).await else { return };
    let Some(sealed) = Stand::new(64, Commits::Sealed).await else { return };
    println!(
        "| durable inserts in a second | PostgreSQL, TLS, fsync | gateway, sealed | ratio (asked: 0.9) |\n|---|---|---|---|"
    );
    for clients in CLIENTS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        // In turns, so that neither has the quieter machine.
        for _ in 0..ROUNDS {
            theirs.push(inserts(&plain, Way::Direct, clients).await);
            ours.push(inserts(&sealed, Way::Gateway, clients).await);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        println!("| {clients} clients | {theirs:.0} | {ours:.0} | {:.2} |", ours / theirs);
    }
}
