//! A real browser: headless Chromium, driven through chromedriver with a profile of its own.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use fantoccini::{Client, ClientBuilder};
use serde_json::json;

/// How long a browser, or a page in it, may take.
pub const READY_WITHIN: Duration = Duration::from_secs(20);

/// Whether there is a browser here that can be driven.
pub fn available() -> bool {
    installed("chromedriver")
}

/// Connects to the browser of a driver at `port`; `home` holds its profile.
pub async fn connect(port: u16, home: &Path) -> Result<Client> {
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

/// A chromedriver, ended when it is dropped.
pub struct Driver(Child);

impl Driver {
    /// Starts one that listens at `port`, for a person whose home is `home`.
    pub fn start(home: &Path, port: u16) -> Result<Self> {
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

/// Whether a program is on the search path.
pub fn installed(program: &str) -> bool {
    #[expect(clippy::disallowed_methods, reason = "programs are looked up as a shell does")]
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').any(|folder| Path::new(folder).join(program).is_file())
}
