//! The UDP socket: datagrams out one by one, in by the batch, and both into the capture file.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use crate::device::{BATCH, Pool};
use crate::pcap::Capture;

pub(crate) struct Wire {
    socket: UdpSocket,
    capture: Option<Capture>,
    /// Datagrams that were received and not yet taken, with their sources.
    arrived: Vec<(SocketAddr, Vec<u8>)>,
    send_error: Option<io::Error>,
}

impl Wire {
    pub(crate) fn new(socket: UdpSocket) -> Self {
        Self {
            socket,
            capture: None,
            arrived: Vec::with_capacity(BATCH),
            send_error: None,
        }
    }

    /// From now on, writes what crosses the wire to a file.
    pub(crate) fn capture(&mut self, path: &Path, local: SocketAddr) -> io::Result<()> {
        self.capture = Some(Capture::create(path, local)?);
        Ok(())
    }

    pub(crate) fn finish_capture(&mut self) -> io::Result<()> {
        self.capture.take().map_or(Ok(()), Capture::finish)
    }

    /// Sends a datagram. One that cannot be sent is as one that is lost on its way: what it was
    /// about will be sent again.
    ///
    /// # Errors
    ///
    /// Those of the capture file.
    pub(crate) fn send(&mut self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        if let Some(capture) = &mut self.capture {
            capture.sent(to, datagram)?;
        }
        self.send_error = self.socket.send_to(datagram, to).err();
        Ok(())
    }

    /// Why the last datagram was not sent, if it was not.
    pub(crate) fn take_send_error(&mut self) -> Option<io::Error> {
        self.send_error.take()
    }

    /// Receives up to a batch of datagrams. Waits only for the first, and for ever without `wait`.
    pub(crate) fn receive(&mut self, wait: Option<Duration>, pool: &mut Pool) -> io::Result<()> {
        if wait != Some(Duration::ZERO) {
            self.socket.set_read_timeout(wait)?;
            if !self.receive_one(pool)? {
                return Ok(());
            }
        }
        self.socket.set_nonblocking(true)?;
        while self.arrived.len() < BATCH && self.receive_one(pool)? {}
        self.socket.set_nonblocking(false)
    }

    /// Takes what was received.
    pub(crate) fn arrived(&mut self) -> impl Iterator<Item = (SocketAddr, Vec<u8>)> {
        self.arrived.drain(..)
    }

    /// Receives a datagram; whether there was one.
    fn receive_one(&mut self, pool: &mut Pool) -> io::Result<bool> {
        use ErrorKind::{ConnectionReset, Interrupted, TimedOut, WouldBlock};
        let mut buffer = pool.take();
        match self.socket.recv_from(&mut buffer) {
            Ok((len, source)) => {
                buffer.truncate(len);
                if let Some(capture) = &mut self.capture {
                    capture.received(source, &buffer)?;
                }
                self.arrived.push((source, buffer));
                Ok(true)
            }
            Err(error) => {
                pool.put(buffer);
                match error.kind() {
                    // On Windows a reset says that an earlier datagram was not delivered.
                    WouldBlock | TimedOut | Interrupted | ConnectionReset => Ok(false),
                    _ => Err(error),
                }
            }
        }
    }

    /// Something that ends a wait from another thread.
    pub(crate) fn waker(&self) -> io::Result<Waker> {
        self.socket.try_clone().map(Waker)
    }
}

/// Ends a wait for datagrams: by an empty one that we send to ourselves.
pub(crate) struct Waker(UdpSocket);

impl Waker {
    pub(crate) fn wake(&self) -> io::Result<()> {
        let mut own = self.0.local_addr()?;
        if own.ip().is_unspecified() {
            own.set_ip(match own.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        self.0.send_to(&[], own).map(|_| ())
    }
}
