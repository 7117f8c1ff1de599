//! Cookies, load and rates: what a flood can cost, and that honest peers get through it.
//!
//! "Passing the gate" means that a multiplication is spent on a message: any verdict but the three of
//! the gate (`WrongMac1`, `CookieRequired`, `RateLimited`).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use quietwire::{Control, Instant, Interface, Load, PeerConfig, PrivateKey, Rejected};

use crate::puppet::{ALICE, BOB, Got, NOTHING, Puppet, Rig, for_both, index_at, macs, to_puppet};
use crate::support::{Node, NodeKind, millis, secs};

/// A message that costs a multiplication if it passes the gate: its mac1 is right, the rest is not.
fn garbage(sender: u32) -> Vec<u8> {
    let mut body = vec![0x77; 116];
    body[..4].copy_from_slice(&[1, 0, 0, 0]);
    body[4..8].copy_from_slice(&sender.to_le_bytes());
    Puppet::of(ALICE).signed(body)
}

fn v4(n: u32, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + n)), port)
}

impl Rig {
    /// Whether a message passes the gate.
    fn passes(&mut self, source: SocketAddr, message: &[u8]) -> bool {
        match self.give_from(source, message) {
            Err(Rejected::CookieRequired | Rejected::RateLimited) => false,
            Err(Rejected::WrongMac1) => panic!("not a fair test"),
            _ => true,
        }
    }

    /// Sends garbage until a cookie comes, and makes the puppet keep it.
    fn obtain_cookie(&mut self, source: SocketAddr) {
        let message = garbage(9);
        assert_eq!(
            self.give_from(source, &message),
            Err(Rejected::CookieRequired)
        );
        let sent = self.transmits();
        let (_, reply) = sent.into_iter().find(|(to, _)| *to == source).unwrap();
        self.puppet.read_cookie(&reply, 9, macs(&message).1);
    }
}

/// The kernel is under load with 512 messages waiting. Here a queue is imagined that is emptied at
/// 1000 a second; a burst of 511 is no load, one more is.
#[test]
fn load_begins_with_the_512th_message_at_once() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let message = garbage(1);
        for n in 1..512 {
            assert!(rig.passes(v4(n, 1), &message), "{n}");
        }
        assert!(!rig.passes(v4(0, 1), &message));
        assert_eq!(rig.give(&message), Err(Rejected::CookieRequired));
    });
}

/// A steady thousand a second is none.
#[test]
fn a_steady_thousand_a_second_is_no_load() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let message = garbage(1);
        for n in 0..3000 {
            assert!(rig.passes(v4(n, 1), &message), "{n}");
            rig.skip(millis(1));
        }
    });
}

/// Load is remembered for one second after the imagined queue was last full, and ends by time alone: no
/// call but the next message is needed (a limiter elsewhere waited for a timer call).
#[test]
fn load_ends_one_second_after_the_flood() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let message = garbage(1);
        while rig.passes(v4(1, 1), &message) {}
        for _ in 0..1000 {
            rig.skip(millis(1));
            assert!(!rig.passes(v4(1, 1), &message), "the flood goes on");
        }
        rig.skip(millis(999));
        assert!(!rig.passes(v4(1, 1), &message), "still");
        rig.skip(millis(1));
        let (initiation, _) = rig.initiation();
        assert_eq!(rig.give(&initiation), Ok(Got::Control(Control::Initiation)));
    });
}

/// A clock that starts at zero is not under load in its first second (the kernel once was, after
/// boot).
#[test]
fn a_clock_at_zero_is_not_under_load() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        rig.now = Instant::from_nanos(0);
        if let Node::Interface(interface, _) = &rig.node {
            assert!(!interface.is_under_load(rig.now));
        }
        let (initiation, _) = rig.initiation();
        assert!(rig.give(&initiation).is_ok());
    });
}

