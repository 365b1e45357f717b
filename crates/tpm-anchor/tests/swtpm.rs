//! The chain on a real (software) TPM, honest and behind hosts that are not.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Instant,
};

use testkit::swtpm::Swtpm;
use tpm_anchor::{Address, Tpm, TpmError, Transport};

/// What the host does with a command and the answer to it.
type Host = Box<dyn FnMut(&[u8], &mut dyn FnMut(&[u8]) -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> + Send>;

/// The way to a TPM, with someone on it.
#[derive(Clone)]
struct Middle {
    host: Arc<Mutex<Host>>,
}

impl Middle {
    fn honest() -> Self {
        Self { host: Arc::new(Mutex::new(Box::new(|command, tpm| tpm(command)))) }
    }

    fn becomes(
        &self,
        host: impl FnMut(&[u8], &mut dyn FnMut(&[u8]) -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>>
        + Send
        + 'static,
    ) {
        *self.host.lock().unwrap() = Box::new(host);
    }

    fn to(&self, tpm: &Swtpm) -> Tpm {
        let inner = address(tpm).connect().unwrap();
        Tpm::over(Box::new(Way { inner, host: self.host.clone() }), "a host".into()).unwrap()
    }
}

struct Way {
    inner: Box<dyn Transport>,
    host: Arc<Mutex<Host>>,
}

impl Transport for Way {
    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        let Self { inner, host } = self;
        (host.lock().unwrap())(command, &mut |command| inner.exchange(command))
    }

    fn cleans_up(&self) -> bool {
        true
    }
}

fn address(tpm: &Swtpm) -> Address {
    tpm.address().parse().unwrap()
}

const READ: u32 = 0x14E;
const EXTEND: u32 = 0x136;

fn code(command: &[u8]) -> u32 {
    u32::from_be_bytes(command[6..10].try_into().unwrap())
}

fn next(value: &[u8; 32], head: &[u8; 32]) -> [u8; 32] {
    let mut out = [0; 32];
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &[&value[..], head].concat());
    out.copy_from_slice(digest.as_ref());
    out
}

#[test]
fn a_chain_outlives_processes_and_restarts_of_the_tpm() {
    let Some(swtpm) = Swtpm::start() else { return };
    let mut opened = Tpm::connect(&address(&swtpm)).unwrap().define(&[1; 32]).unwrap();
    let mut value = next(&[0; 32], &[1; 32]);
    assert_eq!(opened.read().unwrap(), value);
    opened.extend(&[2; 32]).unwrap();
    value = next(&value, &[2; 32]);
    assert_eq!(opened.read().unwrap(), value);
    let index = opened.index().clone();
    // A process that is killed says no goodbye; often, and the TPM has room for three sessions.
    for _ in 0..5 {
        let middle = Middle::honest();
        drop(opened);
        opened = middle.to(&swtpm).open(index.clone()).unwrap();
        assert_eq!(opened.read().unwrap(), value);
        middle.becomes(|_, _| Err(io::ErrorKind::BrokenPipe.into()));
    }
    drop(opened);
    let swtpm = swtpm.restart();
    let mut opened = Tpm::connect(&address(&swtpm)).unwrap().open(index).unwrap();
    assert_eq!(opened.read().unwrap(), value);
}

#[test]
fn a_session_that_broke_is_replaced_by_one_with_the_same_tpm() {
    let Some(swtpm) = Swtpm::start() else { return };
    let middle = Middle::honest();
    let mut opened = middle.to(&swtpm).define(&[1; 32]).unwrap();
    let value = opened.read().unwrap();
    // The answer to a step is lost: whether it was taken, only reading tells.
    middle.becomes(|command, tpm| {
        let answer = tpm(command);
        if code(command) == EXTEND { Err(io::ErrorKind::TimedOut.into()) } else { answer }
    });
    assert!(matches!(opened.extend(&[2; 32]), Err(TpmError::Transport { .. })));
    assert_eq!(opened.read().unwrap(), next(&value, &[2; 32]));
}

#[test]
fn s16_an_old_answer_is_refused() {
    let Some(swtpm) = Swtpm::start() else { return };
    let middle = Middle::honest();
    let mut opened = middle.to(&swtpm).define(&[1; 32]).unwrap();
    let mut kept = None;
    middle.becomes(move |command, tpm| {
        if code(command) != READ {
            return tpm(command);
        }
        let answer = tpm(command)?;
        Ok(kept.get_or_insert(answer).clone())
    });
    opened.read().unwrap();
    opened.extend(&[2; 32]).unwrap();
    assert!(matches!(opened.read(), Err(TpmError::Inauthentic)));
}

