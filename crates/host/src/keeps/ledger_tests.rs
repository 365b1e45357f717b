use super::*;
use keep_protocol::host::{BackendKind, Platform};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const SNP: Tee = Tee { emulated: true, platform: Platform::Snp };
const TDX: Tee = Tee { emulated: true, platform: Platform::Tdx };
const TPM: Tee = Tee { emulated: false, platform: Platform::Tpm };

fn offer(name: &str, tees: &[Tee], capacity: u32) -> Offer {
    Offer {
        backend: name.parse().unwrap(),
        kind: BackendKind::Process,
        tees: tees.to_vec(),
        capacity,
        storage: Storage::AtLaunch,
    }
}

fn settings(warm: u32) -> Settings {
    Settings { warm, memory_mib: 100, cpu_milli: 1000, idle_s: 60, ..Settings::default() }
}

fn ledger(warm: u32, capacity: u32) -> Ledger {
    Ledger::new(vec![offer("emulated", &[SNP, TDX], capacity)], settings(warm))
}

fn tenant(name: &str) -> TenantName {
    name.parse().unwrap()
}

fn quota(keeps: u32) -> Quota {
    Quota { keeps, memory_mib: 1000, cpu_milli: 10_000, lifetime_s: 600, ..Quota::default() }
}

fn wanted(tees: &[Tee]) -> NewKeep {
    NewKeep { tees: tees.to_vec(), label: String::new(), memory: 0, volumes: false }
}

fn ask(ledger: &mut Ledger, who: &str, quota: &Quota, tees: &[Tee], number: u8) -> Result<Grant, Code> {
    let id = KeepId::number(number);
    ledger.ask(&tenant(who), quota, &wanted(tees), id, SECOND).map_err(|error| error.code)
}

fn fill(ledger: &mut Ledger, from: u8) -> Vec<KeepId> {
    let mut number = from;
    let orders = ledger.refill(
        SECOND,
        |_| true,
        || {
            number += 1;
            KeepId::number(number)
        },
    );
    orders.into_iter().map(|(id, _)| id).collect()
}

#[test]
fn storage_is_the_tenants_own_and_where_there_is_some() {
    let mut ledger = ledger(2, 8);
    fill(&mut ledger, 100).iter().for_each(|id| ledger.launched(*id));
    let storing = NewKeep { volumes: true, ..wanted(&[SNP]) };
    let ask = |ledger: &mut Ledger, who: &str, number| {
        let granted = ledger.ask(&tenant(who), &quota(8), &storing, KeepId::number(number), SECOND);
        granted.map_err(|error| error.code)
    };
    for (who, number) in [("acme", 1), ("umbrella", 2)] {
        // A warm one was launched before it was known whose it would be.
        let Ok(Grant::Launch(_, order)) = ask(&mut ledger, who, number) else { panic!("not launched") };
        assert_eq!(order.volumes, Some(tenant(who)));
    }
    let mut without = Ledger::new(
        vec![Offer { storage: Storage::Never, ..offer("vm", &[SNP], 8) }, offer("full", &[SNP], 0)],
        settings(0),
    );
    assert_eq!(ask(&mut without, "acme", 3), Err(Code::NoRoom));
    without.offers.pop();
    assert_eq!(ask(&mut without, "acme", 3), Err(Code::NoStorage));
}

/// What is nobody's has nobody's storage, so a warm one can be given to whoever comes, with theirs.
#[test]
fn a_warm_keep_that_can_be_given_storage_is_given() {
    let mut ledger =
        Ledger::new(vec![Offer { storage: Storage::Attached, ..offer("vm", &[TPM], 8) }], settings(2));
    let warm = fill(&mut ledger, 100);
    warm.iter().for_each(|id| ledger.launched(*id));
    let storing = NewKeep { volumes: true, ..wanted(&[TPM]) };
    let granted = ledger.ask(&tenant("acme"), &quota(8), &storing, KeepId::number(1), SECOND);
    assert_eq!(granted.map_err(|error| error.code), Ok(Grant::Warm(warm[0])));
    assert_eq!(ledger.keep(warm[0]).unwrap().order.volumes, Some(tenant("acme")));
    assert_eq!(ask(&mut ledger, "umbrella", &quota(8), &[TPM], 2), Ok(Grant::Warm(warm[1])));
    assert_eq!(ledger.keep(warm[1]).unwrap().order.volumes, None);
}

