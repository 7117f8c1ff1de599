use proptest::prelude::*;

use super::*;

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_bytes([seed; 32])
}

#[test]
fn a_key_follows_another_with_the_next_generation() {
    let first = Identity::first(key(1), 1, 100);
    assert_eq!(first.due(100, 60, true), Due::Nothing);
    let announced = first.announce(key(2), 100, 60).unwrap();
    assert!(announced.announce(key(3), 100, 60).is_none());
    let next = announced.announcement().unwrap();
    assert_eq!(
        (next.generation, next.key, next.switch_at),
        (2, key(2).public_key(), 160)
    );
    assert_eq!(
        announced.public_keys(),
        [key(1).public_key(), key(2).public_key()]
    );
    assert_eq!(announced.due(130, 60, true), Due::Wait(30));
    assert_eq!(announced.due(160, 60, true), Due::Switch);
    assert_eq!(announced.due(160, 60, false), Due::Postpone);
    let second = announced.switch(160).unwrap();
    assert_eq!(
        (second.generation, second.since, second.used_since),
        (2, 100, 160)
    );
    assert!(second.key.ct_eq(&key(2)) && second.next.is_none() && second.switch(170).is_none());
}

#[test]
fn a_clock_that_is_set_delays_by_no_more_than_the_lead() {
    let day = 86_400;
    let announced = Identity::first(key(1), 1, 10 * day)
        .announce(key(2), 10 * day, 60)
        .unwrap();
    // A day ahead: at once. A day back: with a new time, not in a day.
    assert_eq!(announced.due(11 * day, 60, true), Due::Switch);
    assert_eq!(announced.due(9 * day, 60, true), Due::Postpone);
    assert_eq!(
        announced.postpone(9 * day, 60).due(9 * day, 60, true),
        Due::Wait(60)
    );
}

#[test]
fn a_new_key_at_once_has_a_generation_that_no_announced_key_had() {
    let first = Identity::first(key(1), 4, 0);
    assert_eq!(first.reprovision(key(3), 9).generation, 5);
    let announced = first.announce(key(2), 0, 60).unwrap();
    let again = announced.reprovision(key(3), 9);
    assert_eq!((again.generation, again.next.is_none()), (6, true));
}

#[test]
fn a_restart_at_any_point_goes_on_from_there() {
    let first = Identity::first(key(1), 7, 5);
    let announced = first.announce(key(2), 100, 60).unwrap();
    let switched = announced.switch(160).unwrap();
    for identity in [first, announced, switched] {
        let read = Identity::parse(&identity.to_json()).unwrap();
        assert_eq!(read.public_keys(), identity.public_keys());
        assert_eq!(read.to_json(), identity.to_json());
    }
}

#[test]
fn no_error_and_no_debug_text_shows_a_key() {
    let identity = Identity::first(key(1), 1, 0)
        .announce(key(2), 0, 1)
        .unwrap();
    let secret = [key(1), key(2)].map(|key| key.to_base64().to_string());
    let shown = format!("{identity:?}");
    assert!(!secret.iter().any(|text| shown.contains(text.as_str())));
    let text = identity.to_json();
    for cut in 0..text.len() {
        let error = Identity::parse(&text[..cut]).unwrap_err();
        assert!(
            !secret.iter().any(|text| error.contains(&text[..20])),
            "{error}"
        );
    }
}

proptest! {
    /// Whatever is done in whatever order, no two keys have one generation, and it only grows.
    #[test]
    fn one_generation_is_one_key(steps in proptest::collection::vec((0..4, 0..200_u64), 0..40)) {
        let mut identity = Identity::first(key(1), 1, 0);
        let (mut seed, mut now) = (1_u8, 0_u64);
        let mut seen = std::collections::BTreeMap::new();
        for (what, passed) in steps {
            now += passed;
            let generation = identity.generation;
            let after = match what {
                0 => { seed += 1; identity.announce(key(seed), now, 60) }
                1 => identity.switch(now),
                2 => { seed += 1; Some(identity.reprovision(key(seed), now)) }
                _ => Some(identity.postpone(now, 60)),
            };
            identity = after.unwrap_or(identity);
            prop_assert!(identity.generation >= generation);
            let next = identity.announcement().map(|next| (next.generation, next.key));
            for (generation, key) in [(identity.generation, identity.key.public_key())].into_iter().chain(next) {
                prop_assert_eq!(*seen.entry(generation).or_insert(key), key);
            }
        }
    }
}

#[test]
fn a_key_from_the_future_is_as_old_as_it_is_long_known() {
    let first = Identity::first(key(1), 1, 100_000);
    assert!(first.counted_from(100_000).is_none());
    assert!(first.counted_from(100_000 - 60).is_none());
    let counted = first.counted_from(5000).unwrap();
    assert_eq!((counted.used_since, counted.since), (5000, 100_000));
    assert_eq!(counted.generation, 1);
    assert!(counted.counted_from(5000).is_none());
}
