//! The values that have a type of their own: the address of an interface and the endpoint of a
//! peer.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use core::str::FromStr;

use crate::{Cidr, InvalidPrefix};

/// An address of the interface with the length of its network's prefix.
///
/// Unlike a [`Cidr`], it keeps the bits of the host.
///
/// ```
/// use quietwire::config::InterfaceAddress;
///
/// let address: InterfaceAddress = "10.0.0.7/24".parse()?;
/// assert_eq!(address.to_string(), "10.0.0.7/24");
/// assert_eq!(address.network().to_string(), "10.0.0.0/24");
/// # Ok::<(), quietwire::InvalidPrefix>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InterfaceAddress {
    address: IpAddr,
    network: Cidr,
}

impl InterfaceAddress {
    /// Makes an address in a network whose prefix has `prefix_len` bits.
    ///
    /// # Errors
    ///
    /// [`InvalidPrefix::TooLong`] for more than 32 bits of IPv4 or 128 bits of IPv6.
    pub const fn new(address: IpAddr, prefix_len: u8) -> Result<Self, InvalidPrefix> {
        match Cidr::new(address, prefix_len) {
            Ok(network) => Ok(Self { address, network }),
            Err(error) => Err(error),
        }
    }

    /// The address.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// The bits of the prefix: at most 32 for IPv4 and 128 for IPv6.
    #[must_use]
    pub const fn prefix_len(self) -> u8 {
        self.network.prefix_len()
    }

    /// The network that the address is in.
    #[must_use]
    pub const fn network(self) -> Cidr {
        self.network
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len())
    }
}

/// Takes `address/length`, or an address alone for a network of that one address.
impl FromStr for InterfaceAddress {
    type Err = InvalidPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidPrefix> {
        let network = text.parse()?;
        let address = text.split_once('/').map_or(text, |(address, _)| address);
        let address = address.parse().map_err(|_| InvalidPrefix::Address)?;
        Ok(Self { address, network })
    }
}

/// Where a peer is: an address and a port, or something to ask the system's resolver for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// An address: `192.0.2.1:51820`, `[2001:db8::1]:51820`, `[fe80::1%3]:51820`.
    Address(SocketAddr),
    /// What only the system can turn into an address.
    Name {
        /// The name of a host, or an IPv6 address whose scope is the name of an interface, such as
        /// `fe80::1%eth0`. Resolvers (`getaddrinfo`, `ToSocketAddrs`) take both.
        host: String,
        /// The UDP port.
        port: u16,
    },
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

/// The form that [`Endpoint::from_str`] reads.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        if let Some(text) = text.strip_prefix('[') {
            let (host, rest) = text.split_once(']').ok_or(InvalidEndpoint::Brackets)?;
            let port = rest.strip_prefix(':').ok_or(InvalidEndpoint::NoPort)?;
            return ipv6(host, parse_port(port)?);
        }
        let (host, port) = text.rsplit_once(':').ok_or(InvalidEndpoint::NoPort)?;
        if host.contains(':') {
            return Err(InvalidEndpoint::Brackets);
        }
        ipv4_or_name(host, parse_port(port)?)
    }
}

/// Why a text is not an [`Endpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidEndpoint {
    /// There is no `:` with a port after the host.
    NoPort,
    /// The port is not a decimal number from 0 to 65535.
    Port,
    /// An IPv6 address stands without brackets, or with only one of them.
    Brackets,
    /// What stands in the brackets is not an IPv6 address.
    Ipv6,
    /// The scope after the `%` of an IPv6 address is neither a number nor the name of an interface.
    Scope,
    /// The host is neither an IPv4 address nor a name.
    Host,
}

impl fmt::Display for InvalidEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPort => "expected a port after the host, as in 192.0.2.1:51820",
            Self::Port => "the port is not a decimal number from 0 to 65535",
            Self::Brackets => "expected an IPv6 address in brackets, as in [2001:db8::1]:51820",
            Self::Ipv6 => "what is in the brackets is not an IPv6 address",
            Self::Scope => "the scope after `%` is neither a number nor the name of an interface",
            Self::Host => "the host is neither an IPv4 address nor a name in ASCII",
        })
    }
}

impl core::error::Error for InvalidEndpoint {}

/// A decimal number without a sign; `wg` allows leading zeros.
pub(super) fn decimal<T: FromStr>(text: &str) -> Option<T> {
    let digits_only = text.bytes().all(|byte| byte.is_ascii_digit());
    digits_only.then(|| text.parse().ok()).flatten()
}

fn parse_port(text: &str) -> Result<u16, InvalidEndpoint> {
    match decimal(text) {
        Some(port) => Ok(port),
        None if text.is_empty() => Err(InvalidEndpoint::NoPort),
        None => Err(InvalidEndpoint::Port),
    }
}

fn ipv6(host: &str, port: u16) -> Result<Endpoint, InvalidEndpoint> {
    let (address, scope) = match host.split_once('%') {
        Some((address, scope)) => (address, Some(scope)),
        None => (host, None),
    };
    let address: Ipv6Addr = address.parse().map_err(|_| InvalidEndpoint::Ipv6)?;
    let scope_id = match scope {
        None => 0,
        Some(scope) if is_interface(scope) => {
            let host = host.to_owned();
            return Ok(Endpoint::Name { host, port });
        }
        Some(scope) => decimal(scope).ok_or(InvalidEndpoint::Scope)?,
    };
    Ok(Endpoint::Address(
        SocketAddrV6::new(address, port, 0, scope_id).into(),
    ))
}

fn ipv4_or_name(host: &str, port: u16) -> Result<Endpoint, InvalidEndpoint> {
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        Ok(Endpoint::Address((address, port).into()))
    } else if is_host(host) {
        let host = host.to_owned();
        Ok(Endpoint::Name { host, port })
    } else {
        Err(InvalidEndpoint::Host)
    }
}

/// Whether `name` can be the name of a network interface, and is not a number.
fn is_interface(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_=+.-".contains(&byte);
    (1..=15).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether `name` can be the name of a host. One that ends in a number is a broken IPv4 address.
fn is_host(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let labels = name.strip_suffix('.').unwrap_or(name);
    let last = labels.rsplit('.').next().unwrap_or_default();
    (1..=253).contains(&labels.len())
        && name.bytes().all(allowed)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}
