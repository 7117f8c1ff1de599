//! Changes of the configuration while the tunnel runs, with the effect that they have in the Linux
//! kernel. (The persistent keepalive and late keys and endpoints are in the timer tests.)

use std::time::Duration;

use quietwire::{
    Cidr, ConfigError, Env, Event, HandshakeStep, Instant, Interface, Load, Outgoing, PeerConfig,
    PeerId, PresharedKey, PrivateKey, Rejected, SealError, Timings, Tunnel,
};

use crate::support::*;

fn other_key() -> PrivateKey {
    PrivateKey::from_bytes([0x77; 32])
}

/// Seals a packet without sending it.
fn sealed(pair: &mut Pair, from: Side) -> Datagram {
    let (now, at) = (pair.now, pair.elapsed());
    let (_, bytes) = pair[from].seal(now, &packet(from, 60)).unwrap();
    let source = pair.addrs[from as usize];
    Datagram {
        at,
        from,
        source,
        bytes,
    }
}

// The private key.

/// Kernel: with a new private key the sessions of the old one send nothing more, at once.
#[test]
fn new_private_key_ends_sending() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        let now = pair.now;
        pair[Alice].set_private_key(&other_key()).unwrap();
        assert_eq!(pair[Alice].public_key(), other_key().public_key());
        assert!(!pair[Alice].is_established(now));
        pair.settle();
        assert_eq!(pair.saw(Alice, Event::SessionExpired).len(), 1);
        assert!(
            pair.log.is_empty(),
            "the kernel starts no handshake by itself"
        );
        let refused = pair[Alice].seal(now, &packet(Alice, 60));
        assert_eq!(refused.unwrap_err(), SealError::NoSession);
        pair.settle();
        let sent = pair.sent(Alice, Msg::Initiation);
        assert_eq!(sent, [secs(0)], "although one was sent this very moment");
    });
}

/// What is in flight under the old sessions still arrives, until they are 180 s old.
#[test]
fn new_private_key_lets_packets_in_flight_arrive() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        let in_flight = [sealed(&mut pair, Bob), sealed(&mut pair, Bob)];
        pair[Alice].set_private_key(&other_key()).unwrap();
        let [first, second] = in_flight;
        pair.run_until(secs(180) - NANO);
        pair.deliver(first);
        assert_eq!(pair.received.len(), 1);
        pair.run_until(secs(180));
        pair.deliver(second);
        assert_eq!(pair.received.len(), 1);
    });
}

/// A keepalive that was due under an old session is not sent under it either.
#[test]
fn new_private_key_ends_keepalives() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.send(Bob, 100);
        pair[Alice].set_private_key(&other_key()).unwrap();
        pair.run_until(secs(30));
        assert!(pair.sent(Alice, Msg::Keepalive).is_empty());
        assert!(!pair.sent(Alice, Msg::Initiation).is_empty());
    });
}

/// Nobody can be its own peer; the change is refused and nothing is changed.
#[test]
fn the_peers_own_private_key_is_refused() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        let refused = pair[Alice].set_private_key(&Bob.private_key());
        assert_eq!(refused, Err(ConfigError::OwnPublicKey));
        pair.send(Alice, 100);
        assert_eq!(pair.received.len(), 1);
        assert_eq!(pair[Alice].public_key(), Alice.public_key());
    });
}

/// What is derived from the private key is derived anew: the secret shared with the peer's static
/// key, and the keys of mac1 and cookies.
#[test]
fn everything_derived_from_the_private_key_is_derived_anew() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.run_until(secs(6));
        pair[Alice].set_private_key(&other_key()).unwrap();
        let now = pair.now;
        // Neither side's messages reach the other one now.
        pair[Bob].initiate(now);
        pair.settle();
        assert_eq!(pair.rejected.pop().unwrap().2, Rejected::WrongMac1);
        pair[Alice].initiate(now);
        pair.settle();
        assert_eq!(pair.rejected.pop().unwrap().2, Rejected::UnknownPeer);
        // With the old key back, both do.
        pair.run_until(secs(12));
        pair[Alice].set_private_key(&Alice.private_key()).unwrap();
        pair.clear_log();
        pair.send(Alice, 100);
        assert_eq!(pair.received.len(), 1);
        pair.run_until(secs(20));
        let now = pair.now;
        pair[Bob].initiate(now);
        pair.settle();
        assert_eq!(pair.saw(Bob, Event::Established).len(), 2);
    });
}

