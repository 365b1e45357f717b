//! The ten steps, for whoever tells a person.

use attested_tls::{channel::AttestedPeer, direct};
use keep_protocol::keep::{Accepted, Exposed, VolumeHead};
use zeroize::Zeroizing;

/// A step that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// 1: the host said what it has.
    Asked,
    /// 2: we said what we would take.
    Chosen,
    /// 3: there is a Keep, said the host.
    Leased,
    /// 4: the host relays to it.
    Connected,
    /// 5: TLS, both keys used once.
    Secured,
    /// 6: its Evidence is here.
    Presented,
    /// 7: it is accepted.
    Appraised,
    /// 8: the Keep is ours.
    Taken,
    /// 9: the workload is there, checked and loaded.
    Loaded,
    /// 10: it has ended.
    Ended,
}

impl Step {
    /// 1 to 10.
    pub fn number(self) -> u8 {
        self as u8 + 1
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Asked => "asked the host what it has",
            Self::Chosen => "said which TEEs would do",
            Self::Leased => "the host gave a Keep",
            Self::Connected => "connected through the host",
            Self::Secured => "TLS 1.3, both keys used once",
            Self::Presented => "the Keep's Evidence is here",
            Self::Appraised => "its Evidence is accepted",
            Self::Taken => "the Keep is ours alone",
            Self::Loaded => "the Keep has the workload: checked, loaded",
            Self::Ended => "the workload has ended",
        }
    }
}

impl From<direct::Step> for Step {
    fn from(step: direct::Step) -> Self {
        match step {
            direct::Step::Secured => Self::Secured,
            direct::Step::Presented => Self::Presented,
            direct::Step::Appraised => Self::Appraised,
            direct::Step::Taken => Self::Taken,
        }
    }
}

/// Hears what happens.
pub trait Watcher: Send {
    /// A step is done. `detail` may be the host's words, and is empty where there is nothing to say.
    fn step(&mut self, step: Step, detail: &str);

    /// The Keep is verified.
    fn verified(&mut self, keep: &AttestedPeer) {
        let _ = keep;
    }

    /// The Keep took the deployment.
    fn accepted(&mut self, accepted: &Accepted) {
        let _ = accepted;
    }

    /// The workload can be reached.
    fn exposed(&mut self, exposed: &Exposed) {
        let _ = exposed;
    }

    /// The Keep asks for what is in a packet of the encrypted package that it fetches: `None` where there is no key that
    /// opens it. The key stays here.
    fn open(&mut self, packet: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let _ = packet;
        None
    }

    /// A volume has a new state, which is to be held, durably, before this returns: then the Keep acknowledges it to the
    /// workload, and the next deployment has to give it.
    ///
    /// # Errors
    /// When it cannot be held. The deployment ends.
    fn hold(&mut self, head: &VolumeHead) -> std::io::Result<()> {
        let _ = head;
        Ok(())
    }
}

/// Hears nothing.
pub struct Silent;

impl Watcher for Silent {
    fn step(&mut self, _: Step, _: &str) {}
}
