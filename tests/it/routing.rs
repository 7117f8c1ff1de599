//! Who is where: endpoints that follow authentic messages, and addresses that belong to peers.

use std::net::{IpAddr, SocketAddr};

use quietwire::{
    Cidr, ConfigError, Control, Env, Event, Instant, Interface, PeerConfig, PeerId, PrivateKey,
    Received, Rejected, SealError, Tunnel,
};

use crate::puppet::{
    ALICE, BOB, Got, Puppet, Rig, Session, for_both, ipv4, tai64n, to_node, to_puppet,
};
use crate::support::{Node, NodeKind, SeededRng, millis, secs};

fn elsewhere(n: u8) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, n], 1000 + u16::from(n)))
}

/// Datagrams that are not authentic move nothing, with a known or an unknown index (16 bytes from a
/// forged address once redirected a peer for ever).
#[test]
fn forged_datagrams_do_not_move_the_endpoint() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let mut session = rig.as_responder();
        for (n, index) in (0..).zip([session.remote, 0, u32::MAX, session.remote + 1]) {
            let mut forged = session.seal(&to_node(64));
            forged[4..8].copy_from_slice(&index.to_le_bytes());
            forged[40] ^= 1;
            rig.refuses(elsewhere(n), &forged);
            let header = forged[..16].to_vec();
            rig.refuses(elsewhere(n), &header);
            assert_eq!(rig.node.endpoint(), Some(ALICE.addr()));
        }
    });
}

/// The endpoint is the source of the most recent authentic message: handshakes, data, keepalives, also
/// what is refused for its inner address (as the kernel); and an event tells of it.
#[test]
fn authentic_messages_move_the_endpoint() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let (initiation, asked) = rig.initiation();
        rig.give_from(elsewhere(1), &initiation).unwrap();
        assert_eq!(rig.node.endpoint(), Some(elsewhere(1)));
        let (to, response) = rig.transmits().remove(0);
        assert_eq!(to, elsewhere(1), "answered where it came from");
        let mut session = rig.puppet.read_response(asked, &response);
        assert_eq!(rig.events, [Event::Roamed]);

        rig.give_from(elsewhere(2), &session.seal(&[])).unwrap();
        assert_eq!(rig.node.endpoint(), Some(elsewhere(2)));
        rig.give_from(elsewhere(3), &session.seal(&to_node(50)))
            .unwrap();
        assert_eq!(rig.node.endpoint(), Some(elsewhere(3)));
        let sealed = rig.node.seal(rig.now, &to_puppet(50)).unwrap();
        assert_eq!(sealed.0, elsewhere(3), "and data follows");
        let foreign = session.seal(&ipv4([10, 9, 9, 9], [10, 0, 0, 2], 50));
        let verdict = rig.give_from(elsewhere(4), &foreign);
        assert_eq!(verdict, Err(Rejected::ForeignSource));
        assert_eq!(rig.node.endpoint(), Some(elsewhere(4)));

        rig.skip(secs(10));
        let asked = rig.asks();
        let heard = rig.puppet.hear(&asked);
        let (response, _) = rig.puppet.respond(heard);
        rig.give_from(elsewhere(5), &response).unwrap();
        assert_eq!(rig.node.endpoint(), Some(elsewhere(5)));
        // A replay of anything does not move it back.
        for old in [&initiation, &foreign, &response] {
            assert!(rig.give_from(elsewhere(6), old).is_err());
            assert_eq!(rig.node.endpoint(), Some(elsewhere(5)));
        }
        rig.sent();
        let roamed = rig.events.iter().filter(|e| **e == Event::Roamed).count();
        assert!(roamed >= 2);
        // The same endpoint again is no event.
        rig.events.clear();
        rig.give_from(elsewhere(5), &session.seal(&[])).unwrap();
        rig.sent();
        assert_eq!(rig.events, []);
    });
}

/// A peer without an endpoint gets one from its first message, and then what it was owed.
#[test]
fn a_peer_without_endpoint_is_found() {
    for_both(|kind| {
        let now = Instant::from_millis(1_000_000);
        let allowed = [ALICE.cidr()];
        let peer = PeerConfig::new(ALICE.public_key()).allowed_ips(&allowed);
        let mut rig = Rig::new(kind);
        rig.node = Node::new(
            kind,
            &BOB.private_key(),
            &peer,
            quietwire::Timings::default(),
        );
        rig.now = now;
        assert_eq!(rig.seal(&to_puppet(50)), Err(SealError::NoEndpoint));
        rig.node.initiate(rig.now);
        assert!(rig.sent().is_empty(), "nowhere to send it");
        let (initiation, asked) = rig.initiation();
        rig.give_from(elsewhere(9), &initiation).unwrap();
        let sent = rig.transmits();
        assert_eq!(
            sent.len(),
            1,
            "the response, and no initiation within 5 s of it"
        );
        assert_eq!((sent[0].0, sent[0].1[0]), (elsewhere(9), 2));
        rig.puppet.read_response(asked, &sent[0].1);
    });
}

