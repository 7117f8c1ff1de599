//! A WireGuard peer that is not this crate, and a node of this crate that it talks to.
//!
//! The crate `snow` speaks the Noise part of the [`Puppet`]; framing, macs, cookies and timestamps are
//! written here from the white paper (sections 5.4.1 to 5.4.7), with `blake2` and `chacha20poly1305`
//! called directly. A puppet does what it is told, so it can also misbehave with perfect keys.
#![allow(dead_code, reason = "a toolbox: not every test module uses every tool")]

use std::net::SocketAddr;
use std::time::Duration;

use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac};
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::AeadInOut;
use quietwire::{
    Control, Env, Event, Instant, PeerConfig, PresharedKey, Received, Rejected, SealError, Timings,
};
use snow::{Builder, HandshakeState, StatelessTransportState};

use crate::support::{Node, NodeKind, SeededRng, Side, millis, secs};

/// The content of a keepalive.
pub(crate) const NOTHING: Vec<u8> = Vec::new();

/// Calls the same method on either kind of node.
macro_rules! on_node {
    ($node:expr, $x:ident => $call:expr) => {
        match $node {
            $crate::support::Node::Tunnel($x) => $call,
            $crate::support::Node::Interface($x, _) => $call,
        }
    };
}
pub(crate) use on_node;

pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Blake2s256::default();
    for part in parts {
        state.update(part);
    }
    state.finalize_fixed().into()
}

pub(crate) fn mac(key: &[u8], message: &[u8]) -> [u8; 16] {
    let mut state = Blake2sMac::<U16>::new_from_slice(key).unwrap();
    Update::update(&mut state, message);
    state.finalize_fixed().into()
}

/// The TAI64N label of a wall clock, rounded down to a multiple of 2^24 ns.
pub(crate) fn tai64n(unix: Duration) -> [u8; 12] {
    let mut stamp = [0; 12];
    let seconds = 0x4000_0000_0000_000a + unix.as_secs();
    stamp[..8].copy_from_slice(&seconds.to_be_bytes());
    stamp[8..].copy_from_slice(&(unix.subsec_nanos() & 0xff00_0000).to_be_bytes());
    stamp
}

/// Splits a handshake message before its macs.
pub(crate) fn macs(message: &[u8]) -> (&[u8], [u8; 16], [u8; 16]) {
    let (rest, mac2) = message.split_last_chunk::<16>().unwrap();
    let (body, mac1) = rest.split_last_chunk::<16>().unwrap();
    (body, *mac1, *mac2)
}

pub(crate) fn index_at(message: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(message[at..at + 4].try_into().unwrap())
}

/// A peer whose every step is a call.
#[derive(Clone, Debug)]
pub(crate) struct Puppet {
    pub(crate) private: [u8; 32],
    /// The public key of the node that it talks to.
    pub(crate) remote: [u8; 32],
    pub(crate) psk: [u8; 32],
    /// The private key of the next ephemeral pair; `None` draws one.
    pub(crate) ephemeral: Option<[u8; 32]>,
    /// The index that the next handshake message carries.
    pub(crate) index: u32,
    pub(crate) cookie: Option<[u8; 16]>,
}

/// What an initiation said.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) stamp: [u8; 12],
    pub(crate) sender: u32,
    state: HandshakeState,
}

/// An initiation that waits for its response.
#[derive(Debug)]
pub(crate) struct Asked {
    index: u32,
    state: HandshakeState,
}

impl Puppet {
    /// Plays one side against a node that is the other.
    pub(crate) fn of(side: Side) -> Self {
        Self {
            private: *side.private_key().expose(),
            remote: *side.other().public_key().as_bytes(),
            psk: [0; 32],
            ephemeral: None,
            index: 0x7000_0000,
            cookie: None,
        }
    }

