//! Every implementation against every other, in both roles.
//!
//! Each test runs over all ordered pairs of [`implementations`] and names every pair that fails. An
//! implementation is also paired with itself, which tells a fault of one from a difference of two.

mod link;

use std::net::SocketAddr;
use std::time::Duration;

use quietwire_peers::packet::ipv4;
use quietwire_peers::tunnel::{STEP, random};
use quietwire_peers::{Config, Load, implementations};

use link::End::{First, Second};
use link::{
    COOKIE_REPLY, INITIATION, Link, RESPONSE, TRANSPORT, accepted, alterations, assert_no_session,
    for_each_pair, kind, mac2, only, refused,
};

#[test]
fn handshakes_and_data_of_every_length() {
    for_each_pair(|pair| {
        let mut link = pair.link();
        link.handshake(First);
        for length in 20..=1420 {
            link.exchange(length);
        }
    });
}

#[test]
fn handshakes_with_a_preshared_key() {
    for_each_pair(|mut pair| {
        let psk = Some(random());
        (pair.first.psk, pair.second.psk) = (psk, psk);
        let mut link = pair.link();
        link.handshake(First);
        link.exchange(100);
        link.handshake(Second);
        link.exchange(1420);
    });
}

#[test]
fn different_preshared_keys_give_no_session() {
    let (one, other) = (Some(random()), Some(random()));
    for (first, second) in [(one, other), (one, None), (None, other)] {
        for_each_pair(|mut pair| {
            (pair.first.psk, pair.second.psk) = (first, second);
            let mut link = pair.link();
            let initiation = link.initiate(First);
            let response = only(&link.deliver(First, &initiation), RESPONSE);
            refused(&link.deliver(Second, &response));
            assert_no_session(&link.first.seal(&ipv4(100, 1)));
            if link.second.name() != SENDS_UNCONFIRMED {
                assert_no_session(&link.second.seal(&ipv4(100, 1)));
            }
        });
    }
}

#[test]
fn a_preshared_key_can_change_between_handshakes() {
    for_each_pair(|mut pair| {
        let psk = Some(random());
        pair.second.psk = psk;
        let mut link = pair.link();
        if !link.first.set_psk(psk) {
            return;
        }
        link.handshake(First);
        link.exchange(100);
        assert!(link.first.set_psk(None));
        link.exchange(100);
        link.advance(STEP);
        let initiation = link.initiate(First);
        let response = only(&link.deliver(First, &initiation), RESPONSE);
        refused(&link.deliver(Second, &response));
        assert!(link.first.set_psk(psk));
        link.handshake(First);
        link.exchange(100);
    });
}

#[test]
fn an_unexpected_static_key_gets_no_response() {
    for_each_pair(|mut pair| {
        pair.second.peer = Config::pair().0.public();
        let mut link = pair.link();
        let initiation = link.initiate(First);
        refused(&link.deliver(First, &initiation));
    });
}

#[test]
fn an_initiation_for_another_key_gets_no_response() {
    for_each_pair(|mut pair| {
        pair.first.peer = Config::pair().0.public();
        let mut link = pair.link();
        let initiation = link.initiate(First);
        refused(&link.deliver(First, &initiation));
    });
}

#[test]
fn data_flows_through_a_dozen_handshakes() {
    for_each_pair(|pair| {
        let mut link = pair.link();
        link.handshake(First);
        for round in 0..12 {
            link.pause();
            let initiator = if round % 3 == 0 { Second } else { First };
            let responder = initiator.other();
            let late = [
                link.seal(First, &ipv4(60, 1)),
                link.seal(Second, &ipv4(60, 2)),
            ];
            let initiation = link.initiate(initiator);
            link.exchange(200);
            let response = only(&link.deliver(initiator, &initiation), RESPONSE);
            link.exchange(200);
            let confirmation = link.deliver(responder, &response);
            accepted(&confirmation);
            // The responder has not heard a word of the new session and stays with the old one.
            link.pass(responder, &ipv4(300, 3));
            if round % 2 == 0 {
                link.deliver_all(initiator, &confirmation.sent);
            }
            // Without a keepalive the first data confirms.
            link.pass(initiator, &ipv4(300, 4));
            link.pass(responder, &ipv4(300, 5));
            for (from, datagram) in [First, Second].into_iter().zip(late) {
                link.arrives(
                    from,
                    &datagram,
                    &ipv4(60, if from == First { 1 } else { 2 }),
                );
            }
        }
    });
}

