//! One workload in a Keep of a host that nobody trusts, without a mesh: verified, sent, run once; and not sent where the
//! policy refuses the Keep.

use std::{fs, time::Instant};

use anyhow::{Context, Result, bail, ensure};
use appraisal::Policy;
use bailey::{
    commands::deploy::launch_configuration,
    up::{Lone, Up},
};
use deploy::{DeployError, Deployment, Ran, Silent, Streams, Wanted};
use keep_protocol::keep::Outcome;

/// Prints a line, and exits with 3.
const WORKLOAD: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 16) "hello from a Keep\n")
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 16))
        (i32.store (i32.const 4) (i32.const 18))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (call $exit (i32.const 3))))"#;

/// A host with Keeps for whoever comes, on the machine of `up`.
pub async fn host(up: &Up) -> Result<Lone> {
    let folder = up.machine.folder().join("direct");
    fs::create_dir(&folder).context("a folder for another host agent cannot be made")?;
    Lone::start(&folder, Some(&up.machine.folder().join("platform")), up.machine.programs()).await
}

/// It prints here, and its exit code is here.
pub async fn works(host: &Result<Lone>) -> Result<String> {
    let host = there(host)?;
    let wanted = host.wanted(&launch_configuration())?;
    let begun = Instant::now();
    let (ran, printed) = deployed(host, &wanted).await?;
    let took = begun.elapsed();
    let ran = ran.map_err(|error| anyhow::anyhow!("{error}: {}", error.codes().join(", ")))?;
    ensure!(ran.outcome == Outcome::Exit { code: 3 }, "it ended otherwise: {:?}", ran.outcome);
    ensure!(printed == "hello from a Keep\n", "it printed {printed:?}");
    Ok(format!(
        "a module ran in a Keep that was verified from here: its output and exit code 3 in {} ms",
        took.as_millis()
    ))
}

/// The policy for production takes no emulated Keep, so nothing is sent.
pub async fn refused(host: &Result<Lone>) -> Result<String> {
    let host = there(host)?;
    let wanted = Wanted { policy: Policy::production(), ..host.wanted(&launch_configuration())? };
    // The host has nothing else, and says so; a host that lies about it is found out by its Evidence.
    let (ran, printed) = deployed(host, &wanted).await?;
    let error = match ran {
        Err(error @ (DeployError::NoSuchTee { .. } | DeployError::Keep(_))) => error,
        Err(error) => bail!("refused for another reason: {error}"),
        Ok(_) => bail!("an emulated Keep was taken under the policy for production"),
    };
    ensure!(printed.is_empty(), "something ran: {printed}");
    Ok(format!("under the policy for production the same host gets nothing: {}", error.codes().join(", ")))
}

fn there(host: &Result<Lone>) -> Result<&Lone> {
    host.as_ref().map_err(|error| anyhow::anyhow!("there is no host: {error:#}"))
}

async fn deployed(host: &Lone, wanted: &Wanted) -> Result<(Result<Ran, DeployError>, String)> {
    let deployment = Deployment { workload: wat::parse_str(WORKLOAD)?.into(), ..Deployment::default() };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let stdin = Box::new(tokio::io::empty());
    let streams = Streams { stdin, stdout: &mut stdout, stderr: &mut stderr };
    let never = std::future::pending();
    let ran = deploy::deploy(&host.host()?, wanted, &deployment, streams, &mut Silent, never).await;
    Ok((ran, String::from_utf8(stdout)?))
}
