//! What Enarx' own tests gave its Keeps and expected of them (enarx 0.7.1, tests/wasm and tests/exec), with programs of our
//! own: same inputs, same outcomes. Where we differ on purpose, docs/migrating-from-enarx.md says so.

use std::sync::Arc;

use attested_tls::clock;
use keep::{
    command::Ended,
    net::Net,
    world::{Given, Listening},
};
use keep_config::KeepConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    calls,
    client::handshake,
    filter::{copying, echo},
    net::within,
    pki::Root,
    run::{self, Run},
};

/// A file with this is what Enarx took where no file was given.
const STREAMS: &str =
    "[[files]]\nkind = \"stdin\"\n\n[[files]]\nkind = \"stdout\"\n\n[[files]]\nkind = \"stderr\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn return_1() {
    let text = r#"(module (func (export "") (result i32) i32.const 1))"#;
    assert_eq!(Run::of(text).ended().await, Ended::Exit(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn wasi_snapshot1() {
    let text = calls::module(
        r#"(func (export "") (result i32)
               (drop (call $args_sizes_get (i32.const 0) (i32.const 4)))
               (i32.load (i32.const 0)))"#,
    );
    assert_eq!(Run::of(&text).ended().await, Ended::Exit(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn hello_wasi_snapshot1() {
    let text = calls::module(
        r#"(data (i32.const 64) "Hello, world!\n")
           (func (export "_start")
               (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 14))
               (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))"#,
    );
    let run = Run::of(&text).finish().await;
    assert_eq!(
        (run.ended, run.stdout.as_str(), run.stderr.as_str()),
        (Ended::Exit(0), "Hello, world!\n", "")
    );
}

#[test]
fn no_export() {
    let refused = run::runtime().load(&wat::parse_str("(module)").unwrap(), None).unwrap_err();
    assert_eq!(refused.code(), "WORKLOAD_WITHOUT_ENTRY");
}

#[tokio::test(flavor = "multi_thread")]
async fn echo_of_two_mebibytes() {
    let input: Vec<u8> = (0..2 * 1024 * 1024).map(|number: u32| number as u8).collect();
    let (ended, output) = Run::of(&echo()).input(&input).output().await;
    assert_eq!(ended, Ended::Exit(0));
    assert!(output == input, "the output is not the input");
}

/// Takes and uses `mebibytes` of memory at once.
fn spike(mebibytes: u32) -> String {
    calls::module(&format!(
        r#"(func (export "_start") (local $at i32) (local $end i32)
               (local.set $at (i32.shl (memory.grow (i32.const {pages})) (i32.const 16)))
               (if (i32.eq (local.get $at) (i32.const -65536)) (then (call $proc_exit (i32.const 1))))
               (local.set $end (i32.shl (memory.size) (i32.const 16)))
               (loop $more
                   (i32.store8 (local.get $at) (i32.const 1))
                   (local.set $at (i32.add (local.get $at) (i32.const 4096)))
                   (br_if $more (i32.lt_u (local.get $at) (local.get $end)))))"#,
        pages = mebibytes * 16
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn memspike() {
    assert_eq!(Run::of(&spike(64)).ended().await, Ended::Exit(0));
}

/// Allocations that double up to 32 MiB, as an allocator that never gives memory back asks for them.
#[tokio::test(flavor = "multi_thread")]
async fn memory_stress_test() {
    let text = calls::module(
        r#"(func (export "_start") (local $pages i32)
               (local.set $pages (i32.const 1))
               (loop $more
                   (if (i32.eq (memory.grow (local.get $pages)) (i32.const -1)) (then (call $proc_exit (i32.const 1))))
                   (i32.store (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 4)) (i32.const 7))
                   (local.set $pages (i32.shl (local.get $pages) (i32.const 1)))
                   (br_if $more (i32.le_u (local.get $pages) (i32.const 512)))))"#,
    );
    assert_eq!(Run::of(&text).ended().await, Ended::Exit(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn zerooneone() {
    let change = "
        (local.set $at (i32.const 1024))
        (loop $next
            (local.set $c (i32.sub (i32.or (i32.load8_u (local.get $at)) (i32.const 32)) (i32.const 97)))
            (if (i32.lt_u (local.get $c) (i32.const 26)) (then
                (i32.store8 (local.get $at) (i32.add
                    (i32.add (i32.and (i32.load8_u (local.get $at)) (i32.const 32)) (i32.const 65))
                    (i32.rem_u (i32.add (local.get $c) (i32.const 13)) (i32.const 26))))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $at) (i32.add (i32.const 1024) (local.get $end)))))";
    let text = copying("(i32.const 0)", "(i32.const 1)", "", change, "");
    let input = "Good morning, that's a nice tnetennba.\n0118 999 881 999 119 725 3\n";
    let run = Run::of(&text).input(input.as_bytes()).finish().await;
    assert_eq!(run.ended, Ended::Exit(0));
    assert_eq!(run.stdout, "Tbbq zbeavat, gung'f n avpr gargraaon.\n0118 999 881 999 119 725 3\n");
}

/// Prints its environment, accepts on 3, and sends there what it reads from 4, as a line.
fn check_tcp() -> String {
    let before = "
        (call $must (call $environ_sizes_get (i32.const 16) (i32.const 20)))
        (call $must (call $environ_get (i32.const 40960) (i32.const 49152)))
        (call $put (i32.const 1) (i32.const 49152) (i32.load (i32.const 20)))
        (call $must (call $sock_accept (i32.const 3) (i32.const 0) (i32.const 24)))
        (local.set $fd (i32.load (i32.const 24)))";
    let after = "(i32.store8 (i32.const 1024) (i32.const 10)) (call $put (local.get $fd) (i32.const 1024) (i32.const 1))";
    copying("(i32.const 4)", "(local.get $fd)", before, "", after)
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tcp_and_the_same_over_tls() {
    for prot in ["tcp", "tls"] {
        let root = Root::new();
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let (roots, roots_key) = match prot {
            "tls" => (format!("[roots]\nours = \"\"\"{}\"\"\"\n", root.pem()), "roots = \"ours\"\n"),
            _ => (String::new(), ""),
        };
        let config = format!(
            "{STREAMS}
[[files]]
kind = \"listen\"
prot = \"{prot}\"
addr = \"127.0.0.1\"
port = 0
name = \"LISTEN\"

[[files]]
kind = \"connect\"
prot = \"{prot}\"
host = \"127.0.0.1\"
port = {port}
name = \"CONNECT\"
{roots_key}
{roots}"
        );
        let (told, mut listening) = mpsc::unbounded_channel();
        let parsed = KeepConfig::parse(&config).unwrap();
        let (_identity, current) = watch::channel(Arc::new(root.identity()));
        let net = Net::new(&parsed, Default::default(), current, clock::system()).unwrap();
        let given = Given { net: Some(net), listening: Some(told), ..Given::default() };
        let run = tokio::spawn(Run::of(&check_tcp()).config(&config).given(given).finish());

        let (mut stream, _) = within(server.accept()).await.unwrap();
        if prot == "tls" {
            let mut stream = within(TlsAcceptor::from(root.server()).accept(stream)).await.unwrap();
            stream.write_all(b"test").await.unwrap();
            stream.shutdown().await.unwrap();
        } else {
            stream.write_all(b"test").await.unwrap();
            drop(stream);
        }
        let Listening { name, address } = within(listening.recv()).await.unwrap();
        assert_eq!(name, "LISTEN");
        let mut got = String::new();
        if prot == "tls" {
            let mut stream = handshake(address, root.client(&root, &[])).await.unwrap();
            within(stream.read_to_string(&mut got)).await.unwrap();
        } else {
            within(TcpStream::connect(address).await.unwrap().read_to_string(&mut got)).await.unwrap();
        }
        assert_eq!(got, "test\n", "{prot}");
        let run = within(run).await.unwrap();
        assert_eq!(run.ended, Ended::Exit(0), "{prot}");
        assert_eq!(run.stdout, "FD_COUNT=5\0FD_NAMES=stdin:stdout:stderr:LISTEN:CONNECT\0");
    }
}

/// Enarx' tests/exec: codes reach the caller there too, though not those of wasm.
#[tokio::test(flavor = "multi_thread")]
async fn exit_zero_and_exit_one() {
    let ended =
        async |code: u8| Run::of(&run::module(&format!("(call $exit (i32.const {code}))"))).ended().await;
    assert_eq!(ended(0).await, Ended::Exit(0));
    assert_eq!(ended(1).await, Ended::Exit(1));
}

/// Output goes nowhere without a word, and the exit code is 0.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_configuration_runs_in_silence() {
    let text = calls::module(
        r#"(data (i32.const 64) "lost")
           (func (export "_start")
               (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 4))
               (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))"#,
    );
    let run = Run::of(&text).config("# nothing").finish().await;
    assert_eq!((run.ended, run.stdout.as_str()), (Ended::Exit(0), ""));
}

/// Enarx' shim knew none but the descriptors that the configuration opened, and no path.
#[tokio::test(flavor = "multi_thread")]
async fn no_path_can_be_opened_without_files() {
    let text = calls::module(
        r#"(data (i32.const 64) "etc/passwd")
           (func (export "_start") (local $fd i32)
               (loop $next
                   (if (i32.eqz (call $path_open (local.get $fd) (i32.const 0) (i32.const 64) (i32.const 10) (i32.const 0)
                           (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 0)))
                       (then (call $proc_exit (i32.const 1))))
                   (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
                   (br_if $next (i32.lt_u (local.get $fd) (i32.const 16)))))"#,
    );
    assert_eq!(Run::of(&text).ended().await, Ended::Exit(0));
}

/// Enarx' tests/exec were programs for its shim; what each asked for, a module asks for by preview 1: `write_stdout`,
/// `write_stderr`, `close`, `read`, `readv`, `clock_gettime`.
async fn exec(body: &str, input: &[u8]) -> run::Finished {
    let must = "(func $must (param i32) (if (local.get 0) (then (call $proc_exit (i32.const 1)))))";
    let data = "(data (i32.const 64) \"hi\")";
    let text = calls::module(&format!("{must} {data} (func (export \"_start\") (local $at i32) {body})"));
    Run::of(&text).input(input).finish().await
}

/// Two bytes to a descriptor.
fn write_to(descriptor: u32) -> String {
    format!(
        "(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 2))
         (call $must (call $fd_write (i32.const {descriptor}) (i32.const 0) (i32.const 1) (i32.const 8)))"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn write_stdout_and_write_stderr() {
    let run = exec(&write_to(1), b"").await;
    assert_eq!((run.ended, run.stdout.as_str(), run.stderr.as_str()), (Ended::Exit(0), "hi", ""));
    let run = exec(&write_to(2), b"").await;
    assert_eq!((run.ended, run.stdout.as_str(), run.stderr.as_str()), (Ended::Exit(0), "", "hi"));
}

#[tokio::test(flavor = "multi_thread")]
async fn close() {
    let body = format!("(call $must (call $fd_close (i32.const 1))) {}", write_to(1));
    let run = exec(&body, b"").await;
    assert_eq!((run.ended, run.stdout.as_str()), (Ended::Exit(1), ""), "what is closed takes nothing");
}

/// Into one place, and scattered over three: what is not there yet is waited for, what is left stays for the next.
#[tokio::test(flavor = "multi_thread")]
async fn read_and_readv() {
    let pieces = |sizes: [u32; 3]| -> String {
        let mut at = 2048;
        let store = |(place, size): (usize, &u32)| {
            let stores = format!(
                "(i32.store (i32.const {}) (i32.const {at})) (i32.store (i32.const {}) (i32.const {size}))",
                place * 8,
                place * 8 + 4
            );
            at += 16;
            stores
        };
        sizes.iter().enumerate().map(store).collect()
    };
    for sizes in [[5, 0, 0], [1, 2, 2]] {
        let body = format!(
            "{} (call $must (call $fd_read (i32.const 0) (i32.const 0) (i32.const 3) (i32.const 32)))
             (call $must (i32.ne (i32.load (i32.const 32)) (i32.const 5)))
             (call $must (call $fd_write (i32.const 1) (i32.const 0) (i32.const 3) (i32.const 32)))",
            pieces(sizes)
        );
        let run = exec(&body, b"hello, world").await;
        assert_eq!((run.ended, run.stdout.as_str()), (Ended::Exit(0), "hello"), "{sizes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_gettime() {
    let body = "(call $must (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 32)))
        (call $must (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 40)))
        (call $must (i64.eqz (i64.load (i32.const 32))))";
    assert_eq!(exec(body, b"").await.ended, Ended::Exit(0));
}
