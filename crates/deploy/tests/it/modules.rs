//! Small modules of preview 1.

const IMPORTS: &str = r#"
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $env_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $env (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open" (func $path_open
    (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_sync" (func $sync (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pread" (func $pread (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (data (i32.const 1024) "hello\n")
  (func $print (param $fd i32) (param $at i32) (param $length i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $length))
    (drop (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
"#;

fn module(start: &str) -> Vec<u8> {
    wat::parse_str(format!(r#"(module {IMPORTS} (func (export "_start") {start}))"#)).unwrap()
}

/// Prints `hello` and returns.
pub fn hello() -> Vec<u8> {
    module("(call $print (i32.const 1) (i32.const 1024) (i32.const 6))")
}

/// Prints `hello` on standard error and exits with `code`.
pub fn exits(code: u8) -> Vec<u8> {
    module(&format!(
        "(call $print (i32.const 2) (i32.const 1024) (i32.const 6)) (call $exit (i32.const {code}))"
    ))
}

/// Prints `hello`, and does what is forbidden.
pub fn traps() -> Vec<u8> {
    module("(call $print (i32.const 1) (i32.const 1024) (i32.const 6)) (unreachable)")
}

/// Prints `hello`, and never ends.
pub fn spins() -> Vec<u8> {
    module("(call $print (i32.const 1) (i32.const 1024) (i32.const 6)) (loop $again (br $again))")
}

/// Prints without end.
pub fn chatters() -> Vec<u8> {
    module("(loop $again (call $print (i32.const 1) (i32.const 1024) (i32.const 6)) (br $again))")
}

/// Copies its input to its output.
pub fn cat() -> Vec<u8> {
    module(
        r"(local $length i32)
          (loop $again
            (i32.store (i32.const 0) (i32.const 2048))
            (i32.store (i32.const 4) (i32.const 4096))
            (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then (call $exit (i32.const 9))))
            (local.set $length (i32.load (i32.const 8)))
            (if (local.get $length)
              (then (call $print (i32.const 1) (i32.const 2048) (local.get $length)) (br $again))))",
    )
}

/// Prints its arguments, each followed by a zero byte.
pub fn args() -> Vec<u8> {
    module(
        r"(drop (call $args_sizes (i32.const 16) (i32.const 20)))
          (drop (call $args (i32.const 4096) (i32.const 8192)))
          (call $print (i32.const 1) (i32.const 8192) (i32.load (i32.const 20)))",
    )
}

/// Prints its environment, each variable followed by a zero byte.
pub fn environment() -> Vec<u8> {
    module(
        r"(drop (call $env_sizes (i32.const 16) (i32.const 20)))
          (drop (call $env (i32.const 4096) (i32.const 8192)))
          (call $print (i32.const 1) (i32.const 8192) (i32.load (i32.const 20)))",
    )
}

/// Appends the first of its input to `/data/journal`, syncs it, and prints all that is there. With `after`, it goes on
/// so. Exits with 20 and more when a file cannot be had, with 10 when it cannot be synced.
pub fn journal(after: &str) -> Vec<u8> {
    let journal = r#"(local $errno i32)
          (i32.store (i32.const 0) (i32.const 2048))
          (i32.store (i32.const 4) (i32.const 1024))
          (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
          (i32.store (i32.const 4) (i32.load (i32.const 8)))
          (local.set $errno (call $path_open (i32.const 3) (i32.const 0) (i32.const 1040) (i32.const 12) (i32.const 1)
            (i64.const 0x52) (i64.const 0) (i32.const 1) (i32.const 16)))
          (if (local.get $errno) (then (call $exit (i32.add (local.get $errno) (i32.const 20)))))
          (if (call $write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)) (then (call $exit (i32.const 11))))
          (if (call $sync (i32.load (i32.const 16))) (then (call $exit (i32.const 10))))
          (i32.store (i32.const 0) (i32.const 4096))
          (i32.store (i32.const 4) (i32.const 65536))
          (drop (call $pread (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i64.const 0) (i32.const 8)))
          (call $print (i32.const 1) (i32.const 4096) (i32.load (i32.const 8)))"#;
    wat::parse_str(format!(
        r#"(module {IMPORTS} (data (i32.const 1040) "data/journal") (func (export "_start") {journal} {after}))"#
    ))
    .unwrap()
}

/// Never reads its input, and never ends.
pub const FOREVER: &str = "(loop $again (br $again))";

/// Appends half a mebibyte to `/data/journal` and syncs it; exits with 10 when that fails.
pub fn fills() -> Vec<u8> {
    let fills = r#"(local $left i32)
          (if (call $path_open (i32.const 3) (i32.const 0) (i32.const 1040) (i32.const 12) (i32.const 1)
              (i64.const 0x52) (i64.const 0) (i32.const 1) (i32.const 16))
            (then (call $exit (i32.const 20))))
          (i32.store (i32.const 0) (i32.const 65536))
          (i32.store (i32.const 4) (i32.const 65536))
          (local.set $left (i32.const 8))
          (loop $again
            (drop (call $write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))
            (local.set $left (i32.sub (local.get $left) (i32.const 1)))
            (br_if $again (local.get $left)))
          (if (call $sync (i32.load (i32.const 16))) (then (call $exit (i32.const 10))))"#;
    wat::parse_str(format!(
        r#"(module {IMPORTS} (data (i32.const 1040) "data/journal") (func (export "_start") {fills}))"#
    ))
    .unwrap()
}