/// A peer that knows the new key is reached under it.
#[test]
fn handshakes_go_on_under_the_new_private_key() {
    let start = Instant::from_nanos(0);
    let (old, new) = (Alice.private_key(), other_key());
    let mut alice = Tunnel::new(
        &old,
        &PeerConfig::new(Bob.public_key()).endpoint(Bob.addr()),
        start,
    )
    .unwrap();
    let mut bob: Interface = Interface::new(Some(&Bob.private_key()), start);
    let ids = [&old, &new].map(|key| {
        let peer = PeerConfig::new(key.public_key());
        bob.add_peer(start, &peer).unwrap()
    });
    let mut rng = SeededRng::new(5);
    let mut handshake = |alice: &mut Tunnel, now: Instant, expected: PeerId| {
        let mut env = Env::new(&mut rng, secs(1_700_000_000) + (now - start));
        alice.initiate(now);
        let initiation = alice.poll_transmit(now, &mut env).unwrap();
        let mut bytes = initiation.message.as_bytes().to_vec();
        let (id, _) = bob.receive(now, Alice.addr(), &mut bytes).unwrap();
        assert_eq!(id, expected);
        let response = bob.poll_transmit(now, &mut env).unwrap();
        let mut bytes = response.message.as_bytes().to_vec();
        alice.receive(now, Bob.addr(), &mut bytes).unwrap();
        assert!(alice.is_established(now));
    };
    handshake(&mut alice, start, ids[0]);
    alice.set_private_key(&new).unwrap();
    handshake(&mut alice, start + secs(1), ids[1]);
}

/// Packets wait for a handshake that was under way when the key changed: it goes on with the new
/// key. The kernel's retransmission does the same.
#[test]
fn new_private_key_goes_on_with_a_handshake_under_way() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair[Alice].set_private_key(&other_key()).unwrap();
        pair.send(Alice, 100);
        assert_eq!(pair.rejected[0].2, Rejected::UnknownPeer);
        pair.run_until(secs(1));
        pair[Alice].set_private_key(&Alice.private_key()).unwrap();
        pair.run_until(secs(7));
        assert_eq!(pair.received.len(), 1, "what waited has arrived");
    });
}

/// An answer to the old key's initiation is not accepted any more.
#[test]
fn new_private_key_forgets_the_handshake_under_way() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.on_wire(|from, _| match from {
            Bob => Fate::Hold,
            Alice => Fate::Deliver,
        });
        let now = pair.now;
        pair[Alice].initiate(now);
        pair.settle();
        pair.on_wire(|_, _| Fate::Lose);
        pair[Alice].set_private_key(&other_key()).unwrap();
        let response = pair.held.pop_front().unwrap();
        pair.deliver(response);
        let reason = pair.rejected[0].2;
        assert!(matches!(
            reason,
            Rejected::WrongMac1 | Rejected::UnknownReceiver
        ));
        assert!(!pair[Alice].is_established(now));
    });
}

/// Jobs that were begun with the old key come to nothing.
#[test]
fn new_private_key_supersedes_jobs_in_flight() {
    let start = Instant::from_nanos(0);
    let mut rng = SeededRng::new(5);
    let mut env = Env::new(&mut rng, secs(1_700_000_000));
    let config =
        |side: Side| PeerConfig::new(side.other().public_key()).endpoint(side.other().addr());
    let mut alice = Tunnel::new(&Alice.private_key(), &config(Alice), start).unwrap();
    let mut bob = Tunnel::new(&Bob.private_key(), &config(Bob), start).unwrap();
    alice.initiate(start);
    let sent = alice.poll_transmit(start, &mut env).unwrap();
    let initiation = sent.message.as_bytes();

    let Ok(HandshakeStep::Run(reading)) = bob.begin_handshake(start, Alice.addr(), initiation)
    else {
        panic!("a job is needed");
    };
    bob.initiate(start);
    let writing = bob.poll_handshake(start, &mut env).unwrap();
    bob.set_private_key(&other_key()).unwrap();
    let mut read = bob.finish_handshake(start, reading);
    while let Ok(HandshakeStep::Run(job)) = read {
        read = bob.finish_handshake(start, job);
    }
    assert_eq!(read.unwrap_err(), Rejected::Superseded);
    let written = bob.finish_handshake(start, writing);
    assert!(matches!(written, Ok(HandshakeStep::Nothing)));
    // What was asked for is done with the new key.
    assert!(bob.poll_transmit(start, &mut env).is_some());
}

