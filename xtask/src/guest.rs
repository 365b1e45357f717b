//! `cargo xtask guest`: the program for guests, as one static file, and proof that it is one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::{
    build::guest_target,
    shell::{available, cargo, root, run, step},
};

const MUSL: &str = "x86_64-unknown-linux-musl";
const GNU: &str = "x86_64-unknown-linux-gnu";

/// Builds `bailey-guest` for musl, or where that cannot be had for glibc, statically; prints where it is, its size and
/// its digest.
pub fn build() -> Result<PathBuf> {
    step("building the program for guests, static");
    let target = match available("musl-gcc").then(|| guest_target(MUSL)) {
        Some(Ok(())) => MUSL,
        _ => {
            eprintln!(
                "without musl (rustup target add {MUSL}; apt-get install musl-tools) it is linked with glibc, whose \
                 resolver needs the guest's own libraries for names other than localhost"
            );
            GNU
        }
    };
    let arguments =
        ["build", "--locked", "--package", "guest", "--bin", "bailey-guest", "--profile", "guest"];
    // For this target only: a program that cargo builds to run here keeps its own flags.
    let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", target.to_uppercase().replace('-', "_"));
    run(cargo().args(arguments).args(["--target", target]).env(flags, "-C target-feature=+crt-static"))?;
    let path = root().join("target").join(target).join("guest/bailey-guest");
    let program = read(&path)?;
    let parts = dynamic_parts(&program)?;
    ensure!(parts.is_empty(), "{} is not static: {}", path.display(), parts.join(", "));
    let digest: String = Sha256::digest(&program).iter().map(|byte| format!("{byte:02x}")).collect();
    eprintln!("{}\n{} bytes, static\nsha256 {digest}", path.display(), program.len());
    Ok(path)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// What of a 64-bit little-endian ELF program is not in it: an interpreter, or libraries (System V ABI, chapter 5:
/// `PT_INTERP` of the program headers, `DT_NEEDED` of the dynamic section).
fn dynamic_parts(program: &[u8]) -> Result<Vec<&'static str>> {
    const INTERPRETER: u64 = 3;
    const DYNAMIC: u64 = 2;
    const NEEDED: u64 = 1;
    if !program.starts_with(b"\x7fELF\x02\x01") {
        bail!("it is no 64-bit ELF program");
    }
    let number = |at: usize, length: usize| {
        let bytes = program.get(at..at.saturating_add(length)).context("the program is cut off")?;
        Ok::<u64, anyhow::Error>(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let headers = usize::try_from(number(32, 8)?)?;
    let (length, count) = (usize::try_from(number(54, 2)?)?, usize::try_from(number(56, 2)?)?);
    let mut parts = Vec::new();
    for header in (0..count).map(|index| headers.saturating_add(index * length)) {
        match number(header, 4)? {
            INTERPRETER => parts.push("it has an interpreter"),
            DYNAMIC => {
                let (start, size) =
                    (usize::try_from(number(header + 8, 8)?)?, usize::try_from(number(header + 32, 8)?)?);
                for entry in (0..size / 16).map(|index| start.saturating_add(index * 16)) {
                    if number(entry, 8)? == NEEDED {
                        parts.push("it needs a library");
                    }
                }
            }
            _ => {}
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_program_with_an_interpreter_or_libraries_is_not_static() {
        let this = read(&std::env::current_exe().expect("this test")).expect("a program");
        let parts = dynamic_parts(&this).expect("a program");
        assert!(
            parts.contains(&"it has an interpreter") && parts.contains(&"it needs a library"),
            "{parts:?}"
        );
        assert!(dynamic_parts(b"#!/bin/sh").is_err());
        assert!(dynamic_parts(&this[..60]).is_err());

        let compiler =
            ["musl-gcc", "cc"].into_iter().find(|compiler| available(compiler)).expect("a compiler");
        let folder = root().join("target");
        let (source, program) = (folder.join("static.c"), folder.join("static-program"));
        fs::write(&source, "int main(void) { return 0; }").expect("written");
        run(Command::new(compiler).arg("-static").arg("-o").arg(&program).arg(&source)).expect("compiled");
        assert_eq!(
            dynamic_parts(&read(&program).expect("a program")).expect("a program"),
            Vec::<&str>::new()
        );
    }
}
