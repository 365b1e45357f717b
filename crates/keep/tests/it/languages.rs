//! Programs in several languages do their work in a Keep.

use keep::{
    admission::{Admission, Limits},
    command::Ended,
    world::Given,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    client::{Answer, Client, handshake, request},
    examples::{self, example},
    net::{network, within},
    pki::Root,
    run::{Finished, Run},
    running::Running,
};

const LIMITS: Limits = Limits {
    memory_bytes: 256 << 20,
    cpu_ms_per_request: 60_000,
    wall_ms_per_request: 120_000,
    max_concurrent_requests: 2,
    max_connections: 8,
    max_body_bytes: 1 << 20,
    keyvalue_bytes: 0,
};

/// A Keep that serves the example, and who can verify it.
async fn serving(name: &str, env: &[(&str, &str)]) -> Option<(Running, Root)> {
    let workload = example(name)?;
    let root = Root::new();
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let admission = Admission { marble: name.into(), env, limits: LIMITS, ..Admission::default() };
    let keep = Running::start(workload, admission, root.public("probe")).await;
    Some((keep, root))
}

fn value(answer: &Answer) -> Value {
    serde_json::from_str(&answer.text).unwrap_or_else(|_| panic!("no JSON: {answer:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_receives_webhooks_and_believes_only_signed_ones() {
    let Some((keep, root)) = serving("rust-hook", &[("HOOK_SECRET", "It's a Secret to Everybody")]).await
    else {
        return;
    };
    let mut client = Client::to(&keep, &root).await;
    // Secret, body and signature are GitHub's own example (docs: "Validating webhook deliveries").
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let mut signed = request(http::Method::POST, "/", "Hello, World!");
    signed.headers_mut().insert("x-hub-signature-256", signature.parse().unwrap());
    let answer = client.send(signed).await.unwrap();
    assert_eq!((answer.status.as_u16(), value(&answer)), (400, json!({ "error": "the event is no JSON" })));

    let mut altered = request(http::Method::POST, "/", "Hello, World?");
    altered.headers_mut().insert("x-hub-signature-256", signature.parse().unwrap());
    assert_eq!(client.send(altered).await.unwrap().status.as_u16(), 401);
    assert_eq!(client.post("/", "{}").await.status.as_u16(), 401);
    keep.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_adds_up_invoices_exactly() {
    let Some((keep, root)) = serving("python-invoice", &[]).await else { return };
    let mut client = Client::to(&keep, &root).await;
    let items: Vec<Value> = (0..10).map(|_| json!({ "price": "0.10", "quantity": 1 })).collect();
    let answer = client.post("/", json!({ "tax": "19", "items": items }).to_string()).await;
    assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
    assert_eq!(value(&answer), json!({ "net": "1.00", "tax": "0.19", "gross": "1.19" }));
    let answer = client.post("/", "{}").await;
    assert_eq!(answer.status.as_u16(), 400, "{answer:?}");
    assert_eq!(client.get("/").await.status.as_u16(), 405);
    keep.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_says_how_documents_differ() {
    let Some((keep, root)) = serving("javascript-patch", &[]).await else { return };
    let mut client = Client::to(&keep, &root).await;
    let from = json!({ "title": "Keep", "tags": ["a", "b"], "gone": 1 });
    let to = json!({ "title": "Bailey", "tags": ["a"], "new/one": true });
    let answer = client.post("/", json!({ "from": from, "to": to }).to_string()).await;
    assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
    let expected = json!([
        { "op": "remove", "path": "/gone" },
        { "op": "add", "path": "/new~1one", "value": true },
        { "op": "remove", "path": "/tags/1" },
        { "op": "replace", "path": "/title", "value": "Bailey" },
    ]);
    assert_eq!(value(&answer), expected);
    assert_eq!(client.post("/", "no JSON").await.status.as_u16(), 400);
    keep.stop().await;
}

/// The example's `Keep.toml`, with other values in its place where the test needs them.
fn keep_toml(folder: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(examples::keep_toml(folder), |text, (from, to)| {
        assert!(text.contains(from), "{folder}/Keep.toml has no {from:?}");
        text.replace(from, to)
    })
}

async fn batch(name: &str, folder: &str, input: &[u8]) -> Option<Finished> {
    let run = Run::of_workload(example(name)?).config(&keep_toml(folder, &[])).input(input);
    Some(run.finish().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn cpp_computes_statistics_of_a_table() {
    let table = "name,price,weight\n\"a, quoted\",1.5,10\nb,2.5,\nc,3.5,30\n";
    let Some(run) = batch("cpp-statistics", "cpp", table.as_bytes()).await else { return };
    assert_eq!(run.ended, Ended::Exit(0), "{run:?}");
    let expected = "price: count 3, least 1.5, mean 2.5, greatest 3.5, deviation 1.0000\n\
                    weight: count 2, least 10, mean 20, greatest 30, deviation 14.1421\n";
    assert_eq!(run.stdout, expected);
    let run = batch("cpp-statistics", "cpp", b"a,b\n1\n").await.unwrap();
    assert_eq!(run.ended, Ended::Exit(2));
    assert_eq!(run.stderr, "statistics: record 2 has 1 fields, not 2\n");
}

/// The digests of "abc": FIPS 180-2 for SHA-256, the reference implementation's for BLAKE3.
#[tokio::test(flavor = "multi_thread")]
async fn zig_computes_checksums() {
    let Some(run) = batch("zig-checksums", "zig", b"abc").await else { return };
    assert_eq!(run.ended, Ended::Exit(0), "{run:?}");
    let expected = "bytes 3\ncrc32 352441c2\n\
                    sha256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n\
                    blake3 6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85\n";
    assert_eq!(run.stdout, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn go_adds_up_orders() {
    let orders = "{\"customer\":\"a\",\"cents\":250,\"quantity\":2}\n{\"customer\":\"b\",\"cents\":999,\"quantity\":1}\n\
                  {\"customer\":\"a\",\"cents\":1,\"quantity\":1}\n";
    let Some(run) = batch("go-totals", "go", orders.as_bytes()).await else { return };
    assert_eq!(run.ended, Ended::Exit(0), "{run:?}");
    let expected =
        "{\"customer\":\"b\",\"orders\":1,\"cents\":999}\n{\"customer\":\"a\",\"orders\":2,\"cents\":501}\n";
    assert_eq!(run.stdout, expected);
    let run = batch("go-totals", "go", b"{}\n").await.unwrap();
    assert_eq!(run.ended, Ended::Exit(2));
    assert!(run.stderr.starts_with("totals: line 1: "), "{}", run.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn c_echoes_to_many_clients_over_tls() {
    let Some(workload) = example("c-echo") else { return };
    let root = Root::new();
    let changes = [("[\"1\"]", "[\"3\"]"), ("port = 7007", "addr = \"127.0.0.1\"\nport = 0")];
    let config = keep_toml("c", &changes);
    let network = network(&config, &root);
    let (told, mut listening) = mpsc::unbounded_channel();
    let given = Given { net: Some(network.net.clone()), listening: Some(told), ..Given::default() };
    let run = tokio::spawn(Run::of_workload(workload).config(&config).given(given).finish());
    let address = within(listening.recv()).await.unwrap().address;

    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(handshake(address, root.client(&root, &[])).await.unwrap());
    }
    // The last one first: nobody waits for those who say nothing.
    for (number, mut client) in clients.into_iter().enumerate().rev() {
        let said = vec![number as u8; 100_000];
        let (mut read, mut write) = tokio::io::split(&mut client);
        let send = async {
            write.write_all(&said).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut heard = Vec::new();
        let receive = async { read.read_to_end(&mut heard).await.unwrap() };
        within(async { tokio::join!(send, receive) }).await;
        assert!(heard == said, "client {number} heard {} bytes", heard.len());
    }
    let run = within(run).await.unwrap();
    assert_eq!(run.ended, Ended::Exit(0), "{run:?}");
}

/// A key-value server for one client: Redis' protocol, as much as the client speaks.
async fn key_value_server(stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut values = std::collections::BTreeMap::<String, String>::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let mut words = Vec::new();
        for _ in 0..line.trim()[1..].parse::<usize>().unwrap() {
            let (mut length, mut word) = (String::new(), String::new());
            stream.read_line(&mut length).await?;
            stream.read_line(&mut word).await?;
            assert_eq!(length.trim(), format!("${}", word.trim().len()));
            words.push(word.trim().to_owned());
        }
        let answer = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["set", name, value] => {
                values.insert(name.into(), value.into());
                "+OK\r\n".to_owned()
            }
            ["get", name] => values
                .get(name)
                .map_or("$-1\r\n".to_owned(), |value| format!("${}\r\n{value}\r\n", value.len())),
            ["incr", name] => {
                let next =
                    values.get(name).map_or(Ok(0), |value| value.parse::<i64>()).map(|value| value + 1);
                match next {
                    Ok(next) => {
                        values.insert(name.into(), next.to_string());
                        format!(":{next}\r\n")
                    }
                    Err(_) => "-ERR value is not an integer or out of range\r\n".to_owned(),
                }
            }
            _ => "-ERR unknown command\r\n".to_owned(),
        };
        stream.get_mut().write_all(answer.as_bytes()).await?;
        stream.get_mut().flush().await?;
    }
}

async fn key_value_client(commands: &str, server: &Root, trusted: &Root) -> Option<Finished> {
    let workload = example("rust-kv")?;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = TlsAcceptor::from(server.server());
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok(stream) = tls.accept(stream).await {
            let _ = key_value_server(stream).await;
        }
    });
    let (pem, at) = (trusted.pem(), format!("port = {port}"));
    let placeholder = {
        let text = examples::keep_toml("rust/kv");
        let begin = text.find("-----BEGIN").unwrap();
        text[begin..].split("\"\"\"").next().unwrap().to_owned()
    };
    let changes = [(placeholder.as_str(), pem.as_str()), ("kv.example", "localhost"), ("port = 6379", &at)];
    let config = keep_toml("rust/kv", &changes).replace("localhost:6379", &format!("localhost:{port}"));
    let network = network(&config, trusted);
    let given = Given { net: Some(network.net.clone()), ..Given::default() };
    let run = Run::of_workload(workload).config(&config).given(given).input(commands.as_bytes());
    let finished = within(run.finish()).await;
    serving.abort();
    Some(finished)
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_talks_to_a_key_value_server_over_tls_that_it_does_not_see() {
    let (root, other) = (Root::new(), Root::new());
    let commands = "set greeting hello\nget greeting\nget nothing\nincr count\nincr count\n";
    let Some(run) = key_value_client(commands, &root, &root).await else { return };
    assert_eq!(run.ended, Ended::Exit(0), "{run:?}");
    assert_eq!(run.stdout, "OK\nhello\n(nothing)\n1\n2\n");
    let refused = key_value_client("set a b\nincr a\n", &root, &root).await.unwrap();
    assert_eq!(refused.ended, Ended::Exit(1));
    assert_eq!(refused.stdout, "OK\nrefused: ERR value is not an integer or out of range\n");
    // A server below other roots is none, and learns no command. The program's 2 is a failure, and no more can be
    // said of one by `wasi:cli/exit` 0.2.
    let impostor = key_value_client(commands, &other, &root).await.unwrap();
    assert_eq!((impostor.ended, impostor.stdout.as_str()), (Ended::Exit(1), ""), "{}", impostor.stderr);
}
