//! Modules of preview 1 that copy their input to their output, changed or not.

use crate::calls;

/// From descriptor `from` to descriptor `to`, until the end of the input. `change` may alter the `$end` bytes at 1024;
/// `before` and `after` come first and last. Any error of a call is exit code 1.
pub fn copying(from: &str, to: &str, before: &str, change: &str, after: &str) -> String {
    calls::module(&format!(
        "(func $must (param i32) (if (local.get 0) (then (call $proc_exit (i32.const 1)))))
         (func $put (param $fd i32) (param $at i32) (param $end i32)
             (i32.store (i32.const 0) (local.get $at)) (i32.store (i32.const 4) (local.get $end))
             (loop $rest
                 (call $must (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
                 (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.load (i32.const 8))))
                 (i32.store (i32.const 4) (i32.sub (i32.load (i32.const 4)) (i32.load (i32.const 8))))
                 (br_if $rest (i32.load (i32.const 4)))))
         (func (export \"_start\") (local $fd i32) (local $end i32) (local $at i32) (local $c i32)
             {before}
             (loop $more
                 (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 32768))
                 (call $must (call $fd_read {from} (i32.const 0) (i32.const 1) (i32.const 8)))
                 (local.set $end (i32.load (i32.const 8)))
                 (if (local.get $end) (then
                     {change}
                     (call $put {to} (i32.const 1024) (local.get $end))
                     (br $more))))
             {after})"
    ))
}

/// Standard input to standard output.
pub fn echo() -> String {
    copying("(i32.const 0)", "(i32.const 1)", "", "", "")
}
