//! Two ends and what passes between them.
//!
//! No network and no threads: a test hands every datagram over itself, so it can also keep one back,
//! repeat it or alter it.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use quietwire_peers::node::{MakeNode, Node, Outcome};
use quietwire_peers::packet::{ipv4, ipv6};
use quietwire_peers::tunnel::{FIRST_ADDRESS, SECOND_ADDRESS, STEP};
use quietwire_peers::{Config, implementations};

use End::{First, Second};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    First,
    Second,
}

impl End {
    pub fn other(self) -> Self {
        match self {
            First => Second,
            Second => First,
        }
    }

    pub fn address(self) -> SocketAddr {
        match self {
            First => FIRST_ADDRESS,
            Second => SECOND_ADDRESS,
        }
    }
}

/// How two ends are going to be made.
pub struct Pair {
    pub first: Config,
    pub second: Config,
    make: [MakeNode; 2],
}

impl Pair {
    pub fn link(&self) -> Link {
        Link {
            first: self.make[0](&self.first),
            second: self.make[1](&self.second),
        }
    }
}

/// Runs a test over all ordered pairs; fails with the names of those for which it panicked.
pub fn for_each_pair(test: impl Fn(Pair)) {
    let mut failed = Vec::new();
    for one in implementations() {
        for other in implementations() {
            let (first, second) = Config::pair();
            let make = [one.node, other.node];
            let pair = Pair {
                first,
                second,
                make,
            };
            if catch_unwind(AssertUnwindSafe(|| test(pair))).is_err() {
                failed.push(format!("{} -> {}", one.name, other.name));
            }
        }
    }
    assert!(failed.is_empty(), "failed for {failed:?}");
}

/// Two ends and no network.
pub struct Link {
    pub first: Box<dyn Node>,
    pub second: Box<dyn Node>,
}

impl Link {
    pub fn end(&mut self, end: End) -> &mut dyn Node {
        match end {
            First => self.first.as_mut(),
            Second => self.second.as_mut(),
        }
    }

    pub fn advance(&mut self, by: Duration) {
        self.first.advance(by);
        self.second.advance(by);
    }

    /// Lets time pass over a working session.
    pub fn pause(&mut self) {
        self.advance(STEP);
        for end in [First, Second] {
            let due = self.end(end).timers();
            accepted(&due);
            self.deliver_all(end, &due.sent);
        }
    }

    pub fn initiate(&mut self, from: End) -> Vec<u8> {
        only(&self.end(from).initiate(), INITIATION)
    }

    /// Hands over a datagram that `from` sent.
    pub fn deliver(&mut self, from: End, datagram: &[u8]) -> Outcome {
        self.end(from.other()).receive(from.address(), datagram)
    }

    pub fn deliver_all(&mut self, from: End, datagrams: &[Vec<u8>]) {
        for datagram in datagrams {
            accepted(&self.deliver(from, datagram));
        }
    }

    pub fn handshake(&mut self, initiator: End) {
        self.advance(STEP);
        let initiation = self.initiate(initiator);
        self.finish(initiator, &initiation);
    }

    /// Does the rest of a handshake. Either a keepalive or a data packet confirms it.
    pub fn finish(&mut self, initiator: End, initiation: &[u8]) {
        let response = only(&self.deliver(initiator, initiation), RESPONSE);
        let confirmation = self.deliver(initiator.other(), &response);
        accepted(&confirmation);
        for keepalive in &confirmation.sent {
            assert_eq!((kind(keepalive), keepalive.len()), (TRANSPORT, 32));
            let outcome = self.deliver(initiator, keepalive);
            assert_eq!(outcome, Outcome::default(), "a keepalive");
        }
        self.pass(initiator, &ipv4(20, 0));
    }

    pub fn seal(&mut self, from: End, packet: &[u8]) -> Vec<u8> {
        let outcome = self.end(from).seal(packet);
        accepted(&outcome);
        let [datagram] = outcome.sent.as_slice() else {
            panic!("one datagram per packet: {outcome:?}");
        };
        assert_eq!(kind(datagram), TRANSPORT);
        assert!(datagram.len() >= packet.len() + 32);
        datagram.clone()
    }

