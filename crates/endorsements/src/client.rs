//! From Evidence to the Endorsements that it needs: from the cache, or else from the vendor, each item asked for once
//! however many wait for it, at the pace and with the rests that the vendor wants.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use appraisal::{AmdNeeds, IntelNeeds, IntelTee, Needs, UnixTime, VekNeeds, hardware_id, needs};
use evidence::snp::ProductFamily;
use evidence::{
    AmdCollateral, CertificateDer, CrlDer, Endorsements, Evidence, IntelCollateral, SignedDocument,
};
use tokio::time::Instant;

use crate::cache::Found;
use crate::counts::{Counters, add};
use crate::http::{ConfigError, Http};
use crate::item::{Answer, IssuerKind, Item};
use crate::{
    Cache, Cause, Config, Counts, FetchError, Fetched, Mode, PartFailure, PartSource, Source, Timing,
    Warning, expiry_warnings, service,
};

/// The client of the vendors' services. Cheap to share by reference; one for each configuration.
pub struct Client {
    config: Config,
    http: Http,
    cache: Option<Arc<Cache>>,
    flights: Mutex<HashMap<String, Weak<Flight>>>,
    /// Until when what is cached is served without asking again, and why: by item.
    vain: Mutex<HashMap<String, (Instant, Cause)>>,
    /// When a service may be asked next, by its host, or by that and the kind of request.
    gates: Mutex<HashMap<String, Instant>>,
    counters: Counters,
}

/// One request under way, and those who wait for it.
type Flight = tokio::sync::Mutex<Option<Result<Obtained, Cause>>>;

#[derive(Clone, Debug)]
struct Obtained {
    answer: Answer,
    source: Source,
    address: String,
    /// Why the vendor could not be asked, when this is from the cache and no longer fresh.
    stale: Option<Cause>,
}

impl Client {
    /// A client that keeps what it gets in `cache`, if there is one.
    ///
    /// # Errors
    /// [`ConfigError`] names what cannot be used.
    pub fn new(config: Config, cache: Option<Cache>) -> Result<Self, ConfigError> {
        Ok(Self {
            http: Http::new(&config)?,
            config,
            cache: cache.map(Arc::new),
            flights: Mutex::default(),
            vain: Mutex::default(),
            gates: Mutex::default(),
            counters: Counters::default(),
        })
    }

    /// How often what happened so far.
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    /// What `evidence` needs. Nothing of it is verified; an appraisal does that.
    ///
    /// # Errors
    /// [`FetchError`] names each part that could not be had, and why.
    pub async fn endorsements_for(&self, evidence: &Evidence, now: UnixTime) -> Result<Fetched, FetchError> {
        self.complete(evidence, Endorsements::default(), now).await
    }

    /// As [`Client::endorsements_for`], where some came with the Evidence: only the rest is fetched. A VLEK
    /// certificate can be had in no other way.
    ///
    /// # Errors
    /// As [`Client::endorsements_for`].
    pub async fn complete(
        &self,
        evidence: &Evidence,
        given: Endorsements,
        now: UnixTime,
    ) -> Result<Fetched, FetchError> {
        match needs(evidence) {
            Ok(Some(needs)) => self.fetch(&needs, given, now).await,
            Ok(None) => Ok(self.finish(Gathered::default(), given, now)),
            Err(unknown) => {
                let failure = PartFailure { part: "what the Evidence needs".into(), cause: unknown.into() };
                Err(FetchError { failures: vec![failure], partial: given })
            }
        }
    }

    /// What platforms need, one after the other, at the pace that the vendors want.
    pub async fn prefetch(&self, list: &[Needs], now: UnixTime) -> Vec<Result<Fetched, FetchError>> {
        let mut results = Vec::with_capacity(list.len());
        for needs in list {
            results.push(self.fetch(needs, Endorsements::default(), now).await);
        }
        results
    }

    /// Forgets what is cached for a platform: for when an appraisal finds that it was altered.
    pub async fn forget(&self, needs: &Needs) {
        for item in items(needs, &self.config) {
            self.with_cache(move |cache| cache.forget(&item)).await;
        }
    }

    /// The evaluations that Intel offers for `tee`, as it signed them (PCS API v4, "Get TCB Evaluation Data
    /// Numbers"): a help for choosing [`crate::Update::Evaluation`], and nothing that an appraisal uses.
    ///
    /// # Errors
    /// [`Cause`] when it could not be had.
    pub async fn evaluation_numbers(&self, tee: IntelTee, now: UnixTime) -> Result<SignedDocument, Cause> {
        let item = Item::EvaluationNumbers(tee);
        let answer = self.obtain(&item, now).await?.answer;
        document(answer).ok_or_else(|| Cause::WrongContent("another kind of answer".into()))
    }

