//! A workload that tries what its path says, and answers what came of it.

use std::{
    fmt::Debug,
    fs,
    hint::black_box,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs, UdpSocket},
};

use futures_lite::stream::unfold;
use wstd::{
    http::{
        Body, Client, Error, HeaderValue, Request, Response,
        body::{Bytes, Frame},
    },
    time::Duration,
};

#[wstd::http_server]
async fn main(mut request: Request<Body>) -> Result<Response<Body>, Error> {
    let query = request.uri().query().unwrap_or("").to_owned();
    let given = form_urlencoded::parse(query.as_bytes()).next().map(|(_, value)| value.into_owned());
    let given = given.unwrap_or_default();
    let path = request.uri().path().to_owned();
    let text = match path.as_str() {
        "/env" => std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect(),
        "/args" => std::env::args().map(|arg| format!("{arg}\n")).collect(),
        "/list" => said(fs::read_dir(&given).map(|entries| {
            let mut names: Vec<_> = entries.flatten().map(|e| e.file_name().into_string().unwrap()).collect();
            names.sort();
            names.join(",")
        })),
        "/read" => said(fs::read_to_string(&given)),
        "/size" => said(fs::metadata(&given).map(|metadata| metadata.len())),
        "/write" => said(fs::write(&given, "x")),
        "/append" => said(fs::OpenOptions::new().append(true).open(&given)),
        "/mkdir" => said(fs::create_dir(&given)),
        "/remove" => said(fs::remove_file(&given)),
        "/rename" => said(fs::rename(&given, "/other")),
        "/tcp" => said(TcpStream::connect(&given)),
        "/listen" => said(TcpListener::bind(&given)),
        "/echo" => said(echoed(&given)),
        "/serve" => said(serve(&given)),
        "/udp" => said(UdpSocket::bind(&given)),
        "/dns" => said(given.to_socket_addrs().map(Iterator::count)),
        "/stdin" => said(std::io::stdin().read_to_end(&mut Vec::new())),
        "/print" => {
            println!("{given}");
            said(std::io::stdout().flush())
        }
        "/spin" => loop {
            black_box(0);
        },
        "/hog" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        "/recurse" => recurse(black_box(0)).to_string(),
        "/panic" => panic!("{given}"),
        "/exit" => std::process::exit(3),
        "/sleep" => {
            wstd::task::sleep(Duration::from_millis(given.parse().unwrap())).await;
            "slept".to_owned()
        }
        "/fetch" => fetch(&given, Body::empty()).await,
        "/send" => fetch(&given, Body::from(vec![b'x'; 4 << 20])).await,
        "/body" => match request.body_mut().contents().await {
            Ok(body) => body.len().to_string(),
            Err(error) => panic!("{error:?}"),
        },
        "/half" => return Ok(Response::new(half())),
        "/code" => {
            let mut response = Response::new(Body::from("mine"));
            response.headers_mut().insert("bailey-code", HeaderValue::from_static("FORGED"));
            return Ok(response);
        }
        _ => "hello".to_owned(),
    };
    Ok(Response::new(Body::from(text)))
}

/// What comes back for a word, from there to the end.
fn echoed(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"ping")?;
    stream.shutdown(Shutdown::Write)?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard)?;
    Ok(heard)
}

/// Sends one client back what it says, until it ends.
fn serve(address: &str) -> std::io::Result<u64> {
    let (stream, _) = TcpListener::bind(address)?.accept()?;
    std::io::copy(&mut &stream, &mut &stream)
}

fn said<T: Debug>(result: std::io::Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("error {:?} {error}", error.kind()),
    }
}

async fn fetch(url: &str, body: Body) -> String {
    let request = Request::builder()
        .method(if body.content_length() == Some(0) { "GET" } else { "POST" })
        .uri(url)
        .body(body)
        .unwrap();
    match Client::new().send(request).await {
        Ok(mut response) => match response.body_mut().contents().await {
            Ok(body) => String::from_utf8_lossy(body).into_owned(),
            Err(error) => format!("error {error:?}"),
        },
        Err(error) => format!("error {error:?}"),
    }
}

#[expect(unconditional_recursion, reason = "it is to run out of stack")]
fn recurse(depth: u64) -> u64 {
    black_box(recurse(black_box(depth + 1)) + depth)
}

/// A body that fails after its first part.
fn half() -> Body {
    let parts = unfold(0, |part| async move {
        match part {
            0 => Some((Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"first half"))), 1)),
            _ => panic!("no second half"),
        }
    });
    Body::from_http_body(http_body_util::StreamBody::new(parts))
}
