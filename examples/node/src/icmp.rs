//! Error messages about packets that the tunnel cannot carry.
//!
//! A host that sends to an address which no peer takes, or more than fits, is told so at once
//! instead of having to wait for its timers. IPv4: RFC 792 as RFC 1122, section 3.2.2, and RFC
//! 1812, section 4.3.2, restrict it. IPv6: RFC 4443, sections 2.4(e), 3.1 and 3.2.
//!
//! Writes messages, does not send them; how many may be sent in a second is for the caller to limit
//! (RFC 4443, section 2.4(f)). It cannot know which addresses are a subnet's broadcast addresses or
//! anycast addresses.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::offload::{
    checksum::Sum,
    ip::{self, DONT_FRAGMENT, ICMPV6, IPV4_HEADER, IPV6_HEADER, Upper, length, put, take},
};

/// The longest message: no link that carries IPv6 is narrower.
pub const LONGEST: usize = 1280;

/// The longest message over IPv4, as routers have always had it (RFC 1812, section 4.3.2.3).
const LONGEST_IPV4: usize = 576;

/// ICMP's own header: type, code, checksum, four more bytes.
const HEADER: usize = 8;

const ICMP: u8 = 1;

const HOP_LIMIT: u8 = 64;

/// The precedence of network control, of the type of service.
const INTERNETWORK_CONTROL: u8 = 0xc0;
/// What of a packet's type of service its answer has too: neither the precedence nor ECN.
const SERVICE: u8 = 0x1c;

/// The message that nobody takes packets to this address: host unreachable, or address unreachable.
///
/// `packet` is the whole packet that cannot be delivered, `source` the address that the message is
/// from, of the same family. A message for this host itself should be from the address that cannot
/// be reached: Linux takes nothing from a device that comes from its own IPv4 address. Returns the
/// length of the message in `out`, or `None` if there is none to be sent: never about an error
/// message, about a later fragment, to or about more than one host.
#[must_use]
pub fn unreachable(packet: &[u8], source: IpAddr, out: &mut [u8; LONGEST]) -> Option<usize> {
    let message = Message {
        ipv4: (3, 1),
        ipv6: (1, 3),
        mtu: 0,
        about_many: false,
    };
    answer(packet, source, out, message)
}

/// The message that a packet is longer than the `mtu` bytes that fit: fragmentation needed, or
/// packet too big.
///
/// Arguments and result as for [`unreachable`]. About a packet of IPv4 only if it may not be
/// fragmented; about a packet of IPv6 also if it is sent to many.
#[must_use]
pub fn too_big(packet: &[u8], mtu: u32, source: IpAddr, out: &mut [u8; LONGEST]) -> Option<usize> {
    let fragment = u16::from_be_bytes(take(packet, 6));
    let ipv4 = packet.first()? >> 4 == 4;
    if ipv4 && fragment & DONT_FRAGMENT == 0 {
        return None;
    }
    let message = Message {
        ipv4: (3, 4),
        ipv6: (2, 0),
        mtu,
        about_many: true,
    };
    answer(packet, source, out, message)
}

/// What a message says: type and code, and how much fits.
#[derive(Clone, Copy)]
struct Message {
    ipv4: (u8, u8),
    ipv6: (u8, u8),
    mtu: u32,
    /// Over IPv6 it is also sent about packets to many.
    about_many: bool,
}

fn answer(
    packet: &[u8],
    source: IpAddr,
    out: &mut [u8; LONGEST],
    message: Message,
) -> Option<usize> {
    let upper = Upper::of(packet)?;
    if upper.continuation || is_error(packet, &upper)? {
        return None;
    }
    match source {
        IpAddr::V4(source) if !upper.ipv6 => ipv4(packet, source, out, message),
        IpAddr::V6(source) if upper.ipv6 => ipv6(packet, source, out, message),
        _ => None,
    }
}

/// Whether a packet is an error message itself, or a redirect. `None` if its type is cut off.
fn is_error(packet: &[u8], upper: &Upper) -> Option<bool> {
    let kind = || packet.get(upper.offset).copied();
    match upper.protocol {
        ICMP if !upper.ipv6 => kind().map(|kind| matches!(kind, 3..=5 | 11 | 12)),
        ICMPV6 if upper.ipv6 => kind().map(|kind| kind < 128 || kind == 137),
        _ => Some(false),
    }
}