    async fn fetch(&self, needs: &Needs, given: Endorsements, now: UnixTime) -> Result<Fetched, FetchError> {
        let mut gathered = Gathered::default();
        let mut endorsements = given;
        match needs {
            Needs::Intel(needs) if endorsements.intel.is_none() => {
                endorsements.intel = self.intel(needs, &mut gathered, now).await;
            }
            Needs::Amd(needs) => {
                let given = endorsements.amd.take();
                endorsements.amd = self.amd(needs, given, &mut gathered, now).await;
            }
            Needs::Intel(_) => {}
        }
        if gathered.failures.is_empty() {
            return Ok(self.finish(gathered, endorsements, now));
        }
        Err(FetchError { failures: gathered.failures, partial: endorsements })
    }

    fn finish(&self, gathered: Gathered, endorsements: Endorsements, now: UnixTime) -> Fetched {
        let mut warnings = gathered.warnings;
        warnings.extend(expiry_warnings(&endorsements, now, self.config.freshness.warn_days));
        Fetched { endorsements, warnings, parts: gathered.parts }
    }

    async fn intel(
        &self,
        needs: &IntelNeeds,
        gathered: &mut Gathered,
        now: UnixTime,
    ) -> Option<IntelCollateral> {
        let [tcb_info, qe_identity, pck_crl, root_ca_crl] = intel_items(needs, &self.config);
        let results = tokio::join!(
            self.obtain(&tcb_info, now),
            self.obtain(&qe_identity, now),
            self.obtain(&pck_crl, now),
            self.obtain(&root_ca_crl, now),
        );
        let tcb_info = gathered.needed(&tcb_info, results.0).and_then(document);
        let qe_identity = gathered.needed(&qe_identity, results.1).and_then(document);
        let pck_crl = gathered.needed(&pck_crl, results.2).and_then(crl);
        let root_ca_crl = gathered.needed(&root_ca_crl, results.3).and_then(crl);
        let (pck_crl, pck_crl_issuer_chain) = pck_crl?;
        Some(IntelCollateral {
            tcb_info: tcb_info?,
            qe_identity: qe_identity?,
            root_ca_crl: root_ca_crl?.0,
            pck_crl,
            pck_crl_issuer_chain,
            // It travels in the quote; the service has nothing that names a platform.
            pck_chain: vec![],
        })
    }

    async fn amd(
        &self,
        needs: &AmdNeeds,
        given: Option<AmdCollateral>,
        gathered: &mut Gathered,
        now: UnixTime,
    ) -> Option<AmdCollateral> {
        let (family, vek, given) = match given {
            Some(given) => (family_of(&given.vek), given.vek, Some((given.issuer_chain, given.crl))),
            None => {
                let (family, vek) = self.vek(needs, gathered, now).await?;
                (Some(family), vek, None)
            }
        };
        let (mut issuer_chain, mut list) = given.unwrap_or_default();
        let family = family.or_else(|| needs.families.first().copied());
        let kind = issuer_kind(&needs.vek);
        if let Some(family) = family {
            // The appraisal knows AMD's issuers; those that it does not know yet come from here.
            if issuer_chain.is_empty() {
                let item = Item::AmdIssuers { family, kind };
                let answer = gathered.welcome(&item, self.obtain(&item, now).await);
                issuer_chain = answer.and_then(certificates).unwrap_or_default();
            }
            if list.is_none() {
                let item = Item::AmdCrl(family);
                list =
                    gathered.welcome(&item, self.obtain(&item, now).await).and_then(crl).map(|(crl, _)| crl);
            }
        }
        Some(AmdCollateral { vek, issuer_chain, crl: list })
    }

    /// The certificate of the chip's key. Where the report does not tell the product, each that it may be of is
    /// asked for: AMD has the chip under one of them.
    async fn vek(
        &self,
        needs: &AmdNeeds,
        gathered: &mut Gathered,
        now: UnixTime,
    ) -> Option<(ProductFamily, CertificateDer)> {
        let candidates = vcek_items(needs);
        if candidates.is_empty() {
            let cause = match needs.vek {
                VekNeeds::Vlek { .. } => Cause::NotPublic,
                VekNeeds::Vcek { .. } => {
                    Cause::WrongContent("the report's TCB is none of a product that we know".into())
                }
            };
            gathered.failures.push(PartFailure { part: "certificate of the VCEK or VLEK".into(), cause });
            return None;
        };
        let mut failures = Vec::new();
        for (family, item) in candidates {
            match self.obtain(&item, now).await {
                Err(cause) => {
                    let elsewhere = matches!(cause, Cause::NotFound | Cause::Offline | Cause::Status(400));
                    failures.push(PartFailure { part: item.to_string(), cause });
                    if !elsewhere {
                        break;
                    }
                }
                obtained => {
                    let answer = gathered.needed(&item, obtained)?;
                    return certificates(answer)?.into_iter().next().map(|vek| (family, vek));
                }
            }
        }
        gathered.failures.append(&mut failures);
        None
    }

