//! The state folder: what a node keeps across restarts.
//!
//! Every file is replaced whole: written beside its place, flushed to the disk, renamed, and the folder
//! flushed. So a process that is killed at any step, or a disk that is full, leaves the old file as it
//! was, and at most a temporary file that the next start removes. All files have mode 0600.
//!
//! ```text
//! identity.json  the private key, its generation, and the next key while one is announced
//! known.json     the last good record of each other node
//! times.json     until when the times in our handshakes are taken
//! disabled       exists while the mesh is disabled
//! psk/NAME       the preshared key with the node NAME, as `wg genpsk` prints it
//! control.sock   where `mesh status` and the others ask
//! lock           held by the running process
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use quietwire::PresharedKey;
use zeroize::Zeroizing;

use crate::plan::Known;
use crate::record::{Record, check_name};
use crate::rotation::Identity;
use crate::times::Times;

/// The state folder.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    faults: Faults,
}

/// A process that was killed may have left a child that is only just beginning, and holds its lock until then.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

const IDENTITY: &str = "identity.json";
const KNOWN: &str = "known.json";
const TIMES: &str = "times.json";
const DISABLED: &str = "disabled";
/// No file of ours is longer, however many nodes there are.
const MAX_FILE: u64 = 256 << 20;

impl Store {
    /// Opens the folder, and makes it if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(StoreError::new("making the state folder", folder))?;
        Ok(Self {
            folder: folder.to_owned(),
            faults: Faults::default(),
        })
    }

    /// Keeps other processes from using the folder, for as long as what is returned lives.
    ///
    /// # Errors
    ///
    /// [`StoreError`], when another process has it.
    pub fn lock(&self) -> Result<Flock<File>, StoreError> {
        let path = self.folder.join("lock");
        let doing = "locking the state folder, which another `mesh run` may be using";
        let failed = StoreError::new(doing, &path);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path);
        let mut file = match file {
            Ok(file) => file,
            Err(error) => return Err(failed(error)),
        };
        let begin = Instant::now();
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => {
                    self.tidy();
                    return Ok(locked);
                }
                Err((_, why)) if begin.elapsed() > LOCK_PATIENCE => return Err(failed(why.into())),
                Err((again, _)) => file = again,
            }
            thread::sleep(LOCK_PATIENCE / 50);
        }
    }

    /// Removes what a killed process has left.
    fn tidy(&self) {
        for name in [IDENTITY, KNOWN, TIMES, DISABLED] {
            let _ = fs::remove_file(self.temporary(name));
        }
    }

    /// Where the running process listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        Self::socket_in(&self.folder)
    }

    /// Where a process with this state folder listens.
    #[must_use]
    pub fn socket_in(folder: &Path) -> PathBuf {
        folder.join("control.sock")
    }

    /// Our own keys, if there are any yet.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. A file that cannot be read is never replaced by a new key.
    pub fn identity(&self) -> Result<Option<Identity>, StoreError> {
        let Some(text) = self.read(IDENTITY)? else {
            return Ok(None);
        };
        let read = Identity::parse(&text);
        let failed = |why| StoreError::content(&self.folder.join(IDENTITY), why);
        read.map(Some).map_err(failed)
    }

    /// Keeps our own keys.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the former ones are kept then.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), StoreError> {
        self.write(IDENTITY, &identity.to_json())
    }

    /// The last good records of the others. Those that cannot be read any more are left out.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn known(&self) -> Result<Known, StoreError> {
        let Some(text) = self.read(KNOWN)? else {
            return Ok(Known::new());
        };
        let texts: BTreeMap<String, String> = serde_json::from_str(&text)
            .map_err(|why| StoreError::content(&self.folder.join(KNOWN), why.to_string()))?;
        let read = |(name, text): (String, String)| Some((name, Record::parse(&text).ok()?));
        Ok(texts.into_iter().filter_map(read).collect())
    }

    /// Keeps the last good records of the others.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the former ones are kept then.
    pub fn set_known(&self, known: &Known) -> Result<(), StoreError> {
        let texts: BTreeMap<_, _> = known
            .iter()
            .map(|(name, record)| (name, record.to_json()))
            .collect();
        self.write(KNOWN, &serde_json::to_string(&texts).unwrap_or_default())
    }

    /// The times that handshakes have shown; none without a file.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn times(&self) -> Result<Times, StoreError> {
        let text = self.read(TIMES)?;
        let failed = |why| StoreError::content(&self.folder.join(TIMES), why);
        text.map_or(Ok(Times::default()), |text| {
            Times::parse(&text).map_err(failed)
        })
    }

    /// Keeps the times that handshakes have shown.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the former ones are kept then.
    pub fn set_times(&self, times: &Times) -> Result<(), StoreError> {
        self.write(TIMES, &times.to_json())
    }

    /// Whether the mesh is enabled.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        !self.folder.join(DISABLED).exists()
    }

    /// Keeps whether the mesh is enabled.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn set_enabled(&self, is_enabled: bool) -> Result<(), StoreError> {
        if !is_enabled {
            return self.write(DISABLED, "");
        }
        let path = self.folder.join(DISABLED);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(StoreError::new("removing", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// The preshared key with a node; none without a file.
    ///
    /// # Errors
    ///
    /// [`StoreError`], also when others may read the file.
    pub fn preshared_key(&self, name: &str) -> Result<PresharedKey, StoreError> {
        let file = format!("psk/{name}");
        let Some(text) = check_name(name)
            .ok()
            .map_or(Ok(None), |()| self.read(&file))?
        else {
            return Ok(PresharedKey::NONE);
        };
        let failed = |why| StoreError::content(&self.folder.join(&file), why);
        PresharedKey::from_base64(text.trim()).map_err(|why| failed(why.to_string()))
    }

    /// What a file holds. It may be a key, so it is wiped when dropped.
    fn read(&self, name: &str) -> Result<Option<Zeroizing<String>>, StoreError> {
        let path = self.folder.join(name);
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::new("reading", &path)(error)),
        };
        if metadata.permissions().mode() & 0o077 != 0 {
            let why = "others may read it; `chmod 600` it, and consider what it holds as known";
            return Err(StoreError::content(&path, why.into()));
        }
        if metadata.len() > MAX_FILE {
            return Err(StoreError::content(&path, "it is too long".into()));
        }
        // With room for all of it, because what grows leaves copies.
        let room = usize::try_from(metadata.len()).unwrap_or(0) + 1;
        let mut text = Zeroizing::new(String::with_capacity(room));
        let read = File::open(&path).and_then(|mut file| file.read_to_string(&mut text));
        read.map(|_| Some(text))
            .map_err(StoreError::new("reading", &path))
    }

    fn temporary(&self, name: &str) -> PathBuf {
        self.folder.join(format!(".{name}.new"))
    }

    /// Replaces a file whole. If a step fails, none of those after it is made.
    fn write(&self, name: &str, text: &str) -> Result<(), StoreError> {
        let (path, temporary) = (self.folder.join(name), self.temporary(name));
        let written = self.write_steps(&path, &temporary, text.as_bytes());
        if written.is_err() && !self.faults.is_killed() {
            let _ = fs::remove_file(&temporary);
        }
        written.map_err(StoreError::new("writing", &path))
    }

    fn write_steps(&self, path: &Path, temporary: &Path, text: &[u8]) -> io::Result<()> {
        let _ = fs::remove_file(temporary);
        self.faults.step()?;
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(temporary)?;
        self.faults.step()?;
        let (one, other) = text.split_at(text.len() / 2);
        file.write_all(one)?;
        self.faults.step()?;
        file.write_all(other)?;
        self.faults.step()?;
        file.sync_all()?;
        self.faults.step()?;
        fs::rename(temporary, path)?;
        self.faults.step()?;
        File::open(&self.folder)?.sync_all()
    }
}