/// The caller can decide, before there is a key as well as after.
#[test]
fn the_caller_decides_about_load() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        rig.node.set_load(Load::Normal);
        let message = garbage(1);
        for _ in 0..2000 {
            assert!(rig.passes(v4(1, 1), &message));
        }
        rig.node.set_load(Load::UnderLoad);
        assert!(!rig.passes(v4(1, 1), &message));
        let key = PrivateKey::from_bytes([4; 32]);
        rig.node.set_private_key(&key).unwrap();
        rig.puppet.remote = *key.public_key().as_bytes();
        let (initiation, _) = rig.initiation();
        assert_eq!(rig.give(&initiation), Err(Rejected::CookieRequired));
    });
    let now = Instant::from_nanos(0);
    let mut interface = Interface::<SocketAddr>::new(None, now);
    interface.set_load(Load::UnderLoad);
    interface.set_private_key(Some(&BOB.private_key())).unwrap();
    assert!(interface.is_under_load(now));
}

/// An attacker sends 2000 messages a second from one address. An honest peer is let in with its
/// second attempt, since the first brings it a cookie. (One global counter put everybody into cookie
/// mode, and cookies did not help there.)
#[test]
fn an_honest_peer_needs_two_attempts_in_a_flood() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let message = garbage(1);
        let flood = |rig: &mut Rig, ms: u32| {
            let mut spent = 0;
            let mut replies = Vec::new();
            for _ in 0..ms {
                for _ in 0..2 {
                    spent += u32::from(rig.passes(v4(1, 1), &message));
                    replies.extend(rig.transmits());
                }
                rig.skip(millis(1));
            }
            assert!(replies.iter().all(|(_, reply)| reply.len() == 64));
            spent
        };
        flood(&mut rig, 2000);
        let (first, _) = rig.initiation();
        assert_eq!(rig.give(&first), Err(Rejected::CookieRequired));
        let reply = rig.only();
        let index = index_at(&first, 4);
        rig.puppet.read_cookie(&reply, index, macs(&first).1);
        assert_eq!(flood(&mut rig, 5000), 0, "no multiplication for the flood");
        let mut session = rig.responds();
        assert!(rig.give(&session.seal(&[])).is_ok());
    });
}

/// The same when the attacker proves its own address and goes on: what it can spend is its own
/// budget (a global one was spent by the attacker).
#[test]
fn a_proven_attacker_does_not_spend_the_budget_of_others() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        rig.node.set_load(Load::UnderLoad);
        let attacker = v4(66, 666);
        rig.obtain_cookie(attacker);
        let cookie = rig.puppet.cookie.take();
        let mut proven = Puppet::of(ALICE);
        proven.cookie = cookie;
        let mut message = garbage(1);
        proven.sign(&mut message);
        let spend = |rig: &mut Rig| {
            let passed = (0..30).filter(|_| rig.passes(attacker, &message)).count();
            rig.skip(millis(25));
            passed
        };
        let total: usize = (0..40).map(|_| spend(&mut rig)).sum();
        assert!((20..=25).contains(&total), "{total} in a second");

        rig.obtain_cookie(ALICE.addr());
        while rig.passes(attacker, &message) {}
        let (initiation, _) = rig.initiation();
        assert_eq!(rig.give(&initiation), Ok(Got::Control(Control::Initiation)));
    });
}

/// 100,000 forged sources, of IPv4 and IPv6, in one second: a bounded number of multiplications and of
/// cookie replies, and no memory for any of them.
#[test]
fn forged_sources_cost_a_bounded_amount() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let message = garbage(1);
        let mut passed = 0;
        let mut most = 0;
        for n in 0..100_000_u32 {
            let source = if n % 2 == 0 {
                v4(n, 1)
            } else {
                let ip = Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(n) << 64);
                SocketAddr::new(IpAddr::V6(ip), 1)
            };
            passed += u32::from(rig.passes(source, &message));
            if n % 1000 == 999 {
                rig.skip(millis(10));
            }
            if n % 10_000 == 9_999 {
                most = most.max(rig.sent().len());
            }
        }
        assert!(passed < 512 + 1000, "{passed} multiplications");
        let bound = match kind {
            NodeKind::Tunnel => 1,
            NodeKind::Interface => 256,
        };
        assert_eq!(most, bound, "cookie replies that wait");
        rig.sent();
        let shown = rig.state().len();
        assert!(shown < 10_000, "what there is to show: {shown} bytes");
    });
}

