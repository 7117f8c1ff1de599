//! The configuration format of `wg(8)` and `wg-quick(8)`: text in, typed values out, and back.
//!
//! [`Config::parse`] reads what `wg setconf` and `wg-quick up` read, and says exactly where a text
//! is wrong; [`Config::to_text_with_secrets`] writes what `wg showconf` and `wg-quick save` write.
//! Nothing here opens a file, resolves a name or runs a command: the values are for the caller.
//!
//! # What is read as `wg` and `wg-quick` read it
//!
//! - Sections and keys in any case; white space anywhere around names, `=` and values, and within
//!   the names and values of `wg`; `#` begins a comment anywhere, within a command too; line ends
//!   of Unix and of Windows; a last line without one.
//! - A key that is repeated replaces its value, but addresses, networks, name servers and commands
//!   add up. `[Interface]` sections add up to one.
//! - Two `[Peer]` sections with one public key are one peer, in the place of the first, with what
//!   `wg setconf` leaves on the device: each value of the later section replaces the earlier one,
//!   and its networks, even if there are none, replace all networks of the earlier one.
//! - One network may be given to several peers; the last of them has it on the device. It is kept
//!   as written.
//! - A `PrivateKey` of zeros is none. An empty value of a key of `wg-quick` is none.
//!
//! # What differs
//!
//! - Keys that nobody knows are kept ([`Config::unknown_keys`]), while `wg` refuses them. A known
//!   key in the wrong section is refused.
//! - Also accepted: a byte order mark at the start; `AllowedIPs` with an empty value.
//! - Refused: names of ports (they need a system to ask) and ports above 65535 (which `wg` takes
//!   modulo 65536); an IPv6 endpoint without brackets, where `wg` takes the last group for the
//!   port; IPv4 endpoints with fewer than four numbers; control characters in free text.
//!
//! ```
//! use quietwire::config::{Config, Endpoint};
//!
//! let config = Config::parse(
//!     "[Interface]
//!      Address = 10.0.0.1/24           # a comment
//!      ListenPort = 51820
//!      PrivateKey = iEs9UNl9VoF+vnYW5hH+hKasnCQhV06ySUcdHwilZms=
//!      [Peer]
//!      PublicKey = 6pQMk3elPZW9TBMgMfejqp6kC4ixy7A1WRra/6rqyTA=
//!      AllowedIPs = 10.0.0.2, 10.1.0.0/16
//!      Endpoint = vpn.example.com:51820",
//! )?;
//! assert_eq!(config.interface.listen_port, Some(51820));
//! let peer = &config.peers[0];
//! assert_eq!(peer.allowed_ips[0].to_string(), "10.0.0.2/32");
//! assert!(matches!(&peer.endpoint, Some(Endpoint::Name { host, .. }) if host == "vpn.example.com"));
//!
//! let error = Config::parse("[Interface]\nListenPort = 70000").unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "line 2, column 14: ListenPort: \"70000\": expected a number from 0 to 65535"
//! );
//! # Ok::<(), quietwire::config::ParseError>(())
//! ```

mod error;
mod field;
mod parse;
mod value;
mod write;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use crate::peer::PeerConfig;
use crate::{Cidr, PresharedKey, PrivateKey, PublicKey};

pub use error::{ParseError, Problem};
pub use field::{Field, Section};
pub use value::{Endpoint, InterfaceAddress, InvalidEndpoint};
pub use write::{ConfigText, WriteError};

/// The longest text that is read or written, in bytes: 16 MiB, some 100 000 peers.
pub const MAX_LEN: usize = 16 << 20;

/// All that a configuration file says.
///
/// `Debug` shows neither keys, nor commands, nor the values of unknown keys.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The `[Interface]` section; all of them, if there are several.
    pub interface: InterfaceSection,
    /// The `[Peer]` sections, in the order of the text. No two have the same public key.
    pub peers: Vec<PeerSection>,
}

impl Config {
    /// Reads a configuration.
    ///
    /// Takes time linear in the length of `text`, apart from a logarithmic search for each peer.
    /// Takes memory proportional to the length, too: about three times as much for a list of
    /// peers, 48 times for the worst text (nothing but keys and values of one character). Whoever
    /// reads texts of strangers may want to set a lower limit than [`MAX_LEN`].
    ///
    /// # Errors
    ///
    /// [`ParseError`] for the first line that is wrong; [`Problem::TooLong`] if `text` is longer
    /// than [`MAX_LEN`], before any of it is read.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse::parse(text)
    }

    /// Writes the configuration as text, private and preshared keys included.
    ///
    /// The order and the form are those of `wg showconf`, with the keys of `wg-quick` first, as
    /// `wg-quick save` has them; unknown keys come last in their section. Reading the text gives
    /// the same configuration. Its memory is allocated once, and wiped when it is dropped.
    ///
    /// # Errors
    ///
    /// [`WriteError`] if reading would give something else: a value with a line break or a `#`, an
    /// unknown key with the name of a known one, two peers with the same key, or too much of it.
    pub fn to_text_with_secrets(&self) -> Result<ConfigText, WriteError> {
        write::to_text(self)
    }

    /// The keys that are neither of `wg` nor of `wg-quick`.
    ///
    /// `wg` refuses them, and so should a caller that has no use for them: a misspelt
    /// `PresharedKey` is an unknown key, and the peer is left without one.
    pub fn unknown_keys(&self) -> impl Iterator<Item = UnknownKey<'_>> {
        let of_interface = self.interface.extra.iter();
        let of_peers = self.peers.iter().flat_map(|peer| {
            let peer_key = Some(&peer.public_key);
            peer.extra.iter().map(move |extra| (peer_key, extra))
        });
        of_interface
            .map(|extra| (None, extra))
            .chain(of_peers)
            .map(|(peer, (name, _))| UnknownKey { name, peer })
    }
}