#[test]
fn crossed_initiations_end_in_a_session() {
    for_each_pair(|pair| {
        let mut link = pair.link();
        let initiations = [link.initiate(First), link.initiate(Second)];
        let mut wire: Vec<_> = [First, Second].into_iter().zip(initiations).collect();
        while let Some((from, datagram)) = wire.pop() {
            // Whether an end gives up its own handshake for the other's is its own affair.
            let replies = link.deliver(from, &datagram).sent;
            wire.extend(replies.into_iter().map(|reply| (from.other(), reply)));
        }
        link.exchange(500);
    });
}

#[test]
fn a_responder_under_load_asks_for_a_cookie() {
    for_each_pair(|mut pair| {
        pair.second.load = Load::Always;
        let mut link = pair.link();
        let initiation = link.initiate(First);
        assert_eq!(mac2(&initiation), [0; 16]);
        let reply = only(&link.deliver(First, &initiation), COOKIE_REPLY);
        accepted(&link.deliver(Second, &reply));
        assert_no_session(&link.first.seal(&ipv4(100, 1)));
        link.advance(STEP);
        let initiation = link.initiate(First);
        assert_ne!(mac2(&initiation), [0; 16]);
        let moved = link
            .second
            .receive(SocketAddr::from(([192, 0, 2, 9], 9)), &initiation);
        only(&moved, COOKIE_REPLY);
        let response = only(&link.deliver(First, &initiation), RESPONSE);
        let confirmation = link.deliver(Second, &response);
        accepted(&confirmation);
        link.deliver_all(First, &confirmation.sent);
        link.exchange(700);
    });
}

#[test]
fn an_initiator_under_load_asks_for_a_cookie() {
    for_each_pair(|mut pair| {
        pair.first.load = Load::Always;
        let mut link = pair.link();
        let initiation = link.initiate(First);
        let response = only(&link.deliver(First, &initiation), RESPONSE);
        assert_eq!(mac2(&response), [0; 16]);
        let reply = only(&link.deliver(Second, &response), COOKIE_REPLY);
        accepted(&link.deliver(First, &reply));
        assert_no_session(&link.first.seal(&ipv4(100, 1)));
        link.advance(STEP);
        let initiation = link.initiate(First);
        let response = only(&link.deliver(First, &initiation), RESPONSE);
        assert_ne!(mac2(&response), [0; 16]);
        let confirmation = link.deliver(Second, &response);
        accepted(&confirmation);
        link.deliver_all(First, &confirmation.sent);
        link.exchange(700);
    });
}

#[test]
fn both_ends_under_load_come_to_a_session() {
    for_each_pair(|mut pair| {
        (pair.first.load, pair.second.load) = (Load::Always, Load::Always);
        let mut link = pair.link();
        for _ in 0..3 {
            link.advance(STEP);
            let initiation = link.initiate(First);
            let mut wire = vec![(First, initiation)];
            while let Some((from, datagram)) = wire.pop() {
                let outcome = link.deliver(from, &datagram);
                accepted(&outcome);
                wire.extend(outcome.sent.into_iter().map(|reply| (from.other(), reply)));
            }
        }
        link.exchange(700);
    });
}

#[test]
fn a_cookie_reply_is_bound_to_its_message() {
    for_each_pair(|mut pair| {
        pair.second.load = Load::Always;
        let mut link = pair.link();
        let initiation = link.initiate(First);
        let stale = only(&link.deliver(First, &initiation), COOKIE_REPLY);
        link.advance(STEP);
        let initiation = link.initiate(First);
        refused(&link.deliver(Second, &stale));
        let mut reply = only(&link.deliver(First, &initiation), COOKIE_REPLY);
        reply[40] ^= 1;
        refused(&link.deliver(Second, &reply));
        reply[40] ^= 1;
        accepted(&link.deliver(Second, &reply));
    });
}

