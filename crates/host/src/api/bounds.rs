//! Who may ask how often, and hold how many connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How many addresses are remembered for having failed to prove themselves.
const MAX_ADDRESSES: usize = 4096;

/// A number of requests that refills evenly: as many at once as in a minute, at the most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    per_minute: f64,
    left: f64,
    at: Duration,
}

impl Allowance {
    pub(super) fn new(per_minute: u32, now: Duration) -> Self {
        let per_minute = f64::from(per_minute.max(1));
        Self { per_minute, left: per_minute, at: now }
    }

    /// Takes one; or says when there is one again.
    pub(super) fn take(&mut self, now: Duration) -> Result<(), Duration> {
        self.refill(now);
        if self.left >= 1.0 {
            self.left -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.left) * 60.0 / self.per_minute))
    }

    /// Whether there is one, without taking it.
    pub(super) fn is_left(&mut self, now: Duration) -> Result<(), Duration> {
        self.take(now).inspect(|()| self.left += 1.0)
    }

    fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.left = (self.left + passed * self.per_minute / 60.0).min(self.per_minute);
        self.at = now;
    }

    fn is_full(&mut self, now: Duration) -> bool {
        self.refill(now);
        self.left >= self.per_minute
    }
}

/// How often an address may fail to prove itself.
pub(super) struct Failures {
    per_minute: u32,
    addresses: Mutex<HashMap<IpAddr, Allowance>>,
}

impl Failures {
    pub(super) fn new(per_minute: u32) -> Self {
        Self { per_minute, addresses: Mutex::default() }
    }

    /// Whether the address may try; or when again.
    pub(super) fn may_try(&self, address: IpAddr, now: Duration) -> Result<(), Duration> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.get_mut(&address).map_or(Ok(()), |allowance| allowance.is_left(now))
    }

    /// It has failed.
    pub(super) fn failed(&self, address: IpAddr, now: Duration) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.len() >= MAX_ADDRESSES {
            addresses.retain(|_, allowance| !allowance.is_full(now));
        }
        // So many at once that none can be forgotten: the bound on connections is all that is left then.
        if addresses.len() < MAX_ADDRESSES || addresses.contains_key(&address) {
            let allowance = addresses.entry(address).or_insert_with(|| Allowance::new(self.per_minute, now));
            let _ = allowance.take(now);
        }
    }
}

/// How many connections an address may hold.
#[derive(Clone)]
pub(super) struct PerAddress {
    most: usize,
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One of them, given back when dropped.
pub(super) struct Share {
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl PerAddress {
    pub(super) fn new(most: usize) -> Self {
        Self { most, held: Arc::default() }
    }

    pub(super) fn take(&self, address: IpAddr) -> Option<Share> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Share { held: Arc::clone(&self.held), address })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_allowance_refills_evenly() {
        let mut allowance = Allowance::new(60, Duration::ZERO);
        for _ in 0..60 {
            allowance.take(Duration::ZERO).unwrap();
        }
        let wait = allowance.take(Duration::ZERO).unwrap_err();
        assert_eq!(wait, SECOND);
        assert!(allowance.take(SECOND / 2).is_err());
        allowance.take(SECOND).unwrap();
        assert!(allowance.take(SECOND).is_err());
        // Not more than a minute's worth, however long nobody asked.
        let late = SECOND * 3600;
        assert_eq!((0..100).filter(|_| allowance.take(late).is_ok()).count(), 60);
    }

    #[test]
    fn who_fails_often_has_to_wait_and_others_have_not() {
        let failures = Failures::new(2);
        let [bad, good] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        for _ in 0..2 {
            failures.may_try(bad, Duration::ZERO).unwrap();
            failures.failed(bad, Duration::ZERO);
        }
        assert!(failures.may_try(bad, Duration::ZERO).is_err());
        failures.may_try(good, Duration::ZERO).unwrap();
        failures.may_try(bad, SECOND * 30).unwrap();
    }

    #[test]
    fn s43_failures_of_many_addresses_cost_bounded_memory() {
        let failures = Failures::new(1);
        for number in 0..20_000u32 {
            failures.failed(std::net::Ipv4Addr::from(number).into(), Duration::ZERO);
        }
        assert!(failures.addresses.lock().unwrap().len() <= MAX_ADDRESSES);
    }

    #[test]
    fn an_address_holds_so_many_connections() {
        let per_address = PerAddress::new(2);
        let [one, two] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let held = [per_address.take(one), per_address.take(one)];
        assert!(held.iter().all(Option::is_some) && per_address.take(one).is_none());
        assert!(per_address.take(two).is_some());
        drop(held);
        assert!(per_address.take(one).is_some());
        assert!(per_address.held.lock().unwrap().len() <= 1);
    }
}
