//! Parsers of single values: what they take they can write, and what they say is in the bytes.

use core::net::IpAddr;

use quietwire::wire::{CookieReply, DataHeader, Initiation, Kind, Macs, Malformed, Response};
use quietwire::{Cidr, PresharedKey, PrivateKey, PublicKey, ip};

/// The bytes as a datagram, an inner packet, and text.
pub fn wire(data: &[u8]) {
    messages(data);
    inner(data);
    if let Ok(text) = core::str::from_utf8(data) {
        cidr(text);
        keys(text);
    }
}

fn messages(data: &[u8]) {
    assert_eq!(Kind::of(data), kind(data));
    if let Ok(message) = data.try_into() {
        let emitted = Initiation::parse(message).emit();
        assert_eq!(emitted.as_bytes()[4..116], data[4..116]);
        assert_eq!(emitted.as_bytes()[116..], [0; 32]);
        assert_eq!(emitted.kind(), Kind::Initiation);
    }
    if let Ok(message) = data.try_into() {
        let emitted = Response::parse(message).emit();
        assert_eq!(emitted.as_bytes()[4..60], data[4..60]);
        assert_eq!(emitted.as_bytes()[60..], [0; 32]);
    }
    if let Ok(message) = data.try_into() {
        let emitted = CookieReply::parse(message).emit();
        assert_eq!(emitted.as_bytes()[4..], data[4..]);
    }
    if let Some(header) = data.first_chunk() {
        let parsed = DataHeader::parse(header);
        assert_eq!(parsed.emit()[4..], data[4..16]);
        assert_eq!(DataHeader::new(parsed.receiver, parsed.counter), parsed);
    }
    match Macs::of(data) {
        Some(macs) => {
            assert_eq!([macs.before_mac1, &macs.mac1, &macs.mac2].concat(), data);
            assert_eq!([macs.before_mac2, &macs.mac2].concat(), data);
        }
        None => assert!(data.len() < 32),
    }
}

/// White paper, section 5.4, as a table.
fn kind(data: &[u8]) -> Result<Kind, Malformed> {
    let Some(word) = data.get(..4) else {
        return Err(Malformed::WrongLength);
    };
    let (kind, fits) = match word {
        [1, 0, 0, 0] => (Kind::Initiation, data.len() == 148),
        [2, 0, 0, 0] => (Kind::Response, data.len() == 92),
        [3, 0, 0, 0] => (Kind::CookieReply, data.len() == 64),
        [4, 0, 0, 0] => (Kind::Data, data.len() >= 32),
        _ => return Err(Malformed::UnknownType),
    };
    if fits {
        Ok(kind)
    } else {
        Err(Malformed::WrongLength)
    }
}

fn inner(data: &[u8]) {
    let word = |at: usize| usize::from(data[at]) << 8 | usize::from(data[at + 1]);
    let (whole, claimed, least) = match data.first().map(|first| first >> 4) {
        Some(4) if data.len() >= 20 => (true, word(2), 20),
        Some(6) if data.len() >= 40 => (true, word(4) + 40, 40),
        _ => (false, 0, 0),
    };
    assert_eq!(ip::destination(data).is_some(), whole);
    assert_eq!(ip::source(data).is_some(), whole);
    assert_eq!(ip::tos(data).is_some(), whole);
    assert_eq!(
        ip::total_length(data),
        (whole && claimed >= least).then_some(claimed)
    );
    match ip::parse(data) {
        Ok(inner) => {
            assert!(whole && inner.length == claimed && claimed <= data.len() && claimed >= least);
            assert_eq!(Some(inner.source), ip::source(data));
            assert_eq!(Some(inner.destination), ip::destination(data));
        }
        Err(ip::Malformed::NotIp) => assert!(!whole),
        Err(_) => assert!(whole && !(least..=data.len()).contains(&claimed)),
    }
    congestion(data);
}

/// Carrying a mark changes two bits and an IPv4 checksum, which stays as right or wrong as it was.
fn congestion(data: &[u8]) {
    for outer in 0..4 {
        let mut packet = data.to_vec();
        ip::ecn_decapsulate(outer, &mut packet);
        assert_eq!(ip::source(&packet), ip::source(data));
        assert_eq!(ip::total_length(&packet), ip::total_length(data));
        let (Some(before), Some(after)) = (ip::tos(data), ip::tos(&packet)) else {
            assert_eq!(packet, data);
            continue;
        };
        assert_eq!(before & !3, after & !3, "DSCP is not touched");
        assert_eq!(ip::ecn_encapsulate(0, after) & !3, 0);
        if ip::source(data).is_some_and(|address| address.is_ipv4()) {
            assert_eq!(ones_sum(&packet[..20]), ones_sum(&data[..20]));
        }
    }
}

/// The ones' complement sum of RFC 1071, with its two zeros as one.
fn ones_sum(header: &[u8]) -> u32 {
    let words = header.chunks_exact(2);
    words
        .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]))
        .sum::<u32>()
        % 0xffff
}

fn cidr(text: &str) {
    let Ok(cidr) = text.parse::<Cidr>() else {
        return;
    };
    assert_eq!(cidr.to_string().parse(), Ok(cidr));
    assert!(cidr.contains(cidr.address()));
    assert_eq!(Cidr::new(cidr.address(), cidr.prefix_len()), Ok(cidr));
    let address = text
        .split('/')
        .next()
        .and_then(|text| text.parse::<IpAddr>().ok());
    assert!(cidr.contains(address.unwrap()));
}

fn keys(text: &str) {
    if let Ok(key) = PublicKey::from_base64(text) {
        assert_eq!(key.to_base64().as_ref(), text);
        assert_eq!(PublicKey::from_hex(key.to_hex().as_ref()), Ok(key));
    }
    if let Ok(key) = PrivateKey::from_hex(text) {
        // A private key is clamped, so its text may be another one, but only once.
        let again = PrivateKey::from_hex(key.to_hex().as_ref()).unwrap();
        assert!(key.ct_eq(&again));
    }
    if let Ok(key) = PresharedKey::from_hex(text) {
        assert_eq!(key.to_hex().as_ref(), text.to_ascii_lowercase());
    }
    if let Ok(key) = PresharedKey::from_base64(text) {
        assert!(PresharedKey::from_bytes(*key.expose()).ct_eq(&key));
    }
}
