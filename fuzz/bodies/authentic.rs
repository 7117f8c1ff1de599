//! An interface among puppets: everything it is sent has right macs and tags, whatever it says.
//!
//! The puppets tell what the state machine must do with their messages, and check everything that
//! it sends: keys, counters that never repeat, timestamps that grow, padding. What they cannot
//! know, because it would be the state machine over again, they do not judge.

mod actor;

use core::net::Ipv4Addr;
use core::time::Duration;

use quietwire::wire::Kind;
use quietwire::{
    Control, Env, Instant, Interface, Load, PeerConfig, PresharedKey, PrivateKey, PublicKey,
    Received, Rejected, SealError,
};

use self::actor::Actor;
use super::input::{Input, Rng};
use super::packet;
use super::puppet::{Puppet, public};

/// White paper, section 6.1.
const REJECT_AFTER_TIME: u64 = 180_000_000_000;

const MTU: u16 = 1420;

/// Puppets talk, time passes, the configuration changes.
pub fn receive_authentic(data: &[u8]) {
    let mut input = Input::new(data);
    let mut stage = Stage::new();
    for _ in 0..200 {
        if input.is_empty() {
            return;
        }
        let choice = input.byte();
        let actor = usize::from(choice >> 4) % stage.actors.len();
        stage.act(choice & 15, actor, &mut input);
    }
}

/// What a datagram brought, without its buffer.
#[derive(Debug, PartialEq)]
enum Got {
    Packet(Vec<u8>),
    Keepalive,
    Control(Control),
}

struct Stage {
    target: Interface,
    private: PrivateKey,
    now: u64,
    unix_time: u64,
    rng: Rng,
    /// The last one is no peer.
    actors: [Actor; 3],
    under_load: bool,
}

impl Stage {
    fn new() -> Self {
        let mut rng = Rng(4);
        let private: [u8; 32] = rng.array();
        let puppet = |rng: &mut Rng, psk| Puppet::new(rng.array(), public(&private), psk);
        let mut actors = [
            Actor::new(puppet(&mut rng, [0; 32]), 0),
            Actor::new(puppet(&mut rng, [8; 32]), 1),
            Actor::new(puppet(&mut rng, [0; 32]), 2),
        ];
        let private = PrivateKey::from_bytes(private);
        let mut target = Interface::new(Some(&private), Instant::from_nanos(0));
        target.set_load(Load::Normal);
        for actor in actors.iter_mut().take(2) {
            actor.add_to(&mut target, 0);
        }
        let unix_time = 1_700_000_000_000_000_000;
        Self {
            target,
            private,
            now: 0,
            unix_time,
            rng,
            actors,
            under_load: false,
        }
    }

    fn act(&mut self, choice: u8, i: usize, input: &mut Input<'_>) {
        match choice {
            0 => self.now += input.nanos(),
            1 => self.timeout(),
            2 => self.poll(),
            3 => self.initiate(i, input),
            4 => self.respond(i, input),
            5..=7 => self.data(i, input),
            8 | 9 => self.seal(i, input),
            10 => self.cookie(i, input),
            11 => self.configure(i, input),
            12 => {
                if let Some(mut peer) = self.actors[i].id.and_then(|id| self.target.peer_mut(id)) {
                    peer.initiate(Instant::from_nanos(self.now));
                }
            }
            13 => {
                self.under_load = input.flag();
                let load = if self.under_load {
                    Load::UnderLoad
                } else {
                    Load::Normal
                };
                self.target.set_load(load);
            }
            14 => {
                self.unix_time = self
                    .unix_time
                    .wrapping_add_signed(i64::from(input.u32()) - (1 << 31));
            }
            _ => self.handshake(i),
        }
    }

    fn timeout(&mut self) {
        self.actors.iter_mut().for_each(Actor::forget_certainties);
        let now = Instant::from_nanos(self.now);
        self.target.handle_timeout(now);
        let next = self.target.poll_timeout();
        assert!(
            next.is_none_or(|at| at > now),
            "a deadline in the past: {next:?} at {now:?}"
        );
    }

