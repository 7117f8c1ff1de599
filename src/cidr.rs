//! A block of IP addresses in the notation `address/length`.
//!
//! Always stored with the host bits cleared, so that two ways to write a block are one value:
//! "10.0.0.1/24" is 10.0.0.0/24. An IPv6 address that maps an IPv4 address is an IPv6 address.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// The addresses that share the first `prefix_len` bits.
///
/// Ordered by family (IPv4 first), address and length, so a block comes before those within it.
///
/// ```
/// use quietwire::Cidr;
///
/// let block: Cidr = "192.168.4.77/24".parse()?;
/// assert_eq!(block.to_string(), "192.168.4.0/24");
/// assert!(block.contains([192, 168, 4, 200].into()));
///
/// let host: Cidr = "2001:db8::1".parse()?;
/// assert_eq!(host.prefix_len(), 128);
/// # Ok::<(), quietwire::InvalidPrefix>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix_len: u8,
}

impl Cidr {
    /// The first in the order: all of IPv4.
    #[cfg(feature = "alloc")]
    pub(crate) const FIRST: Self = Self {
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        prefix_len: 0,
    };

    /// Makes the block of `prefix_len` bits that `address` is in.
    ///
    /// # Errors
    ///
    /// [`InvalidPrefix::TooLong`] for more than 32 bits of IPv4 or 128 bits of IPv6.
    pub const fn new(address: IpAddr, prefix_len: u8) -> Result<Self, InvalidPrefix> {
        let address = match address {
            IpAddr::V4(v4) => match mask_v4(prefix_len) {
                Some(mask) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask)),
                None => return Err(InvalidPrefix::TooLong { max: 32 }),
            },
            IpAddr::V6(v6) => match mask_v6(prefix_len) {
                Some(mask) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask)),
                None => return Err(InvalidPrefix::TooLong { max: 128 }),
            },
        };
        Ok(Self {
            address,
            prefix_len,
        })
    }

    /// The first address: the bits after the prefix are zero.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// The number of bits that the addresses share: at most 32 for IPv4 and 128 for IPv6.
    #[must_use]
    pub const fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// Whether `address` is in the block; never across the families.
    #[must_use]
    #[inline]
    pub const fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(block), IpAddr::V4(v4)) => match mask_v4(self.prefix_len) {
                Some(mask) => (block.to_bits() ^ v4.to_bits()) & mask == 0,
                None => false,
            },
            (IpAddr::V6(block), IpAddr::V6(v6)) => match mask_v6(self.prefix_len) {
                Some(mask) => (block.to_bits() ^ v6.to_bits()) & mask == 0,
                None => false,
            },
            _ => false,
        }
    }
}

/// The block of a single address.
impl From<IpAddr> for Cidr {
    fn from(address: IpAddr) -> Self {
        let prefix_len = if address.is_ipv4() { 32 } else { 128 };
        Self {
            address,
            prefix_len,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

/// Takes `address/length`, or an address alone for the block of that one address.
///
/// The length is decimal digits and nothing else: no sign, no space, no netmask.
impl FromStr for Cidr {
    type Err = InvalidPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidPrefix> {
        let address = |text: &str| text.parse().map_err(|_| InvalidPrefix::Address);
        match text.split_once('/') {
            None => address(text).map(Self::from),
            Some((text, length)) => Self::new(address(text)?, parse_length(length)?),
        }
    }
}

/// Why there is no such [`Cidr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidPrefix {
    /// What stands before the slash, or all of the text, is not an IP address.
    Address,
    /// What stands after the slash is not a number from 0 to 255.
    Length,
    /// The length is more than an address of the family has bits.
    TooLong {
        /// The bits of an address: 32 or 128.
        max: u8,
    },
}

impl fmt::Display for InvalidPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("not an IPv4 or IPv6 address"),
            Self::Length => f.write_str("the prefix length is not a decimal number up to 255"),
            Self::TooLong { max } => write!(f, "the prefix length is more than {max}"),
        }
    }
}

impl core::error::Error for InvalidPrefix {}

fn parse_length(text: &str) -> Result<u8, InvalidPrefix> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidPrefix::Length);
    }
    text.parse().map_err(|_| InvalidPrefix::Length)
}

/// `prefix_len` one bits at the top; `None` when there are not so many.
const fn mask_v4(prefix_len: u8) -> Option<u32> {
    match prefix_len {
        0 => Some(0),
        1..=32 => Some(u32::MAX << (32 - prefix_len)),
        _ => None,
    }
}

const fn mask_v6(prefix_len: u8) -> Option<u128> {
    match prefix_len {
        0 => Some(0),
        1..=128 => Some(u128::MAX << (128 - prefix_len)),
        _ => None,
    }
}

