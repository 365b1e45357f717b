//! The project's automation: everything that a person or CI runs beside cargo itself.

mod bench;
mod build;
mod ci;
mod corpus;
mod direction;
mod examples;
mod fuzz;
mod guest;
mod languages;
mod shell;
mod skopeo;
#[cfg(test)]
mod specification;
mod sql_clients;
mod trixie;
mod vm;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Automation of the Bailey project", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Bench {
    Verify,
    Coordinator,
    Broker,
    Deploy,
    Keep,
    Database,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything and run the whole story on emulated TEEs; leaves the mesh running until Ctrl-C
    Demo {
        /// Make every check, stop everything, and fail if one fails
        #[arg(long)]
        check: bool,
        /// Keep logs, keys and the screenshot here instead of in a temporary directory
        #[arg(long, value_name = "DIR")]
        keep: Option<std::path::PathBuf>,
    },
    /// Run all tests
    Test,
    /// Install what tests start, as far as that needs nobody's permission; `test` does it too
    Tools,
    /// Build the example workloads of all languages into target/examples
    Examples {
        /// Only those whose name contains this
        name: Option<String>,
    },
    /// Run the tests that take long: losing replicas and members of etcd again and again (BAILEY_SOAK_ROUNDS, 10)
    Soak,
    /// All that CI checks: formatting, lints, licences, dependency direction, wasm builds, tests, fuzzing
    Ci,
    /// Check that dependencies between crates point inward
    Direction,
    /// Run every fuzz target for a short time
    Fuzz {
        /// Seconds for each target
        #[arg(long, default_value_t = 5)]
        seconds: u32,
        /// Only targets whose name contains this
        target: Option<String>,
    },
    /// Print a table of a corpus: sample, expected, got; fail when they differ
    Corpus {
        /// A folder with an index.tsv; without one, that of the appraisal crate's tests
        folder: Option<std::path::PathBuf>,
    },
    /// Build the verifier into the page of docs/verify, which then works offline
    Page,
    /// Build bailey-guest as one small static file, check that it is, and print its size and digest
    Guest,
    /// Run the benchmarks (release build) and print medians and ratios
    Bench {
        /// Only verification, beside the verifiers that are the best known: needs no build of the product
        which: Option<Bench>,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Demo { check, keep } => build::demo(check, keep.as_deref()),
        Command::Test => build::test(),
        Command::Tools => {
            build::installed();
            Ok(())
        }
        Command::Examples { name } => examples::build(name.as_deref()),
        Command::Soak => build::soak(),
        Command::Ci => ci::all(),
        Command::Direction => direction::check(),
        Command::Fuzz { seconds, target } => fuzz::run(seconds, target.as_deref()),
        Command::Corpus { folder } => corpus::table(folder.as_deref()),
        Command::Page => build::page(),
        Command::Guest => guest::build().map(drop),
        Command::Bench { which: None } => build::bench(),
        Command::Bench { which: Some(Bench::Verify) } => bench::verify(),
        Command::Bench { which: Some(Bench::Coordinator) } => bench::coordinator(),
        Command::Bench { which: Some(Bench::Broker) } => bench::broker(),
        Command::Bench { which: Some(Bench::Deploy) } => bench::deploy(),
        Command::Bench { which: Some(Bench::Keep) } => bench::keep(),
        Command::Bench { which: Some(Bench::Database) } => bench::database(),
    }
}