    /// Takes everything that the target owes, and checks it.
    fn poll(&mut self) {
        let now = Instant::from_nanos(self.now);
        for _ in 0..300 {
            let mut env = Env::new(&mut self.rng, Duration::from_nanos(self.unix_time));
            let Some(transmit) = self.target.poll_transmit(now, &mut env) else {
                while self.target.poll_event().is_some() {}
                return;
            };
            let actor = self
                .actors
                .iter_mut()
                .find(|actor| actor.address == transmit.to)
                .unwrap();
            let message = transmit.message.as_bytes();
            match transmit.message.kind() {
                Kind::Initiation => actor.read_initiation(message),
                Kind::Response => actor.read_response(message, self.now),
                Kind::CookieReply => actor.read_cookie(message),
                _ => assert!(
                    actor.open(message, self.now).is_empty(),
                    "a keepalive is empty"
                ),
            }
        }
        panic!("polling does not end");
    }

    fn deliver(&mut self, i: usize, mut datagram: Vec<u8>, way: bool) -> Result<Got, Rejected> {
        let (now, source) = (Instant::from_nanos(self.now), self.actors[i].address);
        let (id, got) = if way {
            let mut received = Vec::new();
            self.target
                .receive_batch(now, [(source, datagram)], &mut received);
            let opened = received.pop().unwrap().map_err(|refused| refused.reason)?;
            let (id, keepalive, control) =
                (opened.peer(), opened.is_keepalive(), opened.as_control());
            let (buffer, range) = opened.into_parts();
            let packet = buffer[range].to_vec();
            match control {
                Some(control) => (id, Got::Control(control)),
                None if keepalive => (id, Got::Keepalive),
                None => (id, Got::Packet(packet)),
            }
        } else {
            match self.target.receive(now, source, &mut datagram)? {
                (id, Received::Packet(inner)) => (id, Got::Packet(inner.to_vec())),
                (id, Received::Keepalive) => (id, Got::Keepalive),
                (id, Received::Control(control)) => (id, Got::Control(control)),
                (_, other) => panic!("{other:?}"),
            }
        };
        let actor = &self.actors[i];
        assert_eq!(Some(id), actor.id, "attributed to another peer");
        let peer = self.target.peer(id).unwrap();
        if got != Got::Control(Control::Cookie) {
            assert_eq!(
                peer.endpoint(),
                Some(actor.address),
                "authentic messages roam"
            );
        }
        Ok(got)
    }

    /// An initiation with a timestamp and, perhaps, damage of the input's choice.
    fn initiate(&mut self, i: usize, input: &mut Input<'_>) {
        let actor = &mut self.actors[i];
        actor.advance_stamp(input);
        let (mut message, first) =
            actor
                .puppet
                .initiation(self.rng.array(), input.u32(), actor.stamp());
        let damaged = damage(&mut message[8..116], input);
        let cookie = actor.cookie.filter(|_| input.flag());
        actor.puppet.sign(&mut message, cookie);
        let expected = actor.judge_initiation(first.timestamp, self.now);
        actor.last_mac1 = message[116..132].to_vec();
        let way = input.flag();
        let got = self.deliver(i, message, way);
        let actor = &mut self.actors[i];
        if self.under_load && cookie.is_none() {
            assert_eq!(got, Err(Rejected::CookieRequired));
        } else if damaged {
            assert!(got.is_err());
        } else if !self.under_load {
            assert_eq!(got, expected.map(|()| Got::Control(Control::Initiation)));
        }
        if got.is_ok() {
            actor.initiation_accepted(first, self.now);
        }
    }

    /// A response to the initiation that the target sent last.
    fn respond(&mut self, i: usize, input: &mut Input<'_>) {
        let actor = &mut self.actors[i];
        let Some(first) = actor.pending else {
            return;
        };
        let (mut message, keys) = actor.puppet.response(&first, self.rng.array(), input.u32());
        let damaged = damage(&mut message[8..60], input);
        let cookie = actor.cookie.filter(|_| input.flag());
        actor.puppet.sign(&mut message, cookie);
        actor.last_mac1 = message[60..76].to_vec();
        let sure = actor.pending_is_sure && !self.under_load;
        let got = self.deliver(i, message, input.flag());
        let actor = &mut self.actors[i];
        match got {
            Ok(got) => {
                assert!(!damaged);
                assert_eq!(got, Got::Control(Control::Response));
                actor.response_accepted(keys, self.now);
            }
            Err(reason) => assert!(damaged || !sure, "{reason}"),
        }
    }

