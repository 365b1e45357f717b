//! A disk without partitions, formatted with FAT16, as firmware reads it (Microsoft, FAT: General Overview of On-Disk
//! Format, 1.03). It has one file, that nothing ever writes to; the same file
//! gives the same bytes.

use crate::Unbuildable;

const SECTOR: usize = 512;
/// Sectors of a cluster, sectors before the first table, tables, entries of the root folder.
const CLUSTER: usize = 8;
const RESERVED: usize = 1;
const TABLES: usize = 2;
const ENTRIES: usize = 512;
/// Fewer clusters would be FAT12, more FAT32 (page 14).
const CLUSTERS: std::ops::Range<usize> = 4085..65525;
const MEDIA: u8 = 0xF8;
const END: u16 = 0xFFFF;
const READ_ONLY: u8 = 0x01;
const FOLDER: u8 = 0x10;

/// A disk with one file, `name` (8 characters and 3), in `folders`, one in the other.
///
/// # Errors
/// [`Unbuildable::TooLarge`] when it does not fit.
pub fn disk(folders: &[&str], name: &str, contents: &[u8]) -> Result<Vec<u8>, Unbuildable> {
    let bytes = CLUSTER * SECTOR;
    let used = folders.len() + contents.len().div_ceil(bytes);
    let count = used.max(CLUSTERS.start);
    if count >= CLUSTERS.end {
        return Err(Unbuildable::TooLarge {
            artefact: "image",
            size: used * bytes,
            limit: CLUSTERS.end * bytes,
        });
    }
    let table_sectors = ((count + 2) * 2).div_ceil(SECTOR);
    let sectors = RESERVED + TABLES * table_sectors + ENTRIES * 32 / SECTOR + count * CLUSTER;

    // Clusters are numbered from 2. Each folder has one, with its own entry, its parent's, and that of what is in it.
    let file = folders.len() + 2;
    let (mut root, mut data) = (Vec::new(), Vec::new());
    for depth in 0..=folders.len() {
        let listed = match folders.get(depth) {
            Some(folder) => entry(folder, FOLDER, depth + 2, 0),
            None => entry(name, READ_ONLY, file, contents.len()),
        };
        if depth == 0 {
            root.extend(listed);
            continue;
        }
        // The root's number is 0 here.
        let parent = if depth == 1 { 0 } else { depth };
        data.extend([entry(".", FOLDER, depth + 1, 0), entry("..", FOLDER, parent, 0), listed].concat());
        data.resize(data.len().next_multiple_of(bytes), 0);
    }
    data.extend_from_slice(contents);

    let chain = (file..file + contents.len().div_ceil(bytes)).map(|cluster| cluster + 1);
    let mut table = vec![0xFF00 | u16::from(MEDIA), END];
    table.extend(folders.iter().map(|_| END));
    table.extend(chain.map(|next| u16::try_from(next).unwrap_or(END)));
    if let Some(last) = table.last_mut() {
        *last = END;
    }
    let mut table: Vec<u8> = table.into_iter().flat_map(u16::to_le_bytes).collect();
    table.resize(table_sectors * SECTOR, 0);
    root.resize(ENTRIES * 32, 0);

    let mut out = boot_sector(table_sectors, sectors);
    for part in [&table, &table, &root, &data] {
        out.extend_from_slice(part);
    }
    out.resize(sectors * SECTOR, 0);
    Ok(out)
}

/// Page 9: the parameters of the format.
fn boot_sector(table_sectors: usize, sectors: usize) -> Vec<u8> {
    let short = |value: usize| u16::try_from(value).unwrap_or(0).to_le_bytes();
    let total = u32::try_from(sectors).unwrap_or(0).to_le_bytes();
    let mut out = Vec::with_capacity(SECTOR);
    out.extend_from_slice(b"\xEB\x3C\x90BAILEY  ");
    out.extend_from_slice(&short(SECTOR));
    out.push(CLUSTER as u8);
    out.extend_from_slice(&short(RESERVED));
    out.push(TABLES as u8);
    out.extend_from_slice(&short(ENTRIES));
    // Sectors in 16 bits: they are in 32 bits below.
    out.extend_from_slice(&[0, 0, MEDIA]);
    out.extend_from_slice(&short(table_sectors));
    // Sectors of a track, heads, hidden sectors: for disks that turn.
    out.extend_from_slice(&[63, 0, 255, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&total);
    // Drive number, signature, number of the volume, label, kind.
    out.extend_from_slice(&[0x80, 0, 0x29, 0x42, 0x41, 0x49, 0x4C]);
    out.extend_from_slice(b"BAILEY     FAT16   ");
    out.resize(SECTOR - 2, 0);
    out.extend_from_slice(&[0x55, 0xAA]);
    out
}

/// Page 23: name, attributes, times (1980-01-01), first cluster, size.
fn entry(name: &str, attributes: u8, first: usize, size: usize) -> [u8; 32] {
    let mut out = [0; 32];
    out[..11].fill(b' ');
    let length = name.len().min(11);
    out[..length].copy_from_slice(&name.as_bytes()[..length]);
    out[11] = attributes;
    for date in [16, 18, 24] {
        out[date..date + 2].copy_from_slice(&0x21_u16.to_le_bytes());
    }
    out[26..28].copy_from_slice(&u16::try_from(first).unwrap_or(0).to_le_bytes());
    out[28..].copy_from_slice(&u32::try_from(size).unwrap_or(0).to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8], at: usize) -> usize {
        usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
    }

    /// Reads the disk as firmware does: by its own numbers, from the boot sector on.
    fn read(disk: &[u8], path: &[&str]) -> Vec<u8> {
        let table = &disk[number(disk, 14) * SECTOR..];
        let root = (number(disk, 14) + usize::from(disk[16]) * number(disk, 22)) * SECTOR;
        let data = root + number(disk, 17) * 32;
        let cluster = usize::from(disk[13]) * SECTOR;
        let mut listed = disk[root..data].to_vec();
        for name in path {
            let entry =
                listed.chunks(32).find(|entry| entry[..11] == *format!("{name:<11}").as_bytes()).unwrap();
            let size = u32::from_le_bytes(entry[28..].try_into().unwrap());
            let (mut at, mut contents) = (number(entry, 26), Vec::new());
            while (2..0xFFF8).contains(&at) {
                contents.extend_from_slice(&disk[data + (at - 2) * cluster..][..cluster]);
                at = number(table, at * 2);
            }
            if entry[11] == READ_ONLY {
                contents.truncate(usize::try_from(size).unwrap());
            }
            listed = contents;
        }
        listed
    }

    #[test]
    fn the_file_is_found_whole() {
        for length in [1, CLUSTER * SECTOR, CLUSTER * SECTOR + 1, 1_000_000] {
            let contents: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let made = disk(&["EFI", "BOOT"], "BOOTX64 EFI", &contents).unwrap();
            assert!(read(&made, &["EFI", "BOOT", "BOOTX64 EFI"]) == contents, "{length}");
            assert!(made == disk(&["EFI", "BOOT"], "BOOTX64 EFI", &contents).unwrap());
        }
    }
}
