//! Checks, counted and told: what was shown, or why it could not be.

pub mod attacks;
pub mod browser;
pub mod database;
pub mod direct;
pub mod guests;
pub mod outside;
pub mod relay;
pub mod trust;

use bailey::{commands::up::Teller, up::Observer};

/// Counts checks and tells each.
pub struct Checks {
    teller: Teller,
    passed: u32,
    failed: u32,
}

impl Checks {
    /// None made yet.
    pub fn new() -> Self {
        Self { teller: Teller::new(false), passed: 0, failed: 0 }
    }

    /// Tells a check: what it showed, or how it failed.
    pub fn tell(&mut self, title: &str, result: anyhow::Result<String>) {
        match result {
            Ok(shown) => {
                self.passed += 1;
                self.teller.done(title, &shown);
            }
            Err(error) => {
                self.failed += 1;
                self.teller.failed(title, &format!("{error:#}"));
            }
        }
    }

    /// Tells that a check could not be made here. It counts as nothing.
    pub fn not_made(&mut self, title: &str, reason: &str) {
        self.teller.skipped(title, &format!("NOT RUN: {reason}"));
    }

    /// How many showed what they had to.
    pub fn passed(&self) -> u32 {
        self.passed
    }

    /// How many did not.
    pub fn failed(&self) -> u32 {
        self.failed
    }
}

impl Default for Checks {
    fn default() -> Self {
        Self::new()
    }
}

/// The steps of coming up are checks, too: each is reached only if the one before it did what it says.
impl Observer for Checks {
    fn begins(&mut self, title: &str) {
        self.teller.begins(title);
    }

    fn done(&mut self, title: &str, proven: &str) {
        self.passed += 1;
        self.teller.done(title, proven);
    }
}
