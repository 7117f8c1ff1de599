//! The replay window against the set of all counters, driven through sealed datagrams.

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeSet;

use quietwire::{Env, Instant, PeerConfig, PrivateKey, PublicKey, Received, Rejected, Tunnel};

use super::input::{Input, Rng};
use super::packet;
use super::puppet::{Keys, Puppet, public};

/// White paper, section 6.1.
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - 8192;

/// The kernel's window: 8192 bits, of which one word of 64 is given up.
const WINDOW: u64 = 8192 - 64;

/// Counters in an order that the input chooses.
pub fn replay_model(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut target, keys) = established();
    let source = address();
    let packet = packet::ipv4(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, 7, 0);
    let (mut seen, mut last) = (BTreeSet::from([0]), 0);
    for _ in 0..512 {
        if input.is_empty() {
            return;
        }
        let counter = next_counter(&mut input, &seen, last);
        last = counter;
        let mut datagram = keys.data(counter, &packet);
        if input.flag() {
            *datagram.last_mut().unwrap() ^= 1;
            let verdict = target.receive(now(), source, &mut datagram).map(drop);
            let expected = if counter < REJECT_AFTER_MESSAGES {
                Rejected::Forged
            } else {
                Rejected::SessionExpired
            };
            assert_eq!(verdict, Err(expected), "a forgery marks nothing");
            continue;
        }
        let greatest = *seen.last().unwrap();
        let expected = if counter >= REJECT_AFTER_MESSAGES {
            Err(Rejected::SessionExpired)
        } else if seen.contains(&counter) || counter.saturating_add(WINDOW) < greatest {
            Err(Rejected::Replayed)
        } else {
            seen.insert(counter);
            Ok(())
        };
        let verdict = target
            .receive(now(), source, &mut datagram)
            .map(|received| {
                assert!(matches!(received, Received::Packet(inner) if inner == packet));
            });
        assert_eq!(verdict, expected, "counter {counter}, greatest {greatest}");
    }
}

/// A counter near the last one, near the window's ends, near the limit, or anywhere.
fn next_counter(input: &mut Input<'_>, seen: &BTreeSet<u64>, last: u64) -> u64 {
    let greatest = *seen.last().unwrap();
    let step = u64::from(input.byte());
    match input.below(8) {
        0 => last.wrapping_add(step),
        1 => last.wrapping_sub(step),
        2 => greatest
            .wrapping_sub(WINDOW)
            .wrapping_add(step)
            .wrapping_sub(128),
        3 => greatest
            .wrapping_add(WINDOW)
            .wrapping_add(step)
            .wrapping_sub(128),
        4 => REJECT_AFTER_MESSAGES.wrapping_add(step).wrapping_sub(200),
        5 => greatest.wrapping_add(u64::from(input.u16())),
        6 => greatest.wrapping_sub(u64::from(input.u16())),
        _ => input.u64() >> (step % 64),
    }
}

/// A tunnel that has confirmed a session with a puppet by counter 0.
pub fn established() -> (Tunnel, Keys) {
    let mut rng = Rng(1);
    let private = rng.array();
    let puppet = Puppet::new(rng.array(), public(&private), [0; 32]);
    let config = PeerConfig::new(PublicKey::from_bytes(puppet.public)).endpoint(address());
    let mut target = Tunnel::new(&PrivateKey::from_bytes(private), &config, now()).unwrap();
    let (mut message, first) = puppet.initiation(rng.array(), 77, [1; 12]);
    puppet.sign(&mut message, None);
    target.receive(now(), address(), &mut message).unwrap();
    let mut env = Env::new(&mut rng, Duration::from_secs(1_700_000_000));
    let response = target.poll_transmit(now(), &mut env).unwrap();
    let keys = puppet
        .read_response(&first, response.message.as_bytes())
        .unwrap();
    target
        .receive(now(), address(), &mut keys.data(0, &[]))
        .unwrap();
    assert!(target.is_established(now()));
    (target, keys)
}

fn now() -> Instant {
    Instant::from_nanos(0)
}

pub fn address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 51820))
}
