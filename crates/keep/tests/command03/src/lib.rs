//! A command of WASI 0.3 that does what its arguments say, commands between `;`, and prints a line for each.

use std::{fmt::Debug, hint::black_box};

use wasip3::{
    cli::{environment, stdout},
    clocks::monotonic_clock,
    wit_stream,
};

mod files;
mod fuzz;
mod sockets;

wasip3::cli::command::export!(Command);

struct Command;

impl wasip3::exports::cli::run::Guest for Command {
    async fn run() -> Result<(), ()> {
        let arguments = environment::get_arguments();
        for command in arguments[1..].split(|argument| argument == ";") {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            let answer = answer(&words).await.unwrap_or_else(|error| format!("error {error}"));
            say(&format!("{answer}\n")).await;
        }
        Ok(())
    }
}

async fn answer(command: &[&str]) -> Result<String, String> {
    match *command {
        ["hello"] => Ok("hello".into()),
        ["write", path, text] => files::write(path, text.as_bytes().to_vec(), 0).await,
        ["write-at", path, text, offset] => {
            files::write(path, text.as_bytes().to_vec(), number(offset)).await
        }
        ["append", path, text] => files::append(path, text.as_bytes().to_vec()).await,
        ["fill", path, length] => files::fill(path, number(length)).await,
        ["read", path] => files::read(path).await.map(|bytes| String::from_utf8(bytes).unwrap()),
        ["list", path] => files::list(path).await,
        ["mkdir", path] => files::make_directory(path).await,
        ["rmdir", path] => files::remove_directory(path).await,
        ["rename", from, to] => files::rename(from, to).await,
        ["remove", path] => files::remove(path).await,
        ["link", from, to] => files::link(from, to).await,
        ["size", path] => files::size(path).await,
        ["cut", path, length] => files::cut(path, number(length)).await,
        ["write-read-only", path] => files::write_what_is_open_for_reading(path).await,
        ["name", host] => sockets::addresses(host).await.map(|known| known.len().to_string()),
        ["echo", host, port] => sockets::ask(host, number(port) as u16).await,
        ["once", host, port] => sockets::halves_are_had_once(host, number(port) as u16).await,
        ["dial", host, port] => sockets::dial(host, number(port) as u16).await,
        ["serve", port, clients] => sockets::serve(number(port) as u16, number(clients)).await,
        ["unbound"] => sockets::listen_unbound(),
        ["udp"] => sockets::udp(),
        ["fuzz", seed, calls] => fuzz::calls(number(seed), number(calls)).await,
        ["spin"] => loop {
            black_box(0);
        },
        ["wait", milliseconds] => {
            monotonic_clock::wait_for(number(milliseconds) * 1_000_000).await;
            Ok("waited".into())
        }
        ["flood"] => {
            let (mut sender, data) = wit_stream::new();
            let _ended = stdout::write_via_stream(data);
            loop {
                sender.write_all(vec![b'x'; 1000]).await;
            }
        }
        ["hog"] => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        ["open", path] => files::open_many(path).await,
        ref other => panic!("{other:?}?"),
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap()
}

fn said(error: impl Debug) -> String {
    format!("{error:?}")
}

/// Prints by 0.3, and waits until it is printed.
async fn say(text: &str) {
    let (mut sender, data) = wit_stream::new();
    let ended = stdout::write_via_stream(data);
    sender.write_all(text.as_bytes().to_vec()).await;
    drop(sender);
    ended.await.unwrap();
}
