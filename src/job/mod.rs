//! The expensive middle of sealing and opening, as values that can run on any thread.
//!
//! A packet passes three steps: `begin` (on the state machine: route, check, reserve a counter), `run`
//! (here: the cipher, owned and `Send`, many packets at once), and for packets received `finish` (on
//! the state machine: replay check, timers, roaming). A job carries its own copy of one key, which is
//! wiped when the job has run or is dropped; a job in flight therefore outlives the erasure of its
//! session, but what it opened is refused by `finish`.
//!
//! The buffer of a job is the caller's: anything that lends `&mut [u8]`, so `&mut [u8]` itself,
//! `Vec<u8>` or a pooled type. There is no way to the plaintext of an [`OpenJob`] but through
//! `finish_open`.

mod open;
mod seal;

pub use self::open::{Control, OpenJob, Opened, Refused};
pub(crate) use self::seal::{Draft, Place};
pub use self::seal::{Outgoing, SealFailure, SealJob, Sealed};
