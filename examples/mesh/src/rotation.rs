//! Our own keys, and how one follows another.
//!
//! Pure: no I/O, no clock. A new key is announced ahead in our record, with a time. When that time has
//! come by our own clock we use it, and the others follow on evidence, not by their clocks: they have had
//! the new key as a second peer without prefixes since the announcement, and the first handshake
//! message under it moves the prefixes over. So a clock that is wrong, ours or theirs, costs nothing.
//!
//! ```text
//!            announce              due: switch
//! key A, gen 1 ──> key A, gen 1, next B, gen 2 ──> key B, gen 2
//!                    └── due, but never published: postpone
//! ```
//!
//! Each arrow is one replacement of the identity file *before* anything else happens, so a restart at any
//! point goes on from one of these three.

use quietwire::{PrivateKey, PublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::record::NextKey;

/// Our own keys.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The key in use.
    pub key: PrivateKey,
    /// Its number.
    pub generation: u64,
    /// When we came to the mesh, in seconds since 1970.
    pub since: u64,
    /// When the key was taken into use.
    pub used_since: u64,
    /// The key announced ahead.
    pub next: Option<Next>,
}

/// A key announced ahead; its generation is the next one.
#[derive(Clone, Debug)]
pub struct Next {
    /// The key.
    pub key: PrivateKey,
    /// When it is to be used, in seconds since 1970.
    pub switch_at: u64,
}

/// A clock that is set back by less is being kept right.
const SLACK: u64 = 60;

/// What is to be done about an announced key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing is announced.
    Nothing,
    /// Wait for so many seconds.
    Wait(u64),
    /// Give it a new time: nobody can know the key, or our clock was set back.
    Postpone,
    /// Use it.
    Switch,
}

impl Identity {
    /// The first key of a node.
    #[must_use]
    pub fn first(key: PrivateKey, generation: u64, now: u64) -> Self {
        Self {
            key,
            generation,
            since: now,
            used_since: now,
            next: None,
        }
    }

    /// Announces the next key, to be used in `lead` seconds; `None` if one is announced already.
    #[must_use]
    pub fn announce(&self, key: PrivateKey, now: u64, lead: u64) -> Option<Self> {
        if self.next.is_some() {
            return None;
        }
        let switch_at = now.saturating_add(lead);
        Some(self.with_next(Some(Next { key, switch_at })))
    }

    /// What is to be done at `now`. `is_published` is whether the directory has taken the announcement.
    #[must_use]
    pub fn due(&self, now: u64, lead: u64, is_published: bool) -> Due {
        let Some(next) = &self.next else {
            return Due::Nothing;
        };
        match next.switch_at.saturating_sub(now) {
            0 if is_published => Due::Switch,
            0 => Due::Postpone,
            wait if wait > lead.saturating_mul(2).saturating_add(60) => Due::Postpone,
            wait => Due::Wait(wait),
        }
    }

    /// The same announcement with a new time.
    #[must_use]
    pub fn postpone(&self, now: u64, lead: u64) -> Self {
        let next = self.next.as_ref().map(|next| Next {
            key: next.key.clone(),
            switch_at: now.saturating_add(lead),
        });
        self.with_next(next)
    }

    /// The announced key, in use; `None` if none is announced.
    #[must_use]
    pub fn switch(&self, now: u64) -> Option<Self> {
        let next = self.next.as_ref()?;
        Some(Self {
            key: next.key.clone(),
            generation: self.generation + 1,
            since: self.since,
            used_since: now,
            next: None,
        })
    }

    /// A new key at once, for a node whose old one may be known to others. Its generation is beyond that of a
    /// key that was announced.
    #[must_use]
    pub fn reprovision(&self, key: PrivateKey, now: u64) -> Self {
        Self {
            key,
            generation: self.generation + 1 + u64::from(self.next.is_some()),
            since: self.since,
            used_since: now,
            next: None,
        }
    }

    /// The same, in use since `now`, if our clock said a later time when the key was taken into use: the key would
    /// be kept for too long otherwise. `None` if that is in order.
    #[must_use]
    pub fn counted_from(&self, now: u64) -> Option<Self> {
        (self.used_since > now.saturating_add(SLACK)).then(|| Self {
            used_since: now,
            ..self.clone()
        })
    }

    /// The announcement, for our record.
    #[must_use]
    pub fn announcement(&self) -> Option<NextKey> {
        self.next.as_ref().map(|next| NextKey {
            generation: self.generation + 1,
            key: next.key.public_key(),
            switch_at: next.switch_at,
        })
    }

    /// All keys that are ours.
    #[must_use]
    pub fn public_keys(&self) -> Vec<PublicKey> {
        let next = self.next.as_ref().map(|next| next.key.public_key());
        [self.key.public_key()].into_iter().chain(next).collect()
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    ///
    /// What is wrong, without what was found: that may be a key.
    pub fn parse(text: &str) -> Result<Self, String> {
        // The place is told, and not the text at it.
        let place =
            |why: serde_json::Error| format!("line {}, column {}", why.line(), why.column());
        let form: Form<'_> = serde_json::from_str(text)
            .map_err(|why| format!("it is no identity: see {}", place(why)))?;
        let key = |field: &str, text: &str| {
            PrivateKey::from_base64(text).map_err(|_| format!("`{field}` is no key"))
        };
        if !(1..1 << 54).contains(&form.generation) {
            return Err("`generation` is out of range".into());
        }
        let next = form.next.map(|next| {
            key("next.private_key", next.private_key).map(|key| Next {
                key,
                switch_at: next.switch_at,
            })
        });
        Ok(Self {
            key: key("private_key", form.private_key)?,
            generation: form.generation,
            since: form.since,
            used_since: form.used_since,
            next: next.transpose()?,
        })
    }

    /// Everything, private keys included; the text is wiped when dropped.
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<String> {
        let key = self.key.to_base64();
        let next_key = self.next.as_ref().map(|next| next.key.to_base64());
        let form = Form {
            private_key: key.as_str(),
            generation: self.generation,
            since: self.since,
            used_since: self.used_since,
            next: self
                .next
                .as_ref()
                .zip(next_key.as_ref())
                .map(|(next, key)| NextForm {
                    private_key: key.as_str(),
                    switch_at: next.switch_at,
                }),
        };
        // It never grows, which would leave keys in the memory that it had.
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_JSON));
        let written = serde_json::to_writer_pretty(&mut *text, &form);
        debug_assert!(written.is_ok() && text.capacity() == MAX_JSON);
        Zeroizing::new(String::from_utf8(std::mem::take(&mut *text)).unwrap_or_default())
    }

    fn with_next(&self, next: Option<Next>) -> Self {
        Self {
            next,
            ..self.clone()
        }
    }
}

/// Longer than any identity: two keys, four numbers, and their names.
const MAX_JSON: usize = 1024;

/// Borrows the keys, so that there are no copies to wipe.
#[derive(Serialize, Deserialize)]
struct Form<'t> {
    private_key: &'t str,
    generation: u64,
    since: u64,
    used_since: u64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    next: Option<NextForm<'t>>,
}

#[derive(Serialize, Deserialize)]
struct NextForm<'t> {
    private_key: &'t str,
    switch_at: u64,
}

#[cfg(test)]
mod tests;