/// A cookie is bound to address and port, by family; a mapped address is the address that it maps.
#[test]
fn a_cookie_is_good_for_one_address_and_port() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        rig.node.set_load(Load::UnderLoad);
        rig.obtain_cookie("192.0.2.1:51820".parse().unwrap());
        let (initiation, _) = rig.initiation();
        for elsewhere in [
            "192.0.2.1:51821",
            "192.0.2.2:51820",
            "[2001:db8::1]:51820",
            "[::192.0.2.1]:51820",
            "192.0.2.1:0",
        ] {
            let source = elsewhere.parse().unwrap();
            let verdict = rig.give_from(source, &initiation);
            assert_eq!(verdict, Err(Rejected::CookieRequired), "{elsewhere}");
        }
        rig.sent();
        let mapped = "[::ffff:192.0.2.1]:51820".parse().unwrap();
        assert!(rig.give_from(mapped, &initiation).is_ok());
    });
}

/// Before the node ever made a cookie, none is valid: not of a zero secret, not a zero one.
#[test]
fn there_is_no_default_cookie() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        rig.node.set_load(Load::UnderLoad);
        let source = [&ALICE.addr().port().to_be_bytes()[..]].concat();
        for input in [
            [&[192, 0, 2, 1], &source[..]].concat(),
            [&[4, 192, 0, 2, 1], &source[..]].concat(),
            vec![],
        ] {
            for key in [&[0; 32][..], &[0; 16]] {
                rig.puppet.cookie = Some(crate::puppet::mac(key, &input));
                let (initiation, _) = rig.initiation();
                assert_eq!(rig.give(&initiation), Err(Rejected::CookieRequired));
            }
        }
        rig.puppet.cookie = Some([0; 16]);
        let (initiation, _) = rig.initiation();
        assert_eq!(rig.give(&initiation), Err(Rejected::CookieRequired));
    });
}

/// A secret makes cookies for 120 s, and they are believed until it is 240 s old.
#[test]
fn a_cookie_outlives_its_secret_and_ends() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        rig.node.set_load(Load::UnderLoad);
        rig.obtain_cookie(ALICE.addr());
        let born = rig.now;
        for (age, good) in [
            (1_000, true),
            (119_999, true),
            (239_999, true),
            (240_000, false),
        ] {
            rig.skip(millis(age) - (rig.now - born));
            let (initiation, _) = rig.initiation();
            let verdict = rig.give(&initiation);
            assert_eq!(verdict.is_ok(), good, "{age} ms: {verdict:?}");
            rig.sent();
            // Somebody else asks, so that the secret is replaced when it is due.
            let _ = rig.give_from(v4(5, 5), &garbage(3));
            rig.sent();
        }
    });
}

/// A proven source has 20 messages a second and 5 at once; after 2 s of silence it has 5 again, no
/// more and no less (a bucket that looked at the sub-second part only had none).
#[test]
fn a_proven_source_has_the_rate_of_the_kernel() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        rig.node.set_load(Load::UnderLoad);
        rig.obtain_cookie(ALICE.addr());
        let mut message = garbage(1);
        rig.puppet.sign(&mut message);
        for (pause, allowed) in [
            (0, 5),
            (50, 1),
            (49, 0),
            (1, 1),
            (100, 2),
            (2000, 5),
            (1999, 5),
        ] {
            rig.skip(millis(pause));
            for _ in 0..allowed {
                assert!(rig.passes(ALICE.addr(), &message), "after {pause} ms");
            }
            let verdict = rig.give(&message);
            assert_eq!(verdict, Err(Rejected::RateLimited), "after {pause} ms");
            assert!(rig.sent().is_empty(), "and it is not answered");
        }
    });
}

