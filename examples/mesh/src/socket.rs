//! How `mesh status` and the other commands reach the running process: a Unix socket in the state folder.
//!
//! One request a connection: a word on a line. One answer: a line of JSON. The socket has mode 0600, in a
//! folder that only its owner may enter.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::sys::stat::{Mode, umask};
use serde::{Deserialize, Serialize};
use tracing::debug;

use crate::status::Status;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// The state of the mesh.
    Status,
    /// Announce a new key.
    Rotate,
    /// Take a new key at once.
    Reprovision,
    /// Send traffic through the mesh.
    Enable,
    /// Do not.
    Disable,
    /// Read the preshared keys again.
    Reread,
    /// Take our record away and end.
    Leave,
}

const WORDS: [(Command, &str); 7] = [
    (Command::Status, "status"),
    (Command::Rotate, "rotate"),
    (Command::Reprovision, "reprovision"),
    (Command::Enable, "enable"),
    (Command::Disable, "disable"),
    (Command::Reread, "reread"),
    (Command::Leave, "leave"),
];

/// What the process answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The state of the mesh.
    Status(Box<Status>),
    /// It is done, and what that means.
    Done(String),
    /// It is not done, and why.
    Failed(String),
}

/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(20);

const MAX_ANSWER: u64 = 64 << 20;

/// Listens. Only the owner may connect.
///
/// # Errors
///
/// The system's.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    // The folder's lock says that nobody listens there: it is what a killed process left behind.
    match fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    // There is no moment at which others may connect.
    let old = umask(Mode::from_bits_truncate(0o077));
    let listener = UnixListener::bind(path);
    umask(old);
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listener
}

/// Answers clients, one after the other, for the life of the process.
///
/// # Errors
///
/// The system's, when it has no more threads.
pub fn serve(
    listener: UnixListener,
    obey: impl Fn(Command) -> Option<Answer> + Send + 'static,
) -> io::Result<()> {
    let run = move || {
        for stream in listener.incoming() {
            if let Err(why) = stream.and_then(|stream| converse(stream, &obey)) {
                debug!("a client: {why}");
                thread::sleep(Duration::from_millis(10));
            }
        }
    };
    thread::Builder::new().name("commands".into()).spawn(run)?;
    Ok(())
}

fn converse(mut stream: UnixStream, obey: &impl Fn(Command) -> Option<Answer>) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new((&stream).take(64)).read_line(&mut line)?;
    let known = WORDS.iter().find(|(_, word)| *word == line.trim_end());
    let answer = match known {
        Some((command, _)) => obey(*command),
        None => Some(Answer::Failed("there is no such command".into())),
    };
    let answer = answer.unwrap_or_else(|| Answer::Failed("the mesh is ending".into()));
    stream.write_all(serde_json::to_string(&answer)?.as_bytes())
}

/// Asks the running process.
///
/// # Errors
///
/// The system's; `NotFound` or `ConnectionRefused` when no process runs.
pub fn ask(path: &Path, command: Command) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let word = WORDS.iter().find(|(known, _)| *known == command);
    writeln!(stream, "{}", word.map_or("", |(_, word)| word))?;
    let mut text = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}
