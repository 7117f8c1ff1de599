use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// Made by `wg genkey`, `wg pubkey` and `wg genpsk` of wireguard-tools 1.0.20210914.
const WG_PAIRS: [(&str, &str); 4] = [
    (
        "iEs9UNl9VoF+vnYW5hH+hKasnCQhV06ySUcdHwilZms=",
        "pDrFKfZy9w4f/610i8vD/MK+VhP3maA7FaOGSeJmFWw=",
    ),
    (
        "CNw911f0I14VshOAEsy9VVewNws4ZvBVTlVEYbh9T1M=",
        "6pQMk3elPZW9TBMgMfejqp6kC4ixy7A1WRra/6rqyTA=",
    ),
    (
        "eDsnqM0LSsejLQ2XH0wnF4u8JxNwASL3aFDm6qV9ZV8=",
        "Xz4uaG0AOoxIK4Smq3//IXwMQNC0FwzuOlsr8pwcPgc=",
    ),
    // The key of zeros, which `wg pubkey` clamps.
    (
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "L+V9o0fNYkMVKNqsX7spBzD/9oSvxM/C7ZCZX1jLO3Q=",
    ),
];
const WG_PRESHARED: [&str; 3] = [
    "GrfPmHJehnYqJCVVnmm0yuFCcjPx+I/CZoBccL3tVRc=",
    "BoJiWy/UGcMUajEgnkm/GU794DaJpD1etfAmCQEIpYs=",
    "3Q5lQ+6EwEyCcYE9KBUvnflUpsRbUVG0wHDIwqMEEqU=",
];

/// Gives 1, 2, 3, … as random bytes.
struct Counting(u8);

