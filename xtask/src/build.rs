//! What has to be built, in which order, for demo, tests and benchmarks.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    examples, languages,
    shell::{available, cargo, root, run, step},
    sql_clients::JDBC,
};

/// The target of the example workloads.
const GUEST_TARGET: &str = "wasm32-wasip2";

/// The target of the verifier in the page.
const PAGE_TARGET: &str = "wasm32-unknown-unknown";

/// Debian packages that the browser test drives a real browser with.
const BROWSER_PACKAGES: [&str; 3] = ["chromium", "chromium-driver", "libnss3-tools"];

/// Every program, freshly built.
pub fn programs() -> Result<()> {
    step("building the programs");
    run(cargo().args(["build", "--workspace", "--bins", "--locked"]))
}

/// The example workloads, WebAssembly components.
pub fn guests() -> Result<()> {
    step("building the example workloads");
    guest_target(GUEST_TARGET)?;
    let folder = root().join("examples/poll");
    run(cargo().current_dir(folder).args(["build", "--release", "--locked", "--target", GUEST_TARGET]))
}

/// Adds a target to the toolchain where rustup manages it and it is not there yet.
pub fn guest_target(target: &str) -> Result<()> {
    if available("rustup") {
        let listed = Command::new("rustup").args(["target", "list", "--installed"]).output()?;
        if !String::from_utf8_lossy(&listed.stdout).lines().any(|line| line == target) {
            run(Command::new("rustup").args(["target", "add", target]))
                .with_context(|| format!("the toolchain has no {target} target; install it and try again"))?;
        }
    }
    Ok(())
}

/// `cargo xtask demo`.
pub fn demo(check: bool, keep: Option<&Path>) -> Result<()> {
    programs()?;
    guests()?;
    let mut demo = Command::new(root().join("target/debug/bailey-demo"));
    demo.arg(root().join("examples/poll"));
    if check {
        demo.arg("--check");
    }
    if let Some(folder) = keep {
        demo.arg("--keep").arg(folder);
    }
    run(&mut demo)
}

/// Programs that tests start, with the Debian package of each and what is not tested without it.
const TESTED_WITH: [(&str, &str, &str); 8] = [
    ("etcd", ETCD_PACKAGE, "scale-out"),
    ("swtpm", "swtpm", "a TPM as anchor"),
    ("softhsm2-util", "softhsm2", "keys and secrets in PKCS #11 tokens"),
    ("skopeo", "skopeo", "encrypted container images"),
    ("umoci", "umoci", "encrypted container images"),
    ("qemu-system-x86_64", "qemu-system-x86 ovmf", "virtual machines"),
    ("docker-registry", "docker-registry", "packages in a registry"),
    // Debian has the server's own programs outside of the path.
    ("pg_ctlcluster", "postgresql", "the confidential database"),
];
const ETCD_PACKAGE: &str = "etcd-server";

/// `cargo xtask soak`: the tests that take long, and say what they saw.
pub fn soak() -> Result<()> {
    installed();
    step("programs that call the Keep with nonsense, others each time");
    run(cargo().args(["test", "--locked", "-p", "keep", "--", "s54_"]))?;
    step("a database and its replicas are killed and cut off again and again, under load");
    let test =
        ["test", "--locked", "-p", "database", "--test", "it", "--", "soak_", "--ignored", "--nocapture"];
    run(cargo().args(test))?;
    step("Keeps in virtual machines: for a client, and of Marbles; they outlive their host agent");
    programs()?;
    run(cargo().args(["test", "--locked", "-p", "bailey", "--test", "it", "--", "soak_", "--ignored"]))?;
    if !available("etcd") {
        bail!("there is no etcd here\n  mend: sudo apt-get install {ETCD_PACKAGE}");
    }
    step("replicas and members of etcd are lost again and again, under load");
    let test =
        ["test", "--locked", "-p", "coordinator", "--test", "it", "--", "soak_", "--ignored", "--nocapture"];
    run(cargo().args(test).env("BAILEY_REQUIRE_ETCD", "1"))
}

