//! One run of a command, with its streams in memory.

use std::{sync::LazyLock, time::Duration};

use keep::{
    command::{self, Ended, Stdio},
    runtime::{Pool, Runtime, Workload},
    world::{Given, World},
};
use keep_config::KeepConfig;
use tokio::io::{AsyncReadExt, AsyncWrite, DuplexStream, duplex};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new(Pool::default()).unwrap());

pub fn runtime() -> &'static Runtime {
    &RUNTIME
}

pub fn load(text: &str) -> Workload {
    RUNTIME.load(&wat::parse_str(text).unwrap(), None).unwrap()
}

/// A module whose entry has this body, with a secret in its memory and some functions at hand.
pub fn module(body: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "canary canary canary canary")
            (table 4 funcref) (elem (i32.const 0) $nothing)
            (func $nothing)
            (func $deep (call $deep) (call $nothing))
            (func (export "_start") {body}))"#
    )
}

#[derive(Debug)]
pub struct Finished {
    pub ended: Ended,
    pub stdout: String,
    pub stderr: String,
}

pub struct Run {
    workload: Workload,
    config: String,
    given: Given,
    input: Option<Vec<u8>>,
    cancel: Option<Duration>,
    stalled: bool,
}

impl Run {
    pub fn of(text: &str) -> Self {
        Self::of_workload(load(text))
    }

    pub fn of_workload(workload: Workload) -> Self {
        let (config, given) = (String::new(), Given::default());
        Self { workload, config, given, input: Some(Vec::new()), cancel: None, stalled: false }
    }

    pub fn config(self, config: &str) -> Self {
        Self { config: config.to_owned(), ..self }
    }

    pub fn more(mut self, config: &str) -> Self {
        self.config.push_str(config);
        self
    }

    pub fn given(self, given: Given) -> Self {
        Self { given, ..self }
    }

    pub fn input(self, input: &[u8]) -> Self {
        Self { input: Some(input.to_vec()), ..self }
    }

    pub fn endless_input(self) -> Self {
        Self { input: None, ..self }
    }

    pub fn cancel_after(self, time: Duration) -> Self {
        Self { cancel: Some(time), ..self }
    }

    pub fn stalled_output(self) -> Self {
        Self { stalled: true, ..self }
    }

    pub async fn ended(self) -> Ended {
        self.bytes().await.0
    }

    pub async fn finish(self) -> Finished {
        let (ended, printed, complained) = self.bytes().await;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Finished { ended, stdout: text(printed), stderr: text(complained) }
    }

    /// For output that is no text.
    pub async fn output(self) -> (Ended, Vec<u8>) {
        let (ended, printed, _) = self.bytes().await;
        (ended, printed)
    }

    async fn bytes(self) -> (Ended, Vec<u8>, Vec<u8>) {
        let config = match self.config.as_str() {
            "" => KeepConfig::default(),
            text => KeepConfig::parse(text).unwrap_or_else(|error| panic!("{error:?} in {text}")),
        };
        let world = World::new(&config, self.given).unwrap();
        let (stdout, printed) = output(self.stalled);
        let (stderr, complained) = output(false);
        let mut kept_open = None;
        let stdin: Box<dyn tokio::io::AsyncRead + Send + Unpin> = match self.input {
            Some(input) => Box::new(std::io::Cursor::new(input)),
            None => {
                let (near, far) = duplex(64);
                kept_open = Some(far);
                Box::new(near)
            }
        };
        let cancel = async {
            match self.cancel {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        let ended = command::run(&self.workload, world, Stdio { stdin, stdout, stderr }, cancel).await;
        drop(kept_open);
        (ended, printed.await.unwrap(), complained.await.unwrap())
    }
}

type Output = (Box<dyn AsyncWrite + Send + Unpin>, tokio::task::JoinHandle<Vec<u8>>);

/// One that takes everything, or one whose reader does nothing.
fn output(stalled: bool) -> Output {
    let (near, mut far): (DuplexStream, DuplexStream) = duplex(4096);
    let reader = tokio::spawn(async move {
        let mut bytes = Vec::new();
        if stalled {
            tokio::time::sleep(Duration::from_secs(1)).await;
        } else {
            far.read_to_end(&mut bytes).await.unwrap();
        }
        bytes
    });
    (Box::new(near), reader)
}
