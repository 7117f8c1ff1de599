//! The directory in etcd against a real cluster of three members, with faults.

mod etcd_lab;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use etcd_lab::{Cluster, Listener, only, open};
use quietwire_mesh::directory::etcd::EtcdOptions;
use quietwire_mesh::directory::{Directory, News};

/// Every number from the first on, whatever else was told.
fn assert_no_gap(log: &[News], name: &str) {
    let mut last: Option<u32> = None;
    for news in log {
        let (first, number) = match news {
            News::Everything(all) => {
                let found = all.iter().find(|(one, _)| one == name);
                (
                    true,
                    found.map(|(_, record)| record.parse::<u32>().unwrap()),
                )
            }
            News::Changed(one, record) if one == name => (false, Some(record.parse().unwrap())),
            _ => continue,
        };
        let Some(number) = number else { continue };
        let before = last
            .replace(number)
            .unwrap_or(if first { number } else { 0 });
        assert!(
            number == before || number == before + 1,
            "{name}: {number} after {before}"
        );
    }
}

#[test]
fn no_change_is_missed_between_reading_and_watching() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let nodes: Vec<(String, EtcdOptions)> = (0..3)
        .map(|number| format!("w{number}"))
        .map(|name| (name.clone(), cluster.node(&name)))
        .collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = nodes
            .iter()
            .map(|(name, options)| {
                scope.spawn(|| {
                    let mut directory = open(options);
                    for number in 1_u32.. {
                        directory.publish(name, &number.to_string()).unwrap();
                        if done.load(Ordering::Relaxed) {
                            return number.to_string();
                        }
                    }
                    unreachable!()
                })
            })
            .collect();
        let mut listeners: Vec<Listener> = (0..12)
            .map(|_| {
                thread::sleep(Duration::from_millis(37));
                Listener::new(&nodes[0].1)
            })
            .collect();
        thread::sleep(Duration::from_secs(1));
        done.store(true, Ordering::Relaxed);
        let last: Vec<String> = writers.into_iter().map(|one| one.join().unwrap()).collect();
        for listener in &mut listeners {
            for ((name, _), number) in nodes.iter().zip(&last) {
                listener.until_record(10, name, number);
                assert_no_gap(&listener.log, name);
            }
            assert_eq!(listener.told(), (1, 0));
        }
    });
}

#[test]
fn records_are_published_replaced_and_withdrawn() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let (a, b) = (cluster.node("a"), cluster.node("b.example-1"));
    let mut listener = Listener::new(&a);
    listener.until(10, |me| me.told() == (1, 0));
    let mut other = open(&b);
    other.publish("b.example-1", "one").unwrap();
    listener.until_record(5, "b.example-1", "one");
    other.publish("b.example-1", "two\nlines").unwrap();
    listener.until_record(5, "b.example-1", "two\nlines");
    listener.directory.publish("a", "mine").unwrap();
    listener.until_record(5, "a", "mine");
    other.withdraw("b.example-1").unwrap();
    listener.until_gone(5, "b.example-1");
    // Away already: no error.
    other.withdraw("b.example-1").unwrap();
    for name in ["", "a/b", "/"] {
        assert!(
            other
                .publish(name, "x")
                .unwrap_err()
                .0
                .contains("cannot be the name")
        );
    }
}

#[test]
fn one_member_after_another_restarts_unnoticed() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    let mut listener = Listener::new(&a);
    let mut writer = open(&b);
    let mut number = 0;
    for member in ["1", "2", "3"] {
        cluster.run(if member == "2" { "kill" } else { "stop" }, &[member]);
        for _ in 0..5 {
            number += 1;
            // While a new leader is elected there is an error now and then, and never a hang.
            let begin = Instant::now();
            while let Err(error) = writer.publish("b", &number.to_string()) {
                assert!(begin.elapsed() < Duration::from_secs(20), "{error}");
            }
        }
        cluster.run("start", &[member]);
        listener.until_record(20, "b", &number.to_string());
    }
    assert_no_gap(&listener.log, "b");
    assert_eq!(listener.told(), (1, 0), "{:?}", listener.log);
}

#[test]
fn an_outage_is_told_once_and_everything_after_it() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    let mut listener = Listener::new(&a);
    let mut writer = open(&b);
    writer.publish("b", "before").unwrap();
    listener.until_record(5, "b", "before");
    cluster.run0("stop");
    listener.until(15, |me| me.told().1 == 1);
    let begin = Instant::now();
    let error = writer.publish("b", "never").unwrap_err().0;
    assert!(
        begin.elapsed() < Duration::from_secs(7) && error.contains("refused"),
        "{error}"
    );
    listener.for_a_while(Duration::from_secs(4));
    assert_eq!(
        (listener.told(), listener.records["b"].as_str()),
        ((1, 1), "before")
    );
    cluster.run0("start");
    writer.publish("b", "after").unwrap();
    listener.until(20, |me| me.told().0 == 2);
    listener.until_record(5, "b", "after");
    // And again, as the next outage is another one.
    cluster.run0("kill");
    listener.until(15, |me| me.told() == (2, 2));
    cluster.run0("start");
    listener.until(20, |me| me.told() == (3, 2));
}

