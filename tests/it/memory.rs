//! What a node shows of itself: no secret in any `Debug` output, and a size that is known.

use std::collections::HashSet;
use std::fmt::Debug;

use quietwire::{
    Env, HandshakeStep, Instant, Interface, Load, Opened, Outgoing, PeerConfig, PresharedKey,
    PrivateKey, Tunnel,
};

use crate::support::secrets::{HandshakeSecrets, static_static};
use crate::support::*;

const PSK: [u8; 32] = *b"a preshared key of 32 characters";

/// What `Debug` outputs contain, in every form in which bytes are printed.
#[derive(Default)]
struct Shown {
    /// Four numbers in a row, read as decimal or as hexadecimal ones.
    lists: HashSet<[u8; 4]>,
    /// Eight letters or digits in a row, as in hexadecimal text and in base64.
    texts: HashSet<[u8; 8]>,
}

impl Shown {
    fn show(&mut self, value: &dyn Debug) {
        self.add(&format!("{value:?}"));
        self.add(&format!("{value:x?}"));
    }

    fn add(&mut self, text: &str) {
        let text = text.replace([' ', '\n'], "").to_lowercase();
        for list in text.split(|c: char| !c.is_ascii_hexdigit() && c != ',') {
            for radix in [10, 16] {
                let numbers = list.split(',').map(|n| u8::from_str_radix(n, radix).ok());
                let numbers: Vec<_> = numbers.collect();
                let rows = numbers.windows(4);
                let rows = rows.filter_map(|row| Some([row[0]?, row[1]?, row[2]?, row[3]?]));
                self.lists.extend(rows);
            }
        }
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '+' && c != '/') {
            let eights = word.as_bytes().windows(8);
            self.texts
                .extend(eights.map(|eight| <[u8; 8]>::try_from(eight).unwrap()));
        }
    }

    /// Four bytes in a row are a find: nothing else prints them by chance.
    fn assert_hides(&self, name: &str, secret: &[u8; 32]) {
        for bytes in secret.windows(4) {
            assert!(!self.lists.contains(bytes), "{name} as a list");
        }
        let key = PrivateKey::from_bytes(*secret);
        for text in [key.to_base64().to_string(), key.to_hex().to_string()] {
            for eight in text.to_lowercase().as_bytes().windows(8) {
                assert!(!self.texts.contains(eight), "{name} as text");
            }
        }
    }
}

/// The search finds what it is to find.
#[test]
fn control_a_key_that_is_shown_is_found() {
    let key: [u8; 32] = std::array::from_fn(|i| u8::try_from(i * 7 + 3).unwrap());
    let shows = |text: String| {
        let mut shown = Shown::default();
        shown.add(&text);
        std::panic::catch_unwind(|| shown.assert_hides("key", &key)).is_err()
    };
    std::panic::set_hook(Box::new(|_| {}));
    let private = PrivateKey::from_bytes(key);
    let found = [
        shows(format!("{key:?}")),
        shows(format!("{key:#?}")),
        shows(format!("{key:x?}")),
        shows(format!("{key:02X?}")),
        shows(private.to_hex().to_string()),
        shows(private.to_base64().to_string()),
        shows(format!("{private:?}")),
    ];
    drop(std::panic::take_hook());
    assert_eq!(found, [true, true, true, true, true, true, false]);
}

/// A preshared key was printed by the `Debug` of more than one implementation. Here every public type
/// that holds a secret is shown at every stage of its life.
#[test]
fn debug_shows_no_secret() {
    let mut shown = Shown::default();
    let psk = PresharedKey::from_bytes(PSK);
    shown.show(&psk);
    for side in Side::BOTH {
        shown.show(&side.private_key());
    }
    let mut secrets = vec![
        ("preshared key", PSK),
        ("static-static secret", static_static()),
        ("private key", *Alice.private_key().expose()),
        ("private key", *Bob.private_key().expose()),
    ];
    for kind in [NodeKind::Tunnel, NodeKind::Interface] {
        let mut pair = Setup {
            psk: psk.clone(),
            ..Setup::of(kind)
        }
        .build();
        let show_all = |pair: &mut Pair, shown: &mut Shown| {
            for side in Side::BOTH {
                match &mut pair[side] {
                    Node::Tunnel(tunnel) => shown.show(tunnel),
                    Node::Interface(interface, id) => {
                        shown.show(interface);
                        shown.show(&interface.peer(*id).unwrap());
                        shown.show(&interface.peer_mut(*id).unwrap());
                    }
                }
            }
        };
        pair[Bob].set_load(Load::UnderLoad);
        for at in [0, 6, 130, 136, 280] {
            pair.run_until(secs(at));
            if at == 136 {
                pair.cut(Bob);
            }
            let now = pair.now;
            show_all(&mut pair, &mut shown);
            pair[Alice].initiate(now);
            show_all(&mut pair, &mut shown);
            pair.settle();
            show_all(&mut pair, &mut shown);
            pair.send(Alice, 100);
        }
        let keys = pair.rng.keys.clone();
        secrets.extend(keys.iter().map(|key| ("drawn key", *key)));
        // Which of them belong together is not known here, so every two neighbours are tried.
        for ephemerals in keys.windows(2) {
            let ephemerals = [ephemerals[0], ephemerals[1]];
            secrets.extend(HandshakeSecrets::derive(Alice, PSK, ephemerals).all);
        }
    }
    let public = *Alice.public_key().as_bytes();
    let hides = std::panic::AssertUnwindSafe(|| shown.assert_hides("public key", &public));
    assert!(
        std::panic::catch_unwind(hides).is_err(),
        "the public key is shown, so that the search has something to find"
    );
    for (name, secret) in secrets {
        shown.assert_hides(name, &secret);
    }
}

