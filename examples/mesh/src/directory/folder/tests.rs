use std::sync::mpsc::{Receiver, channel};

use super::*;

/// A folder that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("qw-mesh-folder-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn watched(&self) -> (Folder, Receiver<News>) {
        let mut folder = Folder::open(&self.0).unwrap();
        let (news, told) = channel();
        folder.watch(news).unwrap();
        (folder, told)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn next(told: &Receiver<News>) -> News {
    told.recv_timeout(Duration::from_secs(15)).unwrap()
}

fn everything(pairs: &[(&str, &str)]) -> News {
    News::Everything(
        pairs
            .iter()
            .map(|(name, text)| ((*name).into(), (*text).into()))
            .collect(),
    )
}

#[test]
fn changes_are_told_once_each() {
    let scratch = Scratch::new("changes");
    let (mut folder, told) = scratch.watched();
    assert_eq!(next(&told), everything(&[]));
    folder.publish("a", "one").unwrap();
    assert_eq!(next(&told), News::Changed("a".into(), "one".into()));
    folder.publish("a", "one").unwrap();
    folder.publish("b", "two").unwrap();
    assert_eq!(next(&told), News::Changed("b".into(), "two".into()));
    folder.withdraw("a").unwrap();
    assert_eq!(next(&told), News::Gone("a".into()));
    folder.withdraw("a").unwrap();
    let (_, other) = scratch.watched();
    assert_eq!(next(&other), everything(&[("b", "two")]));
}

#[test]
fn garbage_is_left_alone() {
    let scratch = Scratch::new("garbage");
    fs::create_dir_all(scratch.0.join("folder.json")).unwrap();
    fs::write(scratch.0.join("UPPER.json"), "x").unwrap();
    fs::write(scratch.0.join(".hidden.json"), "x").unwrap();
    fs::write(scratch.0.join("readme"), "x").unwrap();
    fs::write(scratch.0.join("bytes.json"), [0xff, 0xfe]).unwrap();
    fs::write(scratch.0.join("long.json"), vec![b'x'; 1 << 20]).unwrap();
    std::os::unix::fs::symlink("/dev/zero", scratch.0.join("link.json")).unwrap();
    nix::sys::stat::mknod(
        &scratch.0.join("pipe.json"),
        nix::sys::stat::SFlag::S_IFIFO,
        nix::sys::stat::Mode::S_IRWXU,
        0,
    )
    .unwrap();
    let (_, told) = scratch.watched();
    let News::Everything(all) = next(&told) else {
        panic!("the first news is everything")
    };
    let names: Vec<_> = all
        .iter()
        .map(|(name, text)| (name.as_str(), text.len()))
        .collect();
    // What may be a record is handed on, bounded, to be refused with a reason.
    assert_eq!(
        names,
        [("bytes", "\u{fffd}\u{fffd}".len()), ("long", MAX_BYTES + 1)]
    );
}

#[test]
fn a_folder_that_goes_and_comes_back_is_told_anew() {
    let scratch = Scratch::new("gone");
    let (mut folder, told) = scratch.watched();
    folder.publish("a", "one").unwrap();
    assert!(matches!(next(&told), News::Everything(_)));
    let moved = scratch.0.with_extension("moved");
    fs::rename(&scratch.0, &moved).unwrap();
    while !matches!(next(&told), News::Unreachable(_)) {}
    assert!(folder.publish("a", "two").is_err());
    fs::rename(&moved, &scratch.0).unwrap();
    assert_eq!(next(&told), everything(&[("a", "one")]));
}

#[test]
fn a_folder_that_cannot_be_made_yet_is_unreachable_and_a_file_is_an_error() {
    let mut folder = Folder::open(Path::new("/proc/nowhere/x")).unwrap();
    let (news, told) = channel();
    folder.watch(news).unwrap();
    assert!(matches!(next(&told), News::Unreachable(why) if why.contains("/proc/nowhere/x")));
    assert!(folder.publish("a", "one").is_err());
    let error = Folder::open(Path::new("/proc/version"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("is no folder"), "{error}");
}
