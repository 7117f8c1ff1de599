use std::collections::BTreeMap;

use proptest::prelude::*;

use super::model::{ACK, PSH, Spec, specs};
use super::{coalesce::groups, cut::cut};

/// A flow's packets may be told by port.
fn port(packet: &[u8]) -> u16 {
    let offset = if packet[0] >> 4 == 6 { 40 } else { 20 };
    u16::from_be_bytes([packet[offset], packet[offset + 1]])
}

fn flows(packets: impl IntoIterator<Item = Vec<u8>>) -> BTreeMap<u16, Vec<Vec<u8>>> {
    let mut flows = BTreeMap::<_, Vec<_>>::new();
    packets
        .into_iter()
        .for_each(|packet| flows.entry(port(&packet)).or_default().push(packet));
    flows
}

/// Deals the packets of several flows into one batch, as `picks` has it.
fn deal(flows: &[Vec<Vec<u8>>], picks: &[usize]) -> Vec<Vec<u8>> {
    let mut left: Vec<_> = flows.iter().map(|flow| flow.iter()).collect();
    let dealt = picks
        .iter()
        .filter_map(|pick| left[pick % flows.len()].next());
    let mut dealt: Vec<_> = dealt.cloned().collect();
    left.into_iter()
        .for_each(|rest| dealt.extend(rest.cloned()));
    dealt
}

fn plain(mut spec: Spec, index: usize) -> Spec {
    spec.between.clear();
    spec.next = None;
    spec.ports.0 = index as u16;
    spec
}

proptest! {
    #[test]
    fn flows_come_out_as_they_went_in(
        specs in prop::collection::vec((specs(6000), 1usize..1500), 1..20),
        sober in any::<bool>(),
        picks in prop::collection::vec(any::<usize>(), 0..200),
        damage in prop::collection::vec((any::<usize>(), any::<usize>(), 1u8..), 0..4),
    ) {
        let one = |(index, (spec, size)): (usize, (Spec, usize))| {
            let mut spec = plain(spec, index);
            if sober {
                (spec.flags, spec.reserved) = (ACK | (spec.flags & PSH), 0);
            }
            spec.segments(size.max(spec.payload.len() / 30))
        };
        let sent: Vec<_> = specs.into_iter().enumerate().map(one).collect();
        let mut batch = deal(&sent, &picks);
        for (packet, place, bits) in damage {
            let count = batch.len();
            let packet = &mut batch[packet % count];
            // Behind the ports.
            let headers = if packet[0] >> 4 == 6 { 44 } else { 24 };
            let place = headers + place % (packet.len() - headers);
            packet[place] ^= bits;
        }
        let written = groups(true, &batch);
        let received: Vec<_> = written
            .into_iter()
            .flat_map(|(header, packet, _)| cut(&header, packet).unwrap())
            .collect();
        prop_assert_eq!(received.len(), batch.len());
        for (port, received) in flows(received) {
            let sent = &flows(batch.clone())[&port];
            prop_assert_eq!(&received, sent);
        }
    }

    #[test]
    fn a_legal_super_packet_comes_back_whole(spec in specs(60_000), size in 500usize..2000) {
        let mut spec = plain(spec, 1);
        (spec.flags, spec.reserved) = (ACK | (spec.flags & PSH), 0);
        prop_assume!(spec.payload.len() > size && spec.payload.len() <= 64 * size);
        let segments = cut(&spec.header(size), spec.build_partial()).unwrap();
        let written = groups(true, &segments);
        prop_assert_eq!(written.len(), 1);
        prop_assert_eq!(written[0].0, spec.header(size));
        prop_assert_eq!(&written[0].1, &spec.build_partial());
    }
}
