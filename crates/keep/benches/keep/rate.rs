//! Requests a second over many kept connections: a Keep with TLS against plain wasmtime without.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{Sender, over_tcp, over_tls, pki::Root, timed};

const CONNECTIONS: usize = 16;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(2);

/// In turns, so that whatever else the machine does falls on both.
pub async fn measure(path: &'static str, keep: SocketAddr, plain: SocketAddr, root: &Root) {
    let (mut keeps, mut plains) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        keeps.push(over_tls(keep, root).await);
        plains.push(over_tcp(plain).await);
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (count, senders) = round(keeps, path).await;
        (keeps, _) = (senders, ours.push(count));
        let (count, senders) = round(plains, path).await;
        (plains, _) = (senders, theirs.push(count));
    }
    let (ours, theirs) = (middle(ours), middle(theirs));
    println!(
        "requests a second, {CONNECTIONS} connections ({path})    {ours:>8.0}   plain {theirs:>8.0}   ratio {:.2}",
        ours / theirs
    );
}

/// Requests a second of all senders together.
async fn round(senders: Vec<Sender>, path: &'static str) -> (f64, Vec<Sender>) {
    let begun = Instant::now();
    let tasks: Vec<_> = senders
        .into_iter()
        .map(|mut sender| {
            tokio::spawn(async move {
                let mut count = 0_u32;
                while begun.elapsed() < ROUND {
                    timed(&mut sender, path).await;
                    count += 1;
                }
                (count, sender)
            })
        })
        .collect();
    let (mut total, mut senders) = (0, Vec::new());
    for task in tasks {
        let (count, sender) = task.await.expect("requests");
        total += count;
        senders.push(sender);
    }
    (f64::from(total) / begun.elapsed().as_secs_f64(), senders)
}

fn middle(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