    /// An answer from the cache while it is fresh, else from the vendor, else from the cache.
    async fn obtain(&self, item: &Item, now: UnixTime) -> Result<Obtained, Cause> {
        let cached = self.cached(item).await;
        if let Some(fresh) = self.fresh(item, cached.as_ref(), now) {
            return Ok(fresh);
        }
        if self.config.mode == Mode::Offline {
            return self.stale_or(item, cached, Cause::Offline);
        }
        if let Some(cause) = self.asked_in_vain(item).filter(|_| holds(cached.as_ref(), now)) {
            return self.stale_or(item, cached, cause);
        }
        let flight = self.flight(item);
        let mut slot = flight.lock().await;
        if let Some(landed) = &*slot {
            add(&self.counters.joined);
            return landed.clone();
        }
        let obtained = self.obtain_alone(item, now).await;
        *slot = Some(obtained.clone());
        obtained
    }

    /// As the only task of this process that asks for the item.
    async fn obtain_alone(&self, item: &Item, now: UnixTime) -> Result<Obtained, Cause> {
        let Timing { total, refresh, refresh_pause, .. } = self.config.timing;
        let cached = self.cached(item).await;
        let patience = if holds(cached.as_ref(), now) { refresh } else { total };
        // Whoever holds the lock for longer is not one of us, or is stuck: then both ask.
        let _lock = self.lock(item, later(Instant::now(), patience)).await;
        // Another process may have had it meanwhile.
        let cached = self.cached(item).await;
        if let Some(fresh) = self.fresh(item, cached.as_ref(), now) {
            return Ok(fresh);
        }
        let still_holds = holds(cached.as_ref(), now);
        let patience = if still_holds { refresh } else { total };
        let answer = match self.ask(item, later(Instant::now(), patience)).await {
            Ok(answer) => answer,
            Err(cause) => {
                add(&self.counters.failures);
                if still_holds {
                    let until = later(Instant::now(), refresh_pause);
                    unpoisoned(&self.vain).insert(item.key(), (until, cause.clone()));
                }
                return self.stale_or(item, cached, cause);
            }
        };
        // A cache between us and the vendor may be behind what we have.
        if let Some((kept, _)) = cached.filter(|(kept, _)| is_newer(kept, &answer)) {
            return Ok(self.obtained(item, kept, Source::Cache, None));
        }
        let (own, kept) = (item.clone(), answer.clone());
        if let Some(Err(_)) = self.with_cache(move |cache| cache.keep(&own, &kept, now)).await {
            add(&self.counters.unwritten);
        }
        Ok(self.obtained(item, answer, Source::Vendor, None))
    }

    fn asked_in_vain(&self, item: &Item) -> Option<Cause> {
        let now = Instant::now();
        let mut vain = unpoisoned(&self.vain);
        vain.retain(|_, (until, _)| *until > now);
        vain.get(&item.key()).map(|(_, cause)| cause.clone())
    }

    fn fresh(&self, item: &Item, cached: Option<&(Answer, UnixTime)>, now: UnixTime) -> Option<Obtained> {
        let (answer, fetched) = cached?;
        let fresh = answer.is_fresh(item, *fetched, now, self.config.freshness.max_age);
        fresh.then(|| {
            add(&self.counters.cached);
            self.obtained(item, answer.clone(), Source::Cache, None)
        })
    }

    fn stale_or(
        &self,
        item: &Item,
        cached: Option<(Answer, UnixTime)>,
        cause: Cause,
    ) -> Result<Obtained, Cause> {
        let Some((answer, _)) = cached else { return Err(cause) };
        add(&self.counters.stale);
        Ok(self.obtained(item, answer, Source::Cache, Some(cause)))
    }

    fn obtained(&self, item: &Item, answer: Answer, source: Source, stale: Option<Cause>) -> Obtained {
        Obtained { answer, source, address: service::address(item, &self.config), stale }
    }

