//! mac1, mac2 and cookies (white paper, sections 5.3, 5.4.4 and 5.4.7).
//!
//! [`Checker`] is the receiver's side, one for each private key: it verifies the macs of handshake
//! messages and makes cookie replies. [`Jar`] is the sender's side, one for each peer: it signs
//! messages and keeps the cookie that the peer gave us. Neither decides when to use a cookie.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use subtle::ConstantTimeEq;

use crate::crypto::aead::{xopen, xseal};
use crate::crypto::blake2s::{hash, mac};
use crate::crypto::secret::Secret;
use crate::event::Env;
use crate::time::Instant;
use crate::wire::{CookieReply, MAC_LEN, Macs, Message};

/// How long a secret makes new cookies.
const SECRET_MAX_AGE: Duration = Duration::from_secs(120);

/// How long a secret's cookies are accepted: a cookie made in the secret's last second lives as
/// long as any other.
const SECRET_GRACE: Duration = Duration::from_secs(2 * 120);

/// How long the sender trusts a cookie: five seconds less than the secret's life, for the way.
const COOKIE_MAX_AGE: Duration = Duration::from_secs(120 - 5);

type Cookie = Secret<MAC_LEN>;

fn mac1_key(receiver: &[u8; 32]) -> [u8; 32] {
    hash(&[b"mac1----", receiver])
}

fn cookie_key(receiver: &[u8; 32]) -> [u8; 32] {
    hash(&[b"cookie--", receiver])
}

/// The receiver's side.
#[derive(Debug)]
pub(crate) struct Checker {
    mac1_key: [u8; 32],
    cookie_key: [u8; 32],
    secret: Option<DatedSecret>,
    previous: Option<DatedSecret>,
}

#[derive(Debug)]
struct DatedSecret {
    born: Instant,
    secret: Secret<32>,
}

impl Checker {
    /// The checker of the interface with this static public key.
    pub(crate) fn new(own_public: &[u8; 32]) -> Self {
        Self {
            mac1_key: mac1_key(own_public),
            cookie_key: cookie_key(own_public),
            secret: None,
            previous: None,
        }
    }

    /// Whether the message was written for us. Constant time; one BLAKE2s.
    pub(crate) fn mac1_is_valid(&self, macs: &Macs<'_>) -> bool {
        mac(&self.mac1_key, &[macs.before_mac1])
            .ct_eq(&macs.mac1)
            .into()
    }

    /// Whether the sender has received a cookie of ours at this address.
    pub(crate) fn mac2_is_valid(&self, now: Instant, source: SocketAddr, macs: &Macs<'_>) -> bool {
        let live = |s: &&DatedSecret| !s.born.is_older_than(SECRET_GRACE, now);
        [&self.secret, &self.previous]
            .into_iter()
            .flatten()
            .filter(live)
            .any(|dated| {
                let cookie = dated.cookie_for(source);
                mac(cookie.expose(), &[macs.before_mac2])
                    .ct_eq(&macs.mac2)
                    .into()
            })
    }

    /// The reply to a message with index `receiver` and `mac1` from `source`.
    pub(crate) fn reply(
        &mut self,
        now: Instant,
        env: &mut Env<'_>,
        source: SocketAddr,
        receiver: u32,
        mac1: &[u8; MAC_LEN],
    ) -> Message {
        let cookie = self.fresh_secret(now, env).cookie_for(source);
        let nonce = env.random();
        let sealed_cookie = xseal(&self.cookie_key, &nonce, mac1, cookie.expose());
        CookieReply {
            receiver,
            nonce,
            sealed_cookie,
        }
        .emit()
    }

    fn fresh_secret(&mut self, now: Instant, env: &mut Env<'_>) -> &DatedSecret {
        let stale = |dated: &DatedSecret| dated.born.is_older_than(SECRET_MAX_AGE, now);
        if self.secret.as_ref().is_some_and(stale) {
            self.previous = self.secret.take();
        }
        self.secret.get_or_insert_with(|| DatedSecret {
            born: now,
            secret: Secret::new(env.random()),
        })
    }
}

impl DatedSecret {
    /// cookie := Mac(secret, address family ‖ address ‖ port)
    fn cookie_for(&self, source: SocketAddr) -> Cookie {
        let port = source.port().to_be_bytes();
        Secret::new(match source.ip().to_canonical() {
            IpAddr::V4(ip) => mac(self.secret.expose(), &[&[4], &ip.octets(), &port]),
            IpAddr::V6(ip) => mac(self.secret.expose(), &[&[6], &ip.octets(), &port]),
        })
    }
}

/// The sender's side.
#[derive(Debug, Default)]
pub(crate) struct Jar {
    cookie: Option<(Instant, Cookie)>,
    /// mac1 of the last message sent, until a cookie reply has answered it.
    last_mac1: Option<[u8; MAC_LEN]>,
}

impl Jar {
    /// Fills in both macs of a message to the holder of `receiver`.
    pub(crate) fn sign(&mut self, now: Instant, receiver: &[u8; 32], message: &mut Message) {
        let Some(macs) = Macs::of(message.as_bytes()) else {
            return;
        };
        let first = mac(&mac1_key(receiver), &[macs.before_mac1]);
        message.set_macs(first, [0; MAC_LEN]);
        self.last_mac1 = Some(first);
        self.cookie
            .take_if(|(received, _)| received.is_older_than(COOKIE_MAX_AGE, now));
        if let (Some((_, cookie)), Some(macs)) = (&self.cookie, Macs::of(message.as_bytes())) {
            let second = mac(cookie.expose(), &[macs.before_mac2]);
            message.set_macs(first, second);
        }
    }

    /// Takes a cookie from the holder of `sender`; `false` when it answers nothing of ours.
    pub(crate) fn accept(&mut self, now: Instant, sender: &[u8; 32], reply: &CookieReply) -> bool {
        let Some(mac1) = self.last_mac1 else {
            return false;
        };
        let key = cookie_key(sender);
        let Some(cookie) = xopen(&key, &reply.nonce, &mac1, &reply.sealed_cookie) else {
            return false;
        };
        self.cookie = Some((now, Secret::new(cookie)));
        self.last_mac1 = None;
        true
    }
}

#[cfg(test)]
mod tests;