impl rand_core::TryRng for Counting {
    type Error = core::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        unreachable!("keys are made of bytes")
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        unreachable!("keys are made of bytes")
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        for byte in out {
            self.0 = self.0.wrapping_add(1);
            *byte = self.0;
        }
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Counting {}

#[test]
fn derives_the_public_keys_that_wg_derives() {
    for (private, public) in WG_PAIRS {
        let key = PrivateKey::from_base64(private).unwrap();
        assert_eq!(key.public_key().to_base64().as_str(), public);
        assert_eq!(key.public_key(), public.parse().unwrap());
    }
}

#[test]
fn writes_what_wg_wrote() {
    for (private, public) in &WG_PAIRS[..3] {
        assert_eq!(
            private.parse::<PrivateKey>().unwrap().to_base64().as_str(),
            *private
        );
        assert_eq!(public.parse::<PublicKey>().unwrap().to_string(), *public);
    }
    for text in WG_PRESHARED {
        assert_eq!(
            text.parse::<PresharedKey>().unwrap().to_base64().as_str(),
            text
        );
    }
}

/// RFC 7748, section 6.1.
#[test]
fn rfc_7748_key_pairs() {
    for (private, clamped, public) in [
        (
            "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
            "70076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c6a",
            "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
        ),
        (
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
            "58ab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e06b",
            "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
        ),
    ] {
        let key = PrivateKey::from_hex(private).unwrap();
        assert_eq!(key.to_hex().as_str(), clamped);
        assert_eq!(key.public_key().to_hex().as_str(), public);
    }
}

/// RFC 7748, section 5: the scalar of X25519.
#[test]
fn private_keys_are_clamped_wherever_they_come_from() {
    let ones = PrivateKey::from_bytes([0xff; 32]);
    let zeros = PrivateKey::from_bytes([0; 32]);
    assert_eq!((ones.expose()[0], ones.expose()[31]), (0xf8, 0x7f));
    assert_eq!((zeros.expose()[0], zeros.expose()[31]), (0, 0x40));
    assert!(ones.expose()[1..31].iter().all(|byte| *byte == 0xff));
    assert!(PrivateKey::from_hex(&"f".repeat(64)).unwrap().ct_eq(&ones));
    let text = format!("{}8=", "/".repeat(42));
    assert!(PrivateKey::from_base64(&text).unwrap().ct_eq(&ones));

    let generated = PrivateKey::generate(&mut Counting(0));
    assert_eq!(
        (generated.expose()[0], generated.expose()[31]),
        (0, 0x60),
        "1 and 32, clamped"
    );
    assert_eq!(generated.expose()[1], 2);
}

#[test]
fn generates_preshared_keys_from_all_32_random_bytes() {
    let key = PresharedKey::generate(&mut Counting(0));
    assert!(key.expose().iter().copied().eq(1..=32));
}

#[test]
fn secrets_are_not_printed_by_debug() {
    let (private, preshared) = (
        PrivateKey::from_bytes([7; 32]),
        PresharedKey::from_bytes([7; 32]),
    );
    assert_eq!(
        format!("{private:?} {preshared:?}"),
        "PrivateKey(..) PresharedKey(..)"
    );
    assert_eq!(
        format!("{:?} {:?}", private.to_base64(), private.to_hex()),
        "KeyText(..) KeyText(..)"
    );
}

#[test]
fn public_keys_are_printed_in_base64() {
    let (_, text) = WG_PAIRS[0];
    let key: PublicKey = text.parse().unwrap();
    assert_eq!(
        format!("{key} {key:?} {key:>46}"),
        format!("{text} {text}   {text}")
    );
}

#[test]
fn no_preshared_key_is_the_zero_key() {
    assert!(PresharedKey::NONE.is_none() && PresharedKey::default().is_none());
    for byte in 0..32 {
        let mut bytes = [0; 32];
        bytes[byte] = 0x80;
        let key = PresharedKey::from_bytes(bytes);
        assert!(!key.is_none());
        assert!(key.ct_eq(&key.clone()) && !key.ct_eq(&PresharedKey::NONE));
    }
}

fn good() -> String {
    WG_PRESHARED[0].to_string()
}

fn refuse(text: &str) -> KeyError {
    let error = PresharedKey::from_base64(text).unwrap_err();
    assert_eq!(PrivateKey::from_base64(text).unwrap_err(), error);
    assert_eq!(PublicKey::from_base64(text).unwrap_err(), error);
    error
}

#[test]
fn refuses_other_lengths() {
    let length = |got| KeyError::Length { got, expected: 44 };
    assert_eq!(refuse(""), length(0));
    assert_eq!(refuse(&good()[..43]), length(43));
    assert_eq!(refuse(&format!("{}\n", good())), length(45));
    assert_eq!(refuse(&format!(" {}", good())), length(45));
    assert_eq!(refuse(&format!("{}=", good())), length(45));
    assert_eq!(refuse(&"0".repeat(64)), length(64));
    // 44 bytes of 22 characters.
    assert_eq!(refuse(&"é".repeat(22)), KeyError::Character { position: 1 });
}

#[test]
fn refuses_every_character_outside_of_the_alphabet_at_every_position() {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for position in 0..43 {
        for character in (0..=0xff_u8).map(char::from) {
            let mut text: Vec<char> = good().chars().collect();
            text[position] = character;
            let result = PresharedKey::from_base64(&text.iter().collect::<String>());
            match (alphabet.contains(character), result) {
                (false, result) => {
                    let position = position + 1;
                    assert_eq!(result.unwrap_err(), KeyError::Character { position });
                }
                (true, Err(error)) => {
                    assert_eq!((position, error), (42, KeyError::NotCanonical));
                }
                (true, Ok(_)) => {}
            }
        }
    }
}

#[test]
fn refuses_characters_of_several_bytes_at_the_edges() {
    let (head, tail) = (&good()[1..], &good()[..43]);
    for wide in ["é", "€", "𝔸", "\u{0}é"] {
        let characters = wide.chars().count();
        let expected = if characters == 1 {
            KeyError::Character { position: 1 }
        } else {
            KeyError::Length {
                got: 45,
                expected: 44,
            }
        };
        assert_eq!(refuse(&format!("{wide}{head}")), expected);
    }
    assert_eq!(
        refuse(&format!("{tail}é")),
        KeyError::Character { position: 44 }
    );
    // 44 bytes whose last character begins within the digits and ends in the padding.
    assert_eq!(
        refuse(&format!("{}é", &good()[..42])),
        KeyError::Character { position: 43 }
    );
}

#[test]
fn refuses_missing_padding_and_bits_that_belong_to_no_byte() {
    assert_eq!(refuse(&format!("{}A", &good()[..43])), KeyError::Padding);
    assert_eq!(
        refuse(&format!("{}==", &good()[..42])),
        KeyError::Character { position: 43 }
    );
    let canonical: Vec<char> = ('A'..='Z')
        .chain('a'..='z')
        .chain('0'..='9')
        .chain(['+', '/'])
        .filter(|last| PresharedKey::from_base64(&format!("{}{last}=", &good()[..42])).is_ok())
        .collect();
    // RFC 4648, section 3.5: the two low bits of the 43rd digit must be zero.
    assert_eq!(canonical.iter().collect::<String>(), "AEIMQUYcgkosw048");
}

#[test]
fn reads_hexadecimal_of_either_case_and_nothing_else() {
    let text = "0123456789abcdef".repeat(4);
    let key = PublicKey::from_hex(&text).unwrap();
    assert_eq!(
        key.as_bytes()[..8],
        [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]
    );
    assert_eq!(PublicKey::from_hex(&text.to_uppercase()).unwrap(), key);
    assert_eq!(key.to_hex().as_str(), text);
    assert_eq!(
        PublicKey::from_hex(&text[1..]).unwrap_err(),
        KeyError::Length {
            got: 63,
            expected: 64
        }
    );
    for position in 0..64 {
        for character in (0..=0xff_u8).map(char::from) {
            let mut digits: Vec<char> = text.chars().collect();
            digits[position] = character;
            let result = PublicKey::from_hex(&digits.iter().collect::<String>());
            assert_eq!(
                result.is_ok(),
                character.is_ascii_hexdigit(),
                "{character:?}"
            );
            if let Err(error) = result {
                assert_eq!(
                    error,
                    KeyError::Character {
                        position: position + 1
                    }
                );
            }
        }
    }
}

#[test]
fn errors_say_what_to_do() {
    for (text, message) in [
        (
            &good()[..43],
            "a key in base64 has 44 characters, not 43: is the final `=` missing?",
        ),
        (
            &"0".repeat(64),
            "a key in base64 has 44 characters, not 64: is this hexadecimal?",
        ),
        (
            "",
            "a key in base64 has 44 characters, not 0: the text is empty",
        ),
    ] {
        assert_eq!(refuse(text).to_string(), message);
    }
    assert_eq!(
        PublicKey::from_hex(&good()).unwrap_err().to_string(),
        "a key in hexadecimal has 64 characters, not 44: is this base64?"
    );
}

proptest! {
    #[test]
    fn every_key_survives_both_texts(bytes in any::<[u8; 32]>()) {
        let key = PublicKey::from_bytes(bytes);
        prop_assert_eq!(PublicKey::from_base64(key.to_base64().as_str()).unwrap(), key);
        prop_assert_eq!(PublicKey::from_hex(key.to_hex().as_str()).unwrap(), key);
        let hex = key.to_hex();
        for (digits, byte) in hex.as_str().as_bytes().chunks(2).zip(bytes) {
            let expected = format!("{byte:02x}");
            prop_assert_eq!(digits, expected.as_bytes());
        }
    }

    #[test]
    fn any_text_is_a_key_or_an_error(text in any::<String>()) {
        if let Ok(key) = PublicKey::from_base64(&text) {
            let written = key.to_base64();
            prop_assert_eq!(written.as_str(), text.as_str());
        }
        let _ = PublicKey::from_hex(&text);
    }
}
