//! A command that does what its first argument says.

use std::{
    env, fs,
    io::{self, Read, Write},
    net::TcpStream,
    process::exit,
    thread,
    time::Duration,
};

fn main() {
    let args: Vec<String> = env::args().collect();
    match args.get(1).map(String::as_str).unwrap_or("hello") {
        "hello" => println!("hello"),
        "args" => println!("{}", args.join("|")),
        "env" => env::vars().for_each(|(name, value)| println!("{name}={value}")),
        "cat" => {
            let mut input = Vec::new();
            io::stdin().read_to_end(&mut input).unwrap();
            io::stdout().write_all(&input).unwrap();
            eprintln!("{} bytes", input.len());
        }
        "exit" => exit(args[2].parse().unwrap()),
        "fail" => panic!("as asked"),
        "spin" => loop {
            std::hint::black_box(0);
        },
        "sleep" => thread::sleep(Duration::from_millis(args[2].parse().unwrap())),
        "flood" => loop {
            println!("{}", "x".repeat(1000));
        },
        "hog" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(vec![1_u8; 1 << 20]);
                std::hint::black_box(&hoard);
            }
        }
        "deep" => println!("{}", deep(1)),
        "open" => {
            let files: Vec<_> = (0..100_000).map(|n| fs::File::create(format!("/tmp/{n}"))).collect();
            println!("{}", files.iter().filter(|file| file.is_ok()).count());
        }
        "dial" => {
            let mut open = Vec::new();
            loop {
                open.push(TcpStream::connect(&args[2]).unwrap());
            }
        }
        other => panic!("{other}?"),
    }
}

fn deep(n: u64) -> u64 {
    if std::hint::black_box(n) == 0 { 0 } else { deep(n + 1) + 1 }
}
