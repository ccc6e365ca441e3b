//! What a child that is forked under a list's lock may do to its parent: nothing.

use crate::common::{Child, alone, fork};
use shoal::{Error, List};

/// Runs `call`, and within it in a forked child as well, which leaves as soon as `call` has returned: with 0 if
/// that was as `expected`. `call` gets a function that forks; it returns `true` in the parent once the child
/// has left, and `false` in the child.
fn in_both<T>(
    call: impl FnOnce(&mut dyn FnMut() -> bool) -> T,
    expected: impl FnOnce(&T) -> bool,
) -> T {
    let mut is_child = false;
    let result = call(&mut || {
        // SAFETY: the child uses one list, and ends before this function returns.
        let pid = unsafe { libc::fork() };
        is_child = pid == 0;
        if pid > 0 {
            let mut status = 0;
            // SAFETY: our own child, and a place for its status.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
        }
        pid > 0
    });
    if is_child {
        let code = i32::from(!expected(&result));
        // SAFETY: ends the child here and now.
        unsafe { libc::_exit(code) }
    }
    result
}

/// A process that appends to the list, and cannot while this one has the lock.
fn waiter(list: &List) -> Child {
    let mut waiter = fork(|| List::open(list.name()).unwrap().append(b"later").unwrap());
    waiter.wait_asleep();
    assert!(!waiter.has_ended(), "the lock was free");
    waiter
}

#[test]
fn a_child_that_returns_from_under_the_lock_leaves_it_to_its_parent() {
    let _alone = alone();
    let list = List::anonymous().unwrap();
    list.append(b"first").unwrap();
    let later = in_both(
        |forks| {
            list.with(|locked| {
                if !forks() {
                    return Ok(None);
                }
                let waiter = waiter(&list);
                locked.append(b"second")?;
                Ok(Some(waiter))
            })
        },
        |done| matches!(done, Ok(None)),
    );
    later.unwrap().unwrap().ends_well();
    let all = list.range_vec(0..9).unwrap();
    assert_eq!(all, [&b"first"[..], b"second", b"later"]);
    list.verify().unwrap();
}

#[test]
fn a_child_changes_nothing_by_the_lock_that_its_parent_has() {
    let _alone = alone();
    let list = List::anonymous().unwrap();
    list.extend(&[b"b", b"a"]).unwrap();
    let refused = |done: &Result<(), Error>| matches!(done, Err(Error::Invalid { .. }));
    in_both(
        |forks| {
            list.with(|locked| {
                if forks() {
                    return Ok(());
                }
                let each = [
                    locked.append(b"c"),
                    locked.set(0, b"c").map(drop),
                    locked.pop_at(0).map(drop),
                    locked.swap(0, 1).map(drop),
                    locked.compare_swap(0, b"b", b"c").map(drop),
                    locked.reverse(),
                    locked.rearrange(&[1, 0]),
                    locked.clear(),
                    locked.len().map(drop),
                ];
                let wrong = each.iter().position(|done| !refused(done));
                wrong.map_or(Ok(()), |at| panic!("call {at}: {:?}", each[at]))
            })
        },
        |done| *done == Ok(()),
    )
    .unwrap();
    let mut has_forked = false;
    in_both(
        |forks| {
            list.sort_by(|a, b| {
                if !has_forked {
                    has_forked = true;
                    forks();
                }
                a.cmp(b)
            })
        },
        refused,
    )
    .unwrap();
    assert_eq!(list.range_vec(0..9).unwrap(), [b"a", b"b"]);
    list.verify().unwrap();
}

#[test]
fn a_child_that_panics_under_the_lock_leaves_it_to_its_parent() {
    let _alone = alone();
    let list = List::anonymous().unwrap();
    let later = in_both(
        |forks| {
            let call = || {
                list.with(|_| match forks() {
                    true => Ok(waiter(&list)),
                    false => panic!("in the child"),
                })
            };
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(call))
        },
        std::result::Result::is_err,
    );
    later.unwrap().unwrap().ends_well();
    assert_eq!(list.range_vec(0..9).unwrap(), [b"later"]);
    list.verify().unwrap();
}