/// Installs what tests start, where that needs nobody's permission.
pub fn installed() {
    packages();
    for provided in [crate::skopeo::provide(), crate::vm::provide()] {
        if let Err(error) = provided {
            eprintln!("{error:#}");
        }
    }
    languages::provide();
    crate::sql_clients::provide();
}

fn packages() {
    let missing: Vec<_> = TESTED_WITH
        .iter()
        .filter(|(program, ..)| !available(program))
        .flat_map(|(_, packages, _)| packages.split(' '))
        .chain((!Path::new(JDBC.0).exists()).then_some(JDBC.1))
        .collect();
    if missing.is_empty() || !available("apt-get") || !is_root() {
        return;
    }
    step("installing what the tests start");
    let install = "apt-get update -qq && apt-get install -y -qq --no-install-recommends \"$@\" >/dev/null";
    if let Err(error) = run(Command::new("sh").args(["-c", install, "sh"]).args(missing)) {
        eprintln!("{error:#}");
    }
}

/// `cargo xtask test`.
pub fn test() -> Result<()> {
    browser();
    installed();
    programs()?;
    guests()?;
    examples::build(None)?;
    page()?;
    step("running the tests");
    // Property tests draw the same each time: what fails was broken by a change. `cargo test` and `soak` draw anew.
    run(cargo().args(["test", "--workspace", "--locked"]).env("PROPTEST_RNG_SEED", "1"))?;
    for (_, package, what) in TESTED_WITH.iter().filter(|(program, ..)| !available(program)) {
        eprintln!("\nNOT RUN: the tests of {what}.\n  mend: sudo apt-get install {package}");
    }
    if !crate::vm::ready() {
        eprintln!("\nNOT RUN: the tests of virtual machines.\n  mend: cargo xtask tools, on Debian 12 or 13");
    }
    if !crate::skopeo::ready() {
        eprintln!("\nNOT RUN: the tests of encrypted container images.\n  mend: a skopeo of 1.10 or later");
    }
    if !available("chromedriver") {
        eprintln!(
            "\nNOT RUN: the browser test, because chromedriver is not installed.\n  mend: sudo apt-get install {}",
            BROWSER_PACKAGES.join(" ")
        );
    }
    Ok(())
}

/// Installs a browser where that needs nobody's permission.
fn browser() {
    if available("chromedriver") && available("certutil") || !available("apt-get") || !is_root() {
        return;
    }
    step("installing a browser for the browser test");
    let install = "apt-get update -qq && apt-get install -y -qq --no-install-recommends \"$@\" >/dev/null";
    let result = run(Command::new("sh").args(["-c", install, "sh"]).args(BROWSER_PACKAGES));
    if let Err(error) = result {
        eprintln!("the browser could not be installed: {error:#}");
    }
}

pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// `cargo xtask page`: the verifier as WebAssembly, inside a script, so that the page works from a file.
pub fn page() -> Result<()> {
    step("building the verifier for the page in docs/verify");
    guest_target(PAGE_TARGET)?;
    let package = ["-p", "verify-page", "--target", PAGE_TARGET];
    run(cargo().args(["build", "--profile", "page", "--locked"]).args(package))?;
    let module = root().join("target").join(PAGE_TARGET).join("page/verify_page.wasm");
    let bytes = fs::read(&module).with_context(|| format!("{} cannot be read", module.display()))?;
    let script = format!("globalThis.BAILEY_VERIFIER = \"{}\";\n", STANDARD.encode(&bytes));
    let path = root().join("docs/verify/verify.wasm.js");
    fs::write(&path, script).with_context(|| format!("{} cannot be written", path.display()))?;
    eprintln!("{} bytes; open {}", bytes.len(), root().join("docs/verify/index.html").display());
    Ok(())
}

/// `cargo xtask bench`.
pub fn bench() -> Result<()> {
    guests()?;
    step("building for release and running the benchmarks");
    run(cargo().args(["build", "--release", "--locked", "--workspace", "--bins"]))?;
    let benches = ["--bench", "appraisal", "--bench", "keep", "--bench", "mesh"];
    run(cargo().args(["bench", "--locked", "--workspace"]).args(benches))
}
