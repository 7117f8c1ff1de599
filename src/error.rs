//! Verdicts and refusals: one small `Copy` enum for each verb.
//!
//! [`Rejected`] speaks about one datagram and never about the tunnel, which has no terminal state.
//! [`SealError`] leaves the packet with the caller and nothing consumed. [`ConfigError`] leaves the
//! configuration as it was.

use core::fmt;

use crate::wire::Malformed;

/// Why a datagram was dropped.
///
/// Every drop is counted by its reason (see `Drops`). Unless a reason says otherwise, the datagram
/// changed nothing, and nothing is sent in answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rejected {
    /// The first four bytes are not those of a message.
    UnknownType,
    /// The length does not fit the type.
    WrongLength,
    /// The interface has no private key yet, so it cannot take part in a handshake.
    NoPrivateKey,
    /// The first mac of a handshake message is wrong: the sender does not know our public key.
    WrongMac1,
    /// Under load, the sender has not proven its address; a cookie reply is owed to it.
    CookieRequired,
    /// Under load, the sender has proven its address but spent its share.
    RateLimited,
    /// No handshake or session of ours has this receiver index.
    UnknownReceiver,
    /// A tag does not verify: forged, damaged, or sealed under another key.
    Forged,
    /// A public key in the message yields an all-zero shared secret.
    LowOrderKey,
    /// The initiator is authentic to itself but not one of our peers.
    UnknownPeer,
    /// The timestamp is not greater than the greatest accepted from this peer: a replayed or
    /// overtaken initiation.
    OldTimestamp,
    /// A peer sends initiations less than 20 ms apart.
    TooFrequent,
    /// What the message belonged to was replaced or ended while its cryptography ran.
    Superseded,
    /// A cookie reply that answers nothing we sent, or answers it twice.
    UnexpectedCookie,
    /// The session is older than `REJECT_AFTER_TIME` or past its message limit.
    SessionExpired,
    /// The counter was seen before or is behind the replay window.
    Replayed,
    /// Authentic, but the content is not an IP packet. The session's timers have counted it.
    NotIp,
    /// Authentic, but the inner header promises another length. The session's timers have counted it.
    BadInnerLength,
    /// Authentic, but the inner source address is not routed to this peer. The session's timers
    /// have counted it.
    ForeignSource,
}

impl Rejected {
    /// Every reason, in the order of `Drops`.
    pub const ALL: [Self; 19] = [
        Self::UnknownType,
        Self::WrongLength,
        Self::NoPrivateKey,
        Self::WrongMac1,
        Self::CookieRequired,
        Self::RateLimited,
        Self::UnknownReceiver,
        Self::Forged,
        Self::LowOrderKey,
        Self::UnknownPeer,
        Self::OldTimestamp,
        Self::TooFrequent,
        Self::Superseded,
        Self::UnexpectedCookie,
        Self::SessionExpired,
        Self::Replayed,
        Self::NotIp,
        Self::BadInnerLength,
        Self::ForeignSource,
    ];

    const fn text(self) -> &'static str {
        match self {
            Self::UnknownType => "not a WireGuard message",
            Self::WrongLength => "the length does not fit the message type",
            Self::NoPrivateKey => "no private key is set; set one to take part in handshakes",
            Self::WrongMac1 => "mac1 is wrong: the sender does not know our public key",
            Self::CookieRequired => "under load: a cookie reply is owed to the sender",
            Self::RateLimited => "under load: the sender has spent its share of handshakes",
            Self::UnknownReceiver => "no handshake or session has this receiver index",
            Self::Forged => "a tag does not verify",
            Self::LowOrderKey => "a public key of low order was offered",
            Self::UnknownPeer => "the initiator is not one of our peers; add it to talk to it",
            Self::OldTimestamp => "the initiation's timestamp is not newer than the last one",
            Self::TooFrequent => "the peer initiates more than 50 times a second",
            Self::Superseded => "what the message belonged to was replaced meanwhile",
            Self::UnexpectedCookie => "the cookie reply answers nothing that is outstanding",
            Self::SessionExpired => "the session is past its time or message limit",
            Self::Replayed => "the counter was seen before or is too old",
            Self::NotIp => "the content is not an IP packet",
            Self::BadInnerLength => "the inner header's length does not fit the packet",
            Self::ForeignSource => "the inner source address is not one of the peer's allowed IPs",
        }
    }
}