const _: () = assert!(size_of::<Cidr>() <= 20);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::string::ToString;

    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn host_bits_are_cleared() {
        for (written, stored) in [
            ("192.95.5.65/27", "192.95.5.64/27"),
            ("10.0.0.1/24", "10.0.0.0/24"),
            ("255.255.255.255/0", "0.0.0.0/0"),
            ("255.255.255.255/1", "128.0.0.0/1"),
            ("1.2.3.4", "1.2.3.4/32"),
            ("1.2.3.4/32", "1.2.3.4/32"),
            ("2001:db8:ffff::1/33", "2001:db8:8000::/33"),
            ("ffff::1/0", "::/0"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("2001:db8::ffff/127", "2001:db8::fffe/127"),
            ("::ffff:10.0.0.1/128", "::ffff:10.0.0.1/128"),
        ] {
            assert_eq!(cidr(written).to_string(), stored);
            assert_eq!(cidr(written), cidr(stored));
        }
    }

    #[test]
    fn errors_name_what_is_wrong() {
        use InvalidPrefix::{Address, Length, TooLong};
        for (text, error) in [
            ("", Address),
            ("/", Address),
            ("/24", Address),
            ("10.0.0/8", Address),
            ("10.0.0.256/8", Address),
            (" 10.0.0.1", Address),
            ("fe80::1%eth0/64", Address),
            ("10.0.0.1/", Length),
            ("10.0.0.1/+8", Length),
            ("10.0.0.1/-1", Length),
            ("10.0.0.1/8 ", Length),
            ("10.0.0.1/8/8", Length),
            ("10.0.0.1/256", Length),
            ("10.0.0.1/255.0.0.0", Length),
            ("10.0.0.1/33", TooLong { max: 32 }),
            ("::1/129", TooLong { max: 128 }),
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(error), "{text:?}");
        }
        assert_eq!(
            TooLong { max: 32 }.to_string(),
            "the prefix length is more than 32"
        );
    }

    #[test]
    fn contains_its_own_family_only() {
        assert!(cidr("0.0.0.0/0").contains([255, 255, 255, 255].into()));
        assert!(!cidr("0.0.0.0/0").contains([0_u16; 8].into()));
        assert!(!cidr("::/0").contains([10, 0, 0, 1].into()));
        assert!(!cidr("::ffff:0:0/96").contains([10, 0, 0, 1].into()));
        assert!(cidr("10.0.0.1").contains([10, 0, 0, 1].into()));
        assert!(!cidr("10.0.0.1").contains([10, 0, 0, 0].into()));
        assert!(cidr("2001:db8::/127").contains("2001:db8::1".parse().unwrap()));
        assert!(!cidr("2001:db8::/127").contains("2001:db8::2".parse().unwrap()));
    }

    #[test]
    fn a_block_sorts_before_those_within_it() {
        let sorted = [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.0.0.0/9",
            "10.1.0.0/16",
            "::/0",
            "::/128",
        ];
        assert!(sorted.map(cidr).is_sorted());
    }

    fn parts() -> impl Strategy<Value = (IpAddr, u8)> {
        prop_oneof![
            (any::<u32>(), 0_u8..=32).prop_map(|(bits, len)| (Ipv4Addr::from(bits).into(), len)),
            (any::<u128>(), 0_u8..=128).prop_map(|(bits, len)| (Ipv6Addr::from(bits).into(), len)),
        ]
    }

    /// The bits of an address, one by one, from the octets.
    fn bits(address: IpAddr) -> std::vec::Vec<bool> {
        let octets = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let bit = |octet: u8, n: u8| octet & (0x80 >> n) != 0;
        octets
            .iter()
            .flat_map(|&octet| (0..8).map(move |n| bit(octet, n)))
            .collect()
    }

    proptest! {
        #[test]
        fn text_goes_round((address, len) in parts()) {
            let block = Cidr::new(address, len).unwrap();
            prop_assert_eq!(cidr(&block.to_string()), block);
            prop_assert_eq!(block.prefix_len(), len);
        }

        #[test]
        fn masks_and_contains_bit_by_bit((address, len) in parts(), flip in 0_usize..128) {
            let block = Cidr::new(address, len).unwrap();
            let len = usize::from(len);
            let (own, given) = (bits(block.address()), bits(address));
            prop_assert_eq!(&own[..len], &given[..len]);
            prop_assert!(own[len..].iter().all(|&bit| !bit));
            prop_assert!(block.contains(address));
            let other: IpAddr = match address {
                IpAddr::V4(v4) => Ipv4Addr::from(v4.to_bits() ^ (1 << (31 - flip % 32))).into(),
                IpAddr::V6(v6) => Ipv6Addr::from(v6.to_bits() ^ (1 << (127 - flip))).into(),
            };
            prop_assert_eq!(block.contains(other), bits(other)[..len] == given[..len]);
        }

        #[test]
        fn any_text_is_a_verdict(text in "[0-9a-f:./+ ]{0,24}") {
            if let Ok(block) = text.parse::<Cidr>() {
                prop_assert_eq!(cidr(&block.to_string()), block);
            }
        }
    }
}