/// One interface (Bob's key) with many puppets.
struct Hub {
    interface: Interface,
    now: Instant,
    rng: SeededRng,
}

impl Hub {
    fn new() -> Self {
        let now = Instant::from_millis(1_000_000);
        Self {
            interface: Interface::new(Some(&BOB.private_key()), now),
            now,
            rng: SeededRng::new(3),
        }
    }

    /// Adds a peer with a session that is established.
    fn add(&mut self, n: u8, allowed: &[&str]) -> (PeerId, Session) {
        let key = [n; 32];
        let allowed: Vec<Cidr> = allowed.iter().map(|cidr| cidr.parse().unwrap()).collect();
        let peer = PeerConfig::new(PrivateKey::from_bytes(key).public_key()).allowed_ips(&allowed);
        let id = self.interface.add_peer(self.now, &peer).unwrap();
        let mut puppet = Puppet::of(ALICE);
        puppet.private = *PrivateKey::from_bytes(key).expose();
        let (mut initiation, asked) = puppet.initiate(tai64n(secs(1)));
        let source = elsewhere(n);
        self.interface
            .receive(self.now, source, &mut initiation)
            .unwrap();
        let mut env = Env::new(&mut self.rng, secs(1));
        let response = self.interface.poll_transmit(self.now, &mut env).unwrap();
        let mut session = puppet.read_response(asked, response.message.as_bytes());
        assert_eq!(self.give(n, &session.seal(&[])), Ok((id, None)));
        (id, session)
    }

    fn give(&mut self, n: u8, datagram: &[u8]) -> Result<(PeerId, Option<Vec<u8>>), Rejected> {
        let mut datagram = datagram.to_vec();
        let (id, received) = self
            .interface
            .receive(self.now, elsewhere(n), &mut datagram)?;
        match received {
            Received::Packet(packet) => Ok((id, Some(packet.to_vec()))),
            _ => Ok((id, None)),
        }
    }

    fn seal(&mut self, packet: &[u8]) -> Result<(PeerId, Vec<u8>), SealError> {
        let mut out = vec![0; packet.len() + 47];
        let sealed = self.interface.seal_into(self.now, packet, &mut out)?;
        Ok((sealed.peer, sealed.datagram.to_vec()))
    }
}

fn v6(source: &str, destination: &str) -> Vec<u8> {
    let mut packet = vec![0; 40];
    packet[0] = 0x60;
    for (at, address) in [(8, source), (24, destination)] {
        let address: std::net::Ipv6Addr = address.parse().unwrap();
        packet[at..at + 16].copy_from_slice(&address.octets());
    }
    packet
}

/// The source is looked up among the prefixes of all peers, and the longest match must be the very
/// peer (a check against the peer's own list let it send as another).
#[test]
fn the_source_must_be_the_longest_match_of_the_interface() {
    let mut hub = Hub::new();
    let (a, alice) = hub.add(1, &["10.0.0.0/8", "fd00::/16"]);
    let (b, bob) = hub.add(2, &["10.1.0.0/16", "fd00:0:0:1::/64"]);
    let mut sessions = [alice, bob];
    let foreign = Err(Rejected::ForeignSource);
    let v4 = |source| ipv4(source, [10, 99, 0, 1], 40);
    let v6 = |source| v6(source, "fd00::99");
    for (from, packet, expected) in [
        (0, v4([10, 2, 0, 1]), Ok(a)),
        (0, v4([10, 1, 0, 1]), foreign),
        (1, v4([10, 1, 0, 1]), Ok(b)),
        (1, v4([10, 2, 0, 1]), foreign),
        (1, v4([192, 168, 0, 1]), foreign),
        (0, v4([0, 0, 0, 0]), foreign),
        (0, v6("fd00::1"), Ok(a)),
        (0, v6("fd00:0:0:1::1"), foreign),
        (1, v6("fd00:0:0:1::1"), Ok(b)),
        (1, v6("fd00::1"), foreign),
        (1, v6("::ffff:10.1.0.1"), foreign),
    ] {
        let datagram = sessions[from].seal(&packet);
        let verdict = hub.give(1, &datagram).map(|(id, _)| id);
        assert_eq!(verdict, expected, "{packet:?}");
    }
}

