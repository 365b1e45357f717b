//! Names: directories, files, and what may be done to them, as `wasi:filesystem` and POSIX mean it, without symbolic
//! and hard links. A volume and a file system in memory are both one [`Tree`], with different contents of files.
//!
//! A node that is open when it is unlinked stays until it is closed; it has no name then, and is in no commit.

use std::collections::{BTreeMap, BTreeSet};

/// The longest name of one file or directory, in bytes.
pub const MAX_NAME: usize = 255;
/// Most files and directories of one tree, in bytes about 30 MiB of memory with names of usual length.
pub const MAX_NODES: usize = 65_536;
/// The root directory.
pub const ROOT: NodeId = NodeId(1);

/// A file or directory, for as long as it exists; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// Nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(pub u64);

/// When a node was read, written and altered in any way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// Last set by a program; reading does not move it.
    pub accessed: Time,
    /// Content was last written, or an entry of the directory made or removed.
    pub modified: Time,
    /// Anything was last altered.
    pub changed: Time,
}

/// Why an operation on names is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// No such name, or the node is gone.
    #[error("there is no such file or directory")]
    Absent,
    /// The name is taken.
    #[error("the name exists already")]
    Exists,
    /// A file where a directory is needed.
    #[error("it is not a directory")]
    NotDirectory,
    /// A directory where a file is needed.
    #[error("it is a directory")]
    IsDirectory,
    /// The directory has entries.
    #[error("the directory is not empty")]
    NotEmpty,
    /// Empty, `.`, `..`, or with a slash or zero byte.
    #[error("this is no name")]
    InvalidName,
    /// Over [`MAX_NAME`].
    #[error("the name has more than {MAX_NAME} bytes")]
    NameTooLong,
    /// Over [`MAX_NODES`].
    #[error("there are {MAX_NODES} files and directories already")]
    TooMany,
    /// A directory moved below itself.
    #[error("a directory cannot be moved into itself")]
    IntoItself,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind<F> {
    /// Names and what they stand for.
    Directory(BTreeMap<String, NodeId>),
    /// Content.
    File(F),
}

/// A file or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node<F> {
    /// What it is.
    pub kind: Kind<F>,
    /// When it was touched.
    pub times: Times,
    parent: NodeId,
    linked: bool,
    open: u32,
}

impl<F> Node<F> {
    /// Whether a name leads to it.
    pub fn is_linked(&self) -> bool {
        self.linked
    }
}

/// What was altered since it was last asked: whose state is to be written by the next commit.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Made, removed, or with other times or another size.
    pub(crate) nodes: BTreeSet<NodeId>,
    /// Entries of directories.
    pub(crate) entries: BTreeSet<(NodeId, String)>,
}

/// Files and directories below one root.
#[derive(Debug)]
pub struct Tree<F> {
    nodes: BTreeMap<NodeId, Node<F>>,
    next: u64,
    /// `None`: nobody asks.
    pub(crate) changes: Option<Changes>,
}

impl<F> Tree<F> {
    /// With an empty root directory.
    pub fn new(now: Time) -> Self {
        let times = Times { accessed: now, modified: now, changed: now };
        let root =
            Node { kind: Kind::Directory(BTreeMap::new()), times, parent: ROOT, linked: true, open: 0 };
        Self { nodes: BTreeMap::from([(ROOT, root)]), next: ROOT.0 + 1, changes: None }
    }

    /// A tree of nodes that were written down; `None` if they do not form one: every node but the root has exactly one
    /// name, in a directory that has one.
    pub(crate) fn restore(nodes: BTreeMap<NodeId, (Kind<F>, Times)>, next: u64) -> Option<Self> {
        let mut tree = Self {
            nodes: nodes
                .into_iter()
                .map(|(id, (kind, times))| (id, Node { kind, times, parent: ROOT, linked: false, open: 0 }))
                .collect(),
            next,
            changes: None,
        };
        let (mut directories, mut named) = (vec![ROOT], 1);
        tree.nodes.get_mut(&ROOT)?.linked = true;
        while let Some(directory) = directories.pop() {
            let children: Vec<NodeId> = tree.entries(directory).ok()?.values().copied().collect();
            for child in children {
                let node = tree.nodes.get_mut(&child).filter(|node| !node.linked)?;
                node.linked = true;
                node.parent = directory;
                named += 1;
                if matches!(node.kind, Kind::Directory(_)) {
                    directories.push(child);
                }
            }
        }
        let ids_are_old = tree.nodes.last_key_value().is_some_and(|(last, _)| last.0 < next);
        (named == tree.nodes.len() && ids_are_old && named <= MAX_NODES).then_some(tree)
    }