/// Addresses of one IPv6 /64 share a bucket, each with a cookie of its own.
#[test]
fn an_ipv6_network_shares_a_rate() {
    let mut rig = Rig::new(NodeKind::Interface);
    rig.node.set_load(Load::UnderLoad);
    let mut passed = |source: &str| {
        let source = source.parse().unwrap();
        rig.obtain_cookie(source);
        let mut message = garbage(1);
        rig.puppet.sign(&mut message);
        rig.passes(source, &message)
    };
    for n in 0..5 {
        assert!(passed(&format!("[2001:db8::{n}]:1")));
    }
    assert!(!passed("[2001:db8::abcd:ef01:2345:6789]:1"), "the same /64");
    assert!(passed("[2001:db8:0:1::1]:1"), "the next /64");
    assert!(passed("[2002:db8::1]:1"));
    assert!(passed("192.0.2.77:1"));
}

/// Nobody asked for this cookie, or it was taken before: nothing changes.
#[test]
fn unasked_and_repeated_cookies_change_nothing() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let reply = rig.puppet.cookie_reply(1, [0; 16], [1; 16]);
        let reason = rig.refuses(ALICE.addr(), &reply);
        assert_eq!(reason, Rejected::UnknownReceiver);
        let asked = rig.asks();
        let (index, mac1) = (index_at(&asked, 4), macs(&asked).1);
        for (wrong, mac1) in [("mac1", [0; 16]), ("mac1 again", [9; 16])] {
            let reply = rig.puppet.cookie_reply(index, mac1, [1; 16]);
            let reason = rig.refuses(ALICE.addr(), &reply);
            assert_eq!(reason, Rejected::UnexpectedCookie, "{wrong}");
        }
        let reply = rig.puppet.cookie_reply(index, mac1, [1; 16]);
        assert_eq!(rig.give(&reply), Ok(Got::Control(Control::Cookie)));
        let again = rig.puppet.cookie_reply(index, mac1, [2; 16]);
        for second in [reply, again] {
            let reason = rig.refuses(ALICE.addr(), &second);
            assert_eq!(reason, Rejected::UnexpectedCookie);
        }
    });
}

/// A cookie is no proof of anything: it moves no endpoint and no timer, and counts as no traffic
/// (elsewhere it cancelled the handshake that silence should start).
#[test]
fn a_cookie_moves_neither_endpoint_nor_timers() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        rig.as_initiator();
        rig.pass(secs(6));
        rig.seal(&to_puppet(60)).unwrap();
        let asked = rig.asks();
        let (deadline, stats) = (rig.node.poll_timeout(), rig.node.stats());
        let reply = rig
            .puppet
            .cookie_reply(index_at(&asked, 4), macs(&asked).1, [1; 16]);
        let elsewhere = "203.0.113.200:1".parse().unwrap();
        let verdict = rig.give_from(elsewhere, &reply);
        assert_eq!(verdict, Ok(Got::Control(Control::Cookie)));
        assert_eq!(rig.node.endpoint(), Some(ALICE.addr()));
        assert_eq!(rig.node.poll_timeout(), deadline);
        assert_eq!(rig.node.stats(), stats);
        assert!(rig.sent().is_empty());
        assert!(
            rig.events
                .iter()
                .all(|e| *e == quietwire::Event::Established)
        );
        // The handshake is retried when it would have been, now with a mac2.
        let again = rig.pass(secs(6));
        assert_eq!(again.len(), 1);
        assert_ne!(macs(&again[0]).2, [0; 16]);
    });
}

