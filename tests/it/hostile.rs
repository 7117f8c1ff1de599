//! Input and callers that mean harm: every bit flipped, every length, jobs out of order, and any
//! method at any time.

use std::net::SocketAddr;

use proptest::prelude::*;
use quietwire::rand_core::{TryCryptoRng, TryRng};
use quietwire::{
    Control, Env, Event, HandshakeJob, HandshakeStep, Instant, Interface, Load, OpenJob, Outgoing,
    PeerConfig, PeerId, PresharedKey, PrivateKey, PublicKey, Received, Rejected, SealJob, Tunnel,
};

use crate::puppet::{
    ALICE, BOB, Got, Rig, Session, for_both, index_at, ipv4, on_node, to_node, to_puppet,
};
use crate::support::{Node, NodeKind, SeededRng, millis, secs};

const X: &str = "203.0.113.66:66";

fn x() -> SocketAddr {
    X.parse().unwrap()
}

/// One genuine message of each kind that a node would accept right now.
struct Genuine {
    rig: Rig,
    initiation: Vec<u8>,
    response: Vec<u8>,
    cookie: Vec<u8>,
    data: Vec<u8>,
    session: Session,
}

impl Genuine {
    fn new(kind: NodeKind) -> Self {
        let mut rig = Rig::new(kind);
        let mut session = rig.as_responder();
        rig.skip(secs(10));
        let asked = rig.asks();
        let heard = rig.puppet.hear(&asked);
        let (response, _) = rig.puppet.respond(heard);
        let mac1 = crate::puppet::macs(&asked).1;
        let cookie = rig.puppet.cookie_reply(index_at(&asked, 4), mac1, [5; 16]);
        let (initiation, _) = rig.initiation();
        let data = session.seal(&to_node(64));
        Self {
            rig,
            initiation,
            response,
            cookie,
            data,
            session,
        }
    }

    fn all(&self) -> [Vec<u8>; 4] {
        [
            self.initiation.clone(),
            self.response.clone(),
            self.cookie.clone(),
            self.data.clone(),
        ]
    }

    /// All four are still accepted: whatever happened before left no trace.
    fn accepts_all(&mut self) {
        self.rig.skip(secs(2));
        let session = &mut self.session;
        assert_eq!(
            self.rig.give(&self.cookie),
            Ok(Got::Control(Control::Cookie))
        );
        assert_eq!(self.rig.give(&self.data), Ok(Got::Packet(to_node(64))));
        assert_eq!(
            self.rig.give(&self.initiation),
            Ok(Got::Control(Control::Initiation))
        );
        assert!(self.rig.give(&session.seal(&[])).is_ok());
        assert_eq!(
            self.rig.give(&self.response),
            Ok(Got::Control(Control::Response))
        );
    }

    fn refuses(&mut self, datagram: &[u8]) -> Rejected {
        // Slow enough for the measure of load.
        self.rig.now = self.rig.now + millis(2);
        self.rig.refuses(x(), datagram)
    }
}

/// Any single bit of any message changed: refused, and no state changes. Only mac2 is nobody's
/// business while there is no load.
#[test]
fn every_bit_of_every_message_counts() {
    for_both(|kind| {
        let mut genuine = Genuine::new(kind);
        for (n, message) in genuine.all().iter().enumerate() {
            let judged = if n < 2 {
                message.len() - 16
            } else {
                message.len()
            };
            for bit in 0..8 * judged {
                let mut flipped = message.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let reason = genuine.refuses(&flipped);
                let expected = match (n, bit / 8) {
                    // Another type is another length or no type at all.
                    (_, 0..4) => [Rejected::UnknownType, Rejected::WrongLength].as_slice(),
                    (0 | 1, _) => &[Rejected::WrongMac1],
                    (_, 4..8) => &[Rejected::UnknownReceiver],
                    (2, _) => &[Rejected::UnexpectedCookie],
                    _ => &[Rejected::Forged],
                };
                assert!(expected.contains(&reason), "{n} {bit}: {reason:?}");
            }
        }
        genuine.accepts_all();
    });
}

