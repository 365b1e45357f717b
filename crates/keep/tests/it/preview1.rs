//! WASI preview 1 as a module sees it, call by call.

use std::{sync::Arc, time::Duration};

use attested_tls::clock;
use keep::{
    command::{Ended, Failure},
    net::Net,
    world::{Given, Listening},
};
use keep_config::KeepConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, watch},
    time::timeout,
};
use zeroize::Zeroizing;

use crate::{calls, client::handshake, pki::Root, run::Run};

/// Ends with 0 if every comparison in `body` holds, else with the number of the first that does not.
fn checks(body: &str) -> String {
    let mut numbered = String::new();
    for (number, part) in body.split("(is ").enumerate() {
        match number {
            0 => numbered.push_str(part),
            _ => numbered.push_str(&format!("(call $is (i32.const {number}) {part}")),
        }
    }
    calls::module(&format!(
        r#"(func $is (param $number i32) (param $got i32) (param $want i32)
               (if (i32.ne (local.get $got) (local.get $want)) (then (call $proc_exit (local.get $number)))))
           (func (export "_start") {numbered})"#
    ))
}

const ALL: &str = r#"
[[files]]
kind = "stdin"
[[files]]
kind = "stdout"
[[files]]
kind = "stderr"
[[files]]
kind = "null"
name = "nothing"
"#;

async fn holds(config: &str, body: &str) {
    let run = Run::of(&checks(body)).config(config).input(b"input").finish().await;
    assert_eq!(run.ended, Ended::Exit(0), "{body}");
}

