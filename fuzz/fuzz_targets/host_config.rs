//! What is asked of the host agent, by file and by socket.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = host::Action::parse(data);
    let _ = host::Config::parse(data, std::path::Path::new("/nonexistent"));
});