/// Without a private key an interface takes part in no handshake, but what is in flight arrives.
#[test]
fn an_interface_can_lose_its_private_key() {
    let mut pair = Setup::of(NodeKind::Interface).build();
    pair.establish();
    let in_flight = sealed(&mut pair, Bob);
    let Node::Interface(alice, _) = &mut pair[Alice] else {
        panic!("not an interface");
    };
    alice.set_private_key(None).unwrap();
    assert_eq!(alice.public_key(), None);
    pair.deliver(in_flight);
    assert_eq!(pair.received.len(), 1);
    pair.send(Alice, 100);
    pair.run_until(secs(6));
    let now = pair.now;
    pair[Bob].initiate(now);
    pair.settle();
    assert_eq!(pair.rejected[0].2, Rejected::NoPrivateKey);
    assert!(pair.sent(Alice, Msg::Initiation).is_empty());
    pair[Alice].set_private_key(&Alice.private_key()).unwrap();
    pair.settle();
    assert_eq!(pair.sent(Alice, Msg::Initiation), [secs(6)]);
    assert_eq!(pair.received.len(), 2, "what waited goes out");
}

// The preshared key.

/// A new preshared key (some change it every two minutes) drops no session; the next handshake uses
/// it.
#[test]
fn new_preshared_key_keeps_the_session() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        for side in Side::BOTH {
            pair[side].set_preshared_key(&PresharedKey::from_bytes([9; 32]));
        }
        for at in [1, 60, 119] {
            pair.run_until(secs(at));
            pair.send(Alice, 100);
            pair.send(Bob, 100);
        }
        assert!(pair.sent(Alice, Msg::Initiation).is_empty());
        pair.run_until(secs(121));
        pair.send(Alice, 100);
        assert_eq!(pair.saw(Alice, Event::Established), [secs(121)]);
        pair.run_until(secs(200));
        pair.send(Bob, 100);
        assert_eq!(pair.received.len(), 8);
    });
}

/// The next handshake needs it on both sides.
#[test]
fn a_preshared_key_on_one_side_fails_the_next_handshake() {
    on_both(|setup| {
        for side in Side::BOTH {
            let mut pair = setup.build();
            pair.establish();
            pair[side].set_preshared_key(&PresharedKey::from_bytes([9; 32]));
            pair.run_until(secs(150));
            pair.send(Alice, 100);
            assert_eq!(pair.received.len(), 1, "the session lives");
            assert_eq!(pair.rejected, [(secs(150), Alice, Rejected::Forged)]);
            pair.run_until(secs(185));
            pair.send(Alice, 100);
            pair.run_until(secs(250));
            assert_eq!(pair.received.len(), 1);
            pair[side].set_preshared_key(&PresharedKey::NONE);
            pair.run_until(secs(260));
            assert!(pair.received.len() > 1, "and without it they go on");
        }
    });
}

// The endpoint.

/// Everything goes to the new endpoint from now on.
#[test]
fn new_endpoint_is_used_at_once() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        let elsewhere = "[2001:db8::7]:1234".parse().unwrap();
        pair[Alice].set_endpoint(elsewhere);
        assert_eq!(pair[Alice].endpoint(), Some(elsewhere));
        let now = pair.now;
        let (to, _) = pair[Alice].seal(now, &packet(Alice, 60)).unwrap();
        assert_eq!(to, elsewhere);
        assert_eq!(
            pair[Alice].poll_event(),
            None,
            "no news to who configured it"
        );
        // Until the peer is heard from elsewhere.
        pair.send(Bob, 100);
        assert_eq!(pair[Alice].endpoint(), Some(Bob.addr()));
        assert_eq!(pair.saw(Alice, Event::Roamed).len(), 1);
    });
}

/// A peer whose endpoint nobody knows cannot be sent to, and nothing is started.
#[test]
fn without_an_endpoint_nothing_starts() {
    on_both(|setup| {
        let mut pair = Setup {
            knows_endpoint: [false; 2],
            ..setup
        }
        .build();
        let now = pair.now;
        let refused = pair[Alice].seal(now, &packet(Alice, 60));
        assert_eq!(refused.unwrap_err(), SealError::NoEndpoint);
        pair[Alice].initiate(now);
        pair.run_until(secs(1000));
        assert!(pair.log.is_empty() && pair.next_deadline().is_none());
    });
}