    async fn cached(&self, item: &Item) -> Option<(Answer, UnixTime)> {
        let wanted = item.clone();
        match self.with_cache(move |cache| cache.find(&wanted)).await? {
            Found::Answer { answer, fetched } => Some((answer, fetched)),
            Found::Nothing => None,
            Found::Dropped => {
                add(&self.counters.dropped);
                None
            }
        }
    }

    /// Disks are slow, and must not hold up the tasks of others.
    async fn with_cache<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Cache) -> T + Send + 'static,
    ) -> Option<T> {
        let cache = Arc::clone(self.cache.as_ref()?);
        tokio::task::spawn_blocking(move || work(&cache)).await.ok()
    }

    /// Waits while another process asks for the same; gives up at the deadline, or when there can be no lock.
    async fn lock(&self, item: &Item, deadline: Instant) -> Option<std::fs::File> {
        loop {
            let wanted = item.clone();
            match self.with_cache(move |cache| cache.try_lock(&wanted)).await?.ok()? {
                Some(lock) => return Some(lock),
                None if Instant::now() >= deadline => return None,
                None => tokio::time::sleep(Cache::LOCK_PAUSE).await,
            }
        }
    }

    fn flight(&self, item: &Item) -> Arc<Flight> {
        let mut flights = unpoisoned(&self.flights);
        flights.retain(|_, flight| flight.strong_count() > 0);
        let key = item.key();
        if let Some(flight) = flights.get(&key).and_then(Weak::upgrade) {
            return flight;
        }
        let flight = Arc::new(Flight::default());
        flights.insert(key, Arc::downgrade(&flight));
        flight
    }

    /// All tries for one item.
    async fn ask(&self, item: &Item, deadline: Instant) -> Result<Answer, Cause> {
        let timing = &self.config.timing;
        let address = service::address(item, &self.config);
        let host = host(&address);
        let mut backoff = timing.first_backoff.min(timing.longest_backoff).min(LONGEST);
        let mut tries = 0;
        loop {
            tries += 1;
            self.wait_for_turn(item, &host, deadline).await?;
            add(&self.counters.requests);
            let patience = timing.per_try.min(deadline.saturating_duration_since(Instant::now()));
            let tried = tokio::time::timeout(patience, self.http.get(&address, item.limit())).await;
            let cause = match tried {
                Ok(Ok(response)) => return service::read(item, &response),
                Ok(Err(cause)) => cause,
                Err(_) => Cause::TimedOut(patience),
            };
            let spread = (self.config.jitter)().clamp(0.0, 1.0);
            let mut wait = backoff.mul_f64(0.5 + spread / 2.0);
            if let Cause::RateLimited(after) = &cause {
                add(&self.counters.rate_limited);
                wait = after.unwrap_or(wait);
                self.close_gate(&host, wait);
            }
            if !cause.is_passing() || tries >= timing.tries || later(Instant::now(), wait) >= deadline {
                return Err(cause);
            }
            tokio::time::sleep(wait).await;
            add(&self.counters.retries);
            backoff = (backoff * 2).min(timing.longest_backoff).min(LONGEST);
        }
    }

    /// Nobody asks a host that wants rest, and VCEKs are asked for one after the other.
    async fn wait_for_turn(&self, item: &Item, host: &str, deadline: Instant) -> Result<(), Cause> {
        let now = Instant::now();
        let turn = {
            let mut gates = unpoisoned(&self.gates);
            gates.retain(|_, open| *open > now);
            let mut turn = gates.get(host).copied().unwrap_or(now);
            if matches!(item, Item::Vcek { .. }) {
                let pace = format!("{host} vcek");
                turn = turn.max(gates.get(&pace).copied().unwrap_or(now));
                if turn < deadline {
                    gates.insert(pace, later(turn, self.config.timing.vcek_pace));
                }
            }
            turn
        };
        if turn >= deadline {
            return Err(Cause::RateLimited(Some(turn.saturating_duration_since(now))));
        }
        tokio::time::sleep_until(turn).await;
        Ok(())
    }

    fn close_gate(&self, host: &str, rest: Duration) {
        // However long a service, or whoever answers in its place, wants it: ask again in an hour.
        let open = later(Instant::now(), rest.min(LONGEST_REST));
        let mut gates = unpoisoned(&self.gates);
        let gate = gates.entry(host.to_owned()).or_insert(open);
        *gate = open.max(*gate);
    }
}

/// No wait is longer, whatever the configuration or a service says: sums of times stay in their range.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const LONGEST_REST: Duration = Duration::from_secs(60 * 60);

fn later(instant: Instant, wait: Duration) -> Instant {
    instant + wait.min(LONGEST)
}