/// The same by somebody who knows our public key, so that mac1 is right: all that is behind it is
/// authenticated too, but for the sender's index.
#[test]
fn every_bit_behind_mac1_counts() {
    let mut genuine = Genuine::new(NodeKind::Interface);
    // The first one makes the node remember the static-static secret.
    let [initiation, response, ..] = genuine.all();
    for (message, fields) in [(initiation, 8..116), (response, 8..60)] {
        for bit in 8 * fields.start..8 * fields.end {
            let mut flipped = message.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            genuine.rig.puppet.sign(&mut flipped);
            let reason = genuine.refuses(&flipped);
            let expected = match (message.len(), bit / 8) {
                (92, 8..12) => Rejected::UnknownReceiver,
                _ => Rejected::Forged,
            };
            assert_eq!(reason, expected, "{} {bit}", message.len());
        }
    }
    genuine.accepts_all();
}

/// Under load every bit of mac2 counts as well.
#[test]
fn every_bit_of_mac2_counts_under_load() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        rig.node.set_load(Load::UnderLoad);
        let (initiation, _) = rig.initiation();
        assert_eq!(rig.give(&initiation), Err(Rejected::CookieRequired));
        let reply = rig.only();
        let mac1 = crate::puppet::macs(&initiation).1;
        rig.puppet
            .read_cookie(&reply, index_at(&initiation, 4), mac1);
        let (initiation, _) = rig.initiation();
        for bit in 0..128 {
            let mut flipped = initiation.clone();
            flipped[132 + bit / 8] ^= 1 << (bit % 8);
            assert_eq!(rig.give(&flipped), Err(Rejected::CookieRequired));
            rig.sent();
        }
        assert!(rig.give(&initiation).is_ok());
    });
}

/// Every prefix of every message, and every message with more behind it.
#[test]
fn every_other_length_is_refused() {
    for_both(|kind| {
        let mut genuine = Genuine::new(kind);
        for message in genuine.all() {
            for len in 0..message.len() {
                let reason = genuine.refuses(&message[..len]);
                let expected = match (message[0], len) {
                    (4, 32..) => Rejected::Forged,
                    _ => Rejected::WrongLength,
                };
                assert_eq!(reason, expected, "type {} of {len}", message[0]);
            }
            for more in 1..80 {
                for byte in [0, 4, 0xff] {
                    let longer = [&message[..], &vec![byte; more]].concat();
                    let reason = genuine.refuses(&longer);
                    let expected = match message[0] {
                        4 => Rejected::Forged,
                        _ => Rejected::WrongLength,
                    };
                    assert_eq!(reason, expected);
                }
            }
        }
        genuine.accepts_all();
    });
}

/// Every message with every other type in front, reserved bytes included.
#[test]
fn every_other_type_is_refused() {
    for_both(|kind| {
        let mut genuine = Genuine::new(kind);
        for message in genuine.all() {
            let own = u32::from(message[0]);
            let types = (0..=300).chain([0x0100_0000 | own, 0x0001_0000 | own, 0x0100 | own]);
            for word in types.chain([u32::MAX, own << 8, own << 24]) {
                if word == own {
                    continue;
                }
                let mut typed = message.clone();
                typed[..4].copy_from_slice(&word.to_le_bytes());
                let reason = genuine.refuses(&typed);
                let expected = match word {
                    1..=3 => Rejected::WrongLength,
                    4 => Rejected::UnknownReceiver,
                    _ => Rejected::UnknownType,
                };
                assert_eq!(reason, expected, "{own} as {word:#x}");
            }
        }
        genuine.accepts_all();
    });
}

