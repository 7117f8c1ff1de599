use std::slice::from_ref;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

fn key(seed: u8) -> PublicKey {
    PublicKey::from_bytes([seed.max(1); 32])
}

fn record(name: &str, number: u8) -> Record {
    Record {
        name: name.into(),
        generation: 1,
        key: key(number),
        since: 1000,
        endpoints: vec![format!("192.0.2.{number}:51820").parse().unwrap()],
        addresses: vec![format!("10.88.0.{number}").parse().unwrap()],
        subnets: vec![format!("10.244.{number}.0/24").parse().unwrap()],
        version: String::new(),
        next: None,
    }
}

fn own() -> Own {
    let ours = record("own", 1);
    Own {
        name: "own".into(),
        generation: 5,
        keys: vec![ours.key],
        claims: ours.claims().collect(),
        networks: vec![
            "10.88.0.0/16".parse().unwrap(),
            "10.244.0.0/16".parse().unwrap(),
        ],
    }
}

fn texts(records: &[Record]) -> BTreeMap<String, String> {
    records
        .iter()
        .map(|record| (record.name.clone(), record.to_json()))
        .collect()
}

fn known(records: &[Record]) -> Known {
    records
        .iter()
        .map(|record| (record.name.clone(), record.clone()))
        .collect()
}

/// What becomes of one record beside what is known.
fn verdict(before: &[Record], record: &Record) -> Result<(), Reason> {
    let before = known(before);
    let mut all: BTreeMap<_, _> = before
        .iter()
        .map(|(name, record)| (name.clone(), record.to_json()))
        .collect();
    all.insert(record.name.clone(), record.to_json());
    let plan = plan(&own(), &all, &before);
    match plan
        .refusals
        .into_iter()
        .find(|refusal| refusal.name == record.name)
    {
        None => {
            assert_eq!(plan.known.get(&record.name), Some(record));
            Ok(())
        }
        Some(refusal) => {
            assert_eq!(
                plan.known.get(&record.name),
                before.get(&record.name),
                "the last good one stays"
            );
            assert_eq!(refusal.keeps_last, before.contains_key(&record.name));
            Err(refusal.reason)
        }
    }
}

fn with(number: u8, change: impl FnOnce(&mut Record)) -> Record {
    let mut made = record(&format!("n{number}"), number);
    change(&mut made);
    made
}

#[test]
fn good_records_become_peers() {
    let records = [record("b", 2), record("c", 3)];
    let made = plan(&own(), &texts(&records), &Known::new());
    assert_eq!((made.known.len(), made.refusals.len()), (2, 0));
    let made = peers(&made.known, &[]);
    assert_eq!(made[0].allowed.len(), 2);
    assert_eq!(made[1].endpoint, Some("192.0.2.3:51820".parse().unwrap()));
}

#[test]
fn an_endpoint_of_a_family_that_we_have_is_taken_first() {
    let v6: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
    let both = with(2, |record| record.endpoints.push(v6));
    let all = known(&[both]);
    assert_eq!(peers(&all, &[v6])[0].endpoint, Some(v6));
    assert_ne!(peers(&all, &[])[0].endpoint, Some(v6));
}

#[test]
fn what_others_or_we_have_is_refused() {
    let b = record("b", 2);
    let taken = |change: fn(&mut Record)| match verdict(&[record("b", 2)], &with(7, change)) {
        Err(Reason::Taken { owner, .. }) => owner,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        taken(|record| record.addresses = vec!["10.88.0.2".parse().unwrap()]),
        "b"
    );
    assert_eq!(
        taken(|record| record.subnets = vec!["10.244.2.128/25".parse().unwrap()]),
        "b"
    );
    assert_eq!(
        taken(|record| record.subnets = vec!["10.244.2.0/23".parse().unwrap()]),
        "b"
    );
    assert_eq!(
        taken(|record| record.subnets = vec!["10.88.0.2/32".parse().unwrap()]),
        "b"
    );
    assert_eq!(
        taken(|record| record.addresses = vec!["10.244.2.9".parse().unwrap()]),
        "b"
    );
    assert_eq!(
        taken(|record| record.addresses = vec!["10.88.0.1".parse().unwrap()]),
        "own"
    );
    assert_eq!(
        taken(|record| record.subnets = vec!["10.88.0.0/24".parse().unwrap()]),
        "own"
    );
    let same_key = with(7, |record| record.key = key(2));
    assert_eq!(
        verdict(&[b], &same_key),
        Err(Reason::KeyTaken { owner: "b".into() })
    );
    let our_key = with(7, |record| record.key = key(1));
    assert_eq!(
        verdict(&[], &our_key),
        Err(Reason::KeyTaken {
            owner: "own".into()
        })
    );
}