    fn builder(&self) -> Builder<'_> {
        let name = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s".parse().unwrap();
        let builder = Builder::new(name)
            .prologue(b"WireGuard v1 zx2c4 Jason@zx2c4.com")
            .unwrap()
            .local_private_key(&self.private)
            .unwrap()
            .psk(2, &self.psk)
            .unwrap();
        match &self.ephemeral {
            Some(key) => builder.fixed_ephemeral_key_for_testing_only(key),
            None => builder,
        }
    }

    /// An initiation with any timestamp, and what is needed to read its response.
    pub(crate) fn initiate(&mut self, stamp: [u8; 12]) -> (Vec<u8>, Asked) {
        let builder = self.builder().remote_public_key(&self.remote).unwrap();
        let mut state = builder.build_initiator().unwrap();
        let mut noise = [0; 108];
        assert_eq!(state.write_message(&stamp, &mut noise).unwrap(), 108);
        let index = self.next_index();
        let body = [&[1, 0, 0, 0], &index.to_le_bytes()[..], &noise].concat();
        (self.signed(body), Asked { index, state })
    }

    pub(crate) fn read_response(&self, asked: Asked, message: &[u8]) -> Session {
        assert_eq!(message.len(), 92);
        assert_eq!(message[..4], [2, 0, 0, 0]);
        assert_eq!(index_at(message, 8), asked.index, "receiver");
        self.check_mac1(message);
        let mut state = asked.state;
        assert_eq!(
            state.read_message(&message[12..60], &mut [0; 48]).unwrap(),
            0
        );
        Session {
            noise: state.into_stateless_transport_mode().unwrap(),
            local: asked.index,
            remote: index_at(message, 4),
            counter: 0,
        }
    }

    /// As [`read_response`](Self::read_response), of a message that may be to somebody else.
    pub(crate) fn try_read(asked: Asked, message: &[u8]) -> Option<Session> {
        let mut state = asked.state;
        if index_at(message, 8) != asked.index {
            return None;
        }
        state.read_message(&message[12..60], &mut [0; 48]).ok()?;
        Some(Session {
            noise: state.into_stateless_transport_mode().ok()?,
            local: asked.index,
            remote: index_at(message, 4),
            counter: 0,
        })
    }

    /// As [`hear`](Self::hear), of a message that may be to somebody else.
    pub(crate) fn try_hear(&self, message: &[u8]) -> Option<Heard> {
        let mut state = self.builder().build_responder().unwrap();
        state.read_message(&message[8..116], &mut [0; 64]).ok()?;
        Some(Heard {
            stamp: [0; 12],
            sender: index_at(message, 4),
            state,
        })
    }

    /// Reads an initiation; the caller sees its timestamp.
    pub(crate) fn hear(&self, message: &[u8]) -> Heard {
        assert_eq!(message.len(), 148);
        assert_eq!(message[..4], [1, 0, 0, 0]);
        self.check_mac1(message);
        let mut state = self.builder().build_responder().unwrap();
        let mut stamp = [0; 64];
        let read = state.read_message(&message[8..116], &mut stamp).unwrap();
        assert_eq!(read, 12);
        assert_eq!(state.get_remote_static(), Some(&self.remote[..]));
        Heard {
            stamp: *stamp.first_chunk().unwrap(),
            sender: index_at(message, 4),
            state,
        }
    }

    pub(crate) fn respond(&mut self, heard: Heard) -> (Vec<u8>, Session) {
        let mut state = heard.state;
        let mut noise = [0; 48];
        assert_eq!(state.write_message(&[], &mut noise).unwrap(), 48);
        let index = self.next_index();
        let start = [&[2, 0, 0, 0], &index.to_le_bytes()[..]].concat();
        let body = [&start, &heard.sender.to_le_bytes()[..], &noise].concat();
        let session = Session {
            noise: state.into_stateless_transport_mode().unwrap(),
            local: index,
            remote: heard.sender,
            counter: 0,
        };
        (self.signed(body), session)
    }

    /// Opens a cookie reply to the message with this mac1, and keeps the cookie.
    pub(crate) fn read_cookie(&mut self, reply: &[u8], index: u32, mac1: [u8; 16]) {
        assert_eq!(reply.len(), 64);
        assert_eq!(reply[..4], [3, 0, 0, 0]);
        assert_eq!(index_at(reply, 4), index);
        let key = hash(&[b"cookie--", &self.remote]);
        let (mut cookie, tag) = (reply[32..48].to_vec(), &reply[48..]);
        XChaCha20Poly1305::new(&key.into())
            .decrypt_inout_detached(
                reply[8..32].try_into().unwrap(),
                &mac1,
                cookie.as_mut_slice().into(),
                tag.try_into().unwrap(),
            )
            .unwrap();
        self.cookie = cookie.try_into().ok();
    }

    /// A cookie reply of the puppet's own to a message with this mac1.
    pub(crate) fn cookie_reply(&self, index: u32, mac1: [u8; 16], cookie: [u8; 16]) -> Vec<u8> {
        let own = quietwire::PrivateKey::from_bytes(self.private).public_key();
        let key = hash(&[b"cookie--", own.as_bytes()]);
        let (nonce, mut sealed) = ([0x99; 24], cookie);
        let tag = XChaCha20Poly1305::new(&key.into())
            .encrypt_inout_detached(&nonce.into(), &mac1, sealed.as_mut_slice().into())
            .unwrap();
        let head = [&[3, 0, 0, 0], &index.to_le_bytes()[..]].concat();
        [&head, &nonce[..], &sealed, &tag].concat()
    }

    /// Appends both macs.
    pub(crate) fn signed(&self, mut body: Vec<u8>) -> Vec<u8> {
        body.extend([0; 32]);
        self.sign(&mut body);
        body
    }

    /// Makes the macs of a message right, whatever it says.
    pub(crate) fn sign(&self, message: &mut [u8]) {
        let (at1, at2) = (message.len() - 32, message.len() - 16);
        let mac1 = mac(&hash(&[b"mac1----", &self.remote]), &message[..at1]);
        message[at1..at2].copy_from_slice(&mac1);
        let mac2 = self
            .cookie
            .map_or([0; 16], |cookie| mac(&cookie, &message[..at2]));
        message[at2..].copy_from_slice(&mac2);
    }

    fn check_mac1(&self, message: &[u8]) {
        let own = quietwire::PrivateKey::from_bytes(self.private).public_key();
        let (body, mac1, _) = macs(message);
        assert_eq!(mac1, mac(&hash(&[b"mac1----", own.as_bytes()]), body));
    }

    fn next_index(&mut self) -> u32 {
        self.index += 1;
        self.index
    }
}

