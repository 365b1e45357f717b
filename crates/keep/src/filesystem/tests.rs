//! Calls of 0.2 with nonsense: handles that nobody holds, paths that lead out, numbers at their ends.

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::{
    preopens::Host as _,
    types::{HostDescriptor, HostDirectoryEntryStream},
    *,
};
use crate::vfs::Source;

/// Numbers as attackers like them.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => 0_u64..10_000,
        2 => prop::sample::select(vec![65_535, 65_536, 1 << 31, u64::from(u32::MAX), 1 << 63, u64::MAX]),
        1 => any::<u64>(),
    ]
}

fn path() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["tmp", "a", "b", "..", ".", "", "/", "c\0d", "etc", "app", "tmp/a"]);
    prop_oneof![
        20 => prop::collection::vec(part, 0..5).prop_map(|parts| parts.join("/")),
        1 => Just("x".repeat(5000)),
        1 => Just("../".repeat(2000)),
    ]
}

type Call = (u8, u32, u32, (u64, u64), (String, String), u8);

fn call() -> impl Strategy<Value = Call> {
    (0_u8..24, 0_u32..24, 0_u32..24, (number(), number()), (path(), path()), any::<u8>())
}

/// What a component is told is a code, or the handle is none that it holds.
fn answered<T>(result: FsResult<T>, is_held: bool) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(FsError::Handle(_)) => {
            assert!(!is_held, "a handle that is held was not taken");
            None
        }
        Err(FsError::Code(_) | FsError::Limit(_)) => None,
    }
}

/// Those whose bits are set.
fn chosen<T, const N: usize>(flags: [T; N], bits: u8) -> impl Iterator<Item = T> {
    flags.into_iter().enumerate().filter(move |(place, _)| bits >> place & 1 == 1).map(|(_, flag)| flag)
}

async fn answer(files: &mut Filesystem<'_>, call: Call) {
    let (which, handle, other, (a, b), (from, to), bits) = call;
    let descriptor = || Resource::<Descriptor>::new_borrow(handle);
    let second = || Resource::<Descriptor>::new_borrow(other);
    let held = files.table.get(&descriptor()).is_ok() && files.table.get(&second()).is_ok();
    let flags = [DescriptorFlags::READ, DescriptorFlags::WRITE, DescriptorFlags::MUTATE_DIRECTORY];
    let flags = chosen(flags, bits).fold(DescriptorFlags::empty(), |all, flag| all | flag);
    match which {
        0..=6 => {
            let open = [OpenFlags::CREATE, OpenFlags::DIRECTORY, OpenFlags::EXCLUSIVE, OpenFlags::TRUNCATE];
            let open = chosen(open, bits >> 3).fold(OpenFlags::empty(), |all, flag| all | flag);
            let opened = files.open_at(descriptor(), PathFlags::empty(), from, open, flags).await;
            answered(opened, held).map(drop)
        }
        7 => answered(files.read(descriptor(), a, b).await, held).map(drop),
        8 => answered(files.write(descriptor(), vec![7; usize::from(bits) * 512], b).await, held).map(drop),
        9 => answered(files.set_size(descriptor(), a).await, held),
        10 => answered(files.create_directory_at(descriptor(), from).await, held),
        11 => answered(files.remove_directory_at(descriptor(), from).await, held),
        12 => answered(files.unlink_file_at(descriptor(), from).await, held),
        13 => answered(files.rename_at(descriptor(), from, second(), to).await, held),
        14 => answered(files.stat_at(descriptor(), PathFlags::empty(), from).await, held).map(drop),
        15 => {
            let at = NewTimestamp::Timestamp(Datetime { seconds: a, nanoseconds: b as u32 });
            answered(files.set_times(descriptor(), at, NewTimestamp::Now).await, held)
        }
        16 => {
            let entries = answered(files.read_directory(descriptor()).await, held);
            entries.map(|entries| {
                while let Ok(Some(_)) = files.read_directory_entry(Resource::new_borrow(entries.rep())) {}
            })
        }
        17 => {
            let stream = answered(files.read_via_stream(descriptor(), a), held);
            stream.map(|stream| {
                files.table.get_mut(&stream).unwrap().read(usize::from(bits)).map(drop).unwrap_or(())
            })
        }
        18 => {
            let position = if bits & 1 == 0 { Position::End } else { Position::At(a) };
            let stream = answered(files.writer(&descriptor(), position), held);
            let bytes = vec![7; usize::from(bits)].into();
            stream.map(|stream| files.table.get_mut(&stream).unwrap().write(bytes).unwrap_or(()))
        }
        19 => answered(files.link_at(descriptor(), PathFlags::empty(), from, second(), to), held),
        20 => answered(files.readlink_at(descriptor(), from).await, held).map(drop),
        21 => answered(files.metadata_hash_at(descriptor(), PathFlags::empty(), from).await, held).map(drop),
        22 => answered(files.get_flags(descriptor()), held).map(drop),
        // The first is the root, which stays.
        _ if handle > 1 => HostDescriptor::drop(files, Resource::new_own(handle)).ok(),
        _ => None,
    };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// S-54: no order of calls panics, is answered with what is not there, or alters what is read-only.
    #[test]
    fn s54_no_sequence_of_calls_of_0_2_breaks_the_files(calls in prop::collection::vec(call(), 1..120)) {
        let given = [("/etc/app".to_owned(), Zeroizing::new(b"as given".to_vec()))].into();
        let files = Vfs::new(given, vec![("/tmp".to_owned(), Source::Tmpfs(64 << 10))], 16).unwrap();
        let mut table = ResourceTable::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut seen = Filesystem { files: &files, table: &mut table };
            seen.get_directories().unwrap();
            for call in calls {
                answer(&mut seen, call).await;
            }
        });
        drop(table);
        let root = files.root().unwrap();
        let open = Open { read: true, ..Open::default() };
        let mut content = [0; 16];
        let read = root.open_at("etc/app", open).unwrap().read_at(0, &mut content).unwrap();
        prop_assert_eq!(&content[..read], b"as given");
    }
}