/// Where a test lets a write fail or the process be killed. In a build that is no test it does nothing.
#[derive(Debug, Default)]
struct Faults {
    #[cfg(test)]
    at: std::cell::Cell<Option<(usize, bool)>>,
}

impl Faults {
    #[cfg(test)]
    fn step(&self) -> io::Result<()> {
        match self.at.get() {
            Some((0, _)) => Err(Errno::ENOSPC.into()),
            Some((steps, is_killed)) => {
                self.at.set(Some((steps - 1, is_killed)));
                Ok(())
            }
            None => Ok(()),
        }
    }

    #[cfg(test)]
    fn is_killed(&self) -> bool {
        matches!(self.at.get(), Some((_, true)))
    }

    #[cfg(not(test))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "tests let it fail"
    )]
    fn step(&self) -> io::Result<()> {
        Ok(())
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests let it be true")]
    fn is_killed(&self) -> bool {
        false
    }
}

/// Why the state folder could not be read or written, and what to do.
#[derive(Debug)]
pub struct StoreError {
    doing: &'static str,
    path: PathBuf,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    System(io::Error),
    Content(String),
}

impl StoreError {
    fn new(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self {
            doing,
            path: path.to_owned(),
            problem: Problem::System(source),
        }
    }

    fn content(path: &Path, why: String) -> Self {
        Self {
            doing: "reading",
            path: path.to_owned(),
            problem: Problem::Content(why),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.doing, self.path.display())?;
        match &self.problem {
            Problem::Content(why) => f.write_str(why),
            Problem::System(source) => write!(f, "{source}. {}", advice(source)),
        }
    }
}

impl std::error::Error for StoreError {}

fn advice(source: &io::Error) -> &'static str {
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSPC | Errno::EDQUOT) => {
            "The disk is full: free some room and start again; what was there before is unchanged"
        }
        Some(Errno::EROFS) => "The file system is read-only: name another folder with --state",
        Some(Errno::EACCES | Errno::EPERM) => "Run it as the owner of the folder, usually root",
        Some(Errno::EAGAIN) => "End the other process first, or name another folder with --state",
        _ => "What was there before is unchanged",
    }
}

#[cfg(test)]
mod tests;
