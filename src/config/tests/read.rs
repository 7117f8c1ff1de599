//! What texts mean. Where nothing else is said, the values are those that `wg setconf` of
//! wireguard-tools 1.0.20210914 sent for the same text.

use core::fmt::Write;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

use proptest::prelude::*;

use super::*;

/// The example of `wg(8)`.
#[test]
fn example_of_the_manual() {
    let config = Config::parse(
        "[Interface]
         PrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=
         ListenPort = 51820

         [Peer]
         PublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
         Endpoint = 192.95.5.67:1234
         AllowedIPs = 10.192.122.3/32, 10.192.124.1/24

         [Peer]
         PublicKey = TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=
         Endpoint = [2607:5300:60:6b0::c05f:543]:2468
         AllowedIPs = 10.192.122.4/32, 192.168.0.0/16

         [Peer]
         PublicKey = gN65BkIKy1eCE9pP1wdc8ROUtkHLF2PfAqYdyYBz6EA=
         Endpoint = test.wireguard.com:18981
         AllowedIPs = 10.10.10.230/32",
    )
    .unwrap();
    assert_eq!(config.interface.listen_port, Some(51820));
    assert_eq!(config.peers.len(), 3);
    assert_eq!(
        networks(&config.peers[0]),
        "10.192.122.3/32 10.192.124.0/24"
    );
    let endpoints: Vec<String> = config.peers.iter().map(endpoint).collect();
    assert_eq!(
        endpoints,
        [
            "Address(192.95.5.67:1234)",
            "Address([2607:5300:60:6b0::c05f:543]:2468)",
            "Name { host: \"test.wireguard.com\", port: 18981 }",
        ]
    );
    assert_eq!(config.unknown_keys().count(), 0);
}

#[test]
fn every_key_of_wg_quick() {
    let interface = parse(
        "[Interface]
         Address = 10.0.0.7/24, fd00::7/64  10.9.9.9
         Address = 10.0.1.7/16
         DNS = 1.1.1.1, example.com
         DNS = fd00::53
         MTU = 1420
         Table = off
         SaveConfig = True
         PreUp = echo a = b; echo [c], %i
         PreUp = true
         PostUp = iptables -A FORWARD -i %i -j ACCEPT # comment
         PreDown =
         PostDown = sh -c \"x\ty\"",
    )
    .interface;
    let addresses: Vec<String> = interface
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        addresses,
        ["10.0.0.7/24", "fd00::7/64", "10.9.9.9/32", "10.0.1.7/16"]
    );
    assert_eq!(interface.dns, ["1.1.1.1", "example.com", "fd00::53"]);
    assert_eq!(
        (interface.mtu, interface.save_config),
        (Some(1420), Some(true))
    );
    assert_eq!(interface.table.as_deref(), Some("off"));
    assert_eq!(interface.pre_up, ["echo a = b; echo [c], %i", "true"]);
    assert_eq!(interface.post_up, ["iptables -A FORWARD -i %i -j ACCEPT"]);
    assert!(interface.pre_down.is_empty());
    assert_eq!(interface.post_down, ["sh -c \"x\ty\""]);
}

#[test]
fn nothing_is_a_configuration() {
    for text in ["", "\n\n", "# [Peer]", "\u{feff}", "[Interface]", " \t\r\n"] {
        let config = Config::parse(text).unwrap();
        assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
    }
}

#[test]
fn names_in_any_case_with_white_space_anywhere() {
    let (head, tail) = ALICE.split_at(20);
    let config = parse(&format!(
        "\u{feff}[ interFACE ]\r\n\tlisten port\t= 5 1820\r\nADDRESS=10.0.0.1\r\n\
         [\x0bpeer\x0c]\r\nPublic Key={head} {tail}\r\nal lowedips=10. 0.0.0/8,\t::/0"
    ));
    assert_eq!(config.interface.listen_port, Some(51820));
    assert_eq!(config.interface.addresses.len(), 1);
    assert_eq!(config.peers[0].public_key.to_string(), ALICE);
    assert_eq!(networks(&config.peers[0]), "10.0.0.0/8 ::/0");
}

