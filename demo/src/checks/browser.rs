//! A real browser: headless Chromium opens the page over HTTPS that chains to the coordinator's root, votes,
//! and sees the count. The root is imported into a profile of its own, as a person would.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bailey::up::{Up, free_address};
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::json;

use crate::web::keep;

const READY_WITHIN: Duration = Duration::from_secs(20);

/// Whether there is a browser here that can be driven.
pub fn available() -> bool {
    installed("chromedriver") && installed("certutil")
}

/// Votes in the browser and keeps a screenshot.
pub async fn vote(up: &Up, root: &Path, screenshot: &Path) -> Result<String> {
    let home = tempfile::tempdir()?;
    trust(home.path(), root)?;
    let port = free_address()?.port();
    let _driver = Driver::start(home.path(), port)?;
    let client = connect(port, home.path()).await?;
    let result = use_page(&client, up, screenshot).await;
    client.close().await?;
    result
}

async fn use_page(client: &Client, up: &Up, screenshot: &Path) -> Result<String> {
    let page = format!("https://localhost:{}/", keep(up, "frontend")?.serving.address.port());
    client.goto(&page).await.context("the browser does not open the page")?;
    let option = Locator::Css("input[name=option][value=summer]");
    let before = votes(client).await?;
    client.find(option).await?.click().await?;
    client.find(Locator::Css("button[type=submit]")).await?.click().await?;
    client.wait().at_most(READY_WITHIN).for_element(Locator::Css("#result")).await?;
    let after = votes(client).await?;
    ensure!(after == before + 1, "the page showed {before} votes before and {after} after");
    if let Some(folder) = screenshot.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(screenshot, client.screenshot().await?)?;
    Ok(format!(
        "Chromium accepts the page's certificate below the coordinator's root, votes, sees the count; {}",
        screenshot.display()
    ))
}

async fn votes(client: &Client) -> Result<u64> {
    let bar = client.find(Locator::Css("li[data-option=summer]")).await?;
    Ok(bar.attr("data-votes").await?.context("the page shows no count")?.parse()?)
}

async fn connect(port: u16, home: &Path) -> Result<Client> {
    let profile = home.join("profile");
    let arguments = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=900,1000",
        &format!("--user-data-dir={}", profile.display()),
    ];
    let mut capabilities = serde_json::Map::new();
    capabilities.insert("goog:chromeOptions".into(), json!({ "args": arguments }));
    let deadline = tokio::time::Instant::now() + READY_WITHIN;
    loop {
        let address = format!("http://127.0.0.1:{port}");
        match ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities.clone())
            .connect(&address)
            .await
        {
            Ok(client) => return Ok(client),
            Err(error) if tokio::time::Instant::now() > deadline => {
                return Err(anyhow::Error::new(error).context("the browser does not start"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Imports the root into the certificate store of a person whose home is `home`.
fn trust(home: &Path, root: &Path) -> Result<()> {
    let store = home.join(".pki/nssdb");
    fs::create_dir_all(&store)?;
    let store = format!("sql:{}", store.display());
    run(Command::new("certutil").args(["-d", &store, "-N", "--empty-password"]))?;
    run(Command::new("certutil").args(["-d", &store, "-A", "-t", "C,,", "-n", "bailey", "-i"]).arg(root))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().context("certutil cannot be started")?;
    ensure!(output.status.success(), "certutil: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

struct Driver(Child);

impl Driver {
    fn start(home: &Path, port: u16) -> Result<Self> {
        let child = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .env("HOME", home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("chromedriver cannot be started")?;
        Ok(Self(child))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn installed(program: &str) -> bool {
    #[expect(clippy::disallowed_methods, reason = "programs are looked up as a shell does")]
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').any(|folder| Path::new(folder).join(program).is_file())
}
