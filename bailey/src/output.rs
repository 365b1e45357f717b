//! Standard output, for people and pipes: when nobody reads any more, we end quietly as other tools do.

use std::{fmt::Arguments, io::Write};

/// The exit code of a program whose reader went away: 128 + SIGPIPE.
const NOBODY_READS: i32 = 141;

/// Writes to standard output.
pub fn write(text: Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    if out.write_fmt(text).and_then(|()| out.flush()).is_err() {
        std::process::exit(NOBODY_READS);
    }
}

/// As `println!`, but without a panic when nobody reads.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { $crate::output::write(format_args!("{}\n", format_args!($($text)*))) };
}
