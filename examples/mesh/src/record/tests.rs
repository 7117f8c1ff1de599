use proptest::prelude::*;

use super::*;

const GOOD: &str = r#"{"name":"node-1","generation":3,"key":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "since":1700000000,"endpoints":["192.0.2.1:51820","[2001:db8::1]:51820"],"addresses":["10.88.0.1"],
    "subnets":["10.244.1.0/24"],"version":"0.1.0","more":{"a":1},
    "next":{"generation":4,"key":"AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","switch_at":1800000000}}"#;

fn edited(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    Record::parse(&GOOD.replacen(from, to, 1))
        .unwrap_err()
        .to_string()
}

#[test]
fn a_record_is_read_as_it_is_written_and_unknown_fields_are_ignored() {
    let record = Record::parse(GOOD).unwrap();
    assert_eq!(record.endpoints[1].port(), 51820);
    assert_eq!(record.next.unwrap().generation, 4);
    let claims: Vec<_> = record.claims().map(|cidr| cidr.to_string()).collect();
    assert_eq!(claims, ["10.88.0.1/32", "10.244.1.0/24"]);
    assert_eq!(Record::parse(&record.to_json()).unwrap(), record);
}

#[test]
fn errors_name_the_field() {
    for (from, to, said) in [
        ("\"node-1\"", "\"Node 1\"", "`name`"),
        ("\"node-1\"", "\"../up\"", "`name`"),
        ("\"node-1\"", "\"\"", "`name`"),
        ("\"generation\":3", "\"generation\":0", "`generation`"),
        (
            "\"generation\":3",
            "\"generation\":18446744073709551615",
            "`generation`",
        ),
        ("\"generation\":3,", "", "`generation`"),
        ("\"AQ", "\"?Q", "`key`"),
        ("\"AQ", "\"AA", "`key`"),
        ("\"key\"", "\"kee\"", "`key`"),
        ("\"AgA", "\"Ag", "`next.key`"),
        ("192.0.2.1:51820", "192.0.2.1:0", "`endpoints`"),
        ("192.0.2.1:51820", "192.0.2.1", "`endpoints`"),
        ("192.0.2.1:51820", "0.0.0.0:1", "`endpoints`"),
        ("192.0.2.1:51820", "a.example:1", "`endpoints`"),
        ("10.88.0.1", "10.88.0.1/24", "`addresses`"),
        ("10.88.0.1", "224.0.0.1", "`addresses`"),
        ("\"10.88.0.1\"", "", "`addresses`"),
        ("10.244.1.0/24", "10.244.1.1/24", "10.244.1.0/24 is meant"),
        ("10.244.1.0/24", "0.0.0.0/0", "`subnets`"),
        ("10.244.1.0/24", "10.244.1.0/33", "`subnets`"),
        ("\"0.1.0\"", "\"\\u001b[31m\"", "`version`"),
        ("{\"name\"", "[\"name\"", "expected"),
    ] {
        let error = edited(from, to);
        assert!(error.contains(said), "{from} -> {to}: {error}");
    }
}

#[test]
fn sizes_and_counts_are_bounded() {
    let many = |one: &str, count| vec![format!("\"{one}\""); count].join(",");
    let with = |field: &str, one: &str, count| {
        let text = GOOD.replacen(&format!("\"{one}\""), &many(one, count), 1);
        Record::parse(&text).map_err(|error| (field.to_owned(), error.to_string()))
    };
    assert!(with("addresses", "10.88.0.1", MAX_ADDRESSES).is_ok());
    for (field, one, most) in [
        ("endpoints", "192.0.2.1:51820", MAX_ENDPOINTS),
        ("addresses", "10.88.0.1", MAX_ADDRESSES),
        ("subnets", "10.244.1.0/24", MAX_SUBNETS),
    ] {
        let (field, error) = with(field, one, most + 1).unwrap_err();
        assert!(error.contains(&field), "{error}");
    }
    let long = format!("{GOOD}{}", " ".repeat(MAX_BYTES));
    assert!(matches!(
        Record::parse(&long),
        Err(RecordError::TooLong { .. })
    ));
    assert!(check_name(&"a".repeat(63)).is_ok() && check_name(&"a".repeat(64)).is_err());
}

proptest! {
    #[test]
    fn any_text_is_refused_or_read_back_the_same(text in ".{0,200}", cut in 0..GOOD.len(), put in any::<char>()) {
        let mut edited = GOOD.to_owned();
        edited.replace_range(cut..=cut, &put.to_string());
        for text in [text, edited] {
            if let Ok(record) = Record::parse(&text) {
                prop_assert_eq!(Record::parse(&record.to_json()).unwrap(), record);
            }
        }
    }
}
