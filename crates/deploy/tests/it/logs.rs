//! What a workload prints besides to its client: to whom `[log]` names, in the Keep's log.

use std::{
    io::Write,
    sync::{Arc, LazyLock, Mutex},
};

use keep_config::WITHOUT_A_FILE;

use crate::{
    modules,
    world::{deployment, run},
};

/// What all Keeps of this process log.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

static CAPTURED: LazyLock<Captured> = LazyLock::new(|| {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    tracing_subscriber::util::SubscriberInitExt::try_init(subscriber).unwrap();
    captured
});

/// The Keep's log of a module that copies `input`, under this `[log]`.
async fn logged(log: &str, input: &'static [u8]) -> String {
    LazyLock::force(&CAPTURED);
    let mut with = deployment(modules::cat());
    with.config = Some(format!("{WITHOUT_A_FILE}{log}"));
    let came = run(&with, input).await;
    assert_eq!(came.stdout.as_bytes(), input, "{:?}", came.ran);
    String::from_utf8_lossy(&CAPTURED.0.lock().unwrap()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_printed_is_sealed_to_its_owner_and_to_nobody_else() {
    let (private, public) = owner_log::generate().unwrap();
    let log = format!("[log]\nto = \"owner\"\nkey = \"{}\"\n", hex(&public));
    let text = logged(&log, b"canary one\ncanary two\n").await;
    assert!(!text.contains("canary"), "{text}");
    let mut reader = owner_log::Reader::new(private, "main.wasm");
    let lines: Vec<_> = text.lines().filter_map(|line| reader.open(line).ok()).collect();
    let [one, two, used] = &lines[..] else { panic!("{} lines", lines.len()) };
    assert_eq!([&one.text[..], &two.text], [b"canary one", b"canary two"]);
    // At its end, what it used.
    let numbers = String::from_utf8_lossy(&used.text);
    assert_eq!(used.stream, owner_log::Stream::Metrics);
    assert!(numbers.contains("\"output_bytes\":22,") && numbers.contains("\"memory_bytes\":"), "{numbers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_reads_what_is_printed_only_if_it_is_told_to() {
    assert!(logged("[log]\nto = \"host\"\n", b"for all\n").await.contains("for all"));
    assert!(!logged("", b"for one\n").await.contains("for one"));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
