//! One line of a `set` request as a typed value.
//!
//! Reading a line is total and needs nothing but the line: whether its key may stand where it
//! stands, and whether it can be done, shows when it is applied.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use core::str::FromStr;

use super::Error;
use crate::{Cidr, PresharedKey, PrivateKey, PublicKey};

/// What one line of a `set` request asks for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Operation {
    /// `private_key`: who this side is; zeros take the key away.
    PrivateKey(Option<PrivateKey>),
    /// `listen_port`: the UDP port to receive on; zero leaves the choice to the system.
    ListenPort(u16),
    /// `fwmark`: the mark of outgoing datagrams; zero is none.
    Fwmark(u32),
    /// `replace_peers`: removes all peers.
    ReplacePeers,
    /// `public_key`: the lines that follow are about this peer, which is added if it is missing.
    Peer(PublicKey),
    /// `remove`: removes the peer.
    Remove,
    /// `update_only`: takes the peer back if it was missing.
    UpdateOnly,
    /// `preshared_key`: zeros are none.
    PresharedKey(PresharedKey),
    /// `endpoint`: where the peer is.
    Endpoint {
        /// The address. Its scope is zero if there is a zone.
        address: SocketAddr,
        /// The name of the network interface behind a `%`, if it is not a number.
        zone: Option<Zone>,
    },
    /// `persistent_keepalive_interval`: in seconds; zero is off.
    PersistentKeepalive(u16),
    /// `replace_allowed_ips`: routes nothing to the peer any more.
    ReplaceAllowedIps,
    /// `allowed_ip`: routes the prefix to the peer.
    AllowedIp(Cidr),
    /// `allowed_ip` with a `-` in front: routes the prefix to the peer no more.
    RemoveAllowedIp(Cidr),
    /// `protocol_version`, which is 1.
    ProtocolVersion,
}

impl Operation {
    /// Reads a line, without its end.
    ///
    /// # Errors
    ///
    /// [`Error::NotAPair`], [`Error::UnknownKey`], [`Error::Value`].
    pub fn parse(line: &[u8]) -> Result<Self, Error> {
        let equals = line.iter().position(|byte| *byte == b'=');
        let (name, value) = equals
            .and_then(|at| line.split_at_checked(at))
            .ok_or(Error::NotAPair)?;
        let key = Key::find(name).ok_or(Error::UnknownKey)?;
        value
            .split_first()
            .and_then(|(_, value)| core::str::from_utf8(value).ok())
            .and_then(|value| Self::of(key, value))
            .ok_or(Error::Value { key })
    }

    fn of(key: Key, value: &str) -> Option<Self> {
        match key {
            Key::PrivateKey => private_key(value),
            Key::ListenPort => decimal(value).map(Self::ListenPort),
            Key::Fwmark => decimal(value).map(Self::Fwmark),
            Key::ReplacePeers => (value == "true").then_some(Self::ReplacePeers),
            Key::PublicKey => PublicKey::from_hex(value).ok().map(Self::Peer),
            Key::Remove => (value == "true").then_some(Self::Remove),
            Key::UpdateOnly => (value == "true").then_some(Self::UpdateOnly),
            Key::PresharedKey => PresharedKey::from_hex(value).ok().map(Self::PresharedKey),
            Key::Endpoint => endpoint(value),
            Key::PersistentKeepalive => decimal(value).map(Self::PersistentKeepalive),
            Key::ReplaceAllowedIps => (value == "true").then_some(Self::ReplaceAllowedIps),
            Key::AllowedIp => match value.strip_prefix('-') {
                Some(value) => prefix(value).map(Self::RemoveAllowedIp),
                None => prefix(value).map(Self::AllowedIp),
            },
            Key::ProtocolVersion => (value == "1").then_some(Self::ProtocolVersion),
        }
    }

    /// The key of the line.
    #[must_use]
    pub const fn key(&self) -> Key {
        match self {
            Self::PrivateKey(_) => Key::PrivateKey,
            Self::ListenPort(_) => Key::ListenPort,
            Self::Fwmark(_) => Key::Fwmark,
            Self::ReplacePeers => Key::ReplacePeers,
            Self::Peer(_) => Key::PublicKey,
            Self::Remove => Key::Remove,
            Self::UpdateOnly => Key::UpdateOnly,
            Self::PresharedKey(_) => Key::PresharedKey,
            Self::Endpoint { .. } => Key::Endpoint,
            Self::PersistentKeepalive(_) => Key::PersistentKeepalive,
            Self::ReplaceAllowedIps => Key::ReplaceAllowedIps,
            Self::AllowedIp(_) | Self::RemoveAllowedIp(_) => Key::AllowedIp,
            Self::ProtocolVersion => Key::ProtocolVersion,
        }
    }
}