// The MTU.

/// Padding never makes a packet longer than the MTU, as the kernel computes it.
#[test]
fn mtu_bounds_the_padding() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        let cases = [
            (1420, 1410, 1420),
            (1420, 1409, 1420),
            (1420, 1400, 1408),
            (1500, 1410, 1424),
            (1411, 1410, 1411),
            (1410, 1410, 1410),
            (0, 1410, 1424),
            (0, 1424, 1424),
            (1420, 2000, 2012), // longer than the MTU: the rest of 580 is padded to 592
            (65_535, 20, 32),
        ];
        for (mtu, len, padded) in cases {
            pair[Alice].set_mtu(mtu);
            pair.clear_log();
            pair.send(Alice, len);
            assert_eq!(pair.log[0].bytes.len(), padded + 32, "{len} at {mtu}");
            assert_eq!(pair.received[0].2.len(), len);
        }
    });
}

// Allowed IPs.

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

/// Both directions follow the prefixes at once, without touching the session.
#[test]
fn allowed_ips_hold_in_both_directions_at_once() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.send(Alice, 100);
        pair[Alice].set_allowed_ips(&[cidr("10.9.0.0/16"), cidr("fd00::/8")]);
        let now = pair.now;
        let refused = pair[Alice].seal(now, &packet(Alice, 60));
        assert_eq!(refused.unwrap_err(), SealError::NoRoute);
        pair.send(Bob, 100);
        assert_eq!(pair.rejected.pop().unwrap().2, Rejected::ForeignSource);
        pair[Alice].set_allowed_ips(&[]);
        pair.send(Bob, 100);
        assert_eq!(pair.rejected.pop().unwrap().2, Rejected::ForeignSource);
        pair[Alice].set_allowed_ips(&[cidr("10.0.0.2/32")]);
        pair.send(Bob, 100);
        pair.send(Alice, 100);
        assert_eq!(pair.received.len(), 3);
        assert!(pair.sent(Alice, Msg::Initiation).is_empty());
    });
}

/// A tunnel takes as many prefixes as it says, and leaves the old ones when there are too many.
#[test]
fn a_tunnel_refuses_too_many_prefixes() {
    let start = Instant::from_nanos(0);
    let config = PeerConfig::new(Bob.public_key()).endpoint(Bob.addr());
    let mut tunnel = Tunnel::new(&Alice.private_key(), &config, start).unwrap();
    let prefixes: Vec<_> = (0..=16).map(|n| cidr(&format!("10.{n}.0.0/16"))).collect();
    tunnel.set_allowed_ips(&prefixes[..16]).unwrap();
    let refused = tunnel.set_allowed_ips(&prefixes);
    assert_eq!(refused, Err(ConfigError::TooManyAllowedIps));
    let mut out = [0; 128];
    let to_last = |last: u8| {
        let mut packet = packet(Alice, 60);
        packet[17] = last;
        packet
    };
    let mut seal = |packet: &[u8]| tunnel.seal_into(start, packet, &mut out).unwrap_err();
    assert_eq!(seal(&to_last(15)), SealError::NoSession);
    assert_eq!(seal(&to_last(16)), SealError::NoRoute);
    let refused = Tunnel::new(&Alice.private_key(), &config.allowed_ips(&prefixes), start);
    assert_eq!(refused.unwrap_err(), ConfigError::TooManyAllowedIps);
}

/// An interface with peers of the given prefixes, each at an endpoint.
fn interface_with(prefixes: &[&[Cidr]]) -> (Interface, Vec<PeerId>) {
    let start = Instant::from_nanos(0);
    let mut interface = Interface::new(Some(&Alice.private_key()), start);
    let ids = prefixes.iter().zip(1..).map(|(prefixes, n)| {
        let key = PrivateKey::from_bytes([n; 32]).public_key();
        let config = PeerConfig::new(key)
            .endpoint(Bob.addr())
            .allowed_ips(prefixes);
        interface.add_peer(start, &config).unwrap()
    });
    let ids = ids.collect();
    (interface, ids)
}

