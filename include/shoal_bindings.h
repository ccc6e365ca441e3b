/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 * Generated from src/ffi by `cargo xtask header`; edit there.
 */

/**
 * Shoal for language bindings: functions that a program in C does not need. Everything that `shoal.h` says
 * of its functions applies here, too.
 *
 * A binding whose language runs signal handlers between calls waits in pieces: the parts of
 * `shoal_condition_wait` and `shoal_barrier_wait` are functions of their own.
 *
 * Killed: As after the function of `shoal.h` that the comment names. A process that has arrived at a
 * barrier breaks it; one that has a place at a condition gives it up.
 */

#include "shoal.h"

#ifndef SHOAL_BINDINGS_H
#define SHOAL_BINDINGS_H

#ifdef __cplusplus
extern "C" {
#endif

/** How to find out, without a call, whether the value of a key may have changed. */
typedef struct shoal_watched {
    /**
     * A number in shared memory; NULL if the value must not be kept. As long as it is `seen` (an atomic
     * load, or a plain one of 8 bytes on x86-64 and 64-bit Arm), the value is the same.
     */
    const uint64_t *word;
    /** What the number was before the value was read. */
    uint64_t seen;
} shoal_watched;

/** `shoal_leave` and `_exit(code)` in one. It does not return. */
SHOAL_API void shoal_leave_and_exit(int code);

/**
 * From now on a child that this thread forks has the lease too, or, with false, it has not. Without this a
 * forked child closes its copy of the descriptor.
 *
 * Errors: SHOAL_ERR_INVALID (the request still waits).
 */
SHOAL_API shoal_status shoal_lease_pass_to_forks(shoal_lease *lease, bool on);

/**
 * A descriptor that holds this end of a pipe until it and all its copies are closed, in any process:
 * for passing an end to a process that has not opened it yet. It has no other use.
 *
 * Closed on exec, unless you change that; in a forked child it holds the end as well.
 * Ownership: `*fd` is yours until `shoal_pipe_drop_hold`. If the last copy is closed otherwise, the pipe's
 * file may stay until `shoal_gc`.
 *
 * Errors: SHOAL_ERR_EXHAUSTED (512 handles hold this end); SHOAL_ERR_OS.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_pipe_hold(shoal_pipe *p, int *fd);

/**
 * Closes a descriptor of `shoal_pipe_hold`, or a copy of it, and removes the pipe if no process holds either
 * end any more.
 *
 * `name`: the pipe's.
 * Ownership: `fd` is closed, whatever is returned.
 */
SHOAL_API shoal_status shoal_pipe_drop_hold(const char *name, int fd);

/**
 * Copies the value of a key as `shoal_map_get` does, and says how to find out whether the copy is still
 * valid: for keys that are read much more often than keys in the same part of the map change.
 *
 * `*watched`: its word changes with every change of the key, and of other keys in the same part of
 * the map. NULL if a key there expires. The word is the map's, and may be read by any thread, and by a
 * forked child, until the handle is freed.
 *
 * Errors: as `shoal_map_get`.
 *
 * ```c
 * static shoal_watched watched;
 * static int64_t limit;
 * if (watched.word == NULL || *(volatile const uint64_t *)watched.word != watched.seen)
 *     if (shoal_map_get_watched(m, "limit", 5, &limit, sizeof limit, &len, &watched) != SHOAL_OK)
 *         limit = 0;
 * ```
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_get_watched(shoal_map *m, const void *key, size_t key_len, void *buf,
                                   size_t capacity, size_t *len, shoal_watched *watched);

/**
 * Copies the key that was inserted last into a SHOAL_ORDERED map.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (the map has no key); SHOAL_ERR_INVALID (it is not ordered);
 * SHOAL_ERR_BUFFER_TOO_SMALL.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_last_key(shoal_map *m, void *buf, size_t capacity, size_t *len);

/**
 * Replaces elements as `shoal_list_splice` does, if the list has not changed since `shoal_list_get_many`
 * returned its version.
 *
 * `*done`: whether the elements were replaced.
 *
 * Errors: as `shoal_list_append`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_list_splice_if(shoal_list *l, uint64_t version, int64_t start, int64_t stop,
                                  const shoal_slice *items, size_t n, bool *done);

/**
 * Brings the elements into another order and removes those that the order omits, all at once, if the
 * list has not changed since `shoal_list_get_many` returned its version. No element is copied.
 *
 * `order`, `n`: indices, none of them twice and none below 0. `*done`: whether it was done.
 *
 * Errors: SHOAL_ERR_INVALID (`order` names an element twice, or one that is not there); SHOAL_ERR_NO_SPACE
 * (the list is as it was).
 */
SHOAL_API
shoal_status shoal_list_rearrange_if(shoal_list *l, uint64_t version, const uint64_t *order,
                                     size_t n, bool *done);

/**
 * Does the same to the first `n` elements, if they still are `items`: so it does not fail because of what was
 * added behind them, which stays behind them.
 *
 * `order`, `count`: indices below `n`, none of them twice. `*done`: whether it was done.
 *
 * Errors: as `shoal_list_rearrange_if`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_list_rearrange_same(shoal_list *l, const shoal_slice *items, size_t n,
                                       const uint64_t *order, size_t count, bool *done);

/**
 * Takes a lock if it is free within a microsecond, or recursive and the calling thread's, without a system
 * call. The lock of a dead owner counts as taken: `shoal_lock_lock` detects that, with SHOAL_NOWAIT too.
 *
 * `*owner_died`: see "Locks".
 *
 * Errors: SHOAL_ERR_TIMEOUT (it is taken); SHOAL_ERR_TOO_LARGE.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_lock_try(shoal_lock *l, bool *owner_died);

/**
 * Unlocks it as `shoal_lock_unlock` does, but also a plain lock that another handle or process took: for
 * languages whose locks any process may release.
 *
 * Errors: SHOAL_ERR_INVALID (it is not taken; it is recursive and not the calling thread's).
 */
SHOAL_API shoal_status shoal_lock_unlock_any(shoal_lock *l);

/** How many levels of the lock the calling thread has, as in `shoal_lock_stats`. Never waits. */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_lock_depth(shoal_lock *l, uint32_t *out);

/**
 * Acquires a permit if there is one and no other process works on the semaphore: it neither waits nor sleeps,
 * and so may be called with a lock of the language held. Permits of dead processes count as held:
 * `shoal_semaphore_acquire` detects them, with SHOAL_NOWAIT too.
 *
 * Errors: SHOAL_ERR_TIMEOUT (acquire it by `shoal_semaphore_acquire`).
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_semaphore_try_acquire(shoal_semaphore *s);

/**
 * Releases permits as `shoal_semaphore_release` does, unless another process works on the semaphore: it neither
 * waits nor sleeps, and so may be called with a lock of the language held.
 *
 * Errors: SHOAL_ERR_TIMEOUT (none was released; release them by `shoal_semaphore_release`); as
 * `shoal_semaphore_release`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_semaphore_try_release(shoal_semaphore *s, uint32_t count);

/**
 * How many permits are available, as in `shoal_semaphore_stats`, unless another process works on the semaphore:
 * it neither waits nor sleeps, and so may be called with a lock of the language held.
 *
 * Errors: SHOAL_ERR_TIMEOUT (ask `shoal_semaphore_stat`).
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_semaphore_try_value(shoal_semaphore *s, uint64_t *out);

/**
 * Keeps the permits of this process acquired after its end, or after the handle is freed: from now on they
 * belong to no process, until one releases them. Permits that it acquires later return as usual. It is for
 * the normal end of a process, where permits count items.
 */
SHOAL_API shoal_status shoal_semaphore_keep(shoal_semaphore *s);

/**
 * The first part of a wait: takes a place, with the lock held. Then unlock, `shoal_condition_sleep`, lock,
 * and `shoal_condition_leave`.
 *
 * Errors: SHOAL_ERR_EXHAUSTED (1024 wait already).
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_condition_enlist(shoal_condition *c, uint32_t *place);

/**
 * Sleeps until the place is notified. May be called again after a timeout.
 *
 * Errors: SHOAL_ERR_TIMEOUT, SHOAL_ERR_INTERRUPTED and SHOAL_ERR_CLOSED (the place is still to be left);
 * SHOAL_ERR_INVALID (not this process's place).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_condition_sleep(shoal_condition *c, uint32_t place, int64_t timeout_ns);

/**
 * Leaves the place, with the lock held again. `*notified`: whether it was notified.
 *
 * Errors: SHOAL_ERR_INVALID (not this process's place).
 */
SHOAL_API shoal_status shoal_condition_leave(shoal_condition *c, uint32_t place, bool *notified);

/**
 * The first part of a wait, also for an action before all continue. Waits only while a full round has not
 * ended.
 *
 * `*last`: all have arrived, and the caller must call `shoal_barrier_pass`; otherwise `shoal_barrier_sleep`.
 * `*place` is for these. `*index`: how many arrived before the caller.
 *
 * Errors: SHOAL_ERR_POISONED (the barrier is broken).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_barrier_arrive(shoal_barrier *b, int64_t timeout_ns, uint32_t *place,
                                  uint32_t *index, bool *last);

/**
 * For the last to arrive: all others continue.
 *
 * Errors: SHOAL_ERR_POISONED (the barrier was broken meanwhile).
 */
SHOAL_API shoal_status shoal_barrier_pass(shoal_barrier *b, uint32_t place);

/**
 * Sleeps until the barrier opens or breaks; the place is freed then. May be called again after a
 * timeout.
 *
 * Errors: SHOAL_ERR_POISONED (the barrier is broken); SHOAL_ERR_TIMEOUT, SHOAL_ERR_INTERRUPTED and
 * SHOAL_ERR_CLOSED (the caller still has its place).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_barrier_sleep(shoal_barrier *b, uint32_t place, int64_t timeout_ns);

/**
 * Stops waiting as if the caller had not arrived. If all have arrived, its arrival counts, and all others
 * continue when the last of them calls `shoal_barrier_pass`. Not for the last to arrive.
 */
SHOAL_API shoal_status shoal_barrier_leave(shoal_barrier *b, uint32_t place);

/**
 * Stops waiting, which breaks the barrier, unless all have arrived meanwhile.
 *
 * Errors: SHOAL_ERR_POISONED (the barrier is broken).
 */
SHOAL_API shoal_status shoal_barrier_give_up(shoal_barrier *b, uint32_t place);

/**
 * Puts one message as `shoal_queue_put` does, if the queue's lock is free and there is room: it neither
 * waits nor sleeps, and so may be called with a lock of the language held.
 *
 * Errors: SHOAL_ERR_TIMEOUT (put it by `shoal_queue_put`); as `shoal_queue_put`. Nothing was put then.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_queue_try_put(shoal_queue *q, const void *data, size_t len);

/**
 * Takes the first message as `shoal_queue_get` does, if the queue's lock is free and there is a message:
 * it neither waits nor sleeps, and so may be called with a lock of the language held.
 *
 * Errors: SHOAL_ERR_TIMEOUT (get it by `shoal_queue_get`); as `shoal_queue_get`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_queue_try_get(shoal_queue *q, void *buf, size_t capacity, size_t *len);

#ifdef __cplusplus
}
#endif

#endif /* SHOAL_BINDINGS_H */