#[test]
fn the_last_value_holds_and_lists_add_up() {
    let config = parse(
        "[Interface]\nListenPort=1\nMTU=1400\nTable=7\n[Peer]\nPublicKey=BOB\nPublicKey=ALICE\n\
         AllowedIPs=1.1.1.1\nAllowedIPs=\nAllowedIPs=2.2.2.2,1.1.1.1\n\
         [Interface]\nListenPort=2\nMTU=\nTable=\nDNS=9.9.9.9",
    );
    assert_eq!(config.interface.listen_port, Some(2));
    assert_eq!((config.interface.mtu, config.interface.table), (None, None));
    assert_eq!(config.interface.dns, ["9.9.9.9"]);
    assert_eq!(config.peers[0].public_key.to_string(), ALICE);
    assert_eq!(
        networks(&config.peers[0]),
        "1.1.1.1/32 2.2.2.2/32 1.1.1.1/32"
    );
}

/// What the device has after `wg setconf`, for which every section is a change.
#[test]
fn a_second_section_of_a_peer_changes_the_first() {
    let config = parse(
        "[Peer]\nPublicKey=ALICE\nPresharedKey=PRESHARED\nAllowedIPs=1.1.1.1\nEndpoint=1.2.3.4:5\n\
         Foo=1\n[Peer]\nPublicKey=BOB\n\
         [Peer]\nPublicKey=ALICE\nAllowedIPs=2.2.2.2\nPersistentKeepalive=25\nFoo=2\n\
         [Peer]\nPublicKey=BOB\nEndpoint=6.7.8.9:10",
    );
    let [alice, bob] = &config.peers[..] else {
        panic!("two peers")
    };
    assert_eq!(alice.public_key.to_string(), ALICE);
    assert_eq!(networks(alice), "2.2.2.2/32");
    assert_eq!(endpoint(alice), "Address(1.2.3.4:5)");
    assert_eq!(alice.persistent_keepalive, Some(25));
    let preshared = alice.preshared_key.as_ref().unwrap();
    assert_eq!(preshared.to_base64().as_str(), PRESHARED);
    assert_eq!(alice.extra.len(), 2);
    assert_eq!(endpoint(bob), "Address(6.7.8.9:10)");

    let config = parse(
        "[Peer]\nPublicKey=BOB\nPersistentKeepalive=1\nEndpoint=a:1\nPresharedKey=ALICE\n\
         [Peer]\nPublicKey=BOB\nPersistentKeepalive=2\nEndpoint=b:2\nPresharedKey=PRESHARED",
    );
    let [bob] = &config.peers[..] else {
        panic!("one peer")
    };
    assert_eq!(bob.persistent_keepalive, Some(2));
    assert_eq!(bob.endpoint.as_ref().unwrap().to_string(), "b:2");
    let preshared = bob.preshared_key.as_ref().unwrap();
    assert_eq!(preshared.to_base64().as_str(), PRESHARED);

    let config = parse("[Peer]\nPublicKey=BOB\nAllowedIPs=::/0\n[Peer]\nPublicKey=BOB");
    assert_eq!(networks(&config.peers[0]), "", "none replaces all");
}

/// Linux: a device with a key of zeros has no identity.
#[test]
fn a_private_key_of_zeros_is_none() {
    let zeros = PublicKey::from_bytes([0; 32]);
    let text = format!("[Interface]\nPrivateKey=PRIVATE\nPrivateKey={zeros}");
    assert!(parse(&text).interface.private_key.is_none());
    let key = parse("[Interface]\nPrivateKey=PRIVATE")
        .interface
        .private_key;
    assert_eq!(key.unwrap().to_base64().as_str(), PRIVATE);
}

#[test]
fn numbers() {
    let fwmark = |value| {
        parse(&format!("[Interface]\nFwMark={value}"))
            .interface
            .fwmark
    };
    assert_eq!(fwmark("OFF"), Some(0));
    assert_eq!(fwmark("0xfF"), Some(255));
    assert_eq!(fwmark("010"), Some(10));
    assert_eq!(fwmark("4294967295"), Some(u32::MAX));
    assert_eq!(fwmark("0xffffffff"), Some(u32::MAX));
    let port = |value| {
        parse(&format!("[Interface]\nListenPort={value}"))
            .interface
            .listen_port
    };
    assert_eq!(
        (port("0"), port("0080"), port("65535")),
        (Some(0), Some(80), Some(65535))
    );
    let keepalive = |value| {
        let text = format!("[Peer]\nPublicKey=BOB\nPersistentKeepalive={value}");
        parse(&text).peers[0].persistent_keepalive
    };
    assert_eq!((keepalive("Off"), keepalive("0")), (Some(0), Some(0)));
    assert_eq!(
        (keepalive("025"), keepalive("65535")),
        (Some(25), Some(65535))
    );
}