/// The puppet's end of a session.
#[derive(Debug)]
pub(crate) struct Session {
    noise: StatelessTransportState,
    pub(crate) local: u32,
    pub(crate) remote: u32,
    /// The next counter of [`seal`](Self::seal).
    pub(crate) counter: u64,
}

impl Session {
    /// Seals anything under the next counter.
    pub(crate) fn seal(&mut self, plaintext: &[u8]) -> Vec<u8> {
        self.counter += 1;
        self.seal_at(self.counter - 1, plaintext)
    }

    /// Seals anything under any counter, padded or not.
    pub(crate) fn seal_at(&self, counter: u64, plaintext: &[u8]) -> Vec<u8> {
        let head = [&[4, 0, 0, 0], &self.remote.to_le_bytes()[..]].concat();
        let mut datagram = [&head, &counter.to_le_bytes()[..]].concat();
        datagram.resize(16 + plaintext.len() + 16, 0);
        let written = self
            .noise
            .write_message(counter, plaintext, &mut datagram[16..]);
        assert_eq!(written.unwrap(), plaintext.len() + 16);
        datagram
    }

    /// The counter and the padded plaintext of a datagram of the node.
    pub(crate) fn open(&self, datagram: &[u8]) -> (u64, Vec<u8>) {
        assert_eq!(datagram[..4], [4, 0, 0, 0]);
        assert_eq!(index_at(datagram, 4), self.local, "receiver");
        let counter = u64::from_le_bytes(datagram[8..16].try_into().unwrap());
        let mut plaintext = vec![0; datagram.len()];
        let read = self
            .noise
            .read_message(counter, &datagram[16..], &mut plaintext)
            .unwrap();
        plaintext.truncate(read);
        (counter, plaintext)
    }
}