#[test]
fn what_changed_during_an_outage_is_told_although_etcd_forgot_the_changes() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let (a, b, c) = (cluster.node("a"), cluster.node("b"), cluster.node("c"));
    let (mut b, mut c) = (open(&only(&b, &[2, 3])), open(&only(&c, &[2, 3])));
    b.publish("b", "1").unwrap();
    let mut listener = Listener::new(&only(&a, &[1]));
    listener.until_record(5, "b", "1");
    listener.directory.publish("a", "mine").unwrap();
    cluster.run("stop", &["1"]);
    listener.until(15, |me| me.told() == (1, 1));
    let publish = |directory: &mut dyn Directory, name: &str, record: &str| {
        (0..5)
            .find_map(|_| directory.publish(name, record).ok())
            .unwrap();
    };
    publish(&mut c, "c", "new");
    b.withdraw("b").unwrap();
    cluster.run("ctl", &["del", "/quietwire/mesh/nodes/a"]);
    compact(&cluster, 2);
    cluster.run("start", &["1"]);
    listener.until(20, |me| me.told().0 == 2);
    listener.until_record(5, "c", "new");
    listener.until_gone(5, "b");
    // What we published last is put in place again.
    listener.until_record(5, "a", "mine");
}

#[test]
fn a_frozen_member_is_left_and_forgotten_changes_are_read() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    let mut writer = open(&only(&b, &[2, 3]));
    let mut listener = Listener::new(&only(&a, &[1, 2]));
    cluster.run("stop", &["2"]);
    writer.publish("b", "1").unwrap();
    listener.until_record(20, "b", "1");
    cluster.run("start", &["2"]);
    // From here on the listener is with the first.
    cluster.signal(1, "-STOP");
    let begin = Instant::now();
    while writer.publish("b", "2").is_err() {
        assert!(begin.elapsed() < Duration::from_secs(20));
    }
    writer.publish("b", "3").unwrap();
    writer.publish("b", "4").unwrap();
    compact(&cluster, 2);
    listener.until_record(30, "b", "4");
    assert_eq!(listener.told(), (2, 0), "{:?}", listener.log);
    cluster.signal(1, "-CONT");
}

/// Through a member that is in order.
fn compact(cluster: &Cluster, member: usize) {
    let members = std::fs::read_to_string(cluster.place.join("members")).unwrap();
    let address = members
        .lines()
        .nth(member - 1)
        .unwrap()
        .trim_start_matches('=');
    let endpoint = format!("--endpoints=https://{address}:2379");
    let status = cluster.run("ctl", &[&endpoint, "get", "x", "-w", "fields"]);
    let revision = status
        .lines()
        .find_map(|line| line.strip_prefix("\"Revision\" : "))
        .unwrap();
    cluster.run("ctl", &[&endpoint, "compaction", revision]);
}

#[test]
fn a_leased_record_lives_as_long_as_its_node() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    let mut listener = Listener::new(&b);
    let leased = EtcdOptions {
        ttl: Some(Duration::from_secs(5)),
        ..a
    };
    let mut node = open(&leased);
    node.publish("a", "1").unwrap();
    node.publish("a", "2").unwrap();
    listener.until_record(5, "a", "2");
    listener.for_a_while(Duration::from_secs(9));
    assert_eq!(listener.records["a"], "2");
    // A lease that etcd lost is replaced.
    let list = cluster.run("ctl", &["lease", "list"]);
    let lease = list.lines().last().unwrap().to_owned();
    cluster.run("ctl", &["lease", "revoke", &lease]);
    listener.until_gone(5, "a");
    listener.until_record(10, "a", "2");
    drop(node);
    let begin = Instant::now();
    listener.until_gone(20, "a");
    assert!(
        begin.elapsed() > Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn a_stolen_name_is_worth_nothing() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let (a, b, c) = (cluster.node("a"), cluster.node("b"), cluster.node("c"));
    open(&a).publish("a", "mine").unwrap();
    let forged = EtcdOptions {
        cert: cluster.place.join("f.pem"),
        key: cluster.place.join("f.key"),
        ..a.clone()
    };
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-noenc",
        ])
        .args(["-days", "9", "-subj", "/CN=a", "-keyout"])
        .arg(&forged.key)
        .arg("-out")
        .arg(&forged.cert)
        .output()
        .unwrap();
    assert!(made.status.success());
    refused(&forged, "a", "it does not accept our certificate");
    let removed = EtcdOptions {
        cert: cluster.place.join("c.pem"),
        key: cluster.place.join("c.key"),
        ..c.clone()
    };
    std::fs::copy(&c.cert, &removed.cert).unwrap();
    std::fs::copy(&c.key, &removed.key).unwrap();
    cluster.run("remove-node", &["c"]);
    refused(
        &removed,
        "c",
        "permission denied (the user in our certificate's common name may not",
    );
    let misled = EtcdOptions {
        ca: cluster.place.join("peer-ca.pem"),
        ..b.clone()
    };
    refused(&misled, "b", "its certificate is not from the authority");
    // A good certificate is good for its own name only.
    let mut other = Listener::new(&b);
    other.until_record(5, "a", "mine");
    for error in [
        other.directory.publish("a", "theirs"),
        other.directory.withdraw("a"),
    ] {
        assert!(error.unwrap_err().0.contains("permission denied"));
    }
    other.directory.publish("b", "own").unwrap();
    other.until_record(5, "b", "own");
    assert_eq!(other.records["a"], "mine");
}

