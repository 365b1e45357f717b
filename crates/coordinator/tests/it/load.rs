//! Many Keeps at the same time.

use evidence::Platform;
use mesh_api::ActivateRequest;

use crate::{
    running::Running,
    service::join,
    world::{FRONTEND, TALLY, keep_on},
};

/// All are answered, a limit of two is one of two, and after a crash all of them are known.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_activations_are_all_answered_and_limits_are_exact() {
    let running = Running::with_manifest().await;
    let keep = keep_on(Platform::Snp);
    let activations = (0..48).map(|it| {
        let (running, keep) = (&running, keep.clone());
        async move {
            let (marble, workload) = if it % 2 == 0 { ("tally", TALLY) } else { ("frontend", FRONTEND) };
            let mut client = join(running, keep, marble, workload).await.unwrap();
            let answer = client.activate(ActivateRequest {}).await;
            (marble, answer.map(|_| ()).map_err(|status| status.details().to_vec()))
        }
    });
    let mut answers = Vec::new();
    let mut waiting: Vec<_> = activations.map(Box::pin).collect();
    // Polled together: each waits for the network or for the disk.
    std::future::poll_fn(|context| {
        waiting.retain_mut(|activation| match activation.as_mut().poll(context) {
            std::task::Poll::Ready(answer) => {
                answers.push(answer);
                false
            }
            std::task::Poll::Pending => true,
        });
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    let count = |wanted: &(&str, Result<(), Vec<u8>>)| answers.iter().filter(|it| *it == wanted).count();
    assert_eq!(count(&("tally", Ok(()))), 24);
    assert_eq!(count(&("frontend", Ok(()))), 2);
    assert_eq!(count(&("frontend", Err(b"ACTIVATIONS_EXHAUSTED".to_vec()))), 22, "{answers:?}");
    let before = running.verify([1; 32]).await.unwrap();
    assert_eq!(before.log_length, 2 + 26);
    let again = Running::start_in(running.left()).await;
    assert_eq!(again.verify([2; 32]).await.unwrap(), before);
}
