//! What a volume must be like: a map from paths to bytes.

use std::collections::BTreeMap;

use proptest::{prelude::*, sample::Index};
use volume::{Error, Kind, NodeId, Time, Volume, tree::ROOT};

/// `None`: a directory.
pub type Model = BTreeMap<String, Option<Vec<u8>>>;

/// What a program does.
#[derive(Debug, Clone)]
pub enum Step {
    Create(String),
    MakeDirectory(String),
    Write(Index, u64, Vec<u8>),
    Append(Index, Vec<u8>),
    SetSize(Index, u64),
    Unlink(Index),
    RemoveDirectory(Index),
    Rename(Index, String),
    Commit,
    /// Closed without a commit, and opened again.
    Reopen,
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof!["[ab]", "[de]/[ab]", Just("d".to_owned()), Just("e".to_owned()),]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (any::<u8>(), 1_usize..300).prop_map(|(byte, length)| vec![byte; length]),
        1 => (any::<u8>(), 60_000_usize..140_000).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

pub fn step() -> impl Strategy<Value = Step> {
    let offset = prop_oneof![0_u64..400, 65_000_u64..66_000, 0_u64..200_000];
    prop_oneof![
        3 => path().prop_map(Step::Create),
        2 => path().prop_map(Step::MakeDirectory),
        6 => (any::<Index>(), offset.clone(), bytes()).prop_map(|(file, at, bytes)| Step::Write(file, at, bytes)),
        2 => (any::<Index>(), bytes()).prop_map(|(file, bytes)| Step::Append(file, bytes)),
        2 => (any::<Index>(), offset).prop_map(|(file, size)| Step::SetSize(file, size)),
        1 => any::<Index>().prop_map(Step::Unlink),
        1 => any::<Index>().prop_map(Step::RemoveDirectory),
        2 => (any::<Index>(), path()).prop_map(|(file, to)| Step::Rename(file, to)),
        3 => Just(Step::Commit),
        1 => Just(Step::Reopen),
    ]
}

fn find(volume: &Volume, path: &str) -> Result<NodeId, Error> {
    path.split('/').try_fold(ROOT, |directory, name| volume.lookup(directory, name))
}

fn parent<'a>(volume: &Volume, path: &'a str) -> Result<(NodeId, &'a str), Error> {
    match path.rsplit_once('/') {
        Some((folder, name)) => Ok((find(volume, folder)?, name)),
        None => Ok((ROOT, path)),
    }
}

fn parent_is_directory(model: &Model, path: &str) -> bool {
    path.rsplit_once('/').is_none_or(|(folder, _)| model.get(folder) == Some(&None))
}

fn pick(model: &Model, index: &Index, files: bool) -> Option<String> {
    let names: Vec<_> =
        model.iter().filter(|(_, kind)| kind.is_some() == files).map(|(name, _)| name).collect();
    (!names.is_empty()).then(|| names[index.index(names.len())].clone())
}

