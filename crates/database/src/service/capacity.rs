//! How much room there is: data may take what the manifest says, and memory is never used up. Both are looked at again
//! and again; once there is too little, nobody writes any more until there is enough again.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_postgres::Client;

use crate::Rules;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(500);
/// Of the memory that PostgreSQL's files are in, this much stays free, and a tenth of it where that is less.
const RESERVE: u64 = 256 << 20;

/// Whether writers are refused: `true`: there is no room.
pub type Full = watch::Receiver<bool>;

/// Looks for as long as anyone asks.
pub fn watch(client: Client, memory: PathBuf, rules: watch::Receiver<Arc<Rules>>) -> Full {
    let (sender, full) = watch::channel(false);
    tokio::spawn(async move {
        while !sender.is_closed() {
            // Where nobody can say, the engine is gone, and so is everything else.
            let Ok(row) = client.query_one("SELECT pg_database_size(current_database())", &[]).await else {
                return;
            };
            let size = row.get::<_, i64>(0).unsigned_abs();
            let most = rules.borrow().manifest.max_size;
            let is_full = size > most || !has_room(&memory);
            sender.send_if_modified(|known| {
                if *known != is_full {
                    let code = if is_full { "DATABASE_FULL" } else { "DATABASE_HAS_ROOM" };
                    tracing::warn!(code, size, most, "the room for data");
                }
                std::mem::replace(known, is_full) != is_full
            });
            tokio::time::sleep(EVERY).await;
        }
    });
    full
}

fn has_room(memory: &PathBuf) -> bool {
    let Ok(found) = rustix::fs::statvfs(memory) else { return true };
    let (free, all) = (found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize);
    free >= RESERVE.min(all / 10)
}
