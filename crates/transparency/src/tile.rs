//! Tiles of 256 hashes and bundles of 256 entries, by C2SP tlog-tiles: `<L>/<N>[.p/<W>]` and `entries/<N>[.p/<W>]`
//! below `tile/`, with `N` in groups of three digits.

use std::fmt;

use thiserror::Error;

use crate::{
    entry::MAX_ENTRY,
    tree::{Hash, Subtree},
};

/// Hashes of a full tile, entries of a full bundle.
pub const TILE_WIDTH: u64 = 256;

const FULL: u16 = 256;

/// Which hashes: a level, an index, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tile {
    /// Each hash is of `256^level` leaves; below 8.
    pub level: u8,
    place: Place,
}

/// Which entries: an index, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bundle {
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Below `2^56`, so that positions fit.
    index: u64,
    /// 1 to 256.
    width: u16,
}

/// What a path below `tile/` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Hashes.
    Tile(Tile),
    /// Entries.
    Bundle(Bundle),
}

/// Why a path or its bytes are no tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a tile of a log")]
pub struct TileError;

/// Why bytes are not the entries that were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not the bundle of entries that was asked for")]
pub struct BundleError;

impl Resource {
    /// Reads what follows `tile/`, for example `0/x001/234.p/17` or `entries/000`. Only the one canonical spelling is
    /// read.
    pub fn parse(path: &str) -> Result<Self, TileError> {
        let (kind, place) = path.split_once('/').ok_or(TileError)?;
        let place = Place::parse(place)?;
        let resource = match kind {
            "entries" => Self::Bundle(Bundle { place }),
            level => {
                let level = level.parse().ok().filter(|level| *level < 8).ok_or(TileError)?;
                Self::Tile(Tile { level, place })
            }
        };
        if resource.to_string() == path { Ok(resource) } else { Err(TileError) }
    }
}

impl Place {
    fn parse(text: &str) -> Result<Self, TileError> {
        let (index, width) = match text.split_once(".p/") {
            None => (text, FULL),
            Some((index, width)) => (index, width.parse().map_err(|_| TileError)?),
        };
        let partial = index.len() != text.len();
        if partial && !(1..FULL).contains(&width) {
            return Err(TileError);
        }
        let digits: String = index.split('/').map(|group| group.trim_start_matches('x')).collect();
        let index = digits.parse().ok().filter(|index| *index < 1 << 56).ok_or(TileError)?;
        Ok(Self { index, width })
    }

    /// The place that has position `at` of so many.
    fn of(at: u64, count: u64) -> Option<Self> {
        let index = at / TILE_WIDTH;
        let width = count.checked_sub(index * TILE_WIDTH)?.min(TILE_WIDTH);
        (at < count).then_some(Self { index, width: u16::try_from(width).ok()? })
    }

    fn first(&self) -> u64 {
        self.index * TILE_WIDTH
    }

    fn end(&self) -> u64 {
        self.first() + u64::from(self.width)
    }
}

impl Tile {
    /// The tile of a tree of `size` leaves that has a subtree's hash, from which hash on, and how many make it up.
    pub fn holding(subtree: Subtree, size: u64) -> Option<(Self, usize, usize)> {
        let (level, within) = (subtree.height / 8, subtree.height % 8);
        let first = subtree.index.checked_shl(u32::from(within))?;
        let place = Place::of(first, size.checked_shr(u32::from(level) * 8)?)?;
        let at = usize::try_from(first % TILE_WIDTH).ok()?;
        let width = 1 << within;
        (at + width <= usize::from(place.width)).then_some((Self { level, place }, at, width))
    }

    /// Positions of its hashes among those of its level.
    pub fn positions(&self) -> std::ops::Range<u64> {
        self.place.first()..self.place.end()
    }

    /// Whether a tree of `size` leaves has it.
    pub fn is_of(&self, size: u64) -> bool {
        self.place.end() <= size.checked_shr(u32::from(self.level) * 8).unwrap_or(0)
    }

    /// The hashes that somebody served as this tile. An error where there are not as many as it has.
    pub fn hashes(&self, bytes: &[u8]) -> Result<Vec<Hash>, TileError> {
        match bytes.as_chunks::<32>() {
            (hashes, []) if hashes.len() == usize::from(self.place.width) => Ok(hashes.to_vec()),
            _ => Err(TileError),
        }
    }
}

impl Bundle {
    /// All bundles of a log of `size` entries, in order, of which the last may be partial.
    pub fn all(size: u64) -> impl Iterator<Item = Self> {
        let whole = move |n| Place::of(n * TILE_WIDTH, size).map(|place| Self { place });
        (0..size.div_ceil(TILE_WIDTH)).filter_map(whole)
    }

    /// The one of a log of `size` entries that has entry `index`.
    pub fn holding(index: u64, size: u64) -> Option<Self> {
        Some(Self { place: Place::of(index, size)? })
    }

    /// Positions of its entries in the log.
    pub fn positions(&self) -> std::ops::Range<u64> {
        self.place.first()..self.place.end()
    }

    /// Whether a log of `size` entries has it.
    pub fn is_of(&self, size: u64) -> bool {
        self.place.end() <= size
    }

    /// Entries one after the other, each after its length in two bytes. An error where one is longer than
    /// [`MAX_ENTRY`].
    pub fn bytes<'e>(entries: impl IntoIterator<Item = &'e [u8]>) -> Result<Vec<u8>, BundleError> {
        let mut out = Vec::new();
        for entry in entries {
            let length = u16::try_from(entry.len()).map_err(|_| BundleError)?;
            if entry.len() > MAX_ENTRY {
                return Err(BundleError);
            }
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(entry);
        }
        Ok(out)
    }

    /// The entries that somebody served as this bundle. An error where there are not as many as it has.
    pub fn entries<'b>(&self, bytes: &'b [u8]) -> Result<Vec<&'b [u8]>, BundleError> {
        let (mut entries, mut rest) = (Vec::new(), bytes);
        for _ in 0..self.place.width {
            let (length, after) = rest.split_first_chunk::<2>().ok_or(BundleError)?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (entry, after) = after.split_at_checked(length).ok_or(BundleError)?;
            entries.push(entry);
            rest = after;
        }
        if rest.is_empty() { Ok(entries) } else { Err(BundleError) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut groups, mut rest) = (vec![self.index % 1000], self.index / 1000);
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for group in groups[1..].iter().rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", groups[0])?;
        if self.width < FULL { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.level, self.place)
    }
}

impl fmt::Display for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entries/{}", self.place)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tile(tile) => tile.fmt(f),
            Self::Bundle(bundle) => bundle.fmt(f),
        }
    }
}
