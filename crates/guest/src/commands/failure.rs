//! How a command fails: one sentence, its causes, what mends it, and the exit code.

use std::{error::Error, fmt::Display, io, net::SocketAddr, path::Path};

use attester::AttesterError;
use image_keys::grpc::ListenError;

use crate::{
    GuestError,
    broker::BrokerError,
    evidence::EvidenceError,
    init_data::InitDataError,
    run::{PlaceError, RunError},
    settings::SettingsError,
};

/// A failed command.
#[derive(Debug)]
pub struct Failure {
    sentence: String,
    causes: Vec<String>,
    remedy: Option<String>,
    exit_code: u8,
}

/// Errors that know what mends them.
pub trait Mendable: Error + 'static {
    /// What mends it.
    fn mend(&self) -> &'static str;
}

macro_rules! mendable {
    ($($error:ty),*) => { $(impl Mendable for $error {
        fn mend(&self) -> &'static str { self.remedy() }
    })* };
}

mendable!(GuestError, BrokerError, EvidenceError, InitDataError, SettingsError);

impl Failure {
    fn new(error: &(dyn Error + 'static)) -> Self {
        let mut causes = Vec::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            causes.push(error.to_string());
            cause = error.source();
        }
        Self { sentence: error.to_string(), causes, remedy: None, exit_code: 1 }
    }

    fn said(sentence: impl Display, remedy: &str) -> Self {
        Self { sentence: sentence.to_string(), causes: Vec::new(), remedy: Some(remedy.into()), exit_code: 1 }
    }

    pub(super) fn of(error: impl Mendable) -> Self {
        Self { remedy: Some(error.mend().to_owned()), ..Self::new(&error) }
    }

    pub(super) fn no_tee(error: AttesterError) -> Self {
        let remedy = "only code in a TEE can attest. To try things out with a broker that is itself emulated, --sample \
                      sends a stand-in that proves nothing";
        Self { remedy: Some(remedy.into()), ..Self::new(&error) }
    }

    pub(super) fn place(error: PlaceError) -> Self {
        let remedy =
            "give a path that is relative, or in a file system in memory (/run, /dev/shm) and not there yet";
        Self { remedy: Some(remedy.into()), ..Self::new(&error) }
    }

    pub(super) fn run(error: RunError) -> Self {
        Self { exit_code: error.exit_code(), ..Self::new(&error) }
    }

    pub(super) fn system(attempt: &str, error: io::Error) -> Self {
        Self {
            causes: vec![error.to_string()],
            ..Self::said(format!("{attempt} failed"), "look at the cause")
        }
    }

    pub(super) fn not_loopback(address: SocketAddr) -> Self {
        let remedy = "choose an address like 127.0.0.1:8006: whoever reaches it gets this guest's secrets";
        Self::said(format!("{address} is not an address of loopback"), remedy)
    }

    pub(super) fn key_provider(error: ListenError) -> Self {
        let remedy = "choose an address of loopback that nobody listens on, such as 127.0.0.1:50000";
        Self { remedy: Some(remedy.into()), ..Self::new(&error) }
    }

    pub(super) fn workload_api(error: spiffe_workload::ListenError) -> Self {
        let remedy = "choose a socket in a folder of your own, such as /run/bailey/spiffe.sock, or an address of loopback";
        Self { remedy: Some(remedy.into()), ..Self::new(&error) }
    }

    pub(super) fn no_place() -> Self {
        Self { exit_code: 2, ..Self::said("nothing says where to listen", "give --socket or --listen") }
    }

    pub(super) fn no_marble(variable: &str) -> Self {
        let remedy =
            "start it from a program that was activated by the coordinator, and leave it those variables";
        Self::said(format!("this is no Marble: {variable} is not in the environment"), remedy)
    }

    pub(super) fn marble(error: spiffe_workload::MarbleSourceError) -> Self {
        let remedy = "give the coordinator's client API as HOST:PORT, and the Marble's credentials as they were delivered";
        Self { remedy: Some(remedy.into()), ..Self::new(&error) }
    }

    pub(super) fn file(path: &Path, error: io::Error) -> Self {
        let failure = Self::said(format!("{} cannot be used", path.display()), "give another file");
        Self { causes: vec![error.to_string()], exit_code: 2, ..failure }
    }

    pub(super) fn too_long(path: &Path, limit: usize) -> Self {
        let sentence = format!("{} is longer than the {limit} bytes that it may have", path.display());
        Self { exit_code: 2, ..Self::said(sentence, "give another file") }
    }

    pub(super) fn no_text(path: &Path) -> Self {
        Self { exit_code: 2, ..Self::said(format!("{} is no text", path.display()), "give another file") }
    }

    pub(super) fn exiting_with(self, exit_code: u8) -> Self {
        Self { exit_code, ..self }
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }

    /// For people. What a broker said is in here, so control characters are not.
    pub fn render(&self) -> String {
        let mut text = format!("error: {}\n", plain(&self.sentence));
        for cause in &self.causes {
            text.push_str(&format!("  cause: {}\n", plain(cause)));
        }
        if let Some(remedy) = &self.remedy {
            text.push_str(&format!("  mend:  {remedy}\n"));
        }
        text
    }
}

/// The longest that is shown of one sentence, in characters.
const MAX_SHOWN: usize = 600;

fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(MAX_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_says_cannot_drive_a_terminal() {
        let failure = Failure::said("the broker says \x1b[2J\r\nerror: all is well", "look");
        assert_eq!(failure.render(), "error: the broker says  [2J  error: all is well\n  mend:  look\n");
        assert!(Failure::said("x".repeat(10_000), "look").render().len() < 1000);
    }
}