#[test]
fn endpoints() {
    for (text, read) in [
        ("1.2.3.4:5", "Address(1.2.3.4:5)"),
        ("1.2.3.4:0", "Address(1.2.3.4:0)"),
        ("[::ffff:1.2.3.4]:5", "Address([::ffff:1.2.3.4]:5)"),
        ("[fe80::1%1]:5", "Address([fe80::1%1]:5)"),
        ("[fe80::1%lo]:5", "Name { host: \"fe80::1%lo\", port: 5 }"),
        ("localhost:7", "Name { host: \"localhost\", port: 7 }"),
        ("A-1.b_c.:7", "Name { host: \"A-1.b_c.\", port: 7 }"),
        (
            "1.2.3.4.in-addr:7",
            "Name { host: \"1.2.3.4.in-addr\", port: 7 }",
        ),
    ] {
        let config = parse(&format!("[Peer]\nPublicKey=BOB\nEndpoint = {text}"));
        assert_eq!(endpoint(&config.peers[0]), read);
        assert_eq!(config.peers[0].endpoint.as_ref().unwrap().to_string(), text);
    }
}

#[test]
fn hosts_and_scopes_have_a_longest_name() {
    let host = |length: usize| format!("{}:1", "a.".repeat(length / 2) + &"b".repeat(length % 2));
    assert!(host(253).parse::<Endpoint>().is_ok());
    assert!(host(255).parse::<Endpoint>().is_err());
    let scope = |length: usize| format!("[fe80::1%{}]:1", "e".repeat(length));
    assert!(scope(15).parse::<Endpoint>().is_ok());
    assert_eq!(scope(16).parse::<Endpoint>(), Err(InvalidEndpoint::Scope));
    assert_eq!(scope(0).parse::<Endpoint>(), Err(InvalidEndpoint::Scope));
}

#[test]
fn unknown_keys_are_kept_and_named() {
    let config = parse("[Interface]\nJc = 4 \nFoo=\n[Peer]\nPublicKey=BOB\nJC.x = a=b # c");
    assert_eq!(
        config.interface.extra,
        [("Jc".into(), "4".into()), ("Foo".into(), String::new())]
    );
    assert_eq!(config.peers[0].extra, [("JC.x".into(), "a=b".into())]);
    let bob = config.peers[0].public_key;
    let unknown: Vec<_> = config
        .unknown_keys()
        .map(|key| (key.name, key.peer))
        .collect();
    assert_eq!(
        unknown,
        vec![("Jc", None), ("Foo", None), ("JC.x", Some(&bob))]
    );
}

#[test]
fn debug_shows_no_secrets() {
    let secret = "hunter2";
    let config = parse(&format!(
        "[Interface]\nPrivateKey=PRIVATE\nPrivateKye={secret}\nPreUp={secret}\nPostUp={secret}\n\
         PreDown={secret}\nPostDown={secret}\n[Peer]\nPublicKey=BOB\nPresharedKey=PRESHARED\n\
         Secret={secret}"
    ));
    let shown = format!("{config:?} {config:#?}");
    for hidden in [secret, PRIVATE, PRESHARED] {
        assert!(!shown.contains(hidden), "{shown}");
    }
    assert!(
        shown.contains("PrivateKye") && shown.contains(BOB),
        "{shown}"
    );
}

#[test]
fn addresses_of_interfaces_keep_their_host() {
    let address = InterfaceAddress::new([10, 1, 2, 3].into(), 8).unwrap();
    assert_eq!(address.to_string(), "10.1.2.3/8");
    assert_eq!(address.network().to_string(), "10.0.0.0/8");
    assert!(InterfaceAddress::new([10, 1, 2, 3].into(), 33).is_err());
}

#[test]
fn a_long_list_of_peers_takes_linear_memory() {
    let peers = 1000;
    let mut text = String::new();
    for number in 0..peers {
        let key = PrivateKey::from_hex(&format!("{number:064x}"))
            .unwrap()
            .public_key();
        writeln!(text, "[Peer]\nPublicKey={key}").unwrap();
    }
    let config = Config::parse(&text).unwrap();
    // Clamping clears three bits.
    assert!(config.peers.len() >= peers / 8);
    assert!(config.peers.capacity() * 62 <= text.len() + 62);
}

