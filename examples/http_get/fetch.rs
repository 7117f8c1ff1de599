//! A download through a peer that is really there, as a configuration file of `wg-quick(8)`
//! describes it. Needs no privileges: the tunnel ends in this process.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::Path;

use quietwire::config::Config;

use crate::dns;
use crate::download::download;
use crate::http::Url;
use crate::node::{Failure, Node};
use crate::setup;

pub(crate) fn run(
    config: &Path,
    url: &Url,
    output: Option<&Path>,
    pcap: Option<&Path>,
    prepare: impl FnOnce(&Node) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut config = read(config)?;
    setup::resolve_endpoints(&mut config)?;
    let socket = setup::bind(&config)?;
    let port = socket.local_addr()?.port();
    let mut node = Node::new(&config, socket)?;
    prepare(&node)?;

    let address = find_address(&mut node, &config, url)?;
    if let Some(path) = pcap {
        let ip = own_ip(&node, address)?;
        node.wire.capture(path, (ip, port).into())?;
    }
    let handshake = node.establish(address)?;
    eprintln!("handshake in {handshake:.1?}");
    let to = SocketAddr::new(address, url.port);
    let result = download(&mut node, to, url, || open(output));
    eprintln!("{node}");
    node.wire.finish_capture()?;
    eprintln!("{}", result?);
    Ok(())
}

fn read(path: &Path) -> Result<Config, Failure> {
    let name = path.display();
    let text = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let config = Config::parse(&text).map_err(|error| format!("{name}: {error}"))?;
    for unknown in config.unknown_keys() {
        eprintln!("{name}: {} is not a known key", unknown.name);
    }
    Ok(config)
}

/// The address of the server. A name is asked for through the tunnel if the configuration says
/// where, and of the system if not, as `wg-quick` would have it.
fn find_address(node: &mut Node, config: &Config, url: &Url) -> Result<IpAddr, Failure> {
    let host = url.host.as_str();
    let servers: Vec<IpAddr> = config
        .interface
        .dns
        .iter()
        .flat_map(|dns| dns.parse())
        .collect();
    let address = match host.parse() {
        Ok(address) => address,
        Err(_) if servers.is_empty() => {
            eprintln!("asking the system, outside of the tunnel, for the address of {host}");
            let found = (host, url.port).to_socket_addrs();
            let mut found = found.map_err(|error| {
                format!("{host}: {error}; the configuration has no DNS = to ask instead")
            })?;
            found
                .find(|found| has_family_of(node, found.ip()))
                .map(|found| found.ip())
                .ok_or_else(|| format!("{host} has no address that the tunnel reaches"))?
        }
        Err(_) => dns::resolve(node, &servers, host)?,
    };
    if has_family_of(node, address) {
        Ok(address)
    } else {
        Err(format!("[Interface] has no Address of the family of {address}").into())
    }
}

fn has_family_of(node: &Node, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => node.stack.ipv4_addr().is_some(),
        IpAddr::V6(_) => node.stack.ipv6_addr().is_some(),
    }
}

/// The address from which the system sends to the peer that `destination` is behind: that of a
/// socket which is told where to send, but never does.
fn own_ip(node: &Node, destination: IpAddr) -> Result<IpAddr, Failure> {
    let peer = node
        .tunnel
        .route(destination)
        .and_then(|id| node.tunnel.peer(id));
    let endpoint = peer.and_then(|peer| peer.endpoint());
    let endpoint = endpoint.ok_or("no peer with an Endpoint has this in its AllowedIPs")?;
    let unspecified: IpAddr = if endpoint.is_ipv4() {
        [0; 4].into()
    } else {
        [0; 16].into()
    };
    let socket = UdpSocket::bind((unspecified, 0))?;
    socket.connect(endpoint)?;
    Ok(socket.local_addr()?.ip())
}

/// Where the body goes: to the file, or to standard output unless that is a terminal.
fn open(output: Option<&Path>) -> io::Result<Box<dyn Write>> {
    match output {
        Some(path) => {
            let named = |error: io::Error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            };
            Ok(Box::new(File::create(path).map_err(named)?))
        }
        None if io::stdout().is_terminal() => Ok(Box::new(io::sink())),
        None => Ok(Box::new(io::stdout())),
    }
}
