//! The socket that `wg` speaks to: `/var/run/wireguard/NAME.sock`.
//!
//! The protocol is the library's (`quietwire::uapi`). Here are the socket, its permissions, and what a
//! request needs beside the interface. Every client has a thread for as long as it is connected, so a
//! client that stalls delays nobody.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno as System;
use nix::net::if_::if_nametoindex;
use nix::sys::stat::{Mode, umask};
use quietwire::uapi::{Connection, Device, Errno, Host};
use quietwire::{Instant, PeerId, PeerMut, Staging};
use tracing::{debug, warn};

use crate::clock;
use crate::error::Error;
use crate::node::Node;
use crate::path::Path;
use crate::state::State;

/// Where `wg` looks for the sockets of userspace programs.
const FOLDER: &str = "/var/run/wireguard";

/// How many clients are served at once; more are turned away.
const MAX_CLIENTS: usize = 32;

/// How long a client may say nothing, within a request or between two, or leave its answer unread.
const PATIENCE: Duration = Duration::from_secs(10);

/// The listening socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct UapiSocket {
    listener: UnixListener,
    file: PathBuf,
    /// Which file it is: another process may have put its own in place.
    identity: (u64, u64),
}

impl UapiSocket {
    /// Listens for `wg` on behalf of a device. Only the owner may connect.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when another process answers there already, [`Error::Socket`].
    pub fn bind(name: &str) -> Result<Self, Error> {
        let file = FilePath::new(FOLDER).join(format!("{name}.sock"));
        let failed = |source| Error::Socket {
            socket: file.clone(),
            source,
        };
        let folder = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(FOLDER);
        folder.map_err(failed)?;
        if UnixStream::connect(&file).is_ok() {
            return Err(Error::Busy { socket: file });
        }
        // What a process left behind that was killed.
        match fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        // There is no moment at which others may connect.
        let old = umask(Mode::from_bits_truncate(0o077));
        let listener = UnixListener::bind(&file);
        umask(old);
        let listener = listener.map_err(failed)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let identity = identity(&file).map_err(failed)?;
        Ok(Self {
            listener,
            file,
            identity,
        })
    }

    /// The socket's file.
    #[must_use]
    pub fn file(&self) -> &FilePath {
        &self.file
    }

    /// Accepts clients for the life of the node.
    ///
    /// # Errors
    ///
    /// The system's, if the socket cannot be shared with the thread that does it.
    pub fn serve(&self, node: &Arc<Node>) -> io::Result<()> {
        let (listener, node) = (self.listener.try_clone()?, node.clone());
        let accept = move || accept(&listener, &node);
        thread::Builder::new().name("uapi".into()).spawn(accept)?;
        Ok(())
    }
}

impl Drop for UapiSocket {
    fn drop(&mut self) {
        if identity(&self.file).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.file);
        }
    }
}

/// The device and inode of a file.
fn identity(file: &FilePath) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(file).map(|data| (data.dev(), data.ino()))
}

fn accept(listener: &UnixListener, node: &Arc<Node>) {
    let clients = Arc::new(());
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(problem) => {
                warn!("accepting a client: {problem}");
                // Such as too many open files: it will not be better at once.
                thread::sleep(Duration::from_millis(500));
                continue;
            }
        };
        // One is ours. A client's goes with its thread, also with one that could not be made.
        if Arc::strong_count(&clients) > MAX_CLIENTS {
            continue;
        }
        let (node, client) = (node.clone(), clients.clone());
        let serve = move || {
            if let Err(problem) = converse(stream, &node) {
                debug!("a client: {problem}");
            }
            drop(client);
        };
        if let Err(problem) = thread::Builder::new().name("client".into()).spawn(serve) {
            warn!("serving a client: {problem}");
        }
    }
}

/// Answers one client until it leaves.
fn converse(mut stream: UnixStream, node: &Node) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut connection = Connection::new();
    let mut buffer = Secret([0; 4096]);
    loop {
        let len = match stream.read(&mut buffer.0) {
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if len == 0 {
            let last = with_device(node, |device| connection.finish(device));
            return last.map_or(Ok(()), |answer| stream.write_all(answer.as_ref()));
        }
        let mut input = &buffer.0[..len];
        loop {
            let answer = with_device(node, |device| connection.receive(&mut input, device));
            match answer {
                Ok(Some(answer)) => stream.write_all(answer.as_ref())?,
                Ok(None) => break,
                Err(hang_up) => return Err(io::Error::other(hang_up)),
            }
            if let Some(error) = connection.last_error() {
                debug!("refused a request: {error}");
            }
        }
    }
}

/// What was read may hold keys.
struct Secret([u8; 4096]);

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

/// Lets a request work on the interface, and sees to what follows from it.
fn with_device<R>(node: &Node, f: impl FnOnce(&mut Device<'_, Path, Settings<'_>>) -> R) -> R {
    node.change(|state, now| {
        let State {
            interface,
            port,
            fwmark,
            staging,
            mtu,
            ..
        } = &mut *state;
        let mut settings = Settings {
            node,
            port,
            fwmark,
            staging,
            mtu: *mtu,
            is_raised: false,
        };
        let result = f(&mut Device::new(now, interface, &mut settings));
        if settings.is_raised {
            state.go_up(now);
        }
        result
    })
}

/// What a request can change beside the interface.
struct Settings<'s> {
    node: &'s Node,
    port: &'s mut u16,
    fwmark: &'s mut u32,
    staging: &'s mut Staging<PeerId, Vec<u8>>,
    mtu: u16,
    /// A device that was up without a port has one now.
    is_raised: bool,
}

impl Host<Path> for Settings<'_> {
    fn listen_port(&self) -> u16 {
        *self.port
    }

    fn set_listen_port(&mut self, port: u16) -> Result<(), Errno> {
        let raised = self.node.set_port(self.port, *self.fwmark, port);
        self.is_raised |= raised.map_err(|error| {
            warn!("UDP port {port} cannot be opened: {error}");
            to_errno(error)
        })?;
        Ok(())
    }

    fn fwmark(&self) -> u32 {
        *self.fwmark
    }

    fn set_fwmark(&mut self, mark: u32) -> Result<(), Errno> {
        self.node.set_fwmark(mark).map_err(|error| {
            warn!("the mark {mark:#x} cannot be set: {error}");
            to_errno(error)
        })?;
        *self.fwmark = mark;
        Ok(())
    }

    fn endpoint(&self, address: SocketAddr) -> Path {
        Path::to(address)
    }

    fn unix_time_of(&self, at: Instant) -> Duration {
        clock::unix_time_of(at)
    }

    fn scope_id(&self, zone: &str) -> Option<u32> {
        if_nametoindex(zone).ok()
    }

    fn peer_added(&mut self, mut peer: PeerMut<'_, Path>) {
        peer.set_mtu(self.mtu);
    }

    fn peer_removed(&mut self, id: PeerId) {
        let lost = self.staging.discard(id);
        self.node.counters.unstaged.add(lost);
    }
}

fn to_errno(error: System) -> Errno {
    match error {
        System::EADDRINUSE => Errno::EADDRINUSE,
        _ => Errno::EIO,
    }
}
