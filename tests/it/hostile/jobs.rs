//! Jobs that are lost, late, doubled, out of order or somebody else's.

use super::*;

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
pub(super) fn owed(rig: &mut Rig) -> Option<HandshakeJob> {
    let mut env = Env::new(&mut rig.rng, rig.unix);
    on_node!(&mut rig.node, node => node.poll_handshake(rig.now, &mut env))
}

pub(super) fn finish(rig: &mut Rig, job: HandshakeJob) -> Result<HandshakeStep, Rejected> {
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
                .set_private_key(&PrivateKey::from_bytes([0x77; 32]))
                .unwrap();
            if erase {
                rig.node.erase(now);
                rig.node.set_private_key(&BOB.private_key()).unwrap();
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