/// Reads a configuration, as [`Config::parse`].
impl FromStr for Config {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

/// What `[Interface]` says: three keys of `wg`, then those of `wg-quick`.
#[derive(Clone, Default)]
pub struct InterfaceSection {
    /// Who this side is. A key of zeros in the text is none, as on a device.
    pub private_key: Option<PrivateKey>,
    /// The UDP port to receive on; zero leaves the choice to the system.
    pub listen_port: Option<u16>,
    /// The mark for outgoing packets; zero, which is also written `off`, means no mark.
    pub fwmark: Option<u32>,
    /// The addresses of the interface.
    pub addresses: Vec<InterfaceAddress>,
    /// Addresses of name servers and names of search domains, in the order of the text.
    pub dns: Vec<String>,
    /// The MTU of the interface, in bytes.
    pub mtu: Option<u16>,
    /// The routing table: a number, a name, `off` or `auto`.
    pub table: Option<String>,
    /// Commands to run before the interface is set up.
    pub pre_up: Vec<String>,
    /// Commands to run after the interface was set up.
    pub post_up: Vec<String>,
    /// Commands to run before the interface is taken down.
    pub pre_down: Vec<String>,
    /// Commands to run after the interface was taken down.
    pub post_down: Vec<String>,
    /// Whether to save the state of the interface to its file when it is taken down.
    pub save_config: Option<bool>,
    /// Unknown keys: name and value as written, without what is around them.
    pub extra: Vec<(String, String)>,
}

/// What one `[Peer]` says.
#[derive(Clone)]
pub struct PeerSection {
    /// Who the peer is.
    pub public_key: PublicKey,
    /// The additional secret. [`PresharedKey::NONE`] means the same as `None`.
    pub preshared_key: Option<PresharedKey>,
    /// The networks behind the peer.
    pub allowed_ips: Vec<Cidr>,
    /// Where the peer is at first.
    pub endpoint: Option<Endpoint>,
    /// Seconds between persistent keepalives; zero, which is also written `off`, means none.
    pub persistent_keepalive: Option<u16>,
    /// Unknown keys: name and value as written, without what is around them.
    pub extra: Vec<(String, String)>,
}

impl PeerSection {
    /// Makes a section that says nothing but who the peer is.
    #[must_use]
    pub const fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            preshared_key: None,
            allowed_ips: Vec::new(),
            endpoint: None,
            persistent_keepalive: None,
            extra: Vec::new(),
        }
    }

    /// The section as an [`Interface`](crate::Interface) takes it.
    ///
    /// An endpoint that is a name is left out, because nothing here can look names up: replace it by
    /// an [`Endpoint::Address`] first. The MTU is a property of the interface in this format: set it
    /// on the result.
    #[must_use]
    pub fn to_peer_config(&self) -> PeerConfig<'_> {
        let mut peer = PeerConfig::new(self.public_key)
            .preshared_key(self.preshared_key.clone().unwrap_or_default())
            .persistent_keepalive(self.persistent_keepalive.unwrap_or_default())
            .allowed_ips(&self.allowed_ips);
        if let Some(Endpoint::Address(address)) = self.endpoint {
            peer = peer.endpoint(address);
        }
        peer
    }
}

/// A key that was kept although its meaning is unknown; found by [`Config::unknown_keys`].
///
/// It has no value here: behind a misspelt name, the value may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownKey<'c> {
    /// The name as written.
    pub name: &'c str,
    /// The peer in whose section it stands; `None` for `[Interface]`.
    pub peer: Option<&'c PublicKey>,
}

impl fmt::Debug for InterfaceSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterfaceSection")
            .field("private_key", &self.private_key)
            .field("listen_port", &self.listen_port)
            .field("fwmark", &self.fwmark)
            .field("addresses", &self.addresses)
            .field("dns", &self.dns)
            .field("mtu", &self.mtu)
            .field("table", &self.table)
            .field("pre_up", &Commands(&self.pre_up))
            .field("post_up", &Commands(&self.post_up))
            .field("pre_down", &Commands(&self.pre_down))
            .field("post_down", &Commands(&self.post_down))
            .field("save_config", &self.save_config)
            .field("extra", &Names(&self.extra))
            .finish()
    }
}

impl fmt::Debug for PeerSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerSection")
            .field("public_key", &self.public_key)
            .field("preshared_key", &self.preshared_key)
            .field("allowed_ips", &self.allowed_ips)
            .field("endpoint", &self.endpoint)
            .field("persistent_keepalive", &self.persistent_keepalive)
            .field("extra", &Names(&self.extra))
            .finish()
    }
}

/// Shows how many commands there are: a command may hold a secret.
struct Commands<'c>(&'c [String]);

impl fmt::Debug for Commands<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} commands]", self.0.len())
    }
}

/// Shows the names of unknown keys: a value may be a secret.
struct Names<'c>(&'c [(String, String)]);

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

#[cfg(test)]
mod tests;