#[test]
fn a_warm_keep_is_given_before_one_is_launched() {
    let mut ledger = ledger(2, 8);
    let warm = fill(&mut ledger, 100);
    assert_eq!(warm.len(), 2);
    // One that does not run yet is of no use to anybody.
    assert!(matches!(ask(&mut ledger, "acme", &quota(8), &[SNP], 1), Ok(Grant::Launch(..))));
    warm.iter().for_each(|id| ledger.launched(*id));
    assert_eq!(ask(&mut ledger, "acme", &quota(8), &[SNP], 2), Ok(Grant::Warm(warm[0])));
    assert_eq!(ask(&mut ledger, "acme", &quota(8), &[SNP], 3), Ok(Grant::Warm(warm[1])));
    assert!(matches!(ask(&mut ledger, "acme", &quota(8), &[SNP], 4), Ok(Grant::Launch(..))));
    // The pool is made full again.
    assert_eq!(fill(&mut ledger, 110).len(), 2);
    assert_eq!(fill(&mut ledger, 120).len(), 0);
}

#[test]
fn the_best_tee_that_is_there_is_given() {
    let offers = vec![offer("emulated", &[SNP], 8), offer("machines", &[TPM], 1)];
    let mut ledger = Ledger::new(offers, settings(0));
    let backend = |grant| match grant {
        Ok(Grant::Launch(_, order)) => order.backend.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(backend(ask(&mut ledger, "acme", &quota(8), &[TPM, SNP], 1)), "machines");
    // Full: the next best. Nothing else would do: no room. Never here: no such TEE.
    assert_eq!(backend(ask(&mut ledger, "acme", &quota(8), &[TPM, SNP], 2)), "emulated");
    assert_eq!(ask(&mut ledger, "acme", &quota(8), &[TPM], 3), Err(Code::NoRoom));
    assert_eq!(ask(&mut ledger, "acme", &quota(8), &[TDX], 4), Err(Code::NoSuchTee));
    let real = Tee { emulated: false, ..SNP };
    assert_eq!(ask(&mut ledger, "acme", &quota(8), &[real], 5), Err(Code::NoSuchTee));
}

#[test]
fn quotas_hold_for_each_tenant_by_itself() {
    let mut ledger = ledger(0, 100);
    let one = quota(2);
    for number in 0..2 {
        ask(&mut ledger, "acme", &one, &[SNP], number).unwrap();
    }
    let error = ledger.ask(&tenant("acme"), &one, &wanted(&[SNP]), KeepId::number(9), SECOND).unwrap_err();
    assert_eq!(error.code, Code::QuotaExceeded);
    assert_eq!(error.retry_after_ms, 60_000);
    ask(&mut ledger, "zeta", &one, &[SNP], 10).unwrap();
    // Of memory, and of processor time.
    let small = Quota { memory_mib: 199, ..quota(9) };
    ask(&mut ledger, "small", &small, &[SNP], 11).unwrap();
    assert_eq!(ask(&mut ledger, "small", &small, &[SNP], 12), Err(Code::QuotaExceeded));
    let slow = Quota { cpu_milli: 1999, ..quota(9) };
    ask(&mut ledger, "slow", &slow, &[SNP], 13).unwrap();
    assert_eq!(ask(&mut ledger, "slow", &slow, &[SNP], 14), Err(Code::QuotaExceeded));
    let large = NewKeep { memory: 1001 << 20, ..wanted(&[SNP]) };
    let error = ledger.ask(&tenant("big"), &quota(9), &large, KeepId::number(15), SECOND).unwrap_err();
    // Nothing that ends could make it possible.
    assert_eq!((error.code, error.retry_after_ms), (Code::QuotaExceeded, 0));
    let endless = NewKeep { memory: u64::MAX, ..wanted(&[SNP]) };
    assert!(ledger.ask(&tenant("big"), &quota(9), &endless, KeepId::number(16), SECOND).is_err());
    // What has gone counts no more.
    ledger.gone(KeepId::number(0));
    ask(&mut ledger, "acme", &one, &[SNP], 17).unwrap();
}

#[test]
fn s55_no_tenant_has_or_sees_anothers_keep() {
    let mut ledger = ledger(0, 100);
    ask(&mut ledger, "acme", &quota(8), &[SNP], 1).unwrap();
    let (id, acme, zeta) = (KeepId::number(1), tenant("acme"), tenant("zeta"));
    ledger.launched(id);
    assert_eq!(ledger.list(Some(&acme), SECOND).len(), 1);
    assert!(ledger.list(Some(&zeta), SECOND).is_empty());
    let none = ledger.own(&zeta, KeepId::number(2)).map(|_| ()).unwrap_err();
    // Another's Keep and none are one answer.
    assert_eq!(ledger.own(&zeta, id).map(|_| ()).unwrap_err(), none);
    assert_eq!(ledger.connect(&zeta, id).unwrap_err(), none);
    ledger.connect(&acme, id).unwrap();
}

#[test]
fn a_keep_has_one_client_once() {
    let mut ledger = ledger(0, 100);
    ask(&mut ledger, "acme", &quota(8), &[SNP], 1).unwrap();
    let (id, acme) = (KeepId::number(1), tenant("acme"));
    ledger.launched(id);
    ledger.connect(&acme, id).unwrap();
    assert_eq!(ledger.connect(&acme, id).unwrap_err().code, Code::KeepTaken);
    ledger.disconnected(id, SECOND);
    assert_eq!(ledger.connect(&acme, id).unwrap_err().code, Code::KeepTaken);
    assert!(ledger.due(SECOND).is_empty());
    assert_eq!(ledger.due(SECOND + FAREWELL), [(id, "its client has gone")]);
}

#[test]
fn keeps_end_in_time() {
    let mut ledger = ledger(0, 100);
    ask(&mut ledger, "acme", &quota(8), &[SNP], 1).unwrap();
    ask(&mut ledger, "acme", &quota(8), &[SNP], 2).unwrap();
    let [awaited, connected] = [1, 2].map(KeepId::number);
    [awaited, connected].into_iter().for_each(|id| ledger.launched(id));
    ledger.connect(&tenant("acme"), connected).unwrap();
    assert!(ledger.due(SECOND * 60).is_empty());
    assert_eq!(ledger.due(SECOND * 61), [(awaited, "its client did not come")]);
    let all: Vec<KeepId> = ledger.due(SECOND * 601).into_iter().map(|(id, _)| id).collect();
    assert_eq!(all, [awaited, connected]);
    // One that is being ended is not ended again, counts until it is gone, and is nobody's any more.
    ledger.ending(awaited);
    assert_eq!(ledger.due(SECOND * 61), []);
    assert!(ledger.own(&tenant("acme"), awaited).is_err());
    assert_eq!(ask(&mut ledger, "acme", &quota(2), &[SNP], 3), Err(Code::QuotaExceeded));
}

#[test]
fn a_keep_that_never_starts_does_not_hold_its_place_for_ever() {
    let mut ledger = ledger(2, 8);
    let warm = fill(&mut ledger, 100);
    ledger.launched(warm[0]);
    assert_eq!(ledger.due(SECOND * 600), []);
    assert_eq!(ledger.due(SECOND * 601), [(warm[1], NOT_STARTED)]);
    // One that was launched before this agent has the same time to be found running.
    let mut next = Ledger::new(vec![offer("emulated", &[SNP, TDX], 8)], settings(2));
    let order = ledger.keep(warm[1]).unwrap().order.clone();
    let born = Since { before: SECOND * 5000, at: SECOND };
    assert!(next.adopted(warm[1], order, born, None));
    assert_eq!(next.due(SECOND * 600), []);
    assert_eq!(next.due(SECOND * 601), [(warm[1], NOT_STARTED)]);
}

#[test]
fn what_is_idle_gives_way_to_what_is_wanted() {
    let mut ledger = ledger(2, 2);
    let warm = fill(&mut ledger, 100);
    warm.iter().for_each(|id| ledger.launched(*id));
    let Ok(Grant::Launch(id, _)) = ask(&mut ledger, "acme", &quota(8), &[TDX], 1) else {
        panic!("not launched")
    };
    assert_eq!(ledger.due(SECOND), [(warm[0], "its place is needed")]);
    ledger.ending(warm[0]);
    assert_eq!(ledger.due(SECOND), []);
    assert_eq!(fill(&mut ledger, 110), []);
    ledger.gone(warm[0]);
    ledger.launched(id);
    assert_eq!(
        ledger.info().backends[1],
        Backend { tee: TDX, free: 1, kind: BackendKind::Process, warm: 0, product: String::new() }
    );
}

#[test]
fn a_drained_host_gives_and_launches_nothing() {
    let mut ledger = ledger(1, 8);
    let warm = fill(&mut ledger, 100);
    ledger.launched(warm[0]);
    ask(&mut ledger, "acme", &quota(8), &[TDX], 1).unwrap();
    ledger.drain();
    assert_eq!(ask(&mut ledger, "acme", &quota(8), &[SNP], 2), Err(Code::Draining));
    assert_eq!(ledger.due(SECOND), [(warm[0], "the host is drained")]);
    ledger.gone(warm[0]);
    assert_eq!(fill(&mut ledger, 110), []);
    // A tenant's Keep goes on.
    assert_eq!(ledger.list(None, SECOND).len(), 1);
    assert!(ledger.info().draining);
}

#[test]
fn time_before_this_agent_counts() {
    let mut ledger = ledger(0, 8);
    let order = Order { backend: "emulated".parse().unwrap(), tee: SNP, memory_mib: 100, volumes: None };
    let since = Since { before: SECOND * 590, at: SECOND };
    let lease = Lease {
        tenant: tenant("acme"),
        label: "old".to_owned(),
        lifetime: SECOND * 600,
        since,
        contact: Contact::Elsewhere,
    };
    assert!(ledger.adopted(KeepId::number(1), order.clone(), since, Some(lease)));
    assert_eq!(ledger.connect(&tenant("acme"), KeepId::number(1)).unwrap_err().code, Code::KeepTaken);
    assert!(ledger.due(SECOND * 10).is_empty());
    assert_eq!(ledger.due(SECOND * 11).len(), 1);
    // Of a back end that is gone.
    let order = Order { backend: "gone".parse().unwrap(), ..order };
    assert!(!ledger.adopted(KeepId::number(2), order, since, None));
}

proptest! {
    /// Whatever happens in whatever order: no tenant has more than its quota, no back end runs more leased Keeps
    /// than it can, and no Keep is two tenants'.
    #[test]
    fn bounds_hold_whatever_happens(events in prop::collection::vec((0..7u8, 0..3u8, 0..24u8), 0..200)) {
        let mut ledger = ledger(3, 6);
        let (mut next, mut now) = (0u8, SECOND);
        for (event, who, which) in events {
            let who = tenant(["acme", "zeta", "x"][usize::from(who)]);
            let id = KeepId::number(which);
            match event {
                0 => {
                    next = next.wrapping_add(1);
                    let _ = ledger.ask(&who, &quota(3), &wanted(&[TDX, SNP]), KeepId::number(next), now);
                }
                1 => drop(ledger.refill(now, |_| true, || { next = next.wrapping_add(1); KeepId::number(next) })),
                2 => ledger.launched(id),
                3 => ledger.gone(id),
                4 => drop(ledger.connect(&who, id)),
                5 => ledger.disconnected(id, now),
                _ => {
                    now += SECOND * u32::from(which);
                    for (id, _) in ledger.due(now) { ledger.ending(id) }
                }
            }
            for who in ["acme", "zeta", "x"] {
                prop_assert!(ledger.list(Some(&tenant(who)), now).len() <= 3);
            }
            prop_assert!(ledger.keeps().filter(|(_, keep)| keep.lease.is_some()).count() <= 6);
        }
    }
}
