//! A node of a WireGuard network that lives in this process: quietwire, a UDP socket and a TCP/IP
//! stack, tied together by one event loop, [`Node::turn`].

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use getrandom::SysRng;
use quietwire::config::Config;
use quietwire::rand_core::{Rng, UnwrapErr};
use quietwire::{
    Env, Event, Instant, Interface, Opened, Outgoing, PeerId, Refused, SealFailure, SealJob,
};
use smoltcp::iface::{Interface as Stack, SocketSet};

use crate::device::{BATCH, Device, Packet};
use crate::setup;
use crate::wire::{Waker, Wire};

/// What setting something up can fail with: a sentence for a person.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

type Sealing = Result<SealJob<'static, Vec<u8>>, SealFailure<'static, Vec<u8>>>;
type Opening = Result<Opened<Vec<u8>>, Refused<Vec<u8>>>;

pub(crate) struct Node {
    pub(crate) sockets: SocketSet<'static>,
    pub(crate) stack: Stack,
    pub(crate) tunnel: Interface,
    pub(crate) wire: Wire,
    device: Device,
    epoch: std::time::Instant,
    rng: UnwrapErr<SysRng>,
    stop: Arc<AtomicBool>,
    /// A peer that did not answer our handshakes, until somebody asks.
    given_up: Option<PeerId>,
    // Empty between turns: they are kept for their memory.
    opened: Vec<Opening>,
    sealed: Vec<Sealing>,
}

impl Node {
    /// Makes a node from a configuration. Endpoints that are names are not used.
    pub(crate) fn new(config: &Config, socket: UdpSocket) -> Result<Self, Failure> {
        let mut device = Device::new(setup::mtu(config).into());
        let mut rng = UnwrapErr(SysRng);
        Ok(Self {
            sockets: SocketSet::new(Vec::new()),
            stack: setup::stack(config, &mut device, rng.next_u64())?,
            tunnel: setup::tunnel(config)?,
            wire: Wire::new(socket),
            device,
            epoch: std::time::Instant::now(),
            rng,
            stop: Arc::default(),
            given_up: None,
            opened: Vec::with_capacity(BATCH),
            sealed: Vec::with_capacity(BATCH),
        })
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::since_epoch(self.epoch.elapsed())
    }

    /// A port from the range that is free for everybody.
    pub(crate) fn random_port(&mut self) -> u16 {
        let [low, high, ..] = self.rng.next_u32().to_le_bytes();
        u16::from_le_bytes([low, high]) | 0xc000
    }

    /// Something that ends the event loop from another thread.
    pub(crate) fn stopper(&self) -> io::Result<Stopper> {
        Ok(Stopper {
            stop: Arc::clone(&self.stop),
            waker: self.wire.waker()?,
        })
    }