#[test]
fn a_key_announced_by_one_is_not_another_s() {
    let next = NextKey {
        generation: 2,
        key: key(99),
        switch_at: 0,
    };
    let b = Record {
        next: Some(next),
        ..record("b", 2)
    };
    let thief = with(7, |record| record.key = key(99));
    assert_eq!(
        verdict(&[b], &thief),
        Err(Reason::KeyTaken { owner: "b".into() })
    );
}

#[test]
fn what_is_wrong_by_itself_is_refused() {
    let outside = with(7, |record| {
        record.subnets = vec!["10.0.0.0/8".parse().unwrap()];
    });
    assert_eq!(
        verdict(&[], &outside),
        Err(Reason::OutsideNetworks("10.0.0.0/8".parse().unwrap()))
    );
    let inside = with(7, |record| {
        record.endpoints = vec!["10.88.9.9:1".parse().unwrap()];
    });
    assert!(matches!(
        verdict(&[], &inside),
        Err(Reason::EndpointInside(_))
    ));
    let mut all = texts(&[record("b", 2)]);
    all.insert("c".into(), record("b", 2).to_json());
    all.insert("d".into(), "{".into());
    let made = plan(&own(), &all, &Known::new());
    let reasons: Vec<_> = made
        .refusals
        .iter()
        .map(|refusal| &refusal.reason)
        .collect();
    assert_eq!(reasons[0], &Reason::NameMismatch("b".into()));
    assert!(matches!(reasons[1], Reason::Malformed(_)));
}

#[test]
fn a_key_changes_with_a_newer_generation_only() {
    let before = record("n7", 7);
    let changed = |generation, seed| {
        with(7, |record| {
            (record.generation, record.key) = (generation, key(seed));
        })
    };
    assert_eq!(verdict(from_ref(&before), &changed(2, 99)), Ok(()));
    assert_eq!(verdict(from_ref(&before), &changed(9, 99)), Ok(()));
    assert_eq!(
        verdict(from_ref(&before), &changed(1, 99)),
        Err(Reason::KeyChanged { generation: 1 })
    );
    assert!(matches!(
        verdict(from_ref(&before), &changed(2, 7)),
        Err(Reason::BadNext(_))
    ));
    let third = changed(3, 99);
    assert_eq!(
        verdict(&[third], &changed(2, 98)),
        Err(Reason::GenerationBack { known: 3, found: 2 })
    );
    let announced = |generation, seed| {
        with(7, |record| {
            record.next = Some(NextKey {
                generation,
                key: key(seed),
                switch_at: 5,
            });
        })
    };
    assert_eq!(verdict(from_ref(&before), &announced(2, 99)), Ok(()));
    for bad in [announced(1, 99), announced(3, 99), announced(2, 7)] {
        assert!(
            matches!(verdict(from_ref(&before), &bad), Err(Reason::BadNext(_))),
            "{bad:?}"
        );
    }
    // What was announced is what comes, and nothing else with its number.
    assert_eq!(verdict(&[announced(2, 99)], &changed(2, 99)), Ok(()));
    assert_eq!(
        verdict(&[announced(2, 99)], &changed(2, 98)),
        Err(Reason::KeyChanged { generation: 2 })
    );
    assert_eq!(
        verdict(&[announced(2, 99)], &announced(2, 98)),
        Err(Reason::KeyChanged { generation: 2 })
    );
    assert_eq!(verdict(&[announced(2, 99)], &changed(3, 98)), Ok(()));
}

