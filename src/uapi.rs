//! WireGuard's configuration protocol for userspace programs: what `wg(8)` speaks over a socket.
//!
//! A client sends `get=1` or `set=1`, lines of the form `key=value`, and an empty line; the answer
//! ends in `errno=` and an empty line. Nothing here opens a socket: [`Connection`] takes the bytes of
//! one client as they come, changes an [`Interface`], and gives the answers out. What an interface
//! does not hold, the UDP port above all, is the caller's, through the trait [`Host`].
//!
//! [`RequestReader`], [`Operation`] and [`Edit`] are the parts of a connection, for a program that reads
//! requests on another thread.
//!
//! # What is done as wireguard-go does it
//!
//! - A line is applied when it comes. What was applied before an error stays, the error ends the
//!   request, and nothing of it is applied any more.
//! - Lines before the first `public_key` are about the device, later ones about a peer, which is
//!   added at its `public_key`. `update_only=true` takes a peer back that was added there.
//! - Lines about a peer that is ourselves, was removed or does not exist must be right and do nothing.
//!   A peer whose key becomes our own is removed.
//! - Numbers are decimal, without a sign; flags are `true` and nothing else; keys are hexadecimal in
//!   either case. A `private_key` of zeros takes the key away.
//! - The number of an error is negative. A client that begins with anything but `get=1` or `set=1` is
//!   to be left without an answer. A `set` request that the client's end of sending cuts off is whole.
//!
//! # What differs
//!
//! - After an error, and after an answer, the next request is read, also if it came with the one before.
//! - Lines are at most [`MAX_LINE`] long, and longer ones `EINVAL`; there, 65535 bytes and `EIO`.
//! - Zeros are a peer like another while there is no private key.
//! - As newer versions than 0.0.20220316 of Debian 12 do it: an endpoint is told with its scope, the
//!   length of a prefix has neither a sign nor leading zeros, and `allowed_ip=-10.0.0.0/8` removes an
//!   allowed IP.
//!
//! ```
//! use core::net::SocketAddr;
//! use core::time::Duration;
//! use quietwire::uapi::{Connection, Device, Errno, Host};
//! use quietwire::{Instant, Interface};
//!
//! struct Node {
//!     port: u16,
//!     mark: u32,
//! }
//!
//! impl Host<SocketAddr> for Node {
//!     fn listen_port(&self) -> u16 {
//!         self.port
//!     }
//!     fn set_listen_port(&mut self, port: u16) -> Result<(), Errno> {
//!         self.port = port; // and bind a socket, or say `Errno::EADDRINUSE`
//!         Ok(())
//!     }
//!     fn fwmark(&self) -> u32 {
//!         self.mark
//!     }
//!     fn set_fwmark(&mut self, mark: u32) -> Result<(), Errno> {
//!         self.mark = mark;
//!         Ok(())
//!     }
//!     fn endpoint(&self, address: SocketAddr) -> SocketAddr {
//!         address
//!     }
//!     fn unix_time_of(&self, at: Instant) -> Duration {
//!         Duration::from_nanos(at.as_nanos()) // of a clock that began in 1970
//!     }
//! }
//!
//! let now = Instant::from_nanos(0);
//! let mut interface = Interface::new(None, now);
//! let mut node = Node { port: 0, mark: 0 };
//! let mut device = Device::new(now, &mut interface, &mut node);
//! let mut connection = Connection::new();
//!
//! let key = "58".repeat(32);
//! let set = format!("set=1\nlisten_port=51820\npublic_key={key}\nallowed_ip=10.0.0.0/8\n\n");
//! let (first, second) = set.split_at(40);
//! assert!(connection.receive(&mut first.as_bytes(), &mut device)?.is_none(), "incomplete");
//! let answer = connection.receive(&mut second.as_bytes(), &mut device)?.unwrap();
//! assert_eq!(answer.as_str(), "errno=0\n\n");
//!
//! let mut bytes: &[u8] = b"get=1\n\nset=1\nlisten_port=70000\n\n";
//! let answer = connection.receive(&mut bytes, &mut device)?.unwrap();
//! assert!(answer.as_str().starts_with("listen_port=51820\npublic_key=5858"));
//! assert!(answer.as_str().ends_with("\nallowed_ip=10.0.0.0/8\nerrno=0\n\n"));
//! let answer = connection.receive(&mut bytes, &mut device)?.unwrap();
//! assert_eq!(answer.as_str(), "errno=-22\n\n", "not a port");
//! # Ok::<(), quietwire::uapi::HangUp>(())
//! ```

mod answer;
mod edit;
mod errno;
mod error;
mod operation;
mod reader;

use core::fmt;
use core::mem;
use core::net::SocketAddr;
use core::time::Duration;

use crate::{Endpoint, Instant, Interface, PeerId, PeerMut};

pub use answer::Answer;
pub use edit::Edit;
pub use errno::Errno;
pub use error::Error;
pub use operation::{Key, Operation, Zone};
pub use reader::{RequestReader, Step};

/// The longest line of a request, in bytes without its end. No line that says something is longer
/// than 100 or so.
pub const MAX_LINE: usize = 1024;

