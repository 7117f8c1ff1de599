//! The pair itself: how it is made, the wire, and the loop that drives both nodes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::{Index, IndexMut};
use std::time::Duration;

use quietwire::{
    Env, Event, Instant, PeerConfig, PresharedKey, Received, Rejected, SealError, Timings,
};

use super::{Alice, Bob, Msg, NANO, Node, NodeKind, SeededRng, Side, packet, secs};

/// How a pair is made. `Setup::of(kind)` gives two ordinary nodes that know each other's address.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) kinds: [NodeKind; 2],
    pub(crate) seed: u64,
    pub(crate) psk: PresharedKey,
    pub(crate) keepalive: [u16; 2],
    pub(crate) knows_endpoint: [bool; 2],
    pub(crate) timings: Timings,
}

impl Setup {
    pub(crate) fn of(kind: NodeKind) -> Self {
        Self {
            kinds: [kind; 2],
            seed: 1,
            psk: PresharedKey::NONE,
            keepalive: [0; 2],
            knows_endpoint: [true; 2],
            timings: Timings::default(),
        }
    }

    fn node(&self, side: Side) -> Node {
        let peer = side.other();
        let allowed_ips = [peer.cidr()];
        let mut config = PeerConfig::new(peer.public_key())
            .preshared_key(self.psk.clone())
            .persistent_keepalive(self.keepalive[side as usize])
            .allowed_ips(&allowed_ips);
        if self.knows_endpoint[side as usize] {
            config = config.endpoint(peer.addr());
        }
        let kind = self.kinds[side as usize];
        Node::new(kind, &side.private_key(), &config, self.timings)
    }

    pub(crate) fn build(&self) -> Pair {
        Pair {
            setup: self.clone(),
            nodes: Side::BOTH.map(|side| self.node(side)),
            now: START,
            unix_base: secs(1_700_000_000),
            rng: SeededRng::new(self.seed),
            addrs: Side::BOTH.map(Side::addr),
            fate: Box::new(|_, _| Fate::Deliver),
            flying: Vec::new(),
            held: VecDeque::new(),
            staged: Default::default(),
            log: Vec::new(),
            events: Vec::new(),
            received: Vec::new(),
            rejected: Vec::new(),
            story: Vec::new(),
        }
    }
}

/// Runs a test on pairs of every kind. The panic message names the kind that failed.
pub(crate) fn on_both(test: impl Fn(Setup)) {
    for kind in [NodeKind::Tunnel, NodeKind::Interface] {
        println!("-- {kind:?}");
        test(Setup::of(kind));
    }
}

/// What the wire does with a datagram. A held one waits in [`Pair::held`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Deliver,
    Delay(Duration),
    Lose,
    Hold,
}

/// A datagram that was put on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) at: Duration,
    pub(crate) from: Side,
    pub(crate) source: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

impl Datagram {
    pub(crate) fn msg(&self) -> Msg {
        Msg::of(&self.bytes)
    }
}

/// When the clock of a pair starts. Times in its logs count from here.
const START: Instant = Instant::from_nanos(7_777_777_777_777);

/// Two nodes and the wire between them.
pub(crate) struct Pair {
    setup: Setup,
    nodes: [Node; 2],
    pub(crate) now: Instant,
    /// The wall clock at the start.
    pub(crate) unix_base: Duration,
    pub(crate) rng: SeededRng,
    /// Where each node's datagrams come from.
    pub(crate) addrs: [SocketAddr; 2],
    fate: Box<dyn FnMut(Side, Msg) -> Fate>,
    flying: Vec<(Instant, Datagram)>,
    pub(crate) held: VecDeque<Datagram>,
    /// Packets that wait for a session, at most 128 a side.
    pub(crate) staged: [VecDeque<Vec<u8>>; 2],
    pub(crate) log: Vec<Datagram>,
    pub(crate) events: Vec<(Duration, Side, Event)>,
    pub(crate) received: Vec<(Duration, Side, Vec<u8>)>,
    pub(crate) rejected: Vec<(Duration, Side, Rejected)>,
    /// All of the above for a human reader, a line each, in the order in which it happened.
    pub(crate) story: Vec<String>,
}

