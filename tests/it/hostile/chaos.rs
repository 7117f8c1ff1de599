//! Any method at any time.
//!
//! A [`Chaos`] holds a node, a puppet and everything that a caller can hold on to; [`Call`]s are drawn
//! from small sets, so that they meet each other.

use super::jobs::{finish, owed};
use super::*;

/// One call, with arguments from small sets so that calls meet each other.
#[derive(Clone, Debug)]
enum Call {
    Advance(u64),
    Backwards(u64),
    Seal(usize, u8),
    SealInPlace(usize, usize, usize),
    SealTo(usize),
    RunSeals,
    DropSeal,
    Peer(PeerAct),
    Garbage(u8, usize, u8),
    BeginOpen,
    FinishOpen(usize),
    BeginHandshake(u8),
    PollHandshake,
    FinishHandshake(usize),
    DropJobs,
    Timeout,
    Initiate,
    Erase,
    EraseAll,
    Resume,
    Key(u8),
    Psk(u8),
    Endpoint(u8),
    Keepalive(u16),
    Mtu(u16),
    Load(u8),
    Forget,
    AddPeer(u8),
    RemovePeer(usize),
    AllowedIp(u8, u8),
    Look,
}

/// What the puppet does.
#[derive(Clone, Copy, Debug)]
enum PeerAct {
    Initiate,
    OldInitiation,
    Respond,
    Data(u8),
    Replay,
    Keepalive,
    BadPacket(u8),
    Cookie,
    FlipBit(u16),
}

fn peer_act() -> impl Strategy<Value = PeerAct> {
    prop_oneof![
        6 => Just(PeerAct::Initiate),
        1 => Just(PeerAct::OldInitiation),
        6 => Just(PeerAct::Respond),
        6 => any::<u8>().prop_map(PeerAct::Data),
        2 => Just(PeerAct::Replay),
        4 => Just(PeerAct::Keepalive),
        1 => any::<u8>().prop_map(PeerAct::BadPacket),
        1 => Just(PeerAct::Cookie),
        2 => any::<u16>().prop_map(PeerAct::FlipBit)
    ]
}

fn call() -> impl Strategy<Value = Call> {
    let pauses = prop_oneof![
        Just(0),
        Just(1_000_000),
        Just(25_000_000),
        1_u64..6_000_000_000,
        Just(120_000_000_000),
        Just(180_000_000_000),
        Just(600_000_000_000),
        Just(u64::MAX / 3)
    ];
    let data = prop_oneof![
        6 => (0_usize..1600, 0_u8..8).prop_map(|(len, to)| Call::Seal(len, to)),
        2 => (0_usize..40, 0_usize..200, 0_usize..60).prop_map(|(a, b, c)| Call::SealInPlace(a, b, c)),
        2 => (0_usize..4).prop_map(Call::SealTo),
        2 => Just(Call::RunSeals),
        1 => Just(Call::DropSeal),
        30 => peer_act().prop_map(Call::Peer),
        2 => (0_u8..7, 0_usize..200, any::<u8>()).prop_map(|(t, n, b)| Call::Garbage(t, n, b)),
        4 => Just(Call::BeginOpen),
        4 => (0_usize..4).prop_map(Call::FinishOpen),
        4 => (0_u8..4).prop_map(Call::BeginHandshake),
        4 => Just(Call::PollHandshake),
        6 => (0_usize..4).prop_map(Call::FinishHandshake),
        1 => Just(Call::DropJobs)
    ];
    let config = prop_oneof![
        4 => Just(Call::Initiate),
        1 => Just(Call::Erase),
        1 => Just(Call::EraseAll),
        1 => Just(Call::Resume),
        1 => (0_u8..4).prop_map(Call::Key),
        1 => (0_u8..3).prop_map(Call::Psk),
        1 => (0_u8..3).prop_map(Call::Endpoint),
        1 => prop_oneof![Just(0), Just(1), Just(25), any::<u16>()].prop_map(Call::Keepalive),
        1 => prop_oneof![Just(0), Just(1), Just(1420), any::<u16>()].prop_map(Call::Mtu),
        1 => (0_u8..3).prop_map(Call::Load),
        1 => Just(Call::Forget),
        1 => (0_u8..6).prop_map(Call::AddPeer),
        1 => (0_usize..4).prop_map(Call::RemovePeer),
        1 => (0_u8..4, 0_u8..34).prop_map(|(n, len)| Call::AllowedIp(n, len)),
        1 => Just(Call::Look)
    ];
    prop_oneof![
        8 => pauses.prop_map(Call::Advance),
        1 => (0_u64..1_000_000_000_000).prop_map(Call::Backwards),
        30 => data,
        8 => config,
        6 => Just(Call::Timeout)
    ]
}

