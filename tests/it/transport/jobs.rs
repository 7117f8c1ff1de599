//! Sealing and opening in steps and in batches.

use super::*;

/// The same through jobs: what was opened is only given out by `finish_open`.
#[test]
fn a_refused_job_gives_back_no_plaintext() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let mut session = rig.as_responder();
        let (now, from) = (rig.now, ALICE.addr());
        let datagram = session.seal(&marked());
        let mut jobs: Vec<OpenJob<Vec<u8>>> = (0..3)
            .map(|_| on_node!(&mut rig.node, node => node.begin_open(now, from, datagram.clone())))
            .map(Result::unwrap)
            .collect();
        OpenJob::run_all(&mut jobs);
        let mut verdicts = Vec::new();
        for job in jobs {
            match on_node!(&mut rig.node, node => node.finish_open(now, job)) {
                Ok(mut opened) => {
                    assert_eq!(opened.packet(), marked());
                    verdicts.push(None);
                }
                Err(refused) => {
                    assert!(!holds_mark(&refused.datagram));
                    verdicts.push(Some(refused.reason));
                }
            }
            // The session ends while the last job is under way.
            if verdicts.len() == 2 {
                rig.node.erase(now);
            }
        }
        let replayed = Some(Rejected::Replayed);
        assert_eq!(verdicts, [None, replayed, Some(Rejected::Superseded)]);
    });
}

/// A batch with a datagram twice accepts it once, in whatever places.
#[test]
fn a_duplicate_in_a_batch_is_accepted_once() {
    let mut rig = Rig::new(NodeKind::Interface);
    let mut session = rig.as_responder();
    let datagrams: Vec<_> = (0..20).map(|_| session.seal(&marked())).collect();
    let batch = datagrams.iter().chain(datagrams.iter().rev()).cloned();
    let batch: Vec<_> = batch.map(|datagram| (ALICE.addr(), datagram)).collect();
    let Node::Interface(interface, _) = &mut rig.node else {
        unreachable!()
    };
    let mut received = Vec::new();
    interface.receive_batch(rig.now, batch, &mut received);
    assert_eq!(received.len(), 40);
    for (n, result) in received.into_iter().enumerate() {
        match result {
            Ok(mut opened) => assert!(n < 20 && opened.packet() == marked()),
            Err(refused) => {
                assert!(n >= 20);
                assert_eq!(refused.reason, Rejected::Replayed);
                assert!(!holds_mark(&refused.datagram));
            }
        }
    }
}

/// Opening that begins before the session's end and finishes after it is refused.
#[test]
fn opening_across_the_end_of_a_session_is_refused() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let mut session = rig.as_responder();
        rig.skip(secs(179));
        let (before, from) = (rig.now, ALICE.addr());
        let datagram = session.seal(&marked());
        let job = on_node!(&mut rig.node, node => node.begin_open(before, from, datagram));
        let mut job = job.unwrap();
        job.run();
        let after = before + secs(1);
        let refused = on_node!(&mut rig.node, node => node.finish_open(after, job)).unwrap_err();
        assert_eq!(refused.reason, Rejected::SessionExpired);
        assert!(!holds_mark(&refused.datagram));
    });
}

/// Counters are reserved in the order of the calls, in whatever order the jobs run, and a job that is
/// dropped skips its own.
#[test]
fn counters_keep_the_order_of_the_calls() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let session = rig.as_responder();
        let packet = to_puppet(64);
        let mut jobs = Vec::new();
        for _ in 0..10 {
            let outgoing = Outgoing::apart(&packet, vec![0; 128]);
            let job = on_node!(&mut rig.node, node => node.begin_seal(rig.now, outgoing));
            jobs.push(Some(job.unwrap()));
        }
        drop(jobs[3].take());
        for n in [9, 0, 8, 1, 7, 2, 6, 4, 5] {
            let mut job = jobs[n].take().unwrap();
            assert!(job.datagram().is_empty(), "not before it ran");
            job.run();
            let first = job.datagram().to_vec();
            job.run();
            assert_eq!(job.datagram(), first, "the second run does nothing");
            assert_eq!(job.to(), ALICE.addr());
            assert_eq!(session.open(job.datagram()), (n as u64, packet.clone()));
        }
        assert_eq!(session.open(&rig.seal(&packet).unwrap()).0, 10);
    });
}