/// One prefix belongs to one peer: giving it to another moves it.
#[test]
fn a_prefix_moves_to_the_peer_that_got_it_last() {
    let (mut interface, ids) = interface_with(&[&[cidr("10.0.0.0/24")], &[cidr("10.1.0.0/24")]]);
    let route = |interface: &Interface, to: &str| interface.route(to.parse().unwrap());
    assert_eq!(route(&interface, "10.0.0.7"), Some(ids[0]));
    interface
        .peer_mut(ids[1])
        .unwrap()
        .add_allowed_ip(cidr("10.0.0.0/24"));
    assert_eq!(route(&interface, "10.0.0.7"), Some(ids[1]));
    let of = |interface: &Interface, id| interface.peer(id).unwrap().allowed_ips().count();
    assert_eq!([of(&interface, ids[0]), of(&interface, ids[1])], [0, 2]);
    // What it does not have it cannot give back.
    assert!(
        !interface
            .peer_mut(ids[0])
            .unwrap()
            .remove_allowed_ip(cidr("10.0.0.0/24"))
    );
    assert_eq!(route(&interface, "10.0.0.7"), Some(ids[1]));
    assert!(
        interface
            .peer_mut(ids[1])
            .unwrap()
            .remove_allowed_ip(cidr("10.0.0.0/24"))
    );
    assert_eq!(route(&interface, "10.0.0.7"), None);
}

/// The longest prefix of the whole interface decides, not the first peer with a match; removing one
/// uncovers the next.
#[test]
fn the_longest_prefix_of_all_peers_decides() {
    let (mut interface, ids) = interface_with(&[
        &[cidr("0.0.0.0/0"), cidr("10.0.0.128/25")],
        &[cidr("10.0.0.0/24")],
        &[cidr("10.0.0.129/32")],
    ]);
    let route = |interface: &Interface, to: &str| interface.route(to.parse().unwrap());
    assert_eq!(route(&interface, "10.0.0.129"), Some(ids[2]));
    assert_eq!(route(&interface, "10.0.0.130"), Some(ids[0]));
    assert_eq!(route(&interface, "10.0.0.1"), Some(ids[1]));
    assert_eq!(route(&interface, "192.0.2.1"), Some(ids[0]));
    interface.peer_mut(ids[2]).unwrap().replace_allowed_ips([]);
    assert_eq!(route(&interface, "10.0.0.129"), Some(ids[0]));
    interface
        .peer_mut(ids[0])
        .unwrap()
        .replace_allowed_ips([cidr("::/0")]);
    assert_eq!(route(&interface, "10.0.0.129"), Some(ids[1]));
    assert_eq!(route(&interface, "192.0.2.1"), None);
    assert!(interface.remove_peer(ids[1]));
    assert_eq!(route(&interface, "10.0.0.129"), None);
}

/// The check of the source moves with the prefix, while sessions stay.
#[test]
fn a_moved_prefix_is_not_accepted_from_its_old_peer() {
    let mut pair = Setup::of(NodeKind::Interface).build();
    pair.establish();
    let Node::Interface(alice, bob) = &mut pair[Alice] else {
        panic!("not an interface");
    };
    let (start, bob) = (Instant::from_nanos(0), *bob);
    let prefix = [Bob.cidr()];
    let other = PeerConfig::new(other_key().public_key()).allowed_ips(&prefix);
    let other = alice.add_peer(start, &other).unwrap();
    pair.send(Bob, 100);
    assert_eq!(pair.rejected.pop().unwrap().2, Rejected::ForeignSource);
    let Node::Interface(alice, _) = &mut pair[Alice] else {
        panic!("not an interface");
    };
    assert!(alice.remove_peer(other));
    alice.peer_mut(bob).unwrap().add_allowed_ip(Bob.cidr());
    pair.send(Bob, 100);
    assert_eq!(pair.received.len(), 1);
}

// Peers that come and go.

