//! An end of a tunnel with its type erased, for tests that pair different implementations.
//!
//! It trades speed for convenience: everything comes back in vectors.

use core::fmt::{self, Debug, Formatter};
use core::net::SocketAddr;
use core::time::Duration;

use crate::tunnel::{Config, Sink, Tunnel};

/// [`Tunnel`] as an object.
pub trait Node {
    /// See [`Tunnel::NAME`].
    fn name(&self) -> &'static str;
    /// See [`Tunnel::advance`].
    fn advance(&mut self, by: Duration) -> bool;
    /// See [`Tunnel::set_psk`].
    fn set_psk(&mut self, psk: Option<[u8; 32]>) -> bool;
    /// See [`Tunnel::initiate`].
    fn initiate(&mut self) -> Outcome;
    /// See [`Tunnel::receive`].
    fn receive(&mut self, source: SocketAddr, datagram: &[u8]) -> Outcome;
    /// See [`Tunnel::seal`].
    fn seal(&mut self, packet: &[u8]) -> Outcome;
    /// See [`Tunnel::timers`].
    fn timers(&mut self) -> Outcome;
}

/// Makes one end of a tunnel.
pub type MakeNode = fn(&Config) -> Box<dyn Node>;

/// What came of a call.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Datagrams for the peer.
    pub sent: Vec<Vec<u8>>,
    /// Inner packets.
    pub delivered: Vec<Vec<u8>>,
    /// The refusal, if it was one.
    pub error: Option<String>,
}

/// Shows types and lengths, not contents.
impl Debug for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let lengths = |list: &[Vec<u8>]| list.iter().map(Vec::len).collect::<Vec<_>>();
        let kinds: Vec<_> = self.sent.iter().filter_map(|sent| sent.first()).collect();
        f.debug_struct("Outcome")
            .field("sent_types", &kinds)
            .field("sent", &lengths(&self.sent))
            .field("delivered", &lengths(&self.delivered))
            .field("error", &self.error)
            .finish()
    }
}

impl Sink for Outcome {
    fn send(&mut self, datagram: &[u8]) {
        self.sent.push(datagram.to_vec());
    }

    fn deliver(&mut self, packet: &[u8]) {
        self.delivered.push(packet.to_vec());
    }
}

/// Makes a [`Node`] of a [`Tunnel`].
#[derive(Debug)]
pub struct Erased<T>(pub T);

impl<T: Tunnel> Node for Erased<T> {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn advance(&mut self, by: Duration) -> bool {
        self.0.advance(by)
    }

    fn set_psk(&mut self, psk: Option<[u8; 32]>) -> bool {
        self.0.set_psk(psk)
    }

    fn initiate(&mut self) -> Outcome {
        collect(|outcome| self.0.initiate(outcome))
    }

    fn receive(&mut self, source: SocketAddr, datagram: &[u8]) -> Outcome {
        let mut datagram = self.0.load_datagram(datagram);
        collect(|outcome| self.0.receive(source, &mut datagram, outcome))
    }

    fn seal(&mut self, packet: &[u8]) -> Outcome {
        let mut packet = self.0.load_packet(packet);
        collect(|outcome| self.0.seal(&mut packet, outcome))
    }

    fn timers(&mut self) -> Outcome {
        collect(|outcome| self.0.timers(outcome))
    }
}

fn collect<E: Debug>(call: impl FnOnce(&mut Outcome) -> Result<(), E>) -> Outcome {
    let mut outcome = Outcome::default();
    outcome.error = call(&mut outcome).err().map(|error| format!("{error:?}"));
    outcome
}
