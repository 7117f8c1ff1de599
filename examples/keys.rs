//! Makes keys as `wg(8)` makes them: `genkey`, `pubkey` and `genpsk`.
//!
//! ```console
//! $ umask 077
//! $ cargo run --example keys genkey > private.key
//! $ cargo run --example keys pubkey < private.key
//! ```

use core::error::Error;
use std::env;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use getrandom::SysRng;
use getrandom::rand_core::UnwrapErr;
use quietwire::{Base64Key, PresharedKey, PrivateKey};

const USAGE: &str = "\
Usage: keys <command>

  genkey  writes a new private key to standard output
  pubkey  reads a private key from standard input and writes its public key
  genpsk  writes a new preshared key to standard output

Keys are 44 characters of base64 and a line end, as those of wg(8).
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["genkey"] => write_secret(&PrivateKey::generate(&mut UnwrapErr(SysRng)).to_base64()),
        ["genpsk"] => write_secret(&PresharedKey::generate(&mut UnwrapErr(SysRng)).to_base64()),
        ["pubkey"] => derive_public(),
        ["help" | "-h" | "--help"] => write(USAGE),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keys: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Reads one private key, after which only white space may come, and writes its public key.
fn derive_public() -> Result<(), Box<dyn Error>> {
    let mut text = String::new();
    io::stdin().lock().read_to_string(&mut text)?;
    let key: PrivateKey = text.trim_end_matches(is_space).parse()?;
    write(&format!("{}\n", key.public_key()))
}

/// White space as `wg` has it.
fn is_space(character: char) -> bool {
    matches!(character, '\t'..='\r' | ' ')
}

/// Writes a secret, with a warning when everybody on the machine can read where it goes.
fn write_secret(key: &Base64Key) -> Result<(), Box<dyn Error>> {
    if is_world_accessible(&io::stdout()).unwrap_or(false) {
        eprintln!("keys: warning: writing to a file that every user can access; set umask to 077");
    }
    let mut out = io::stdout().lock();
    out.write_all(key.as_str().as_bytes())?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

fn write(text: &str) -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

#[cfg(unix)]
fn is_world_accessible(out: &io::Stdout) -> io::Result<bool> {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;

    let metadata = File::from(out.as_fd().try_clone_to_owned()?).metadata()?;
    Ok(metadata.is_file() && metadata.permissions().mode() & 0o007 != 0)
}

#[cfg(not(unix))]
fn is_world_accessible(_: &io::Stdout) -> io::Result<bool> {
    Ok(false)
}