/// Enarx' names of descriptors, and its order of the environment.
#[tokio::test(flavor = "multi_thread")]
async fn arguments_and_environment_are_those_of_enarx() {
    let config = format!("args = [\"a\", \"b c\"]\n[env]\nZ = \"1\"\nFD_COUNT = \"9\"\n{ALL}");
    let print = |sizes: &str, get: &str| {
        checks(&format!(
            "(is (call ${sizes} (i32.const 0) (i32.const 4)) (i32.const 0))
             (is (call ${get} (i32.const 64) (i32.const 1024)) (i32.const 0))
             (i32.store (i32.const 8) (i32.const 1024))
             (i32.store (i32.const 12) (i32.load (i32.const 4)))
             (is (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)) (i32.const 0))"
        ))
    };
    let args = Run::of(&print("args_sizes_get", "args_get")).config(&config).finish().await;
    assert_eq!((args.ended, args.stdout.as_str()), (Ended::Exit(0), "main.wasm\0a\0b c\0"));
    let env = Run::of(&print("environ_sizes_get", "environ_get")).config(&config).finish().await;
    let expected = "FD_COUNT=4\0FD_NAMES=stdin:stdout:stderr:nothing\0FD_COUNT=9\0Z=1\0";
    assert_eq!(env.stdout, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_configuration_opens_nothing() {
    let body = "(is (call $fd_write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16)) (i32.const 8))
                (is (call $fd_prestat_get (i32.const 0) (i32.const 64)) (i32.const 8))
                (is (call $fd_prestat_get (i32.const 3) (i32.const 64)) (i32.const 8))";
    holds("args = []", body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_are_numbered_by_the_configuration() {
    // Pieces at 0: 100 bytes at 1000. 16: how many.
    let body = "
        (i32.store (i32.const 0) (i32.const 1000)) (i32.store (i32.const 4) (i32.const 100))
        ;; null reads nothing and swallows everything
        (is (call $fd_read (i32.const 3) (i32.const 0) (i32.const 1) (i32.const 16)) (i32.const 0))
        (is (i32.load (i32.const 16)) (i32.const 0))
        (is (call $fd_write (i32.const 3) (i32.const 0) (i32.const 1) (i32.const 16)) (i32.const 0))
        (is (i32.load (i32.const 16)) (i32.const 100))
        ;; streams have a direction
        (is (call $fd_read (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)) (i32.const 8))
        (is (call $fd_write (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)) (i32.const 8))
        (is (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)) (i32.const 0))
        (is (i32.load (i32.const 16)) (i32.const 5))
        (is (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)) (i32.const 0))
        (is (i32.load (i32.const 16)) (i32.const 0))
        ;; and no place
        (is (call $fd_seek (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 16)) (i32.const 70))
        (is (call $fd_pread (i32.const 0) (i32.const 0) (i32.const 1) (i64.const 0) (i32.const 16)) (i32.const 70))
        (is (call $fd_tell (i32.const 3) (i32.const 16)) (i32.const 70))
        ;; no socket, no file, no directory
        (is (call $sock_accept (i32.const 3) (i32.const 0) (i32.const 16)) (i32.const 57))
        (is (call $sock_recv (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 16) (i32.const 20)) (i32.const 57))
        (is (call $path_open (i32.const 3) (i32.const 0) (i32.const 1000) (i32.const 1) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 16)) (i32.const 54))
        (is (call $fd_filestat_set_size (i32.const 0) (i64.const 0)) (i32.const 28))
        ;; only NONBLOCK can be set
        (is (call $fd_fdstat_set_flags (i32.const 0) (i32.const 4)) (i32.const 0))
        (is (call $fd_fdstat_set_flags (i32.const 0) (i32.const 1)) (i32.const 28))
        (is (call $fd_fdstat_set_flags (i32.const 0) (i32.const 0xffff)) (i32.const 28))
        ;; closed is closed, renumbered is elsewhere, the lowest free number is the next
        (is (call $fd_close (i32.const 9)) (i32.const 8))
        (is (call $fd_renumber (i32.const 3) (i32.const 9)) (i32.const 8))
        (is (call $fd_renumber (i32.const 3) (i32.const 0)) (i32.const 0))
        (is (call $fd_close (i32.const 3)) (i32.const 8))
        (is (call $fd_write (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)) (i32.const 0))
        (is (call $fd_close (i32.const 0)) (i32.const 0))
        (is (call $fd_close (i32.const 0)) (i32.const 8))
        (is (call $proc_raise (i32.const 9)) (i32.const 58))
        (is (call $sched_yield) (i32.const 0))";
    holds(ALL, body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_can_only_shrink_and_count() {
    let body = "
        (is (call $fd_fdstat_get (i32.const 3) (i32.const 64)) (i32.const 0))
        (is (call $fd_fdstat_set_rights (i32.const 3) (i64.const -1) (i64.const 0)) (i32.const 28))
        (is (call $fd_fdstat_set_rights (i32.const 3) (i64.const 0x4) (i64.const 0)) (i32.const 76))
        (is (call $fd_fdstat_set_rights (i32.const 3) (i64.const 0x40) (i64.const 0)) (i32.const 0))
        (is (call $fd_read (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 16)) (i32.const 8))
        (is (call $fd_fdstat_set_flags (i32.const 3) (i32.const 4)) (i32.const 63))";
    holds(ALL, body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_and_randomness() {
    let body = "
        (is (call $clock_res_get (i32.const 0) (i32.const 0)) (i32.const 0))
        (is (i64.eqz (i64.load (i32.const 0))) (i32.const 0))
        (is (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 0)) (i32.const 0))
        (is (i64.gt_u (i64.load (i32.const 0)) (i64.const 1600000000000000000)) (i32.const 1))
        (is (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 8)) (i32.const 0))
        (is (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 16)) (i32.const 0))
        (is (i64.ge_u (i64.load (i32.const 16)) (i64.load (i32.const 8))) (i32.const 1))
        (is (call $clock_time_get (i32.const 2) (i64.const 0) (i32.const 0)) (i32.const 28))
        (is (call $clock_time_get (i32.const 7) (i64.const 0) (i32.const 0)) (i32.const 28))
        (is (call $random_get (i32.const 1024) (i32.const 32)) (i32.const 0))
        (is (i64.eq (i64.load (i32.const 1024)) (i64.load (i32.const 1032))) (i32.const 0))
        (is (call $random_get (i32.const 0xffffff00) (i32.const 0x1000)) (i32.const 21))";
    holds(ALL, body).await;
}

/// A subscription at `at`: to the clock, or to a descriptor (tag 1: read, 2: write).
fn subscription(at: u32, userdata: u64, tag: u8, argument: u32, nanoseconds: u64) -> String {
    format!(
        "(i64.store (i32.const {at}) (i64.const {userdata})) (i32.store8 (i32.const {}) (i32.const {tag}))
         (i32.store (i32.const {}) (i32.const {argument})) (i64.store (i32.const {}) (i64.const {nanoseconds}))
         (i64.store (i32.const {}) (i64.const 0)) (i32.store16 (i32.const {}) (i32.const 0))",
        at + 8,
        at + 16,
        at + 24,
        at + 32,
        at + 40
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn polling_tells_what_is_ready_first() {
    let hour = 3_600_000_000_000;
    let body = format!(
        "{}{}{}
        ;; input is there: only it, and the output that never waits
        (is (call $poll_oneoff (i32.const 0) (i32.const 1024) (i32.const 2) (i32.const 4096)) (i32.const 0))
        (is (i32.load (i32.const 4096)) (i32.const 1))
        (is (i32.wrap_i64 (i64.load (i32.const 1024))) (i32.const 2))
        (is (i32.load16_u (i32.const 1032)) (i32.const 0))
        (is (i32.load8_u (i32.const 1034)) (i32.const 1))
        (is (i32.load (i32.const 1040)) (i32.const 5))
        ;; a descriptor that is none is an event with an error
        (i32.store (i32.const 64) (i32.const 77))
        (is (call $poll_oneoff (i32.const 0) (i32.const 1024) (i32.const 2) (i32.const 4096)) (i32.const 0))
        (is (i32.load16_u (i32.const 1032)) (i32.const 8))
        ;; time passes
        (is (call $poll_oneoff (i32.const 96) (i32.const 1024) (i32.const 1) (i32.const 4096)) (i32.const 0))
        (is (i32.load8_u (i32.const 1034)) (i32.const 0))
        ;; nothing to wait for, and too much
        (is (call $poll_oneoff (i32.const 0) (i32.const 1024) (i32.const 0) (i32.const 4096)) (i32.const 28))
        (is (call $poll_oneoff (i32.const 0) (i32.const 1024) (i32.const 0x7fffffff) (i32.const 4096)) (i32.const 28))",
        subscription(0, 1, 0, 1, hour),
        subscription(48, 2, 1, 0, 0),
        subscription(96, 3, 0, 1, 20_000_000),
    );
    holds(ALL, &body).await;
}

fn given(files: &[(&str, &str)]) -> Given {
    let files = files
        .iter()
        .map(|(path, content)| ((*path).to_owned(), Zeroizing::new(content.as_bytes().to_vec())))
        .collect();
    Given { files, ..Given::default() }
}

/// The path `text` at `at`.
fn path(at: u32, text: &str) -> String {
    let bytes = text.bytes().zip(at..);
    bytes.map(|(byte, at)| format!("(i32.store8 (i32.const {at}) (i32.const {byte}))")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_below_the_descriptor_after_the_configured_ones() {
    let body = format!(
        "{}{}{}{}
        (i32.store (i32.const 0) (i32.const 1000)) (i32.store (i32.const 4) (i32.const 100))
        ;; wasi-libc looks from 3 on: `nothing` is in the way and says that it has no name
        (is (call $fd_prestat_get (i32.const 3) (i32.const 64)) (i32.const 0))
        (is (i32.load (i32.const 68)) (i32.const 0))
        (is (call $fd_prestat_get (i32.const 4) (i32.const 64)) (i32.const 0))
        (is (i32.load (i32.const 68)) (i32.const 1))
        (is (call $fd_prestat_dir_name (i32.const 4) (i32.const 64) (i32.const 1)) (i32.const 0))
        (is (i32.load8_u (i32.const 64)) (i32.const 47))
        (is (call $fd_prestat_get (i32.const 5) (i32.const 64)) (i32.const 8))
        (is (call $fd_close (i32.const 4)) (i32.const 58))
        ;; what the configuration gives can be read, and not written
        (is (call $path_open (i32.const 4) (i32.const 0) (i32.const 2000) (i32.const 5) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)) (i32.const 0))
        (is (i32.load (i32.const 16)) (i32.const 5))
        (is (call $fd_read (i32.const 5) (i32.const 0) (i32.const 1) (i32.const 16)) (i32.const 0))
        (is (i32.load (i32.const 16)) (i32.const 7))
        (is (i32.load8_u (i32.const 1000)) (i32.const 99))
        (is (call $fd_write (i32.const 5) (i32.const 0) (i32.const 1) (i32.const 16)) (i32.const 8))
        (is (call $path_open (i32.const 4) (i32.const 0) (i32.const 2000) (i32.const 5) (i32.const 0) (i64.const 0x42) (i64.const 0) (i32.const 0) (i32.const 16)) (i32.const 69))
        (is (call $path_unlink_file (i32.const 4) (i32.const 2000) (i32.const 5)) (i32.const 69))
        ;; nothing leads out
        (is (call $path_open (i32.const 4) (i32.const 0) (i32.const 2100) (i32.const 13) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)) (i32.const 63))
        (is (call $path_open (i32.const 4) (i32.const 0) (i32.const 2103) (i32.const 10) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)) (i32.const 44))
        ;; memory can be written: make, write, seek, read, rename, list, remove
        (is (call $path_create_directory (i32.const 4) (i32.const 2200) (i32.const 5)) (i32.const 0))
        (is (call $path_open (i32.const 4) (i32.const 0) (i32.const 2300) (i32.const 7) (i32.const 9) (i64.const 0x42) (i64.const 0) (i32.const 0) (i32.const 16)) (i32.const 0))
        (is (i32.load (i32.const 16)) (i32.const 6))
        (is (call $fd_write (i32.const 6) (i32.const 0) (i32.const 1) (i32.const 16)) (i32.const 0))
        (is (call $fd_seek (i32.const 6) (i64.const -10) (i32.const 2) (i32.const 16)) (i32.const 0))
        (is (i32.load (i32.const 16)) (i32.const 90))
        (is (call $fd_read (i32.const 6) (i32.const 0) (i32.const 1) (i32.const 16)) (i32.const 0))
        (is (i32.load (i32.const 16)) (i32.const 10))
        (is (call $fd_seek (i32.const 6) (i64.const -1) (i32.const 0) (i32.const 16)) (i32.const 28))
        (is (call $fd_pwrite (i32.const 6) (i32.const 0) (i32.const 1) (i64.const 200) (i32.const 16)) (i32.const 0))
        (is (call $fd_filestat_get (i32.const 6) (i32.const 64)) (i32.const 0))
        (is (i32.load (i32.const 96)) (i32.const 300))
        (is (call $fd_filestat_set_size (i32.const 6) (i64.const 5)) (i32.const 0))
        (is (call $fd_allocate (i32.const 6) (i64.const 0) (i64.const 50)) (i32.const 0))
        (is (call $path_filestat_get (i32.const 4) (i32.const 0) (i32.const 2300) (i32.const 7) (i32.const 64)) (i32.const 0))
        (is (i32.load (i32.const 96)) (i32.const 50))
        (is (call $fd_sync (i32.const 6)) (i32.const 0))
        (is (call $fd_fdstat_set_flags (i32.const 6) (i32.const 1)) (i32.const 0))
        (is (call $fd_write (i32.const 6) (i32.const 0) (i32.const 1) (i32.const 16)) (i32.const 0))
        (is (call $fd_tell (i32.const 6) (i32.const 16)) (i32.const 0))
        (is (i32.load (i32.const 16)) (i32.const 150))
        (is (call $path_rename (i32.const 4) (i32.const 2300) (i32.const 7) (i32.const 4) (i32.const 2300) (i32.const 6)) (i32.const 54))
        (is (call $path_remove_directory (i32.const 4) (i32.const 2200) (i32.const 5)) (i32.const 55))
        (is (call $path_open (i32.const 4) (i32.const 0) (i32.const 2200) (i32.const 5) (i32.const 2) (i64.const 0x4000) (i64.const 0) (i32.const 0) (i32.const 16)) (i32.const 0))
        (is (i32.load (i32.const 16)) (i32.const 7))
        (is (call $fd_readdir (i32.const 7) (i32.const 4096) (i32.const 4096) (i64.const 0) (i32.const 16)) (i32.const 0))
        (is (i32.load (i32.const 16)) (i32.const 76))
        (is (call $fd_readdir (i32.const 7) (i32.const 4096) (i32.const 4096) (i64.const 2) (i32.const 16)) (i32.const 0))
        (is (i32.load (i32.const 16)) (i32.const 25))
        (is (i32.load8_u (i32.const 4120)) (i32.const 120))
        (is (call $path_unlink_file (i32.const 4) (i32.const 2300) (i32.const 7)) (i32.const 0))
        (is (call $path_symlink (i32.const 2000) (i32.const 5) (i32.const 4) (i32.const 2300) (i32.const 7)) (i32.const 58))
        (is (call $path_readlink (i32.const 4) (i32.const 2000) (i32.const 5) (i32.const 64) (i32.const 9) (i32.const 16)) (i32.const 28))",
        path(2000, "app/c"),
        path(2100, "../etc/passwd"),
        path(2200, "tmp/d"),
        path(2300, "tmp/d/x"),
    );
    let config = format!("{ALL}\n[[tmpfs]]\npath = \"/tmp\"\nsize = \"1MiB\"");
    let run = Run::of(&checks(&body)).config(&config).given(given(&[("/app/c", "content")])).finish().await;
    assert_eq!(run.ended, Ended::Exit(0));
}

/// Pointers and lengths that lead out of the memory are errors of the call.
#[tokio::test(flavor = "multi_thread")]
async fn s54_a_wild_pointer_is_an_error_of_the_call() {
    let body = "
        (is (call $fd_write (i32.const 1) (i32.const 0xfffffff0) (i32.const 1) (i32.const 16)) (i32.const 21))
        (is (call $fd_write (i32.const 1) (i32.const 0xfffffff0) (i32.const 0xffffffff) (i32.const 16)) (i32.const 28))
        (is (call $fd_write (i32.const 1) (i32.const 2) (i32.const 1) (i32.const 16)) (i32.const 28))
        (i32.store (i32.const 0) (i32.const 0xffff0000)) (i32.store (i32.const 4) (i32.const 0xffffffff))
        (is (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)) (i32.const 21))
        (is (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)) (i32.const 21))
        (is (call $args_get (i32.const 0x0fffff00) (i32.const 0)) (i32.const 21))
        (is (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 0xffff0000)) (i32.const 21))
        (is (call $path_open (i32.const 4) (i32.const 0) (i32.const 0xffffff00) (i32.const 8) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 16)) (i32.const 21))
        (is (call $path_open (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0xffffffff) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 16)) (i32.const 37))
        (is (call $poll_oneoff (i32.const 0xfffffff8) (i32.const 0) (i32.const 4) (i32.const 16)) (i32.const 21))";
    let run = Run::of(&checks(body)).config(ALL).given(given(&[("/x", "")])).input(b"x").finish().await;
    assert_eq!(run.ended, Ended::Exit(0));
}