    /// The number of the next node.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// A node, linked or still open.
    pub fn node(&self, id: NodeId) -> Result<&Node<F>, TreeError> {
        self.nodes.get(&id).ok_or(TreeError::Absent)
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node<F>)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    /// The names in a directory.
    pub fn entries(&self, directory: NodeId) -> Result<&BTreeMap<String, NodeId>, TreeError> {
        match &self.node(directory)?.kind {
            Kind::Directory(entries) => Ok(entries),
            Kind::File(_) => Err(TreeError::NotDirectory),
        }
    }

    /// What `name` stands for.
    pub fn lookup(&self, directory: NodeId, name: &str) -> Result<NodeId, TreeError> {
        self.entries(directory)?.get(name).copied().ok_or(TreeError::Absent)
    }

    /// A file's content.
    pub fn file(&self, id: NodeId) -> Result<&F, TreeError> {
        match &self.node(id)?.kind {
            Kind::File(content) => Ok(content),
            Kind::Directory(_) => Err(TreeError::IsDirectory),
        }
    }

    /// A file's content, to alter it at `now`; `None` leaves its times.
    pub fn file_mut(&mut self, id: NodeId, now: Option<Time>) -> Result<&mut F, TreeError> {
        let node = self.nodes.get_mut(&id).ok_or(TreeError::Absent)?;
        let Kind::File(content) = &mut node.kind else { return Err(TreeError::IsDirectory) };
        if let Some(now) = now {
            node.times.modified = now;
            node.times.changed = now;
        }
        if let (Some(changes), true) = (&mut self.changes, node.linked) {
            changes.nodes.insert(id);
        }
        Ok(content)
    }

    /// Makes an empty file or directory.
    pub fn create(
        &mut self,
        directory: NodeId,
        name: &str,
        kind: Kind<F>,
        now: Time,
    ) -> Result<NodeId, TreeError> {
        check_name(name)?;
        let entries = self.entries(directory)?;
        if entries.contains_key(name) {
            return Err(TreeError::Exists);
        }
        if !self.node(directory)?.linked {
            return Err(TreeError::Absent);
        }
        if self.nodes.len() >= MAX_NODES {
            return Err(TreeError::TooMany);
        }
        let id = NodeId(self.next);
        self.next += 1;
        let times = Times { accessed: now, modified: now, changed: now };
        self.nodes.insert(id, Node { kind, times, parent: directory, linked: true, open: 0 });
        self.mark(id);
        self.link(directory, name, id, now);
        Ok(id)
    }

    /// Takes a file's name. Gives the node's content back if nobody has it open.
    pub fn unlink(&mut self, directory: NodeId, name: &str, now: Time) -> Result<Option<F>, TreeError> {
        let id = self.lookup(directory, name)?;
        self.file(id)?;
        Ok(self.remove(directory, name, id, now))
    }

    /// Takes an empty directory's name.
    pub fn remove_directory(&mut self, directory: NodeId, name: &str, now: Time) -> Result<(), TreeError> {
        let id = self.lookup(directory, name)?;
        if !self.entries(id)?.is_empty() {
            return Err(TreeError::NotEmpty);
        }
        self.remove(directory, name, id, now);
        Ok(())
    }

