//! What is refused, where, and with which words.

use std::format;
use std::string::{String, ToString};

use super::*;

/// Texts and their messages.
const REFUSED: [(&str, &str); 62] = [
    // Lines.
    (
        "hello",
        "line 1, column 1: expected a section in brackets or `Key = value`",
    ),
    (
        "[Interface]\n  hello # [Peer]",
        "line 2, column 3: expected a section in brackets or `Key = value`",
    ),
    (
        "[Interface]\nListen#Port = 5",
        "line 2, column 1: expected a section in brackets or `Key = value`",
    ),
    (
        "; comment\n[Interface]",
        "line 1, column 1: expected a section in brackets or `Key = value`",
    ),
    (
        "[Interface]\n= 5",
        "line 2, column 1: expected a known key, or an unknown one of 1 to 32 letters, digits, `-`, `_`, `.`",
    ),
    (
        "[Interface]\nPre Up = 5",
        "line 2, column 1: expected a known key, or an unknown one of 1 to 32 letters, digits, `-`, `_`, `.`",
    ),
    (
        "[Interface]\n\u{a0}MTU = 5",
        "line 2, column 1: expected a known key, or an unknown one of 1 to 32 letters, digits, `-`, `_`, `.`",
    ),
    (
        "[Interface]\nPRIVATE",
        "line 2, column 1: expected a known key, or an unknown one of 1 to 32 letters, digits, `-`, `_`, `.`",
    ),
    (
        "[Interface]\nPrivateKey PRIVATE",
        "line 2, column 1: expected a known key, or an unknown one of 1 to 32 letters, digits, `-`, `_`, `.`",
    ),
    (
        "[Interface]\n123456789012345678901234567890123=",
        "line 2, column 1: expected a known key, or an unknown one of 1 to 32 letters, digits, `-`, `_`, `.`",
    ),
    // Sections.
    (
        "\n\n [Peers]",
        "line 3, column 2: \"[Peers]\": expected [Interface] or [Peer]",
    ),
    (
        "[Interface",
        "line 1, column 1: \"[Interface\": expected [Interface] or [Peer]",
    ),
    (
        "[Peer] = 1",
        "line 1, column 1: \"[Peer] = 1\": expected [Interface] or [Peer]",
    ),
    (
        "[Interface]\rListenPort=5",
        "line 1, column 1: \"[Interface]\\rListenPort=5\": expected [Interface] or [Peer]",
    ),
    (
        "# é\n  ListenPort = 5",
        "line 2, column 3: ListenPort: a key before any section: expected [Interface] or [Peer]",
    ),
    (
        "PublicKey = BOB",
        "line 1, column 1: PublicKey: a key before any section: expected [Interface] or [Peer]",
    ),
    (
        "Foo = 5",
        "line 1, column 1: a key before any section: expected [Interface] or [Peer]",
    ),
    (
        "[Interface]\nPublicKey = BOB",
        "line 2, column 1: PublicKey: expected this key in [Peer] only",
    ),
    (
        "[Interface]\n allowedips =",
        "line 2, column 2: AllowedIPs: expected this key in [Peer] only",
    ),
    (
        "[Peer]\nPrivateKey = PRIVATE",
        "line 2, column 1: PrivateKey: expected this key in [Interface] only",
    ),
    (
        "[Peer]\nMTU = 5",
        "line 2, column 1: MTU: expected this key in [Interface] only",
    ),
    (
        "[Peer]",
        "line 1, column 1: expected a PublicKey in every [Peer]",
    ),
    (
        "[Peer]\nPublicKey=BOB\n\t[PEER] # x\nMTU=\n",
        "line 4, column 1: MTU: expected this key in [Interface] only",
    ),
    (
        "[Peer]\nPublicKey=BOB\n\t[PEER] # x\nEndpoint=a:1\n",
        "line 3, column 2: expected a PublicKey in every [Peer]",
    ),
    (
        "[Peer]\nEndpoint=a:1\n[Interface]\nMTU=x",
        "line 1, column 1: expected a PublicKey in every [Peer]",
    ),
    // Keys.
    (
        "[Interface]\nPrivateKey =",
        "line 2, column 13: PrivateKey: nothing after the `=`: expected a key of 44 characters in base64",
    ),
    (
        "[Interface]\nPrivateKey = # x",
        "line 2, column 13: PrivateKey: nothing after the `=`: expected a key of 44 characters in base64",
    ),
    (
        "[Interface]\nPrivateKey = xPRIVATE",
        "line 2, column 14: PrivateKey: a key in base64 has 44 characters, not 45: remove what surrounds the key, line ends and spaces too",
    ),
    (
        "[Interface]\nPrivateKey = é",
        "line 2, column 14: PrivateKey: a key in base64 has 44 characters, not 1: copy the whole key",
    ),
    (
        "[Peer]\nPublicKey = \"BOB\"",
        "line 2, column 13: PublicKey: a key in base64 has 44 characters, not 46: remove what surrounds the key, line ends and spaces too",
    ),
    (
        "[Peer]\nPresharedKey=pDrFKfZy9w4f/610i8vD/MK+VhP3maA7FaOGSeJmFWx=",
        "line 2, column 14: PresharedKey: the character before the final `=` is not one that a key of 32 bytes can have: copy the key again",
    ),
    (
        "[Peer]\nPresharedKey=pDrFKfZy9w4f-610i8vD/MK+VhP3maA7FaOGSeJmFWw=",
        "line 2, column 14: PresharedKey: character 13 is not a digit of the key's format: copy the key again",
    ),
    // Numbers.
    (
        "[Interface]\nListenPort = 65536",
        "line 2, column 14: ListenPort: \"65536\": expected a number from 0 to 65535",
    ),
    (
        "[Interface]\nListenPort = domain",
        "line 2, column 14: ListenPort: \"domain\": expected a number from 0 to 65535",
    ),
    (
        "[Interface]\nListenPort = -1",
        "line 2, column 14: ListenPort: \"-1\": expected a number from 0 to 65535",
    ),
    (
        "[Interface]\nListenPort = +80",
        "line 2, column 14: ListenPort: \"+80\": expected a number from 0 to 65535",
    ),
    (
        "[Interface]\nFwMark = 0X1",
        "line 2, column 10: FwMark: \"0X1\": expected `off` or a number below 2^32, in hexadecimal after `0x`",
    ),
    (
        "[Interface]\nFwMark = 0x",
        "line 2, column 10: FwMark: \"0x\": expected `off` or a number below 2^32, in hexadecimal after `0x`",
    ),
    (
        "[Interface]\nFwMark = 0x+1",
        "line 2, column 10: FwMark: \"0x+1\": expected `off` or a number below 2^32, in hexadecimal after `0x`",
    ),
    (
        "[Interface]\nFwMark = 4294967296",
        "line 2, column 10: FwMark: \"4294967296\": expected `off` or a number below 2^32, in hexadecimal after `0x`",
    ),
    (
        "[Interface]\nMTU = 1420 bytes",
        "line 2, column 7: MTU: \"1420 bytes\": expected a number from 0 to 65535",
    ),
    (
        "[Interface]\nSaveConfig = yes",
        "line 2, column 14: SaveConfig: \"yes\": expected `true` or `false`",
    ),
    (
        "[Interface]\nSaveConfig=",
        "line 2, column 12: SaveConfig: nothing after the `=`: expected `true` or `false`",
    ),
    (
        "[Peer]\nPersistentKeepalive = 65536",
        "line 2, column 23: PersistentKeepalive: \"65536\": expected `off` or a number of seconds from 1 to 65535",
    ),
    (
        "[Peer]\nPersistentKeepalive = on",
        "line 2, column 23: PersistentKeepalive: \"on\": expected `off` or a number of seconds from 1 to 65535",
    ),
    // Addresses.
    (
        "[Interface]\nAddress = 10.0.0.1/24, 10.0.0.2/x",
        "line 2, column 24: Address: \"10.0.0.2/x\": the prefix length is not a decimal number up to 255",
    ),
    (
        "[Peer]\nAllowedIPs = 10.0.0.0/8,  10.0.0.0/33, ::/0",
        "line 2, column 27: AllowedIPs: \"10.0.0.0/33\": the prefix length is more than 32",
    ),
    (
        "[Peer]\nAllowedIPs = 10.0.0.0/8,",
        "line 2, column 25: AllowedIPs: \"\": not an IPv4 or IPv6 address",
    ),
    (
        "[Peer]\nAllowedIPs = 010.0.0.1",
        "line 2, column 14: AllowedIPs: \"010.0.0.1\": not an IPv4 or IPv6 address",
    ),
    (
        "[Peer]\nAllowedIPs = ::/0, +1.1.1.1",
        "line 2, column 20: AllowedIPs: \"+1.1.1.1\": not an IPv4 or IPv6 address",
    ),
    (
        "[Peer]\nAllowedIPs = 10.0.0.1/+24",
        "line 2, column 14: AllowedIPs: \"10.0.0.1/+24\": the prefix length is not a decimal number up to 255",
    ),
    (
        "[Peer]\nAllowedIPs = ::/129",
        "line 2, column 14: AllowedIPs: \"::/129\": the prefix length is more than 128",
    ),
    // Endpoints.
    (
        "[Peer]\nEndpoint = 2001:db8::1",
        "line 2, column 12: Endpoint: \"2001:db8::1\": expected an IPv6 address in brackets, as in [2001:db8::1]:51820",
    ),
    (
        "[Peer]\nEndpoint = [2001:db8::1",
        "line 2, column 12: Endpoint: \"[2001:db8::1\": expected an IPv6 address in brackets, as in [2001:db8::1]:51820",
    ),
    (
        "[Peer]\nEndpoint = [1.2.3.4]:5",
        "line 2, column 12: Endpoint: \"[1.2.3.4]:5\": what is in the brackets is not an IPv6 address",
    ),
    (
        "[Peer]\nEndpoint = [fe80::1%a/b]:5",
        "line 2, column 12: Endpoint: \"[fe80::1%a/b]:5\": the scope after `%` is neither a number nor the name of an interface",
    ),
    (
        "[Peer]\nEndpoint = example.com",
        "line 2, column 12: Endpoint: \"example.com\": expected a port after the host, as in 192.0.2.1:51820",
    ),
    (
        "[Peer]\nEndpoint = [::1]:",
        "line 2, column 12: Endpoint: \"[::1]:\": expected a port after the host, as in 192.0.2.1:51820",
    ),
    (
        "[Peer]\nEndpoint = 1.2.3.4:70000",
        "line 2, column 12: Endpoint: \"1.2.3.4:70000\": the port is not a decimal number from 0 to 65535",
    ),
    (
        "[Peer]\nEndpoint = 1.2.3:7",
        "line 2, column 12: Endpoint: \"1.2.3:7\": the host is neither an IPv4 address nor a name in ASCII",
    ),
    // Free text.
    (
        "[Interface]\nPostUp = é\u{7} x",
        "line 2, column 11: PostUp: a control character: expected text without, except tabulators",
    ),
    (
        "[Interface]\nFoo = a\rb",
        "line 2, column 8: a control character: expected text without, except tabulators",
    ),
];

