//! What only counters at their limits and a look inside can show.

use core::net::SocketAddr;
use core::time::Duration;

use super::*;
use crate::event::Env;
use crate::handshake::{HandshakeJob, Identity, Task};
use crate::job::{Outgoing, SealJob};
use crate::noise::TransportKeys;
use crate::session::{Inline, Role, Session};
use crate::wire::Kind;
use std::string::String;
use std::vec;
use std::vec::Vec;

type TestPeer = Peer<SocketAddr, Inline>;

/// From the white paper, section 6.1, written again.
const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - 8192;

const OURS: u32 = 11;
const THEIRS: u32 = 22;

fn addr(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 51820))
}

fn at(secs: u64) -> Instant {
    Instant::from_millis(1000 * secs)
}

fn peer() -> TestPeer {
    Peer::new([9; 32], Secret::zeroed(), Some(addr(1)), 1420)
}

fn keys(send: u8, receive: u8) -> TransportKeys {
    TransportKeys {
        send: Secret::new([send; 32]),
        receive: Secret::new([receive; 32]),
    }
}

/// A peer that has initiated a session at 1000 s, as if the handshake had just ended.
fn established() -> TestPeer {
    let mut peer = peer();
    peer.keyring.add_initiated(Session::new(
        Role::Initiator,
        at(1000),
        OURS,
        THEIRS,
        keys(1, 2),
    ));
    peer
}

/// The other end of [`established`].
fn counterpart() -> TestPeer {
    let mut peer = peer();
    peer.keyring.add_initiated(Session::new(
        Role::Initiator,
        at(1000),
        THEIRS,
        OURS,
        keys(2, 1),
    ));
    peer
}

fn packet() -> Vec<u8> {
    let mut packet = vec![0; 32];
    packet[0] = 0x45;
    packet[3] = 32;
    packet
}

/// Seals a packet at 1000 s and gives the whole datagram.
fn seal(peer: &mut TestPeer) -> Result<Vec<u8>, SealError> {
    seal_at(peer, at(1000))
}

fn seal_at(peer: &mut TestPeer, now: Instant) -> Result<Vec<u8>, SealError> {
    let packet = packet();
    let mut outgoing = Outgoing::apart(&packet, vec![0; 64]);
    let (place, _) = outgoing.look()?;
    let draft = peer.begin_seal(now, &Timings::default(), place)?;
    let (key, to) = peer.sender().unwrap();
    let mut job = SealJob::new(key, draft, outgoing, crate::event::PeerId::default(), to);
    job.run();
    Ok(job.datagram().to_vec())
}

fn open(peer: &mut TestPeer, datagram: &[u8]) -> Result<usize, Rejected> {
    let header = DataHeader::parse(datagram.first_chunk().unwrap());
    let timings = Timings::default();
    let session = peer.begin_open(at(1000), &timings, header)?;
    let mut job = OpenJob::new(
        session,
        header,
        crate::event::PeerId::default(),
        addr(7),
        datagram.to_vec(),
    );
    peer.finish_open(at(1000), &timings, &mut job, &|_| true)
}

fn counter_of(datagram: &[u8]) -> u64 {
    assert_eq!(Kind::of(datagram), Ok(Kind::Data));
    DataHeader::parse(datagram.first_chunk().unwrap()).counter
}

fn set_counter(peer: &mut TestPeer, counter: u64) {
    peer.keyring
        .current_mut()
        .unwrap()
        .set_next_counter(counter);
}

/// White paper, section 6.2: after 2^60 messages a new handshake is asked for, not before, and
/// sending goes on meanwhile.
#[test]
fn many_messages_ask_for_a_new_session() {
    for (before, asks) in [
        (0, false),
        (REKEY_AFTER_MESSAGES - 2, false),
        (REKEY_AFTER_MESSAGES - 1, false),
        (REKEY_AFTER_MESSAGES, true),
        (REJECT_AFTER_MESSAGES - 2, true),
    ] {
        let mut peer = established();
        set_counter(&mut peer, before);
        assert_eq!(seal(&mut peer).map(|d| counter_of(&d)), Ok(before));
        assert_eq!(peer.owes() == Some(Owed::Initiation), asks, "{before:#x}");
        assert!(seal(&mut peer).is_ok());
    }
}

