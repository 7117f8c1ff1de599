//! How long a packet may be inside, and whether the networks around are set up for it. Pure.
//!
//! A packet inside gets 16 bytes of header, 16 of tag, 8 of UDP, and 20 of IPv4 or 40 of IPv6. All of it is
//! to fit the outer path in one piece.

use std::cmp::Ordering;
use std::fmt;

/// What a packet inside costs outside, over IPv4.
pub const OVER_IPV4: u16 = 60;
/// The same over IPv6.
pub const OVER_IPV6: u16 = 80;

/// The least MTU with which IPv6 works.
pub const LEAST_IPV6: u16 = 1280;
/// The least that every host takes of IPv4.
pub const LEAST_IPV4: u16 = 576;

/// The way to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// How many bytes fit.
    pub mtu: u16,
    /// Whether it is IPv6.
    pub is_ipv6: bool,
}

/// What fits inside on all ways; `None` if there is none yet.
#[must_use]
pub fn inner(ways: impl IntoIterator<Item = Outer>) -> Option<u16> {
    let one = |way: Outer| {
        let over = if way.is_ipv6 { OVER_IPV6 } else { OVER_IPV4 };
        way.mtu.saturating_sub(over)
    };
    ways.into_iter().map(one).min()
}

/// What is to be said about the MTU of something around the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advice {
    /// The tunnel itself does not fit its outer path.
    TunnelTooWide {
        /// Of the tunnel device.
        is: u16,
        /// What fits.
        fits: u16,
    },
    /// The tunnel could carry more.
    TunnelTooTight {
        /// Of the tunnel device.
        is: u16,
        /// What fits.
        fits: u16,
    },
    /// Too little for IPv6, or for IP at all.
    BelowMinimum {
        /// What fits.
        fits: u16,
        /// What is needed.
        needs: u16,
    },
    /// A network behind this node sends more than the tunnel carries.
    NetworkTooWide {
        /// Its device.
        device: String,
        /// The device's MTU.
        is: u16,
        /// The tunnel's.
        fits: u16,
    },
    /// A network behind this node sends less than it could.
    NetworkTooTight {
        /// Its device.
        device: String,
        /// The device's MTU.
        is: u16,
        /// The tunnel's.
        fits: u16,
    },
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TunnelTooWide { is, fits } => write!(
                f,
                "the tunnel's MTU of {is} is too much: the outer path carries {fits}, so full packets go in two pieces; set --mtu {fits} or leave it out"
            ),
            Self::TunnelTooTight { is, fits } => write!(
                f,
                "the tunnel's MTU of {is} is less than the {fits} that the outer path carries: more packets than needed; set --mtu {fits} or leave it out"
            ),
            Self::BelowMinimum { fits, needs } => write!(
                f,
                "the outer path leaves {fits} bytes for packets inside, and at least {needs} are needed: raise the MTU of the outer network; until then full packets go in two pieces"
            ),
            Self::NetworkTooWide { device, is, fits } => write!(
                f,
                "packets from {device} have up to {is} bytes, and the tunnel carries {fits}: set the MTU of that network to {fits}, or connections through it stall where ICMP is filtered"
            ),
            Self::NetworkTooTight { device, is, fits } => write!(
                f,
                "packets from {device} have at most {is} bytes, and the tunnel carries {fits}: set the MTU of that network to {fits} for more throughput"
            ),
        }
    }
}

/// Chooses the device's MTU, and says what is wrong with what was asked for.
#[must_use]
pub fn choose(
    fits: Option<u16>,
    asked: Option<u16>,
    has_ipv6: bool,
) -> (Option<u16>, Option<Advice>) {
    let needs = if has_ipv6 { LEAST_IPV6 } else { LEAST_IPV4 };
    match (fits, asked) {
        (None, asked) => (asked, None),
        (Some(fits), Some(is)) if is > fits => (Some(is), Some(Advice::TunnelTooWide { is, fits })),
        (Some(fits), Some(is)) if is < fits => {
            (Some(is), Some(Advice::TunnelTooTight { is, fits }))
        }
        (Some(fits), _) if fits < needs => {
            (Some(needs), Some(Advice::BelowMinimum { fits, needs }))
        }
        (Some(fits), _) => (Some(fits), None),
    }
}

/// What is to be said about a network behind this node.
#[must_use]
pub fn check_network(device: &str, is: u16, tunnel: u16) -> Option<Advice> {
    let device = device.to_owned();
    let fits = tunnel;
    match is.cmp(&fits) {
        Ordering::Greater => Some(Advice::NetworkTooWide { device, is, fits }),
        Ordering::Less => Some(Advice::NetworkTooTight { device, is, fits }),
        Ordering::Equal => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(mtu: u16) -> Outer {
        Outer {
            mtu,
            is_ipv6: false,
        }
    }

    #[test]
    fn the_narrowest_way_decides() {
        let v6 = |mtu| Outer { mtu, is_ipv6: true };
        assert_eq!(inner([]), None);
        assert_eq!(inner([v4(1500)]), Some(1440));
        assert_eq!(inner([v4(1500), v6(1500)]), Some(1420));
        assert_eq!(inner([v4(9000), v6(9000), v4(1400)]), Some(1340));
        assert_eq!(inner([v4(20)]), Some(0));
    }

    #[test]
    fn what_was_asked_for_is_kept_and_judged() {
        assert_eq!(choose(Some(1440), None, true), (Some(1440), None));
        assert_eq!(choose(Some(1440), Some(1440), true), (Some(1440), None));
        assert_eq!(choose(None, Some(1300), true), (Some(1300), None));
        let (mtu, advice) = choose(Some(1440), Some(1500), true);
        assert_eq!(mtu, Some(1500));
        assert!(advice.unwrap().to_string().contains("set --mtu 1440"));
        let (_, advice) = choose(Some(1440), Some(1300), true);
        assert!(advice.unwrap().to_string().contains("less than the 1440"));
        let (mtu, advice) = choose(Some(1220), None, true);
        assert_eq!(mtu, Some(1280));
        assert!(advice.unwrap().to_string().contains("at least 1280"));
        assert_eq!(choose(Some(1220), None, false), (Some(1220), None));
    }

    #[test]
    fn networks_behind_the_node_are_told_in_words() {
        assert_eq!(check_network("cni0", 1440, 1440), None);
        let wide = check_network("cni0", 1500, 1440).unwrap().to_string();
        assert!(
            wide.contains("cni0 have up to 1500") && wide.contains("to 1440"),
            "{wide}"
        );
        let tight = check_network("cni0", 1400, 1440).unwrap().to_string();
        assert!(tight.contains("at most 1400"), "{tight}");
    }
}