/// The keys of a `set` request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Key {
    /// `private_key`.
    PrivateKey,
    /// `listen_port`.
    ListenPort,
    /// `fwmark`.
    Fwmark,
    /// `replace_peers`.
    ReplacePeers,
    /// `public_key`, which begins a peer.
    PublicKey,
    /// `remove`.
    Remove,
    /// `update_only`.
    UpdateOnly,
    /// `preshared_key`.
    PresharedKey,
    /// `endpoint`.
    Endpoint,
    /// `persistent_keepalive_interval`.
    PersistentKeepalive,
    /// `replace_allowed_ips`.
    ReplaceAllowedIps,
    /// `allowed_ip`.
    AllowedIp,
    /// `protocol_version`.
    ProtocolVersion,
}

impl Key {
    const ALL: [Self; 13] = [
        Self::AllowedIp,
        Self::PublicKey,
        Self::PresharedKey,
        Self::Endpoint,
        Self::PersistentKeepalive,
        Self::ReplaceAllowedIps,
        Self::ProtocolVersion,
        Self::Remove,
        Self::UpdateOnly,
        Self::PrivateKey,
        Self::ListenPort,
        Self::Fwmark,
        Self::ReplacePeers,
    ];

    fn find(name: &[u8]) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|key| key.name().as_bytes() == name)
    }

    /// The name, as it stands in a request.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PrivateKey => "private_key",
            Self::ListenPort => "listen_port",
            Self::Fwmark => "fwmark",
            Self::ReplacePeers => "replace_peers",
            Self::PublicKey => "public_key",
            Self::Remove => "remove",
            Self::UpdateOnly => "update_only",
            Self::PresharedKey => "preshared_key",
            Self::Endpoint => "endpoint",
            Self::PersistentKeepalive => "persistent_keepalive_interval",
            Self::ReplaceAllowedIps => "replace_allowed_ips",
            Self::AllowedIp => "allowed_ip",
            Self::ProtocolVersion => "protocol_version",
        }
    }

    /// Whether the key stands before the first peer; all others but `public_key` stand behind it.
    #[must_use]
    pub const fn is_of_device(self) -> bool {
        matches!(
            self,
            Self::PrivateKey | Self::ListenPort | Self::Fwmark | Self::ReplacePeers
        )
    }

    /// What a value of the key looks like.
    pub(super) const fn expected(self) -> &'static str {
        match self {
            Self::PrivateKey | Self::PublicKey | Self::PresharedKey => "64 hexadecimal digits",
            Self::ListenPort | Self::PersistentKeepalive => "a number from 0 to 65535",
            Self::Fwmark => "a number below 2^32",
            Self::ReplacePeers | Self::Remove | Self::UpdateOnly | Self::ReplaceAllowedIps => {
                "`true`"
            }
            Self::Endpoint => {
                "an address and a port such as 192.0.2.1:51820 or [2001:db8::1]:51820"
            }
            Self::AllowedIp => "a network such as 10.0.0.0/24",
            Self::ProtocolVersion => "1",
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The name of a network interface, as it stands behind the `%` of an address: at most 15
/// characters of ASCII.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zone([u8; Self::MAX_LEN]);

impl Zone {
    /// Linux has 16 bytes for a name and the zero behind it.
    const MAX_LEN: usize = 15;

    fn new(name: &str) -> Option<Self> {
        let mut zone = Self([0; Self::MAX_LEN]);
        let place = zone.0.get_mut(..name.len())?;
        place.copy_from_slice(name.as_bytes());
        let allowed = |byte: u8| byte.is_ascii_graphic() && !b"/%[]".contains(&byte);
        (!name.is_empty() && name.bytes().all(allowed)).then_some(zone)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let name = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        // ASCII, so the alternative cannot happen.
        core::str::from_utf8(name).unwrap_or_default()
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Zeros are no key. Whether they are is decided before the key is clamped.
fn private_key(value: &str) -> Option<Operation> {
    let bytes = PresharedKey::from_hex(value).ok()?;
    let key = (!bytes.is_none()).then(|| PrivateKey::from_bytes(*bytes.expose()));
    Some(Operation::PrivateKey(key))
}

/// A decimal number without a sign; leading zeros are allowed.
fn decimal<T: FromStr>(text: &str) -> Option<T> {
    let digits_only = text.bytes().all(|byte| byte.is_ascii_digit());
    digits_only.then(|| text.parse().ok()).flatten()
}

/// A prefix with its length, which has neither a sign nor leading zeros.
fn prefix(text: &str) -> Option<Cidr> {
    let (_, length) = text.split_once('/')?;
    (length == "0" || !length.starts_with('0')).then_some(())?;
    text.parse().ok()
}

fn endpoint(text: &str) -> Option<Operation> {
    let (host, port) = text.rsplit_once(':')?;
    let port = decimal(port)?;
    let Some(host) = host.strip_prefix('[') else {
        let address = (host.parse::<Ipv4Addr>().ok()?, port).into();
        let zone = None;
        return Some(Operation::Endpoint { address, zone });
    };
    let host = host.strip_suffix(']')?;
    let (address, zone) = match host.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (host, None),
    };
    let address: Ipv6Addr = address.parse().ok()?;
    let (scope_id, zone) = match zone {
        None => (0, None),
        Some(zone) if zone.bytes().all(|byte| byte.is_ascii_digit()) => (decimal(zone)?, None),
        Some(zone) => (0, Some(Zone::new(zone)?)),
    };
    let address = SocketAddrV6::new(address, port, 0, scope_id).into();
    Some(Operation::Endpoint { address, zone })
}

#[cfg(test)]
mod tests {
    use std::string::{String, ToString};

    use super::*;

    /// The endpoint that a text is, with its zone.
    fn read(text: &str) -> Option<(String, Option<String>)> {
        let line = std::format!("endpoint={text}");
        match Operation::parse(line.as_bytes()) {
            Ok(Operation::Endpoint { address, zone }) => Some((
                address.to_string(),
                zone.map(|zone| zone.as_str().to_string()),
            )),
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                assert_eq!(error, Error::Value { key: Key::Endpoint });
                None
            }
        }
    }

    #[test]
    fn scopes_are_numbers_or_names() {
        for (text, address, zone) in [
            ("[fe80::1%7]:1", "[fe80::1%7]:1", None),
            ("[fe80::1%4294967295]:1", "[fe80::1%4294967295]:1", None),
            ("[fe80::1%0]:1", "[fe80::1]:1", None),
            ("[fe80::1%eth0.7]:1", "[fe80::1]:1", Some("eth0.7")),
            (
                "[fe80::1%123456789abcdef]:1",
                "[fe80::1]:1",
                Some("123456789abcdef"),
            ),
            ("[::1%wg-0@x]:65535", "[::1]:65535", Some("wg-0@x")),
        ] {
            let zone = zone.map(ToString::to_string);
            assert_eq!(read(text), Some((address.to_string(), zone)), "{text}");
        }
        for text in [
            "[fe80::1%]:1",
            "[fe80::1%4294967296]:1",
            "[fe80::1%123456789abcdefg]:1",
            "[fe80::1%a b]:1",
            "[fe80::1%a/b]:1",
            "[fe80::1%a%b]:1",
            "[fe80::1%\u{e9}]:1",
            "[fe80::1%a\0]:1",
            "192.0.2.1%eth0:1",
            "[192.0.2.1%1]:1",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn every_key_is_found_by_its_name_and_no_other() {
        for key in Key::ALL {
            assert_eq!(Key::find(key.name().as_bytes()), Some(key));
            let longer = std::format!("{key}s");
            assert_eq!(Key::find(longer.as_bytes()), None);
            let (shorter, _) = key.name().split_at(key.name().len() - 1);
            assert_eq!(Key::find(shorter.as_bytes()), None);
        }
    }

    /// Zeros are told from a key before clamping makes a key of them.
    #[test]
    fn a_private_key_of_zeros_is_none() {
        let zeros = "0".repeat(64);
        let read = |text: &str| Operation::parse(std::format!("private_key={text}").as_bytes());
        assert!(matches!(read(&zeros), Ok(Operation::PrivateKey(None))));
        let clamped_away = std::format!("07{}", "0".repeat(62));
        let Ok(Operation::PrivateKey(Some(key))) = read(&clamped_away) else {
            panic!("not a key")
        };
        assert_eq!(key.expose()[31], 0x40);
    }
}