/// What a datagram brought, with the packet copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Packet(Vec<u8>),
    Keepalive,
    Control(Control),
}

/// A node of this crate (Bob) and a puppet (Alice) that is its only peer.
pub(crate) struct Rig {
    pub(crate) node: Node,
    pub(crate) puppet: Puppet,
    pub(crate) now: Instant,
    pub(crate) unix: Duration,
    pub(crate) rng: SeededRng,
    pub(crate) events: Vec<Event>,
    stamp: Duration,
}

pub(crate) const ALICE: Side = Side::Alice;
pub(crate) const BOB: Side = Side::Bob;

/// Runs a test against a `Tunnel` and against an `Interface`.
pub(crate) fn for_both(test: impl Fn(NodeKind)) {
    for kind in [NodeKind::Tunnel, NodeKind::Interface] {
        println!("-- {kind:?}");
        test(kind);
    }
}

impl Rig {
    pub(crate) fn new(kind: NodeKind) -> Self {
        Self::with_psk(kind, [0; 32])
    }

    pub(crate) fn with_psk(kind: NodeKind, psk: [u8; 32]) -> Self {
        let allowed_ips = [ALICE.cidr(), "fd00::/8".parse().unwrap()];
        let peer = PeerConfig::new(ALICE.public_key())
            .endpoint(ALICE.addr())
            .preshared_key(PresharedKey::from_bytes(psk))
            .allowed_ips(&allowed_ips);
        let node = Node::new(kind, &BOB.private_key(), &peer, Timings::default());
        let mut puppet = Puppet::of(ALICE);
        puppet.psk = psk;
        Self {
            node,
            puppet,
            now: Instant::from_millis(1_000_000),
            unix: secs(1_700_000_000),
            rng: SeededRng::new(7),
            events: Vec::new(),
            stamp: secs(1_700_000_000),
        }
    }

