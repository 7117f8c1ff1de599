//! What is written, that it reads the same, and what cannot be written.

use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};
use proptest::collection::vec as many;
use proptest::option;
use proptest::prelude::*;

use super::*;

#[test]
fn every_key_in_the_order_of_wg_quick_save_and_wg_showconf() {
    let text = "[Interface]
Address = 10.0.0.7/24
Address = fd00::7/64
DNS = 1.1.1.1
DNS = example.com
MTU = 1420
Table = off
SaveConfig = true
PreUp = echo 1
PreUp = echo 2
PostUp = echo 3
PreDown = echo 4
PostDown = echo 5
ListenPort = 51820
FwMark = 0xca6c
PrivateKey = PRIVATE
Jc = 4
Foo = 

[Peer]
PublicKey = ALICE
PresharedKey = PRESHARED
AllowedIPs = 10.192.122.3/32, 10.192.124.0/24, ::/0
Endpoint = [fe80::1%lo]:5
PersistentKeepalive = 25
Bar = a, b

[Peer]
PublicKey = BOB
Endpoint = vpn.example.com:51820
PersistentKeepalive = off
";
    assert_eq!(written(&parse(text)), with_keys(text));
    assert_eq!(written(&Config::default()), "[Interface]\n");
    assert_eq!(
        written(&parse("[Interface]\nFwMark=0")),
        "[Interface]\nFwMark = off\n"
    );
}

/// The output of `wg showconf` of wireguard-tools 1.0.20210914.
#[test]
fn what_wg_showconf_writes_is_written_alike() {
    let text = "[Interface]
ListenPort = 51820
FwMark = 0xca6c
PrivateKey = PRIVATE

[Peer]
PublicKey = ALICE
PresharedKey = PRESHARED
AllowedIPs = 10.192.122.3/32, ::/0
Endpoint = [fe80::1%lo]:5
PersistentKeepalive = 25

[Peer]
PublicKey = Xz4uaG0AOoxIK4Smq3//IXwMQNC0FwzuOlsr8pwcPgc=
AllowedIPs = 192.168.4.0/24, 2001:db8:0:0:1::/80
Endpoint = 192.0.2.1:51820

[Peer]
PublicKey = BOB
";
    assert_eq!(written(&parse(text)), with_keys(text));
}

/// The memory is not reallocated while it is written, so no copy of a secret stays behind.
#[test]
fn text_is_allocated_once() {
    let config = parse("[Interface]\nPrivateKey=PRIVATE\n[Peer]\nPublicKey=BOB");
    let text = config.to_text_with_secrets().unwrap();
    assert_eq!(text.0.capacity(), text.as_str().len());
    assert_eq!(format!("{text:?}"), "ConfigText(..)");
    assert_eq!(text.to_string(), text.as_str());
}

#[test]
fn texts_that_would_become_something_else_are_refused() {
    for text in [
        "a\n[Peer]",
        "a\nPostUp = reboot",
        "a\r",
        "a\rb",
        "a # b",
        "#",
        " a",
        "a\t",
        "a\0",
        "\u{85}",
    ] {
        let refusal = |change: &dyn Fn(&mut Config, String)| {
            let mut config = parse("[Peer]\nPublicKey=BOB");
            change(&mut config, text.into());
            config.to_text_with_secrets().expect_err(text)
        };
        let expected = |field| WriteError::Text { field };
        assert_eq!(
            refusal(&|c, t| c.interface.dns.push(t)),
            expected(Field::Dns)
        );
        assert_eq!(
            refusal(&|c, t| c.interface.table = Some(t)),
            expected(Field::Table)
        );
        assert_eq!(
            refusal(&|c, t| c.interface.pre_up.push(t)),
            expected(Field::PreUp)
        );
        assert_eq!(
            refusal(&|c, t| c.interface.post_up.push(t)),
            expected(Field::PostUp)
        );
        assert_eq!(
            refusal(&|c, t| c.interface.pre_down.push(t)),
            expected(Field::PreDown)
        );
        assert_eq!(
            refusal(&|c, t| c.interface.post_down.push(t)),
            expected(Field::PostDown)
        );
        let extra = |t| ("Foo".into(), t);
        assert_eq!(
            refusal(&|c, t| c.interface.extra.push(extra(t))),
            WriteError::UnknownValue
        );
        assert_eq!(
            refusal(&|c, t| c.peers[0].extra.push(extra(t))),
            WriteError::UnknownValue
        );
        let extra = |t| (t, "1".into());
        assert_eq!(
            refusal(&|c, t| c.interface.extra.push(extra(t))),
            WriteError::UnknownName
        );
        let name = |host| Some(Endpoint::Name { host, port: 1 });
        assert_eq!(
            refusal(&|c, t| c.peers[0].endpoint = name(t)),
            WriteError::Endpoint
        );
    }
}

