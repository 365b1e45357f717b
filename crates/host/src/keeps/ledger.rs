//! Which Keeps there are for clients, whose they are, and what follows from it: who gets one, which are launched,
//! which have to end. It decides and does nothing; time and names come from outside.

use std::collections::BTreeMap;
use std::time::Duration;

use keep_protocol::host::{
    self as protocol, Backend, HostError, HostErrorCode as Code, HostInfo, KeepState, KeepSummary, NewKeep,
    Tee,
};

use super::id::KeepId;
use crate::config::{Keeps as Settings, Quota};
use crate::launcher::Storage;
use crate::names::{BackendName, TenantName};
use crate::overview::Places;

/// How long a Keep whose client has gone may take to end by itself.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long a Keep that is nobody's may take until clients can have it, as seen by one agent: an emulated machine takes
/// minutes on a busy host.
const START_WITHIN: Duration = Duration::from_secs(600);
/// Why one is ended that took longer.
pub(super) const NOT_STARTED: &str = "it took no client within ten minutes of its launch";
/// The bounds of the advice when to try again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A back end that launches Keeps for clients.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) backend: BackendName,
    pub(super) kind: protocol::BackendKind,
    /// As which it launches; the first is kept warm.
    pub(super) tees: Vec<Tee>,
    pub(super) capacity: u32,
    /// Whether its Keeps can have storage of the host, and when.
    pub(super) storage: Storage,
}

/// What is to be launched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) backend: BackendName,
    pub(super) tee: Tee,
    pub(super) memory_mib: u64,
    /// Whose storage it has.
    pub(super) volumes: Option<TenantName>,
}

/// How a client gets its Keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    /// By one that is warm, and is now the client's.
    Warm(KeepId),
    /// By one that has to be launched, and is the client's from then on.
    Launch(KeepId, Order),
}

/// A moment in the past, also one before this agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Since {
    /// Time that had passed when this agent learned of it.
    pub(super) before: Duration,
    /// When this agent learned of it, by its monotonic clock.
    pub(super) at: Duration,
}

impl Since {
    pub(super) fn now(now: Duration) -> Self {
        Self { before: Duration::ZERO, at: now }
    }

    pub(super) fn elapsed(self, now: Duration) -> Duration {
        self.before.saturating_add(now.saturating_sub(self.at))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Keep {
    pub(super) order: Order,
    pub(super) kind: protocol::BackendKind,
    pub(super) running: bool,
    pub(super) born: Since,
    /// `None` while it is nobody's.
    pub(super) lease: Option<Lease>,
    /// It is being ended; it counts until it is gone.
    pub(super) ending: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) tenant: TenantName,
    pub(super) label: String,
    pub(super) lifetime: Duration,
    pub(super) since: Since,
    pub(super) contact: Contact,
}

/// A client connects once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contact {
    /// It has not yet come.
    Awaited,
    /// It is connected.
    Connected,
    /// It was connected through an agent that is gone: for all we know it still is.
    Elsewhere,
    /// It was connected until then.
    Over(Duration),
}

pub(super) struct Ledger {
    offers: Vec<Offer>,
    settings: Settings,
    keeps: BTreeMap<KeepId, Keep>,
    draining: bool,
}

impl Ledger {
    pub(super) fn new(offers: Vec<Offer>, settings: Settings) -> Self {
        Self { offers, settings, keeps: BTreeMap::new(), draining: false }
    }

    pub(super) fn keep(&self, id: KeepId) -> Option<&Keep> {
        self.keeps.get(&id)
    }

