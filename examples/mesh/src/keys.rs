//! Our own keys at work: when a new one is announced and used, and what follows. What may follow what is in
//! [`rotation`](crate::rotation).

use std::time::{Duration, Instant};

use quietwire::{PresharedKey, PrivateKey};
use tracing::{info, warn};

use crate::kept::{AGAIN, What};
use crate::mesh::{LOOK_INTERVAL, Mesh, unix_time};
use crate::rotation::{Due, Identity};

impl Mesh {
    /// Changes our key if its time has come; how long nothing is due.
    pub(crate) fn rotate_if_due(&mut self) -> Duration {
        let (now, lead) = (unix_time(), self.config.rotate_lead.as_secs());
        match self.identity.due(now, lead, self.is_published()) {
            Due::Nothing => self.announce_if_due(now),
            Due::Wait(seconds) => Duration::from_secs(seconds.min(60)),
            Due::Postpone => {
                warn!(
                    "our new key waits for {lead} s more: nobody can know it yet, or our clock was changed"
                );
                self.keep(self.identity.postpone(now, lead))
            }
            // The time in the announcement may have come before anybody could read it.
            Due::Switch if !self.lead_left().is_zero() => self.lead_left(),
            Due::Switch => {
                let pause = self.identity.switch(now).map(|next| self.keep(next));
                if self.identity.next.is_none() {
                    self.use_key("announced");
                }
                pause.unwrap_or(AGAIN)
            }
        }
    }

    /// How long the others are to have known the announced key before it is used, and have not yet.
    fn lead_left(&self) -> Duration {
        let lead = self.config.rotate_lead;
        self.announced
            .map_or(lead, |(_, at)| lead.saturating_sub(at.elapsed()))
    }

    /// Notes since when the directory has the key that we have announced.
    pub(crate) fn note_announced(&mut self) {
        let next = self.identity.next.as_ref();
        let next = next.map(|next| next.key.public_key());
        if self.is_published() && self.announced.map(|(key, _)| key) != next {
            self.announced = next.map(|key| (key, Instant::now()));
        }
    }

    fn announce_if_due(&mut self, now: u64) -> Duration {
        let Some(every) = self.config.rotate_every else {
            return LOOK_INTERVAL;
        };
        if let Some(counted) = self.identity.counted_from(now) {
            warn!("our clock was set back: the age of our key counts from now on");
            return self.keep(counted);
        }
        let age = now.saturating_sub(self.identity.used_since);
        match every.as_secs().saturating_sub(age) {
            0 => {
                let announced = self.announce().map(|_| info!("our key was {age} s old"));
                if self.note_write(What::Keys, announced) {
                    Duration::from_secs(1)
                } else {
                    AGAIN
                }
            }
            left => Duration::from_secs(left.min(60)),
        }
    }

    /// Announces a new key.
    pub(crate) fn announce(&mut self) -> Result<String, String> {
        let (now, lead) = (unix_time(), self.config.rotate_lead.as_secs());
        let next = self.identity.announce(new_key(), now, lead);
        let next = next.ok_or("a new key is announced already")?;
        let generation = next.generation + 1;
        self.try_keep(next)?;
        info!("a key of generation {generation} is announced, to be used in {lead} s");
        Ok(format!(
            "a key of generation {generation} is announced, to be used in {lead} s"
        ))
    }

    /// Keeps other keys of ours, on the disk first. If that fails nothing changes.
    fn try_keep(&mut self, identity: Identity) -> Result<(), String> {
        self.store
            .set_identity(&identity)
            .map_err(|why| why.to_string())?;
        self.identity = identity;
        self.note_write(What::Keys, Ok(()));
        Ok(())
    }

    /// The same for what is due by itself; how long to wait.
    fn keep(&mut self, identity: Identity) -> Duration {
        let kept = self.try_keep(identity);
        if self.note_write(What::Keys, kept) {
            Duration::from_secs(1)
        } else {
            AGAIN
        }
    }

    fn use_key(&mut self, which: &str) {
        self.rotations += 1;
        info!(
            "our {which} key of generation {} is in use",
            self.identity.generation
        );
        self.applied.set_own_key(&self.node, &self.identity.key);
    }

    pub(crate) fn reprovision(&mut self) -> Result<String, String> {
        self.try_keep(self.identity.reprovision(new_key(), unix_time()))?;
        self.use_key("new");
        let generation = self.identity.generation;
        Ok(format!(
            "a new key of generation {generation} is in use; the others take it from the directory"
        ))
    }
}

/// A key from the system's randomness.
#[must_use]
pub fn new_key() -> PrivateKey {
    PrivateKey::generate(&mut quietwire::rand_core::UnwrapErr(getrandom::SysRng))
}

/// A preshared key from the system's randomness.
#[must_use]
pub fn new_preshared_key() -> PresharedKey {
    PresharedKey::generate(&mut quietwire::rand_core::UnwrapErr(getrandom::SysRng))
}
