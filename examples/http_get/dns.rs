//! Asks the name servers of a configuration, through the tunnel.

use std::net::IpAddr;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::dns::{GetQueryResultError, Socket};
use smoltcp::wire::DnsQueryType;

use crate::node::{Failure, Node};

/// The first address of `name`, of a family that the node has an address of.
pub(crate) fn resolve(node: &mut Node, servers: &[IpAddr], name: &str) -> Result<IpAddr, Failure> {
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