/// An echo server in preview 1: accepts, and sends back what comes, until it is told `stop`.
fn echo() -> String {
    let body = "
        (local $fd i32)
        (loop $again
            (is (call $sock_accept (i32.const 2) (i32.const 0) (i32.const 16)) (i32.const 0))
            (local.set $fd (i32.load (i32.const 16)))
            (block $end (loop $more
                (i32.store (i32.const 0) (i32.const 1000)) (i32.store (i32.const 4) (i32.const 20000))
                (is (call $sock_recv (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 1) (i32.const 20) (i32.const 24)) (i32.const 0))
                (is (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 20)) (i32.const 0))
                (br_if $end (i32.eqz (i32.load (i32.const 20))))
                (i32.store (i32.const 4) (i32.load (i32.const 20)))
                (is (call $sock_send (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 20)) (i32.const 0))
                (br $more)))
            (is (call $sock_shutdown (local.get $fd) (i32.const 2)) (i32.const 0))
            (is (call $fd_close (local.get $fd)) (i32.const 0))
            (br_if $again (i32.ne (i32.load8_u (i32.const 1000)) (i32.const 115))))";
    checks(body)
}

pub fn net(config: &str, root: &Root) -> Net {
    let config = KeepConfig::parse(config).unwrap();
    let (sender, identity) = watch::channel(Arc::new(root.identity()));
    // As long as the test runs.
    std::mem::forget(sender);
    Net::new(&config, Default::default(), identity, clock::system()).unwrap()
}