    /// Moves a node to another name, in the place of what has it: a file in that of a file, a directory in that of
    /// an empty directory. Gives back the content of the file that was replaced, if nobody has it open.
    pub fn rename(
        &mut self,
        (from, name): (NodeId, &str),
        (to, new_name): (NodeId, &str),
        now: Time,
    ) -> Result<Option<F>, TreeError> {
        let id = self.lookup(from, name)?;
        check_name(new_name)?;
        let target = self.entries(to)?.get(new_name).copied();
        if target == Some(id) {
            return Ok(None);
        }
        if !self.node(to)?.linked {
            return Err(TreeError::Absent);
        }
        let is_directory = self.entries(id).is_ok();
        if is_directory && self.is_within(to, id) {
            return Err(TreeError::IntoItself);
        }
        let replaced = match target {
            None => None,
            Some(target) => {
                match (is_directory, self.entries(target)) {
                    (true, Err(_)) => return Err(TreeError::NotDirectory),
                    (false, Ok(_)) => return Err(TreeError::IsDirectory),
                    (true, Ok(entries)) if !entries.is_empty() => return Err(TreeError::NotEmpty),
                    _ => {}
                }
                self.remove(to, new_name, target, now)
            }
        };
        self.unname(from, name, now);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.parent = to;
            node.times.changed = now;
        }
        self.mark(id);
        self.link(to, new_name, id, now);
        Ok(replaced)
    }

    /// Sets times; `None` leaves one as it is.
    pub fn set_times(
        &mut self,
        id: NodeId,
        accessed: Option<Time>,
        modified: Option<Time>,
        now: Time,
    ) -> Result<(), TreeError> {
        let node = self.nodes.get_mut(&id).ok_or(TreeError::Absent)?;
        node.times.accessed = accessed.unwrap_or(node.times.accessed);
        node.times.modified = modified.unwrap_or(node.times.modified);
        node.times.changed = now;
        if node.linked {
            self.mark(id);
        }
        Ok(())
    }

    /// Holds a node, though its name may go.
    pub fn open(&mut self, id: NodeId) -> Result<(), TreeError> {
        let node = self.nodes.get_mut(&id).ok_or(TreeError::Absent)?;
        node.open = node.open.saturating_add(1);
        Ok(())
    }

    /// Ends what [`open`](Self::open) began. Gives back the content of a file that nothing leads to any more.
    pub fn close(&mut self, id: NodeId) -> Option<F> {
        let node = self.nodes.get_mut(&id)?;
        node.open = node.open.saturating_sub(1);
        if node.open > 0 || node.linked {
            return None;
        }
        self.take(id)
    }

    fn is_within(&self, mut id: NodeId, ancestor: NodeId) -> bool {
        loop {
            if id == ancestor {
                return true;
            }
            match self.nodes.get(&id) {
                Some(node) if id != ROOT => id = node.parent,
                _ => return false,
            }
        }
    }

    fn link(&mut self, directory: NodeId, name: &str, id: NodeId, now: Time) {
        self.entry(directory, name, now, |entries| {
            entries.insert(name.to_owned(), id);
        });
    }

    fn unname(&mut self, directory: NodeId, name: &str, now: Time) {
        self.entry(directory, name, now, |entries| {
            entries.remove(name);
        });
    }

    fn entry(
        &mut self,
        directory: NodeId,
        name: &str,
        now: Time,
        alter: impl FnOnce(&mut BTreeMap<String, NodeId>),
    ) {
        if let Some(Node { kind: Kind::Directory(entries), times, .. }) = self.nodes.get_mut(&directory) {
            alter(entries);
            times.modified = now;
            times.changed = now;
        }
        self.mark(directory);
        if let Some(changes) = &mut self.changes {
            changes.entries.insert((directory, name.to_owned()));
        }
    }

    fn remove(&mut self, directory: NodeId, name: &str, id: NodeId, now: Time) -> Option<F> {
        self.unname(directory, name, now);
        self.mark(id);
        let node = self.nodes.get_mut(&id)?;
        node.linked = false;
        node.times.changed = now;
        if node.open > 0 { None } else { self.take(id) }
    }

    fn take(&mut self, id: NodeId) -> Option<F> {
        match self.nodes.remove(&id)?.kind {
            Kind::File(content) => Some(content),
            Kind::Directory(_) => None,
        }
    }

    fn mark(&mut self, id: NodeId) {
        if let Some(changes) = &mut self.changes {
            changes.nodes.insert(id);
        }
    }
}

