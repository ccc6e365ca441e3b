//! Sorting by a comparison that may be inconsistent.
//!
//! The standard library's sort may panic if a comparison says that `a < b`, `b < c` and `c < a`. The
//! comparison here comes from a caller, and may be a C program's `a > b` or a Python object's: an
//! inconsistent one gives some order, and no panic.
//!
//! Merges runs, which double in length each time, as in Knuth (*The Art of Computer Programming*, volume 3,
//! 5.2.4). Whatever the comparison returns, it is called n log n times at most, and the result has each
//! element once. A sorted list takes n calls.

use std::cmp::Ordering;

/// Runs of this length are sorted by insertion.
const RUN: usize = 8;

/// The items in the order that `compare` says; equal ones keep their order.
pub(super) fn sorted<T: Copy>(
    mut items: Vec<T>,
    mut compare: impl FnMut(&T, &T) -> Ordering,
) -> Vec<T> {
    let len = items.len();
    for run in items.chunks_mut(RUN) {
        for end in 1..run.len() {
            let mut at = end;
            while at > 0 && compare(&run[at - 1], &run[at]) == Ordering::Greater {
                run.swap(at - 1, at);
                at -= 1;
            }
        }
    }
    let (mut length, mut merged) = (RUN, Vec::with_capacity(len));
    while length < len {
        for pair in items.chunks(length.saturating_mul(2)) {
            let (mut left, mut right) = pair.split_at(length.min(pair.len()));
            if let (Some(a), Some(b)) = (left.last(), right.first())
                && compare(a, b) != Ordering::Greater
            {
                merged.extend_from_slice(pair);
                continue;
            }
            while let (Some(a), Some(b)) = (left.first(), right.first()) {
                if compare(a, b) == Ordering::Greater {
                    merged.push(*b);
                    right = &right[1..];
                } else {
                    merged.push(*a);
                    left = &left[1..];
                }
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
        }
        std::mem::swap(&mut items, &mut merged);
        merged.clear();
        length = length.saturating_mul(2);
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sort_agrees_with_the_standard_library(items in prop::collection::vec(0u8..20, 0..200)) {
            let items: Vec<_> = items.into_iter().enumerate().collect();
            let mut model = items.clone();
            model.sort_by_key(|(_, key)| *key);
            prop_assert_eq!(sorted(items, |(_, a), (_, b)| a.cmp(b)), model);
        }

        #[test]
        fn any_comparison_gives_some_order_of_the_same_items(
            len in 0usize..2000,
            answers in prop::collection::vec(0..3u8, 1..50),
        ) {
            let mut calls = 0;
            let mut order = sorted((0..len).collect(), |_: &usize, _| {
                calls += 1;
                [Ordering::Less, Ordering::Equal, Ordering::Greater][usize::from(answers[calls % answers.len()])]
            });
            order.sort_unstable();
            prop_assert!(order.into_iter().eq(0..len));
        }
    }
}