#[test]
fn every_error_says_where_and_what_was_expected() {
    for (text, message) in REFUSED {
        let error = Config::parse(&with_keys(text)).expect_err(text);
        assert_eq!(error.to_string(), message, "{text:?}");
        let place = format!("line {}, column {}: ", error.line(), error.column());
        assert!(message.starts_with(&place), "{place}");
        // The same further down, after a byte order mark and with the line ends of Windows.
        let other = format!("\u{feff}# Ä\r\n{}", with_keys(text).replace('\n', "\r\n"));
        let other = Config::parse(&other).expect_err(text);
        assert_eq!(other.line(), error.line() + 1, "{text:?}");
        assert_eq!(other.column(), error.column(), "{text:?}");
    }
}

#[test]
fn no_error_shows_a_secret() {
    let spoil: [&dyn Fn(&str) -> String; 6] = [
        &|key| key[1..].to_string(),
        &|key| key[..43].to_string(),
        &|key| format!("\"{key}\""),
        &|key| key.replace('=', ""),
        &|key| format!("{key}\u{7}"),
        &|key| key.replacen(char::is_lowercase, "é", 1),
    ];
    for template in [
        "[Interface]\nPrivateKey = KEY",
        "[Interface]\nPrivateKey : KEY",
        "[Interface]\nPrivateKey KEY",
        "[Interface]\nKEY",
        "[Interface]\nPublicKey = KEY",
        "[Interface]\nPrivatKey = KEY",
        "[Peer]\nPrivateKey = KEY",
        "[Peer]\nPresharedKey = KEY",
        "PrivateKey = KEY",
        "[Interface] PrivateKey = KEY",
        "[KEY]",
        "[Interface]\nListenPort = KEY",
        "[Interface]\nAddress = ::, KEY",
        "[Peer]\nEndpoint = KEY:1",
        "[Peer]\nAllowedIPs = 10.0.0.1/KEY",
    ] {
        for spoil in spoil {
            let spoilt = spoil(PRIVATE);
            let Err(error) = Config::parse(&template.replace("KEY", &spoilt)) else {
                assert!(template.contains("PrivatKey"), "an unknown key");
                continue;
            };
            let shown = format!("{error} {error:?}");
            // No eight characters of the key in a row.
            for start in 0..36 {
                assert!(!shown.contains(&PRIVATE[start..start + 8]), "{shown}");
            }
        }
    }
}

#[test]
fn long_values_are_not_quoted_in_full() {
    let text = format!("[Interface]\nListenPort = {}", "é".repeat(1000));
    let error = Config::parse(&text).unwrap_err().to_string();
    assert!(
        error.contains(&format!("\"{}…\"", "é".repeat(64))),
        "{error}"
    );
}

#[test]
fn texts_over_the_limit_are_refused_unread() {
    let mut text = "#".repeat(MAX_LEN);
    assert!(Config::parse(&text).is_ok());
    text.push('#');
    let error = Config::parse(&text).unwrap_err();
    assert_eq!(error.problem(), Problem::TooLong);
    assert_eq!(
        error.to_string(),
        "line 1, column 1: expected at most 16777216 bytes of text"
    );
}

#[test]
fn errors_can_be_matched() {
    let error = Config::parse("[Interface]\nPublicKey = x").unwrap_err();
    assert_eq!(error.field(), Some(Field::PublicKey));
    let section = Section::Peer;
    assert_eq!(error.problem(), Problem::Misplaced { section });
}
