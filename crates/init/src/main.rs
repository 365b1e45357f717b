//! `bailey-init`: the first process of a guest that holds one Keep.

use std::io::Write;

fn main() {
    // Whatever this says reaches the host, and is for people: the host could have written it.
    let code = match init::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bailey-init: {error}");
            125
        }
    };
    println!("bailey-init: ended {code}");
    let _ = std::io::stdout().flush();
    init::power_off();
}
