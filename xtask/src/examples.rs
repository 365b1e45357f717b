//! The example workloads of `examples/languages`, one folder per language, built into `target/examples/<name>.wasm`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{
    build::guest_target,
    languages::{self, Tools},
    shell::{cargo, root, run, step},
};

struct Example {
    /// Of the component or module.
    name: &'static str,
    /// Its folder below `examples/languages`.
    folder: &'static str,
    tools: Tools,
    /// From its folder to the file.
    build: fn(&Path, &Path) -> Result<()>,
}

const EXAMPLES: [Example; 8] = [
    Example { name: "rust-kv", folder: "rust", tools: Tools::Cargo, build: rust },
    Example { name: "rust-hook", folder: "rust", tools: Tools::Cargo, build: rust },
    Example { name: "c-echo", folder: "c", tools: Tools::Python, build: c },
    Example { name: "cpp-statistics", folder: "cpp", tools: Tools::Python, build: cpp },
    Example { name: "zig-checksums", folder: "zig", tools: Tools::Python, build: zig },
    Example { name: "go-totals", folder: "go", tools: Tools::Go, build: go },
    Example { name: "python-invoice", folder: "python", tools: Tools::Python, build: python },
    Example { name: "javascript-patch", folder: "javascript", tools: Tools::Node, build: javascript },
];

/// Builds those whose name contains `only`. What cannot be built for want of a compiler is said, and is no failure; its
/// file is then not there.
pub fn build(only: Option<&str>) -> Result<()> {
    let wanted = EXAMPLES.iter().filter(|example| only.is_none_or(|only| example.name.contains(only)));
    let wanted: Vec<_> = wanted.collect();
    if wanted.is_empty() {
        bail!("no example has {:?} in its name", only.unwrap_or_default());
    }
    // Each language has its own compiler and they use one processor each; cargo builds both of Rust's.
    let mut folders: Vec<&str> = wanted.iter().map(|example| example.folder).collect();
    folders.dedup();
    let wanted = &wanted;
    thread::scope(|scope| {
        let of = |folder| wanted.iter().filter(move |example| example.folder == folder);
        let threads: Vec<_> = folders
            .into_iter()
            .map(|folder| scope.spawn(move || of(folder).try_for_each(|example| example.make())))
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("building an example does not panic"))
    })
}

impl Example {
    fn make(&self) -> Result<()> {
        let source = root().join("examples/languages").join(self.folder);
        let place = root().join("target/examples");
        fs::create_dir_all(&place)?;
        let file = place.join(self.name).with_extension("wasm");
        let stamp = place.join(self.name).with_extension("stamp");
        if !self.tools.ready() {
            let _ = fs::remove_file(&file);
            eprintln!("NOT RUN: the example {} is not built.\n  mend: {}", self.name, self.tools.mend());
            return Ok(());
        }
        let digest = self.digest(&source)?;
        if file.is_file() && fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == digest) {
            return Ok(());
        }
        step(&format!("building the example {}", self.name));
        let _ = fs::remove_file(&stamp);
        let _ = fs::remove_file(&file);
        (self.build)(&source, &file)?;
        fs::write(stamp, digest)?;
        Ok(())
    }

    /// Of everything that the file is made of.
    fn digest(&self, source: &Path) -> Result<String> {
        let tools = source.with_file_name("tools");
        let mut folders = vec![source.to_owned(), source.with_file_name("wit"), tools];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).with_context(|| format!("{} is missing", folder.display()))? {
                let path = entry?.path();
                match path.is_dir() {
                    true if path.ends_with("target") => {}
                    true => folders.push(path),
                    false => files.push(path),
                }
            }
        }
        files.sort();
        let mut digest = Sha256::new();
        for path in files {
            let bytes = fs::read(&path)?;
            digest.update(format!("{} {}\n", path.display(), bytes.len()));
            digest.update(bytes);
        }
        Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Cargo builds both of the folder; the one that is asked for is taken.
fn rust(source: &Path, file: &Path) -> Result<()> {
    const TARGET: &str = "wasm32-wasip2";
    guest_target(TARGET)?;
    let target = root().join("target/examples/rust");
    let mut command = cargo();
    command.current_dir(source).args(["build", "--release", "--locked", "--quiet", "--target", TARGET]);
    run(command.arg("--target-dir").arg(&target))?;
    fs::copy(target.join(TARGET).join("release").join(file.file_name().unwrap_or_default()), file)?;
    Ok(())
}

fn c(source: &Path, file: &Path) -> Result<()> {
    let flags = ["cc", "--target=wasm32-wasi", "-O2", "-s", "-Wall", "-Wextra", "-Werror"];
    run(compiler().args(flags).arg(source.join("echo.c")).arg("-o").arg(file))
}

fn cpp(source: &Path, file: &Path) -> Result<()> {
    let flags = ["c++", "--target=wasm32-wasi", "-std=c++20", "-O2", "-s", "-fno-exceptions"];
    let warnings = ["-Wall", "-Wextra", "-Werror"];
    run(compiler().args(flags).args(warnings).arg(source.join("statistics.cpp")).arg("-o").arg(file))
}

fn zig(source: &Path, file: &Path) -> Result<()> {
    let flags = ["build-exe", "-target", "wasm32-wasi", "-O", "ReleaseSafe", "-fstrip"];
    let out = format!("-femit-bin={}", file.display());
    run(compiler().args(flags).arg(out).arg(source.join("checksums.zig")))
}

/// Zig, which is the compiler for C and C++ as well. What it makes of its libraries is kept below `target/tools`.
fn compiler() -> Command {
    let mut command = Command::new(Tools::Python.folder().join("ziglang/zig"));
    let cache = root().join("target/tools/zig-cache");
    command.env("ZIG_GLOBAL_CACHE_DIR", &cache).env("ZIG_LOCAL_CACHE_DIR", cache);
    command
}

fn go(source: &Path, file: &Path) -> Result<()> {
    let (program, library) = languages::go().context("there is no Go here")?;
    let mut command = Command::new(program);
    if let Some(library) = library {
        command.env("GOROOT", library);
    }
    let cache = root().join("target/tools/go-cache");
    let settings = [("GOOS", "wasip1"), ("GOARCH", "wasm"), ("GOTOOLCHAIN", "local"), ("GOENV", "off")];
    command.envs(settings).envs([("GOPROXY", "off"), ("GOFLAGS", "")]);
    command.env("GOCACHE", cache.join("build")).env("GOPATH", cache.join("path"));
    let flags = ["build", "-trimpath", "-ldflags=-s -w", "-o"];
    run(command.current_dir(source).args(flags).arg(file).arg("."))
}

fn python(source: &Path, file: &Path) -> Result<()> {
    let tools = Tools::Python.folder();
    let mut command = Command::new("python3");
    command.arg(tools.join("bin/componentize-py")).env("PYTHONPATH", &tools);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.args(["--quiet", "-w", "service", "-d"]).arg(source.with_file_name("wit"));
    run(command.args(["componentize", "-p"]).arg(source).arg("app").arg("-o").arg(file))
}

fn javascript(source: &Path, file: &Path) -> Result<()> {
    let modules: PathBuf = Tools::Node.folder().join("node_modules/@bytecodealliance");
    let program = modules.join("componentize-js/src/cli.js");
    let wit = source.with_file_name("wit");
    let mut command = Command::new("node");
    command.arg(program).arg("--wit").arg(wit).args(["--world-name", "service", "--out"]).arg(file);
    run(command.arg(source.join("patch.js")))
}