/// It is the source that is checked when receiving, and the destination that chooses when sending
/// (one implementation had it the other way round).
#[test]
fn received_destinations_are_not_judged() {
    let mut hub = Hub::new();
    let (a, mut alice) = hub.add(1, &["10.0.0.0/8"]);
    for destination in [
        [10, 0, 0, 9],
        [8, 8, 8, 8],
        [255, 255, 255, 255],
        [0, 0, 0, 0],
    ] {
        let packet = ipv4([10, 0, 0, 1], destination, 40);
        let datagram = alice.seal(&packet);
        assert_eq!(hub.give(1, &datagram), Ok((a, Some(packet))));
    }
    let out = hub.seal(&ipv4([8, 8, 8, 8], [10, 0, 0, 1], 40)).unwrap();
    assert_eq!(out.0, a, "any source is sent");
    let error = hub
        .seal(&ipv4([10, 0, 0, 1], [8, 8, 8, 8], 40))
        .unwrap_err();
    assert_eq!(error, SealError::NoRoute);
}

/// Host bits do not count: 192.95.5.65/27 is 192.95.5.64/27 (as in the kernel's self-test).
#[test]
fn prefixes_are_masked() {
    let mut hub = Hub::new();
    let (a, _) = hub.add(1, &["192.95.5.65/27", "2607:5300:6006:6b00::dead:beef/56"]);
    let of = |hub: &Hub, id| -> Vec<String> {
        let peer = hub.interface.peer(id).unwrap();
        peer.allowed_ips().map(|cidr| cidr.to_string()).collect()
    };
    assert_eq!(of(&hub, a), ["192.95.5.64/27", "2607:5300:6006:6b00::/56"]);
    let route = |hub: &Hub, address: &str| hub.interface.route(address.parse::<IpAddr>().unwrap());
    assert_eq!(route(&hub, "192.95.5.64"), Some(a));
    assert_eq!(route(&hub, "192.95.5.95"), Some(a));
    assert_eq!(route(&hub, "192.95.5.96"), None);
    assert_eq!(route(&hub, "192.95.5.63"), None);
    // Giving it to another peer, with other host bits, moves it.
    let (b, _) = hub.add(2, &["192.95.5.93/27"]);
    assert_eq!(route(&hub, "192.95.5.64"), Some(b));
    assert_eq!(of(&hub, a), ["2607:5300:6006:6b00::/56"]);
    let mut peer = hub.interface.peer_mut(b).unwrap();
    assert!(peer.remove_allowed_ip("192.95.5.70/27".parse().unwrap()));
    assert!(!peer.remove_allowed_ip("2607:5300:6006:6b00::/56".parse().unwrap()));
    assert_eq!(route(&hub, "192.95.5.64"), None);
    assert_eq!(of(&hub, a), ["2607:5300:6006:6b00::/56"]);
}

/// A prefix taken away counts from the next packet, in both directions, while the session lives on.
#[test]
fn routes_change_under_a_session() {
    let mut hub = Hub::new();
    let (a, mut alice) = hub.add(1, &["10.0.0.0/8"]);
    let packet = ipv4([10, 0, 0, 1], [10, 0, 0, 2], 40);
    assert!(hub.give(1, &alice.seal(&packet)).is_ok());
    let (b, _bob) = hub.add(2, &[]);
    let mut peer = hub.interface.peer_mut(b).unwrap();
    peer.add_allowed_ip("10.0.0.1/32".parse().unwrap());
    let verdict = hub.give(1, &alice.seal(&packet));
    assert_eq!(verdict, Err(Rejected::ForeignSource));
    assert_eq!(hub.seal(&ipv4([9; 4], [10, 0, 0, 1], 40)).unwrap().0, b);
    assert_eq!(hub.seal(&ipv4([9; 4], [10, 0, 0, 2], 40)).unwrap().0, a);
    assert!(hub.interface.remove_peer(b));
    assert!(hub.give(1, &alice.seal(&packet)).is_ok());
    let mut peer = hub.interface.peer_mut(a).unwrap();
    peer.replace_allowed_ips([]);
    let verdict = hub.give(1, &alice.seal(&packet));
    assert_eq!(verdict, Err(Rejected::ForeignSource));
    let error = hub.seal(&ipv4([9; 4], [10, 0, 0, 1], 40)).unwrap_err();
    assert_eq!(error, SealError::NoRoute);
}

/// A datagram of one peer's session moves and counts for that peer alone, whoever sends it; one with
/// another session's index is forged.
#[test]
fn sessions_of_an_interface_do_not_mix() {
    let mut hub = Hub::new();
    let (a, mut alice) = hub.add(1, &["10.0.0.1/32"]);
    let (b, bob) = hub.add(2, &["10.0.0.2/32"]);
    let packet = ipv4([10, 0, 0, 1], [10, 0, 0, 9], 40);
    let mut crossed = alice.seal(&packet);
    crossed[4..8].copy_from_slice(&bob.remote.to_le_bytes());
    assert_eq!(hub.give(1, &crossed), Err(Rejected::Forged));
    let endpoint = |hub: &Hub, id| hub.interface.peer(id).unwrap().endpoint();
    assert_eq!(endpoint(&hub, b), Some(elsewhere(2)));
    let datagram = alice.seal(&packet);
    assert_eq!(hub.give(2, &datagram), Ok((a, Some(packet))));
    assert_eq!(
        endpoint(&hub, a),
        Some(elsewhere(2)),
        "two peers behind one address"
    );
    let stats = |hub: &Hub, id| hub.interface.peer(id).unwrap().stats().rx_dropped;
    assert_eq!((stats(&hub, a), stats(&hub, b)), (0, 1));
}

