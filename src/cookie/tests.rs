//! Both sides of macs and cookies, with the white paper's numbers.

use super::*;
use crate::wire::Initiation;
use core::convert::Infallible;
use rand_core::{TryCryptoRng, TryRng};
use std::vec;
use std::vec::Vec;

const OWN: [u8; 32] = [0x31; 32];

/// Counts upward, so that everything drawn differs and is known.
struct Counting(u64);

impl TryRng for Counting {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|n| u32::try_from(n).unwrap())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 += 1;
        Ok(self.0)
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(8) {
            let word = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for Counting {}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn source() -> SocketAddr {
    SocketAddr::from(([192, 168, 13, 37], 0x0a0a))
}

/// One side of each kind and a generator: the two ends of a cookie exchange.
struct Ends {
    checker: Checker,
    jar: Jar,
    rng: Counting,
}

impl Ends {
    fn new() -> Self {
        Self {
            checker: Checker::new(&OWN),
            jar: Jar::default(),
            rng: Counting(0),
        }
    }

    fn reply(&mut self, now: Instant, to: SocketAddr, mac1: &[u8; 16]) -> CookieReply {
        let mut env = Env::new(&mut self.rng, Duration::ZERO);
        let reply = self.checker.reply(now, &mut env, to, 1377, mac1);
        CookieReply::parse(reply.as_bytes().try_into().unwrap())
    }

    /// A message signed now.
    fn signed(&mut self, now: Instant) -> Message {
        let mut message = Initiation {
            sender: 1377,
            ephemeral: [3; 32],
            sealed_static: [4; 48],
            sealed_timestamp: [5; 28],
        }
        .emit();
        self.jar.sign(now, &OWN, &mut message);
        message
    }

    /// Gives the jar a cookie now.
    fn exchange(&mut self, now: Instant) {
        let message = self.signed(now);
        let mac1 = Macs::of(message.as_bytes()).unwrap().mac1;
        let reply = self.reply(now, source(), &mac1);
        assert_eq!(reply.receiver, 1377);
        assert!(self.jar.accept(now, &OWN, &reply));
    }

    fn verdicts(&self, now: Instant, from: SocketAddr, message: &[u8]) -> (bool, bool) {
        let macs = Macs::of(message).unwrap();
        let first = self.checker.mac1_is_valid(&macs);
        (first, self.checker.mac2_is_valid(now, from, &macs))
    }
}

/// Signs a message of any length as the jar would sign its own.
fn sign_any(ends: &mut Ends, len: usize) -> Vec<u8> {
    let cookie = ends.jar.cookie.as_ref().map(|(_, cookie)| cookie.clone());
    let mut message = vec![0x6b; len];
    let (at1, at2) = (len - 32, len - 16);
    let mac1 = mac(&mac1_key(&OWN), &[&message[..at1]]);
    message[at1..at2].copy_from_slice(&mac1);
    message[at2..].fill(0);
    if let Some(cookie) = cookie {
        let mac2 = mac(cookie.expose(), &[&message[..at2]]);
        message[at2..].copy_from_slice(&mac2);
    }
    message
}

/// The checks of wireguard-go's test of macs, on lengths that the protocol has and has not.
#[test]
fn macs_cover_message_address_and_port() {
    let mut ends = Ends::new();
    for len in [33, 60, 92, 148, 160] {
        let message = sign_any(&mut ends, len);
        assert_eq!(ends.verdicts(at(0), source(), &message), (true, false));
    }
    ends.exchange(at(0));
    for len in [33, 60, 92, 148, 160] {
        let mut message = sign_any(&mut ends, len);
        assert_eq!(ends.verdicts(at(1), source(), &message), (true, true));
        if len > 40 {
            message[5] ^= 0x20;
            assert_eq!(ends.verdicts(at(1), source(), &message), (false, false));
            message[5] ^= 0x20;
        }
        for elsewhere in ["192.168.13.37:10241", "192.168.13.38:2570", "[::1]:2570"] {
            let from = elsewhere.parse().unwrap();
            assert_eq!(ends.verdicts(at(1), from, &message), (true, false));
        }
        let mapped = "[::ffff:192.168.13.37]:2570".parse().unwrap();
        assert_eq!(ends.verdicts(at(1), mapped, &message), (true, true));
    }
}

/// IPv4 and IPv6 addresses never share a cookie, even if the bytes that are hashed line up.
#[test]
fn families_are_kept_apart() {
    let dated = DatedSecret {
        born: at(0),
        secret: Secret::new([7; 32]),
    };
    let cookies = ["1.2.3.4:5", "1.2.3.4:6", "[102:304::]:5", "[::1.2.3.4]:5"]
        .map(|source| *dated.cookie_for(source.parse().unwrap()).expose());
    for (n, cookie) in cookies.iter().enumerate() {
        assert!(!cookies[..n].contains(cookie), "{n}");
    }
}

/// Before the first reply there is no secret: mac2 made from a zero secret, or of zeros, or
/// under a zero cookie proves nothing.
#[test]
fn there_is_no_default_secret() {
    let zero = DatedSecret {
        born: at(0),
        secret: Secret::zeroed(),
    };
    let mut ends = Ends::new();
    for round in 0..3 {
        for cookie in [zero.cookie_for(source()), Secret::zeroed()] {
            let mut message = sign_any(&mut Ends::new(), 148);
            let mac2 = mac(cookie.expose(), &[&message[..132]]);
            message[132..].copy_from_slice(&mac2);
            let verdicts = ends.verdicts(at(round * 200_000), source(), &message);
            assert_eq!(verdicts, (true, false), "after {round} secrets");
        }
        let zeros = sign_any(&mut Ends::new(), 148);
        let verdicts = ends.verdicts(at(round * 200_000), source(), &zeros);
        assert_eq!(verdicts, (true, false));
        ends.exchange(at(round * 200_000));
    }
}

/// A secret makes cookies for 120 s and they are believed until it is 240 s old.
#[test]
fn cookies_outlive_their_secret_by_its_own_life() {
    let mut ends = Ends::new();
    ends.exchange(at(1000));
    let message = sign_any(&mut ends, 148);
    // A reply to somebody else replaces the secret only once it is 120 s old.
    let _ = ends.reply(at(120_999), source(), &[1; 16]);
    assert!(ends.checker.previous.is_none());
    let _ = ends.reply(at(121_000), source(), &[1; 16]);
    assert!(ends.checker.previous.is_some());
    assert_eq!(ends.verdicts(at(121_000), source(), &message), (true, true));
    assert_eq!(ends.verdicts(at(240_999), source(), &message), (true, true));
    assert_eq!(
        ends.verdicts(at(241_000), source(), &message),
        (true, false)
    );
    // And a secret that nothing replaced ends at the same age.
    let mut ends = Ends::new();
    ends.exchange(at(1000));
    let message = sign_any(&mut ends, 148);
    assert_eq!(ends.verdicts(at(240_999), source(), &message), (true, true));
    assert_eq!(
        ends.verdicts(at(241_000), source(), &message),
        (true, false)
    );
}

/// After two rotations nothing of the first secret is left.
#[test]
fn only_one_secret_back_is_believed() {
    let mut ends = Ends::new();
    ends.exchange(at(0));
    let message = sign_any(&mut ends, 148);
    let _ = ends.reply(at(120_000), source(), &[1; 16]);
    assert_eq!(ends.verdicts(at(239_999), source(), &message), (true, true));
    let _ = ends.reply(at(240_000), source(), &[1; 16]);
    assert_eq!(
        ends.verdicts(at(239_999), source(), &message),
        (true, false)
    );
}

/// The sender stops using a cookie five seconds before its secret may be gone.
#[test]
fn a_cookie_is_used_for_115_s() {
    let mut ends = Ends::new();
    assert_eq!(
        Macs::of(ends.signed(at(0)).as_bytes()).unwrap().mac2,
        [0; 16]
    );
    ends.exchange(at(1000));
    for (millis, used) in [
        (1000, true),
        (115_999, true),
        (116_000, false),
        (1000, false),
    ] {
        let message = ends.signed(at(millis));
        let macs = Macs::of(message.as_bytes()).unwrap();
        assert_eq!(macs.mac2 != [0; 16], used, "at {millis} ms");
        let verdicts = ends.verdicts(at(millis), source(), message.as_bytes());
        assert_eq!(verdicts, (true, used));
    }
}

/// A reply counts once, for the mac1 sent last, from the holder of the right key.
#[test]
fn a_reply_is_taken_once_and_for_the_last_message() {
    let mut ends = Ends::new();
    let unasked = ends.reply(at(0), source(), &[0; 16]);
    assert!(!ends.jar.accept(at(0), &OWN, &unasked), "nothing was sent");
    let mac1 = |message: &Message| Macs::of(message.as_bytes()).unwrap().mac1;
    let old = mac1(&ends.signed(at(0)));
    let mut message = Initiation::parse(&[9; 148]).emit();
    ends.jar.sign(at(0), &OWN, &mut message);
    let last = mac1(&message);
    let late = ends.reply(at(0), source(), &old);
    assert!(!ends.jar.accept(at(0), &OWN, &late), "an older message");
    let good = ends.reply(at(0), source(), &last);
    assert!(!ends.jar.accept(at(0), &[1; 32], &good), "another peer's");
    for bit in 0..256 {
        let mut changed = good;
        changed.sealed_cookie[bit / 8] ^= 1 << (bit % 8);
        assert!(!ends.jar.accept(at(0), &OWN, &changed), "bit {bit}");
    }
    for bit in 0..192 {
        let mut changed = good;
        changed.nonce[bit / 8] ^= 1 << (bit % 8);
        assert!(!ends.jar.accept(at(0), &OWN, &changed), "nonce bit {bit}");
    }
    assert!(ends.jar.cookie.is_none());
    assert!(ends.jar.accept(at(0), &OWN, &good));
    assert!(!ends.jar.accept(at(0), &OWN, &good), "twice");
}

/// Every reply has a nonce of its own.
#[test]
fn nonces_of_replies_differ() {
    let mut ends = Ends::new();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..10_000 {
        assert!(seen.insert(ends.reply(at(0), source(), &[1; 16]).nonce));
    }
}
