//! What a launched process sees, for the tests of the emulator and the host agent: one JSON line about its
//! environment, its descriptors and its TEE; then it does what its first argument says.
//!
//! `probe` ends at once, `probe wait` waits to be ended, `probe garbage` speaks nonsense to the platform,
//! `probe secret` prints nothing of its secret and keeps it in memory.

use std::io::Write;

use attester::emulated::{Request, Response, frame};
use evidence::ReportData;

fn main() -> anyhow::Result<()> {
    let mode = std::env::args().nth(1).unwrap_or_default();
    let descriptors = open_descriptors()?;
    if mode == "garbage" {
        return speak_garbage();
    }
    let tee = attester::detect()?;
    anyhow::ensure!(attester::detect().is_err(), "the channel was given away twice");
    let raw = tee.evidence(&ReportData([0x5a; 64]))?;
    if mode == "secret" {
        return hold_a_secret(&*tee);
    }
    let line = serde_json::json!({
        "arguments": std::env::args().collect::<Vec<_>>(),
        "environment": std::env::vars_os().count(),
        "descriptors": descriptors,
        "directory": std::env::current_dir()?,
        "platform": tee.platform(),
        "configuration": hex::encode(tee.launch_configuration()),
        "evidence": hex::encode(raw.evidence),
        "endorsements": hex::encode(raw.endorsements),
        "sealing_key": hex::encode(tee.sealing_key("probe")?.as_bytes()),
        "other_sealing_key": hex::encode(tee.sealing_key("other")?.as_bytes()),
    });
    println!("{line}");
    std::io::stdout().flush()?;
    if mode == "wait" {
        loop {
            std::thread::park();
        }
    }
    Ok(())
}

fn hold_a_secret(tee: &dyn attester::Tee) -> anyhow::Result<()> {
    let key = tee.sealing_key("secret")?;
    println!("holding a secret");
    loop {
        std::hint::black_box(key.as_bytes());
        std::thread::park();
    }
}

/// The numbers that are open when `main` begins, without the one that lists them.
fn open_descriptors() -> anyhow::Result<Vec<i32>> {
    let mut numbers: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().parse()?))
        .collect::<anyhow::Result<_>>()?;
    numbers.sort_unstable();
    // The listing has the lowest number that was free, and is closed again.
    numbers.retain(|number| std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok());
    Ok(numbers)
}

/// Sends requests that are none, and prints the platform's answers: it must refuse each and live.
fn speak_garbage() -> anyhow::Result<()> {
    let mut stream = raw_channel();
    for payload in [b"\xff".to_vec(), b"".to_vec(), vec![0x9f; 1000]] {
        frame::write(&mut stream, &payload)?;
        let answer = frame::read(&mut stream)?.ok_or_else(|| anyhow::anyhow!("the platform hung up"))?;
        println!("{:?}", Response::decode(&answer)?);
    }
    frame::write(&mut stream, &frame::encode(&Request::SealingKey { context: "x".repeat(257) })?)?;
    let answer = frame::read(&mut stream)?.ok_or_else(|| anyhow::anyhow!("the platform hung up"))?;
    println!("{:?}", Response::decode(&answer)?);
    stream.write_all(&[0xff; 4])?;
    let answer = frame::read(&mut stream)?.ok_or_else(|| anyhow::anyhow!("the platform hung up"))?;
    println!("{:?}", Response::decode(&answer)?);
    anyhow::ensure!(frame::read(&mut stream)?.is_none(), "the platform goes on after an oversized frame");
    Ok(())
}

#[expect(unsafe_code, reason = "an inherited descriptor is only known by its number")]
fn raw_channel() -> std::os::unix::net::UnixStream {
    use std::os::fd::FromRawFd;
    // SAFETY: called once, before anything else could have taken descriptor 3, which was inherited.
    unsafe { std::os::unix::net::UnixStream::from_raw_fd(3) }
}