/// A node, and everything that a caller can hold.
struct Chaos {
    rig: Rig,
    peers: Vec<PeerId>,
    /// What the puppet holds.
    sessions: Vec<Session>,
    asked: Vec<crate::puppet::Asked>,
    seen: Vec<Vec<u8>>,
    last: Vec<u8>,
    seals: Vec<SealJob<'static, Vec<u8>>>,
    opens: Vec<OpenJob<Vec<u8>>>,
    jobs: Vec<HandshakeJob>,
}

impl Chaos {
    fn new(kind: NodeKind) -> Self {
        let rig = Rig::new(kind);
        let peers = match &rig.node {
            Node::Interface(_, id) => vec![*id],
            Node::Tunnel(_) => vec![],
        };
        Self {
            rig,
            peers,
            sessions: Vec::new(),
            asked: Vec::new(),
            seen: Vec::new(),
            last: Vec::new(),
            seals: Vec::new(),
            opens: Vec::new(),
            jobs: Vec::new(),
        }
    }

    /// Polls everything dry. Each loop must end.
    fn drain(&mut self) {
        let now = self.rig.now;
        for n in 0.. {
            assert!(n < 100, "events without end");
            if on_node!(&mut self.rig.node, node => node.poll_event().is_none()) {
                break;
            }
        }
        for n in 0.. {
            assert!(n < 400, "messages without end");
            let mut env = Env::new(&mut self.rig.rng, self.rig.unix);
            let Some(t) = self.rig.node.poll_transmit(now, &mut env) else {
                break;
            };
            assert!(t.message.as_bytes().len() <= 148);
            self.seen.push(t.message.as_bytes().to_vec());
        }
        let excess = self.seen.len().saturating_sub(20);
        self.seen.drain(..excess);
    }

    fn give(&mut self, datagram: Vec<u8>) {
        let mut copy = datagram.clone();
        let len = copy.len();
        let (now, from) = (self.rig.now, ALICE.addr());
        on_node!(&mut self.rig.node, node => {
            if let Ok(received) = node.receive(now, from, &mut copy) {
                let received = Into::<Brought>::into(received);
                assert!(received.0 <= len);
            }
        });
        self.last = datagram;
    }

    fn act(&mut self, act: PeerAct) {
        let datagram = match act {
            PeerAct::Initiate => {
                let (initiation, asked) = self.rig.initiation();
                self.asked.push(asked);
                let excess = self.asked.len().saturating_sub(2);
                self.asked.drain(..excess);
                initiation
            }
            PeerAct::OldInitiation => self.rig.puppet.initiate([1; 12]).0,
            PeerAct::Respond => {
                let mut answer = None;
                for message in std::mem::take(&mut self.seen) {
                    match message[0] {
                        2 => {
                            if let Some(asked) = self.asked.pop()
                                && let Some(session) =
                                    crate::puppet::Puppet::try_read(asked, &message)
                            {
                                self.sessions.push(session);
                            }
                        }
                        1 => {
                            if let Some(heard) = self.rig.puppet.try_hear(&message) {
                                let (response, session) = self.rig.puppet.respond(heard);
                                self.sessions.push(session);
                                answer = Some(response);
                            }
                        }
                        _ => {}
                    }
                }
                let excess = self.sessions.len().saturating_sub(3);
                self.sessions.drain(..excess);
                match answer {
                    Some(answer) => answer,
                    None => return,
                }
            }
            PeerAct::Data(n) => self.sealed(&to_node(20 + usize::from(n))),
            PeerAct::Keepalive => self.sealed(&[]),
            PeerAct::BadPacket(n) => self.sealed(&vec![n; usize::from(n)]),
            PeerAct::Replay => self.last.clone(),
            PeerAct::Cookie => {
                let Some(message) = self.seen.iter().rfind(|m| m.len() == 148) else {
                    return;
                };
                let mac1 = crate::puppet::macs(message).1;
                self.rig
                    .puppet
                    .cookie_reply(index_at(message, 4), mac1, [8; 16])
            }
            PeerAct::FlipBit(bit) => {
                let mut datagram = self.last.clone();
                if !datagram.is_empty() {
                    let at = usize::from(bit) % (8 * datagram.len());
                    datagram[at / 8] ^= 1 << (at % 8);
                }
                datagram
            }
        };
        self.give(datagram);
    }

