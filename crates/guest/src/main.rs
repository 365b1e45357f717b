//! `bailey-guest`: attests the guest that it runs in to a key broker, and gets what it grants.

use std::process::ExitCode;

use clap::Parser;
use guest::{arguments::Arguments, commands};
use rustix::process::{DumpableBehavior, Resource, Rlimit};

fn main() -> ExitCode {
    // Before anything else opens descriptors: the platform's channel is known by its number.
    let detected = attester::detect();
    if let Err(error) = harden() {
        eprintln!("error: core dumps cannot be forbidden\n  cause: {error}");
        return ExitCode::FAILURE;
    }
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no event loop could be had\n  cause: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(commands::run(arguments.command, detected)) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprint!("{}", failure.render());
            ExitCode::from(failure.exit_code())
        }
    }
}

/// No core dump ever holds a secret, and no other process of the same user looks into this one.
fn harden() -> rustix::io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
}