impl From<Malformed> for Rejected {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::UnknownType => Self::UnknownType,
            Malformed::WrongLength => Self::WrongLength,
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for Rejected {}

/// Why a packet was not sealed. The packet is still the caller's, and no counter was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SealError {
    /// There is no usable session. A handshake has been asked for (at most one in 5 s): keep the
    /// packet, for example in `Staging`, and seal it when the peer's session is established.
    NoSession,
    /// The packet is not IPv4 or IPv6, or its header is incomplete.
    NotIp,
    /// The destination is in no peer's allowed IPs. The kernel answers such packets with an ICMP
    /// "no route to host".
    NoRoute,
    /// The peer has no endpoint: configure one, or wait for its first message.
    NoEndpoint,
    /// The handle's peer has been removed.
    UnknownPeer,
    /// The buffer lacks this many bytes of room before and behind the packet.
    BufferTooSmall {
        /// Bytes missing in front.
        head: usize,
        /// Bytes missing behind.
        tail: usize,
    },
    /// The payload range does not lie inside the buffer.
    BadRange,
    /// The packet is longer than any IP packet: more than 65,535 bytes.
    TooLong,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSession => "no session yet; keep the packet until the peer is established",
            Self::NotIp => "not a complete IP packet",
            Self::NoRoute => "the destination is in no peer's allowed IPs",
            Self::NoEndpoint => "the peer has no endpoint; set one or wait for its first message",
            Self::UnknownPeer => "this peer has been removed",
            Self::BufferTooSmall { head, tail } => {
                return write!(
                    f,
                    "the buffer needs {head} more bytes before and {tail} more bytes behind the packet"
                );
            }
            Self::BadRange => "the payload range does not lie inside the buffer",
            Self::TooLong => "the packet is longer than 65535 bytes",
        })
    }
}

impl core::error::Error for SealError {}

/// Why a change of configuration was refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConfigError {
    /// The peer's public key is the interface's own.
    OwnPublicKey,
    /// A peer with this public key exists already.
    DuplicatePeer,
    /// The handle's peer has been removed.
    UnknownPeer,
    /// The table of peers is full (2^20 peers).
    TooManyPeers,
    /// A `Tunnel` holds at most `Tunnel::MAX_ALLOWED_IPS` prefixes; use an `Interface` for more.
    TooManyAllowedIps,
    /// The named timing breaks the protocol: it is zero, or it is not smaller than what it must precede.
    InvalidTiming(&'static str),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OwnPublicKey => "public_key: this is the interface's own key",
            Self::DuplicatePeer => "public_key: a peer with this key exists already",
            Self::UnknownPeer => "this peer has been removed",
            Self::TooManyPeers => "an interface holds at most 1048576 peers",
            Self::TooManyAllowedIps => {
                "allowed_ips: too many prefixes for a tunnel; use an interface"
            }
            Self::InvalidTiming(field) => {
                return write!(
                    f,
                    "timings.{field}: zero, or not in the order that the protocol needs"
                );
            }
        })
    }
}

impl core::error::Error for ConfigError {}

/// How many datagrams were dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    counts: [u64; Rejected::ALL.len()],
}

impl Drops {
    /// How many datagrams were dropped for this reason.
    #[must_use]
    pub fn get(&self, reason: Rejected) -> u64 {
        self.iter()
            .find_map(|(r, n)| (r == reason).then_some(n))
            .unwrap_or_default()
    }

    /// How many datagrams were dropped in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Every reason with its count, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (Rejected, u64)> + '_ {
        Rejected::ALL.into_iter().zip(self.counts)
    }

    pub(crate) fn count(&mut self, reason: Rejected) {
        let position = Rejected::ALL.iter().position(|r| *r == reason);
        if let Some(n) = position.and_then(|i| self.counts.get_mut(i)) {
            *n = n.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn every_reason_is_counted_on_its_own() {
        let mut drops = Drops::default();
        for (i, reason) in Rejected::ALL.into_iter().enumerate() {
            for _ in 0..=i {
                drops.count(reason);
            }
        }
        for (i, reason) in Rejected::ALL.into_iter().enumerate() {
            assert_eq!(drops.get(reason), i as u64 + 1, "{reason}");
        }
        assert_eq!(drops.total(), 19 * 20 / 2);
    }

    #[test]
    fn buffer_error_says_how_much_is_missing() {
        let text = SealError::BufferTooSmall { head: 3, tail: 20 }.to_string();
        assert!(text.contains("3 more bytes before") && text.contains("20 more bytes behind"));
    }
}