#[test]
fn our_own_name_in_use_by_another_is_told() {
    let mut stranger = record("own", 9);
    let reason = |record: &Record| {
        let made = plan(&own(), &texts(from_ref(record)), &Known::new());
        assert!(made.known.is_empty());
        made.refusals.first().map(|refusal| refusal.reason.clone())
    };
    assert_eq!(reason(&stranger), None, "an older record of ours");
    stranger.generation = 5;
    assert_eq!(reason(&stranger), Some(Reason::OurName));
    stranger.key = key(1);
    assert_eq!(reason(&stranger), None);
}

#[test]
fn who_was_first_keeps_and_strangers_are_decided_by_age_and_name() {
    let claim = |name: &str, seed, since| Record {
        since,
        key: key(seed),
        ..record(name, 7)
    };
    let (a, b) = (claim("a", 20, 1000), claim("b", 21, 1000));
    let both = texts(&[a.clone(), b.clone()]);
    let made = plan(&own(), &both, &Known::new());
    assert!(made.known.contains_key("a") && made.refusals[0].name == "b");
    let made = plan(&own(), &both, &known(from_ref(&b)));
    assert!(made.known.contains_key("b") && made.refusals[0].name == "a");
    let older = claim("b", 21, 999);
    let made = plan(&own(), &texts(&[a, older]), &Known::new());
    assert!(made.known.contains_key("b") && made.refusals[0].name == "a");
}

#[test]
fn a_claim_is_free_once_its_node_has_gone_or_moved() {
    let (b, mut c) = (record("b", 2), record("c", 3));
    c.addresses.clone_from(&b.addresses);
    assert!(verdict(from_ref(&b), &c).is_err());
    let made = plan(&own(), &texts(from_ref(&c)), &known(from_ref(&b)));
    assert_eq!(made.known, known(from_ref(&c)));
    let mut moved = b.clone();
    moved.addresses = vec!["10.88.0.9".parse().unwrap()];
    // In one step, and whichever of the two is looked at first.
    for known in [known(from_ref(&b)), known(&[b, record("c", 3)])] {
        let made = plan(&own(), &texts(&[moved.clone(), c.clone()]), &known);
        assert_eq!((made.known.len(), made.refusals), (2, vec![]));
    }
}

fn some_record() -> impl Strategy<Value = Record> {
    let cidr = (0_u8..4, 22_u8..=28)
        .prop_map(|(third, len)| Cidr::new(IpAddr::from([10, 244, third, 0]), len).unwrap());
    let next = proptest::option::of((1_u64..5, 1_u8..12));
    let address = (1_u8..8).prop_map(|last| IpAddr::from([10, 88, 0, last]));
    let parts = (
        0_usize..5,
        1_u64..4,
        1_u8..12,
        0_u64..3,
        vec(address, 1..3),
        vec(cidr, 0..3),
        next,
    );
    parts.prop_map(
        |(name, generation, seed, since, addresses, subnets, next)| Record {
            name: ["a", "b", "c", "d", "own"][name].into(),
            generation,
            key: key(seed),
            since,
            endpoints: vec![],
            addresses,
            subnets,
            version: String::new(),
            next: next.map(|(generation, seed)| NextKey {
                generation,
                key: key(seed),
                switch_at: 0,
            }),
        },
    )
}

fn some_texts() -> impl Strategy<Value = BTreeMap<String, String>> {
    let text = prop_oneof![
        9 => some_record().prop_map(|record| record.to_json()),
        1 => Just("garbage".to_owned()),
    ];
    btree_map("[a-d]|own", text, 0..6).prop_map(|mut texts| {
        // Mostly under their own names.
        let named: Vec<_> = texts
            .values()
            .filter_map(|text| Record::parse(text).ok())
            .collect();
        texts.extend(
            named
                .into_iter()
                .map(|record| (record.name.clone(), record.to_json())),
        );
        texts
    })
}

/// Overlap by the addresses themselves, which is how the interface will see it.
fn share_an_address(one: Cidr, other: Cidr) -> bool {
    one.contains(other.address()) || other.contains(one.address())
}