/// Two interfaces with the same key, and the same peer: what is sealed for one is nothing to the
/// other.
#[test]
fn datagrams_of_another_tunnel_are_refused() {
    for_both(|kind| {
        let (mut here, mut there) = (Rig::new(kind), Rig::new(kind));
        there.rng = SeededRng::new(1234);
        let mut session = there.as_responder();
        let asked = there.asks_after_a_pause();
        here.as_responder();
        let datagram = session.seal(&to_node(64));
        let reason = here.refuses(elsewhere(1), &datagram);
        assert_eq!(reason, Rejected::UnknownReceiver);
        let heard = there.puppet.hear(&asked);
        let (response, _) = there.puppet.respond(heard);
        let reason = here.refuses(elsewhere(1), &response);
        assert_eq!(reason, Rejected::UnknownReceiver);
    });
}

impl Rig {
    fn asks_after_a_pause(&mut self) -> Vec<u8> {
        self.skip(secs(6));
        self.asks()
    }
}

/// What a node sent itself, handed back to it, is nothing.
#[test]
fn reflected_datagrams_are_refused() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let mut ours = vec![rig.asks()];
        let heard = rig.puppet.hear(&ours[0]);
        let (response, mut session) = rig.puppet.respond(heard);
        assert_eq!(rig.give(&response), Ok(Got::Control(Control::Response)));
        ours.extend(rig.sent());
        ours.push(rig.seal(&to_puppet(64)).unwrap());
        rig.skip(millis(50));
        let (initiation, _) = rig.initiation();
        rig.give(&initiation).unwrap();
        ours.extend(rig.sent());
        rig.node.set_load(quietwire::Load::UnderLoad);
        let (initiation, _) = rig.initiation();
        assert_eq!(rig.give(&initiation), Err(Rejected::CookieRequired));
        ours.extend(rig.sent());
        let kinds: Vec<u8> = ours.iter().map(|datagram| datagram[0]).collect();
        assert_eq!(kinds, [1, 4, 4, 2, 3], "one of everything");
        for datagram in &ours {
            let reason = rig.refuses(ALICE.addr(), datagram);
            let expected = match datagram[0] {
                1 | 2 => Rejected::WrongMac1,
                _ => Rejected::UnknownReceiver,
            };
            assert_eq!(reason, expected);
        }
        // Even if the indices of both ends were equal.
        let mut data = ours[2].clone();
        data[4..8].copy_from_slice(&session.remote.to_le_bytes());
        assert_eq!(rig.refuses(ALICE.addr(), &data), Rejected::Forged);
        assert!(rig.give(&session.seal(&to_node(64))).is_ok());
    });
}

/// A tunnel's prefixes: any order, at most sixteen, checked in both directions.
#[test]
fn a_tunnel_routes_its_prefixes() {
    let mut rig = Rig::new(NodeKind::Tunnel);
    let mut session = rig.as_responder();
    let Node::Tunnel(tunnel) = &mut rig.node else {
        unreachable!()
    };
    let cidr = |n: u8| Cidr::new([10, 0, n, 77].into(), 24).unwrap();
    let many: Vec<Cidr> = (0..17).map(cidr).collect();
    let error = Err(ConfigError::TooManyAllowedIps);
    assert_eq!(tunnel.set_allowed_ips(&many), error);
    assert_eq!(Tunnel::<SocketAddr>::MAX_ALLOWED_IPS, 16);
    tunnel.set_allowed_ips(&many[..16]).unwrap();
    for n in [0, 15, 16] {
        let allowed = n < 16;
        let out = rig.seal(&ipv4([1; 4], [10, 0, n, 5], 40));
        assert_eq!(out.is_ok(), allowed, "{n}");
        let datagram = session.seal(&ipv4([10, 0, n, 5], [1; 4], 40));
        let verdict = rig.give(&datagram);
        assert_eq!(verdict.is_ok(), allowed, "{n}: {verdict:?}");
    }
    let Node::Tunnel(tunnel) = &mut rig.node else {
        unreachable!()
    };
    tunnel.set_allowed_ips(&[]).unwrap();
    let error = rig.seal(&ipv4([1; 4], [10, 0, 0, 5], 40));
    assert_eq!(error, Err(SealError::NoRoute));
}