/// The longest datagram that UDP can hand over, an empty one, and all in between that are of no
/// type, at every entry point (an oversized one once killed a receiver).
#[test]
fn oversized_and_empty_input_at_every_entry() {
    for_both(|kind| {
        let mut genuine = Genuine::new(kind);
        for first in [0, 1, 2, 3, 4, 5, 255] {
            let mut long = vec![0xaa; 65_535];
            long[..4].copy_from_slice(&[first, 0, 0, 0]);
            genuine.refuses(&long);
            long[4..8].copy_from_slice(&genuine.session.remote.to_le_bytes());
            genuine.refuses(&long);
            let (node, now) = (&mut genuine.rig.node, genuine.rig.now);
            on_node!(node, node => {
                assert!(node.begin_handshake(now, x(), &long).is_err());
                assert!(node.begin_handshake(now, x(), &[]).is_err());
                match node.begin_open(now, x(), long.clone()) {
                    Ok(mut job) => {
                        job.run();
                        let refused = node.finish_open(now, job).unwrap_err();
                        assert_eq!(refused.reason, Rejected::Forged);
                        assert_eq!(refused.datagram.len(), 65_535);
                    }
                    Err(refused) => assert_eq!(refused.datagram, long),
                }
                assert!(node.begin_open(now, x(), Vec::new()).is_err());
                assert!(node.receive(now, x(), &mut []).is_err());
                assert!(node.seal_into(now, &long, &mut []).is_err());
                assert!(node.seal_into(now, &[], &mut long).is_err());
                assert!(node.seal(now, &mut [], 0..0).is_err());
                let outgoing = Outgoing::in_place(long.clone(), 0..65_535);
                assert!(node.begin_seal(now, outgoing).is_err());
                let mut own_kind = long.clone();
                own_kind[0] = 4;
                assert!(node.begin_handshake(now, x(), &own_kind[..100]).is_err());
            });
            if let Node::Interface(interface, _) = node {
                let mut results = Vec::new();
                let batch = [vec![], long.clone(), vec![4], vec![first; 32]];
                interface.receive_batch(now, batch.map(|d| (x(), d)), &mut results);
                assert!(results.iter().all(Result::is_err) && results.len() == 4);
            }
        }
        genuine.accepts_all();
    });
}

/// Jobs and nodes may be moved to other threads.
#[test]
fn everything_is_send() {
    fn is_send<T: Send>() {}
    is_send::<SealJob<'static, Vec<u8>>>();
    is_send::<SealJob<'static, &'static mut [u8]>>();
    is_send::<OpenJob<Vec<u8>>>();
    is_send::<OpenJob<&'static mut [u8]>>();
    is_send::<HandshakeJob>();
    is_send::<HandshakeStep>();
    is_send::<Interface>();
    is_send::<Tunnel>();
    is_send::<Event>();
}

/// And they are: a whole exchange with every job on a thread of its own.
#[test]
fn jobs_run_on_other_threads() {
    let mut rig = Rig::new(NodeKind::Interface);
    let (now, from) = (rig.now, ALICE.addr());
    let (initiation, asked) = rig.initiation();
    let elsewhere = |mut job: HandshakeJob| {
        std::thread::spawn(move || {
            job.run();
            job
        })
        .join()
        .unwrap()
    };
    let mut step = on_node!(&mut rig.node, node => node.begin_handshake(now, from, &initiation));
    let mut rounds = 0;
    while let Ok(HandshakeStep::Run(job)) = step {
        rounds += 1;
        let job = elsewhere(job);
        step = on_node!(&mut rig.node, node => node.finish_handshake(now, job));
    }
    assert_eq!(rounds, 2, "a peer met for the first time");
    assert!(matches!(
        step,
        Ok(HandshakeStep::Received(_, Control::Initiation))
    ));
    let mut env = Env::new(&mut rig.rng, rig.unix);
    let job = on_node!(&mut rig.node, node => node.poll_handshake(now, &mut env)).unwrap();
    let job = elsewhere(job);
    let step = on_node!(&mut rig.node, node => node.finish_handshake(now, job));
    let Ok(HandshakeStep::Transmit(response)) = step else {
        panic!("{step:?}");
    };
    let mut session = rig.puppet.read_response(asked, response.message.as_bytes());
    let datagram = session.seal(&to_node(64));
    let job = on_node!(&mut rig.node, node => node.begin_open(now, from, datagram)).unwrap();
    let job = std::thread::spawn(move || {
        let mut job = job;
        job.run();
        job
    });
    let job = job.join().unwrap();
    let mut opened = on_node!(&mut rig.node, node => node.finish_open(now, job)).unwrap();
    assert_eq!(opened.packet(), to_node(64));
}

/// What the node owes next, as a job.
fn owed(rig: &mut Rig) -> Option<HandshakeJob> {
    let mut env = Env::new(&mut rig.rng, rig.unix);
    on_node!(&mut rig.node, node => node.poll_handshake(rig.now, &mut env))
}

fn finish(rig: &mut Rig, job: HandshakeJob) -> Result<HandshakeStep, Rejected> {
    let now = rig.now;
    on_node!(&mut rig.node, node => node.finish_handshake(now, job))
}