    fn sealed(&mut self, plaintext: &[u8]) -> Vec<u8> {
        match self.sessions.last_mut() {
            Some(session) => session.seal(plaintext),
            None => vec![4; 48],
        }
    }

    fn apply(&mut self, call: Call) {
        let now = self.rig.now;
        match call {
            Call::Advance(nanos) => self.rig.skip(core::time::Duration::from_nanos(nanos)),
            Call::Backwards(nanos) => {
                let past = now.as_nanos().saturating_sub(nanos);
                let past = Instant::from_nanos(past);
                self.rig.node.handle_timeout(past);
                let _ = self.rig.node.seal(past, &to_puppet(30));
            }
            Call::Peer(act) => self.act(act),
            Call::Garbage(kind, len, byte) => {
                let mut datagram = vec![byte; len];
                if let Some(head) = datagram.first_chunk_mut::<4>() {
                    *head = [kind, 0, 0, 0];
                }
                self.give(datagram);
            }
            Call::Timeout => {
                self.rig.node.handle_timeout(now);
                let next = self.rig.node.poll_timeout();
                assert!(next.is_none_or(|next| next > now), "{next:?} at {now:?}");
            }
            other => self.seal(other),
        }
    }

    fn seal(&mut self, call: Call) {
        let now = self.rig.now;
        match call {
            Call::Seal(len, to) => {
                let packet = if len < 20 {
                    vec![0x45; len]
                } else {
                    ipv4([10, 0, 0, 2], [10, 0, 0, to], len)
                };
                let _ = self.rig.node.seal(now, &packet);
                let outgoing =
                    Outgoing::in_place([&[0; 16], &packet[..], &[0; 31]].concat(), 16..16 + len);
                if let Ok(job) =
                    on_node!(&mut self.rig.node, node => node.begin_seal(now, outgoing))
                {
                    self.seals.push(job);
                }
            }
            Call::SealInPlace(head, len, tail) => {
                let mut buffer =
                    [&vec![1; head][..], &to_puppet(len.max(20)), &vec![2; tail]].concat();
                let range = head..head + len;
                on_node!(&mut self.rig.node, node => {
                    let _ = node.seal(now, &mut buffer, range);
                });
            }
            Call::SealTo(n) => {
                if let (Node::Interface(interface, _), Some(id)) =
                    (&mut self.rig.node, self.peers.get(n))
                {
                    let outgoing = Outgoing::in_place(
                        [&[0; 16], &to_puppet(64)[..], &[0; 31]].concat(),
                        16..80,
                    );
                    if let Ok(job) = interface.begin_seal_to(now, *id, outgoing) {
                        self.seals.push(job);
                    }
                }
            }
            Call::RunSeals => {
                SealJob::run_all(&mut self.seals);
                for mut job in self.seals.drain(..) {
                    assert!(job.datagram().len() >= 32);
                }
            }
            Call::DropSeal => drop(self.seals.pop()),
            other => self.work(other),
        }
    }