/// The cookie is used for 115 s: five less than its secret may live.
#[test]
fn a_cookie_is_used_for_115_s() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let asked = rig.asks();
        let reply = rig
            .puppet
            .cookie_reply(index_at(&asked, 4), macs(&asked).1, [1; 16]);
        rig.give(&reply).unwrap();
        let taken = rig.now;
        for (age, used) in [(6_000, true), (114_999, true), (115_000, false)] {
            rig.skip(millis(age) - (rig.now - taken));
            // Erasing also forgets when the last initiation was sent.
            rig.node.erase(rig.now);
            let asked = rig.asks();
            assert_eq!(macs(&asked).2 != [0; 16], used, "{age} ms");
        }
    });
}

/// Responses need cookies under load as initiations do (the kernel treats them alike), and a response
/// that was refused for that can still come.
#[test]
fn responses_prove_their_address_too() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let asked = rig.asks();
        rig.node.set_load(Load::UnderLoad);
        let heard = rig.puppet.hear(&asked);
        let (mut response, session) = rig.puppet.respond(heard);
        assert_eq!(rig.give(&response), Err(Rejected::CookieRequired));
        let reply = rig.only();
        let index = index_at(&response, 4);
        rig.puppet.read_cookie(&reply, index, macs(&response).1);
        rig.puppet.sign(&mut response);
        assert_eq!(rig.give(&response), Ok(Got::Control(Control::Response)));
        assert_eq!(session.open(&rig.only()).1, NOTHING);
    });
}

/// A node that reads a whole batch of a flood before it is polled still answers its peer: a tunnel
/// keeps one reply and prefers that one, an interface keeps 256.
#[test]
fn the_peer_gets_its_cookie_amid_a_batch() {
    for_both(|kind| {
        for before in [0, 100] {
            let mut rig = Rig::new(kind);
            rig.node.set_load(Load::UnderLoad);
            let (initiation, _) = rig.initiation();
            for n in 0..before {
                let _ = rig.give_from(v4(n, 1), &garbage(n));
            }
            assert_eq!(rig.give(&initiation), Err(Rejected::CookieRequired));
            for n in 0..100 {
                let _ = rig.give_from(v4(n, 2), &garbage(n));
            }
            let mut sent = rig.transmits();
            sent.retain(|(to, _)| *to == ALICE.addr());
            assert_eq!(sent.len(), 1, "after {before}");
            let index = index_at(&initiation, 4);
            rig.puppet
                .read_cookie(&sent[0].1, index, macs(&initiation).1);
            rig.responds();
        }
    });
}

/// All cookie replies of an interface have nonces of their own.
#[test]
fn nonces_of_cookie_replies_differ() {
    let mut rig = Rig::new(NodeKind::Interface);
    rig.node.set_load(Load::UnderLoad);
    let message = garbage(1);
    let mut seen = BTreeSet::new();
    for n in 0..5_000 {
        let _ = rig.give_from(v4(n, 1), &message);
        let reply = rig.only();
        assert!(seen.insert(<[u8; 24]>::try_from(&reply[8..32]).unwrap()));
    }
}

/// Each reply goes to whom it answers, in order, though peers owe other messages at the same time.
#[test]
fn replies_go_where_they_belong() {
    let now = Instant::from_millis(5);
    let mut interface = Interface::new(Some(&BOB.private_key()), now);
    let peer = PeerConfig::new(ALICE.public_key()).endpoint(ALICE.addr());
    let id = interface.add_peer(now, &peer).unwrap();
    interface.peer_mut(id).unwrap().initiate(now);
    let mut rig = Rig::new(NodeKind::Interface);
    rig.node = Node::Interface(Box::new(interface), id);
    rig.node.set_load(Load::UnderLoad);
    for n in 0..10 {
        let _ = rig.give_from(v4(n, 7), &garbage(n));
    }
    let sent = rig.transmits();
    for n in 0..10 {
        let (to, reply) = &sent[n as usize];
        assert_eq!((*to, index_at(reply, 4)), (v4(n, 7), n));
    }
    assert_eq!((sent[10].0, sent[10].1[0]), (ALICE.addr(), 1));
    assert_eq!(sent.len(), 11);
}
