//! Sockets of a component of WASI 0.3: written for plain TCP, it speaks TLS, and reaches what its configuration lists.

use std::{net::SocketAddr, sync::Arc};

use keep::{
    command::{self, Ended, Stdio, Which},
    net::Net,
    world::{Given, World},
};
use keep_config::KeepConfig;
use testkit::port::free;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, duplex},
    net::TcpStream,
    task::JoinHandle,
};

use crate::{
    client::handshake,
    net::within,
    net_sockets::echo,
    pki::Root,
    preview1,
    run::Finished,
    wasi03_files::{command, lines},
    workloads,
};

async fn run(words: &str, config: &str, root: &Root) -> Finished {
    let given = Given { net: Some(network(config, root)), ..Given::default() };
    within(command(words).more(config).given(given).finish()).await
}

fn network(config: &str, root: &Root) -> Net {
    preview1::net(config, root)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_of_wasi_03_connects_by_name_over_tls_that_it_does_not_see() {
    let root = Root::new();
    let (port, cut, away) = (echo(&root, false).await.port(), echo(&root, true).await.port(), free());
    let entry = |port, rest| format!("[[connect]]\nhost = \"localhost\"\nport = {port}\nprot = {rest}\n");
    let ours = "\"tls\"\nroots = \"ours\"";
    let config = format!(
        "{}{}{}[roots]\nours = \"\"\"{}\"\"\"",
        entry(port, ours),
        entry(cut, ours),
        entry(away, ours),
        root.pem()
    );
    let words = format!(
        "echo localhost {port} ; echo localhost {cut} ; echo localhost {away} ; echo localhost 1 ; \
         echo 127.0.0.1 {port} ; echo example.com 443 ; name localhost ; name example.com ; once localhost {port}"
    );
    let finished = run(&words, &config, &root).await;
    let answers = lines(&finished);
    assert_eq!(answers[0], "ping");
    let refused = [
        (1, "ConnectionAborted"),
        (2, "ConnectionRefused"),
        (3, "AccessDenied"),
        (4, "AccessDenied"),
        (5, "NameUnresolvable"),
        (7, "NameUnresolvable"),
    ];
    for (place, code) in refused {
        assert!(answers[place].starts_with("error ") && answers[place].contains(code), "{answers:?}");
    }
    assert_eq!(answers[6], "2", "one address of each family");
    assert_eq!(answers[8].matches("InvalidState").count(), 2, "{answers:?}");

    // A server that is not below the roots.
    let web = run(&format!("echo localhost {port}"), &entry(port, "\"tls\""), &root).await;
    assert!(lines(&web)[0].contains("ConnectionAborted"), "{web:?}");
}

/// A run that serves, and what it prints.
struct Serving {
    running: JoinHandle<Ended>,
    printed: Lines<BufReader<DuplexStream>>,
}

impl Serving {
    /// Where it listens is the first that it prints.
    async fn start(words: &str, config: &str, root: &Root) -> (Self, SocketAddr) {
        let words: Vec<String> = words.split(' ').map(|word| format!("{word:?}")).collect();
        let text = format!("args = [{}]\n[[files]]\nkind = \"stdout\"\n{config}", words.join(", "));
        let config = KeepConfig::parse(&text).unwrap();
        let given = Given { net: Some(network(&text, root)), ..Given::default() };
        let world = World::new(&config, given).unwrap();
        let (stdout, printed) = duplex(4096);
        let stdio = Stdio { stdout: Box::new(stdout), ..Stdio::null() };
        let running = tokio::spawn(async move {
            command::run(&workloads::command03(), world, stdio, std::future::pending()).await
        });
        let mut serving = Self { running, printed: BufReader::new(printed).lines() };
        let port: u16 = serving.line().await.parse().unwrap();
        (serving, SocketAddr::from(([127, 0, 0, 1], port)))
    }

    async fn line(&mut self) -> String {
        within(self.printed.next_line()).await.unwrap().unwrap()
    }
}

const LISTEN: &str = "[[listen]]\naddr = \"127.0.0.1\"\nport = 0\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_program_of_wasi_03_listens_where_it_may_over_tls_that_it_does_not_see() {
    let root = Arc::new(Root::new());
    let (mut serving, address) =
        Serving::start("serve 0 3", &format!("{LISTEN}prot = \"tls\"\n"), &root).await;
    // Who is silent, and who talks nonsense, keeps nobody out.
    let _silent = TcpStream::connect(address).await.unwrap();
    TcpStream::connect(address).await.unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let connect = async || within(handshake(address, root.client(&root, &[]))).await.unwrap();
    let (mut first, mut second, third) = (connect().await, connect().await, connect().await);
    // One that ends without `close_notify` was cut off, by whomever.
    drop(third.into_inner().0);
    second.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    within(second.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"hello", "before its side is shut");
    second.shutdown().await.unwrap();
    assert_eq!(within(second.read(&mut heard)).await.unwrap(), 0);
    let long = vec![b'y'; 1 << 20];
    let (mut reading, mut writing) = tokio::io::split(first);
    let sent = long.clone();
    let writing = tokio::spawn(async move {
        writing.write_all(&sent).await.unwrap();
        writing.shutdown().await.unwrap();
        writing
    });
    let mut back = Vec::new();
    within(reading.read_to_end(&mut back)).await.unwrap();
    assert!(back == long, "{} bytes came back", back.len());
    first = reading.unsplit(within(writing).await.unwrap());
    drop(first);
    let mut said: Vec<String> = serving.line().await.split(' ').map(str::to_owned).collect();
    said.sort();
    assert_eq!(said, ["1048576", "5", "ErrorCode::ConnectionAborted"]);
    assert_eq!(within(serving.running).await.unwrap(), Ended::Exit(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_of_wasi_03_listens_to_plain_tcp_where_the_configuration_says_so() {
    let root = Root::new();
    let (mut serving, address) =
        Serving::start("serve 0 1", &format!("{LISTEN}prot = \"tcp\"\n"), &root).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"plain").await.unwrap();
    client.shutdown().await.unwrap();
    let mut heard = String::new();
    within(client.read_to_string(&mut heard)).await.unwrap();
    assert_eq!(heard, "plain");
    assert_eq!(serving.line().await, "5");
    assert_eq!(within(serving.running).await.unwrap(), Ended::Exit(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_of_wasi_03_may_not_do_with_sockets_has_its_code() {
    let root = Root::new();
    let other = free();
    let config = format!("[[listen]]\nprot = \"tls\"\naddr = \"127.0.0.1\"\nport = {}\n", free());
    let finished = run(&format!("serve {other} 1 ; unbound ; udp"), &config, &root).await;
    for (answer, code) in lines(&finished).iter().zip(["AccessDenied", "AccessDenied", "NotSupported"]) {
        assert!(answer.starts_with("error ") && answer.contains(code), "{finished:?}");
    }
    // Without a network there is none.
    let finished = command("serve 1 1 ; unbound ; name localhost ; udp").finish().await;
    let expected = ["AccessDenied", "AccessDenied", "AccessDenied", "NotSupported"];
    for (answer, code) in lines(&finished).iter().zip(expected) {
        assert!(answer.starts_with("error ") && answer.contains(code), "{finished:?}");
    }
}

/// Connections beyond the limit end a program, in all worlds by the same name.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_too_many_ends_a_program_with_its_reason() {
    let root = Root::new();
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let entry = format!("host = \"localhost\"\nport = {port}\nprot = \"tcp\"\n");
    let limit = "[limits]\nconnections = 3\n";
    let dialled = format!("[[connect]]\n{entry}{limit}");
    let finished = run(&format!("dial localhost {port}"), &dialled, &root).await;
    assert_eq!(finished.ended, Ended::Limit(Which::Connections), "0.3");

    let given = || Given { net: Some(network(&dialled, &root)), ..Given::default() };
    let config = format!("args = [\"dial\", \"localhost:{port}\"]\n{dialled}");
    let run = crate::run::Run::of_workload(workloads::command()).config(&config).given(given());
    assert_eq!(within(run.ended()).await, Ended::Limit(Which::Connections), "0.2");

    let opened = format!("[[files]]\nkind = \"connect\"\n{entry}").repeat(4);
    let opened = format!("{opened}{limit}");
    let given = Given { net: Some(network(&opened, &root)), ..Given::default() };
    let module = r#"(module (func (export "_start")))"#;
    let run = crate::run::Run::of(module).config(&opened).given(given);
    assert_eq!(within(run.ended()).await, Ended::Limit(Which::Connections), "preview 1");
}