    /// Lets time pass, timeouts handled at their times; what the node sends meanwhile.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<Vec<u8>> {
        let end = self.now + time;
        let mut sent = self.sent();
        while let Some(due) = self.node.poll_timeout().filter(|due| *due <= end) {
            self.unix += due - self.now;
            self.now = self.now.max(due);
            self.node.handle_timeout(self.now);
            sent.extend(self.sent());
        }
        self.unix += end - self.now;
        self.now = end;
        sent
    }

    /// Moves the clock and does nothing else.
    pub(crate) fn skip(&mut self, time: Duration) {
        self.now = self.now + time;
        self.unix += time;
    }

    /// What the node sends now, with where to.
    pub(crate) fn transmits(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        while let Some(event) = self.node.poll_event() {
            self.events.push(event);
        }
        let mut sent = Vec::new();
        let mut env = Env::new(&mut self.rng, self.unix);
        while let Some(t) = self.node.poll_transmit(self.now, &mut env) {
            sent.push((t.to, t.message.as_bytes().to_vec()));
        }
        sent
    }

    pub(crate) fn sent(&mut self) -> Vec<Vec<u8>> {
        self.transmits()
            .into_iter()
            .map(|(_, bytes)| bytes)
            .collect()
    }

    /// The one datagram that the node sends now.
    #[track_caller]
    pub(crate) fn only(&mut self) -> Vec<u8> {
        let sent = self.sent();
        assert_eq!(sent.len(), 1, "one message");
        sent.into_iter().next().unwrap()
    }

    pub(crate) fn give(&mut self, datagram: &[u8]) -> Result<Got, Rejected> {
        self.give_from(ALICE.addr(), datagram)
    }

    pub(crate) fn give_from(
        &mut self,
        source: SocketAddr,
        datagram: &[u8],
    ) -> Result<Got, Rejected> {
        let mut datagram = datagram.to_vec();
        let received = self.node.receive(self.now, source, &mut datagram)?;
        Ok(match received {
            Received::Packet(packet) => Got::Packet(packet.to_vec()),
            Received::Keepalive => Got::Keepalive,
            Received::Control(control) => Got::Control(control),
            other => panic!("{other:?}"),
        })
    }

    pub(crate) fn seal(&mut self, packet: &[u8]) -> Result<Vec<u8>, SealError> {
        self.node.seal(self.now, packet).map(|(_, bytes)| bytes)
    }

    /// A timestamp greater than all before.
    pub(crate) fn next_stamp(&mut self) -> [u8; 12] {
        self.stamp += millis(20);
        tai64n(self.stamp)
    }

    /// A valid initiation that was never seen before.
    pub(crate) fn initiation(&mut self) -> (Vec<u8>, Asked) {
        let stamp = self.next_stamp();
        self.puppet.initiate(stamp)
    }

    /// The node answers an initiation; the session is not confirmed yet.
    pub(crate) fn responds(&mut self) -> Session {
        self.skip(millis(25));
        let (initiation, asked) = self.initiation();
        assert_eq!(
            self.give(&initiation),
            Ok(Got::Control(Control::Initiation))
        );
        let response = self.only();
        self.puppet.read_response(asked, &response)
    }

    /// A confirmed session in which the node is the responder.
    pub(crate) fn as_responder(&mut self) -> Session {
        let mut session = self.responds();
        let keepalive = session.seal(&[]);
        assert_eq!(self.give(&keepalive), Ok(Got::Keepalive));
        assert!(self.node.is_established(self.now));
        assert!(self.sent().is_empty());
        session
    }

    /// The initiation that the node sends when it is asked to.
    pub(crate) fn asks(&mut self) -> Vec<u8> {
        self.node.initiate(self.now);
        let initiation = self.only();
        assert_eq!(initiation[0], 1);
        initiation
    }

    /// A session in which the node is the initiator, its confirmation consumed.
    pub(crate) fn as_initiator(&mut self) -> Session {
        let initiation = self.asks();
        let heard = self.puppet.hear(&initiation);
        let (response, session) = self.puppet.respond(heard);
        assert_eq!(self.give(&response), Ok(Got::Control(Control::Response)));
        let keepalive = self.only();
        assert_eq!(session.open(&keepalive), (0, NOTHING));
        session
    }

    /// All that the node shows of itself, drops and the measure of load left out.
    pub(crate) fn state(&self) -> String {
        let text = on_node!(&self.node, node => format!("{node:?}"));
        let text = cut(&text, "drops: Drops {", "}");
        let text = cut(&text, "meter: LoadMeter {", "}");
        let text = cut(&text, " now: Instant(", ")");
        cut(&text, "rx_dropped: ", ",")
    }

    /// A datagram that must be refused and leave no trace but in the counts of drops.
    #[track_caller]
    pub(crate) fn refuses(&mut self, source: SocketAddr, datagram: &[u8]) -> Rejected {
        let (before, drops) = (self.state(), self.node.drops().total());
        let Err(reason) = self.give_from(source, datagram) else {
            panic!("accepted: {datagram:02x?}");
        };
        assert_eq!(self.state(), before, "{reason:?}");
        assert_eq!(self.node.drops().total(), drops + 1);
        assert!(self.transmits().is_empty(), "{reason:?} is not answered");
        reason
    }
}

/// Removes every piece of text that starts and ends like this.
fn cut(text: &str, start: &str, end: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(start) {
        kept.push_str(before);
        rest = after.split_once(end).unwrap().1;
    }
    kept + rest
}

/// An IPv4 packet with these addresses.
pub(crate) fn ipv4(source: [u8; 4], destination: [u8; 4], len: usize) -> Vec<u8> {
    let mut packet = vec![0x5a; len];
    packet[..12].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0]);
    packet[2..4].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
    packet[12..16].copy_from_slice(&source);
    packet[16..20].copy_from_slice(&destination);
    packet
}

/// A packet from the puppet to the node.
pub(crate) fn to_node(len: usize) -> Vec<u8> {
    crate::support::packet(ALICE, len)
}

/// A packet from the node to the puppet.
pub(crate) fn to_puppet(len: usize) -> Vec<u8> {
    crate::support::packet(BOB, len)
}
