//! The page of docs/verify in a real browser, opened from its file: over recorded Evidence of every platform, its
//! verdict has the bytes of the native build's.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use appraisal::{Examination, UnixTime};
use bailey::up::free_address;
use crypto_aws_lc::AwsLc;
use demo::browser::{self, Driver, READY_WITHIN};
use fantoccini::{Client, Locator};

/// A row of the corpus: the file, what to endorse it with, and when.
struct Sample {
    evidence: PathBuf,
    endorsements: Vec<PathBuf>,
    at: String,
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/appraisal/tests/vectors").canonicalize().unwrap()
}

/// One bundle of collateral for every Intel quote that has one, and every sample of the other platforms.
fn samples() -> Vec<Sample> {
    let folder = vectors();
    let index = fs::read_to_string(folder.join("index.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = index.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    let mut amd: Vec<_> =
        fs::read_dir(folder.join("amd-collateral")).unwrap().map(|file| file.unwrap().path()).collect();
    amd.sort();
    let mut samples = Vec::new();
    for row in rows.iter().filter(|row| row.len() > 7) {
        let (file, at) = (row[0], if row[7].is_empty() { "2026-01-01T00:00:00Z" } else { row[7] });
        let Some((kind, name)) = file.split_once('/') else { continue };
        let endorsements = match kind {
            "snp" | "azure" => amd.clone(),
            "sgx" | "tdx" => {
                // The name of a bundle holds the start of the quote's hash, which its file's name ends in.
                let hash = name.rsplit_once('-').map_or("", |(_, rest)| rest.trim_end_matches(".bin"));
                let bundle = rows.iter().find(|other| {
                    other[0].starts_with("bundles/")
                        && !hash.is_empty()
                        && other[0].contains(&format!("-{hash}"))
                });
                match bundle {
                    Some(bundle) => {
                        samples.push(Sample {
                            evidence: folder.join(file),
                            endorsements: vec![folder.join(bundle[0])],
                            at: bundle[7].to_owned(),
                        });
                        continue;
                    }
                    None => vec![],
                }
            }
            "nitro" | "tpm" | "cca" | "nvidia" | "composite" => vec![],
            _ => continue,
        };
        samples.push(Sample { evidence: folder.join(file), endorsements, at: at.to_owned() });
    }
    // What is no Evidence by itself (certificates, keys, reference values) is not for this test.
    samples.retain(|sample| Examination::new(&fs::read(&sample.evidence).unwrap()).is_ok());
    samples
}

fn native(sample: &Sample) -> String {
    let mut examination = Examination::new(&fs::read(&sample.evidence).unwrap()).unwrap();
    for file in &sample.endorsements {
        let _ = examination.endorse(&fs::read(file).unwrap());
    }
    let now: UnixTime = sample.at.parse().unwrap();
    serde_json::to_string(&examination.assess(now, &AwsLc)).unwrap()
}

async fn open(client: &Client) -> anyhow::Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/verify/index.html").canonicalize()?;
    client.goto(&format!("file://{}", page.display())).await?;
    client.wait().at_most(READY_WITHIN).for_element(Locator::Css("body[data-ready=true]")).await?;
    client.find(Locator::Css("details summary")).await?.click().await?;
    Ok(())
}

/// What the page says of a sample, after what it was asked before with those Endorsements.
async fn in_browser(client: &Client, before: &[PathBuf], sample: &Sample) -> anyhow::Result<String> {
    let others = before != sample.endorsements;
    if others {
        for file in client.find_all(Locator::Css("#files-endorsements .remove")).await? {
            file.click().await?;
        }
    }
    let input = async |id: &str, text: String| -> anyhow::Result<()> {
        client.find(Locator::Id(id)).await?.send_keys(&text).await?;
        Ok(())
    };
    input("evidence", sample.evidence.display().to_string()).await?;
    if others && !sample.endorsements.is_empty() {
        let paths: Vec<_> = sample.endorsements.iter().map(|path| path.display().to_string()).collect();
        input("endorsements", paths.join("\n")).await?;
    }
    client.find(Locator::Id("at")).await?.clear().await?;
    input("at", sample.at.clone()).await?;
    let verdicts = client.find_all(Locator::Css("#result[data-kind]")).await?;
    anyhow::ensure!(verdicts.is_empty(), "{}: another verdict stands beside it", sample.evidence.display());
    let wait = || client.wait().at_most(READY_WITHIN).every(Duration::from_millis(10));
    wait().for_element(Locator::Css("#verify:enabled")).await?.click().await?;
    wait().for_element(Locator::Css("#result[data-kind]")).await?;
    let said = client.find(Locator::Id("said")).await?.text().await?;
    let json = client.find(Locator::Id("json")).await?.prop("textContent").await?.unwrap_or_default();
    anyhow::ensure!(!json.is_empty(), "{}: {said}", sample.evidence.display());
    Ok(json)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_gives_the_verdicts_of_the_native_build() {
    if !browser::available() {
        eprintln!("NOT RUN: chromedriver is not installed");
        return;
    }
    assert!(
        vectors().join("../../../../docs/verify/verify.wasm.js").is_file(),
        "run `cargo xtask page` first; `cargo xtask test` does"
    );
    let home = tempfile::tempdir().unwrap();
    let port = free_address().unwrap().port();
    let _driver = Driver::start(home.path(), port).unwrap();
    let client = browser::connect(port, home.path()).await.unwrap();
    open(&client).await.unwrap();
    let mut differing = Vec::new();
    let samples = samples();
    assert!(samples.len() > 40, "{}", samples.len());
    let mut before: &[PathBuf] = &[];
    for sample in &samples {
        match in_browser(&client, before, sample).await {
            Ok(json) if json == native(sample) => {}
            Ok(json) => differing.push(format!("{}: {json}", sample.evidence.display())),
            Err(error) => differing.push(format!("{}: {error:#}", sample.evidence.display())),
        }
        before = &sample.endorsements;
    }
    let screenshot = client.screenshot().await.unwrap();
    client.close().await.unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::write(folder.join("verify-page.png"), screenshot).unwrap();
    assert!(differing.is_empty(), "{} of {}:\n{}", differing.len(), samples.len(), differing.join("\n"));
    eprintln!("{} samples, the same bytes", samples.len());
}