#[test]
fn padded_and_unpadded_data_is_accepted() {
    let mut unpadded = Vec::new();
    for_each_pair(|pair| {
        let mut link = pair.link();
        link.handshake(First);
        for length in 20..60 {
            let packet = ipv4(length, 9);
            let datagram = link.seal(First, &packet);
            let padded = length.next_multiple_of(16) + 32;
            assert!([length + 32, padded].contains(&datagram.len()));
            link.arrives(First, &datagram, &packet);
        }
    });
    for implementation in implementations() {
        let (first, second) = Config::pair();
        let mut link = Link {
            first: (implementation.node)(&first),
            second: (implementation.node)(&second),
        };
        link.handshake(First);
        if link.seal(First, &ipv4(21, 1)).len() == 21 + 32 {
            unpadded.push(implementation.name);
        }
    }
    assert_eq!(
        unpadded,
        ["boringtun"],
        "this test needs one that does not pad"
    );
}

#[test]
fn replayed_messages_are_refused() {
    for_each_pair(|pair| {
        let mut link = pair.link();
        let initiation = link.initiate(First);
        let response = only(&link.deliver(First, &initiation), RESPONSE);
        accepted(&link.deliver(Second, &response));
        refused(&link.deliver(First, &initiation));
        refused(&link.deliver(Second, &response));
        let packets: Vec<_> = (0..200).map(|salt| ipv4(100, salt)).collect();
        let mut datagrams: Vec<_> = packets
            .iter()
            .map(|packet| link.seal(First, packet))
            .collect();
        // Late, but not twice.
        datagrams.reverse();
        for (datagram, packet) in datagrams.iter().zip(packets.iter().rev()) {
            link.arrives(First, datagram, packet);
        }
        for datagram in &datagrams {
            refused(&link.deliver(First, datagram));
        }
    });
}

#[test]
fn altered_messages_are_refused() {
    for_each_pair(|pair| {
        let mut link = pair.link();
        let initiation = link.initiate(First);
        for altered in alterations(&initiation, INITIATION.1 - 16) {
            refused(&link.deliver(First, &altered));
        }
        let response = only(&link.deliver(First, &initiation), RESPONSE);
        for altered in alterations(&response, RESPONSE.1 - 16) {
            refused(&link.deliver(Second, &altered));
        }
        accepted(&link.deliver(Second, &response));
        let packet = ipv4(100, 1);
        let datagram = link.seal(First, &packet);
        for altered in alterations(&datagram, datagram.len()) {
            if altered[1..4] == [0; 3] || link.second.name() != IGNORES_RESERVED {
                refused(&link.deliver(First, &altered));
            }
        }
        link.arrives(First, &datagram, &packet);
    });
}

#[test]
fn an_unanswered_initiation_is_repeated() {
    for_each_pair(|pair| {
        let mut link = pair.link();
        if !link.first.advance(Duration::ZERO) {
            return;
        }
        link.initiate(First);
        let (waited, initiation) = link.wait_for_initiation(Duration::from_secs(6));
        assert!(waited >= Duration::from_secs(5), "{waited:?}");
        link.finish(First, &initiation);
        link.exchange(100);
    });
}

#[test]
fn an_old_session_is_renewed_by_sending() {
    for_each_pair(|pair| {
        let mut link = pair.link();
        if !link.first.advance(Duration::ZERO) {
            return;
        }
        link.handshake(First);
        for _ in 0..11 {
            link.advance(Duration::from_secs(10));
            link.exchange(100);
            let due = link.first.timers();
            assert!(
                due.sent.iter().all(|sent| kind(sent) == TRANSPORT),
                "{due:?}"
            );
        }
        link.advance(Duration::from_secs(11));
        let sent = link.first.seal(&ipv4(100, 1)).sent;
        let (data, more): (Vec<_>, Vec<_>) = sent
            .into_iter()
            .partition(|datagram| kind(datagram) == TRANSPORT);
        link.deliver_all(First, &data);
        let initiation = more
            .into_iter()
            .next()
            .unwrap_or_else(|| link.wait_for_initiation(Duration::from_secs(1)).1);
        link.finish(First, &initiation);
        link.exchange(100);
    });
}

/// As a responder without an older session it uses the new one before the initiator confirmed it.
const SENDS_UNCONFIRMED: &str = "gotatun";

/// It does not look at the reserved bytes of a transport message, which no mac covers.
const IGNORES_RESERVED: &str = "gotatun";