#[test]
fn names_that_are_known_or_no_names_are_refused() {
    for name in [
        "",
        "PublicKey",
        "allowedips",
        "MTU",
        "[Peer]",
        "a=b",
        "a b",
        "é",
        "123456789012345678901234567890123",
    ] {
        let mut config = Config::default();
        config.interface.extra.push((name.into(), "1".into()));
        assert_eq!(
            config.to_text_with_secrets().unwrap_err(),
            WriteError::UnknownName,
            "{name}"
        );
    }
}

#[test]
fn empty_texts_and_lists_in_one_text_are_refused() {
    for dns in ["", "a b", "a,b", "a\tb"] {
        let mut config = Config::default();
        config.interface.dns.push(dns.into());
        let field = Field::Dns;
        assert_eq!(
            config.to_text_with_secrets().unwrap_err(),
            WriteError::Text { field }
        );
    }
    let mut config = Config::default();
    config.interface.post_up.push(String::new());
    assert!(config.to_text_with_secrets().is_err());
}

#[test]
fn endpoints_that_would_change_are_refused() {
    let flow = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1, 7, 0);
    let name = |host: &str| Endpoint::Name {
        host: host.into(),
        port: 1,
    };
    for endpoint in [
        Endpoint::Address(flow.into()),
        name(""),
        name("1.2.3.4"),
        name("::1"),
        name("a:1"),
        name("a/b"),
    ] {
        let mut config = parse("[Peer]\nPublicKey=BOB");
        config.peers[0].endpoint = Some(endpoint);
        assert_eq!(
            config.to_text_with_secrets().unwrap_err(),
            WriteError::Endpoint
        );
    }
}

#[test]
fn a_peer_twice_and_too_much_text_are_refused() {
    let mut config = parse("[Peer]\nPublicKey=BOB");
    config.peers.push(config.peers[0].clone());
    assert_eq!(
        config.to_text_with_secrets().unwrap_err(),
        WriteError::DuplicatePeer
    );

    let mut config = Config::default();
    config
        .interface
        .pre_up
        .push("x".repeat(MAX_LEN - "[Interface]\nPreUp = \n".len()));
    let text = config.to_text_with_secrets().unwrap();
    assert!(Config::parse(text.as_str()).is_ok());
    config.interface.pre_up[0].push('x');
    assert_eq!(
        config.to_text_with_secrets().unwrap_err(),
        WriteError::TooLong
    );
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(config in configs()) {
        let text = written(&config);
        let read = Config::parse(&text).unwrap();
        prop_assert_eq!(everything(&read), everything(&config));
        prop_assert_eq!(written(&read), text);
    }
}

fn written(config: &Config) -> String {
    config.to_text_with_secrets().unwrap().as_str().into()
}

/// All values of a configuration, secrets and all, in a form that can be compared.
fn everything(config: &Config) -> (Vec<String>, Vec<String>) {
    let c = &config.interface;
    let key = c.private_key.as_ref().map(|key| *key.expose());
    let mut values = vec![
        format!(
            "{key:?} {:?} {:?} {:?}",
            c.listen_port, c.fwmark, c.addresses
        ),
        format!("{:?} {:?} {:?} {:?}", c.dns, c.mtu, c.table, c.save_config),
        format!(
            "{:?} {:?} {:?} {:?}",
            c.pre_up, c.post_up, c.pre_down, c.post_down
        ),
        format!("{:?}", c.extra),
    ];
    for p in &config.peers {
        let key = p.preshared_key.as_ref().map(|key| *key.expose());
        values.push(format!(
            "{} {key:?} {:?} {:?}",
            p.public_key, p.allowed_ips, p.endpoint
        ));
        values.push(format!("{:?} {:?}", p.persistent_keepalive, p.extra));
    }
    let unknown = config
        .unknown_keys()
        .map(|key| format!("{key:?}"))
        .collect();
    (values, unknown)
}