/// One client: bytes in, answers out.
///
/// A `set` request is applied as its lines come, and what was applied before an error stays. Of
/// several clients at once, each has a connection of its own.
#[derive(Debug, Default)]
pub struct Connection {
    reader: RequestReader,
    edit: Edit,
    error: Option<Error>,
}

impl Connection {
    /// Expects the first request.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from the front of `input` until a request is complete or has failed, and gives
    /// its answer out; `None` when all bytes are taken. To be called until then.
    ///
    /// # Errors
    ///
    /// [`HangUp`]: the client is to be left without an answer. So it is from then on.
    pub fn receive<E: Endpoint, H: Host<E> + ?Sized>(
        &mut self,
        input: &mut &[u8],
        device: &mut Device<'_, E, H>,
    ) -> Result<Option<Answer>, HangUp> {
        while let Some(step) = self.reader.next(input) {
            if let Some(answer) = self.advance(step, device)? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    /// The client sends nothing more: ends a `set` request that lacks its empty line.
    ///
    /// What a client sent before it died is applied by that, as wireguard-go does.
    pub fn finish<E: Endpoint, H: Host<E> + ?Sized>(
        mut self,
        device: &mut Device<'_, E, H>,
    ) -> Option<Answer> {
        while let Some(step) = self.reader.finish() {
            if let Ok(Some(answer)) = self.advance(step, device) {
                return Some(answer);
            }
        }
        None
    }

    /// Why the last request failed, if it did; for a log.
    #[must_use]
    pub const fn last_error(&self) -> Option<Error> {
        self.error
    }

    fn advance<E: Endpoint, H: Host<E> + ?Sized>(
        &mut self,
        step: Result<Step, Error>,
        device: &mut Device<'_, E, H>,
    ) -> Result<Option<Answer>, HangUp> {
        let result = match step {
            Ok(Step::Operation(operation)) => match self.edit.apply(&operation, device) {
                Ok(()) => return Ok(None),
                Err(error) => Err(error),
            },
            Ok(Step::Set) => {
                self.edit = Edit::new();
                return Ok(None);
            }
            Ok(Step::Unknown) => return Err(HangUp),
            Ok(Step::Get) => {
                self.error = None;
                return Ok(Some(device.get()));
            }
            Ok(Step::End) => {
                mem::take(&mut self.edit).finish(device);
                Ok(())
            }
            Err(error) => Err(error),
        };
        self.reader.abandon();
        self.error = result.err();
        Ok(Some(Answer::status(self.error.map(Error::errno))))
    }
}

/// A client asked for something that does not exist: neither `get=1` nor `set=1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HangUp;

impl fmt::Display for HangUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected get=1 or set=1")
    }
}

impl core::error::Error for HangUp {}

/// All that requests are about: an interface, what the caller keeps beside it, and the time.
#[derive(Debug)]
pub struct Device<'d, E: Endpoint, H: ?Sized> {
    pub(crate) now: Instant,
    pub(crate) interface: &'d mut Interface<E>,
    pub(crate) host: &'d mut H,
}

impl<'d, E: Endpoint, H: Host<E> + ?Sized> Device<'d, E, H> {
    /// Bundles them, for as long as bytes are received.
    pub fn new(now: Instant, interface: &'d mut Interface<E>, host: &'d mut H) -> Self {
        Self {
            now,
            interface,
            host,
        }
    }

    /// The answer to a `get` request, secrets included. Some 450 bytes a peer and 25 an allowed IP.
    #[must_use]
    pub fn get(&self) -> Answer {
        Answer::of_get(self)
    }
}

/// What an [`Interface`] does not hold.
pub trait Host<E: Endpoint> {
    /// The UDP port that datagrams are received on; zero if there is none.
    fn listen_port(&self) -> u16;

    /// Receives on another port; zero leaves the choice to the system.
    ///
    /// # Errors
    ///
    /// [`Errno::EADDRINUSE`] or what the system says.
    fn set_listen_port(&mut self, port: u16) -> Result<(), Errno>;

    /// The mark of outgoing datagrams; zero is none.
    fn fwmark(&self) -> u32;

    /// Marks outgoing datagrams.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn set_fwmark(&mut self, mark: u32) -> Result<(), Errno>;

    /// Makes an endpoint for a peer that is at `address`.
    fn endpoint(&self, address: SocketAddr) -> E;

    /// The time since 1970-01-01 00:00 UTC at `at`, which is not in the future.
    fn unix_time_of(&self, at: Instant) -> Duration;

    /// The scope of the network interface with this name, for an endpoint such as
    /// `[fe80::1%eth0]:51820`. `wg` writes scopes of link-local addresses as names.
    fn scope_id(&self, zone: &str) -> Option<u32> {
        let _ = zone;
        None
    }

    /// A peer was added. It has its public key and nothing else; this is the place to set its MTU.
    fn peer_added(&mut self, peer: PeerMut<'_, E>) {
        let _ = peer;
    }

    /// All lines about a peer were applied: packets that wait for it may go now.
    fn peer_configured(&mut self, peer: PeerMut<'_, E>) {
        let _ = peer;
    }

    /// A peer was removed.
    fn peer_removed(&mut self, id: PeerId) {
        let _ = id;
    }
}
