//! A folder as a directory: one file for each node, `NAME.json`.
//!
//! For one machine, for tests, and for file systems that several machines share. A record is replaced by
//! a rename, so no reader sees half of one. The kernel says when something changes; every few seconds the
//! folder is looked through anyway, because not every shared file system says so, and only files that
//! look changed are read. What is no regular file, or has no node's name, is left alone. Who may write
//! to the folder decides who is in the mesh: give it to one user and mode 0700.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SendError, Sender};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::{Directory, DirectoryError, News};
use crate::record::{MAX_BYTES, check_name};

/// A folder with one file for each node.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

/// How often the folder is looked through although nothing was heard.
const RESCAN: Duration = Duration::from_secs(5);

/// After news the folder is left alone for so long: a burst of changes is looked at once.
const BREATH: Duration = Duration::from_millis(20);

const SUFFIX: &str = ".json";

impl Folder {
    /// Uses the folder at `path`, and makes it if there is none. If that fails now it may work later, and
    /// until then the folder counts as one that cannot be reached.
    ///
    /// # Errors
    ///
    /// When it is something else than a folder.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_dir()) {
            let what = format!("{} is no folder", path.display());
            return Err(DirectoryError(what));
        }
        let path = path.to_owned();
        // What is wrong shows when it is read.
        let _ = fs::create_dir_all(&path);
        Ok(Self { path })
    }

    fn failed(&self, doing: &str) -> impl Fn(io::Error) -> DirectoryError {
        let place = format!("{doing} in {}", self.path.display());
        move |why| DirectoryError(format!("{place}: {why}"))
    }

    fn replace(&self, name: &str, record: &str) -> io::Result<()> {
        // A name that the look-through ignores.
        let temporary = self.path.join(format!(".{name}.new"));
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o644);
        let mut file = options.open(&temporary)?;
        let written = file
            .write_all(record.as_bytes())
            .and_then(|()| file.sync_all());
        let path = self.path.join(format!("{name}{SUFFIX}"));
        let replaced = written.and_then(|()| fs::rename(&temporary, path));
        if replaced.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        replaced?;
        File::open(&self.path)?.sync_all()
    }
}

impl Directory for Folder {
    fn watch(&mut self, news: Sender<News>) -> Result<(), DirectoryError> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
        let watcher = Watcher {
            path: self.path.clone(),
            inotify: inotify.map_err(|why| self.failed("watching")(why.into()))?,
            seen: BTreeMap::new(),
            is_known: false,
            is_lost: false,
            news,
        };
        let thread = thread::Builder::new().name("folder".into());
        let started = thread.spawn(move || watcher.run());
        started.map(drop).map_err(self.failed("watching"))
    }

    fn publish(&mut self, name: &str, record: &str) -> Result<(), DirectoryError> {
        self.replace(name, record)
            .map_err(self.failed("publishing"))
    }

    fn withdraw(&mut self, name: &str) -> Result<(), DirectoryError> {
        match fs::remove_file(self.path.join(format!("{name}{SUFFIX}"))) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => {
                Err(self.failed("withdrawing")(why))
            }
            _ => Ok(()),
        }
    }
}

/// What a file looked like when it was read: a replaced one has another inode.
type Look = (u64, u64, i64, i64);

struct Watcher {
    path: PathBuf,
    inotify: Inotify,
    seen: BTreeMap<String, (Look, String)>,
    is_known: bool,
    is_lost: bool,
    news: Sender<News>,
}

impl Watcher {
    /// Runs until nobody wants news any more.
    fn run(mut self) {
        while self.step().is_ok() {
            self.wait();
        }
    }

    fn step(&mut self) -> Result<(), SendError<News>> {
        // Again each time: the folder may have been replaced by another. Watching twice is watching once.
        let events = AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        let watched = self.inotify.add_watch(&self.path, events);
        match watched.map_err(io::Error::from).and_then(|_| self.scan()) {
            Ok(found) => self.tell(found),
            Err(why) => self.lose(&why),
        }
    }

    fn scan(&self) -> io::Result<BTreeMap<String, (Look, String)>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let file_name = entry.file_name();
            let name = file_name
                .to_str()
                .and_then(|name| name.strip_suffix(SUFFIX));
            let Some(name) = name.filter(|name| check_name(name).is_ok()) else {
                continue;
            };
            // A file may vanish meanwhile, or be one that we may not read: it is as if it were not there.
            if let Ok(Some(one)) = self.look(name, &entry.path()) {
                found.insert(name.to_owned(), one);
            }
        }
        Ok(found)
    }

    fn look(&self, name: &str, path: &Path) -> io::Result<Option<(Look, String)>> {
        let metadata = fs::symlink_metadata(path)?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let (inode, size) = (metadata.ino(), metadata.size());
        let look = (inode, size, metadata.mtime(), metadata.mtime_nsec());
        if let Some((_, text)) = self.seen.get(name).filter(|(old, _)| *old == look) {
            return Ok(Some((look, text.clone())));
        }
        let limit = u64::try_from(MAX_BYTES)
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        let mut bytes = Vec::new();
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
        Ok(Some((look, String::from_utf8_lossy(&bytes).into_owned())))
    }

    fn tell(&mut self, found: BTreeMap<String, (Look, String)>) -> Result<(), SendError<News>> {
        let old = std::mem::replace(&mut self.seen, found);
        self.is_lost = false;
        if !std::mem::replace(&mut self.is_known, true) {
            let all = self.seen.iter();
            let all = all.map(|(name, (_, text))| (name.clone(), text.clone()));
            return self.news.send(News::Everything(all.collect()));
        }
        if self.seen.is_empty() && !old.is_empty() {
            // Not that all have left at once: rather a mount point without its file system.
            self.is_known = false;
            return self.news.send(News::Everything(Vec::new()));
        }
        for (name, (_, text)) in &self.seen {
            if old.get(name).map(|(_, text)| text) != Some(text) {
                self.news.send(News::Changed(name.clone(), text.clone()))?;
            }
        }
        for name in old.keys().filter(|name| !self.seen.contains_key(*name)) {
            self.news.send(News::Gone(name.clone()))?;
        }
        Ok(())
    }

    fn lose(&mut self, why: &io::Error) -> Result<(), SendError<News>> {
        self.is_known = false;
        if std::mem::replace(&mut self.is_lost, true) {
            return Ok(());
        }
        let place = self.path.display();
        self.news
            .send(News::Unreachable(format!("folder {place}: {why}")))
    }

    fn wait(&self) {
        let mut fds = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
        let longest = PollTimeout::try_from(RESCAN).unwrap_or(PollTimeout::MAX);
        if poll(&mut fds, longest).is_ok_and(|ready| ready > 0) {
            thread::sleep(BREATH);
        }
        while self
            .inotify
            .read_events()
            .is_ok_and(|events| !events.is_empty())
        {}
    }
}

#[cfg(test)]
mod tests;