    pub(super) fn keeps(&self) -> impl Iterator<Item = (KeepId, &Keep)> {
        self.keeps.iter().map(|(id, keep)| (*id, keep))
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    /// From now on there are no new Keeps; those that are nobody's are to be ended.
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    /// A client asks. `id` is the name of a Keep that may have to be launched.
    pub(super) fn ask(
        &mut self,
        tenant: &TenantName,
        quota: &Quota,
        wanted: &NewKeep,
        id: KeepId,
        now: Duration,
    ) -> Result<Grant, HostError> {
        if self.draining {
            return Err(HostError::new(Code::Draining, "this host takes no new Keeps"));
        }
        let memory_mib = wanted.memory.div_ceil(1 << 20).max(self.settings.memory_mib);
        self.check_quota(tenant, quota, memory_mib, now)?;
        let lease = Lease {
            tenant: tenant.clone(),
            label: wanted.label.clone(),
            lifetime: Duration::from_secs(quota.lifetime_s),
            since: Since::now(now),
            contact: Contact::Awaited,
        };
        let (mut known, mut stored) = (false, !wanted.volumes);
        let volumes = wanted.volumes.then(|| tenant.clone());
        for tee in &wanted.tees {
            for offer in self.offers.iter().filter(|offer| offer.tees.contains(tee)) {
                known = true;
                if wanted.volumes && offer.storage == Storage::Never {
                    continue;
                }
                stored = true;
                // What is nobody's counts not: it is given, or gives way.
                if self.used(offer, |keep| keep.lease.is_some() || keep.ending) >= offer.capacity {
                    continue;
                }
                let fits = |keep: &Keep| {
                    keep.order.backend == offer.backend
                        && keep.order.tee == *tee
                        && keep.order.memory_mib >= memory_mib
                        && (keep.order.volumes == volumes || offer.storage == Storage::Attached)
                };
                let warm = self.keeps.iter_mut().find(|(_, keep)| keep.is_warm() && fits(keep));
                if let Some((id, keep)) = warm {
                    keep.lease = Some(lease);
                    keep.order.volumes = volumes;
                    return Ok(Grant::Warm(*id));
                }
                let order = Order { backend: offer.backend.clone(), tee: *tee, memory_mib, volumes };
                let kind = offer.kind;
                self.keeps.insert(id, Keep::new(order.clone(), kind, Some(lease), now));
                return Ok(Grant::Launch(id, order));
            }
        }
        if known && !stored {
            let message = "no back end that would do has storage for volumes";
            Err(HostError::new(Code::NoStorage, message))
        } else if known {
            let error = HostError::new(Code::NoRoom, "all back ends that would do are full");
            Err(HostError { retry_after_ms: millis(RETRY.0 * 5), ..error })
        } else {
            Err(HostError::new(Code::NoSuchTee, "no back end of this host launches any of these TEEs"))
        }
    }

    fn check_quota(
        &self,
        tenant: &TenantName,
        quota: &Quota,
        memory_mib: u64,
        now: Duration,
    ) -> Result<(), HostError> {
        let own = || self.keeps.values().filter_map(|keep| Some((keep, keep.lease_of(tenant)?)));
        let count = own().count();
        let memory: u64 = own().map(|(keep, _)| keep.order.memory_mib).sum();
        let cpu = u64::from(self.settings.cpu_milli) * (count as u64 + 1);
        let (limit, what) = if count as u64 >= u64::from(quota.keeps) {
            (format!("{} Keeps", quota.keeps), "Keeps")
        } else if memory.saturating_add(memory_mib) > quota.memory_mib {
            (format!("{} MiB of memory", quota.memory_mib), "memory")
        } else if cpu > u64::from(quota.cpu_milli) {
            (format!("{} thousandths of a processor", quota.cpu_milli), "processor time")
        } else {
            return Ok(());
        };
        let soonest = own().map(|(_, lease)| lease.lifetime.saturating_sub(lease.since.elapsed(now))).min();
        let message = format!("{tenant} may have {limit} here; end a Keep to have more {what}");
        // With none that could end, nothing will change by itself.
        let retry_after_ms = soonest.map_or(0, |left| millis(left.clamp(RETRY.0, RETRY.1)));
        Err(HostError { retry_after_ms, ..HostError::new(Code::QuotaExceeded, message) })
    }

    fn used(&self, offer: &Offer, counts: impl Fn(&Keep) -> bool) -> u32 {
        let of_it = |keep: &&Keep| keep.order.backend == offer.backend && counts(keep);
        u32::try_from(self.keeps.values().filter(of_it).count()).unwrap_or(u32::MAX)
    }

    /// What has to be launched, and is nobody's yet, so that the pools are full. It counts from here on.
    pub(super) fn refill(
        &mut self,
        now: Duration,
        is_ready: impl Fn(&BackendName) -> bool,
        mut name: impl FnMut() -> KeepId,
    ) -> Vec<(KeepId, Order)> {
        if self.draining {
            return Vec::new();
        }
        let mut orders = Vec::new();
        for offer in self.offers.iter().filter(|offer| is_ready(&offer.backend)) {
            let Some(tee) = offer.tees.first() else { continue };
            let idle = self.used(offer, |keep| keep.lease.is_none() && !keep.ending);
            let room = offer.capacity.saturating_sub(self.used(offer, |_| true));
            for _ in 0..self.settings.warm.saturating_sub(idle).min(room) {
                let memory_mib = self.settings.memory_mib;
                let order = Order { backend: offer.backend.clone(), tee: *tee, memory_mib, volumes: None };
                orders.push((name(), order, offer.kind));
            }
        }
        for (id, order, kind) in &orders {
            self.keeps.insert(*id, Keep::new(order.clone(), *kind, None, now));
        }
        orders.into_iter().map(|(id, order, _)| (id, order)).collect()
    }

    /// One from before this agent.
    pub(super) fn adopted(&mut self, id: KeepId, order: Order, born: Since, lease: Option<Lease>) -> bool {
        let Some(offer) = self.offers.iter().find(|offer| offer.backend == order.backend) else {
            return false;
        };
        let keep = Keep { order, kind: offer.kind, running: false, born, lease, ending: false };
        self.keeps.insert(id, keep);
        true
    }

    /// It runs.
    pub(super) fn launched(&mut self, id: KeepId) {
        if let Some(keep) = self.keeps.get_mut(&id) {
            keep.running = true;
        }
    }

    /// It runs, and its client hears of it: the lease begins.
    pub(super) fn begins(&mut self, id: KeepId, now: Duration) {
        self.launched(id);
        if let Some(lease) = self.keeps.get_mut(&id).and_then(|keep| keep.lease.as_mut()) {
            lease.since = Since::now(now);
        }
    }

    /// It does not run any more, or never did.
    pub(super) fn gone(&mut self, id: KeepId) {
        self.keeps.remove(&id);
    }

    /// It is being ended.
    pub(super) fn ending(&mut self, id: KeepId) {
        if let Some(keep) = self.keeps.get_mut(&id) {
            keep.ending = true;
        }
    }

    /// The Keep of this name if it is the tenant's. Another's is not told apart from none.
    pub(super) fn own(&self, tenant: &TenantName, id: KeepId) -> Result<&Keep, HostError> {
        let own = |keep: &&Keep| keep.lease_of(tenant).is_some() && !keep.ending;
        self.keeps
            .get(&id)
            .filter(own)
            .ok_or_else(|| HostError::new(Code::NoSuchKeep, "there is no Keep of this name, or it has ended"))
    }

    /// A client of the tenant connects.
    pub(super) fn connect(&mut self, tenant: &TenantName, id: KeepId) -> Result<(), HostError> {
        self.own(tenant, id)?;
        let lease = self.keeps.get_mut(&id).and_then(|keep| keep.lease.as_mut());
        match lease {
            Some(lease) if lease.contact == Contact::Awaited => {
                lease.contact = Contact::Connected;
                Ok(())
            }
            _ => Err(HostError::new(Code::KeepTaken, "this Keep has its client, or had it")),
        }
    }

    /// The client could not be connected, and may try again.
    pub(super) fn not_connected(&mut self, id: KeepId) {
        if let Some(lease) = self.keeps.get_mut(&id).and_then(|keep| keep.lease.as_mut()) {
            lease.contact = Contact::Awaited;
        }
    }

    /// The client's connection has ended.
    pub(super) fn disconnected(&mut self, id: KeepId, now: Duration) {
        if let Some(lease) = self.keeps.get_mut(&id).and_then(|keep| keep.lease.as_mut()) {
            lease.contact = Contact::Over(now);
        }
    }

    /// Which Keeps have to be ended now, and why.
    pub(super) fn due(&self, now: Duration) -> Vec<(KeepId, &'static str)> {
        let idle = self.settings.idle();
        let reason = |keep: &Keep| match &keep.lease {
            _ if keep.ending => None,
            None if self.draining => Some("the host is drained"),
            None if !keep.running && now.saturating_sub(keep.born.at) >= START_WITHIN => Some(NOT_STARTED),
            None => None,
            Some(lease) if lease.since.elapsed(now) >= lease.lifetime => Some("its lease is over"),
            Some(lease) => match lease.contact {
                Contact::Awaited if lease.since.elapsed(now) >= idle && keep.running => {
                    Some("its client did not come")
                }
                Contact::Over(then) if now.saturating_sub(then) >= FAREWELL => Some("its client has gone"),
                _ => None,
            },
        };
        let mut due: Vec<_> = self.keeps.iter().filter_map(|(id, keep)| Some((*id, reason(keep)?))).collect();
        for offer in &self.offers {
            // What was launched on demand above the capacity takes the place of what is nobody's.
            let over = self.used(offer, |keep| !keep.ending).saturating_sub(offer.capacity);
            let idle = self.keeps.iter().filter(|(_, keep)| {
                keep.order.backend == offer.backend && keep.lease.is_none() && !keep.ending
            });
            due.extend(idle.take(over as usize).map(|(id, _)| (*id, "its place is needed")));
        }
        due.sort();
        due.dedup_by_key(|(id, _)| *id);
        due
    }

    /// The Keeps of a tenant, or all; oldest first.
    pub(super) fn list(&self, tenant: Option<&TenantName>, now: Duration) -> Vec<KeepSummary> {
        let shown = |keep: &&Keep| tenant.is_none_or(|tenant| keep.lease_of(tenant).is_some());
        let mut list: Vec<_> =
            self.keeps().filter(|(_, keep)| shown(keep)).map(|(id, keep)| keep.summary(id, now)).collect();
        list.sort_by_key(|summary| std::cmp::Reverse(summary.age_ms));
        list
    }

    /// The places of a back end, if it launches Keeps.
    pub(super) fn places(&self, backend: &BackendName) -> Option<Places> {
        let offer = self.offers.iter().find(|offer| offer.backend == *backend)?;
        let taken = self.used(offer, |keep| keep.lease.is_some() || keep.ending);
        let (all, free) = (offer.capacity, offer.capacity.saturating_sub(taken));
        Some(Places { all, free, warm: self.used(offer, Keep::is_warm) })
    }

    pub(super) fn info(&self) -> HostInfo {
        let backends = self.offers.iter().flat_map(|offer| {
            let free =
                offer.capacity.saturating_sub(self.used(offer, |keep| keep.lease.is_some() || keep.ending));
            offer.tees.iter().map(move |tee| {
                let warm = self.used(offer, |keep| keep.is_warm() && keep.order.tee == *tee);
                Backend { tee: *tee, free, kind: offer.kind, warm, product: String::new() }
            })
        });
        HostInfo {
            agent: super::AGENT.to_owned(),
            backends: backends.take(16).collect(),
            draining: self.draining,
            versions: vec![keep_protocol::VERSION],
        }
    }
}

impl Keep {
    fn new(order: Order, kind: protocol::BackendKind, lease: Option<Lease>, now: Duration) -> Self {
        Self { order, kind, running: false, born: Since::now(now), lease, ending: false }
    }

    fn is_warm(&self) -> bool {
        self.running && self.lease.is_none() && !self.ending
    }

    fn lease_of(&self, tenant: &TenantName) -> Option<&Lease> {
        self.lease.as_ref().filter(|lease| lease.tenant == *tenant)
    }

    pub(super) fn state(&self) -> KeepState {
        match (&self.lease, self.running) {
            _ if self.ending => KeepState::Ended,
            (_, false) => KeepState::Starting,
            (None, true) => KeepState::Warm,
            (Some(lease), true) => match lease.contact {
                Contact::Awaited => KeepState::Leased,
                Contact::Connected | Contact::Elsewhere => KeepState::Connected,
                Contact::Over(_) => KeepState::Ended,
            },
        }
    }

    fn summary(&self, id: KeepId, now: Duration) -> KeepSummary {
        let since = self.lease.as_ref().map_or(self.born, |lease| lease.since);
        KeepSummary {
            id: id.to_string(),
            tee: self.order.tee,
            kind: self.kind,
            label: self.lease.as_ref().map_or_else(String::new, |lease| lease.label.clone()),
            state: self.state(),
            age_ms: millis(since.elapsed(now)),
        }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