fn ipv4(packet: &[u8], source: Ipv4Addr, out: &mut [u8], message: Message) -> Option<usize> {
    let to = Ipv4Addr::from(take::<4>(packet, 12));
    let about = Ipv4Addr::from(take::<4>(packet, 16));
    if !is_one_host(to) || about.is_multicast() || about.is_broadcast() {
        return None;
    }
    let says = usize::from(u16::from_be_bytes(take(packet, 2)));
    if says < IPV4_HEADER {
        return None;
    }
    let quote = quote(packet, says, LONGEST_IPV4 - IPV4_HEADER - HEADER);
    let total = IPV4_HEADER + HEADER + quote.len();
    let out = out.get_mut(..total)?;
    let (header, body) = out.split_at_mut_checked(IPV4_HEADER)?;
    header.fill(0);
    let [tos] = take(packet, 1);
    let tos = tos & SERVICE | INTERNETWORK_CONTROL;
    put(header, 0, [0x45, tos]);
    put(header, 2, length(total).to_be_bytes());
    put(header, 6, DONT_FRAGMENT.to_be_bytes());
    put(header, 8, [HOP_LIMIT, ICMP]);
    put(header, 12, source.octets());
    put(header, 16, to.octets());
    let checksum = Sum::default().bytes(header).complement();
    put(header, 10, checksum);
    // Here the field is the lower half of the four bytes.
    let mtu = message.mtu.min(u16::MAX.into());
    write(body, message.ipv4, mtu, quote, Sum::default());
    Some(total)
}

fn ipv6(packet: &[u8], source: Ipv6Addr, out: &mut [u8], message: Message) -> Option<usize> {
    let to = Ipv6Addr::from(take::<16>(packet, 8));
    let about = Ipv6Addr::from(take::<16>(packet, 24));
    let one = !to.is_unspecified() && !to.is_loopback() && !to.is_multicast();
    if !one || about.is_multicast() && !message.about_many {
        return None;
    }
    let says = usize::from(u16::from_be_bytes(take(packet, 4))) + IPV6_HEADER;
    let quote = quote(packet, says, LONGEST - IPV6_HEADER - HEADER);
    let total = IPV6_HEADER + HEADER + quote.len();
    let out = out.get_mut(..total)?;
    let (header, body) = out.split_at_mut_checked(IPV6_HEADER)?;
    put(header, 0, [0x60, 0, 0, 0]);
    put(header, 4, length(body.len()).to_be_bytes());
    put(header, 6, [ICMPV6, HOP_LIMIT]);
    put(header, 8, source.octets());
    put(header, 24, to.octets());
    let pseudo = ip::pseudo_header(header, true, ICMPV6).word(length(body.len()));
    write(body, message.ipv6, message.mtu, quote, pseudo);
    Some(total)
}

/// Whether an address names a single host that an answer can be sent to.
fn is_one_host(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    // 0/8 is "this network", 240/4 reserved with the broadcast address in it.
    !(first == 0 || first >= 240 || address.is_loopback() || address.is_multicast())
}

/// As much of a packet as a message has room for, without what stands behind its end.
fn quote(packet: &[u8], says: usize, room: usize) -> &[u8] {
    &packet[..packet.len().min(says).min(room)]
}

/// Writes type, code, checksum, the MTU and the quote.
fn write(body: &mut [u8], (kind, code): (u8, u8), mtu: u32, quote: &[u8], pseudo: Sum) {
    put(body, 0, [kind, code, 0, 0]);
    put(body, 4, mtu.to_be_bytes());
    if let Some(place) = body
        .get_mut(HEADER..)
        .filter(|place| place.len() == quote.len())
    {
        place.copy_from_slice(quote);
    }
    let checksum = pseudo.bytes(body).complement();
    put(body, 2, checksum);
}

