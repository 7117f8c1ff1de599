//! Applies the lines of a `set` request, one by one.

use core::net::SocketAddr;

use super::{Device, Error, Host, Key, Operation, Zone};
use crate::error::ConfigError;
use crate::{Endpoint, PeerConfig, PeerId, PrivateKey, PublicKey};

/// A `set` request under way.
///
/// It is no transaction: what was applied before an error stays, and the error ends the request.
/// A peer is there from its `public_key` on.
#[derive(Clone, Debug)]
pub struct Edit {
    target: Target,
}

/// What the next line is about.
#[derive(Clone, Copy, Debug)]
enum Target {
    Device,
    Peer {
        id: PeerId,
        /// Whether this request has added it in this place.
        is_new: bool,
    },
    /// Ourselves, a peer that was removed, or one that was to be updated and did not exist.
    Nobody,
}

impl Edit {
    /// Begins a request. The first lines are about the device.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            target: Target::Device,
        }
    }

    /// Applies a line.
    ///
    /// # Errors
    ///
    /// [`Error::Misplaced`], [`Error::UnknownZone`], [`Error::TooManyPeers`], [`Error::Refused`]:
    /// the line has changed nothing, and no further line is to be applied.
    pub fn apply<E: Endpoint, H: Host<E> + ?Sized>(
        &mut self,
        operation: &Operation,
        device: &mut Device<'_, E, H>,
    ) -> Result<(), Error> {
        let key = operation.key();
        if key != Key::PublicKey && key.is_of_device() != matches!(self.target, Target::Device) {
            return Err(Error::Misplaced { key });
        }
        let refused = |errno| Error::Refused { key, errno };
        match operation {
            Operation::PrivateKey(private_key) => {
                device.set_private_key(private_key.as_ref());
                Ok(())
            }
            Operation::ListenPort(port) => device.host.set_listen_port(*port).map_err(refused),
            Operation::Fwmark(mark) => device.host.set_fwmark(*mark).map_err(refused),
            Operation::ReplacePeers => {
                device.remove_all();
                Ok(())
            }
            Operation::Peer(public_key) => self.enter(public_key, device),
            operation => self.apply_to_peer(operation, device),
        }
    }

    /// Ends the request, after its last line.
    pub fn finish<E: Endpoint, H: Host<E> + ?Sized>(mut self, device: &mut Device<'_, E, H>) {
        self.leave(device);
    }

    fn enter<E: Endpoint, H: Host<E> + ?Sized>(
        &mut self,
        public_key: &PublicKey,
        device: &mut Device<'_, E, H>,
    ) -> Result<(), Error> {
        self.leave(device);
        self.target = if device.interface.public_key().as_ref() == Some(public_key) {
            Target::Nobody
        } else if let Some(id) = device.interface.find(public_key) {
            Target::Peer { id, is_new: false }
        } else {
            let id = device.add(*public_key)?;
            Target::Peer { id, is_new: true }
        };
        Ok(())
    }

    /// Ends what is about one peer.
    fn leave<E: Endpoint, H: Host<E> + ?Sized>(&mut self, device: &mut Device<'_, E, H>) {
        if let Target::Peer { id, .. } = self.target
            && let Some(peer) = device.interface.peer_mut(id)
        {
            device.host.peer_configured(peer);
        }
        self.target = Target::Nobody;
    }

    fn apply_to_peer<E: Endpoint, H: Host<E> + ?Sized>(
        &mut self,
        operation: &Operation,
        device: &mut Device<'_, E, H>,
    ) -> Result<(), Error> {
        // Even nobody's endpoint has to be one.
        let endpoint = match operation {
            Operation::Endpoint { address, zone } => Some(device.resolve(*address, *zone)?),
            _ => None,
        };
        let Target::Peer { id, is_new } = self.target else {
            return Ok(());
        };
        if matches!(operation, Operation::Remove)
            || (is_new && matches!(operation, Operation::UpdateOnly))
        {
            device.remove(id);
            self.target = Target::Nobody;
            return Ok(());
        }
        // Another client may have removed it meanwhile.
        let Some(mut peer) = device.interface.peer_mut(id) else {
            return Ok(());
        };
        match operation {
            Operation::PresharedKey(psk) => peer.set_preshared_key(psk),
            Operation::PersistentKeepalive(secs) => {
                peer.set_persistent_keepalive(device.now, *secs);
            }
            Operation::ReplaceAllowedIps => peer.replace_allowed_ips([]),
            Operation::AllowedIp(cidr) => peer.add_allowed_ip(*cidr),
            Operation::RemoveAllowedIp(cidr) => {
                peer.remove_allowed_ip(*cidr);
            }
            _ => {
                if let Some(endpoint) = endpoint {
                    peer.set_endpoint(endpoint);
                }
            }
        }
        Ok(())
    }
}

impl Default for Edit {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Endpoint, H: Host<E> + ?Sized> Device<'_, E, H> {
    /// A peer that has our new public key is removed.
    fn set_private_key(&mut self, private_key: Option<&PrivateKey>) {
        if self.interface.set_private_key(private_key).is_ok() {
            return;
        }
        let namesake = private_key.and_then(|key| self.interface.find(&key.public_key()));
        if let Some(id) = namesake {
            self.remove(id);
        }
        let _now_without_namesake = self.interface.set_private_key(private_key);
    }

    fn resolve(&self, address: SocketAddr, zone: Option<Zone>) -> Result<E, Error> {
        let mut address = address;
        if let (SocketAddr::V6(v6), Some(zone)) = (&mut address, zone) {
            let scope_id = self.host.scope_id(zone.as_str());
            v6.set_scope_id(scope_id.ok_or(Error::UnknownZone)?);
        }
        Ok(self.host.endpoint(address))
    }

    fn add(&mut self, public_key: PublicKey) -> Result<PeerId, Error> {
        let added = self
            .interface
            .add_peer(self.now, &PeerConfig::new(public_key));
        let id = added.map_err(|_: ConfigError| Error::TooManyPeers)?;
        if let Some(peer) = self.interface.peer_mut(id) {
            self.host.peer_added(peer);
        }
        Ok(id)
    }

    fn remove(&mut self, id: PeerId) {
        if self.interface.remove_peer(id) {
            self.host.peer_removed(id);
        }
    }

    fn remove_all(&mut self) {
        let ids: alloc::vec::Vec<_> = self.interface.peers().map(|peer| peer.id()).collect();
        for id in ids {
            self.remove(id);
        }
    }
}
