//! `node wg0`: a userspace WireGuard node for Linux.

use std::env;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use nix::unistd::daemon;
use quietwire_node::control::Control;
use quietwire_node::device::Device;
use quietwire_node::error::Error;
use quietwire_node::node::Node;
use quietwire_node::threads;
use quietwire_node::uapi::UapiSocket;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::WorkerGuard;

const USAGE: &str = "usage: node [-f|--foreground] INTERFACE

Makes the TUN device INTERFACE and serves it as a WireGuard interface, until it is deleted or the
process is ended. Configure it with wg(8) and ip(8), or start it by wg-quick(8) with
WG_QUICK_USERSPACE_IMPLEMENTATION.

  -f, --foreground  do not become a daemon
  -h, --help        show this
  -V, --version     show the version

environment:
  LOG_LEVEL         silent, error, info or debug (verbose); what is logged goes to standard error.
                    A daemon without it is silent
  WG_THREADS        how many threads move packets; by default one for every two cores
";

fn main() -> ExitCode {
    let options = match Options::parse(env::args().skip(1)) {
        Ok(options) => options,
        Err(text) => {
            eprint!("{text}");
            return ExitCode::from(2);
        }
    };
    match options {
        Options::Say(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Options::Run {
            name,
            in_foreground,
        } => match run(&name, in_foreground) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("node: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

enum Options {
    Run { name: String, in_foreground: bool },
    Say(String),
}

impl Options {
    fn parse(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut name, mut in_foreground) = (None, false);
        for arg in args {
            match arg.as_str() {
                "-f" | "--foreground" => in_foreground = true,
                "-h" | "--help" => return Ok(Self::Say(USAGE.into())),
                "-V" | "--version" => {
                    return Ok(Self::Say(
                        concat!("quietwire node ", env!("CARGO_PKG_VERSION"), "\n").into(),
                    ));
                }
                flag if flag.starts_with('-') => {
                    return Err(format!("node: there is no option {flag}\n{USAGE}"));
                }
                _ if name.is_some() => return Err(format!("node: one interface only\n{USAGE}")),
                _ => name = Some(arg),
            }
        }
        let name = name.ok_or(USAGE)?;
        Ok(Self::Run {
            name,
            in_foreground,
        })
    }
}

fn run(name: &str, in_foreground: bool) -> Result<(), Error> {
    let level = log_level();
    let device = Device::create(name)?;
    let socket = UapiSocket::bind(device.name())?;
    if !in_foreground {
        // Before any thread is made, and after everything that can fail for a reason that a person
        // should see. What asks for a log gets it where it was started.
        daemon(false, env::var_os("LOG_LEVEL").is_some())
            .map_err(Error::system("becoming a daemon"))?;
    }
    let control = Control::new(socket.file())?;
    let _log = start_log(level);
    let node = Arc::new(Node::new(device)?);
    threads::start(&node, thread_count()).map_err(Error::system("starting threads"))?;
    socket
        .serve(&node)
        .map_err(Error::system("starting threads"))?;
    control.run(&node, socket.file());
    Ok(())
}

/// How many threads move packets.
fn thread_count() -> usize {
    let wanted = env::var("WG_THREADS").ok();
    let wanted = wanted.and_then(|text| text.parse().ok());
    wanted.unwrap_or_else(threads::usual_count)
}

fn log_level() -> LevelFilter {
    match env::var("LOG_LEVEL").unwrap_or_default().as_str() {
        "silent" | "off" => LevelFilter::OFF,
        "info" => LevelFilter::INFO,
        "verbose" | "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => LevelFilter::WARN,
    }
}

/// Logs by a thread of its own, so that a terminal that is held up holds up no packets. What is waiting
/// is written when the guard is dropped.
fn start_log(level: LevelFilter) -> WorkerGuard {
    let (writer, guard) = tracing_appender::non_blocking(io::stderr());
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(writer)
        .with_ansi(false)
        // It would write there that it cannot write there, and panic: a full disk or a terminal that
        // was closed costs the log, not the node.
        .log_internal_errors(false)
        .init();
    guard
}
