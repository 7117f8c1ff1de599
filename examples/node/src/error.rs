//! What can keep a node from starting, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

/// Why the node did not start or could not go on.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The name of the device is empty, longer than 15 bytes, or has characters that no name has.
    BadName(String),
    /// The TUN device could not be made.
    Device {
        /// Its name.
        name: String,
        /// The system's word.
        source: io::Error,
    },
    /// Another process serves a device of this name.
    Busy {
        /// The socket on which it answers.
        socket: PathBuf,
    },
    /// The socket for `wg` could not be made.
    Socket {
        /// Where it was to be.
        socket: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Another call to the system failed.
    System {
        /// What was tried.
        doing: &'static str,
        /// The system's word.
        source: io::Error,
    },
}

impl Error {
    /// Names what was tried when a call failed.
    pub fn system<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System {
            doing,
            source: source.into(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName(name) => write!(
                f,
                "{name:?} cannot be the name of a device: use 1 to 15 letters, digits, '_', '=', '+', '.' or '-', such as wg0"
            ),
            Self::Device { name, source } => {
                write!(
                    f,
                    "the TUN device {name} cannot be made: {source}. {}",
                    advice(source)
                )
            }
            Self::Busy { socket } => write!(
                f,
                "another process answers on {}: end it first, or use another name",
                socket.display()
            ),
            Self::Socket { socket, source } => write!(
                f,
                "the configuration socket {} cannot be made: {source}. {}",
                socket.display(),
                socket_advice(source)
            ),
            Self::System { doing, source } => write!(f, "{doing}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Device { source, .. }
            | Self::Socket { source, .. }
            | Self::System { source, .. } => Some(source),
            Self::BadName(_) | Self::Busy { .. } => None,
        }
    }
}

fn advice(source: &io::Error) -> &'static str {
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM | Errno::EACCES) => {
            "This needs the capability CAP_NET_ADMIN: run it as root, or with `setcap cap_net_admin+ep`"
        }
        Some(Errno::EBUSY) => {
            "The device is in use: `ip link del` it, end the process that holds it, or use another name"
        }
        Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) => {
            "There is no /dev/net/tun: load the module with `modprobe tun`, or give the container the device"
        }
        Some(Errno::EINVAL) => {
            "A device of this name exists and is no TUN device, or the kernel is older than 4.18"
        }
        _ => "See `dmesg` for the kernel's side",
    }
}

fn socket_advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "Run it as root, or make the folder writable",
        _ => "The folder must exist on a file system that can hold sockets",
    }
}
