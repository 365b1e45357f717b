//! Compilers that make WebAssembly of other languages than Rust, below `target/tools`: from PyPI and npm in the versions
//! (and with the digests) that `examples/languages/tools` states, and Go from Debian 13. Nothing of the system changes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result};

use crate::{
    shell::{available, root, run, step},
    trixie,
};

const GO_PACKAGES: [&str; 2] = ["golang-1.24-go", "golang-1.24-src"];
/// The first Go with `GOOS=wasip1`.
const GO_AT_LEAST: (u32, u32) = (1, 21);

/// Where a compiler comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tools {
    /// Rust's own toolchain.
    Cargo,
    /// PyPI: ziglang (C, C++, Zig) and componentize-py.
    Python,
    /// npm: componentize-js.
    Node,
    /// Debian 13, or this machine's.
    Go,
}

impl Tools {
    const INSTALLED: [Self; 3] = [Self::Python, Self::Node, Self::Go];

    /// Where they are.
    pub fn folder(self) -> PathBuf {
        root().join("target/tools").join(self.name())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Cargo => "cargo",
            Self::Python => "python",
            Self::Node => "node",
            Self::Go => "go",
        }
    }

    /// Whether they can be used.
    pub fn ready(self) -> bool {
        match self {
            Self::Cargo => true,
            Self::Go => go().is_some(),
            Self::Python | Self::Node => {
                fs::read_to_string(self.stamp()).is_ok_and(|stamp| stamp == self.wanted().unwrap_or_default())
            }
        }
    }

    /// What a person can do when they cannot be had.
    pub fn mend(self) -> &'static str {
        match self {
            Self::Cargo => "rustup target add wasm32-wasip1 wasm32-wasip2",
            Self::Python => "python3 with pip, and PyPI within reach, then `cargo xtask tools`",
            Self::Node => "node and npm, and npm's registry within reach, then `cargo xtask tools`",
            Self::Go => "Go 1.21 or later in PATH; on Debian `cargo xtask tools` gets one by itself",
        }
    }

    fn stamp(self) -> PathBuf {
        self.folder().join("installed")
    }

    /// What says which versions are wanted.
    fn wanted(self) -> Result<String> {
        let file = match self {
            Self::Cargo => return Ok(String::new()),
            Self::Python => "requirements.txt",
            Self::Node => "package-lock.json",
            Self::Go => return Ok(GO_PACKAGES.join(" ")),
        };
        let path = wanted().join(file);
        fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))
    }

    fn possible(self) -> bool {
        match self {
            Self::Cargo => false,
            Self::Python => available("python3"),
            Self::Node => available("npm"),
            Self::Go => trixie::possible(),
        }
    }

    /// Installs aside and then moves, so that a failure leaves nothing half done.
    fn install(self) -> Result<()> {
        let folder = self.folder();
        let making = folder.with_extension("new");
        let _ = fs::remove_dir_all(&making);
        fs::create_dir_all(&making)?;
        match self {
            Self::Cargo => {}
            Self::Python => pip(&making)?,
            Self::Node => npm(&making)?,
            Self::Go => trixie::unpack(&making, &GO_PACKAGES)?,
        }
        fs::write(making.join("installed"), self.wanted()?)?;
        let _ = fs::remove_dir_all(&folder);
        fs::rename(making, folder)?;
        Ok(())
    }
}

/// Sees to it that the compilers are there, where that needs nobody's permission. Quick when they are.
pub fn provide() {
    let missing = Tools::INSTALLED.into_iter().filter(|tools| !tools.ready() && tools.possible());
    let missing: Vec<Tools> = missing.collect();
    if missing.is_empty() {
        return;
    }
    step("installing compilers for the examples below target/tools");
    thread::scope(|scope| {
        for tools in missing {
            scope.spawn(move || {
                if let Err(error) = tools.install() {
                    eprintln!("the tools of {} could not be installed: {error:#}", tools.name());
                }
            });
        }
    });
}

/// Go's program and where its library is, when there is one that knows WASI.
pub fn go() -> Option<(PathBuf, Option<PathBuf>)> {
    let ours = Tools::Go.folder().join("root/usr/lib/go-1.24");
    if ours.join("bin/go").is_file() {
        return Some((ours.join("bin/go"), Some(ours)));
    }
    let output = Command::new("go").args(["env", "GOVERSION"]).stderr(Stdio::null()).output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    let mut numbers = version.trim().strip_prefix("go")?.split('.').map(|part| part.parse::<u32>().ok());
    let found = (numbers.next()??, numbers.next()??);
    (found >= GO_AT_LEAST).then(|| (PathBuf::from("go"), None))
}

fn wanted() -> PathBuf {
    root().join("examples/languages/tools")
}

fn pip(folder: &Path) -> Result<()> {
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    command.args(["--only-binary", ":all:", "--no-compile", "--root-user-action", "ignore", "--target"]);
    run(command.arg(folder).args(["--require-hashes", "-r"]).arg(wanted().join("requirements.txt")))
}

fn npm(folder: &Path) -> Result<()> {
    for file in ["package.json", "package-lock.json"] {
        fs::copy(wanted().join(file), folder.join(file))?;
    }
    let quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"];
    // Not `npm ci`: it refuses the lock file for want of other systems' optional packages, which are not installed here.
    // What is installed has the versions and digests of the lock file.
    run(Command::new("npm").arg("install").args(quiet).current_dir(folder))
}