    fn work(&mut self, call: Call) {
        let (now, from) = (self.rig.now, ALICE.addr());
        match call {
            Call::BeginOpen => {
                let datagram = self.sealed(&to_node(64));
                if let Ok(job) =
                    on_node!(&mut self.rig.node, node => node.begin_open(now, from, datagram))
                {
                    self.opens.push(job);
                }
            }
            Call::FinishOpen(n) => {
                if n < self.opens.len() {
                    let job = self.opens.swap_remove(n);
                    let _ = on_node!(&mut self.rig.node, node => node.finish_open(now, job));
                }
            }
            Call::BeginHandshake(n) => {
                let message = match n {
                    0 => self.rig.initiation().0,
                    1 => self.last.clone(),
                    _ => self.seen.last().cloned().unwrap_or_default(),
                };
                if let Ok(HandshakeStep::Run(job)) =
                    on_node!(&mut self.rig.node, node => node.begin_handshake(now, from, &message))
                {
                    self.jobs.push(job);
                }
            }
            Call::PollHandshake => {
                let job = owed(&mut self.rig);
                self.jobs.extend(job);
            }
            Call::FinishHandshake(n) => {
                if n < self.jobs.len() {
                    let job = self.jobs.swap_remove(n);
                    match finish(&mut self.rig, job) {
                        Ok(HandshakeStep::Run(job)) => self.jobs.push(job),
                        Ok(HandshakeStep::Transmit(t)) => {
                            self.seen.push(t.message.as_bytes().to_vec());
                        }
                        _ => {}
                    }
                }
            }
            Call::DropJobs => {
                self.jobs.clear();
                self.opens.clear();
                self.seals.clear();
            }
            other => self.configure(other),
        }
    }

    fn configure(&mut self, call: Call) {
        let now = self.rig.now;
        let first_is_there = match &self.rig.node {
            Node::Interface(interface, id) => interface.peer(*id).is_some(),
            Node::Tunnel(_) => true,
        };
        let rig = &mut self.rig;
        match call {
            Call::Initiate if first_is_there => rig.node.initiate(now),
            Call::Erase if first_is_there => rig.node.erase(now),
            Call::Psk(n) if first_is_there => rig
                .node
                .set_preshared_key(&PresharedKey::from_bytes([n; 32])),
            Call::Endpoint(n) if first_is_there => {
                rig.node.set_endpoint(SocketAddr::from(([192, 0, 2, n], 1)));
            }
            Call::Keepalive(secs) if first_is_there => rig.node.set_persistent_keepalive(now, secs),
            Call::Mtu(mtu) if first_is_there => rig.node.set_mtu(mtu),
            Call::Forget if first_is_there => rig.node.forget_timestamp(),
            Call::Resume => rig.node.on_resume(now),
            Call::Load(n) => rig
                .node
                .set_load([Load::Auto, Load::Normal, Load::UnderLoad][usize::from(n)]),
            Call::Key(n) => self.set_key(n),
            Call::Look => {
                let shown = on_node!(&rig.node, node => format!("{node:?} {:?}", node.drops()));
                assert!(!shown.contains("[85, 85, 85, 85"), "a key in Debug");
                let _ = on_node!(&rig.node, node => node.drops().total());
            }
            other => self.configure_interface(&other),
        }
    }

    fn set_key(&mut self, n: u8) {
        let key = match n {
            0 | 1 => BOB.private_key(),
            n => PrivateKey::from_bytes([0x50 + n; 32]),
        };
        self.rig.puppet.remote = *key.public_key().as_bytes();
        match &mut self.rig.node {
            Node::Tunnel(tunnel) => tunnel.set_private_key(&key).unwrap(),
            Node::Interface(interface, _) => {
                if n == 3 {
                    interface.set_private_key(None).unwrap();
                } else {
                    let _ = interface.set_private_key(Some(&key));
                }
            }
        }
    }

