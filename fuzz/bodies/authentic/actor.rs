//! A puppet with its memory: what it has sent, what it was sent, and what must follow.

use core::net::{Ipv4Addr, SocketAddr};
use std::collections::BTreeSet;

use quietwire::{Cidr, Instant, Interface, PeerId, Rejected};

use super::super::input::Input;
use super::super::puppet::{First, Keys, Puppet};
use super::REJECT_AFTER_TIME;

/// White paper, section 6.1, and the kernel's window.
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - 8192;
const WINDOW: u64 = 8192 - 64;

/// The kernel accepts 50 initiations a second from one peer.
const SPACING: u64 = 20_000_000;

pub struct Actor {
    pub puppet: Puppet,
    pub id: Option<PeerId>,
    pub address: SocketAddr,
    pub inner: Ipv4Addr,
    stamp: u64,
    /// The greatest timestamp that the target accepted, and when it last accepted one.
    pub greatest: [u8; 12],
    accepted_at: Option<u64>,
    /// The greatest timestamp that the target sent.
    received_stamp: [u8; 12],
    /// Initiations that the target may answer.
    pub firsts: Vec<First>,
    /// The target's last initiation.
    pub pending: Option<First>,
    pub pending_is_sure: bool,
    pub sessions: Vec<Session>,
    /// What the target gave us, and mac1 of our last message.
    pub cookie: Option<[u8; 16]>,
    pub last_mac1: Vec<u8>,
    /// mac1 of the target's last handshake message, until we answered it.
    pub target_mac1: [u8; 16],
    target_index: u32,
}

pub struct Session {
    pub keys: Keys,
    born: u64,
    /// The target certainly holds it.
    sure: bool,
    /// Counters that the target accepted.
    seen: BTreeSet<u64>,
    /// Counters that the target used.
    used: BTreeSet<u64>,
}

impl Actor {
    pub fn new(puppet: Puppet, number: u8) -> Self {
        Self {
            puppet,
            id: None,
            address: SocketAddr::from(([192, 0, 2, number], 51820)),
            inner: Ipv4Addr::new(10, 0, 0, number),
            stamp: 1 << 32,
            greatest: [0; 12],
            accepted_at: None,
            received_stamp: [0; 12],
            firsts: Vec::new(),
            pending: None,
            pending_is_sure: false,
            sessions: Vec::new(),
            cookie: None,
            last_mac1: Vec::new(),
            target_mac1: [0; 16],
            target_index: 0,
        }
    }

    pub fn add_to(&mut self, target: &mut Interface, now: u64) {
        let allowed = [Cidr::from(core::net::IpAddr::V4(self.inner))];
        let config = super::config(&self.puppet)
            .endpoint(self.address)
            .allowed_ips(&allowed);
        self.id = Some(target.add_peer(Instant::from_nanos(now), &config).unwrap());
    }

    /// The target has forgotten everything about us.
    pub fn removed(&mut self) {
        self.greatest = [0; 12];
        self.received_stamp = [0; 12];
        self.accepted_at = None;
        self.pending = None;
        self.firsts.clear();
    }

    /// Something happened that may have ended any session or handshake.
    pub fn forget_certainties(&mut self) {
        self.pending_is_sure = false;
        self.sessions
            .iter_mut()
            .for_each(|session| session.sure = false);
    }

    pub fn stamp(&self) -> [u8; 12] {
        let mut stamp = [0; 12];
        stamp[..8].copy_from_slice(&self.stamp.to_be_bytes());
        stamp
    }

    pub fn advance_stamp(&mut self, input: &mut Input<'_>) {
        self.stamp = match input.below(8) {
            0 => self.stamp,
            6 => self.stamp.wrapping_sub(u64::from(input.byte())),
            7 => self.stamp.wrapping_add(u64::from(input.u32()) << 24),
            step => self.stamp.wrapping_add(u64::try_from(step).unwrap()),
        };
    }

    /// What an undamaged initiation is worth when there is no load.
    pub fn judge_initiation(&self, timestamp: [u8; 12], now: u64) -> Result<(), Rejected> {
        if self.id.is_none() {
            return Err(Rejected::UnknownPeer);
        }
        if timestamp <= self.greatest {
            return Err(Rejected::OldTimestamp);
        }
        if self.accepted_at.is_some_and(|at| now - at < SPACING) {
            return Err(Rejected::TooFrequent);
        }
        Ok(())
    }

    pub fn initiation_accepted(&mut self, first: First, now: u64) {
        assert!(
            first.timestamp > self.greatest,
            "a timestamp was accepted twice"
        );
        self.greatest = first.timestamp;
        self.accepted_at = Some(now);
        self.firsts.insert(0, first);
        self.firsts.truncate(4);
    }

