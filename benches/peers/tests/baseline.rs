//! The reading and writing of measured figures, shared with the benches of quietwire.

#![allow(missing_docs, reason = "a test")]

#[path = "../../support/baseline.rs"]
#[allow(dead_code, reason = "the benches use the rest")]
mod baseline;

use baseline::Baseline;

const FILE: &str = "
# A comment.

[one processor, family 1]
avx2 seal 64 batch      4.000
avx2 open 64 batch     12.5

[another]
neon seal 64 batch      2.000
";

#[test]
fn a_figure_has_a_name_a_value_and_circumstances() {
    let baseline = Baseline::parse(FILE).unwrap();
    let figure = baseline.get("avx2 open 64 batch").unwrap();
    assert_eq!(figure.value.to_bits(), 12.5_f64.to_bits());
    assert_eq!(figure.made_on, "one processor, family 1");
    assert_eq!(
        baseline.get("neon seal 64 batch").unwrap().made_on,
        "another"
    );
    assert_eq!(baseline.get("neon"), None);
    assert_eq!(baseline.figures().len(), 3);
}

#[test]
fn what_is_written_can_be_read_again() {
    let baseline = Baseline::parse(FILE).unwrap();
    assert_eq!(Baseline::parse(&baseline.to_string()), Ok(baseline));
}

#[test]
fn a_bad_line_is_named() {
    for bad in [
        "[one", "name", "name x", "name -1", "name 0", "name nan", "1.5",
    ] {
        let error = Baseline::parse(&format!("\nfine 1\n{bad}\n")).unwrap_err();
        assert!(error.starts_with("line 3: "), "{bad}: {error}");
    }
}

#[test]
fn an_update_replaces_what_was_measured_and_keeps_the_rest() {
    let mut baseline = Baseline::parse(FILE).unwrap();
    baseline.update(
        "a third",
        [("avx2 seal 64 batch", 5.0), ("portable", 1.0)]
            .map(|(name, value)| (name.to_owned(), value)),
    );
    let value = |name: &str| baseline.get(name).map(|figure| figure.value.to_bits());
    assert_eq!(value("avx2 seal 64 batch"), Some(5.0_f64.to_bits()));
    assert_eq!(value("avx2 open 64 batch"), Some(12.5_f64.to_bits()));
    assert_eq!(value("portable"), Some(1.0_f64.to_bits()));
    assert_eq!(baseline.get("portable").unwrap().made_on, "a third");
    assert_eq!(
        baseline.get("neon seal 64 batch").unwrap().made_on,
        "another"
    );
    assert_eq!(baseline.figures().len(), 4);
}

#[test]
fn what_is_stale_is_forgotten() {
    let mut baseline = Baseline::parse(FILE).unwrap();
    baseline.forget(|name| name.starts_with("avx2 "));
    let names = baseline.figures().iter().map(|figure| figure.name.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["neon seal 64 batch"]);
}

#[test]
fn a_change_is_a_part_of_what_was_before() {
    let baseline = Baseline::parse(FILE).unwrap();
    let change = |now| baseline.get("avx2 seal 64 batch").unwrap().change(now);
    let changes = [3.0, 4.0, 6.0].map(|now| change(now).to_bits());
    assert_eq!(changes, [-0.25, 0.0, 0.5].map(f64::to_bits));
}
