//! A client of a key-value server that speaks Redis' protocol (RESP). Commands come on standard input, one a line
//! (`set name value`, `get name`, `incr counter`), and answers go to standard output. The server is the first argument.
//!
//! The program knows nothing of TLS: `Keep.toml` says that this server is reached by TLS, and whose certificates count.
//! Exit code: 0, 1 when the server refused a command, 2 when it cannot be reached or talks nonsense.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::TcpStream,
    process::ExitCode,
};

/// The longest value that is taken from a server, in bytes.
const LARGEST: usize = 1 << 20;

enum Reply {
    Text(String),
    Nothing,
    Refused(String),
}

fn main() -> ExitCode {
    let Some(server) = std::env::args().nth(1) else {
        eprintln!("usage: kv HOST:PORT");
        return ExitCode::from(2);
    };
    match run(&server) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("kv: {server}: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether the server took every command.
fn run(server: &str) -> io::Result<bool> {
    let stream = TcpStream::connect(server)?;
    let mut server = BufReader::new(stream);
    let mut all_taken = true;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        server.get_mut().write_all(&request(&words))?;
        match reply(&mut server)? {
            Reply::Text(text) => println!("{text}"),
            Reply::Nothing => println!("(nothing)"),
            Reply::Refused(why) => {
                all_taken = false;
                println!("refused: {why}");
            }
        }
    }
    Ok(all_taken)
}

/// An array of bulk strings.
fn request(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

fn reply(server: &mut impl BufRead) -> io::Result<Reply> {
    let line = line(server)?;
    let (kind, rest) = line.split_at_checked(1).ok_or_else(|| nonsense("an empty reply"))?;
    match kind {
        "+" | ":" => Ok(Reply::Text(rest.to_owned())),
        "-" => Ok(Reply::Refused(rest.to_owned())),
        "$" if rest == "-1" => Ok(Reply::Nothing),
        "$" => {
            let length = rest.parse::<usize>().ok().filter(|length| *length <= LARGEST);
            let mut bytes = vec![0; length.ok_or_else(|| nonsense("a length"))? + 2];
            server.read_exact(&mut bytes)?;
            let text = bytes.strip_suffix(b"\r\n").ok_or_else(|| nonsense("the end of a value"))?;
            Ok(Reply::Text(String::from_utf8_lossy(text).into_owned()))
        }
        _ => Err(nonsense("a kind of reply")),
    }
}

fn line(server: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    io::Read::take(&mut *server, LARGEST as u64).read_line(&mut line)?;
    line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| nonsense("a line that ends too early"))
}

fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server talks nonsense: {what}"))
}