#[test]
fn s16_a_swallowed_step_is_noticed() {
    let Some(swtpm) = Swtpm::start() else { return };
    let middle = Middle::honest();
    let mut opened = middle.to(&swtpm).define(&[1; 32]).unwrap();
    let value = opened.read().unwrap();
    let mut kept = None;
    middle.becomes(move |command, tpm| match (code(command), &kept) {
        // The first goes through, and its answer serves for the second; then plain success without a session.
        (EXTEND, None) => {
            let answer = tpm(command)?;
            kept = Some(answer.clone());
            Ok(answer)
        }
        (EXTEND, Some(answer)) => Ok(answer.clone()),
        _ => tpm(command),
    });
    opened.extend(&[2; 32]).unwrap();
    assert!(matches!(opened.extend(&[3; 32]), Err(TpmError::Inauthentic)));
    middle.becomes(|command, tpm| match code(command) {
        EXTEND => Ok(vec![0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0]),
        _ => tpm(command),
    });
    assert!(matches!(opened.extend(&[3; 32]), Err(TpmError::Inauthentic)));
    middle.becomes(|command, tpm| tpm(command));
    assert_eq!(opened.read().unwrap(), next(&value, &[2; 32]));
}

#[test]
fn s16_a_changed_command_or_answer_is_refused() {
    let Some(swtpm) = Swtpm::start() else { return };
    let middle = Middle::honest();
    let mut opened = middle.to(&swtpm).define(&[1; 32]).unwrap();
    let value = opened.read().unwrap();
    for at in [10, 13, 16, 40, 49, 60] {
        middle.becomes(move |command, tpm| {
            let mut answer = tpm(command)?;
            if code(command) == READ && answer.len() > at {
                answer[at] ^= 1;
            }
            Ok(answer)
        });
        assert!(opened.read().is_err(), "byte {at} of the answer");
    }
    middle.becomes(|command, tpm| {
        let mut command = command.to_vec();
        if code(&command) == EXTEND {
            *command.last_mut().unwrap() ^= 1;
        }
        tpm(&command)
    });
    assert!(matches!(opened.extend(&[2; 32]), Err(TpmError::Refused { .. })));
    middle.becomes(|command, tpm| tpm(command));
    assert_eq!(opened.read().unwrap(), value);
}

#[test]
fn s16_another_tpm_does_not_pass_for_the_pinned_one() {
    let (Some(swtpm), Some(other)) = (Swtpm::start(), Swtpm::start()) else { return };
    let middle = Middle::honest();
    let mut opened = middle.to(&swtpm).define(&[1; 32]).unwrap();
    let index = opened.index().clone();
    // From the beginning.
    let refused = Tpm::connect(&address(&other)).unwrap().open(index).err().unwrap();
    assert!(matches!(refused, TpmError::OtherTpm { .. }), "{refused}");
    // In the middle of a session, also when the host shows the pinned TPM's key, whose private part the other has not.
    let wires = Arc::new(Mutex::new(address(&other).connect().unwrap()));
    middle.becomes(move |command, _| wires.lock().unwrap().exchange(command));
    assert!(matches!(opened.read(), Err(TpmError::OtherTpm { .. })));
    let wires = Arc::new(Mutex::new(address(&other).connect().unwrap()));
    middle.becomes(move |command, tpm| match code(command) {
        0x131 => tpm(command),
        0x176 => {
            let own = wires.lock().unwrap().exchange(&created())?;
            let mut command = command.to_vec();
            command[10..14].copy_from_slice(&own[10..14]);
            wires.lock().unwrap().exchange(&command)
        }
        _ => wires.lock().unwrap().exchange(command),
    });
    assert!(opened.read().is_err());
}

/// `TPM2_CreatePrimary` of the endorsement key, as it goes over the wire.
fn created() -> Vec<u8> {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let seen = kept.clone();
    struct Deaf(Arc<Mutex<Vec<u8>>>);
    impl Transport for Deaf {
        fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
            *self.0.lock().unwrap() = command.to_vec();
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }
    assert!(Tpm::over(Box::new(Deaf(seen)), String::new()).is_err());
    let command = kept.lock().unwrap().clone();
    assert_eq!(code(&command), 0x131);
    command
}

