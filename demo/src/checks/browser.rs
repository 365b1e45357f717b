//! A real browser: headless Chromium opens the page over HTTPS that chains to the coordinator's root, votes,
//! and sees the count. The root is imported into a profile of its own, as a person would.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use bailey::up::{Up, free_address};
use fantoccini::{Client, Locator};

use crate::browser::{self, Driver, READY_WITHIN, connect, installed};
use crate::web::keep;

/// Whether there is a browser here that can be driven.
pub fn available() -> bool {
    browser::available() && installed("certutil")
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
