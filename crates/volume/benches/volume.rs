//! Sequential reading of a volume in one run with AES-256-GCM alone, on one buffer that stays in the processor's cache, and
//! with what any reader of an encrypted file must do, read it and open it: `cargo bench -p volume`.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use volume::{CHUNK, Folder, Kind, MemoryAnchor, Options, Time, Volume, VolumeKey, tree::ROOT};

const SIZE: usize = 256 << 20;
const ROUNDS: usize = 5;

fn best(mut work: impl FnMut()) -> Duration {
    let time = |work: &mut dyn FnMut()| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    };
    (0..ROUNDS).map(|_| time(&mut work)).min().unwrap_or_default()
}

fn speed(time: Duration) -> f64 {
    SIZE as f64 / time.as_secs_f64() / 1e6
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options { size: 1 << 30, read_only: false };
    let host = Folder::new(folder.path());
    let volume =
        Volume::open(host, &VolumeKey::new([1; 32]), MemoryAnchor::default(), &options).expect("a volume");
    let file = volume.create(ROOT, "file", Kind::File, Time(0)).expect("a file");
    let block = vec![7; 1 << 20];
    let begun = Instant::now();
    for offset in (0..SIZE as u64).step_by(block.len()) {
        volume.write_at(file, offset, &block, Time(0)).expect("written");
    }
    volume.commit().expect("a commit");
    println!("sequential writing, with its commit: {:.0} MB/s", speed(begun.elapsed()));

    let mut buffer = vec![0; 1 << 20];
    let reading = best(|| {
        for offset in (0..SIZE as u64).step_by(buffer.len()) {
            volume.read_at(file, offset, &mut buffer).expect("read");
        }
    });
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[2; 32]).expect("a key"));
    let mut sealed = vec![3; CHUNK];
    let nonce = || Nonce::assume_unique_for_key([0; 12]);
    let tag = key.seal_in_place_separate_tag(nonce(), Aad::empty(), &mut sealed).expect("sealed");
    let mut plain = vec![0; CHUNK];
    let alone = best(|| {
        for _ in 0..SIZE / CHUNK {
            key.open_separate_gather(nonce(), Aad::empty(), &sealed, tag.as_ref(), &mut plain)
                .expect("opened");
        }
    });
    let path = folder.path().join("yardstick");
    std::fs::write(&path, sealed.repeat(SIZE / CHUNK)).expect("a file");
    let file = File::open(&path).expect("the file");
    let read_and_opened = best(|| {
        for offset in (0..SIZE as u64).step_by(buffer.len()) {
            for (place, plain) in (offset..).step_by(CHUNK).zip(buffer.chunks_exact_mut(CHUNK)) {
                file.read_exact_at(&mut sealed, place).expect("read");
                key.open_separate_gather(nonce(), Aad::empty(), &sealed, tag.as_ref(), plain)
                    .expect("opened");
            }
        }
    });
    let ratio = |yardstick: Duration| yardstick.as_secs_f64() / reading.as_secs_f64();
    println!(
        "sequential reading: {:.0} MB/s\nAES-256-GCM alone, in cache: {:.0} MB/s, ratio {:.2} (asked: 0.7)\n\
         the same of a file that is read: {:.0} MB/s, ratio {:.2}",
        speed(reading),
        speed(alone),
        ratio(alone),
        speed(read_and_opened),
        ratio(read_and_opened)
    );
}
