//! Any message that there is.

use keep_protocol::{
    Sensitive,
    host::{
        Backend, BackendKind, HostError, HostErrorCode, HostInfo, KeepState, KeepSummary, Keeps, Lease,
        NewKeep, Platform, Tee,
    },
    keep::{
        Accepted, Brought, Deploy, Ended, Exposed, FromKeep, Head, Limit, Outcome, Protection, Refused,
        RefusedCode, Secret, ToKeep, VolumeHead, VolumeKey, WorkloadKind, WorkloadRef,
    },
    package::{
        FetchedPackage, FetchedRelease, PackageOrder, Proof, RegistryAccess, RegistryCredentials, Signed,
        Signer, Sigstore,
    },
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_bytes::{ByteArray, ByteBuf};

fn digest() -> impl Strategy<Value = ByteArray<32>> {
    any::<[u8; 32]>().prop_map(ByteArray::new)
}

fn chunk() -> impl Strategy<Value = ByteBuf> {
    vec(any::<u8>(), 1..600).prop_map(ByteBuf::from)
}

fn short() -> impl Strategy<Value = String> {
    "[ -~äß€]{0,40}"
}

fn head() -> impl Strategy<Value = Head> {
    (digest(), any::<u64>()).prop_map(|(digest, sequence)| Head { digest, sequence })
}

fn volume_head() -> impl Strategy<Value = VolumeHead> {
    (head(), short()).prop_map(|(head, name)| VolumeHead { head, name })
}

fn names() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::btree_set("[a-zA-Z0-9_-]{1,24}", 0..5).prop_map(|names| names.into_iter().collect())
}

fn secrets() -> impl Strategy<Value = Vec<Secret>> {
    let value = || vec(any::<u8>(), 0..80).prop_map(Sensitive::new);
    (names(), vec(value(), 5)).prop_map(|(names, values)| {
        names.into_iter().zip(values).map(|(name, value)| Secret { name, value }).collect()
    })
}

fn volumes() -> impl Strategy<Value = Vec<VolumeKey>> {
    let opens = || (any::<[u8; 32]>(), option::of(head()));
    (names(), vec(opens(), 5)).prop_map(|(names, opens)| {
        let volume = |(name, (key, head)): (String, ([u8; 32], _))| VolumeKey {
            key: Sensitive::new(key.to_vec()),
            head,
            name,
        };
        names.into_iter().zip(opens).map(volume).collect()
    })
}

fn deploy() -> impl Strategy<Value = ToKeep> {
    let env = (names(), vec(short(), 5)).prop_map(|(names, values)| names.into_iter().zip(values).collect());
    let sent = (1..=64u64 << 20, digest()).prop_map(|(size, digest)| WorkloadRef { size, digest });
    let workload = prop_oneof![
        (short().prop_map(Some), sent.prop_map(Brought::Sent)),
        (option::of(short()), package().prop_map(|order| Brought::Package(Box::new(order)))),
    ];
    let brought = (env, option::of(vec(short(), 0..4)), workload, secrets(), volumes());
    brought.prop_map(|(env, args, (config, workload), secrets, volumes)| {
        ToKeep::Deploy(Box::new(Deploy { env, args, config, secrets, volumes, workload }))
    })
}

fn word() -> impl Strategy<Value = String> {
    "[ -~äß€]{1,40}"
}

fn access() -> impl Strategy<Value = RegistryAccess> {
    let credentials = (vec(any::<u8>(), 0..40).prop_map(Sensitive::new), short())
        .prop_map(|(password, username)| RegistryCredentials { password, username });
    (any::<bool>(), vec(chunk(), 0..3), option::of(credentials))
        .prop_map(|(plain, roots, credentials)| RegistryAccess { plain, roots, credentials })
}

fn signed() -> impl Strategy<Value = Signed> {
    let sigstore = (word(), word(), word())
        .prop_map(|(root, issuer, identity)| Proof::Sigstore(Box::new(Sigstore { root, issuer, identity })));
    let proof = prop_oneof![chunk().prop_map(Proof::Key), sigstore];
    let names = proptest::collection::btree_set("[a-z./=]{1,24}", 1..4);
    (word(), word(), names, vec(proof, 4)).prop_map(|(name, minimum, names, proofs)| {
        let signers = names.into_iter().zip(proofs).map(|(name, proof)| Signer { name, proof }).collect();
        Signed { name, minimum, signers }
    })
}

fn package() -> impl Strategy<Value = PackageOrder> {
    (any::<u64>(), access(), option::of(signed()), word())
        .prop_map(|(now, access, signed, reference)| PackageOrder { now, access, signed, reference })
}

fn fetched() -> impl Strategy<Value = FetchedPackage> {
    let release =
        (word(), word(), word()).prop_map(|(name, signer, version)| FetchedRelease { name, signer, version });
    (digest(), option::of(release)).prop_map(|(digest, release)| FetchedPackage { digest, release })
}