/// An initiation or response whose job is lost is like one that the network lost: it is made anew.
#[test]
fn a_lost_handshake_job_is_made_good() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        rig.node.initiate(rig.now);
        drop(owed(&mut rig).unwrap());
        assert!(owed(&mut rig).is_none());
        let again = rig.pass(secs(6));
        assert_eq!(again.len(), 1);
        assert_eq!(again[0][0], 1);

        let mut rig = Rig::new(kind);
        let (initiation, _) = rig.initiation();
        rig.give(&initiation).unwrap();
        drop(owed(&mut rig).unwrap());
        assert!(rig.sent().is_empty());
        // The peer repeats, as it does when no response comes. (A timestamp that was committed
        // before the answer could be made once locked it out.)
        rig.as_responder();
    });
}

/// A job that is finished after it was replaced, or after its handshake was given up, is nothing.
#[test]
fn superseded_handshake_jobs_are_dropped() {
    for_both(|kind| {
        // An initiation replaced by its own retransmission.
        let mut rig = Rig::new(kind);
        rig.node.initiate(rig.now);
        let mut late = owed(&mut rig).unwrap();
        late.run();
        let again = rig.pass(secs(6)).remove(0);
        let step = finish(&mut rig, late);
        assert!(matches!(step, Ok(HandshakeStep::Nothing)), "{step:?}");
        let heard = rig.puppet.hear(&again);
        let (response, _) = rig.puppet.respond(heard);
        assert!(rig.give(&response).is_ok(), "the later one stands");

        // A response replaced by one to a newer initiation.
        let mut rig = Rig::new(kind);
        let (older, _) = rig.initiation();
        rig.give(&older).unwrap();
        let late = owed(&mut rig).unwrap();
        rig.skip(millis(30));
        let (newer, asked) = rig.initiation();
        rig.give(&newer).unwrap();
        let step = finish(&mut rig, late);
        assert!(matches!(step, Ok(HandshakeStep::Nothing)), "{step:?}");
        let response = rig.only();
        rig.puppet.read_response(asked, &response);

        // All kinds, when keys are erased or our key changes meanwhile.
        for erase in [true, false] {
            let mut genuine = Genuine::new(kind);
            let (now, response) = (genuine.rig.now, genuine.response.clone());
            let initiation = genuine.initiation.clone();
            let rig = &mut genuine.rig;
            let jobs: Vec<HandshakeJob> = [response, initiation]
                .iter()
                .map(|message| {
                    on_node!(&mut rig.node, node => node.begin_handshake(now, x(), message))
                })
                .map(|step| match step {
                    Ok(HandshakeStep::Run(job)) => job,
                    other => panic!("{other:?}"),
                })
                .collect();
            rig.node
                .set_private_key(&PrivateKey::from_bytes([0x77; 32]));
            if erase {
                rig.node.erase(now);
                rig.node.set_private_key(&BOB.private_key());
                rig.node.erase(now);
            }
            let verdicts: Vec<_> = jobs.into_iter().map(|job| finish_all(rig, job)).collect();
            // The initiation is for the key that is set again, and new: nothing is wrong with it.
            let second = if erase {
                Ok(())
            } else {
                Err(Rejected::Superseded)
            };
            assert_eq!(verdicts, [Err(Rejected::Superseded), second]);
        }
    });
}

fn finish_all(rig: &mut Rig, job: HandshakeJob) -> Result<(), Rejected> {
    let mut step = finish(rig, job)?;
    while let HandshakeStep::Run(job) = step {
        step = finish(rig, job)?;
    }
    Ok(())
}

/// A response that is read twice at once makes one session.
#[test]
fn one_response_makes_one_session() {
    for_both(|kind| {
        let mut genuine = Genuine::new(kind);
        let (now, response) = (genuine.rig.now, genuine.response.clone());
        let rig = &mut genuine.rig;
        let jobs: Vec<_> = (0..3)
            .map(|_| on_node!(&mut rig.node, node => node.begin_handshake(now, x(), &response)))
            .map(|step| match step {
                Ok(HandshakeStep::Run(job)) => job,
                other => panic!("{other:?}"),
            })
            .collect();
        let verdicts: Vec<_> = jobs.into_iter().map(|job| finish_all(rig, job)).collect();
        let late = Err(Rejected::Superseded);
        assert_eq!(verdicts, [Ok(()), late, late]);
    });
}

