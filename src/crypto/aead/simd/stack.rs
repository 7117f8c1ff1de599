//! Arrays that are filled one by one, without being filled with something else before.

#![allow(unsafe_code, reason = "reads the items that were written")]

use core::fmt;
use core::mem::MaybeUninit;

/// Up to `N` plain values.
pub(super) struct Stack<T: Copy, const N: usize> {
    items: [MaybeUninit<T>; N],
    len: usize,
}

impl<T: Copy, const N: usize> Stack<T, N> {
    #[inline]
    pub(super) const fn new() -> Self {
        Self {
            items: [const { MaybeUninit::uninit() }; N],
            len: 0,
        }
    }

    /// Adds a value; does nothing when there is no room.
    #[inline]
    pub(super) fn push(&mut self, item: T) {
        if let Some(place) = self.items.get_mut(self.len) {
            place.write(item);
            self.len = self.len.wrapping_add(1);
        }
    }

    #[inline]
    pub(super) const fn clear(&mut self) {
        self.len = 0;
    }

    #[inline]
    pub(super) const fn get(&self) -> &[T] {
        // SAFETY: `push`, which alone changes `len`, has written the items below it.
        unsafe { core::slice::from_raw_parts(self.items.as_ptr().cast(), self.len) }
    }

    #[inline]
    pub(super) fn get_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { core::slice::from_raw_parts_mut(self.items.as_mut_ptr().cast(), self.len) }
    }
}

impl<T: Copy + fmt::Debug, const N: usize> fmt::Debug for Stack<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}