/// What must hold of everything that is believed.
fn check_sound(made: &Plan, own: &Own) {
    let ours = (own.claims.clone(), own.keys.clone());
    let theirs = made
        .known
        .values()
        .map(|record| (record.claims().collect(), keys(record).collect()));
    let all: Vec<(Vec<Cidr>, Vec<PublicKey>)> = [ours].into_iter().chain(theirs).collect();
    for (i, (claims, keys)) in all.iter().enumerate() {
        for (other_claims, other_keys) in &all[..i] {
            assert!(!claims.iter().any(|one| {
                other_claims
                    .iter()
                    .any(|other| share_an_address(*one, *other))
            }));
            assert!(!keys.iter().any(|key| other_keys.contains(key)));
        }
    }
    for (name, record) in &made.known {
        assert_eq!(name, &record.name);
        assert_ne!(name, &own.name);
        assert!(
            record
                .claims()
                .all(|claim| own.networks.iter().any(|net| net.contains(claim.address())))
        );
    }
}

proptest! {
    #[test]
    fn whatever_the_directory_says_what_is_believed_is_sound(steps in vec(some_texts(), 1..6)) {
        let own = own();
        let mut before = Known::new();
        for texts in steps {
            let made = plan(&own, &texts, &before);
            check_sound(&made, &own);
            // Nobody is forgotten: each text is believed, or refused, or our own.
            for (name, text) in &texts {
                let is_believed = made.known.get(name).is_some_and(|record| record.to_json() == *text
                    || Record::parse(text).is_ok_and(|parsed| parsed == *record));
                let is_refused = made.refusals.iter().any(|refusal| refusal.name == *name);
                prop_assert!(is_believed != is_refused || *name == own.name);
            }
            // A node that is still there is never lost by a bad record, its own or another's.
            for (name, record) in before.iter().filter(|(name, _)| texts.contains_key(*name)) {
                let now = made.known.get(name);
                prop_assert!(now.is_some());
                let now = now.unwrap();
                prop_assert!(now.generation >= record.generation);
                prop_assert!(now.generation > record.generation || now.key == record.key);
            }
            // Deciding again changes nothing.
            prop_assert_eq!(&plan(&own, &texts, &made.known), &made);
            before = made.known;
        }
    }

    #[test]
    fn a_refused_record_changes_nothing_for_the_others(texts in some_texts()) {
        let own = own();
        let whole = plan(&own, &texts, &Known::new());
        let believed = texts.into_iter().filter(|(name, _)| whole.known.contains_key(name)).collect();
        let only = plan(&own, &believed, &Known::new());
        prop_assert_eq!(only.known, whole.known);
        prop_assert!(only.refusals.is_empty());
    }
}

/// A mesh of many nodes, and what one change costs: `cargo test --release --lib many -- --nocapture`.
#[test]
fn one_change_among_many_nodes() {
    for count in [200_u16, 1000, 5000] {
        let mut ours = own();
        ours.networks = vec!["10.0.0.0/8".parse().unwrap()];
        let node = |number: u16| {
            let [high, low] = number.to_be_bytes();
            let mut bytes = [7; 32];
            bytes[..2].copy_from_slice(&[high, low]);
            Record {
                name: format!("node-{number}"),
                key: PublicKey::from_bytes(bytes),
                addresses: vec![format!("10.100.{high}.{low}").parse().unwrap()],
                subnets: vec![format!("10.{}.{low}.0/24", 101 + high).parse().unwrap()],
                ..record("", 2)
            }
        };
        let mut records: Vec<_> = (0..count).map(node).collect();
        let before = known(&records);
        records[0].endpoints = vec!["192.0.2.200:51820".parse().unwrap()];
        let texts = texts(&records);
        let measure = || {
            let start = std::time::Instant::now();
            let plan = plan(&ours, &texts, &before);
            let took = start.elapsed();
            assert_eq!((plan.refusals.len(), &plan.known), (0, &known(&records)));
            took
        };
        let best = (0..7).map(|_| measure()).min();
        println!(
            "{count} nodes: {best:?} for a plan, {} bytes a record",
            texts["node-7"].len()
        );
    }
}
