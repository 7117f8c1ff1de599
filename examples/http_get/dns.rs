//! From the name of a host to an address that the tunnel reaches.

use std::net::{IpAddr, ToSocketAddrs};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::dns::{GetQueryResultError, Socket};
use smoltcp::wire::DnsQueryType;

use crate::node::{Failure, Node};

/// The address of a host. A name is asked for through the tunnel if there are name servers to ask,
/// and of the system if not, as a machine would do on which `wg-quick` has set up the tunnel.
pub(crate) fn find(node: &mut Node, servers: &[IpAddr], host: &str) -> Result<IpAddr, Failure> {
    let address = match host.parse() {
        Ok(address) => address,
        Err(_) if servers.is_empty() => ask_system(node, host)?,
        Err(_) => ask_servers(node, servers, host)?,
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

fn ask_system(node: &Node, name: &str) -> Result<IpAddr, Failure> {
    eprintln!("asking the system, outside of the tunnel, for the address of {name}");
    let found = (name, 0).to_socket_addrs();
    let found = found
        .map_err(|error| format!("{name}: {error}; the configuration has no DNS to ask instead"))?;
    let mut found = found.map(|found| found.ip());
    let address = found.find(|address| has_family_of(node, *address));
    address.ok_or_else(|| format!("{name} has no address that the tunnel reaches").into())
}

fn ask_servers(node: &mut Node, servers: &[IpAddr], name: &str) -> Result<IpAddr, Failure> {
    for server in servers {
        node.establish(*server)
            .map_err(|error| format!("the name server {server}: {error}"))?;
    }
    let addresses: Vec<_> = servers.iter().map(|server| (*server).into()).collect();
    let handle = node.sockets.add(Socket::new(&addresses, Vec::new()));
    let mut found = Ok(None);
    if node.stack.ipv4_addr().is_some() {
        found = query(node, handle, name, DnsQueryType::A);
    }
    if matches!(found, Ok(None)) && node.stack.ipv6_addr().is_some() {
        found = query(node, handle, name, DnsQueryType::Aaaa);
    }
    node.sockets.remove(handle);
    found?.ok_or_else(|| format!("the name servers {servers:?} know no address of {name}").into())
}

fn query(
    node: &mut Node,
    handle: SocketHandle,
    name: &str,
    query_type: DnsQueryType,
) -> Result<Option<IpAddr>, Failure> {
    let Node { sockets, stack, .. } = node;
    let socket: &mut Socket<'_> = sockets.get_mut(handle);
    let query = socket.start_query(stack.context(), name, query_type);
    let query = query.map_err(|error| format!("{name}: {error}"))?;
    loop {
        let socket: &mut Socket<'_> = node.sockets.get_mut(handle);
        match socket.get_query_result(query) {
            Ok(addresses) => return Ok(addresses.first().map(|address| (*address).into())),
            Err(GetQueryResultError::Failed) => return Ok(None),
            Err(GetQueryResultError::Pending) => node.turn(None)?,
        }
    }
}
