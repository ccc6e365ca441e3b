//! Children that will not be joined: their exits are collected when later children are started or
//! dropped.
//!
//! A thread that waits for them would have to be restarted in every forked child, and a `SIGCHLD` handler
//! belongs to the host program. So a dropped child that still runs is put on a list, which every spawn and drop
//! of a child checks.
//!
//! The list is a stack of atomics rather than a mutex: a fork can happen while another
//! thread holds a mutex, and the child could then never take it.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::child::Child;
use crate::sys::pidfd::{self, Reaped};

struct Node {
    child: Child,
    /// The process whose child it is.
    creator: u32,
    next: *mut Node,
}

static HEAD: AtomicPtr<Node> = AtomicPtr::new(ptr::null_mut());

/// Reaps the child now if it has ended, else at a later [`sweep`].
pub(super) fn adopt(child: Child) {
    sweep();
    if runs(&child) {
        push(Box::into_raw(Box::new(Node {
            child,
            creator: std::process::id(),
            next: ptr::null_mut(),
        })));
    }
}

/// Reaps every adopted child that has ended.
pub(super) fn sweep() {
    // This call now owns the whole list; no other sweep sees these nodes.
    // SYNC: take(list), pairs with push(list)
    let mut node = HEAD.swap(ptr::null_mut(), Ordering::Acquire);
    while !node.is_null() {
        // SAFETY: a node on the list came from Box::into_raw, and is removed exactly once.
        let owned = unsafe { Box::from_raw(node) };
        node = owned.next;
        // Nodes of a parent process leave the list: they are not children of this process.
        if owned.creator == std::process::id() && runs(&owned.child) {
            push(Box::into_raw(owned));
        }
    }
}

/// Whether the child still runs. Reaps it if it does not.
fn runs(child: &Child) -> bool {
    match child.open_again() {
        Ok(Some(pidfd)) => matches!(pidfd::reap(pidfd), Ok(Reaped::Running)),
        Ok(None) => false,
        // No descriptor is left at the moment.
        Err(_) => true,
    }
}

fn push(node: *mut Node) {
    let mut head = HEAD.load(Ordering::Relaxed);
    loop {
        // SAFETY: the node is ours until the exchange below succeeds.
        unsafe { (*node).next = head };
        // SYNC: push(list), pairs with take(list)
        match HEAD.compare_exchange_weak(head, node, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(current) => head = current,
        }
    }
}