proptest! {
    #[test]
    fn any_text_is_a_configuration_or_an_error(text in any::<String>()) {
        verdict(&text)?;
    }

    /// Pieces of the format in any order, so that most of the code is reached.
    #[test]
    fn any_pieces_are_a_configuration_or_an_error(pieces in pieces()) {
        verdict(&pieces.concat())?;
    }
}

/// Whatever is read can be written, and every error points into the text.
fn verdict(text: &str) -> Result<(), TestCaseError> {
    match Config::parse(text) {
        Ok(config) => {
            let written = config.to_text_with_secrets();
            prop_assert!(written.is_ok(), "{:?}", written);
        }
        Err(error) => {
            let text = text.strip_prefix('\u{feff}').unwrap_or(text);
            let line = text.split('\n').nth(error.line() - 1);
            prop_assert!(line.is_some_and(|line| error.column() <= line.chars().count() + 1));
            prop_assert!(!error.to_string().contains(PRIVATE));
        }
    }
    Ok(())
}

const PIECES: [&str; 38] = [
    "[Interface]\n",
    "[Peer]\n",
    "[peer]",
    "\n",
    "\r\n",
    " ",
    "=",
    "#",
    ",",
    "\t",
    "é",
    "\0",
    "[",
    "]",
    "PrivateKey=",
    "PublicKey = ",
    "AllowedIPs = ",
    "Endpoint=",
    "PostUp = ",
    "DNS=",
    "Address=",
    "MTU=",
    "FwMark=",
    "PersistentKeepalive=",
    "SaveConfig=",
    "Foo=",
    "off",
    "true",
    "0x1f",
    "65536",
    "51820",
    "10.0.0.1/24",
    "::/0",
    "[fe80::1%lo]:1",
    "vpn.example.com:2",
    PRIVATE,
    ALICE,
    BOB,
];

fn pieces() -> impl Strategy<Value = Vec<String>> {
    let piece = prop_oneof![
        8 => proptest::sample::select(&PIECES[..]).prop_map(String::from),
        4 => Just(format!("[Peer]\nPublicKey = {ALICE}\n")),
        1 => ".{0,4}",
    ];
    proptest::collection::vec(piece, 0..24)
}

fn networks(peer: &PeerSection) -> String {
    let networks: Vec<String> = peer.allowed_ips.iter().map(ToString::to_string).collect();
    networks.join(" ")
}

fn endpoint(peer: &PeerSection) -> String {
    format!("{:?}", peer.endpoint.as_ref().unwrap())
}

#[test]
fn a_section_becomes_a_peer_of_an_interface() {
    let psk = "FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE=";
    let text = std::format!(
        "[Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\nPresharedKey = {psk}\n\
         AllowedIPs = 10.1.0.0/16, fd00::/64\nEndpoint = 192.0.2.7:51820\nPersistentKeepalive = 25\n"
    );
    let config: Config = text.parse().unwrap();
    let now = crate::Instant::from_nanos(0);
    let mut interface = crate::Interface::new(None, now);
    let id = interface
        .add_peer(now, &config.peers[0].to_peer_config().mtu(1380))
        .unwrap();
    let peer = interface.peer(id).unwrap();
    assert_eq!(peer.public_key(), config.peers[0].public_key);
    assert_eq!(peer.preshared_key().to_base64().as_str(), psk);
    assert_eq!(peer.endpoint(), Some("192.0.2.7:51820".parse().unwrap()));
    assert_eq!((peer.persistent_keepalive(), peer.mtu()), (25, 1380));
    assert_eq!(
        peer.allowed_ips().collect::<Vec<_>>(),
        config.peers[0].allowed_ips
    );

    let mut by_name = config.peers[0].clone();
    by_name.endpoint = "vpn.example.com:51820".parse().ok();
    let other = PrivateKey::from_bytes([7; 32]).public_key();
    by_name.public_key = other;
    let id = interface.add_peer(now, &by_name.to_peer_config()).unwrap();
    assert_eq!(interface.peer(id).unwrap().endpoint(), None);
}