    /// Sends a packet through.
    pub fn pass(&mut self, from: End, packet: &[u8]) {
        let datagram = self.seal(from, packet);
        self.arrives(from, &datagram, packet);
    }

    /// A datagram that `from` sent becomes a packet, and nothing else.
    #[track_caller]
    pub fn arrives(&mut self, from: End, datagram: &[u8], packet: &[u8]) {
        let outcome = self.deliver(from, datagram);
        accepted(&outcome);
        assert!(outcome.delivered == [packet], "from {from:?}: {outcome:?}");
        assert!(outcome.sent.is_empty(), "from {from:?}: {outcome:?}");
    }

    /// Sends packets of both families in both directions.
    pub fn exchange(&mut self, length: usize) {
        for from in [First, Second] {
            self.pass(from, &ipv4(length, 0x5a));
            self.pass(from, &ipv6(length, 0xa5));
        }
    }

    /// Lets the first end's time pass until it sends an initiation.
    pub fn wait_for_initiation(&mut self, limit: Duration) -> (Duration, Vec<u8>) {
        let tick = Duration::from_millis(50);
        let mut waited = Duration::ZERO;
        while waited < limit {
            let due = self.first.timers();
            accepted(&due);
            if let Some(sent) = due.sent.into_iter().find(|sent| kind(sent) == INITIATION.0) {
                return (waited, sent);
            }
            self.first.advance(tick);
            waited += tick;
        }
        panic!("no initiation within {limit:?}");
    }
}

/// Message type and length of the messages that have one.
pub const INITIATION: (u8, usize) = (1, 148);
pub const RESPONSE: (u8, usize) = (2, 92);
pub const COOKIE_REPLY: (u8, usize) = (3, 64);
pub const TRANSPORT: u8 = 4;

pub fn kind(datagram: &[u8]) -> u8 {
    assert_eq!(datagram[1..4], [0; 3], "reserved bytes");
    datagram[0]
}

/// mac2 of a handshake message.
pub fn mac2(message: &[u8]) -> [u8; 16] {
    *message.last_chunk().expect("a handshake message is longer")
}

/// Returns the datagram that is all of an outcome.
#[track_caller]
pub fn only(outcome: &Outcome, (expected, length): (u8, usize)) -> Vec<u8> {
    accepted(outcome);
    assert!(outcome.delivered.is_empty(), "{outcome:?}");
    let [datagram] = outcome.sent.as_slice() else {
        panic!("one datagram of type {expected}: {outcome:?}");
    };
    assert_eq!((kind(datagram), datagram.len()), (expected, length));
    datagram.clone()
}

#[track_caller]
pub fn accepted(outcome: &Outcome) {
    assert_eq!(outcome.error, None, "{outcome:?}");
}

/// Refused: nothing came of it.
#[track_caller]
pub fn refused(outcome: &Outcome) {
    assert!(outcome.error.is_some(), "{outcome:?}");
    assert!(
        outcome.sent.is_empty() && outcome.delivered.is_empty(),
        "{outcome:?}"
    );
}

/// Whatever sealing did, it did not send data.
#[track_caller]
pub fn assert_no_session(outcome: &Outcome) {
    assert!(
        outcome.sent.iter().all(|sent| kind(sent) != TRANSPORT),
        "{outcome:?}"
    );
}

/// Returns copies of a datagram, each with another bit of the first `length` bytes flipped, then
/// one byte short and one byte long.
pub fn alterations(datagram: &[u8], length: usize) -> Vec<Vec<u8>> {
    let flip = |byte: usize| {
        let mut altered = datagram.to_vec();
        altered[byte] ^= 1 << (byte % 8);
        altered
    };
    let mut all: Vec<_> = (0..length).map(flip).collect();
    all.push(datagram[..datagram.len() - 1].to_vec());
    all.push([datagram, &[0]].concat());
    all
}
