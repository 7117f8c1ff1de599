//! What the command says when it is called wrongly, or when there is nobody to ask.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A folder that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("qw-mesh-cli-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn mesh(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mesh"))
        .args(words)
        .output()
        .unwrap()
}

/// It fails with these words on standard error.
fn expect_failure(words: &[&str], said: &str) {
    let done = mesh(words);
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success(), "{words:?} did not fail");
    assert!(errors.contains(said), "{words:?}: {errors}");
    assert!(!errors.contains("panicked"), "{errors}");
}

#[test]
fn wrong_options_are_named() {
    let scratch = Scratch::new("options");
    let state = scratch.file("state");
    let run = |more: &[&str], said: &str| {
        let base = ["run", "--name", "a", "--state", &state];
        expect_failure(&[&base, more].concat(), said);
    };
    run(&[], "--address: at least one is needed");
    run(&["--address", "10.88.0.1/24"], "--directory: it is needed");
    let good = ["--address", "10.88.0.1/24", "--directory"];
    run(
        &[&good[..], &["nothing"]].concat(),
        "names no directory: it is folder:PATH",
    );
    run(
        &[&good[..], &["folder:/proc/version"]].concat(),
        "is no folder",
    );
    run(
        &[&good[..], &["folder:/x", "--port", "0"]].concat(),
        "--port \"0\"",
    );
    run(
        &[&good[..], &["folder:/x", "--port", "65536"]].concat(),
        "65536",
    );
    run(
        &[&good[..], &["folder:/x", "--mtu", "100"]].concat(),
        "--mtu \"100\"",
    );
    run(&["--config", "/nowhere/x.toml"], "/nowhere/x.toml");
    expect_failure(&["status", "--verbose"], "--verbose");
    expect_failure(&["rotaet"], "rotate");
    expect_failure(&[], "Usage");
}

#[test]
fn a_mistake_in_the_file_has_its_line() {
    let scratch = Scratch::new("file");
    let file = scratch.file("mesh.toml");
    fs::write(
        &file,
        "name = \"a\"\n\naddress = [\"10.88.0.1/24\"]\nendpoint = [\"192.0.2.1:x\"]\n",
    )
    .unwrap();
    expect_failure(
        &["run", "--config", &file],
        "mesh.toml, line 4: endpoint \"192.0.2.1:x\"",
    );
    fs::write(&file, "name = \"a\"\nadress = []\n").unwrap();
    expect_failure(
        &["run", "--config", &file],
        "mesh.toml, line 2: the file: unknown field `adress`",
    );
}

#[test]
fn without_a_running_mesh_the_commands_say_so() {
    let scratch = Scratch::new("alone");
    let state = scratch.file("state");
    for verb in [
        "status",
        "rotate",
        "reprovision",
        "enable",
        "reread",
        "leave",
    ] {
        expect_failure(
            &[verb, "--state", &state],
            "no mesh runs with the state folder",
        );
    }
}

#[test]
fn a_state_folder_that_cannot_be_made_is_an_error_with_advice() {
    let words = [
        "run",
        "--name",
        "a",
        "--address",
        "10.88.0.1/24",
        "--directory",
        "folder:/nowhere",
        "--state",
        "/proc/nowhere/state",
    ];
    expect_failure(&words, "making the state folder /proc/nowhere/state");
}

#[test]
fn help_and_version_are_there() {
    for words in [["--help"], ["--version"]] {
        assert!(mesh(&words).status.success());
    }
    let help = mesh(&["run", "--help"]);
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    for option in [
        "--address",
        "--network",
        "--subnet",
        "--endpoint",
        "--directory",
        "--rotate-every",
    ] {
        assert!(text.contains(option), "{option}");
    }
}
