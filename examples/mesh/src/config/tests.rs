use std::io::Write;

use super::*;

fn settings(pairs: &[(&str, &str)]) -> Settings {
    let mut made = Settings {
        name: Some("a".into()),
        address: vec!["10.88.0.1/24".into()],
        directory: Some("folder:/tmp/x".into()),
        ..Settings::default()
    };
    for (field, value) in pairs {
        match *field {
            "name" => made.name = Some((*value).into()),
            "address" => made.address = vec![(*value).into()],
            "network" => made.network.push((*value).into()),
            "subnet" => made.subnet.push((*value).into()),
            "endpoint" => made.endpoint.push((*value).into()),
            "metrics" => made.metrics = Some((*value).into()),
            "probe" => made.probe = Some((*value).into()),
            _ => panic!("{field}"),
        }
    }
    made
}

#[test]
fn defaults_follow_from_the_little_that_is_given() {
    let config = settings(&[("endpoint", "192.0.2.1"), ("endpoint", "[2001:db8::1]:7")]);
    let config = config.resolve(None).unwrap();
    assert_eq!(config.networks, ["10.88.0.0/24".parse().unwrap()]);
    assert_eq!(config.endpoints[0], "192.0.2.1:51820".parse().unwrap());
    assert_eq!(config.endpoints[1].port(), 7);
    assert_eq!((config.keepalive, config.interface.as_str()), (25, "qw0"));
}

#[test]
fn errors_name_the_option() {
    for (field, value, said) in [
        ("name", "A b", "--name \"A b\": a name has"),
        (
            "address",
            "10.88.0.1",
            "--address \"10.88.0.1\": it needs the length",
        ),
        ("address", "10.88.0.1/33", "--address"),
        ("network", "10.88.0.1/24", "10.88.0.0/24 is meant"),
        (
            "network",
            "10.99.0.0/16",
            "--address \"10.88.0.1\": it is in none",
        ),
        (
            "subnet",
            "10.244.1.0/24",
            "--subnet \"10.244.1.0/24\": it is in none",
        ),
        (
            "endpoint",
            "10.88.0.9",
            "--endpoint \"10.88.0.9:51820\": it is in one",
        ),
        ("endpoint", "example", "--endpoint \"example\""),
        ("metrics", "9586", "--metrics \"9586\""),
        ("probe", "10", "--probe \"10\": a time is"),
        ("probe", "0s", "more than nothing"),
        ("probe", "99999999999d", "a time is"),
    ] {
        let error = settings(&[(field, value)])
            .resolve(None)
            .unwrap_err()
            .to_string();
        assert!(error.contains(said), "{field} {value}: {error}");
    }
}

fn from_file(text: &str) -> Result<Config, String> {
    let path = std::env::temp_dir().join(format!(
        "qw-mesh-{}-{:x}.toml",
        std::process::id(),
        crc(text)
    ));
    fs::File::create(&path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let config = Settings::default().resolve(Some(&path));
    fs::remove_file(&path).unwrap();
    config.map_err(|error| error.to_string())
}

fn crc(text: &str) -> u64 {
    text.bytes().fold(7, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    })
}

#[test]
fn a_file_says_the_same_and_its_errors_name_line_and_field() {
    let good = "name = \"a\"\naddress = [\"10.88.0.1/24\"]\nendpoint = [\n  \"192.0.2.1\",\n]\ndirectory = \"folder:/x\"\nport = 7\nprobe = \"10s\"\n";
    let config = from_file(good).unwrap();
    assert_eq!(
        (config.port, config.probe),
        (7, Some(Duration::from_secs(10)))
    );
    for (from, to, said) in [
        ("port = 7", "port = 70000", "line 7"),
        (
            "port = 7",
            "prot = 7",
            "line 7: the file: unknown field `prot`",
        ),
        ("10s", "ten", "line 8: probe \"ten\": a time is"),
        (
            "192.0.2.1",
            "192.0.2.256",
            "line 4: endpoint \"192.0.2.256\"",
        ),
        ("name = \"a\"", "name = \"A\"", "line 1: name \"A\""),
        ("port = 7", "port = ", "line 7"),
    ] {
        let error = from_file(&good.replacen(from, to, 1)).unwrap_err();
        assert!(error.contains(said), "{to}: {error}");
    }
}