/// Jobs whose peer is removed, also when another or the same peer takes its place.
#[test]
fn jobs_of_a_removed_peer_are_refused() {
    let mut genuine = Genuine::new(NodeKind::Interface);
    let (now, data) = (genuine.rig.now, genuine.data.clone());
    let Node::Interface(interface, id) = &mut genuine.rig.node else {
        unreachable!()
    };
    let open = interface.begin_open(now, x(), data).unwrap();
    let mut handshakes = Vec::new();
    for message in [&genuine.response, &genuine.initiation] {
        match interface.begin_handshake(now, x(), message) {
            Ok(HandshakeStep::Run(job)) => handshakes.push(job),
            other => panic!("{other:?}"),
        }
    }
    assert!(interface.remove_peer(*id));
    assert!(!interface.remove_peer(*id), "once");
    let peer = PeerConfig::new(ALICE.public_key()).preshared_key(PresharedKey::from_bytes([1; 32]));
    let again = interface.add_peer(now, &peer).unwrap();
    assert_ne!(again, *id);
    let refused = interface.finish_open(now, open).unwrap_err();
    assert_eq!(refused.reason, Rejected::Superseded);
    let response = handshakes.remove(0);
    let step = interface.finish_handshake(now, response);
    assert_eq!(step.map(|_| ()), Err(Rejected::Superseded));
    // The initiation finds the peer by its key, and it is the same key.
    let mut step = interface.finish_handshake(now, handshakes.remove(0));
    while let Ok(HandshakeStep::Run(job)) = step {
        step = interface.finish_handshake(now, job);
    }
    assert!(matches!(step, Ok(HandshakeStep::Received(id, _)) if id == again));
    assert!(interface.peer(*id).is_none() && interface.peer_mut(*id).is_none());
}

/// Jobs that are finished at an interface which did not begin them. The generators differ, as they
/// do in life, and so do the receiver indices.
#[test]
fn jobs_of_another_interface_are_refused() {
    for_both(|kind| {
        let mut genuine = Genuine::new(kind);
        let mut other = Rig::new(kind);
        other.rng = SeededRng::new(4711);
        other.as_responder();
        other.skip(secs(10));
        other.asks();
        let now = genuine.rig.now;
        let (data, response) = (genuine.data.clone(), genuine.response.clone());
        let rig = &mut genuine.rig;
        let open = on_node!(&mut rig.node, node => node.begin_open(now, x(), data)).unwrap();
        let step = on_node!(&mut rig.node, node => node.begin_handshake(now, x(), &response));
        let Ok(HandshakeStep::Run(read)) = step else {
            panic!("{step:?}");
        };
        rig.skip(secs(6));
        rig.node.initiate(rig.now);
        let mut write = owed(rig).unwrap();
        write.run();

        let before = other.state();
        let now = other.now;
        let refused = on_node!(&mut other.node, node => node.finish_open(now, open)).unwrap_err();
        assert_eq!(refused.reason, Rejected::Superseded);
        assert!(refused.datagram[16..48].iter().all(|byte| *byte == 0));
        assert_eq!(finish_all(&mut other, read), Err(Rejected::Superseded));
        let step = finish(&mut other, write);
        assert!(matches!(step, Ok(HandshakeStep::Nothing)));
        assert_eq!(other.state(), before);
    });
}

/// Even when the generators are the same, so that every index and instant is: a datagram that was
/// opened with another session's key is not delivered.
#[test]
fn a_twin_does_not_believe_the_jobs_of_its_twin() {
    for_both(|kind| {
        let (mut one, mut two) = (Rig::new(kind), Rig::new(kind));
        let (mut ours, theirs) = (one.as_responder(), two.as_responder());
        assert_eq!(ours.remote, theirs.remote, "twins");
        let datagram = ours.seal(&to_node(64));
        let now = one.now;
        let mut job = on_node!(&mut one.node, node => node.begin_open(now, x(), datagram)).unwrap();
        job.run();
        let refused = on_node!(&mut two.node, node => node.finish_open(now, job));
        assert_eq!(refused.unwrap_err().reason, Rejected::Superseded);
    });
}

