//! The gateway beside PostgreSQL's own TLS, on one server and by one client library: point SELECTs, single-row inserts,
//! COPY, an analytic query, and what 200 sessions take: `cargo bench -p database --bench gateway`.

#[path = "gateway/stand.rs"]
mod stand;

use std::{
    future::Future,
    time::{Duration, Instant},
};

use futures_util::SinkExt;
use stand::{Commits, Stand, Way};

const TIME: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;
const ROWS: i64 = 10_000_000;
const COPIED: usize = 500_000;
const SESSIONS: usize = 200;

/// Both ways in turns, so that neither has the quieter machine; medians and their ratio.
async fn compare<F: Future<Output = f64>>(what: &str, run: impl Fn(Way) -> F) {
    let mut figures = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (way, list) in [Way::Direct, Way::Gateway].into_iter().zip(&mut figures) {
            list.push(run(way).await);
        }
    }
    let [direct, gateway] = figures.map(|mut list| {
        list.sort_by(f64::total_cmp);
        list.get(list.len() / 2).copied().unwrap_or_default()
    });
    println!("| {what} | {direct:.0} | {gateway:.0} | {:.2} |", gateway / direct);
}

/// Statements in a second, of so many clients.
async fn repeated(stand: &Stand, way: Way, clients: usize, text: &'static str) -> f64 {
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for number in 0..clients {
        let client = stand.client(way).await;
        tasks.push(tokio::spawn(async move {
            let statement = client.prepare(text).await.expect("it is prepared");
            let mut done = 0_i64;
            while begun.elapsed() < TIME {
                let key = (done * 7919 + i64::try_from(number).unwrap_or_default()) % 100_000;
                client.query(&statement, &[&key]).await.expect("an answer");
                done += 1;
            }
            done
        }));
    }
    let mut done = 0;
    for task in tasks {
        done += task.await.expect("a client");
    }
    done as f64 / begun.elapsed().as_secs_f64()
}

async fn copied(stand: &Stand, way: Way) -> f64 {
    let client = stand.client(way).await;
    let part: String = (0..500).map(|it| format!("{it}\ta row of usual length\n")).collect();
    let part = bytes::Bytes::from(part);
    let begun = Instant::now();
    let sink = client.copy_in("COPY rows (id, body) FROM STDIN").await.expect("COPY");
    tokio::pin!(sink);
    for _ in 0..COPIED / 500 {
        sink.send(part.clone()).await.expect("rows");
    }
    sink.finish().await.expect("all rows");
    COPIED as f64 / begun.elapsed().as_secs_f64()
}

async fn analysed(stand: &Stand, way: Way) -> f64 {
    let client = stand.client(way).await;
    let begun = Instant::now();
    let text = "SELECT id % 97 AS part, count(*), sum(id), avg(length(body)) FROM many GROUP BY 1 ORDER BY 1";
    assert_eq!(client.query(text, &[]).await.expect("an answer").len(), 97);
    ROWS as f64 / begun.elapsed().as_secs_f64()
}

/// Resident bytes of this process: gateway and clients.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|it| it.parse::<u64>().ok()).unwrap_or_default() * 4096
}

#[tokio::main]
async fn main() {
    let Some(stand) = Stand::new(SESSIONS + 20, Commits::InMemory).await else { return };
    stand.fill(ROWS).await;
    println!("| what, in a second | direct TLS | gateway | ratio |\n|---|---|---|---|");
    compare("point SELECTs, 4 clients, prepared", |way| {
        repeated(&stand, way, 4, "SELECT body FROM many WHERE id = $1")
    })
    .await;
    for clients in [1, 8, 32] {
        let what = format!("single-row inserts, {clients} clients");
        compare(&what, |way| {
            repeated(&stand, way, clients, "INSERT INTO rows VALUES ($1, 'a row of usual length')")
        })
        .await;
    }
    compare("rows by COPY", |way| copied(&stand, way)).await;
    compare("rows of an analytic query over 10 million", |way| analysed(&stand, way)).await;

    let before = resident();
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        let client = stand.client(Way::Gateway).await;
        client.query("SELECT body FROM many WHERE id = 7", &[]).await.expect("an answer");
        sessions.push(client);
    }
    let mib = resident().saturating_sub(before) >> 20;
    println!(
        "\n{SESSIONS} sessions: {mib} MiB more, their clients in the same process included (expected: < 64)"
    );
}
