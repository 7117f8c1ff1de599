//! TCP connections through a tunnel, as blocking streams.
//!
//! Whatever a call waits for, it takes turns of the node's event loop until it is there.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{CongestionControl, RecvError, Socket, SocketBuffer, State};

use crate::node::Node;

/// The receive window, in bytes: what can be on its way to us. More makes long paths faster. It also
/// lets a fast sender nearby overrun our UDP socket, whose buffer `std` cannot enlarge.
const RECEIVE_WINDOW: usize = 512 * 1024;

/// What can be sent before it is acknowledged, in bytes. All of it can meet in the receive buffer of
/// the other side's UDP socket. Of the 208 KiB that are usual on Linux, a full datagram takes 2.25.
const SEND_WINDOW: usize = 96 * 1024;

/// How long the other side of a connection may be silent although it was asked.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// A TCP connection. Dropping it aborts it; [`finish`](Self::finish) closes it.
pub(crate) struct Stream<'n> {
    node: &'n mut Node,
    handle: SocketHandle,
}

impl<'n> Stream<'n> {
    pub(crate) fn connect(node: &'n mut Node, to: SocketAddr) -> io::Result<Self> {
        let mut socket = socket();
        let port = node.random_port();
        let connecting = socket.connect(node.stack.context(), to, port);
        connecting.map_err(|error| io::Error::new(ErrorKind::AddrNotAvailable, error))?;
        let handle = node.sockets.add(socket);
        let mut stream = Self { node, handle };
        let asked = stream.node.now();
        stream.wait_while(|socket| socket.state() == State::SynSent)?;
        if stream.socket().may_send() {
            return Ok(stream);
        }
        let (kind, what) = if stream.node.now() - asked < PATIENCE {
            (ErrorKind::ConnectionRefused, "refuses the connection")
        } else {
            (ErrorKind::TimedOut, "does not answer")
        };
        Err(io::Error::new(
            kind,
            format!("{to} {what} (asked through the tunnel)"),
        ))
    }

    /// Waits for somebody to connect to `port`.
    pub(crate) fn accept(node: &'n mut Node, port: u16) -> io::Result<Self> {
        let mut socket = socket();
        let listening = socket.listen(port);
        listening.map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
        let handle = node.sockets.add(socket);
        let mut stream = Self { node, handle };
        stream.wait_while(|socket| !socket.may_send())?;
        Ok(stream)
    }

    /// Closes the connection, and waits a moment until both sides know.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.socket().close();
        let deadline = self.node.now() + GOODBYE;
        while is_closing(self.socket().state()) && self.node.now() < deadline {
            self.node.turn(Some(deadline))?;
        }
        Ok(())
    }

    fn wait_while(&mut self, condition: impl Fn(&Socket<'_>) -> bool) -> io::Result<()> {
        while condition(self.socket()) {
            self.node.turn(None)?;
        }
        Ok(())
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.node.sockets.get_mut(self.handle)
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.socket().recv_slice(buffer) {
                Ok(0) if !buffer.is_empty() => self.node.turn(None)?,
                Ok(len) => return Ok(len),
                Err(RecvError::Finished) => return Ok(0),
                Err(RecvError::InvalidState) => return Err(lost()),
            }
        }
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.socket().send_slice(bytes) {
                Ok(0) if !bytes.is_empty() => self.node.turn(None)?,
                Ok(len) => return Ok(len),
                Err(_) => return Err(lost()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Tells the other side at once, if it still waits for something.
impl Drop for Stream<'_> {
    fn drop(&mut self) {
        if is_closing(self.socket().state()) {
            self.socket().abort();
            let _ = self.node.send_packets();
        }
        self.node.sockets.remove(self.handle);
    }
}

fn socket() -> Socket<'static> {
    let receive_buffer = SocketBuffer::new(vec![0; RECEIVE_WINDOW]);
    let send_buffer = SocketBuffer::new(vec![0; SEND_WINDOW]);
    let mut socket = Socket::new(receive_buffer, send_buffer);
    socket.set_congestion_control(CongestionControl::Cubic);
    socket.set_timeout(Some(PATIENCE.into()));
    socket.set_keep_alive(Some((PATIENCE / 3).into()));
    socket
}

/// Whether the other side has yet to acknowledge that we have closed, or to close.
fn is_closing(state: State) -> bool {
    !matches!(state, State::Closed | State::TimeWait)
}

fn lost() -> io::Error {
    let text = "the connection was lost: the other side has reset it or does not answer any more";
    io::Error::new(ErrorKind::ConnectionReset, text)
}