pub fn to_keep() -> impl Strategy<Value = ToKeep> {
    prop_oneof![
        deploy(),
        chunk().prop_map(ToKeep::Chunk),
        chunk().prop_map(ToKeep::Stdin),
        Just(ToKeep::StdinEnd {}),
        Just(ToKeep::Cancel {}),
        volume_head().prop_map(ToKeep::VolumeKept),
        option::of(vec(any::<u8>(), 0..80).prop_map(Sensitive::new)).prop_map(ToKeep::PacketOpened),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let limits =
        vec![Limit::Memory, Limit::Cpu, Limit::Wall, Limit::OpenFiles, Limit::Connections, Limit::Output];
    prop_oneof![
        any::<u8>().prop_map(|code| Outcome::Exit { code }),
        (short(), short()).prop_map(|(code, message)| Outcome::Trap { code, message }),
        (select(limits), short()).prop_map(|(which, message)| Outcome::Limit { which, message }),
        Just(Outcome::Cancelled {}),
        (short(), short()).prop_map(|(code, message)| Outcome::Failed { code, message }),
    ]
}

const REFUSALS: [RefusedCode; 14] = [
    RefusedCode::VersionUnsupported,
    RefusedCode::Malformed,
    RefusedCode::OutOfOrder,
    RefusedCode::NotFound,
    RefusedCode::Timeout,
    RefusedCode::DigestMismatch,
    RefusedCode::PackageRefused,
    RefusedCode::WorkloadInvalid,
    RefusedCode::ConfigInvalid,
    RefusedCode::ConfigUnsupported,
    RefusedCode::SecretsMismatch,
    RefusedCode::VolumesMismatch,
    RefusedCode::ListenFailed,
    RefusedCode::Internal,
];

fn refused() -> impl Strategy<Value = Refused> {
    (select(REFUSALS.to_vec()), option::of(short()), vec(short(), 0..4), short(), vec(any::<u16>(), 0..4))
        .prop_map(|(code, detail, faults, message, versions)| Refused {
            code,
            detail,
            faults,
            message,
            versions,
        })
}

fn exposed() -> impl Strategy<Value = Exposed> {
    (short(), any::<u16>(), select(vec![Protection::Tcp, Protection::Tls]), option::of(chunk()))
        .prop_map(|(name, port, protection, certificate)| Exposed { name, port, protection, certificate })
}

fn accepted() -> impl Strategy<Value = Accepted> {
    let kinds = vec![WorkloadKind::Command, WorkloadKind::Http];
    (select(kinds), any::<u64>(), option::of(fetched()), digest(), digest()).prop_map(
        |(kind, load_us, package, workload, configuration)| Accepted {
            kind,
            load_us,
            package,
            workload,
            configuration,
        },
    )
}

pub fn from_keep() -> impl Strategy<Value = FromKeep> {
    prop_oneof![
        accepted().prop_map(FromKeep::Accepted),
        refused().prop_map(FromKeep::Refused),
        exposed().prop_map(FromKeep::Exposed),
        chunk().prop_map(FromKeep::Stdout),
        chunk().prop_map(FromKeep::Stderr),
        any::<u32>().prop_map(FromKeep::StdinWanted),
        volume_head().prop_map(FromKeep::VolumeHead),
        chunk().prop_map(FromKeep::PacketWanted),
        (outcome(), any::<u64>()).prop_map(|(outcome, wall_us)| FromKeep::Ended(Ended { outcome, wall_us })),
    ]
}

fn tee() -> impl Strategy<Value = Tee> {
    (any::<bool>(), select(Platform::ALL.to_vec()))
        .prop_map(|(emulated, platform)| Tee { emulated, platform })
}

fn kind() -> impl Strategy<Value = BackendKind> {
    use BackendKind::{Process, Sgx, Snp, Tdx, Vm};
    select(vec![Process, Vm, Snp, Tdx, Sgx])
}

fn keep_id() -> impl Strategy<Value = String> {
    "[0-9a-f]{32}"
}

fn versions() -> impl Strategy<Value = Vec<u16>> {
    vec(any::<u16>(), 1..4)
}

pub fn host_info() -> impl Strategy<Value = HostInfo> {
    let backend = (tee(), any::<u32>(), kind(), any::<u32>(), short())
        .prop_map(|(tee, free, kind, warm, product)| Backend { tee, free, kind, warm, product });
    (short(), vec(backend, 0..4), any::<bool>(), versions())
        .prop_map(|(agent, backends, draining, versions)| HostInfo { agent, backends, draining, versions })
}

pub fn new_keep() -> impl Strategy<Value = NewKeep> {
    (vec(tee(), 1..4), short(), any::<u64>(), any::<bool>())
        .prop_map(|(tees, label, memory, volumes)| NewKeep { tees, label, memory, volumes })
}

pub fn lease() -> impl Strategy<Value = Lease> {
    (keep_id(), tee(), kind(), any::<bool>(), any::<u64>()).prop_map(|(id, tee, kind, warm, ttl_ms)| Lease {
        id,
        tee,
        kind,
        warm,
        ttl_ms,
    })
}

pub fn keeps() -> impl Strategy<Value = Keeps> {
    use KeepState::{Connected, Ended, Leased, Marble, Starting, Warm};
    let state = select(vec![Starting, Warm, Leased, Connected, Marble, Ended]);
    let keep = (keep_id(), tee(), kind(), short(), state, any::<u64>()).prop_map(
        |(id, tee, kind, label, state, age_ms)| KeepSummary { id, tee, kind, label, state, age_ms },
    );
    vec(keep, 0..4).prop_map(|keeps| Keeps { keeps })
}

pub const HOST_ERRORS: [HostErrorCode; 14] = [
    HostErrorCode::VersionUnsupported,
    HostErrorCode::Malformed,
    HostErrorCode::NotFound,
    HostErrorCode::Unauthorised,
    HostErrorCode::QuotaExceeded,
    HostErrorCode::Busy,
    HostErrorCode::NoSuchTee,
    HostErrorCode::NoRoom,
    HostErrorCode::NoStorage,
    HostErrorCode::Draining,
    HostErrorCode::NoSuchKeep,
    HostErrorCode::KeepTaken,
    HostErrorCode::LaunchFailed,
    HostErrorCode::Internal,
];

pub fn host_error() -> impl Strategy<Value = HostError> {
    (select(HOST_ERRORS.to_vec()), short(), versions(), any::<u64>()).prop_map(
        |(code, message, versions, retry_after_ms)| HostError { code, message, versions, retry_after_ms },
    )
}