/// The same for jobs and results, which carry copies of keys to other threads.
#[test]
fn debug_of_jobs_shows_no_secret() {
    let mut shown = Shown::default();
    let mut rng = SeededRng::new(11);
    let start = Instant::from_nanos(0);
    let psk = PresharedKey::from_bytes(PSK);
    let config = |side: Side| {
        let peer = side.other();
        PeerConfig::new(peer.public_key())
            .endpoint(peer.addr())
            .preshared_key(psk.clone())
    };
    shown.show(&config(Alice));
    let mut alice = Tunnel::new(&Alice.private_key(), &config(Alice), start).unwrap();
    let mut bob = Tunnel::new(&Bob.private_key(), &config(Bob), start).unwrap();
    let mut env = Env::new(&mut rng, secs(1_700_000_000));
    shown.show(&env);
    let mut run = |tunnel: &mut Tunnel, mut step: HandshakeStep| {
        loop {
            shown.show(&step);
            match step {
                HandshakeStep::Run(mut job) => {
                    shown.show(&job);
                    job.run();
                    shown.show(&job);
                    step = tunnel.finish_handshake(start, job).unwrap();
                }
                HandshakeStep::Transmit(transmit) => {
                    shown.show(&transmit);
                    return transmit.message.as_bytes().to_vec();
                }
                _ => return Vec::new(),
            }
        }
    };
    alice.initiate(start);
    let job = alice.poll_handshake(start, &mut env).unwrap();
    let initiation = run(&mut alice, HandshakeStep::Run(job));
    let step = bob
        .begin_handshake(start, Alice.addr(), &initiation)
        .unwrap();
    run(&mut bob, step);
    let job = bob.poll_handshake(start, &mut env).unwrap();
    let response = run(&mut bob, HandshakeStep::Run(job));
    let step = alice.begin_handshake(start, Bob.addr(), &response).unwrap();
    run(&mut alice, step);

    let inner = packet(Alice, 100);
    let mut out = [0; 200];
    let mut sealing = alice
        .begin_seal(start, Outgoing::apart(&inner, &mut out[..]))
        .unwrap();
    shown.show(&sealing);
    sealing.run();
    shown.show(&sealing);
    let datagram = sealing.datagram().to_vec();
    let mut opening = bob.begin_open(start, Alice.addr(), datagram).unwrap();
    shown.show(&opening);
    opening.run();
    shown.show(&opening);
    let opened: Opened<Vec<u8>> = bob.finish_open(start, opening).unwrap();
    assert!(!opened.is_keepalive());

    let ephemerals = [rng.keys[0], rng.keys[1]];
    let mut secrets = HandshakeSecrets::derive(Alice, PSK, ephemerals).all;
    secrets.push(("preshared key", PSK));
    secrets.push(("static-static secret", static_static()));
    secrets.extend(Side::BOTH.map(|side| ("private key", *side.private_key().expose())));
    for (name, secret) in secrets {
        shown.assert_hides(name, &secret);
    }
}

/// A job between `run` and `finish` holds a packet that nobody has checked for a replay yet. Its
/// `Debug` does not show it.
#[test]
fn debug_of_a_job_shows_no_plaintext() {
    let mut pair = Setup::of(NodeKind::Tunnel).build();
    pair.establish();
    let now = pair.now;
    let (_, datagram) = pair[Alice].seal(now, &packet(Alice, 100)).unwrap();
    let Node::Tunnel(bob) = &mut pair[Bob] else {
        panic!("not a tunnel");
    };
    let mut job = bob.begin_open(now, Alice.addr(), datagram).unwrap();
    job.run();
    let shown = format!("{job:?}");
    assert!(
        !shown.contains("218, 218") && !shown.contains("dada"),
        "{shown}"
    );
}

/// Fixed sizes, so that a machine without an allocator can plan, and so that growth is noticed.
#[test]
fn sizes_are_bounded() {
    let tunnel = size_of::<Tunnel>();
    println!("Tunnel {tunnel}, Interface {}", size_of::<Interface>());
    assert!(tunnel <= 6 * 1024, "{tunnel}");
    assert!(size_of::<quietwire::Transmit>() <= 256);
    assert!(size_of::<quietwire::HandshakeJob>() <= 1024);
    assert!(size_of::<quietwire::SealJob<'_, &mut [u8]>>() <= 192);
    assert!(size_of::<quietwire::OpenJob<&mut [u8]>>() <= 192);
    assert_eq!(size_of::<quietwire::PeerId>(), 8);
}
