//! The agent alone in a process, for the tests: `agent CONFIG` runs until SIGKILL or a shutdown request.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: agent CONFIG")?;
    let config = host::Config::load(path.as_ref())?;
    host::run(config, &host::Shutdown::new()?)?;
    Ok(())
}