/// The same by role: a responder asks by count too, as it never does by age.
#[test]
fn responders_count_messages_as_well() {
    let mut peer = peer();
    peer.keyring.add_responded(Session::new(
        Role::Responder,
        at(1000),
        OURS,
        THEIRS,
        keys(1, 2),
    ));
    assert!(peer.keyring.confirm(OURS));
    seal_at(&mut peer, at(1170)).unwrap();
    assert_eq!(peer.owes(), None, "old, but not ours to replace");
    set_counter(&mut peer, REKEY_AFTER_MESSAGES);
    seal_at(&mut peer, at(1170)).unwrap();
    assert_eq!(peer.owes(), Some(Owed::Initiation));
}

/// Keepalives use counters too.
#[test]
fn keepalives_count_and_stop_at_the_limit() {
    let timings = Timings::default();
    let mut peer = established();
    set_counter(&mut peer, REKEY_AFTER_MESSAGES);
    let keepalive = peer.write_keepalive(at(1000), &timings).unwrap();
    assert_eq!(
        counter_of(keepalive.message.as_bytes()),
        REKEY_AFTER_MESSAGES
    );
    assert_eq!(peer.owes(), Some(Owed::Initiation));

    let mut peer = established();
    set_counter(&mut peer, REJECT_AFTER_MESSAGES - 1);
    assert!(peer.write_keepalive(at(1000), &timings).is_some());
    assert!(peer.write_keepalive(at(1000), &timings).is_none());
    assert_eq!(peer.owes(), Some(Owed::Initiation));
}

/// White paper, section 6.2: the last counter is used once; then packets wait for a new session and
/// the counter stands still.
#[test]
fn the_last_counter_is_used_once() {
    let mut peer = established();
    set_counter(&mut peer, REJECT_AFTER_MESSAGES - 1);
    let datagram = seal(&mut peer).unwrap();
    assert_eq!(counter_of(&datagram), REJECT_AFTER_MESSAGES - 1);
    let sent = peer.stats();
    for _ in 0..10 {
        assert_eq!(seal(&mut peer), Err(SealError::NoSession));
        assert!(!peer.is_established(at(1000), &Timings::default()));
    }
    assert_eq!(peer.stats(), sent);
    assert_eq!(peer.owes(), Some(Owed::Initiation));
    // The other end takes it, since it is below the limit.
    assert!(open(&mut counterpart(), &datagram).is_ok());
}

/// boringtun before 0.7.1 counted in a `usize`: on 32-bit machines the nonce came back to zero.
#[test]
fn counters_pass_two_to_the_32() {
    let (mut from, mut to) = (established(), counterpart());
    let start = u64::from(u32::MAX) - 1;
    set_counter(&mut from, start);
    for counter in start..start + 5 {
        let datagram = seal(&mut from).unwrap();
        assert_eq!(counter_of(&datagram), counter);
        assert!(open(&mut to, &datagram).is_ok());
        assert_eq!(open(&mut to, &datagram).unwrap_err(), Rejected::Replayed);
    }
    // Truncated to 32 bits these would be neighbours of what was received.
    set_counter(&mut from, 3);
    let old = seal(&mut from).unwrap();
    assert_eq!(open(&mut to, &old).unwrap_err(), Rejected::Replayed);
}

