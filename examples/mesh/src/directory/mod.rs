//! Where the records of a mesh live.
//!
//! A directory keeps one record for each node under the node's name. Whatever it says is untrusted text
//! until `plan` has looked at it: a directory stores and tells, and decides nothing.

pub mod etcd;
pub mod folder;

use std::fmt;
use std::path::Path;
use std::sync::mpsc::Sender;

use self::etcd::EtcdDirectory;

/// A place that all nodes can reach.
///
/// Its methods are called by one thread. What others change arrives through the sender that
/// [`watch`](Self::watch) was given, from a thread of the directory's own.
pub trait Directory: Send + fmt::Debug {
    /// Begins to tell what the directory holds: first everything, as [`News::Everything`], then every
    /// change. When the directory cannot be reached it says so with [`News::Unreachable`], tries on by
    /// itself, without haste, and tells everything anew once it is back.
    ///
    /// # Errors
    ///
    /// What can never work, such as a folder that is a file or a certificate that cannot be read.
    fn watch(&mut self, news: Sender<News>) -> Result<(), DirectoryError>;

    /// Puts our own record in place, replacing the former one at once or not at all.
    ///
    /// # Errors
    ///
    /// The directory cannot be reached or refuses. The caller tries again later.
    fn publish(&mut self, name: &str, record: &str) -> Result<(), DirectoryError>;

    /// Takes our own record away.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish).
    fn withdraw(&mut self, name: &str) -> Result<(), DirectoryError>;
}

/// What a directory tells. Names and records as they were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// All records: the ones not named are gone.
    Everything(Vec<(String, String)>),
    /// A record is new or has changed.
    Changed(String, String),
    /// A record is gone.
    Gone(String),
    /// The directory cannot be reached, and why. What was known stays so.
    Unreachable(String),
}

/// Why a directory did not do what it was asked.
#[derive(Debug)]
pub struct DirectoryError(pub String);

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DirectoryError {}

/// Opens the directory that a line names: `folder:PATH`, or `etcd:` and its servers.
///
/// # Errors
///
/// What is wrong with the line, or with what it names.
pub fn open(line: &str) -> Result<Box<dyn Directory>, DirectoryError> {
    match line.split_once(':') {
        Some(("folder", path)) if !path.is_empty() => {
            Ok(Box::new(folder::Folder::open(Path::new(path))?))
        }
        Some(("etcd", _)) => Ok(Box::new(EtcdDirectory::new(line.parse()?)?)),
        _ => Err(DirectoryError(format!(
            "{line:?} names no directory: it is folder:PATH or etcd:https://HOST:2379?ca=FILE&cert=FILE&key=FILE"
        ))),
    }
}
