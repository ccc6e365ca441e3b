//! Size classes of entries: which slab an entry of a given size goes to.
//!
//! ```text
//! size            step       classes
//!     1 ..=   256   16       16
//!   257 ..=   512   32        8      and so on, eight for each doubling
//! 16385 ..= 32768 2048        8
//! ```
//! An entry wastes at most 15 bytes up to 256, and an eighth above that. Entries that are larger than
//! all classes have an extent of their own.

/// Number of size classes.
pub(crate) const CLASSES: usize = 72;
/// The largest entry that lies in a slab.
pub(crate) const LARGEST: u64 = 1 << 15;
const SMALL: u64 = 256;

/// The class of entries of `size` bytes; `size` is in `1 ..= LARGEST`.
#[inline]
pub(crate) fn of(size: u64) -> u8 {
    debug_assert!((1..=LARGEST).contains(&size));
    if size <= SMALL {
        return ((size - 1) / 16) as u8;
    }
    let doubling = (size - 1).ilog2();
    let step = doubling - 3;
    let within = (size - 1 - (1 << doubling)) >> step;
    (16 + (doubling - 8) * 8 + within as u32) as u8
}

/// Bytes of a slot of `class`; 0 if there is no such class.
#[inline]
pub(crate) fn size(class: u8) -> u64 {
    match class as u64 {
        class @ 0..16 => (class + 1) * 16,
        class if class < CLASSES as u64 => {
            let (doubling, within) = (8 + (class - 16) / 8, (class - 16) % 8);
            (1 << doubling) + ((within + 1) << (doubling - 3))
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_goes_to_the_smallest_class_that_holds_it() {
        // Miri takes minutes for all of them.
        let step = if cfg!(miri) { 7 } else { 1 };
        for bytes in (1..=LARGEST).step_by(step) {
            let class = of(bytes);
            assert!(size(class) >= bytes, "{bytes}");
            assert!(class == 0 || size(class - 1) < bytes, "{bytes}");
            assert!(size(class).is_multiple_of(16));
        }
        assert_eq!(of(LARGEST) as usize, CLASSES - 1);
        assert_eq!(size(CLASSES as u8), 0);
    }
}
