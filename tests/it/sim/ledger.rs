//! What was sent, by whom and for whom: every inner packet and every datagram of the whole world.

use std::collections::HashMap;

use super::inner::{self, Label};

/// The books. The map is asked and never walked, so its order decides nothing.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    packets: Vec<Packet>,
    wire: HashMap<Vec<u8>, Sent>,
}

/// An inner packet.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) label: Label,
    pub(crate) len: usize,
    pub(crate) sent_at: u64,
    pub(crate) delivered_at: Option<u64>,
    pub(crate) is_answer: bool,
}

/// A datagram as its sender wrote it.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// Which life of the sender's peer it belongs to.
    pub(crate) generation: u64,
    pub(crate) content: Content,
    /// Which life of the receiver's peer has accepted it.
    pub(crate) accepted_by: Option<u64>,
}

/// What a datagram is, read from its open fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The n-th initiation of its generation.
    Initiation {
        sender: u32,
        n: u64,
    },
    Response {
        sender: u32,
        receiver: u32,
    },
    Cookie,
    /// A keepalive has no serial.
    Data {
        receiver: u32,
        counter: u64,
        serial: Option<u64>,
    },
}

impl Ledger {
    /// Writes a new packet and notes it.
    pub(crate) fn new_packet(
        &mut self,
        from: usize,
        to: usize,
        len: usize,
        now: u64,
        is_answer: bool,
    ) -> Vec<u8> {
        let label = Label {
            from: u32::try_from(from).unwrap(),
            to: u32::try_from(to).unwrap(),
            serial: self.packets.len() as u64,
        };
        self.packets.push(Packet {
            label,
            len,
            sent_at: now,
            delivered_at: None,
            is_answer,
        });
        inner::build(label, len)
    }

    pub(crate) fn packets(&self) -> &[Packet] {
        &self.packets
    }

    /// A packet has come out of a tunnel: it must be one of ours, whole, for this node, and new.
    pub(crate) fn deliver(&mut self, node: usize, serial: u64, bytes: &[u8], now: u64) -> Packet {
        let label = inner::read(bytes).expect("an altered packet was delivered");
        let packet = &mut self.packets[usize::try_from(serial).unwrap()];
        assert_eq!(
            label, packet.label,
            "another packet than the datagram carried"
        );
        assert_eq!(bytes.len(), packet.len, "padding was not removed");
        assert_eq!(label.to as usize, node, "a foreign packet was delivered");
        assert_eq!(packet.delivered_at, None, "a packet was delivered twice");
        packet.delivered_at = Some(now);
        packet.clone()
    }

    pub(crate) fn sent(&mut self, datagram: &[u8], sent: Sent) {
        let twin = self.wire.insert(datagram.to_vec(), sent);
        assert!(twin.is_none(), "the same datagram was sent twice");
    }

    pub(crate) fn find(&self, datagram: &[u8]) -> Option<&Sent> {
        self.wire.get(datagram)
    }

    pub(crate) fn accepted(&mut self, datagram: &[u8], generation: u64) {
        self.wire.get_mut(datagram).unwrap().accepted_by = Some(generation);
    }
}

/// A little-endian field.
pub(crate) fn word(datagram: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(datagram[at..at + 4].try_into().unwrap())
}

pub(crate) fn long(datagram: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(datagram[at..at + 8].try_into().unwrap())
}
