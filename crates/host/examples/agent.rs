//! The agent alone in a process, for the tests: `agent CONFIG [take-over PORT]` runs until SIGKILL or a shutdown
//! request, and says on which ports it listens.

use host::{Agent, Arrival, Config, Shutdown};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().collect();
    let mut config = Config::load(words.get(1).ok_or("usage: agent CONFIG [take-over PORT]")?.as_ref())?;
    let arrival = match words.get(2).map(String::as_str) {
        Some("take-over") => Arrival::TakeOver,
        _ => Arrival::Alone,
    };
    if let (Some(api), Some(port)) = (&mut config.api, words.get(3)) {
        api.listen.set_port(port.parse()?);
    }
    let shutdown = Shutdown::new()?;
    let agent = Agent::arrive(config, arrival, &shutdown)?;
    if let Some(address) = agent.metrics_address() {
        println!("metrics {}", address.port());
    }
    if let Some(address) = agent.api_address() {
        println!("ready {}", address.port());
    }
    shutdown.wait()?;
    drop(agent);
    Ok(())
}