fn is_empty(model: &Model, folder: &str) -> bool {
    !model.keys().any(|name| name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
}

/// Does a step on both, and sees that they agree on whether it can be done. The error is the host's.
pub fn act(volume: &Volume, model: &mut Model, step: &Step) -> Result<(), Error> {
    const NOW: Time = Time(5);
    let expect = |can: bool, result: Result<(), Error>| match result {
        Err(error @ Error::Tree(_)) => {
            assert!(!can, "{error}: {step:?}");
            Ok(false)
        }
        Ok(()) => {
            assert!(can, "{step:?}");
            Ok(true)
        }
        Err(error) => Err(error),
    };
    match step {
        Step::Create(path) | Step::MakeDirectory(path) => {
            let is_file = matches!(step, Step::Create(_));
            let can = parent_is_directory(model, path) && !model.contains_key(path);
            let kind = if is_file { Kind::File } else { Kind::Directory };
            let done = parent(volume, path)
                .and_then(|(directory, name)| volume.create(directory, name, kind, NOW).map(drop));
            if expect(can, done)? {
                model.insert(path.clone(), is_file.then(Vec::new));
            }
        }
        Step::Write(index, offset, bytes) => {
            let Some(path) = pick(model, index, true) else { return Ok(()) };
            volume.write_at(find(volume, &path)?, *offset, bytes, NOW)?;
            write(model, &path, usize::try_from(*offset).unwrap(), bytes);
        }
        Step::Append(index, bytes) => {
            let Some(path) = pick(model, index, true) else { return Ok(()) };
            volume.append(find(volume, &path)?, bytes, NOW)?;
            let end = model[&path].as_ref().unwrap().len();
            write(model, &path, end, bytes);
        }
        Step::SetSize(index, size) => {
            let Some(path) = pick(model, index, true) else { return Ok(()) };
            volume.set_size(find(volume, &path)?, *size, NOW)?;
            model.get_mut(&path).unwrap().as_mut().unwrap().resize(usize::try_from(*size).unwrap(), 0);
        }
        Step::Unlink(index) => {
            let Some(path) = pick(model, index, true) else { return Ok(()) };
            let (directory, name) = parent(volume, &path)?;
            volume.unlink(directory, name, NOW)?;
            model.remove(&path);
        }
        Step::RemoveDirectory(index) => {
            let Some(path) = pick(model, index, false) else { return Ok(()) };
            let (directory, name) = parent(volume, &path)?;
            if expect(is_empty(model, &path), volume.remove_directory(directory, name, NOW))? {
                model.remove(&path);
            }
        }
        Step::Rename(index, to) => {
            let names: Vec<_> = model.keys().cloned().collect();
            if names.is_empty() {
                return Ok(());
            }
            rename(volume, model, &names[index.index(names.len())], to, expect)?;
        }
        Step::Commit => volume.commit()?,
        Step::Reopen => {}
    }
    Ok(())
}

fn rename(
    volume: &Volume,
    model: &mut Model,
    from: &str,
    to: &str,
    expect: impl Fn(bool, Result<(), Error>) -> Result<bool, Error>,
) -> Result<(), Error> {
    let below =
        |path: &str| path == from || path.strip_prefix(from).is_some_and(|rest| rest.starts_with('/'));
    let is_directory = model[from].is_none();
    let can = parent_is_directory(model, to)
        && (to == from || !is_directory || !below(to))
        && match model.get(to) {
            None => true,
            Some(Some(_)) => !is_directory,
            Some(None) => to == from || is_directory && is_empty(model, to),
        };
    let done = parent(volume, from)
        .and_then(|from| Ok((from, parent(volume, to)?)))
        .and_then(|(from, to)| volume.rename(from, to, Time(6)));
    if expect(can, done)? && to != from {
        let moved: Vec<_> = model.keys().filter(|path| below(path)).cloned().collect();
        for path in moved {
            let content = model.remove(&path).unwrap();
            model.insert(format!("{to}{}", &path[from.len()..]), content);
        }
    }
    Ok(())
}

fn write(model: &mut Model, path: &str, offset: usize, bytes: &[u8]) {
    let content = model.get_mut(path).unwrap().as_mut().unwrap();
    if content.len() < offset + bytes.len() {
        content.resize(offset + bytes.len(), 0);
    }
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// All that a volume has.
pub fn content(volume: &Volume) -> Result<Model, Error> {
    let mut model = Model::new();
    let mut directories = vec![(ROOT, String::new())];
    while let Some((directory, prefix)) = directories.pop() {
        for entry in volume.entries(directory)? {
            let path = format!("{prefix}{}", entry.name);
            if entry.kind == Kind::Directory {
                directories.push((entry.node, format!("{path}/")));
                model.insert(path, None);
            } else {
                let size = usize::try_from(volume.stat(entry.node)?.size).unwrap();
                let mut bytes = vec![0xee; size];
                assert_eq!(volume.read_at(entry.node, 0, &mut bytes)?, size);
                model.insert(path, Some(bytes));
            }
        }
    }
    Ok(model)
}