/// A peer that is removed leaves nothing: no deadline, no message owed, no event, no session.
#[test]
fn a_removed_peer_leaves_nothing() {
    let mut pair = Setup {
        keepalive: [25, 0],
        ..Setup::of(NodeKind::Interface)
    }
    .build();
    pair.settle();
    pair.send(Bob, 100);
    let mut in_flight = sealed(&mut pair, Bob).bytes;
    let now = pair.now;
    pair[Alice].initiate(now + secs(6));
    let Node::Interface(alice, bob) = &mut pair[Alice] else {
        panic!("not an interface");
    };
    let bob = *bob;
    let (inner, mut out) = (packet(Alice, 60), vec![0; 120]);
    let job = alice
        .begin_seal(now, Outgoing::apart(&inner, &mut out[..]))
        .unwrap();
    let opening = alice
        .begin_open(now, Bob.addr(), &mut in_flight[..])
        .unwrap();
    assert!(alice.remove_peer(bob));
    assert!(!alice.remove_peer(bob), "only once");
    drop(job);
    let refused = alice.finish_open(now, opening).unwrap_err();
    assert_eq!(refused.reason, Rejected::Superseded);
    assert!(alice.peer(bob).is_none() && alice.peer_mut(bob).is_none());
    assert!(alice.find(&Bob.public_key()).is_none());
    assert_eq!((alice.peer_count(), alice.peers().count()), (0, 0));
    assert_eq!(alice.route(Bob.inner().into()), None);
    assert_eq!(alice.poll_timeout(), None);
    assert!(alice.poll_event().is_none());
    let mut rng = SeededRng::new(1);
    let mut env = Env::new(&mut rng, secs(1_800_000_000));
    assert!(alice.poll_transmit(now + secs(10), &mut env).is_none());
    let failed = alice.begin_seal_to(now, bob, Outgoing::apart(&inner, vec![0; 120]));
    assert_eq!(failed.unwrap_err().error, SealError::UnknownPeer);
}

/// Added again it is another peer: the old handle stays dead, the old session is unknown, and a
/// handshake makes a new one.
#[test]
fn a_peer_that_is_added_again_begins_anew() {
    let mut pair = Setup::of(NodeKind::Interface).build();
    pair.establish();
    let in_flight = sealed(&mut pair, Bob);
    let now = pair.now;
    let Node::Interface(alice, id) = &mut pair[Alice] else {
        panic!("not an interface");
    };
    let old = *id;
    assert!(alice.remove_peer(old));
    let prefix = [Bob.cidr()];
    let config = PeerConfig::new(Bob.public_key())
        .endpoint(Bob.addr())
        .allowed_ips(&prefix);
    let new = alice.add_peer(now, &config).unwrap();
    assert_eq!(
        alice.add_peer(now, &config),
        Err(ConfigError::DuplicatePeer)
    );
    assert_ne!((old, old.to_bits()), (new, new.to_bits()));
    assert!(alice.peer(old).is_none());
    *id = new;
    pair.deliver(in_flight);
    assert_eq!(pair.rejected.pop().unwrap().2, Rejected::UnknownReceiver);
    pair.run_until(secs(1));
    pair.send(Alice, 100);
    assert_eq!(pair.sent(Alice, Msg::Initiation), [secs(1)]);
    assert_eq!(pair.received.len(), 1);
}

/// An interface is nobody's peer but others'.
#[test]
fn our_own_key_is_no_peer() {
    let start = Instant::from_nanos(0);
    let own = PeerConfig::new(Alice.public_key());
    let (mut interface, _) = interface_with(&[]);
    assert_eq!(
        interface.add_peer(start, &own),
        Err(ConfigError::OwnPublicKey)
    );
    let refused = Tunnel::new(&Alice.private_key(), &own, start);
    assert_eq!(refused.unwrap_err(), ConfigError::OwnPublicKey);
    assert_eq!(interface.peer_count(), 0);
}

/// Erasing everything reaches every peer.
#[test]
fn erase_all_erases_every_peer() {
    let mut pair = Setup::of(NodeKind::Interface).build();
    pair.establish();
    let now = pair.now;
    let Node::Interface(alice, _) = &mut pair[Alice] else {
        panic!("not an interface");
    };
    alice.erase_all(now);
    assert!(alice.peers().all(|peer| !peer.is_established(now)));
    pair.settle();
    assert_eq!(pair.saw(Alice, Event::KeysErased).len(), 1);
    assert_eq!(pair[Alice].poll_timeout().filter(|at| *at <= now), None);
}

// Timestamps, load, timings.