/// Jobs that are finished in another order than they were begun: all are taken, and the endpoint is
/// that of the last one finished.
#[test]
fn opening_out_of_order_loses_nothing() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let mut session = rig.as_responder();
        let now = rig.now;
        let mut jobs: Vec<_> = (0..50_u16)
            .map(|n| {
                let datagram = session.seal(&to_node(64));
                let from = SocketAddr::from(([203, 0, 113, 1], n));
                on_node!(&mut rig.node, node => node.begin_open(now, from, datagram)).unwrap()
            })
            .collect();
        jobs.reverse();
        jobs.rotate_left(20);
        for job in jobs {
            assert!(on_node!(&mut rig.node, node => node.finish_open(now, job)).is_ok());
        }
        assert_eq!(rig.node.endpoint().unwrap().port(), 30);
    });
}

/// A generator that always gives the same number does not make a loop or a panic.
#[test]
fn a_broken_generator_stalls_nothing() {
    struct Zeros;
    impl TryRng for Zeros {
        type Error = core::convert::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            Ok(0)
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            Ok(0)
        }
        fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
            out.fill(0);
            Ok(())
        }
    }
    impl TryCryptoRng for Zeros {}
    let now = Instant::from_millis(1);
    let mut interface = Interface::new(Some(&BOB.private_key()), now);
    for n in 100..199 {
        let key = PrivateKey::from_bytes([n; 32]).public_key();
        let peer = PeerConfig::new(key).endpoint(ALICE.addr());
        let id = interface.add_peer(now, &peer).unwrap();
        interface.peer_mut(id).unwrap().initiate(now);
    }
    let mut indices = std::collections::BTreeSet::new();
    let mut rng = Zeros;
    let mut env = Env::new(&mut rng, secs(1));
    while let Some(transmit) = interface.poll_transmit(now, &mut env) {
        assert!(indices.insert(index_at(transmit.message.as_bytes(), 4)));
    }
    assert_eq!(indices.len(), 99);
}

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
                                && let Some(session) = self.rig.puppet.try_read(asked, &message)
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
        let (now, from) = (self.rig.now, ALICE.addr());
        match call {
            Call::Advance(nanos) => self.rig.skip(core::time::Duration::from_nanos(nanos)),
            Call::Backwards(nanos) => {
                let past = now.as_nanos().saturating_sub(nanos);
                let past = Instant::from_nanos(past);
                self.rig.node.handle_timeout(past);
                let _ = self.rig.node.seal(past, &to_puppet(30));
            }
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
            Call::Peer(act) => self.act(act),
            Call::Garbage(kind, len, byte) => {
                let mut datagram = vec![byte; len];
                if let Some(head) = datagram.first_chunk_mut::<4>() {
                    *head = [kind, 0, 0, 0];
                }
                self.give(datagram);
            }
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
                            self.seen.push(t.message.as_bytes().to_vec())
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
            Call::Timeout => {
                self.rig.node.handle_timeout(now);
                let next = self.rig.node.poll_timeout();
                assert!(next.is_none_or(|next| next > now), "{next:?} at {now:?}");
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
                rig.node.set_endpoint(SocketAddr::from(([192, 0, 2, n], 1)))
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
            other => self.configure_interface(other),
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

    fn configure_interface(&mut self, call: Call) {
        let now = self.rig.now;
        let Node::Interface(interface, first) = &mut self.rig.node else {
            return;
        };
        match call {
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

fn chaos(kind: NodeKind, calls: Vec<Call>, drain: bool) {
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
        self.rig.node.set_private_key(&BOB.private_key());
        self.rig.puppet = crate::puppet::Puppet::of(ALICE);
        if let Node::Interface(interface, id) = &mut self.rig.node {
            match interface.find(&ALICE.public_key()) {
                Some(alice) => *id = alice,
                None => {
                    let peer = PeerConfig::new(ALICE.public_key());
                    *id = interface.add_peer(self.rig.now, &peer).unwrap();
                }
            }
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
        chaos(kind, calls, drain);
    }

    /// Any bytes at every entry point.
    #[test]
    fn any_bytes(tunnel: bool, kind in 0_u8..6, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let node = if tunnel { NodeKind::Tunnel } else { NodeKind::Interface };
        let mut rig = Rig::new(node);
        rig.as_responder();
        let mut bytes = bytes;
        if let (Some(head), true) = (bytes.first_chunk_mut::<4>(), kind < 5) {
            *head = [kind, 0, 0, 0];
        }
        rig.refuses(x(), &bytes);
    }
}
