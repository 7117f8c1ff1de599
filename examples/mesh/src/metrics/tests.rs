use std::collections::BTreeSet;

use super::*;

fn status() -> Status {
    let peer = |name: &str| PeerStatus {
        name: name.into(),
        generation: 3,
        is_up: true,
        handshake_age: Some(1.5),
        rx_bytes: 7,
        ..PeerStatus::default()
    };
    Status {
        name: "a".into(),
        peers: vec![peer("b"), peer("c\"\\\n")],
        dropped: vec![("no route".into(), 2)],
        ..Status::default()
    }
}

/// The rules of the text format and of naming, as its documentation gives them.
#[test]
fn every_line_follows_the_format() {
    let text = render(&status());
    let (mut helped, mut typed) = (BTreeSet::new(), BTreeSet::new());
    let mut current = String::new();
    for line in text.lines() {
        let words: Vec<_> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, _] => {
                assert!(helped.insert(name.to_owned()), "{name} has two HELP lines");
                current = name.to_owned();
            }
            ["#", "TYPE", name, kind] => {
                assert!(typed.insert(name.to_owned()) && name == current);
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            }
            _ => {
                let name = line.split(['{', ' ']).next().unwrap();
                assert_eq!(name, current, "samples of one metric stand together");
                assert!(
                    name.bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                    "{name}"
                );
                let value: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
                assert!(value.is_finite());
            }
        }
    }
    assert_eq!(helped, typed);
    assert!(
        text.contains("quietwire_mesh_peer_receive_bytes_total{peer=\"c\\\"\\\\\\n\"} 7\n"),
        "{text}"
    );
    assert!(
        text.contains("quietwire_mesh_packets_dropped_total{reason=\"no route\"} 2\n"),
        "{text}"
    );
}

#[test]
fn the_server_answers_and_refuses() {
    let probe = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = probe.local_addr().unwrap();
    drop(probe);
    serve(at, || Some(status())).unwrap();
    let ask = |request: &str| {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let good = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let (head, body) = good.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200")
            && head.contains(&format!("Content-Length: {}", body.len()))
    );
    assert_eq!(body, render(&status()));
    assert!(ask("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    assert!(ask("POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
    assert!(ask("\r\n").starts_with("HTTP/1.1 405"));
}