fn refused(options: &EtcdOptions, name: &str, why: &str) {
    let said = open(options).publish(name, "x").unwrap_err().0;
    assert!(said.contains(why), "{said}");
    let mut listener = Listener::new(options);
    listener.until(15, |me| me.told().1 == 1);
    assert!(
        listener.why_away().unwrap().contains(why),
        "{:?}",
        listener.log
    );
}

#[test]
fn files_that_cannot_work_are_named_at_once() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    let text = cluster.place.join("members");
    let cases = [
        (
            EtcdOptions {
                ca: "/nonexistent".into(),
                ..a.clone()
            },
            "ca /nonexistent cannot be read",
        ),
        (
            EtcdOptions {
                cert: text.clone(),
                ..a.clone()
            },
            "is not in PEM form",
        ),
        (
            EtcdOptions {
                key: text,
                ..a.clone()
            },
            "is not in PEM form",
        ),
        (
            EtcdOptions {
                key: b.key,
                ..a.clone()
            },
            "cannot be used together",
        ),
        (
            EtcdOptions {
                cert: a.key.clone(),
                ..a.clone()
            },
            "cannot be used together",
        ),
    ];
    for (options, why) in cases {
        let said = open(&options).watch(channel().0).unwrap_err().0;
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn many_large_and_odd_records_are_told() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let a = cluster.node("a");
    let root = cluster.root(&a);
    thread::scope(|scope| {
        for first in (0..1000).step_by(125) {
            let root = &root;
            scope.spawn(move || {
                let mut directory = open(root);
                for number in first..first + 125 {
                    directory
                        .publish(&format!("n{number:04}"), &"r".repeat(900))
                        .unwrap();
                }
            });
        }
    });
    // More than fits into an answer.
    let large = "x".repeat(1_400_000);
    let mut directory = open(&root);
    (0..5).for_each(|number| {
        directory
            .publish(&format!("large{number}"), &large)
            .unwrap();
    });
    let binary = OsStr::from_bytes(b"\xff\xfe");
    let key = OsStr::new("/quietwire/mesh/nodes/binary");
    cluster.run("ctl", &[OsStr::new("put"), key, binary]);
    let begin = Instant::now();
    let mut listener = Listener::new(&a);
    listener.until(10, |me| me.records.len() == 1006);
    println!("1006 records, 7.9 MB: told after {:?}", begin.elapsed());
    assert_eq!(listener.told(), (1, 0));
    assert_eq!(listener.records["binary"], "\u{fffd}\u{fffd}");
    assert_eq!(listener.records["large4"], large);
    cluster.run(
        "ctl",
        &[OsStr::new("put"), key, OsStr::from_bytes(b"{\xc3")],
    );
    listener.until_record(5, "binary", "{\u{fffd}");
    cluster.run("ctl", &["put", "/quietwire/mesh/nodes/a/b", "{]"]);
    listener.until_record(5, "a/b", "{]");
    cluster.run("ctl", &["del", "--prefix", "/quietwire/mesh/nodes/n"]);
    listener.until(10, |me| me.records.len() == 7);
}

#[test]
#[ignore = "a measurement"]
fn measure_news_and_idleness() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    let mut listener = Listener::new(&a);
    let mut writer = open(&b);
    writer.publish("b", "warm").unwrap();
    listener.until_record(5, "b", "warm");
    let mut times: Vec<Duration> = (0..200)
        .map(|number| {
            let begin = Instant::now();
            writer.publish("b", &number.to_string()).unwrap();
            listener.until_record(5, "b", &number.to_string());
            begin.elapsed()
        })
        .collect();
    times.sort();
    println!(
        "publish to news: p50 {:?}, p99 {:?}, worst {:?}",
        times[100], times[198], times[199]
    );
    let begin = cpu();
    listener.for_a_while(Duration::from_secs(60));
    println!(
        "two directories idle for 60 s: {} ms of processor time",
        cpu() - begin
    );
    cluster.run0("stop");
    let begin = cpu();
    listener.for_a_while(Duration::from_secs(60));
    println!("etcd away for 60 s: {} ms of processor time", cpu() - begin);
}

/// Milliseconds that this process has used, in steps of ten.
fn cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10
}