    /// A data message with any counter around any content.
    fn data(&mut self, i: usize, input: &mut Input<'_>) {
        let sessions = self.actors[i].sessions.len();
        let s = sessions.saturating_sub(1 + input.below(sessions));
        let source = self.actors[input.below(3)].inner;
        let Some(session) = self.actors[i].sessions.get(s) else {
            return;
        };
        let counter = session.choose_counter(input);
        let plaintext = plaintext(source, counter, input);
        let (expected, certain) = session.judge(counter, self.now);
        let may_pass = expected.is_ok();
        let expected = expected.and_then(|()| content(&plaintext, self.actors[i].inner));
        let datagram = session.keys.data(counter, &plaintext);
        let got = self.deliver(i, datagram, input.flag());
        let reached = got.is_ok()
            || matches!(
                got,
                Err(Rejected::NotIp | Rejected::BadInnerLength | Rejected::ForeignSource)
            );
        assert!(may_pass || !reached, "{got:?} for counter {counter}");
        if reached || certain {
            assert_eq!(got, expected, "counter {counter}");
        }
        if reached {
            let now = self.now;
            self.actors[i].received_under(s, counter, now);
        }
    }

    /// The target seals a packet for a puppet, which must be able to open it.
    fn seal(&mut self, i: usize, input: &mut Input<'_>) {
        let now = Instant::from_nanos(self.now);
        let packet = packet::ipv4(
            Ipv4Addr::LOCALHOST,
            self.actors[i].inner,
            self.rng.0,
            usize::from(input.u16() & 0x7ff),
        );
        let mut buffer = vec![0; packet.len() + input.below(64)];
        let before = buffer.clone();
        match self.target.seal_into(now, &packet, &mut buffer) {
            Ok(sealed) => {
                assert_eq!(
                    (Some(sealed.peer), sealed.to),
                    (self.actors[i].id, self.actors[i].address)
                );
                let datagram = sealed.datagram.to_vec();
                let plaintext = self.actors[i].open(&datagram, self.now);
                assert_eq!(plaintext, packet::padded(&packet, usize::from(MTU)));
            }
            Err(error) => {
                assert_eq!(buffer, before, "nothing is written on {error}");
                assert_eq!(error == SealError::NoRoute, self.actors[i].id.is_none());
            }
        }
    }

    /// A cookie for the target, which it takes once and only for the message it answers.
    fn cookie(&mut self, i: usize, input: &mut Input<'_>) {
        let actor = &mut self.actors[i];
        let mut reply = actor.puppet.cookie_reply(
            actor.cookie_receiver(input),
            self.rng.array(),
            self.rng.array(),
            &actor.target_mac1,
        );
        let damaged = damage(&mut reply[8..], input);
        let got = self.deliver(i, reply, input.flag());
        assert!(got.is_err() || !damaged);
        if let Ok(got) = got {
            assert_eq!(got, Got::Control(Control::Cookie));
            self.actors[i].target_mac1 = [0; 16];
        }
    }

    fn configure(&mut self, i: usize, input: &mut Input<'_>) {
        let now = Instant::from_nanos(self.now);
        let choice = input.below(9);
        self.actors.iter_mut().for_each(Actor::forget_certainties);
        match choice {
            0 => self.target.on_resume(now),
            1 => self.target.erase_all(now),
            2 => self.change_private_key(),
            _ => {}
        }
        let actor = &mut self.actors[i];
        let Some(id) = actor.id else {
            return;
        };
        let mut peer = self.target.peer_mut(id).unwrap();
        match choice {
            3 => {
                assert!(self.target.remove_peer(id));
                actor.removed();
                actor.add_to(&mut self.target, self.now);
            }
            4 => peer.set_persistent_keepalive(now, input.u16()),
            5 => peer.erase(now),
            6 => {
                peer.forget_timestamp();
                actor.greatest = [0; 12];
            }
            7 => {
                actor.puppet.psk = [input.byte(); 32];
                peer.set_preshared_key(&PresharedKey::from_bytes(actor.puppet.psk));
            }
            _ => peer.set_endpoint(actor.address),
        }
    }