/// A panic elsewhere leaves these maps whole: each change is one call.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn host(address: &str) -> String {
    let uri: Option<http::Uri> = address.parse().ok();
    uri.and_then(|uri| uri.authority().map(ToString::to_string)).unwrap_or_default()
}

/// Whether what is cached has not ended.
fn holds(cached: Option<&(Answer, UnixTime)>, now: UnixTime) -> bool {
    cached.and_then(|(answer, _)| answer.window()).is_some_and(|(_, end)| now <= end)
}

fn is_newer(kept: &Answer, answer: &Answer) -> bool {
    match (kept.window(), answer.window()) {
        (Some((kept, kept_end)), Some((issued, end))) => kept > issued && kept_end > end,
        _ => false,
    }
}

/// What has been gathered for one platform.
#[derive(Default)]
struct Gathered {
    failures: Vec<PartFailure>,
    warnings: Vec<Warning>,
    parts: Vec<PartSource>,
}

impl Gathered {
    /// A part without which there can be no appraisal.
    fn needed(&mut self, item: &Item, obtained: Result<Obtained, Cause>) -> Option<Answer> {
        match self.take(item, obtained) {
            Ok(answer) => Some(answer),
            Err(failure) => {
                self.failures.push(failure);
                None
            }
        }
    }

    /// A part that a policy may do without.
    fn welcome(&mut self, item: &Item, obtained: Result<Obtained, Cause>) -> Option<Answer> {
        match self.take(item, obtained) {
            Ok(answer) => Some(answer),
            Err(failure) => {
                self.warnings.push(Warning::Missing(failure));
                None
            }
        }
    }

    fn take(&mut self, item: &Item, obtained: Result<Obtained, Cause>) -> Result<Answer, PartFailure> {
        let part = item.to_string();
        let obtained = obtained.map_err(|cause| PartFailure { part: part.clone(), cause })?;
        if let Some(cause) = obtained.stale {
            self.warnings.push(Warning::Stale(PartFailure { part: part.clone(), cause }));
        }
        self.parts.push(PartSource { part, source: obtained.source, address: obtained.address });
        Ok(obtained.answer)
    }
}

fn intel_items(needs: &IntelNeeds, config: &Config) -> [Item; 4] {
    let &IntelNeeds { tee, fmspc, ca } = needs;
    let update = config.intel.update;
    [
        Item::TcbInfo { tee, fmspc, update },
        Item::QeIdentity { tee, update },
        Item::PckCrl(ca),
        Item::RootCaCrl,
    ]
}

/// The products that the report may be of, with what to ask for: none for a VLEK, or a TCB that is no product's.
fn vcek_items(needs: &AmdNeeds) -> Vec<(ProductFamily, Item)> {
    let VekNeeds::Vcek { chip_id, .. } = &needs.vek else { return Vec::new() };
    let item = |&family: &ProductFamily| {
        let tcb = needs.vek.tcb().components(family)?;
        let hardware_id = hardware_id(chip_id, family).to_vec();
        Some((family, Item::Vcek { family, hardware_id, tcb }))
    };
    needs.families.iter().filter_map(item).collect()
}

fn issuer_kind(vek: &VekNeeds) -> IssuerKind {
    match vek {
        VekNeeds::Vcek { .. } => IssuerKind::Vcek,
        VekNeeds::Vlek { .. } => IssuerKind::Vlek,
    }
}

fn items(needs: &Needs, config: &Config) -> Vec<Item> {
    match needs {
        Needs::Intel(needs) => intel_items(needs, config).into(),
        Needs::Amd(needs) => {
            let kind = issuer_kind(&needs.vek);
            let shared = |&family: &ProductFamily| [Item::AmdIssuers { family, kind }, Item::AmdCrl(family)];
            let veks = vcek_items(needs).into_iter().map(|(_, item)| item);
            veks.chain(needs.families.iter().flat_map(shared)).collect()
        }
    }
}

fn family_of(vek: &CertificateDer) -> Option<ProductFamily> {
    appraisal::CertificateHead::of(vek).ok()?.vek.map(|vek| vek.family)
}

// An answer that was checked against its item is of the kind that the item has.

fn document(answer: Answer) -> Option<SignedDocument> {
    match answer {
        Answer::Document(document) => Some(document),
        _ => None,
    }
}

fn crl(answer: Answer) -> Option<(CrlDer, Vec<CertificateDer>)> {
    match answer {
        Answer::Crl { crl, issuers } => Some((crl, issuers)),
        _ => None,
    }
}

fn certificates(answer: Answer) -> Option<Vec<CertificateDer>> {
    match answer {
        Answer::Certificates(certificates) => Some(certificates),
        _ => None,
    }
}