#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    reason = "lengths of packets that the tests make up"
)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const HERE: [IpAddr; 2] = [
        IpAddr::V4(Ipv4Addr::new(10, 9, 8, 7)),
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7)),
    ];

    fn packet4(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0xbb, 0, 0, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0];
        packet.extend([192, 168, 1, 2, 10, 1, 2, 3]);
        packet.extend(payload);
        let total = packet.len() as u16;
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        packet
    }

    fn packet6(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x6b, 0xb1, 0x23, 0x45, 0, 0, protocol, 64];
        packet.extend("fd00::2".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend("fd00::3".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend(payload);
        packet[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
        packet
    }

    /// Word by word, as in RFC 1071, section 1.
    fn sum(bytes: &[u8]) -> u16 {
        let words = bytes
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
        words.fold(0, |sum, word| (sum + word) % 0xffff) as u16
    }

    /// Checks an answer field by field and returns type, code, the four bytes and the quote.
    fn read(packet: &[u8], message: &[u8]) -> (u8, u8, u32, Vec<u8>) {
        let body = if packet[0] >> 4 == 4 {
            assert_eq!(message[..2], [0x45, 0xc0 | packet[1] & 0x1c]);
            assert_eq!(message[2..4], (message.len() as u16).to_be_bytes());
            assert_eq!(message[6..10], [0x40, 0, 64, 1]);
            assert_eq!((sum(&message[..20]), sum(&message[20..])), (0, 0));
            assert_eq!(message[12..16], [10, 9, 8, 7]);
            assert_eq!(message[16..20], packet[12..16]);
            assert!(message.len() <= 576);
            &message[20..]
        } else {
            assert_eq!(message[..4], [0x60, 0, 0, 0]);
            assert_eq!(message[4..6], ((message.len() - 40) as u16).to_be_bytes());
            assert_eq!(message[6..8], [58, 64]);
            assert_eq!(
                message[8..24],
                "fd00::7".parse::<Ipv6Addr>().unwrap().octets()
            );
            assert_eq!(message[24..40], packet[8..24]);
            let length = (message.len() as u32 - 40).to_be_bytes();
            let covered = [&message[8..40], &length, &[0, 0, 0, 58], &message[40..]].concat();
            assert_eq!(sum(&covered), 0);
            assert!(message.len() <= 1280);
            &message[40..]
        };
        let four = u32::from_be_bytes(body[4..8].try_into().unwrap());
        (body[0], body[1], four, body[8..].to_vec())
    }

    fn both(packet: &[u8]) -> [Option<Vec<u8>>; 2] {
        let mut out = [0xaa; LONGEST];
        let source = HERE[usize::from(packet.first().is_some_and(|byte| byte >> 4 == 6))];
        let first = unreachable(packet, source, &mut out).map(|length| out[..length].to_vec());
        let second = too_big(packet, 1300, source, &mut out).map(|length| out[..length].to_vec());
        [first, second]
    }

    fn silent(packet: &[u8]) {
        assert_eq!(both(packet), [None, None]);
    }

    fn answered(packet: &[u8]) {
        assert!(both(packet).iter().all(Option::is_some));
    }

    #[test]
    fn messages_say_what_they_should_and_quote_what_fits() {
        for length in [0, 1, 8, 527, 528, 529, 1191, 1192, 1193, 1500] {
            let payload: Vec<_> = (0..length).map(|place: usize| place as u8).collect();
            let packet = packet4(17, &payload);
            let [first, second] = both(&packet).map(Option::unwrap);
            let quote = packet[..packet.len().min(548)].to_vec();
            assert_eq!(read(&packet, &first), (3, 1, 0, quote.clone()));
            assert_eq!(read(&packet, &second), (3, 4, 1300, quote));
            let packet = packet6(17, &payload);
            let [first, second] = both(&packet).map(Option::unwrap);
            let quote = packet[..packet.len().min(1232)].to_vec();
            assert_eq!(read(&packet, &first), (1, 3, 0, quote.clone()));
            assert_eq!(read(&packet, &second), (2, 0, 1300, quote));
        }
    }

    #[test]
    fn what_stands_behind_the_end_is_not_quoted() {
        for packet in [packet4(17, &[1; 30]), packet6(17, &[1; 30])] {
            let longer = [&packet[..], &[0xee; 9]].concat();
            assert_eq!(both(&longer), both(&packet));
        }
    }

    #[test]
    fn the_mtu_of_ipv4_has_16_bits() {
        let mut out = [0; LONGEST];
        let packet = packet4(17, &[1; 30]);
        let length = too_big(&packet, 70_000, HERE[0], &mut out).unwrap();
        assert_eq!(read(&packet, &out[..length]).2, 65_535);
        let packet = packet6(17, &[1; 30]);
        let length = too_big(&packet, 70_000, HERE[1], &mut out).unwrap();
        assert_eq!(read(&packet, &out[..length]).2, 70_000);
    }

    #[test]
    fn never_about_an_error_message() {
        for kind in 0..=255 {
            let error = matches!(kind, 3 | 4 | 5 | 11 | 12);
            let packet = packet4(1, &[kind, 0, 0, 0]);
            assert_eq!(
                both(&packet).map(|answer| answer.is_none()),
                [error; 2],
                "{kind}"
            );
            let error = kind < 128 || kind == 137;
            for packet in [
                packet6(58, &[kind, 0, 0, 0]),
                packet6(0, &[58, 0, 1, 4, 0, 0, 0, 0, kind]),
            ] {
                assert_eq!(
                    both(&packet).map(|answer| answer.is_none()),
                    [error; 2],
                    "{kind}"
                );
            }
        }
        // The other family's ICMP means nothing here.
        answered(&packet4(58, &[3, 0]));
        answered(&packet6(1, &[3, 0]));
        // Behind an authentication header, whose length is counted in another way.
        let behind = |kind| [&[58, 4][..], &[0; 22], &[kind]].concat();
        answered(&packet6(51, &behind(128)));
        silent(&packet6(51, &behind(3)));
        // A type that cannot be seen may be one.
        silent(&packet4(1, &[]));
        silent(&packet6(58, &[]));
        silent(&packet6(60, &[58]));
        silent(&packet6(60, &[58, 1, 0, 0, 0, 0, 0, 0, 128]));
    }

    #[test]
    fn only_about_first_fragments() {
        let mut packet = packet4(17, &[1; 30]);
        packet[6] |= 0x20;
        answered(&packet);
        packet[7] = 1;
        silent(&packet);
        answered(&packet6(44, &[17, 0, 0, 1, 0, 0, 0, 0, 9]));
        silent(&packet6(44, &[17, 0, 0, 8, 0, 0, 0, 0, 9]));
        silent(&packet6(44, &[17, 0, 0, 9, 0, 0, 0, 0, 9]));
        silent(&packet6(
            0,
            &[44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 8, 0, 0, 0, 0, 9],
        ));
    }

    #[test]
    fn ipv4_that_may_be_fragmented_is_not_too_big() {
        let mut packet = packet4(17, &[1; 30]);
        packet[6] = 0;
        let [first, second] = both(&packet);
        assert_eq!((first.is_some(), second.is_some()), (true, false));
    }

    #[test]
    fn never_to_or_about_more_than_one_host() {
        for source in [
            [0, 0, 0, 0],
            [0, 1, 2, 3],
            [127, 0, 0, 1],
            [224, 0, 0, 1],
            [239, 1, 1, 1],
            [240, 0, 0, 1],
            [255; 4],
        ] {
            let mut packet = packet4(17, &[1; 30]);
            packet[12..16].copy_from_slice(&source);
            silent(&packet);
        }
        for destination in [[224, 0, 0, 1], [239, 255, 1, 1], [255; 4]] {
            let mut packet = packet4(17, &[1; 30]);
            packet[16..20].copy_from_slice(&destination);
            silent(&packet);
        }
        for source in ["::", "::1", "ff02::1", "ff00::"] {
            let mut packet = packet6(17, &[1; 30]);
            packet[8..24].copy_from_slice(&source.parse::<Ipv6Addr>().unwrap().octets());
            silent(&packet);
        }
        let mut packet = packet6(17, &[1; 30]);
        packet[24..40].copy_from_slice(&"ff0e::1".parse::<Ipv6Addr>().unwrap().octets());
        let [first, second] = both(&packet);
        assert_eq!((first.is_some(), second.is_some()), (false, true));
    }

    #[test]
    fn the_source_is_of_the_packets_family() {
        let mut out = [0; LONGEST];
        assert_eq!(unreachable(&packet4(17, &[1; 30]), HERE[1], &mut out), None);
        assert_eq!(unreachable(&packet6(17, &[1; 30]), HERE[0], &mut out), None);
        assert_eq!(
            too_big(&packet4(17, &[1; 30]), 1300, HERE[1], &mut out),
            None
        );
        assert_eq!(
            too_big(&packet6(17, &[1; 30]), 1300, HERE[0], &mut out),
            None
        );
    }

    #[test]
    fn what_is_not_ip_has_no_answer() {
        silent(&[]);
        silent(&[0x45; 19]);
        silent(&[0x60; 39]);
        silent(&[0x55; 100]);
        let mut packet = packet4(17, &[1; 30]);
        packet[0] = 0x44;
        silent(&packet);
        packet[0] = 0x4f;
        silent(&packet);
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&[0, 19]);
        silent(&packet);
    }

    proptest! {
        #[test]
        fn any_bytes(mut packet in prop::collection::vec(any::<u8>(), 0..1500), version in 0usize..3, next in any::<bool>()) {
            packet.first_mut().into_iter().for_each(|byte| *byte = [*byte, 0x45, 0x60][version]);
            if next {
                packet.get_mut(6).into_iter().for_each(|byte| *byte = [0, 43, 44, 51, 58, 60][usize::from(*byte % 6)]);
            }
            for answer in both(&packet).into_iter().flatten() {
                read(&packet, &answer);
            }
        }
    }
}