    /// Another key for a moment: a message for the old one must not be believed meanwhile.
    fn change_private_key(&mut self) {
        self.target.set_private_key(None).unwrap();
        assert_eq!(self.target.public_key(), None);
        let (mut message, _) = self.actors[0]
            .puppet
            .initiation(self.rng.array(), 1, [0xff; 12]);
        self.actors[0].puppet.sign(&mut message, None);
        assert_eq!(self.deliver(0, message, false), Err(Rejected::NoPrivateKey));
        self.target.set_private_key(Some(&self.private)).unwrap();
    }

    /// A whole handshake that cannot fail, and its confirmation.
    fn handshake(&mut self, i: usize) {
        self.poll();
        if self.under_load || self.actors[i].id.is_none() {
            return;
        }
        self.now += 20_000_000;
        let actor = &mut self.actors[i];
        actor.advance_stamp(&mut Input::new(&[1]));
        let (mut message, first) = actor.puppet.initiation(
            self.rng.array(),
            u32::try_from(self.now & 0xffff_ffff).unwrap_or_default(),
            actor.stamp(),
        );
        actor.puppet.sign(&mut message, None);
        if actor.judge_initiation(first.timestamp, self.now).is_err() {
            return;
        }
        let got = self.deliver(i, message, false);
        assert_eq!(got, Ok(Got::Control(Control::Initiation)));
        self.actors[i].initiation_accepted(first, self.now);
        self.poll();
        let s = self.actors[i].sessions.len() - 1;
        let session = &self.actors[i].sessions[s];
        assert_eq!(
            session.keys.local, first.sender,
            "the response must have come"
        );
        let datagram = session.keys.data(0, &[]);
        assert_eq!(self.deliver(i, datagram, true), Ok(Got::Keepalive));
        let now = self.now;
        self.actors[i].received_under(s, 0, now);
        let id = self.actors[i].id.unwrap();
        let peer = self.target.peer(id).unwrap();
        assert!(peer.is_established(Instant::from_nanos(self.now)));
    }
}

/// Damages up to three bytes of a field that a tag covers; whether it did.
fn damage(field: &mut [u8], input: &mut Input<'_>) -> bool {
    let before = field.to_vec();
    for _ in 0..input.below(8).saturating_sub(4) {
        let at = input.below(field.len());
        field[at] ^= input.byte();
    }
    field != before
}

fn plaintext(source: Ipv4Addr, id: u64, input: &mut Input<'_>) -> Vec<u8> {
    match input.below(8) {
        0 => Vec::new(),
        1 => {
            let len = input.below(64);
            input.bytes(len).to_vec()
        }
        2 => {
            let mut packet = packet::ipv4(source, Ipv4Addr::LOCALHOST, id, 40);
            packet[usize::from(input.byte()) % 20] ^= input.byte();
            packet
        }
        _ => {
            let packet = packet::ipv4(source, Ipv4Addr::LOCALHOST, id, input.below(100));
            packet::padded(&packet, 0)
        }
    }
}

/// What authentic content is worth: the rules of the white paper, section 5.4.6, for IPv4.
fn content(plaintext: &[u8], allowed: Ipv4Addr) -> Result<Got, Rejected> {
    if plaintext.is_empty() {
        return Ok(Got::Keepalive);
    }
    let least = match plaintext[0] >> 4 {
        4 => 20,
        6 => 40,
        _ => return Err(Rejected::NotIp),
    };
    if plaintext.len() < least {
        return Err(Rejected::NotIp);
    }
    let word = |at: usize| usize::from(plaintext[at]) << 8 | usize::from(plaintext[at + 1]);
    let length = if least == 20 { word(2) } else { word(4) + 40 };
    if length < least || length > plaintext.len() {
        return Err(Rejected::BadInnerLength);
    }
    if least == 40 || plaintext[12..16] != allowed.octets() {
        return Err(Rejected::ForeignSource);
    }
    Ok(Got::Packet(plaintext[..length].to_vec()))
}

/// How a puppet is configured.
fn config(puppet: &Puppet) -> PeerConfig<'static> {
    PeerConfig::new(PublicKey::from_bytes(puppet.public))
        .preshared_key(PresharedKey::from_bytes(puppet.psk))
        .mtu(MTU)
}