/// A machine without a clock of its own comes back in the past and is locked out, because its
/// timestamps are old. Forgetting the greatest one lets it in.
#[test]
fn forgetting_the_timestamp_lets_a_peer_with_a_wrong_clock_in() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.run_until(secs(100));
        pair.restart(Alice);
        pair.unix_base = Duration::ZERO;
        pair.send(Alice, 100);
        assert_eq!(pair.rejected[0].2, Rejected::OldTimestamp);
        assert!(pair.received.is_empty());
        pair[Bob].forget_timestamp();
        pair.run_until(secs(106));
        assert_eq!(pair.received.len(), 1);
        // It was not switched off: what came now counts.
        let replay = pair
            .log
            .iter()
            .rfind(|d| d.msg() == Msg::Initiation)
            .unwrap()
            .clone();
        pair.run_until(secs(107));
        pair.deliver(replay);
        assert_eq!(pair.rejected.last().unwrap().2, Rejected::OldTimestamp);
    });
}

/// While a program runs, its own timestamps grow whatever its wall clock does.
#[test]
fn a_wall_clock_that_steps_back_does_not_lock_out() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        for step in 1..=20 {
            pair.unix_base -= secs(50_000);
            pair.run_until(secs(10 * step));
            let now = pair.now;
            pair[Alice].initiate(now);
            pair.settle();
        }
        assert_eq!(
            pair.saw(Alice, Event::Established).len(),
            20,
            "{:?}",
            pair.rejected
        );
    });
}

/// The caller's word about load holds: always, never, or by the crate's own measure.
#[test]
fn load_can_be_overridden() {
    on_both(|setup| {
        for (load, cookies) in [(Load::UnderLoad, 1), (Load::Normal, 0), (Load::Auto, 0)] {
            let mut pair = setup.build();
            pair[Bob].set_load(load);
            pair.send(Alice, 100);
            assert_eq!(pair.sent(Bob, Msg::Cookie).len(), cookies, "{load:?}");
            pair.run_until(secs(6));
            assert_eq!(
                pair.received.len(),
                1,
                "the retransmission brings the cookie"
            );
        }
    });
}

/// It holds whenever it is said: before there is a private key, and after a new one.
#[test]
fn the_load_setting_outlives_private_keys() {
    let start = Instant::from_nanos(0);
    let mut interface: Interface = Interface::new(None, start);
    interface.set_load(Load::UnderLoad);
    for key in [
        Some(Alice.private_key()),
        Some(other_key()),
        None,
        Some(Alice.private_key()),
    ] {
        interface.set_private_key(key.as_ref()).unwrap();
        if key.is_some() {
            assert!(interface.is_under_load(start));
        }
    }
    interface.set_load(Load::Normal);
    assert!(!interface.is_under_load(start));
}

/// Every timing takes effect where the protocol's constant would.
#[test]
fn timings_replace_the_constants() {
    on_both(|setup| {
        let mut timings = Timings::default();
        timings.rekey_after_time = secs(12);
        timings.reject_after_time = secs(18);
        timings.rekey_attempt_time = secs(9);
        timings.rekey_timeout = millis(500);
        timings.keepalive_timeout = secs(1);
        timings.jitter = Duration::ZERO;
        let setup = Setup { timings, ..setup };

        let mut pair = setup.build();
        pair.establish();
        pair.send(Alice, 100);
        pair.run_until(secs(12));
        assert_eq!(pair.sent(Bob, Msg::Keepalive), [secs(1)]);
        pair.send(Alice, 100);
        assert_eq!(pair.sent(Alice, Msg::Initiation), [secs(12)], "12 s");
        pair.run_until(secs(28) + millis(500));
        pair.send(Bob, 100);
        assert_eq!(pair.sent(Alice, Msg::Initiation).len(), 2, "18 - 1 - 0.5 s");
        pair.cut(Bob);
        pair.run_until(secs(30));
        pair.clear_log();
        pair.send(Alice, 100);
        pair.run_until(secs(32));
        let sent = pair.sent(Alice, Msg::Initiation);
        assert_eq!(
            sent[0],
            secs(31) + millis(500),
            "1 + 0.5 s without an answer"
        );
        pair.run_until(secs(300));
        let sent = pair.sent(Alice, Msg::Initiation);
        assert_eq!(sent.len(), 20, "9 s / 0.5 s and two");
        assert!(sent.windows(2).all(|two| two[1] - two[0] == millis(500)));
        assert_eq!(
            pair.saw(Alice, Event::SessionExpired),
            [secs(46) + millis(500)]
        );
        assert_eq!(pair.saw(Alice, Event::KeysErased), [secs(82) + millis(500)]);
    });
}

