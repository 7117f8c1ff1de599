use std::os::unix::fs::MetadataExt;

use quietwire::PrivateKey;

use super::*;

/// A folder that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("qw-mesh-store-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn store(&self) -> Store {
        Store::open(&self.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn identity(seed: u8) -> Identity {
    Identity::first(PrivateKey::from_bytes([seed; 32]), seed.into(), 0)
}

fn kept(store: &Store) -> Option<u64> {
    store
        .identity()
        .unwrap()
        .map(|identity| identity.generation)
}

#[test]
fn keys_are_kept_and_nobody_else_may_read_them() {
    let scratch = Scratch::new("keys");
    let store = scratch.store();
    assert_eq!(kept(&store), None);
    store.set_identity(&identity(1)).unwrap();
    store.set_identity(&identity(2)).unwrap();
    assert_eq!(kept(&scratch.store()), Some(2));
    let mode = |name: &str| fs::metadata(scratch.0.join(name)).unwrap().mode() & 0o777;
    assert_eq!((mode(IDENTITY), mode("")), (0o600, 0o700));
    fs::set_permissions(scratch.0.join(IDENTITY), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(
        store
            .identity()
            .unwrap_err()
            .to_string()
            .contains("others may read it")
    );
}

/// Every step of a write is the last one once: by a kill, and by a full disk.
#[test]
fn a_write_that_ends_at_any_step_leaves_the_old_or_the_new() {
    for before in [None, Some(1)] {
        for is_killed in [true, false] {
            let mut outcomes = Vec::new();
            for step in 0..6 {
                let scratch = Scratch::new("steps");
                let store = scratch.store();
                if let Some(seed) = before {
                    store.set_identity(&identity(seed)).unwrap();
                }
                store.faults.at.set(Some((step, is_killed)));
                let error = store.set_identity(&identity(2)).unwrap_err().to_string();
                assert!(error.contains("The disk is full"), "{error}");
                if !is_killed {
                    assert!(
                        !store.temporary(IDENTITY).exists(),
                        "nothing half-written is left"
                    );
                }
                let again = scratch.store();
                let held = again.lock().unwrap();
                outcomes.push(kept(&again));
                assert!(!again.temporary(IDENTITY).exists());
                again.set_identity(&identity(3)).unwrap();
                assert_eq!(kept(&again), Some(3));
                drop(held);
            }
            // Only the last of these is after the rename.
            let old = before.map(u64::from);
            assert_eq!(outcomes, [old, old, old, old, old, Some(2)]);
        }
    }
}

#[test]
fn a_damaged_key_is_never_replaced_by_a_new_one() {
    let scratch = Scratch::new("damaged");
    let store = scratch.store();
    store.set_identity(&identity(1)).unwrap();
    let path = scratch.0.join(IDENTITY);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() / 2]).unwrap();
    assert!(
        store
            .identity()
            .unwrap_err()
            .to_string()
            .contains("identity.json")
    );
}

#[test]
fn one_process_at_a_time() {
    let scratch = Scratch::new("lock");
    let store = scratch.store();
    let held = store.lock().unwrap();
    let error = scratch.store().lock().unwrap_err().to_string();
    assert!(error.contains("End the other process"), "{error}");
    drop(held);
    store.lock().unwrap();
}

#[test]
fn records_preshared_keys_and_the_switch_are_kept() {
    let scratch = Scratch::new("rest");
    let store = scratch.store();
    let record = Record::parse(
        r#"{"name":"b","generation":1,"key":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","addresses":["10.0.0.1"]}"#,
    );
    let known = Known::from([("b".to_owned(), record.unwrap())]);
    store.set_known(&known).unwrap();
    assert_eq!(scratch.store().known().unwrap(), known);

    assert!(store.is_enabled());
    store.set_enabled(false).unwrap();
    assert!(!scratch.store().is_enabled());
    store.set_enabled(true).unwrap();
    store.set_enabled(true).unwrap();
    assert!(store.is_enabled());

    assert!(store.preshared_key("b").unwrap().is_none());
    fs::create_dir(scratch.0.join("psk")).unwrap();
    let file = scratch.0.join("psk/b");
    fs::write(&file, "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n").unwrap();
    assert!(store.preshared_key("b").is_err(), "others may read it");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(store.preshared_key("b").unwrap().expose()[0], 1);
    assert!(store.preshared_key("../identity.json").unwrap().is_none());
    fs::write(&file, "short").unwrap();
    assert!(
        store
            .preshared_key("b")
            .unwrap_err()
            .to_string()
            .contains("psk/b")
    );
}

#[test]
fn errors_say_what_to_do() {
    let error = Store::open(Path::new("/proc/nowhere/x"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("making the state folder /proc/nowhere/x"),
        "{error}"
    );
}
