//! The command line.

use std::io::{self, ErrorKind, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tracing::level_filters::LevelFilter;

use crate::config::{STATE, Settings};
use crate::routes::Routes;
use crate::socket::{self, Answer, Command};
use crate::store::Store;

/// Encrypts what the nodes of a cluster say to each other: a WireGuard mesh.
#[derive(Debug, Parser)]
#[command(name = "mesh", version)]
pub struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run this node of the mesh, in the foreground
    Run {
        /// A TOML file with the options by their names; options given here win
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Show the state of the mesh, seen from this node
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Again and again, every 2 s
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        at: At,
    },
    /// Announce a new key and change to it without a break
    Rotate(At),
    /// Take a new key at once, because the old one may be known to others; sessions break
    Reprovision(At),
    /// Send the traffic of the mesh's networks through the mesh or nowhere
    Enable(At),
    /// Leave that traffic to the main routing table, unprotected; also without a running process
    Disable {
        #[command(flatten)]
        at: At,
        /// The configuration of a process that does not run any more, for its table
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The routing table, for a process that does not run any more
        #[arg(long)]
        table: Option<u32>,
    },
    /// Read the preshared keys in STATE/psk again
    Reread(At),
    /// Take our record out of the directory, disable, and end the running process
    Leave(At),
}

#[derive(Debug, clap::Args)]
struct At {
    /// The state folder of the running process
    #[arg(long, value_name = "FOLDER", default_value = STATE)]
    state: PathBuf,
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    match obey(Options::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("mesh: {why}");
            ExitCode::FAILURE
        }
    }
}

fn obey(verb: Verb) -> Result<(), String> {
    match verb {
        Verb::Run { config, settings } => {
            start_log();
            let config = settings
                .resolve(config.as_deref())
                .map_err(|why| why.to_string())?;
            crate::run::run(config).map_err(|why| why.to_string())
        }
        Verb::Status { json, watch, at } => show(&at.state, json, watch),
        Verb::Rotate(at) => tell(&at.state, Command::Rotate),
        Verb::Reprovision(at) => tell(&at.state, Command::Reprovision),
        Verb::Enable(at) => tell(&at.state, Command::Enable),
        Verb::Disable { at, config, table } => disable(&at.state, config.as_deref(), table),
        Verb::Reread(at) => tell(&at.state, Command::Reread),
        Verb::Leave(at) => tell(&at.state, Command::Leave),
    }
}

fn show(state: &Path, json: bool, watch: bool) -> Result<(), String> {
    loop {
        let answer = ask(state, Command::Status)?;
        let Answer::Status(status) = answer else {
            return say(answer);
        };
        if watch && !json && io::stdout().is_terminal() {
            // Clears the screen.
            print!("\x1b[H\x1b[2J");
        }
        if json {
            println!(
                "{}",
                serde_json::to_string(&status).map_err(|why| why.to_string())?
            );
        } else {
            print!("{}", status.to_table());
        }
        if !watch {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(2));
    }
}

fn tell(state: &Path, command: Command) -> Result<(), String> {
    ask(state, command).and_then(say)
}

fn say(answer: Answer) -> Result<(), String> {
    match answer {
        Answer::Done(what) => {
            println!("{what}");
            Ok(())
        }
        Answer::Failed(why) => Err(why),
        Answer::Status(_) => Ok(()),
    }
}

fn ask(state: &Path, command: Command) -> Result<Answer, String> {
    let path = Store::socket_in(state);
    socket::ask(&path, command).map_err(|why| match why.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => format!(
            "no mesh runs with the state folder {}: start it with `mesh run`, or name its folder with --state",
            state.display()
        ),
        _ => format!("{}: {why}", path.display()),
    })
}

/// Without a process the routes that it left are removed all the same: what fails closed needs a way out.
fn disable(state: &Path, config: Option<&Path>, table: Option<u32>) -> Result<(), String> {
    let running = socket::ask(&Store::socket_in(state), Command::Disable);
    if let Ok(answer) = running {
        return say(answer);
    }
    start_log();
    let text = |why: &dyn std::fmt::Display| why.to_string();
    let table = match (table, config) {
        (Some(table), _) => table,
        (None, Some(file)) => {
            Settings::default()
                .resolve(Some(file))
                .map_err(|why| text(&why))?
                .table
        }
        (None, None) => crate::config::TABLE,
    };
    let store = Store::open(state).map_err(|why| text(&why))?;
    Routes::of_table(table)
        .disable()
        .map_err(|why| text(&why))?;
    store.set_enabled(false).map_err(|why| text(&why))?;
    println!("disabled; no mesh was running");
    Ok(())
}

fn start_log() {
    let level = match std::env::var("LOG_LEVEL").unwrap_or_default().as_str() {
        "silent" | "off" => LevelFilter::OFF,
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "verbose" | "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => LevelFilter::INFO,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
}