const LISTEN: &str = r#"
[[files]]
kind = "stdout"
[[files]]
kind = "stderr"
[[files]]
kind = "listen"
prot = "PROT"
addr = "127.0.0.1"
port = 0
name = "web"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_is_tls_without_a_line_in_the_module() {
    for prot in ["tcp", "tls"] {
        let root = Root::new();
        let config = LISTEN.replace("PROT", prot);
        let (told, mut listening) = mpsc::unbounded_channel();
        let given = Given { net: Some(net(&config, &root)), listening: Some(told), ..Given::default() };
        let run = Run::of(&echo()).config(&config).given(given);
        let run = tokio::spawn(async move { run.finish().await });
        let Listening { name, address } = listening.recv().await.unwrap();
        assert_eq!(name, "web");
        for text in ["hello", "stop"] {
            let mut echoed = String::new();
            if prot == "tcp" {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(text.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
                stream.read_to_string(&mut echoed).await.unwrap();
            } else {
                let mut stream = handshake(address, root.client(&root, &[])).await.unwrap();
                stream.write_all(text.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
                stream.read_to_string(&mut echoed).await.unwrap();
            }
            assert_eq!(echoed, text, "{prot}");
        }
        let run = timeout(Duration::from_secs(20), run).await.unwrap().unwrap();
        assert_eq!(run.ended, Ended::Exit(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_waits_unless_it_is_told_not_to() {
    let root = Root::new();
    let config = LISTEN.replace("PROT", "tcp");
    let body = format!(
        "{}{}
        ;; Enarx' rights of a listener: no writing
        (is (call $fd_write (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 600)) (i32.const 8))
        (is (call $fd_filestat_get (i32.const 2) (i32.const 512)) (i32.const 0))
        (is (i32.load8_u (i32.const 528)) (i32.const 6))
        (is (call $fd_fdstat_set_flags (i32.const 2) (i32.const 4)) (i32.const 0))
        (is (call $sock_accept (i32.const 2) (i32.const 0) (i32.const 600)) (i32.const 6))
        (is (call $sock_accept (i32.const 2) (i32.const 1) (i32.const 600)) (i32.const 28))
        (is (call $fd_fdstat_set_flags (i32.const 2) (i32.const 2)) (i32.const 28))
        (is (call $sock_shutdown (i32.const 2) (i32.const 1)) (i32.const 53))
        (is (call $fd_write (i32.const 0) (i32.const 400) (i32.const 1) (i32.const 600)) (i32.const 0))
        (is (call $poll_oneoff (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 4096)) (i32.const 0))
        (is (call $sock_accept (i32.const 2) (i32.const 4) (i32.const 600)) (i32.const 0))
        (is (i32.load (i32.const 600)) (i32.const 3))
        (is (call $fd_read (i32.const 3) (i32.const 400) (i32.const 1) (i32.const 600)) (i32.const 6))
        (is (call $poll_oneoff (i32.const 48) (i32.const 1024) (i32.const 1) (i32.const 4096)) (i32.const 0))
        (is (i32.load16_u (i32.const 1048)) (i32.const 1))
        (is (call $fd_read (i32.const 3) (i32.const 400) (i32.const 1) (i32.const 600)) (i32.const 0))
        (is (i32.load (i32.const 600)) (i32.const 0))",
        subscription(0, 1, 1, 2, 0),
        subscription(48, 1, 1, 3, 0),
    );
    let body = format!(
        "(i32.store (i32.const 400) (i32.const 1000)) (i32.store (i32.const 404) (i32.const 1)) {body}"
    );
    let (told, mut listening) = mpsc::unbounded_channel();
    let given = Given { net: Some(net(&config, &root)), listening: Some(told), ..Given::default() };
    let run = Run::of(&checks(&body)).config(&config).given(given);
    let run = tokio::spawn(async move { run.finish().await });
    let address = listening.recv().await.unwrap().address;
    // Long enough that the first calls found nobody; if not, they are told 6 all the same or the check fails.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stream = TcpStream::connect(address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(stream);
    let run = timeout(Duration::from_secs(20), run).await.unwrap().unwrap();
    assert_eq!(run.ended, Ended::Exit(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_fails_keeps_the_module_from_starting() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!(
        "[[files]]\nkind = \"connect\"\nprot = \"tcp\"\nhost = \"127.0.0.1\"\nport = {}",
        closed.port()
    );
    let root = Root::new();
    let given = Given { net: Some(net(&config, &root)), ..Given::default() };
    let run = Run::of(&checks("")).config(&config).given(given).ended().await;
    assert_eq!(run.code(), Some("PEER_UNREACHABLE"), "{run}");
    let none = Run::of(&checks("")).config(&config).ended().await;
    assert_eq!(none, Ended::Failed(Failure::NoNetwork));
}

/// `wasi_unstable`: origins of seeking have other numbers, metadata another layout, clocks a number of their own.
#[tokio::test(flavor = "multi_thread")]
async fn modules_of_before_preview_1_run_too() {
    let old = |text: String| {
        let newer = "(import \"wasi_snapshot_preview1\" \"sock_accept\"";
        text.replace(newer, "(import \"later\"")
            .replace("wasi_snapshot_preview1", "wasi_unstable")
            .replace("later", "wasi_snapshot_preview1\" \"sock_accept")
    };
    let body = format!(
        "{}{}
        (is (call $path_open (i32.const 4) (i32.const 0) (i32.const 2000) (i32.const 5) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)) (i32.const 0))
        (is (call $fd_seek (i32.const 5) (i64.const -2) (i32.const 1) (i32.const 16)) (i32.const 0))
        (is (i32.load (i32.const 16)) (i32.const 5))
        (is (call $fd_seek (i32.const 5) (i64.const 1) (i32.const 0) (i32.const 16)) (i32.const 0))
        (is (i32.load (i32.const 16)) (i32.const 6))
        (is (call $fd_seek (i32.const 5) (i64.const 1) (i32.const 2) (i32.const 16)) (i32.const 0))
        (is (i32.load (i32.const 16)) (i32.const 1))
        (is (call $fd_seek (i32.const 5) (i64.const 1) (i32.const 3) (i32.const 16)) (i32.const 28))
        (is (call $fd_filestat_get (i32.const 5) (i32.const 64)) (i32.const 0))
        (is (i32.load (i32.const 88)) (i32.const 7))
        (is (call $path_filestat_get (i32.const 4) (i32.const 0) (i32.const 2000) (i32.const 5) (i32.const 64)) (i32.const 0))
        (is (i32.load (i32.const 84)) (i32.const 1))
        (is (call $fd_filestat_get (i32.const 5) (i32.const 0xfffffff0)) (i32.const 21))
        (is (call $poll_oneoff (i32.const 600) (i32.const 1024) (i32.const 1) (i32.const 4096)) (i32.const 0))
        (is (i32.load (i32.const 4096)) (i32.const 1))
        (is (call $poll_oneoff (i32.const 0xfffffff0) (i32.const 1024) (i32.const 1) (i32.const 4096)) (i32.const 21))",
        path(2000, "app/c"),
        "(i64.store (i32.const 600) (i64.const 1)) (i32.store (i32.const 624) (i32.const 1)) (i64.store (i32.const 632) (i64.const 1000000))",
    );
    let run = Run::of(&old(checks(&body))).config(ALL).given(given(&[("/app/c", "content")])).finish().await;
    assert_eq!(run.ended, Ended::Exit(0));
}