/// An iterator that ends for a moment and then goes on, as `Iterator` allows.
struct Faltering<I>(I, u32);

impl<I: Iterator> Iterator for Faltering<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.1 += 1;
        if self.1.is_multiple_of(3) {
            None
        } else {
            self.0.next()
        }
    }
}

/// Whatever iterator brings the jobs of a batch, what is shown as a sealed datagram is one, and what
/// is shown as opened was opened.
#[test]
fn batches_take_any_iterator() {
    let mut rig = Rig::new(NodeKind::Tunnel);
    let mut session = rig.as_responder();
    let packet = to_puppet(64);
    let (mut seals, mut opens) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        let outgoing = Outgoing::in_place([&[0; 16], &packet[..], &[0; 16]].concat(), 16..80);
        let job = on_node!(&mut rig.node, node => node.begin_seal(rig.now, outgoing));
        seals.push(job.unwrap());
        let datagram = session.seal(&marked());
        let job = on_node!(&mut rig.node, node => node.begin_open(rig.now, ALICE.addr(), datagram));
        opens.push(job.unwrap());
    }
    SealJob::run_all(Faltering(seals.iter_mut(), 0));
    for job in &mut seals {
        if !job.datagram().is_empty() {
            assert_eq!(session.open(job.datagram()).1, packet);
        }
        job.run();
        assert_eq!(session.open(job.datagram()).1, packet);
    }
    OpenJob::run_all(Faltering(opens.iter_mut(), 0));
    for job in opens {
        let opened = on_node!(&mut rig.node, node => node.finish_open(rig.now, job));
        assert_eq!(opened.unwrap().packet(), marked());
    }
}

/// The three verbs agree: sealing in place, apart and as a job make the same datagram but for the
/// counter, and receiving in one call or by a job bring the same packet.
#[test]
fn all_ways_to_seal_and_open_agree() {
    let mut rig = Rig::new(NodeKind::Interface);
    let mut session = rig.as_responder();
    let Node::Interface(interface, id) = &mut rig.node else {
        unreachable!()
    };
    let (now, packet) = (rig.now, to_puppet(77));
    let room = |packet: &[u8]| [&[0; 16], packet, &[0; 31]].concat();
    let mut buffer = room(&packet);
    let sealed = interface.seal(now, &mut buffer, 16..93).unwrap();
    assert_eq!((sealed.peer, sealed.to), (*id, ALICE.addr()));
    assert_eq!(session.open(sealed.datagram).1[..77], packet);
    let mut jobs = Vec::new();
    let outgoing = (0..40).map(|_| Outgoing::in_place(room(&packet), 16..93));
    interface.seal_batch(now, outgoing, &mut jobs);
    for (n, job) in (1..).zip(jobs) {
        let (buffer, range) = job.unwrap().into_parts();
        let (counter, opened) = session.open(&buffer[range]);
        assert_eq!((counter, &opened[..77]), (n, &packet[..]));
    }
    let direct = interface.begin_seal_to(now, *id, Outgoing::apart(&packet, vec![0; 128]));
    let mut direct = direct.unwrap();
    direct.run();
    assert_eq!(session.open(direct.datagram()).0, 41);
    let unknown = Interface::<std::net::SocketAddr>::new(None, now)
        .begin_seal_to(now, *id, Outgoing::apart(&packet, vec![7; 128]))
        .unwrap_err();
    assert_eq!(unknown.error, SealError::UnknownPeer);
    assert_eq!(unknown.outgoing.into_buffer(), [7; 128]);
    let mut datagram = session.seal(&to_node(50));
    let (from, received) = interface.receive(now, ALICE.addr(), &mut datagram).unwrap();
    assert_eq!(from, *id);
    assert_eq!(received, Received::Packet(&mut to_node(50)));
}