impl Index<Side> for Pair {
    type Output = Node;

    fn index(&self, side: Side) -> &Node {
        &self.nodes[side as usize]
    }
}

impl IndexMut<Side> for Pair {
    fn index_mut(&mut self, side: Side) -> &mut Node {
        &mut self.nodes[side as usize]
    }
}

impl Pair {
    /// The time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.now - START
    }

    /// The program of one side is started anew: it remembers nothing but its configuration.
    pub(crate) fn restart(&mut self, side: Side) {
        self[side] = self.setup.node(side);
        self.staged[side as usize].clear();
    }

    /// Decides what happens to datagrams from now on.
    pub(crate) fn on_wire(&mut self, fate: impl FnMut(Side, Msg) -> Fate + 'static) {
        self.fate = Box::new(fate);
    }

    /// Loses everything that `side` sends from now on.
    pub(crate) fn cut(&mut self, side: Side) {
        self.on_wire(move |from, _| {
            if from == side {
                Fate::Lose
            } else {
                Fate::Deliver
            }
        });
    }

    pub(crate) fn mend(&mut self) {
        self.on_wire(|_, _| Fate::Deliver);
    }

    /// Sends an IPv4 packet of `len` bytes, or stages it and settles the handshake.
    pub(crate) fn send(&mut self, from: Side, len: usize) {
        self.send_packet(from, packet(from, len));
        self.settle();
    }

    fn send_packet(&mut self, from: Side, packet: Vec<u8>) {
        let now = self.now;
        match self[from].seal(now, &packet) {
            Ok((_, datagram)) => self.transmit(from, datagram),
            Err(error @ (SealError::NoSession | SealError::NoEndpoint)) => {
                let len = packet.len();
                self.tell(from, &format!("packet of {len} bytes waits: {error:?}"));
                let staged = &mut self.staged[from as usize];
                staged.push_back(packet);
                while staged.len() > 128 {
                    staged.pop_front();
                }
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A session by a handshake of Alice, with an empty log.
    pub(crate) fn establish(&mut self) {
        let now = self.now;
        self[Alice].initiate(now);
        self.settle();
        assert!(self[Alice].is_established(now) && self[Bob].is_established(now));
        self.clear_log();
    }

    pub(crate) fn clear_log(&mut self) {
        self.log.clear();
        self.events.clear();
        self.received.clear();
        self.rejected.clear();
    }

    /// Does everything that can be done without time passing.
    pub(crate) fn settle(&mut self) {
        loop {
            Side::BOTH.into_iter().for_each(|side| self.poll(side));
            let Some(at) = self.flying.iter().position(|(due, _)| *due <= self.now) else {
                break;
            };
            let (_, datagram) = self.flying.remove(at);
            self.deliver(datagram);
        }
    }

    /// Reads events, then messages, as the contract asks.
    fn poll(&mut self, side: Side) {
        let (now, elapsed) = (self.now, self.elapsed());
        while let Some(event) = self[side].poll_event() {
            self.events.push((elapsed, side, event));
            self.tell(side, &format!("event {event:?}"));
            match event {
                Event::Established => {
                    for packet in std::mem::take(&mut self.staged[side as usize]) {
                        self.send_packet(side, packet);
                    }
                }
                Event::HandshakeGivenUp => self.staged[side as usize].clear(),
                _ => {}
            }
        }
        loop {
            let unix_time = self.unix_base + elapsed;
            let mut env = Env::new(&mut self.rng, unix_time);
            let Some(transmit) = self.nodes[side as usize].poll_transmit(now, &mut env) else {
                break;
            };
            self.transmit(side, transmit.message.as_bytes().to_vec());
        }
    }

    fn transmit(&mut self, from: Side, bytes: Vec<u8>) {
        let (at, source) = (self.elapsed(), self.addrs[from as usize]);
        let datagram = Datagram {
            at,
            from,
            source,
            bytes,
        };
        self.log.push(datagram.clone());
        let fate = (self.fate)(from, datagram.msg());
        self.tell_of(&datagram, fate);
        match fate {
            Fate::Deliver => self.flying.push((self.now, datagram)),
            Fate::Delay(time) => self.flying.push((self.now + time, datagram)),
            Fate::Lose => {}
            Fate::Hold => self.held.push_back(datagram),
        }
    }

    fn tell_of(&mut self, datagram: &Datagram, fate: Fate) {
        let (from, msg, len) = (datagram.from, datagram.msg(), datagram.bytes.len());
        let how = match fate {
            Fate::Deliver | Fate::Delay(_) => "",
            Fate::Lose => " (lost)",
            Fate::Hold => " (held)",
        };
        let line = format!("-> {:?}  {msg:?} {len}{how}", from.other());
        self.tell(from, &line);
    }

    /// Adds a line to the story.
    pub(crate) fn tell(&mut self, side: Side, what: &str) {
        let (time, side) = (self.elapsed().as_secs_f64(), format!("{side:?}"));
        self.story.push(format!("{time:>12.6}  {side:<5} {what}"));
    }

    /// Hands a datagram to the other side now: one that was held, replayed or made up.
    pub(crate) fn deliver(&mut self, mut datagram: Datagram) {
        let (now, elapsed, to) = (self.now, self.elapsed(), datagram.from.other());
        match self[to].receive(now, datagram.source, &mut datagram.bytes) {
            Ok(Received::Packet(packet)) => {
                let packet = packet.to_vec();
                self.tell(to, &format!("gets a packet of {} bytes", packet.len()));
                self.received.push((elapsed, to, packet));
            }
            Ok(_) => {}
            Err(reason) => {
                self.tell(to, &format!("drops a datagram: {reason:?}"));
                self.rejected.push((elapsed, to, reason));
            }
        }
        self.poll(to);
    }

    /// The next moment at which something happens by itself.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let timers = self.nodes.iter().filter_map(Node::poll_timeout);
        timers.chain(self.flying.iter().map(|(due, _)| *due)).min()
    }

    /// Moves the clock to the next deadline and does what is due there. A deadline that was handled
    /// must be over: the next one is later, or the event loop of an embedder would spin.
    pub(crate) fn advance_to_next_deadline(&mut self) -> Option<Instant> {
        let due = self.next_deadline()?;
        assert!(due >= self.now, "a deadline in the past");
        self.wake_early(due);
        self.now = due;
        let now = self.now;
        self.nodes
            .iter_mut()
            .for_each(|node| node.handle_timeout(now));
        self.settle();
        let next = self.nodes.iter().filter_map(Node::poll_timeout).min();
        assert!(
            next.is_none_or(|next| next > now),
            "a deadline that handling does not end"
        );
        Some(due)
    }

    /// Waking up a nanosecond before a deadline is harmless: nothing happens.
    fn wake_early(&mut self, due: Instant) {
        let early = START + (due - START).saturating_sub(NANO);
        if early > self.now {
            self.now = early;
            let before = (self.log.len(), self.events.len());
            self.nodes
                .iter_mut()
                .for_each(|node| node.handle_timeout(early));
            self.settle();
            assert_eq!(
                (self.log.len(), self.events.len()),
                before,
                "something happened too early"
            );
        }
    }

    /// Lets time pass until `end` after the start, stopping at each deadline.
    pub(crate) fn run_until(&mut self, end: Duration) {
        self.settle();
        while self.next_deadline().is_some_and(|due| due <= START + end) {
            self.advance_to_next_deadline();
        }
        self.now = self.now.max(START + end);
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        self.run_until(self.elapsed() + time);
    }

    /// When `side` put messages of this kind on the wire.
    pub(crate) fn sent(&self, side: Side, msg: Msg) -> Vec<Duration> {
        let of_kind = |entry: &&Datagram| entry.from == side && entry.msg() == msg;
        self.log
            .iter()
            .filter(of_kind)
            .map(|entry| entry.at)
            .collect()
    }

    /// When `side` saw this event.
    pub(crate) fn saw(&self, side: Side, event: Event) -> Vec<Duration> {
        let is_it = |entry: &&(Duration, Side, Event)| entry.1 == side && entry.2 == event;
        self.events
            .iter()
            .filter(is_it)
            .map(|entry| entry.0)
            .collect()
    }
}