#[test]
fn s16_a_deleted_index_cannot_be_made_again() {
    let Some(swtpm) = Swtpm::start() else { return };
    let opened = Tpm::connect(&address(&swtpm)).unwrap().define(&[1; 32]).unwrap();
    let index = opened.index().clone();
    opened.remove().unwrap();
    let mut gone = Tpm::connect(&address(&swtpm)).unwrap().open(index.clone()).unwrap();
    assert!(matches!(gone.read(), Err(TpmError::Refused { code: 0x18B, .. })));
    drop(gone);
    // Whoever owns the platform can make one at the same handle, and not with the same authorisation.
    let other = Tpm::connect(&address(&swtpm)).unwrap().define(&[1; 32]).unwrap();
    let mut stolen = other.index().clone();
    drop(other);
    stolen.auth = index.auth;
    let mut stolen = Tpm::connect(&address(&swtpm)).unwrap().open(stolen).unwrap();
    assert!(matches!(stolen.read(), Err(TpmError::Refused { .. })));
}

#[test]
fn meshes_have_chains_of_their_own() {
    let Some(swtpm) = Swtpm::start() else { return };
    let mut values = Vec::new();
    for mesh in 0..4 {
        let mut opened = Tpm::connect(&address(&swtpm)).unwrap().define(&[mesh; 32]).unwrap();
        values.push((opened.index().clone(), opened.read().unwrap()));
    }
    for (index, value) in values {
        let mut opened = Tpm::connect(&address(&swtpm)).unwrap().open(index).unwrap();
        assert_eq!(opened.read().unwrap(), value);
    }
}

#[test]
fn the_host_never_sees_the_authorisation_value() {
    let Some(swtpm) = Swtpm::start() else { return };
    let middle = Middle::honest();
    let wire = Arc::new(Mutex::new(Vec::new()));
    let seen = wire.clone();
    middle.becomes(move |command, tpm| {
        let answer = tpm(command)?;
        seen.lock().unwrap().extend([command, &answer].concat());
        Ok(answer)
    });
    let mut opened = middle.to(&swtpm).define(&[1; 32]).unwrap();
    opened.read().unwrap();
    let wire = wire.lock().unwrap();
    assert!(wire.len() > 500);
    assert!(!wire.windows(8).any(|window| opened.index().auth.windows(8).any(|auth| auth == window)));
}

/// S-17. An index of this type has no last value; what wears is the memory under it, and of that an emulator says
/// nothing.
#[test]
fn s17_a_thousand_steps_and_what_one_costs() {
    let Some(swtpm) = Swtpm::start() else { return };
    let mut opened = Tpm::connect(&address(&swtpm)).unwrap().define(&[0; 32]).unwrap();
    let mut value = opened.read().unwrap();
    let begun = Instant::now();
    for step in 0..1000_u32 {
        let mut head = [0; 32];
        head[..4].copy_from_slice(&step.to_be_bytes());
        opened.extend(&head).unwrap();
        value = next(&value, &head);
        assert_eq!(opened.read().unwrap(), value);
    }
    println!("one step and one reading on swtpm: {:?}", begun.elapsed() / 1000);
}

#[test]
fn a_provisioned_tpm_quotes_and_extends() {
    let Some(swtpm) = Swtpm::start() else { return };
    let key = tpm_anchor::provision(&address(&swtpm), 0x8101_0002).unwrap();
    let swtpm = swtpm.restart();
    let before = tpm_anchor::quote(&address(&swtpm), 0x8101_0002, &[7; 32]).unwrap();
    assert!(before.public.ends_with(&key[32..]), "the key that was made is the key that quotes");
    assert_eq!(before.registers[12], [0; 32]);
    tpm_anchor::extend(&address(&swtpm), 12, &[1; 32]).unwrap();
    let after = tpm_anchor::quote(&address(&swtpm), 0x8101_0002, &[7; 32]).unwrap();
    assert_eq!(after.registers[12], next(&[0; 32], &[1; 32]));
    // A TPM that is in use already has a key there, and is not provisioned again.
    assert!(matches!(tpm_anchor::provision(&address(&swtpm), 0x8101_0002), Err(TpmError::Refused { .. })));
}