    fn configure_interface(&mut self, call: &Call) {
        let now = self.rig.now;
        let Node::Interface(interface, first) = &mut self.rig.node else {
            return;
        };
        match *call {
            Call::EraseAll => interface.erase_all(now),
            Call::AddPeer(n) => {
                let key = match n {
                    0 => ALICE.public_key(),
                    1 => PublicKey::from_bytes([0; 32]),
                    n => PrivateKey::from_bytes([n; 32]).public_key(),
                };
                let peer = PeerConfig::new(key)
                    .endpoint(ALICE.addr())
                    .persistent_keepalive(u16::from(n));
                if let Ok(id) = interface.add_peer(now, &peer) {
                    self.peers.push(id);
                    if n == 0 {
                        *first = id;
                    }
                }
            }
            Call::RemovePeer(n) => {
                if let Some(id) = self.peers.get(n) {
                    interface.remove_peer(*id);
                }
            }
            Call::AllowedIp(n, len) => {
                if let (Some(id), Ok(cidr)) = (
                    self.peers.get(usize::from(n)),
                    quietwire::Cidr::new([10, 0, 0, n].into(), len),
                ) && let Some(mut peer) = interface.peer_mut(*id)
                {
                    if len % 3 == 0 {
                        peer.remove_allowed_ip(cidr);
                    } else {
                        peer.add_allowed_ip(cidr);
                    }
                }
            }
            _ => {}
        }
        assert_eq!(interface.peers().count(), interface.peer_count());
    }
}

/// How much a datagram brought, from either kind of node.
struct Brought(usize);

impl From<Received<'_>> for Brought {
    fn from(received: Received<'_>) -> Self {
        match received {
            Received::Packet(packet) => Self(packet.len()),
            _ => Self(0),
        }
    }
}

impl From<(PeerId, Received<'_>)> for Brought {
    fn from((_, received): (PeerId, Received<'_>)) -> Self {
        received.into()
    }
}

fn run(kind: NodeKind, calls: Vec<Call>, drain: bool) {
    let mut chaos = Chaos::new(kind);
    for call in calls {
        chaos.apply(call);
        if drain {
            chaos.drain();
        }
    }
    chaos.drain();
    // Whatever happened: with good configuration and no load, the next handshake works.
    chaos.recovers();
}

impl Chaos {
    fn recovers(&mut self) {
        if self.rig.now.as_nanos() > u64::MAX / 2 {
            return;
        }
        self.rig.skip(secs(600));
        self.rig.node.handle_timeout(self.rig.now);
        self.rig.node.set_load(Load::Normal);
        let key = BOB.private_key();
        self.rig.node.set_private_key(&key).unwrap();
        self.rig.puppet = crate::puppet::Puppet::of(ALICE);
        if let Node::Interface(interface, id) = &mut self.rig.node {
            *id = interface.find(&ALICE.public_key()).unwrap_or_else(|| {
                let peer = PeerConfig::new(ALICE.public_key());
                interface.add_peer(self.rig.now, &peer).unwrap()
            });
            let mut peer = interface.peer_mut(*id).unwrap();
            peer.replace_allowed_ips([ALICE.cidr()]);
        }
        self.rig.node.set_preshared_key(&PresharedKey::NONE);
        self.rig.node.forget_timestamp();
        self.drain();
        self.rig.skip(secs(6));
        let (initiation, asked) = self.rig.initiation();
        let verdict = self.rig.give(&initiation);
        assert_eq!(verdict, Ok(Got::Control(Control::Initiation)));
        let sent = self.rig.sent();
        let response = sent.iter().find(|m| m[0] == 2).unwrap();
        let mut session = self.rig.puppet.read_response(asked, response);
        let datagram = session.seal(&to_node(64));
        assert_eq!(self.rig.give(&datagram), Ok(Got::Packet(to_node(64))));
        let out = self.rig.seal(&to_puppet(64)).unwrap();
        assert_eq!(session.open(&out).1, to_puppet(64));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// Any calls in any order: no panic, every loop of polling ends, and recovery afterwards.
    #[test]
    fn any_order_of_calls(
        tunnel: bool,
        drain: bool,
        calls in proptest::collection::vec(call(), 1..120)
    ) {
        let kind = if tunnel { NodeKind::Tunnel } else { NodeKind::Interface };
        run(kind, calls, drain);
    }
}
