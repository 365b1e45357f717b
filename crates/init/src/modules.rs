//! The kernel's modules of the image, in the order of their names. The kernel checks their signatures.

use std::{fs, path::Path};

use crate::{InitError, system};

const FOLDER: &str = "/lib/modules";

/// Loads them all. Drivers of TEEs refuse where there is none.
pub(crate) fn load() -> Result<(), InitError> {
    let failed = |source| InitError::system(format!("reading {FOLDER}"))(source);
    let mut files = fs::read_dir(FOLDER).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(failed)?;
    files.sort_by_key(fs::DirEntry::file_name);
    for file in files {
        load_one(&file.path())?;
    }
    Ok(())
}

fn load_one(path: &Path) -> Result<(), InitError> {
    let failed = || InitError::system(format!("loading {}", path.display()));
    let module = fs::read(path).map_err(failed())?;
    match system::load_module(&module) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        result => result.map_err(failed()),
    }
}
