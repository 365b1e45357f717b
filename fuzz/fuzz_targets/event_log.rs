//! Event logs of TPMs and confidential VMs, with their description: `EventLog::parse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(log) = evidence::eventlog::EventLog::parse(bytes) {
        let _ = log.describe();
    }
});