/// Counters at the end of their range are refused before the cipher is asked, so an authentic
/// datagram of a peer that has gone mad is refused as well.
#[test]
fn counters_at_the_end_are_refused_before_the_cipher() {
    let mut to = counterpart();
    let key = AeadKey::new(Secret::new([1; 32]));
    for counter in [u64::MAX, u64::MAX - 8191, REJECT_AFTER_MESSAGES] {
        let header = DataHeader::new(THEIRS, counter).emit();
        let mut datagram = [&header[..], &[0; 16]].concat();
        key.seal(counter, &[], &mut datagram[16..]);
        assert_eq!(
            open(&mut to, &datagram).unwrap_err(),
            Rejected::SessionExpired
        );
        let forged = [&header[..], &[0; 16]].concat();
        assert_eq!(
            open(&mut to, &forged).unwrap_err(),
            Rejected::SessionExpired
        );
    }
    let counter = REJECT_AFTER_MESSAGES - 1;
    let mut datagram = [&DataHeader::new(THEIRS, counter).emit()[..], &[0; 16]].concat();
    key.seal(counter, &[], &mut datagram[16..]);
    assert!(open(&mut to, &datagram).is_ok());
}

/// At 540 s without a new session no key of any slot remains, nor of a handshake (white paper,
/// section 6.3). lwIP's port never got there, because the session whose age it asked was gone.
#[test]
fn after_540_s_no_key_of_any_kind_remains() {
    let timings = Timings::default();
    let own = Identity::new(&[5; 32]);
    let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
    let mut peer = Peer::<SocketAddr, Inline>::new(
        Identity::new(&[6; 32]).public,
        Secret::zeroed(),
        Some(addr(1)),
        1420,
    );
    for n in 1..=3 {
        let role = if n == 3 {
            Role::Responder
        } else {
            Role::Initiator
        };
        let session = Session::new(role, at(1000), n, n, keys(1, 2));
        match role {
            Role::Initiator => peer.keyring.add_initiated(session),
            Role::Responder => peer.keyring.add_responded(session),
        }
    }
    let spare = Session::new(Role::Initiator, at(1000), 4, 4, keys(1, 2));
    peer.keyring.add_initiated(spare);
    peer.timers.session_derived(at(1000), &timings);

    // An initiation that nobody answers, so that a handshake is outstanding at the end too.
    let mut env = Env::new(&mut rng, Duration::from_secs(1));
    peer.request_initiation(at(1530), &timings);
    let task = peer.begin_initiation(at(1530), &timings, &own, 77, &mut env);
    let mut job = HandshakeJob::new(
        crate::event::PeerId::default(),
        Task::<SocketAddr>::WriteInitiation(task.unwrap()),
    );
    job.run();
    let Task::WriteInitiation(written) = job.task else {
        unreachable!()
    };
    assert!(
        peer.finish_initiation(at(1530), &timings, written)
            .is_some()
    );
    peer.timers.stop(Timer::RetransmitHandshake);

    let everything = [Some(4), Some(3), None, Some(77), None];
    peer.handle_timeout(at(1539), &timings);
    assert_eq!(peer.indices(), everything, "one second early");
    assert_eq!(peer.poll_timeout(), Some(at(1540)));
    peer.handle_timeout(at(1540), &timings);
    assert_eq!(peer.indices(), [None; 5]);
    assert!(matches!(peer.initiator, InitiatorState::Idle));
    let events = core::iter::from_fn(|| peer.pop_event());
    assert!(events.into_iter().any(|e| e == Event::KeysErased));
}

/// What a peer shows of itself has no key in it, in any of the usual notations.
#[test]
fn debug_shows_no_secret() {
    let mut peer = Peer::<SocketAddr, Inline>::new([9; 32], Secret::new([0xa1; 32]), None, 0);
    peer.keyring
        .add_initiated(Session::new(Role::Initiator, at(0), 1, 2, keys(0xb2, 0xc3)));
    peer.set_static_static(StaticStatic::Known(Secret::new([0xd4; 32])));
    let shown: String = std::format!("{peer:?} {peer:#?}");
    for byte in [0xa1_u8, 0xb2, 0xc3, 0xd4] {
        for text in [
            std::format!("{byte}, {byte}"),
            std::format!("{byte:02x}{byte:02x}"),
            std::format!("{byte:02X}{byte:02X}"),
            std::format!("0x{byte:02x}"),
        ] {
            assert!(!shown.contains(&text), "{text} in {shown}");
        }
    }
}