    /// One turn of the event loop: waits until a datagram arrives, something is due or the deadline
    /// comes, and does all that follows.
    ///
    /// # Errors
    ///
    /// Those of receiving and of the capture file, and [`Stopped`].
    pub(crate) fn turn(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        self.send_control()?;
        let wait = self.idle_time(deadline);
        self.wire.receive(wait, &mut self.device.pool)?;
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other(Stopped));
        }
        self.open_datagrams();
        self.send_packets()
    }

    /// Runs the TCP/IP stack: it reads the packets that arrived and writes new ones, which are sent.
    pub(crate) fn send_packets(&mut self) -> io::Result<()> {
        loop {
            let now = stack_time(self.now());
            self.stack.poll(now, &mut self.device, &mut self.sockets);
            self.seal_packets()?;
            if self.device.incoming.is_empty() {
                return Ok(());
            }
        }
    }

    /// Makes sure that there is a session with the peer that `destination` is behind. Returns how
    /// long it took.
    pub(crate) fn establish(&mut self, destination: IpAddr) -> Result<Duration, Failure> {
        let start = self.now();
        let Some(id) = self.tunnel.route(destination) else {
            return Err(format!("{destination} is in no peer's AllowedIPs").into());
        };
        if !self.is_established(id)
            && let Some(mut peer) = self.tunnel.peer_mut(id)
        {
            peer.initiate(start);
        }
        while !self.is_established(id) {
            self.send_control()?;
            self.check_prospects(id, start)?;
            self.turn(None)?;
        }
        Ok(self.now() - start)
    }

    fn is_established(&self, id: PeerId) -> bool {
        let peer = self.tunnel.peer(id);
        peer.is_some_and(|peer| peer.is_established(self.now()))
    }

    /// Fails when the handshake with a peer has no prospect of success.
    fn check_prospects(&mut self, id: PeerId, start: Instant) -> Result<(), Failure> {
        let peer = self.tunnel.peer(id).ok_or("the peer is gone")?;
        let key = peer.public_key();
        let Some(endpoint) = peer.endpoint() else {
            return Err(format!("[Peer] {key} has no Endpoint").into());
        };
        if let Some(error) = self.wire.take_send_error() {
            return Err(format!("cannot send to {endpoint}: {error}").into());
        }
        if self.given_up.take() != Some(id) {
            return Ok(());
        }
        let own_key = self.tunnel.public_key().ok_or("there is no private key")?;
        let seconds = (self.now() - start).as_secs();
        Err(format!(
            "no answer from {endpoint} in {seconds} s. Is the peer {key} there, does every firewall on the \
             way let UDP pass, and does the peer know our public key {own_key}?"
        )
        .into())
    }

    /// How long nothing will be due; `None` if for ever.
    fn idle_time(&mut self, deadline: Option<Instant>) -> Option<Duration> {
        let now = self.now();
        let stack = self.stack.poll_delay(stack_time(now), &self.sockets);
        let ours = [self.tunnel.poll_timeout(), deadline].into_iter().flatten();
        let ours = ours.map(|at| at - now);
        ours.chain(stack.map(Duration::from)).min()
    }

    /// Does what is due, and sends the handshake messages and keepalives that are owed.
    fn send_control(&mut self) -> io::Result<()> {
        let now = self.now();
        self.tunnel.handle_timeout(now);
        while let Some((id, event)) = self.tunnel.poll_event() {
            if event == Event::HandshakeGivenUp {
                self.given_up = Some(id);
            }
        }
        let unix_time = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let mut env = Env::new(&mut self.rng, unix_time);
        while let Some(transmit) = self.tunnel.poll_transmit(now, &mut env) {
            self.wire.send(transmit.to, transmit.message.as_bytes())?;
        }
        Ok(())
    }

    /// Opens the datagrams that arrived. What the tunnel refuses, it has counted.
    fn open_datagrams(&mut self) {
        let now = self.now();
        let datagrams = self.wire.arrived();
        self.tunnel.receive_batch(now, datagrams, &mut self.opened);
        let Device { incoming, pool, .. } = &mut self.device;
        for result in self.opened.drain(..) {
            match result.map(Opened::into_parts) {
                Ok((buffer, range)) if !range.is_empty() => {
                    incoming.push_back(Packet { buffer, range });
                }
                Ok((buffer, _)) => pool.put(buffer),
                Err(refused) => pool.put(refused.datagram),
            }
        }
    }

    /// Seals the packets that the stack has written, and sends them. Without a session they are
    /// lost: TCP sends them again.
    fn seal_packets(&mut self) -> io::Result<()> {
        let now = self.now();
        let Device { outgoing, pool, .. } = &mut self.device;
        let packets = outgoing.drain(..);
        let packets = packets.map(|packet| Outgoing::in_place(packet.buffer, packet.range));
        self.tunnel.seal_batch(now, packets, &mut self.sealed);
        for result in self.sealed.drain(..) {
            match result {
                Ok(mut job) => {
                    self.wire.send(job.to(), job.datagram())?;
                    pool.put(job.into_parts().0);
                }
                Err(failure) => pool.put(failure.outgoing.into_buffer()),
            }
        }
        Ok(())
    }
}

/// Traffic with each peer, and what was dropped and why.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peers: Vec<String> = self
            .tunnel
            .peers()
            .map(|peer| {
                let stats = peer.stats();
                format!(
                    "received {} bytes in {} datagrams, sent {} bytes in {}",
                    stats.rx_bytes, stats.rx_datagrams, stats.tx_bytes, stats.tx_datagrams
                )
            })
            .collect();
        f.write_str(&peers.join("; "))?;
        for (reason, count) in self.tunnel.drops().iter().filter(|(_, count)| *count > 0) {
            write!(f, "; dropped {count}: {reason}")?;
        }
        Ok(())
    }
}

/// Ends a node's event loop from another thread.
pub(crate) struct Stopper {
    stop: Arc<AtomicBool>,
    waker: Waker,
}

impl Stopper {
    pub(crate) fn stop(&self) -> io::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.waker.wake()
    }
}

/// Why [`Node::turn`] fails after [`Stopper::stop`].
#[derive(Debug)]
pub(crate) struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl Error for Stopped {}

pub(crate) fn is_stopped(error: &io::Error) -> bool {
    let inner = error.get_ref();
    inner.is_some_and(<dyn Error + Send + Sync>::is::<Stopped>)
}

fn stack_time(now: Instant) -> smoltcp::time::Instant {
    let micros = now.as_nanos() / 1000;
    smoltcp::time::Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}
