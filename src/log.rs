//! `tracing`, or nothing. A secret is never passed to these macros, an address only to `debug!` and `trace!`.

#[cfg(feature = "tracing")]
macro_rules! trace { ($($arg:tt)*) => { tracing::trace!(target: "quietwire", $($arg)*) } }
#[cfg(not(feature = "tracing"))]
macro_rules! trace { ($($arg:tt)*) => { { let _ = ::core::format_args!($($arg)*); } } }
#[cfg(feature = "tracing")]
macro_rules! debug { ($($arg:tt)*) => { tracing::debug!(target: "quietwire", $($arg)*) } }
#[cfg(not(feature = "tracing"))]
macro_rules! debug { ($($arg:tt)*) => { { let _ = ::core::format_args!($($arg)*); } } }
