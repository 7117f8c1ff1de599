//! Configuration files: what is read can be written, and reads the same again.

use quietwire::config::{Config, PeerSection};

/// Pieces that configurations are made of, and some that they must not be made of.
const PIECES: [&str; 48] = [
    "[Interface]\n",
    "[Peer]\n",
    "[ peer ]",
    "\n",
    "\r\n",
    "=",
    " = ",
    " ",
    "\t",
    ",",
    ", ",
    "#",
    ":",
    "/",
    "[",
    "]",
    ".",
    "-",
    "PrivateKey",
    "ListenPort",
    "FwMark",
    "Address",
    "DNS",
    "MTU",
    "Table",
    "PreUp",
    "PostDown",
    "SaveConfig",
    "PublicKey",
    "PresharedKey",
    "AllowedIPs",
    "Endpoint",
    "PersistentKeepalive",
    "Unknown",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "YAnz5TF+lXXJte14tji3zlMNftqL1M3a4mUDcF1FCW8=",
    "10.0.0.0/8",
    "192.0.2.1",
    "2001:db8::1",
    "::/0",
    "host.example:51820",
    "0",
    "65535",
    "65536",
    "0x1f",
    "off",
    "true",
    "é",
];

/// The bytes as a text or, after a zero, as a choice of pieces.
pub fn config(data: &[u8]) {
    match data.split_first() {
        Some((0, choices)) => {
            let piece = |choice: &u8| PIECES[usize::from(*choice) % PIECES.len()];
            read(&choices.iter().map(piece).collect::<String>());
        }
        _ => read(&String::from_utf8_lossy(data)),
    }
}

fn read(text: &str) {
    let config = match Config::parse(text) {
        Ok(config) => config,
        Err(error) => {
            let lines: Vec<_> = text.split('\n').collect();
            let line = lines[error.line() - 1];
            assert!(
                (1..=line.chars().count() + 1).contains(&error.column()),
                "{error}"
            );
            assert!(
                !error
                    .to_string()
                    .contains("YAnz5TF+lXXJte14tji3zlMNftqL1M3a4mUDcF1FCW8")
            );
            return;
        }
    };
    let written = config
        .to_text_with_secrets()
        .expect("what was read can be written");
    let again = Config::parse(written.as_str()).expect("what was written can be read");
    assert_same(&config, &again);
    assert_eq!(
        again.to_text_with_secrets().unwrap().as_str(),
        written.as_str()
    );
    assert!(config.unknown_keys().eq(again.unknown_keys()));
    // The same text may stand elsewhere, as a public key or a host name, and is shown there.
    let secret = config.interface.private_key.clone();
    if let Some(secret) = secret.map(|key| key.to_base64()) {
        let shown = |config: &Config| format!("{config:?}").matches(secret.as_str()).count();
        let mut keyless = config.clone();
        keyless.interface.private_key = None;
        assert_eq!(
            shown(&config),
            shown(&keyless),
            "Debug shows the private key"
        );
    }
}

fn assert_same(a: &Config, b: &Config) {
    let (i, j) = (&a.interface, &b.interface);
    assert_eq!(i.private_key.is_some(), j.private_key.is_some());
    for (i, j) in i.private_key.iter().zip(&j.private_key) {
        assert!(i.ct_eq(j));
    }
    assert_eq!(
        (i.listen_port, i.fwmark, &i.addresses),
        (j.listen_port, j.fwmark, &j.addresses)
    );
    assert_eq!(
        (&i.dns, i.mtu, &i.table, i.save_config),
        (&j.dns, j.mtu, &j.table, j.save_config)
    );
    assert_eq!((&i.pre_up, &i.post_up), (&j.pre_up, &j.post_up));
    assert_eq!(
        (&i.pre_down, &i.post_down, &i.extra),
        (&j.pre_down, &j.post_down, &j.extra)
    );
    assert_eq!(a.peers.len(), b.peers.len());
    for (p, q) in a.peers.iter().zip(&b.peers) {
        let parts = |peer: &PeerSection| {
            let psk = peer.preshared_key.as_ref().map(|psk| *psk.expose());
            let psk = psk.filter(|psk| *psk != [0; 32]);
            (peer.public_key, psk, peer.allowed_ips.clone())
        };
        assert_eq!(parts(p), parts(q));
        assert_eq!(
            (&p.endpoint, p.persistent_keepalive),
            (&q.endpoint, q.persistent_keepalive)
        );
        assert_eq!(p.extra, q.extra);
    }
    let keys: std::collections::BTreeSet<_> = a
        .peers
        .iter()
        .map(|peer| *peer.public_key.as_bytes())
        .collect();
    assert_eq!(
        keys.len(),
        a.peers.len(),
        "peers with the same key are merged"
    );
}
