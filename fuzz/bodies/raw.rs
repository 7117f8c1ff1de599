//! Datagrams from somebody who holds no key, and genuine ones that were damaged on their way.

use core::net::SocketAddr;
use core::time::Duration;

use quietwire::{Env, Instant, Interface, PeerConfig, PeerId, PrivateKey, PublicKey};

use super::input::{Input, Rng};
use super::packet;
use super::puppet::{Keys, Puppet, public};
use super::replay::address;

/// Marks plaintext that must not be found in the buffer of a refused datagram.
const SECRET: &[u8] = b"plaintext of the tunnel";

/// An interface with a session and with an initiation that waits for its response.
struct Scene {
    target: Interface,
    id: PeerId,
    /// One message of each kind that would be accepted, and how many of its bytes are checked.
    genuine: [(Vec<u8>, usize); 4],
}

/// Everything is refused, counted, changes nothing and is not answered.
pub fn receive(data: &[u8]) {
    let mut input = Input::new(data);
    let mut scene = Scene::new();
    let before = scene.target.peer(scene.id).unwrap().stats();
    let mut expected = scene.target.drops().total();
    let mut batch = Vec::new();
    for _ in 0..64 {
        if input.is_empty() {
            break;
        }
        let Some(mut datagram) = damaged(&mut input, &scene.genuine) else {
            continue;
        };
        expected += 1;
        let source = SocketAddr::from(([203, 0, 113, 9], input.u16()));
        if input.flag() {
            batch.push((source, datagram));
            continue;
        }
        let refused = scene.target.receive(now(), source, &mut datagram);
        assert!(refused.is_err(), "{refused:?}");
        assert_sealed(&datagram);
    }
    let mut received = Vec::new();
    scene.target.receive_batch(now(), batch, &mut received);
    for result in received {
        assert_sealed(&result.expect_err("a damaged datagram in a batch").datagram);
    }
    assert_eq!(
        scene.target.drops().total(),
        expected,
        "each one is counted once"
    );
    scene.assert_unmoved(before.rx_bytes);
}

fn damaged(input: &mut Input<'_>, genuine: &[(Vec<u8>, usize); 4]) -> Option<Vec<u8>> {
    let choice = input.byte();
    if choice & 1 == 0 {
        let len = usize::from(input.u16() & 0x7ff);
        return Some(input.bytes(len).to_vec());
    }
    let (message, checked) = &genuine[usize::from(choice >> 1) % 4];
    let mut datagram = message.clone();
    for _ in 0..=input.below(3) {
        let at = usize::from(input.u16()) % checked;
        datagram[at] ^= input.byte();
    }
    match input.below(8) {
        0 => datagram.truncate(usize::from(input.u16()) % message.len()),
        1 => datagram.extend(input.bytes(16)),
        _ => {}
    }
    (datagram[..] != message[..]).then_some(datagram)
}

fn assert_sealed(datagram: &[u8]) {
    assert!(
        !datagram
            .windows(SECRET.len())
            .any(|window| window == SECRET)
    );
}

impl Scene {
    fn new() -> Self {
        let mut rng = Rng(2);
        let private = rng.array();
        let puppet = Puppet::new(rng.array(), public(&private), rng.array());
        let mut target = Interface::new(Some(&PrivateKey::from_bytes(private)), start());
        let config = PeerConfig::new(PublicKey::from_bytes(puppet.public))
            .preshared_key(quietwire::PresharedKey::from_bytes(puppet.psk))
            .allowed_ips(&[])
            .endpoint(address());
        let id = target.add_peer(start(), &config).unwrap();
        let everything = "0.0.0.0/0".parse().unwrap();
        target.peer_mut(id).unwrap().add_allowed_ip(everything);
        let keys = establish(&mut target, &puppet, &mut rng);
        let genuine = genuine(&mut target, id, &puppet, &keys, &mut rng);
        Self {
            target,
            id,
            genuine,
        }
    }

    fn assert_unmoved(&mut self, rx_bytes: u64) {
        let peer = self.target.peer(self.id).unwrap();
        assert_eq!(peer.stats().rx_bytes, rx_bytes);
        assert_eq!(peer.endpoint(), Some(address()));
        assert_eq!(self.target.poll_event(), None);
        let mut rng = Rng(3);
        let mut env = Env::new(&mut rng, Duration::ZERO);
        assert!(self.target.poll_transmit(now(), &mut env).is_none());
    }
}

fn establish(target: &mut Interface, puppet: &Puppet, rng: &mut Rng) -> Keys {
    let (mut message, first) = puppet.initiation(rng.array(), 5, [1; 12]);
    puppet.sign(&mut message, None);
    target.receive(start(), address(), &mut message).unwrap();
    let mut env = Env::new(rng, Duration::from_secs(1_700_000_000));
    let response = target.poll_transmit(start(), &mut env).unwrap();
    let keys = puppet
        .read_response(&first, response.message.as_bytes())
        .unwrap();
    target
        .receive(start(), address(), &mut keys.data(0, &[]))
        .unwrap();
    keys
}

fn genuine(
    target: &mut Interface,
    id: PeerId,
    puppet: &Puppet,
    keys: &Keys,
    rng: &mut Rng,
) -> [(Vec<u8>, usize); 4] {
    target.peer_mut(id).unwrap().initiate(now());
    let mut env = Env::new(rng, Duration::from_secs(1_700_000_000));
    let theirs = target.poll_transmit(now(), &mut env).unwrap();
    while target.poll_event().is_some() {}
    let theirs = theirs.message.as_bytes();
    let (mut initiation, _) = puppet.initiation(rng.array(), 6, [2; 12]);
    puppet.sign(&mut initiation, None);
    let read = puppet.read_initiation(theirs).unwrap();
    let (mut response, _) = puppet.response(&read, rng.array(), 8);
    puppet.sign(&mut response, None);
    let cookie = puppet.cookie_reply(read.sender, [9; 24], [10; 16], &theirs[116..132]);
    let mut inner = packet::ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 0, SECRET.len());
    let at = inner.len() - SECRET.len();
    inner[at..].copy_from_slice(SECRET);
    // Of a handshake message mac2 is not looked at while there is no load.
    [
        (initiation, 132),
        (response, 76),
        (cookie, 64),
        (keys.data(1, &inner), 32 + inner.len()),
    ]
}

fn start() -> Instant {
    Instant::from_nanos(0)
}

/// Late enough for an initiation to follow the response.
fn now() -> Instant {
    Instant::from_millis(6000)
}
