//! What a mesh costs on this machine, with the real programs as processes: a Keep from launch to serving with
//! its compiled component in the sealed cache, a request through two Keeps, and an idle Keep's memory. Prints
//! medians, and the ratio to a yardstick measured in the same run.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bailey::up::{Deployment, Keep, KeepOutcome, KeepPlan, Observer, Programs, Up};
use host::Restart;
use hyper::Method;

const LAUNCHES: usize = 9;
const REQUESTS: usize = 300;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure())
}

struct Silent;

impl Observer for Silent {
    fn begins(&mut self, _: &str) {}
    fn done(&mut self, _: &str, _: &str) {}
}

async fn measure() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let this = std::env::current_exe()?;
    let programs = this.ancestors().nth(2).context("benches are in target/release/deps")?.to_owned();
    let deployment = Deployment::load(&root.join("examples/poll")).map_err(|failure| failure.error)?;
    let folder = tempfile::tempdir()?;
    let up = Up::start(&deployment, folder.path(), Programs::in_folder(programs), &mut Silent)
        .await
        .map_err(|failure| failure.error)?;

    let program = up.machine.programs().path("bailey-keep")?;
    let spawn = median(LAUNCHES, || spawned(&program))?;
    let mut launches = Vec::new();
    launched(&up, &deployment).await.context("the launch that fills the cache")?;
    for _ in 0..LAUNCHES {
        launches.push(launched(&up, &deployment).await?);
    }
    let launch = middle(launches);
    println!("Keep from launch to serving, component in the sealed cache");
    println!(
        "  median {}   yardstick: the same program printing its version, {}   ratio {:.1}",
        ms(launch),
        ms(spawn),
        ratio(launch, spawn)
    );

    let address = up.keep("frontend").context("no frontend")?.serving.address;
    demo::web::request(&up, address, Method::GET, "/results.json", "").await?;
    let mut whole = Vec::new();
    let mut handshakes = Vec::new();
    for _ in 0..REQUESTS {
        let began = Instant::now();
        demo::web::request(&up, address, Method::GET, "/results.json", "").await?;
        whole.push(began.elapsed());
        let began = Instant::now();
        drop(demo::web::connect(&up, address).await?);
        handshakes.push(began.elapsed());
    }
    let (whole, handshake) = (middle(whole), middle(handshakes));
    println!(
        "request through two Keeps on a new connection (TLS 1.3, X25519MLKEM768, server certificate checked)"
    );
    println!(
        "  median {}   yardstick: the handshake alone, {}   ratio {:.2}",
        ms(whole),
        ms(handshake),
        ratio(whole, handshake)
    );

    for name in ["tally", "frontend"] {
        println!("resident memory of the idle Keep {name}: {:.1} MiB (target 60)", resident(&up, name)?);
    }
    println!("size of bailey-keep: {:.1} MiB", fs::metadata(&program)?.len() as f64 / f64::from(1 << 20));
    up.machine.shut_down()
}

fn spawned(program: &Path) -> Result<Duration> {
    let began = Instant::now();
    let status = Command::new(program).arg("--version").stdout(Stdio::null()).status()?;
    if !status.success() {
        bail!("bailey-keep does not tell its version");
    }
    Ok(began.elapsed())
}

async fn launched(up: &Up, deployment: &Deployment) -> Result<Duration> {
    let (_, plan) = deployment.keeps.iter().find(|(name, _)| name == "frontend").context("no frontend")?;
    let keep = Keep {
        name: "bench".into(),
        plan: KeepPlan { listen: None, marble: Some("frontend".into()), ..plan.clone() },
        program: None,
        peers: BTreeMap::new(),
        restart: Restart::Never,
    };
    let KeepOutcome::Serving(serving) = up.mesh.launch(&up.machine, &keep).await? else { bail!("refused") };
    up.machine.stop(&keep.name)?;
    Ok(serving.took)
}

fn resident(up: &Up, name: &str) -> Result<f64> {
    let status = up.machine.status()?;
    let pid = status.iter().find(|process| process.name.as_str() == name).and_then(host::Status::pid);
    let text = fs::read_to_string(format!("/proc/{}/status", pid.context("the Keep does not run")?))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

fn median(rounds: usize, mut run: impl FnMut() -> Result<Duration>) -> Result<Duration> {
    Ok(middle((0..rounds).map(|_| run()).collect::<Result<Vec<_>>>()?))
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

fn ratio(time: Duration, yardstick: Duration) -> f64 {
    time.as_secs_f64() / yardstick.as_secs_f64()
}