/// Timings that break the protocol are refused by name.
#[test]
fn impossible_timings_are_refused() {
    type Change = fn(&mut Timings);
    let cases: [(&str, Change); 9] = [
        ("rekey_timeout", |t| t.rekey_timeout = Duration::ZERO),
        ("rekey_timeout", |t| t.rekey_timeout = secs(91)),
        ("keepalive_timeout", |t| {
            t.keepalive_timeout = Duration::ZERO;
        }),
        ("keepalive_timeout", |t| t.keepalive_timeout = secs(181)),
        ("keepalive_timeout", |t| t.keepalive_timeout = secs(175)),
        ("rekey_after_time", |t| t.rekey_after_time = Duration::ZERO),
        ("rekey_after_time", |t| t.rekey_after_time = secs(181)),
        ("rekey_attempt_time", |t| t.rekey_attempt_time = secs(181)),
        ("rekey_after_time", |t| t.reject_after_time = secs(100)),
    ];
    let start = Instant::from_nanos(0);
    for (field, change) in cases {
        let mut timings = Timings::default();
        change(&mut timings);
        let config = PeerConfig::new(Bob.public_key()).endpoint(Bob.addr());
        let refused = ConfigError::InvalidTiming(field);
        assert_eq!(timings.validate(), Err(refused));
        let tunnel = Tunnel::with_timings(&Alice.private_key(), &config, timings, start);
        assert_eq!(tunnel.unwrap_err(), refused);
        let interface = Interface::<std::net::SocketAddr>::with_timings(None, timings, start);
        assert_eq!(interface.unwrap_err(), refused);
    }
    assert_eq!(Timings::default().validate(), Ok(()));
}

/// What was set is what is shown.
#[test]
fn the_configuration_reads_back() {
    let start = Instant::from_nanos(0);
    let (mut interface, ids) = interface_with(&[&[cidr("10.0.0.0/24")]]);
    let psk = PresharedKey::from_bytes([3; 32]);
    let mut peer = interface.peer_mut(ids[0]).unwrap();
    assert_eq!(peer.id(), ids[0]);
    peer.set_mtu(1280);
    peer.set_preshared_key(&psk);
    peer.set_persistent_keepalive(start, 65_535);
    peer.add_allowed_ip(cidr("fd00::/64"));
    let peer = interface.peer(ids[0]).unwrap();
    assert_eq!(
        (peer.id(), peer.mtu(), peer.persistent_keepalive()),
        (ids[0], 1280, 65_535)
    );
    assert!(peer.has_preshared_key() && peer.preshared_key().ct_eq(&psk));
    let prefixes: Vec<_> = peer.allowed_ips().collect();
    assert_eq!(prefixes, [cidr("10.0.0.0/24"), cidr("fd00::/64")]);
    assert_eq!(peer.endpoint(), Some(Bob.addr()));
    assert_eq!(peer.stats(), quietwire::PeerStats::default());
}

/// The kernel's counters: whole datagrams, keepalives and handshakes included; 64 bits wide, so that
/// four gigabytes are no limit.
#[test]
fn counters_are_of_whole_datagrams_and_wide() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.send(Alice, 100);
        pair.run_until(secs(11));
        let (alice, bob) = (pair[Alice].stats(), pair[Bob].stats());
        assert_eq!((alice.tx_bytes, alice.tx_datagrams), (148 + 144, 2));
        assert_eq!((alice.rx_bytes, alice.rx_datagrams), (92 + 32, 2));
        assert_eq!((bob.rx_bytes, bob.rx_datagrams), (148 + 144, 2));
        assert_eq!((bob.tx_bytes, bob.tx_datagrams), (92 + 32, 2));
        assert_eq!((alice.rx_dropped, bob.rx_dropped), (0, 0));
    });
    let mut pair = Setup::of(NodeKind::Tunnel).build();
    pair.establish();
    let now = pair.now;
    let Node::Tunnel(alice) = &mut pair[Alice] else {
        panic!("not a tunnel");
    };
    let before = alice.stats().tx_bytes;
    let (huge, mut out) = (packet(Alice, 65_535), vec![0; 65_600]);
    for _ in 0..70_000 {
        drop(
            alice
                .begin_seal(now, Outgoing::apart(&huge, &mut out[..]))
                .unwrap(),
        );
    }
    let sent = alice.stats().tx_bytes - before;
    assert!(
        sent > u64::from(u32::MAX) && sent.is_multiple_of(70_000),
        "{sent}"
    );
}