    /// The target initiates.
    pub fn read_initiation(&mut self, message: &[u8]) {
        assert!(self.puppet.mac1_is_right(message));
        let first = self
            .puppet
            .read_initiation(message)
            .expect("an initiation that we can read");
        assert!(first.timestamp > self.received_stamp, "timestamps grow");
        assert_eq!(
            u32::from_be_bytes(first.timestamp[8..].try_into().unwrap()) % (1 << 24),
            0
        );
        self.received_stamp = first.timestamp;
        self.target_mac1 = message[116..132].try_into().unwrap();
        self.target_index = first.sender;
        self.pending = Some(first);
        self.pending_is_sure = true;
    }

    /// The target answers: its older sessions but the current one end.
    pub fn read_response(&mut self, message: &[u8], now: u64) {
        assert!(self.puppet.mac1_is_right(message));
        let receiver = message[8..12].try_into().map(u32::from_le_bytes).unwrap();
        let mut firsts = self.firsts.iter().filter(|first| first.sender == receiver);
        let keys = firsts.find_map(|first| self.puppet.read_response(first, message));
        let keys = keys.expect("a response that we can read");
        self.target_mac1 = message[60..76].try_into().unwrap();
        self.target_index = keys.remote;
        self.sessions
            .iter_mut()
            .for_each(|session| session.sure = false);
        self.add_session(keys, now);
    }

    pub fn response_accepted(&mut self, keys: Keys, now: u64) {
        self.pending = None;
        self.sessions
            .iter_mut()
            .for_each(|session| session.sure = false);
        self.add_session(keys, now);
    }

    fn add_session(&mut self, keys: Keys, now: u64) {
        let (seen, used) = (BTreeSet::new(), BTreeSet::new());
        self.sessions.push(Session {
            keys,
            born: now,
            sure: true,
            seen,
            used,
        });
    }

    pub fn read_cookie(&mut self, message: &[u8]) {
        // The reply may answer a message before the last one.
        if let Some(cookie) = self.puppet.read_cookie(&self.last_mac1, message) {
            self.cookie = Some(cookie);
        }
    }

    /// The plaintext of a datagram that the target has sealed.
    pub fn open(&mut self, datagram: &[u8], now: u64) -> Vec<u8> {
        let opened = self.sessions.iter_mut().rev().find_map(|session| {
            let (counter, plaintext) = session.keys.open(datagram)?;
            Some((counter, plaintext, session))
        });
        let (counter, plaintext, session) = opened.expect("a session that we share");
        assert!(
            session.used.insert(counter),
            "counter {counter} was used twice"
        );
        assert!(
            now - session.born < REJECT_AFTER_TIME,
            "sealed under an old session"
        );
        plaintext
    }

    pub fn received_under(&mut self, session: usize, counter: u64, now: u64) {
        let session = &mut self.sessions[session];
        assert!(now - session.born < REJECT_AFTER_TIME);
        assert!(
            session.seen.insert(counter),
            "counter {counter} was accepted twice"
        );
    }

    /// The index of the handshake that a cookie reply is to answer, or another.
    pub fn cookie_receiver(&self, input: &mut Input<'_>) -> u32 {
        if input.below(4) == 0 {
            input.u32()
        } else {
            self.target_index
        }
    }
}

impl Session {
    pub fn choose_counter(&self, input: &mut Input<'_>) -> u64 {
        let greatest = self.seen.last().copied().unwrap_or(0);
        match input.below(8) {
            0 => greatest,
            1 => greatest
                .wrapping_sub(WINDOW)
                .wrapping_add(u64::from(input.byte() & 3)),
            2 => REJECT_AFTER_MESSAGES.wrapping_sub(u64::from(input.byte() & 1)),
            3 => u64::from(input.u16()),
            _ => greatest.wrapping_add(1),
        }
    }

    /// Whether a message with this counter may be believed, and whether that is the whole truth.
    pub fn judge(&self, counter: u64, now: u64) -> (Result<(), Rejected>, bool) {
        let greatest = self.seen.last().copied().unwrap_or(0);
        let verdict = if counter >= REJECT_AFTER_MESSAGES || now - self.born >= REJECT_AFTER_TIME {
            Err(Rejected::SessionExpired)
        } else if self.seen.contains(&counter) || counter.saturating_add(WINDOW) < greatest {
            Err(Rejected::Replayed)
        } else {
            Ok(())
        };
        (verdict, self.sure)
    }
}
