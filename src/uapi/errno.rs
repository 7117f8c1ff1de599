//! The numbers that end an answer.

use core::fmt;

/// Why a request failed, as a number of Linux's `errno.h`.
///
/// `Display` prints the number as it stands in an answer: negative, as wireguard-go has it. `wg`
/// negates what it reads from an answer to `set` before it looks the number's text up, so that a
/// positive one would become "Unknown error -22".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(i32);

impl Errno {
    /// 5: reading or writing failed.
    pub const EIO: Self = Self(5);
    /// 22: a key is not known, stands where it cannot, or has a value that it cannot have.
    pub const EINVAL: Self = Self(22);
    /// 55 (`ENOANO`): what wireguard-go answers when it has no better number.
    pub const UNKNOWN: Self = Self(55);
    /// 71: a line is not of the form `key=value`.
    pub const EPROTO: Self = Self(71);
    /// 98: the port is taken. wireguard-go answers it too when a mark cannot be set.
    pub const EADDRINUSE: Self = Self(98);

    /// Takes the number of an error of the system, of either sign; zero, which would mean success,
    /// becomes [`UNKNOWN`](Self::UNKNOWN).
    #[must_use]
    pub const fn from_raw(number: i32) -> Self {
        match number.saturating_abs() {
            0 => Self::UNKNOWN,
            number => Self(number),
        }
    }

    /// The number, which is positive.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "-{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn numbers_of_the_system_come_with_either_sign() {
        assert_eq!(Errno::from_raw(22), Errno::EINVAL);
        assert_eq!(Errno::from_raw(-98), Errno::EADDRINUSE);
        assert_eq!(Errno::from_raw(0), Errno::UNKNOWN, "zero is success");
        assert_eq!(Errno::from_raw(i32::MIN).raw(), i32::MAX);
        assert_eq!(Errno::EPROTO.to_string(), "-71");
    }
}