fn configs() -> impl Strategy<Value = Config> {
    let peers = proptest::collection::btree_map(any::<[u8; 32]>(), peers(), 0..4);
    (interfaces(), peers).prop_map(|(interface, peers)| {
        let peers = peers.into_iter().map(|(key, peer)| PeerSection {
            public_key: PublicKey::from_bytes(key),
            ..peer
        });
        Config {
            interface,
            peers: peers.collect(),
        }
    })
}

fn interfaces() -> impl Strategy<Value = InterfaceSection> {
    let numbers = (
        option::of(any::<u16>()),
        option::of(any::<u32>()),
        option::of(any::<u16>()),
    );
    let keys = option::of(any::<[u8; 32]>());
    let commands = proptest::array::uniform4(many(texts(), 0..3));
    let lists = (
        many(addresses(), 0..4),
        many("[a-z0-9.:%-]{1,9}", 0..4),
        commands,
        extras(),
    );
    let rest = (option::of(texts()), option::of(any::<bool>()));
    (keys, numbers, lists, rest).prop_map(|(key, numbers, lists, rest)| {
        let (addresses, dns, [pre_up, post_up, pre_down, post_down], extra) = lists;
        InterfaceSection {
            private_key: key.map(PrivateKey::from_bytes),
            listen_port: numbers.0,
            fwmark: numbers.1,
            mtu: numbers.2,
            addresses,
            dns,
            table: rest.0,
            save_config: rest.1,
            pre_up,
            post_up,
            pre_down,
            post_down,
            extra,
        }
    })
}

fn peers() -> impl Strategy<Value = PeerSection> {
    let keys = option::of(any::<[u8; 32]>());
    let networks = many(addresses().prop_map(InterfaceAddress::network), 0..5);
    let keepalives = option::of(prop_oneof![Just(0), any::<u16>()]);
    (
        keys,
        networks,
        option::of(endpoints()),
        keepalives,
        extras(),
    )
        .prop_map(
            |(key, allowed_ips, endpoint, persistent_keepalive, extra)| PeerSection {
                public_key: PublicKey::from_bytes([0; 32]),
                preshared_key: key.map(PresharedKey::from_bytes),
                allowed_ips,
                endpoint,
                persistent_keepalive,
                extra,
            },
        )
}

fn addresses() -> impl Strategy<Value = InterfaceAddress> {
    let ips = prop_oneof![
        (any::<u32>(), 0_u8..=32).prop_map(|(ip, len)| (IpAddr::V4(Ipv4Addr::from(ip)), len)),
        (any::<u128>(), 0_u8..=128).prop_map(|(ip, len)| (IpAddr::V6(Ipv6Addr::from(ip)), len)),
    ];
    ips.prop_map(|(ip, len)| InterfaceAddress::new(ip, len).unwrap())
}

fn endpoints() -> impl Strategy<Value = Endpoint> {
    let scoped = (any::<u128>(), any::<u16>(), any::<u32>())
        .prop_map(|(ip, port, scope)| SocketAddrV6::new(ip.into(), port, 0, scope));
    let hosts = prop_oneof![
        "[a-z0-9_-]{0,9}[a-z]",
        "([a-z0-9]{1,5}\\.){1,3}[a-z]{2}\\.?",
        "fe80::[0-9a-f]{1,4}%[a-z]{1,9}"
    ];
    prop_oneof![
        (any::<u32>(), any::<u16>())
            .prop_map(|(ip, port)| Endpoint::Address((Ipv4Addr::from(ip), port).into())),
        scoped.prop_map(|address| Endpoint::Address(address.into())),
        (hosts, any::<u16>()).prop_map(|(host, port)| Endpoint::Name { host, port }),
    ]
}

fn extras() -> impl Strategy<Value = Vec<(String, String)>> {
    let values = prop_oneof![Just(String::new()), texts()];
    many(("x[A-Za-z0-9_.-]{0,31}", values), 0..3)
}

/// Free texts: no `#`, no control character but the tabulator, no white space around.
fn texts() -> impl Strategy<Value = String> {
    "[^#\\s\\pC]([^#\\pC]|\t){0,12}[^#\\s\\pC]"
}
