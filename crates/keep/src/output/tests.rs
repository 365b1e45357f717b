use tokio::sync::Notify;

use super::*;
use crate::{
    command,
    runtime::{Pool, Runtime},
    world::{Given, World},
};

#[test]
fn a_line_without_end_takes_no_more_than_its_bound() {
    let output = Output::new("m", LogPolicy::Host, &Arc::default());
    let mut lines = Lines { output: Arc::clone(&output), stream: "stdout", partial: Vec::new() };
    for _ in 0..100 {
        lines.take(&[b'x'; 1000]);
    }
    assert_eq!(lines.partial.len(), MAX_LINE);
    assert_eq!(output.counted(Of::Command).output_bytes, 100_000);
}

#[test]
fn a_flood_of_lines_is_dropped_and_counted() {
    let output = Output::new("m", LogPolicy::Host, &Arc::default());
    let mut lines = Lines { output: Arc::clone(&output), stream: "stderr", partial: Vec::new() };
    lines.take(&b"\n".repeat(10_000));
    assert!(output.counted(Of::Command).lines_dropped > 9_000);
}

#[test]
fn discarded_output_is_not_even_kept() {
    let output = Output::new("m", LogPolicy::Discard, &Arc::default());
    let mut lines = Lines { output: Arc::clone(&output), stream: "stdout", partial: Vec::new() };
    lines.take(b"secret");
    assert!(lines.partial.is_empty());
    assert_eq!((output.counted(Of::Command).output_bytes, output.counted(Of::Command).lines_dropped), (6, 0));
}

#[test]
fn the_caller_is_told_each_line_and_how_many_it_missed() {
    let (output, mut told) = Output::for_caller("m", LogPolicy::Discard, &Arc::default());
    let mut lines = Lines { output: Arc::clone(&output), stream: "stderr", partial: Vec::new() };
    lines.take(b"one\ntw");
    lines.take(b"o\n");
    let mut next = || told.try_recv().ok().map(|line| (line.stream, String::from_utf8(line.bytes).unwrap()));
    assert_eq!(next(), Some(("stderr", "one\n".into())));
    assert_eq!(next(), Some(("stderr", "two\n".into())));
    assert_eq!(next(), None);
    lines.take(&b"x\n".repeat(LINES_AHEAD + 3));
    while next().is_some() {}
    lines.take(b"after\n");
    let after = told.try_recv().unwrap().bytes;
    assert_eq!(after, b"-- 3 line(s) were printed faster than they were taken\nafter\n");
}

/// Keeps what is logged, and says that something was.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>, Arc<Notify>);

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn subscriber(&self) -> impl tracing::Subscriber + use<> {
        let writer = self.clone();
        tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish()
    }
}

impl std::io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        self.1.notify_one();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The Keep's log of what is done with an output of this policy.
fn logged(policy: LogPolicy, with: impl FnOnce(&Arc<Output>)) -> String {
    let captured = Captured::default();
    let output = Output::new("m", policy, &Arc::default());
    tracing::subscriber::with_default(captured.subscriber(), || with(&output));
    captured.text()
}

#[test]
fn metrics_go_where_the_log_goes_and_to_nobody_by_default() {
    let used = |output: &Arc<Output>| {
        output.metrics.answered(true);
        output.metrics.answered(false);
        output.metrics.ran(Duration::from_millis(1234));
        output.metrics.has_memory(65536);
        output.tell_metrics(Of::Service);
        output.tell_metrics(Of::Command);
    };
    assert_eq!(logged(LogPolicy::Discard, used), "");
    let told = logged(LogPolicy::Host, used);
    let [service, command] = told.lines().collect::<Vec<_>>()[..] else { panic!("{told}") };
    let both = ["WORKLOAD_METRICS", "\"cpu_ms\":1234", "\"memory_bytes\":65536"];
    for part in both.iter().chain(&["\"requests\":2", "\"failed\":1"]) {
        assert!(service.contains(part), "{service}");
    }
    assert!(both.iter().all(|part| command.contains(part)), "{command}");
    assert!(!command.contains("requests") && !command.contains("failed"), "{command}");
    let (private, public) = owner_log::generate().unwrap();
    let sealed = logged(LogPolicy::Owner(public), used);
    assert!(!sealed.contains("requests") && !sealed.contains("1234"), "{sealed}");
    let mut reader = owner_log::Reader::new(private, "m");
    let numbers = r#""cpu_ms":1234,"memory_bytes":65536,"output_bytes":0,"lines_dropped":0}"#;
    for (line, first) in sealed.lines().zip([r#"{"requests":2,"failed":1,"#, "{"]) {
        let line = reader.open(line).unwrap();
        let text = String::from_utf8(line.text).unwrap();
        assert_eq!((line.stream, text), (Stream::Metrics, format!("{first}{numbers}")));
    }
}

/// Waits for input that does not come, with three pages of memory.
const WAITS: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 4) "\10")
    (func (export "_start")
        (drop (memory.grow (i32.const 2)))
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 100)))))"#;

/// The Keep's log of a command that is ended when it was told so often.
async fn told(policy: LogPolicy, often: usize) -> String {
    let runtime = Runtime::new(Pool::default()).unwrap();
    let workload = runtime.load(&wat::parse_str(WAITS).unwrap(), None).unwrap();
    let world = World::new(&keep_config::KeepConfig::default(), Given::default()).unwrap();
    let (captured, mut output) = (Captured::default(), Output::new("m", policy, &world.metrics));
    Arc::get_mut(&mut output).unwrap().every = Duration::from_millis(1);
    let (stdin, _open) = tokio::io::duplex(1);
    let stdio = command::Stdio { stdin: Box::new(stdin), ..command::Stdio::null() };
    let _logging = tracing::subscriber::set_default(captured.subscriber());
    let enough = async {
        while captured.text().matches("WORKLOAD_METRICS").count() < often {
            captured.1.notified().await;
        }
    };
    let ended = command::run_told(&workload, world, stdio, Some(&output), enough).await;
    assert_eq!(ended, command::Ended::Cancelled);
    captured.text()
}

#[tokio::test]
async fn metrics_of_a_command_are_told_while_it_runs_and_at_its_end() {
    let log = told(LogPolicy::Host, 2).await;
    let lines: Vec<_> = log.lines().filter(|line| line.contains("WORKLOAD_METRICS")).collect();
    assert_eq!(lines.len(), 3, "{log}");
    assert!(lines[2].contains("\"memory_bytes\":196608"), "{log}");
    assert!(!told(LogPolicy::Discard, 0).await.contains("memory_bytes"));
}

#[test]
fn what_is_printed_for_the_owner_is_nowhere_in_the_clear() {
    let (private, public) = owner_log::generate().unwrap();
    let log = logged(LogPolicy::Owner(public), |output| {
        let mut lines = Lines { output: Arc::clone(output), stream: "stdout", partial: Vec::new() };
        lines.take(b"canary one\ncanary two\n");
    });
    assert!(!log.contains("canary"), "{log}");
    let mut reader = owner_log::Reader::new(private, "m");
    let read: Vec<_> = log.lines().map(|line| reader.open(line).unwrap().text).collect();
    assert_eq!(read, [b"canary one".to_vec(), b"canary two".to_vec()]);
}