fn check_name(name: &str) -> Result<(), TreeError> {
    if name.len() > MAX_NAME {
        return Err(TreeError::NameTooLong);
    }
    if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
        return Err(TreeError::InvalidName);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1);

    fn tree() -> Tree<&'static str> {
        Tree::new(NOW)
    }

    fn directory<F>() -> Kind<F> {
        Kind::Directory(BTreeMap::new())
    }

    #[test]
    fn a_directory_is_not_moved_into_itself() {
        let mut tree = tree();
        let a = tree.create(ROOT, "a", directory(), NOW).unwrap();
        let b = tree.create(a, "b", directory(), NOW).unwrap();
        assert_eq!(tree.rename((ROOT, "a"), (b, "c"), NOW), Err(TreeError::IntoItself));
        assert_eq!(tree.rename((ROOT, "a"), (a, "c"), NOW), Err(TreeError::IntoItself));
        assert_eq!(tree.rename((a, "b"), (ROOT, "c"), NOW), Ok(None));
        assert_eq!(tree.lookup(ROOT, "c"), Ok(b));
    }

    #[test]
    fn renaming_replaces_only_what_is_alike() {
        let mut tree = tree();
        tree.create(ROOT, "file", Kind::File("one"), NOW).unwrap();
        tree.create(ROOT, "other", Kind::File("two"), NOW).unwrap();
        let full = tree.create(ROOT, "full", directory(), NOW).unwrap();
        tree.create(full, "x", Kind::File("x"), NOW).unwrap();
        tree.create(ROOT, "empty", directory(), NOW).unwrap();
        assert_eq!(tree.rename((ROOT, "file"), (ROOT, "full"), NOW), Err(TreeError::IsDirectory));
        assert_eq!(tree.rename((ROOT, "empty"), (ROOT, "file"), NOW), Err(TreeError::NotDirectory));
        assert_eq!(tree.rename((ROOT, "empty"), (ROOT, "full"), NOW), Err(TreeError::NotEmpty));
        assert_eq!(tree.rename((ROOT, "full"), (ROOT, "empty"), NOW), Ok(None));
        assert_eq!(tree.rename((ROOT, "file"), (ROOT, "other"), NOW), Ok(Some("two")));
        assert_eq!(tree.rename((ROOT, "other"), (ROOT, "other"), NOW), Ok(None));
        assert_eq!(tree.entries(ROOT).unwrap().keys().collect::<Vec<_>>(), ["empty", "other"]);
    }

    #[test]
    fn an_open_file_outlives_its_name() {
        let mut tree = tree();
        let id = tree.create(ROOT, "f", Kind::File("kept"), NOW).unwrap();
        tree.open(id).unwrap();
        assert_eq!(tree.unlink(ROOT, "f", NOW), Ok(None));
        assert_eq!(tree.file(id), Ok(&"kept"));
        assert_eq!(tree.close(id), Some("kept"));
        assert_eq!(tree.file(id), Err(TreeError::Absent));
    }

    #[test]
    fn nothing_is_made_in_a_directory_that_is_gone() {
        let mut tree = tree();
        let id = tree.create(ROOT, "d", directory(), NOW).unwrap();
        tree.open(id).unwrap();
        tree.create(ROOT, "f", Kind::File("f"), NOW).unwrap();
        tree.remove_directory(ROOT, "d", NOW).unwrap();
        assert_eq!(tree.create(id, "x", Kind::File("x"), NOW), Err(TreeError::Absent));
        assert_eq!(tree.rename((ROOT, "f"), (id, "x"), NOW), Err(TreeError::Absent));
    }

    #[test]
    fn names_are_plain() {
        let mut tree = tree();
        for name in ["", ".", "..", "a/b", "a\0"] {
            assert_eq!(
                tree.create(ROOT, name, Kind::File("x"), NOW),
                Err(TreeError::InvalidName),
                "{name:?}"
            );
        }
        let long = "x".repeat(MAX_NAME + 1);
        assert_eq!(tree.create(ROOT, &long, Kind::File("x"), NOW), Err(TreeError::NameTooLong));
    }
}
