/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 * Generated from shoal.h by `cargo xtask header`.
 */

/**
 * For ThreadSanitizer, which does not see what the library does: a program that is compiled with
 * -fsanitize=thread gets this header by shoal.h. Calls through the same handle count as ordered, so that what
 * a lock guards, or a message hands over, is no race. Two handles on one object are not known to be related.
 *
 * What happens inside a call is not checked. The sanitizer does see the library's calls of memcpy, but not
 * that they are ordered. This holds for the comparison of `shoal_list_sort` too, which runs inside the call.
 */

#ifndef SHOAL_TSAN_H
#define SHOAL_TSAN_H

#include "shoal_bindings.h"

#ifdef __cplusplus
#define SHOAL_TSAN_INLINE inline
extern "C" {
#else
#define SHOAL_TSAN_INLINE static inline __attribute__((unused))
#endif

void __tsan_acquire(void *address);
void __tsan_release(void *address);
void __tsan_ignore_thread_begin(void);
void __tsan_ignore_thread_end(void);

SHOAL_TSAN_INLINE shoal_status shoal_tsan_gc(size_t *removed)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_gc(removed);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_leave(void)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_leave();
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_unlink(const char *name, shoal_kind kind)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_unlink(name, kind);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_end_waits(void *handle)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_end_waits(handle);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_queue_open(const char *name, const shoal_queue_options *options, shoal_queue **out, bool *created)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_queue_open(name, options, out, created);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE void shoal_tsan_queue_free(shoal_queue *q)
{
    __tsan_ignore_thread_begin();
    shoal_queue_free(q);
    __tsan_ignore_thread_end();
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_queue_stat(shoal_queue *q, shoal_queue_stats *out)
{
    shoal_status status;
    __tsan_release(q);
    __tsan_ignore_thread_begin();
    status = shoal_queue_stat(q, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(q);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_queue_put(shoal_queue *q, const void *data, size_t len, int64_t timeout_ns)
{
    shoal_status status;
    __tsan_release(q);
    __tsan_ignore_thread_begin();
    status = shoal_queue_put(q, data, len, timeout_ns);
    __tsan_ignore_thread_end();
    __tsan_acquire(q);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_queue_put_many(shoal_queue *q, const shoal_slice *items, size_t n, int64_t timeout_ns, size_t *done)
{
    shoal_status status;
    __tsan_release(q);
    __tsan_ignore_thread_begin();
    status = shoal_queue_put_many(q, items, n, timeout_ns, done);
    __tsan_ignore_thread_end();
    __tsan_acquire(q);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_queue_get(shoal_queue *q, int64_t timeout_ns, void *buf, size_t capacity, size_t *len)
{
    shoal_status status;
    __tsan_release(q);
    __tsan_ignore_thread_begin();
    status = shoal_queue_get(q, timeout_ns, buf, capacity, len);
    __tsan_ignore_thread_end();
    __tsan_acquire(q);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_queue_peek(shoal_queue *q, uint64_t index, void *buf, size_t capacity, size_t *len)
{
    shoal_status status;
    __tsan_release(q);
    __tsan_ignore_thread_begin();
    status = shoal_queue_peek(q, index, buf, capacity, len);
    __tsan_ignore_thread_end();
    __tsan_acquire(q);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_queue_get_many(shoal_queue *q, int64_t timeout_ns, void *buf, size_t capacity, size_t *lens, size_t max, size_t *n)
{
    shoal_status status;
    __tsan_release(q);
    __tsan_ignore_thread_begin();
    status = shoal_queue_get_many(q, timeout_ns, buf, capacity, lens, max, n);
    __tsan_ignore_thread_end();
    __tsan_acquire(q);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_queue_len(shoal_queue *q, uint64_t *out)
{
    shoal_status status;
    __tsan_release(q);
    __tsan_ignore_thread_begin();
    status = shoal_queue_len(q, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(q);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_queue_close(shoal_queue *q)
{
    shoal_status status;
    __tsan_release(q);
    __tsan_ignore_thread_begin();
    status = shoal_queue_close(q);
    __tsan_ignore_thread_end();
    __tsan_acquire(q);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_queue_join(shoal_queue *q, int64_t timeout_ns)
{
    shoal_status status;
    __tsan_release(q);
    __tsan_ignore_thread_begin();
    status = shoal_queue_join(q, timeout_ns);
    __tsan_ignore_thread_end();
    __tsan_acquire(q);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_queue_dead_letters(shoal_queue *q, shoal_queue **out)
{
    shoal_status status;
    __tsan_release(q);
    __tsan_ignore_thread_begin();
    status = shoal_queue_dead_letters(q, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(q);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_queue_fd(shoal_queue *q, int *out)
{
    shoal_status status;
    __tsan_release(q);
    __tsan_ignore_thread_begin();
    status = shoal_queue_fd(q, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(q);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_queue_reserve(shoal_queue *q, size_t len, int64_t timeout_ns, shoal_message *out)
{
    shoal_status status;
    __tsan_release(q);
    __tsan_ignore_thread_begin();
    status = shoal_queue_reserve(q, len, timeout_ns, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(q);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_queue_commit(shoal_queue *q, shoal_message *message, size_t used)
{
    shoal_status status;
    __tsan_release(q);
    __tsan_ignore_thread_begin();
    status = shoal_queue_commit(q, message, used);
    __tsan_ignore_thread_end();
    __tsan_acquire(q);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_queue_discard(shoal_queue *q, shoal_message *message)
{
    shoal_status status;
    __tsan_release(q);
    __tsan_ignore_thread_begin();
    status = shoal_queue_discard(q, message);
    __tsan_ignore_thread_end();
    __tsan_acquire(q);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_queue_lease(shoal_queue *q, int64_t visible_ns, int64_t timeout_ns, shoal_message *out)
{
    shoal_status status;
    __tsan_release(q);
    __tsan_ignore_thread_begin();
    status = shoal_queue_lease(q, visible_ns, timeout_ns, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(q);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_queue_ack(shoal_queue *q, shoal_message *message)
{
    shoal_status status;
    __tsan_release(q);
    __tsan_ignore_thread_begin();
    status = shoal_queue_ack(q, message);
    __tsan_ignore_thread_end();
    __tsan_acquire(q);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_queue_nack(shoal_queue *q, shoal_message *message, int64_t delay_ns)
{
    shoal_status status;
    __tsan_release(q);
    __tsan_ignore_thread_begin();
    status = shoal_queue_nack(q, message, delay_ns);
    __tsan_ignore_thread_end();
    __tsan_acquire(q);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_queue_extend(shoal_queue *q, shoal_message *message, int64_t visible_ns)
{
    shoal_status status;
    __tsan_release(q);
    __tsan_ignore_thread_begin();
    status = shoal_queue_extend(q, message, visible_ns);
    __tsan_ignore_thread_end();
    __tsan_acquire(q);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_pipe_open(const char *name, uint32_t end, const shoal_pipe_options *options, shoal_pipe **out, bool *created)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_pipe_open(name, end, options, out, created);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_pipe_pair(const shoal_pipe_options *options, shoal_pipe **first, shoal_pipe **second)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_pipe_pair(options, first, second);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE void shoal_tsan_pipe_free(shoal_pipe *p)
{
    __tsan_ignore_thread_begin();
    shoal_pipe_free(p);
    __tsan_ignore_thread_end();
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_pipe_stat(shoal_pipe *p, shoal_pipe_stats *out)
{
    shoal_status status;
    __tsan_release(p);
    __tsan_ignore_thread_begin();
    status = shoal_pipe_stat(p, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(p);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_pipe_send(shoal_pipe *p, const void *data, size_t len, int64_t timeout_ns)
{
    shoal_status status;
    __tsan_release(p);
    __tsan_ignore_thread_begin();
    status = shoal_pipe_send(p, data, len, timeout_ns);
    __tsan_ignore_thread_end();
    __tsan_acquire(p);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_pipe_recv(shoal_pipe *p, int64_t timeout_ns, void *buf, size_t capacity, size_t *len)
{
    shoal_status status;
    __tsan_release(p);
    __tsan_ignore_thread_begin();
    status = shoal_pipe_recv(p, timeout_ns, buf, capacity, len);
    __tsan_ignore_thread_end();
    __tsan_acquire(p);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_pipe_reserve(shoal_pipe *p, size_t len, int64_t timeout_ns, shoal_message *out)
{
    shoal_status status;
    __tsan_release(p);
    __tsan_ignore_thread_begin();
    status = shoal_pipe_reserve(p, len, timeout_ns, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(p);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_pipe_commit(shoal_pipe *p, shoal_message *message, size_t used)
{
    shoal_status status;
    __tsan_release(p);
    __tsan_ignore_thread_begin();
    status = shoal_pipe_commit(p, message, used);
    __tsan_ignore_thread_end();
    __tsan_acquire(p);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_pipe_discard(shoal_pipe *p, shoal_message *message)
{
    shoal_status status;
    __tsan_release(p);
    __tsan_ignore_thread_begin();
    status = shoal_pipe_discard(p, message);
    __tsan_ignore_thread_end();
    __tsan_acquire(p);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_pipe_lease(shoal_pipe *p, int64_t timeout_ns, shoal_message *out)
{
    shoal_status status;
    __tsan_release(p);
    __tsan_ignore_thread_begin();
    status = shoal_pipe_lease(p, timeout_ns, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(p);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_pipe_ack(shoal_pipe *p, shoal_message *message)
{
    shoal_status status;
    __tsan_release(p);
    __tsan_ignore_thread_begin();
    status = shoal_pipe_ack(p, message);
    __tsan_ignore_thread_end();
    __tsan_acquire(p);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_pipe_nack(shoal_pipe *p, shoal_message *message, int64_t delay_ns)
{
    shoal_status status;
    __tsan_release(p);
    __tsan_ignore_thread_begin();
    status = shoal_pipe_nack(p, message, delay_ns);
    __tsan_ignore_thread_end();
    __tsan_acquire(p);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_pipe_poll(shoal_pipe *p, int64_t timeout_ns, bool *ready)
{
    shoal_status status;
    __tsan_release(p);
    __tsan_ignore_thread_begin();
    status = shoal_pipe_poll(p, timeout_ns, ready);
    __tsan_ignore_thread_end();
    __tsan_acquire(p);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_pipe_fd(shoal_pipe *p, int *out)
{
    shoal_status status;
    __tsan_release(p);
    __tsan_ignore_thread_begin();
    status = shoal_pipe_fd(p, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(p);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_open(const char *name, const shoal_map_options *options, shoal_map **out, bool *created)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_map_open(name, options, out, created);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE void shoal_tsan_map_free(shoal_map *m)
{
    __tsan_ignore_thread_begin();
    shoal_map_free(m);
    __tsan_ignore_thread_end();
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_stat(shoal_map *m, shoal_map_stats *out)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_stat(m, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_set(shoal_map *m, const void *key, size_t key_len, const void *value, size_t value_len)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_set(m, key, key_len, value, value_len);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_get(shoal_map *m, const void *key, size_t key_len, void *buf, size_t capacity, size_t *len, uint64_t *version)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_get(m, key, key_len, buf, capacity, len, version);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_insert(shoal_map *m, const void *key, size_t key_len, const void *value, size_t value_len, bool *inserted)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_insert(m, key, key_len, value, value_len, inserted);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_remove(shoal_map *m, const void *key, size_t key_len)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_remove(m, key, key_len);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_take(shoal_map *m, const void *key, size_t key_len, void *buf, size_t capacity, size_t *len)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_take(m, key, key_len, buf, capacity, len);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_contains(shoal_map *m, const void *key, size_t key_len, bool *out)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_contains(m, key, key_len, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_compare_swap(shoal_map *m, const void *key, size_t key_len, const void *expected, size_t expected_len, const void *desired, size_t desired_len, bool *swapped)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_compare_swap(m, key, key_len, expected, expected_len, desired, desired_len, swapped);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_len(shoal_map *m, uint64_t *out)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_len(m, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_clear(shoal_map *m)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_clear(m);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_iter_new(shoal_map *m, shoal_map_iter **out)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_iter_new(m, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_iter_next(shoal_map_iter *it, const void **key, size_t *key_len, const void **value, size_t *value_len)
{
    shoal_status status;
    __tsan_release(it);
    __tsan_ignore_thread_begin();
    status = shoal_map_iter_next(it, key, key_len, value, value_len);
    __tsan_ignore_thread_end();
    __tsan_acquire(it);
    return status;
}

SHOAL_TSAN_INLINE void shoal_tsan_map_iter_free(shoal_map_iter *it)
{
    __tsan_ignore_thread_begin();
    shoal_map_iter_free(it);
    __tsan_ignore_thread_end();
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_version(shoal_map *m, const void *key, size_t key_len, uint64_t *out)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_version(m, key, key_len, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_compare_swap_version(shoal_map *m, const void *key, size_t key_len, uint64_t version, const void *desired, size_t desired_len, bool *swapped)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_compare_swap_version(m, key, key_len, version, desired, desired_len, swapped);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_add(shoal_map *m, const void *key, size_t key_len, int64_t delta, int64_t *sum)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_add(m, key, key_len, delta, sum);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_add_f64(shoal_map *m, const void *key, size_t key_len, double delta, double *sum)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_add_f64(m, key, key_len, delta, sum);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_set_many(shoal_map *m, const shoal_slice *keys, const shoal_slice *values, size_t n)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_set_many(m, keys, values, n);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_get_many(shoal_map *m, const shoal_slice *keys, size_t n, void *buf, size_t capacity, size_t *len, shoal_slice *values)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_get_many(m, keys, n, buf, capacity, len, values);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_set_for(shoal_map *m, const void *key, size_t key_len, const void *value, size_t value_len, int64_t life_ns)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_set_for(m, key, key_len, value, value_len, life_ns);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_expire(shoal_map *m, const void *key, size_t key_len, int64_t life_ns)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_expire(m, key, key_len, life_ns);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_time_left(shoal_map *m, const void *key, size_t key_len, int64_t *out)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_time_left(m, key, key_len, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_purge(shoal_map *m, uint64_t *removed)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_purge(m, removed);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_lock_key(shoal_map *m, const void *key, size_t key_len, int64_t timeout_ns, bool *owner_died)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_lock_key(m, key, key_len, timeout_ns, owner_died);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_unlock_key(shoal_map *m, const void *key, size_t key_len)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_unlock_key(m, key, key_len);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_wait_change(shoal_map *m, uint64_t seen, int64_t timeout_ns, uint64_t *now)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_wait_change(m, seen, timeout_ns, now);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_wait_key(shoal_map *m, const void *key, size_t key_len, uint64_t seen, int64_t timeout_ns, uint64_t *now)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_wait_key(m, key, key_len, seen, timeout_ns, now);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_view(shoal_map *m, const void *key, size_t key_len, shoal_view *out)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_view(m, key, key_len, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_view_end(shoal_map *m, shoal_view *view)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_view_end(m, view);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_list_open(const char *name, const shoal_list_options *options, shoal_list **out, bool *created)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_list_open(name, options, out, created);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE void shoal_tsan_list_free(shoal_list *l)
{
    __tsan_ignore_thread_begin();
    shoal_list_free(l);
    __tsan_ignore_thread_end();
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_list_stat(shoal_list *l, shoal_list_stats *out)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_list_stat(l, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_list_append(shoal_list *l, const void *data, size_t len)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_list_append(l, data, len);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_list_insert(shoal_list *l, int64_t index, const void *data, size_t len)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_list_insert(l, index, data, len);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_list_get(shoal_list *l, int64_t index, void *buf, size_t capacity, size_t *len)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_list_get(l, index, buf, capacity, len);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_list_pop(shoal_list *l, int64_t index, void *buf, size_t capacity, size_t *len)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_list_pop(l, index, buf, capacity, len);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_list_set(shoal_list *l, int64_t index, const void *data, size_t len)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_list_set(l, index, data, len);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_list_compare_swap(shoal_list *l, int64_t index, const void *expected, size_t expected_len, const void *desired, size_t desired_len, bool *swapped)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_list_compare_swap(l, index, expected, expected_len, desired, desired_len, swapped);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_list_swap(shoal_list *l, int64_t a, int64_t b)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_list_swap(l, a, b);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_list_splice(shoal_list *l, int64_t start, int64_t stop, const shoal_slice *items, size_t n)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_list_splice(l, start, stop, items, n);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_list_get_many(shoal_list *l, uint64_t start, void *buf, size_t capacity, size_t *lens, size_t max, size_t *n, uint64_t *version)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_list_get_many(l, start, buf, capacity, lens, max, n, version);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_list_sort(shoal_list *l, int (*compare)(const void *a, size_t a_len, const void *b, size_t b_len, void *arg), void *arg)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_list_sort(l, compare, arg);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_list_reverse(shoal_list *l)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_list_reverse(l);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_list_len(shoal_list *l, uint64_t *out)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_list_len(l, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_list_clear(shoal_list *l)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_list_clear(l);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_array_open(const char *name, const shoal_array_options *options, shoal_array **out, bool *created)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_array_open(name, options, out, created);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE void shoal_tsan_array_free(shoal_array *a)
{
    __tsan_ignore_thread_begin();
    shoal_array_free(a);
    __tsan_ignore_thread_end();
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_array_stat(shoal_array *a, shoal_array_stats *out)
{
    shoal_status status;
    __tsan_release(a);
    __tsan_ignore_thread_begin();
    status = shoal_array_stat(a, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(a);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_array_data(shoal_array *a, void **data, size_t *bytes)
{
    shoal_status status;
    __tsan_release(a);
    __tsan_ignore_thread_begin();
    status = shoal_array_data(a, data, bytes);
    __tsan_ignore_thread_end();
    __tsan_acquire(a);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_array_lock(shoal_array *a, int64_t timeout_ns, bool *owner_died)
{
    shoal_status status;
    __tsan_release(a);
    __tsan_ignore_thread_begin();
    status = shoal_array_lock(a, timeout_ns, owner_died);
    __tsan_ignore_thread_end();
    __tsan_acquire(a);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_array_unlock(shoal_array *a)
{
    shoal_status status;
    __tsan_release(a);
    __tsan_ignore_thread_begin();
    status = shoal_array_unlock(a);
    __tsan_ignore_thread_end();
    __tsan_acquire(a);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_lock_open(const char *name, const shoal_sync_options *options, shoal_lock **out, bool *created)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_lock_open(name, options, out, created);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE void shoal_tsan_lock_free(shoal_lock *l)
{
    __tsan_ignore_thread_begin();
    shoal_lock_free(l);
    __tsan_ignore_thread_end();
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_lock_stat(shoal_lock *l, shoal_lock_stats *out)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_lock_stat(l, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_lock_lock(shoal_lock *l, int64_t timeout_ns, bool *owner_died)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_lock_lock(l, timeout_ns, owner_died);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_lock_unlock(shoal_lock *l)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_lock_unlock(l);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_rwlock_open(const char *name, const shoal_sync_options *options, shoal_rwlock **out, bool *created)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_rwlock_open(name, options, out, created);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE void shoal_tsan_rwlock_free(shoal_rwlock *l)
{
    __tsan_ignore_thread_begin();
    shoal_rwlock_free(l);
    __tsan_ignore_thread_end();
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_rwlock_stat(shoal_rwlock *l, shoal_rwlock_stats *out)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_rwlock_stat(l, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_rwlock_lock_read(shoal_rwlock *l, int64_t timeout_ns, bool *owner_died)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_rwlock_lock_read(l, timeout_ns, owner_died);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_rwlock_lock_write(shoal_rwlock *l, int64_t timeout_ns, bool *owner_died)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_rwlock_lock_write(l, timeout_ns, owner_died);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_rwlock_unlock_read(shoal_rwlock *l)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_rwlock_unlock_read(l);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_rwlock_unlock_write(shoal_rwlock *l)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_rwlock_unlock_write(l);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_semaphore_open(const char *name, const shoal_sync_options *options, shoal_semaphore **out, bool *created)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_semaphore_open(name, options, out, created);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE void shoal_tsan_semaphore_free(shoal_semaphore *s)
{
    __tsan_ignore_thread_begin();
    shoal_semaphore_free(s);
    __tsan_ignore_thread_end();
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_semaphore_stat(shoal_semaphore *s, shoal_semaphore_stats *out)
{
    shoal_status status;
    __tsan_release(s);
    __tsan_ignore_thread_begin();
    status = shoal_semaphore_stat(s, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(s);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_semaphore_acquire(shoal_semaphore *s, int64_t timeout_ns)
{
    shoal_status status;
    __tsan_release(s);
    __tsan_ignore_thread_begin();
    status = shoal_semaphore_acquire(s, timeout_ns);
    __tsan_ignore_thread_end();
    __tsan_acquire(s);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_semaphore_release(shoal_semaphore *s, uint32_t count)
{
    shoal_status status;
    __tsan_release(s);
    __tsan_ignore_thread_begin();
    status = shoal_semaphore_release(s, count);
    __tsan_ignore_thread_end();
    __tsan_acquire(s);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_event_open(const char *name, const shoal_sync_options *options, shoal_event **out, bool *created)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_event_open(name, options, out, created);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE void shoal_tsan_event_free(shoal_event *e)
{
    __tsan_ignore_thread_begin();
    shoal_event_free(e);
    __tsan_ignore_thread_end();
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_event_set(shoal_event *e)
{
    shoal_status status;
    __tsan_release(e);
    __tsan_ignore_thread_begin();
    status = shoal_event_set(e);
    __tsan_ignore_thread_end();
    __tsan_acquire(e);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_event_clear(shoal_event *e)
{
    shoal_status status;
    __tsan_release(e);
    __tsan_ignore_thread_begin();
    status = shoal_event_clear(e);
    __tsan_ignore_thread_end();
    __tsan_acquire(e);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_event_is_set(shoal_event *e, bool *out)
{
    shoal_status status;
    __tsan_release(e);
    __tsan_ignore_thread_begin();
    status = shoal_event_is_set(e, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(e);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_event_wait(shoal_event *e, int64_t timeout_ns)
{
    shoal_status status;
    __tsan_release(e);
    __tsan_ignore_thread_begin();
    status = shoal_event_wait(e, timeout_ns);
    __tsan_ignore_thread_end();
    __tsan_acquire(e);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_condition_open(const char *name, const shoal_sync_options *options, shoal_condition **out, bool *created)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_condition_open(name, options, out, created);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE void shoal_tsan_condition_free(shoal_condition *c)
{
    __tsan_ignore_thread_begin();
    shoal_condition_free(c);
    __tsan_ignore_thread_end();
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_condition_stat(shoal_condition *c, shoal_condition_stats *out)
{
    shoal_status status;
    __tsan_release(c);
    __tsan_ignore_thread_begin();
    status = shoal_condition_stat(c, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(c);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_condition_wait(shoal_condition *c, shoal_lock *lock, int64_t timeout_ns, bool *owner_died)
{
    shoal_status status;
    __tsan_release(c);
    __tsan_release(lock);
    __tsan_ignore_thread_begin();
    status = shoal_condition_wait(c, lock, timeout_ns, owner_died);
    __tsan_ignore_thread_end();
    __tsan_acquire(c);
    __tsan_acquire(lock);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_condition_notify(shoal_condition *c, uint32_t count)
{
    shoal_status status;
    __tsan_release(c);
    __tsan_ignore_thread_begin();
    status = shoal_condition_notify(c, count);
    __tsan_ignore_thread_end();
    __tsan_acquire(c);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_barrier_open(const char *name, const shoal_sync_options *options, shoal_barrier **out, bool *created)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_barrier_open(name, options, out, created);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE void shoal_tsan_barrier_free(shoal_barrier *b)
{
    __tsan_ignore_thread_begin();
    shoal_barrier_free(b);
    __tsan_ignore_thread_end();
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_barrier_stat(shoal_barrier *b, shoal_barrier_stats *out)
{
    shoal_status status;
    __tsan_release(b);
    __tsan_ignore_thread_begin();
    status = shoal_barrier_stat(b, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(b);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_barrier_wait(shoal_barrier *b, int64_t timeout_ns, uint32_t *index)
{
    shoal_status status;
    __tsan_release(b);
    __tsan_ignore_thread_begin();
    status = shoal_barrier_wait(b, timeout_ns, index);
    __tsan_ignore_thread_end();
    __tsan_acquire(b);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_barrier_abort(shoal_barrier *b)
{
    shoal_status status;
    __tsan_release(b);
    __tsan_ignore_thread_begin();
    status = shoal_barrier_abort(b);
    __tsan_ignore_thread_end();
    __tsan_acquire(b);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_barrier_reset(shoal_barrier *b)
{
    shoal_status status;
    __tsan_release(b);
    __tsan_ignore_thread_begin();
    status = shoal_barrier_reset(b);
    __tsan_ignore_thread_end();
    __tsan_acquire(b);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_wait_any(const shoal_waitable *things, size_t n, int64_t timeout_ns, size_t *out)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_wait_any(things, n, timeout_ns, out);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_device_resolve(const char *family, const char *inherited, const char *logical, char *buf, size_t capacity, size_t *len)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_device_resolve(family, inherited, logical, buf, capacity, len);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_device_environment(const char *family, const char *logical, char *buf, size_t capacity, size_t *len)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_device_environment(family, logical, buf, capacity, len);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_device_visible(const char *family, char *buf, size_t capacity, size_t *len)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_device_visible(family, buf, capacity, len);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_device_discover(const char *family, char *buf, size_t capacity, size_t *len)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_device_discover(family, buf, capacity, len);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_device_set_visible(const char *family, const char *mask, bool *too_late)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_device_set_visible(family, mask, too_late);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_lease_acquire(const shoal_lease_options *options, int64_t timeout_ns, shoal_lease **out)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_lease_acquire(options, timeout_ns, out);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_lease_request(const shoal_lease_options *options, shoal_lease **out)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_lease_request(options, out);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_lease_wait(shoal_lease *lease, int64_t timeout_ns)
{
    shoal_status status;
    __tsan_release(lease);
    __tsan_ignore_thread_begin();
    status = shoal_lease_wait(lease, timeout_ns);
    __tsan_ignore_thread_end();
    __tsan_acquire(lease);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_lease_mask(shoal_lease *lease, char *buf, size_t capacity, size_t *len)
{
    shoal_status status;
    __tsan_release(lease);
    __tsan_ignore_thread_begin();
    status = shoal_lease_mask(lease, buf, capacity, len);
    __tsan_ignore_thread_end();
    __tsan_acquire(lease);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_lease_id(shoal_lease *lease, char *buf, size_t capacity, size_t *len)
{
    shoal_status status;
    __tsan_release(lease);
    __tsan_ignore_thread_begin();
    status = shoal_lease_id(lease, buf, capacity, len);
    __tsan_ignore_thread_end();
    __tsan_acquire(lease);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_lease_devices(shoal_lease *lease, char *buf, size_t capacity, size_t *len)
{
    shoal_status status;
    __tsan_release(lease);
    __tsan_ignore_thread_begin();
    status = shoal_lease_devices(lease, buf, capacity, len);
    __tsan_ignore_thread_end();
    __tsan_acquire(lease);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_lease_environment(shoal_lease *lease, uint32_t mode, size_t worker, size_t workers, char *buf, size_t capacity, size_t *len)
{
    shoal_status status;
    __tsan_release(lease);
    __tsan_ignore_thread_begin();
    status = shoal_lease_environment(lease, mode, worker, workers, buf, capacity, len);
    __tsan_ignore_thread_end();
    __tsan_acquire(lease);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_lease_fd(shoal_lease *lease, int *out)
{
    shoal_status status;
    __tsan_release(lease);
    __tsan_ignore_thread_begin();
    status = shoal_lease_fd(lease, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(lease);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_lease_keep_on_exec(shoal_lease *lease, bool keep)
{
    shoal_status status;
    __tsan_release(lease);
    __tsan_ignore_thread_begin();
    status = shoal_lease_keep_on_exec(lease, keep);
    __tsan_ignore_thread_end();
    __tsan_acquire(lease);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_lease_holders(char *buf, size_t capacity, size_t *len)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_lease_holders(buf, capacity, len);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE void shoal_tsan_lease_free(shoal_lease *lease)
{
    __tsan_ignore_thread_begin();
    shoal_lease_free(lease);
    __tsan_ignore_thread_end();
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_process_spawn(const shoal_spawn_options *options, shoal_process **out)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_process_spawn(options, out);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_process_join(shoal_process *p, int64_t timeout_ns, shoal_exit *end)
{
    shoal_status status;
    __tsan_release(p);
    __tsan_ignore_thread_begin();
    status = shoal_process_join(p, timeout_ns, end);
    __tsan_ignore_thread_end();
    __tsan_acquire(p);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_process_pid(shoal_process *p, int32_t *out)
{
    shoal_status status;
    __tsan_release(p);
    __tsan_ignore_thread_begin();
    status = shoal_process_pid(p, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(p);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_process_fd(shoal_process *p, int *out)
{
    shoal_status status;
    __tsan_release(p);
    __tsan_ignore_thread_begin();
    status = shoal_process_fd(p, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(p);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_process_signal(shoal_process *p, int signal, bool group)
{
    shoal_status status;
    __tsan_release(p);
    __tsan_ignore_thread_begin();
    status = shoal_process_signal(p, signal, group);
    __tsan_ignore_thread_end();
    __tsan_acquire(p);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_process_stdio(shoal_process *p, int which, int *fd)
{
    shoal_status status;
    __tsan_release(p);
    __tsan_ignore_thread_begin();
    status = shoal_process_stdio(p, which, fd);
    __tsan_ignore_thread_end();
    __tsan_acquire(p);
    return status;
}

SHOAL_TSAN_INLINE void shoal_tsan_process_free(shoal_process *p)
{
    __tsan_ignore_thread_begin();
    shoal_process_free(p);
    __tsan_ignore_thread_end();
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_supervisor_start(const shoal_supervisor_options *options, shoal_supervisor **out)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_supervisor_start(options, out);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_supervisor_wait(shoal_supervisor *s, int64_t timeout_ns, shoal_outcome *end)
{
    shoal_status status;
    __tsan_release(s);
    __tsan_ignore_thread_begin();
    status = shoal_supervisor_wait(s, timeout_ns, end);
    __tsan_ignore_thread_end();
    __tsan_acquire(s);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_supervisor_stop(shoal_supervisor *s, int64_t grace_ns)
{
    shoal_status status;
    __tsan_release(s);
    __tsan_ignore_thread_begin();
    status = shoal_supervisor_stop(s, grace_ns);
    __tsan_ignore_thread_end();
    __tsan_acquire(s);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_supervisor_begin_stop(shoal_supervisor *s, int signal, int64_t grace_ns)
{
    shoal_status status;
    __tsan_release(s);
    __tsan_ignore_thread_begin();
    status = shoal_supervisor_begin_stop(s, signal, grace_ns);
    __tsan_ignore_thread_end();
    __tsan_acquire(s);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_supervisor_signal(shoal_supervisor *s, int64_t worker, int signal)
{
    shoal_status status;
    __tsan_release(s);
    __tsan_ignore_thread_begin();
    status = shoal_supervisor_signal(s, worker, signal);
    __tsan_ignore_thread_end();
    __tsan_acquire(s);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_supervisor_worker(shoal_supervisor *s, int64_t worker, shoal_worker_status *out)
{
    shoal_status status;
    __tsan_release(s);
    __tsan_ignore_thread_begin();
    status = shoal_supervisor_worker(s, worker, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(s);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_supervisor_event(shoal_supervisor *s, int64_t timeout_ns, shoal_worker_event *out)
{
    shoal_status status;
    __tsan_release(s);
    __tsan_ignore_thread_begin();
    status = shoal_supervisor_event(s, timeout_ns, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(s);
    return status;
}

SHOAL_TSAN_INLINE void shoal_tsan_supervisor_free(shoal_supervisor *s)
{
    __tsan_ignore_thread_begin();
    shoal_supervisor_free(s);
    __tsan_ignore_thread_end();
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_lease_pass_to_forks(shoal_lease *lease, bool on)
{
    shoal_status status;
    __tsan_release(lease);
    __tsan_ignore_thread_begin();
    status = shoal_lease_pass_to_forks(lease, on);
    __tsan_ignore_thread_end();
    __tsan_acquire(lease);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_pipe_hold(shoal_pipe *p, int *fd)
{
    shoal_status status;
    __tsan_release(p);
    __tsan_ignore_thread_begin();
    status = shoal_pipe_hold(p, fd);
    __tsan_ignore_thread_end();
    __tsan_acquire(p);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_pipe_drop_hold(const char *name, int fd)
{
    shoal_status status;
    __tsan_ignore_thread_begin();
    status = shoal_pipe_drop_hold(name, fd);
    __tsan_ignore_thread_end();
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_get_watched(shoal_map *m, const void *key, size_t key_len, void *buf, size_t capacity, size_t *len, shoal_watched *watched)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_get_watched(m, key, key_len, buf, capacity, len, watched);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_map_last_key(shoal_map *m, void *buf, size_t capacity, size_t *len)
{
    shoal_status status;
    __tsan_release(m);
    __tsan_ignore_thread_begin();
    status = shoal_map_last_key(m, buf, capacity, len);
    __tsan_ignore_thread_end();
    __tsan_acquire(m);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_list_splice_if(shoal_list *l, uint64_t version, int64_t start, int64_t stop, const shoal_slice *items, size_t n, bool *done)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_list_splice_if(l, version, start, stop, items, n, done);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_list_rearrange_if(shoal_list *l, uint64_t version, const uint64_t *order, size_t n, bool *done)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_list_rearrange_if(l, version, order, n, done);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_list_rearrange_same(shoal_list *l, const shoal_slice *items, size_t n, const uint64_t *order, size_t count, bool *done)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_list_rearrange_same(l, items, n, order, count, done);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_lock_try(shoal_lock *l, bool *owner_died)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_lock_try(l, owner_died);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_lock_unlock_any(shoal_lock *l)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_lock_unlock_any(l);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_lock_depth(shoal_lock *l, uint32_t *out)
{
    shoal_status status;
    __tsan_release(l);
    __tsan_ignore_thread_begin();
    status = shoal_lock_depth(l, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(l);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_semaphore_try_acquire(shoal_semaphore *s)
{
    shoal_status status;
    __tsan_release(s);
    __tsan_ignore_thread_begin();
    status = shoal_semaphore_try_acquire(s);
    __tsan_ignore_thread_end();
    __tsan_acquire(s);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_semaphore_try_release(shoal_semaphore *s, uint32_t count)
{
    shoal_status status;
    __tsan_release(s);
    __tsan_ignore_thread_begin();
    status = shoal_semaphore_try_release(s, count);
    __tsan_ignore_thread_end();
    __tsan_acquire(s);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_semaphore_try_value(shoal_semaphore *s, uint64_t *out)
{
    shoal_status status;
    __tsan_release(s);
    __tsan_ignore_thread_begin();
    status = shoal_semaphore_try_value(s, out);
    __tsan_ignore_thread_end();
    __tsan_acquire(s);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_semaphore_keep(shoal_semaphore *s)
{
    shoal_status status;
    __tsan_release(s);
    __tsan_ignore_thread_begin();
    status = shoal_semaphore_keep(s);
    __tsan_ignore_thread_end();
    __tsan_acquire(s);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_condition_enlist(shoal_condition *c, uint32_t *place)
{
    shoal_status status;
    __tsan_release(c);
    __tsan_ignore_thread_begin();
    status = shoal_condition_enlist(c, place);
    __tsan_ignore_thread_end();
    __tsan_acquire(c);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_condition_sleep(shoal_condition *c, uint32_t place, int64_t timeout_ns)
{
    shoal_status status;
    __tsan_release(c);
    __tsan_ignore_thread_begin();
    status = shoal_condition_sleep(c, place, timeout_ns);
    __tsan_ignore_thread_end();
    __tsan_acquire(c);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_condition_leave(shoal_condition *c, uint32_t place, bool *notified)
{
    shoal_status status;
    __tsan_release(c);
    __tsan_ignore_thread_begin();
    status = shoal_condition_leave(c, place, notified);
    __tsan_ignore_thread_end();
    __tsan_acquire(c);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_barrier_arrive(shoal_barrier *b, int64_t timeout_ns, uint32_t *place, uint32_t *index, bool *last)
{
    shoal_status status;
    __tsan_release(b);
    __tsan_ignore_thread_begin();
    status = shoal_barrier_arrive(b, timeout_ns, place, index, last);
    __tsan_ignore_thread_end();
    __tsan_acquire(b);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_barrier_pass(shoal_barrier *b, uint32_t place)
{
    shoal_status status;
    __tsan_release(b);
    __tsan_ignore_thread_begin();
    status = shoal_barrier_pass(b, place);
    __tsan_ignore_thread_end();
    __tsan_acquire(b);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_barrier_sleep(shoal_barrier *b, uint32_t place, int64_t timeout_ns)
{
    shoal_status status;
    __tsan_release(b);
    __tsan_ignore_thread_begin();
    status = shoal_barrier_sleep(b, place, timeout_ns);
    __tsan_ignore_thread_end();
    __tsan_acquire(b);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_barrier_leave(shoal_barrier *b, uint32_t place)
{
    shoal_status status;
    __tsan_release(b);
    __tsan_ignore_thread_begin();
    status = shoal_barrier_leave(b, place);
    __tsan_ignore_thread_end();
    __tsan_acquire(b);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_barrier_give_up(shoal_barrier *b, uint32_t place)
{
    shoal_status status;
    __tsan_release(b);
    __tsan_ignore_thread_begin();
    status = shoal_barrier_give_up(b, place);
    __tsan_ignore_thread_end();
    __tsan_acquire(b);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_queue_try_put(shoal_queue *q, const void *data, size_t len)
{
    shoal_status status;
    __tsan_release(q);
    __tsan_ignore_thread_begin();
    status = shoal_queue_try_put(q, data, len);
    __tsan_ignore_thread_end();
    __tsan_acquire(q);
    return status;
}

SHOAL_TSAN_INLINE shoal_status shoal_tsan_queue_try_get(shoal_queue *q, void *buf, size_t capacity, size_t *len)
{
    shoal_status status;
    __tsan_release(q);
    __tsan_ignore_thread_begin();
    status = shoal_queue_try_get(q, buf, capacity, len);
    __tsan_ignore_thread_end();
    __tsan_acquire(q);
    return status;
}

#ifdef __cplusplus
}
#endif

#define shoal_gc shoal_tsan_gc
#define shoal_leave shoal_tsan_leave
#define shoal_unlink shoal_tsan_unlink
#define shoal_end_waits shoal_tsan_end_waits
#define shoal_queue_open shoal_tsan_queue_open
#define shoal_queue_free shoal_tsan_queue_free
#define shoal_queue_stat shoal_tsan_queue_stat
#define shoal_queue_put shoal_tsan_queue_put
#define shoal_queue_put_many shoal_tsan_queue_put_many
#define shoal_queue_get shoal_tsan_queue_get
#define shoal_queue_peek shoal_tsan_queue_peek
#define shoal_queue_get_many shoal_tsan_queue_get_many
#define shoal_queue_len shoal_tsan_queue_len
#define shoal_queue_close shoal_tsan_queue_close
#define shoal_queue_join shoal_tsan_queue_join
#define shoal_queue_dead_letters shoal_tsan_queue_dead_letters
#define shoal_queue_fd shoal_tsan_queue_fd
#define shoal_queue_reserve shoal_tsan_queue_reserve
#define shoal_queue_commit shoal_tsan_queue_commit
#define shoal_queue_discard shoal_tsan_queue_discard
#define shoal_queue_lease shoal_tsan_queue_lease
#define shoal_queue_ack shoal_tsan_queue_ack
#define shoal_queue_nack shoal_tsan_queue_nack
#define shoal_queue_extend shoal_tsan_queue_extend
#define shoal_pipe_open shoal_tsan_pipe_open
#define shoal_pipe_pair shoal_tsan_pipe_pair
#define shoal_pipe_free shoal_tsan_pipe_free
#define shoal_pipe_stat shoal_tsan_pipe_stat
#define shoal_pipe_send shoal_tsan_pipe_send
#define shoal_pipe_recv shoal_tsan_pipe_recv
#define shoal_pipe_reserve shoal_tsan_pipe_reserve
#define shoal_pipe_commit shoal_tsan_pipe_commit
#define shoal_pipe_discard shoal_tsan_pipe_discard
#define shoal_pipe_lease shoal_tsan_pipe_lease
#define shoal_pipe_ack shoal_tsan_pipe_ack
#define shoal_pipe_nack shoal_tsan_pipe_nack
#define shoal_pipe_poll shoal_tsan_pipe_poll
#define shoal_pipe_fd shoal_tsan_pipe_fd
#define shoal_map_open shoal_tsan_map_open
#define shoal_map_free shoal_tsan_map_free
#define shoal_map_stat shoal_tsan_map_stat
#define shoal_map_set shoal_tsan_map_set
#define shoal_map_get shoal_tsan_map_get
#define shoal_map_insert shoal_tsan_map_insert
#define shoal_map_remove shoal_tsan_map_remove
#define shoal_map_take shoal_tsan_map_take
#define shoal_map_contains shoal_tsan_map_contains
#define shoal_map_compare_swap shoal_tsan_map_compare_swap
#define shoal_map_len shoal_tsan_map_len
#define shoal_map_clear shoal_tsan_map_clear
#define shoal_map_iter_new shoal_tsan_map_iter_new
#define shoal_map_iter_next shoal_tsan_map_iter_next
#define shoal_map_iter_free shoal_tsan_map_iter_free
#define shoal_map_version shoal_tsan_map_version
#define shoal_map_compare_swap_version shoal_tsan_map_compare_swap_version
#define shoal_map_add shoal_tsan_map_add
#define shoal_map_add_f64 shoal_tsan_map_add_f64
#define shoal_map_set_many shoal_tsan_map_set_many
#define shoal_map_get_many shoal_tsan_map_get_many
#define shoal_map_set_for shoal_tsan_map_set_for
#define shoal_map_expire shoal_tsan_map_expire
#define shoal_map_time_left shoal_tsan_map_time_left
#define shoal_map_purge shoal_tsan_map_purge
#define shoal_map_lock_key shoal_tsan_map_lock_key
#define shoal_map_unlock_key shoal_tsan_map_unlock_key
#define shoal_map_wait_change shoal_tsan_map_wait_change
#define shoal_map_wait_key shoal_tsan_map_wait_key
#define shoal_map_view shoal_tsan_map_view
#define shoal_map_view_end shoal_tsan_map_view_end
#define shoal_list_open shoal_tsan_list_open
#define shoal_list_free shoal_tsan_list_free
#define shoal_list_stat shoal_tsan_list_stat
#define shoal_list_append shoal_tsan_list_append
#define shoal_list_insert shoal_tsan_list_insert
#define shoal_list_get shoal_tsan_list_get
#define shoal_list_pop shoal_tsan_list_pop
#define shoal_list_set shoal_tsan_list_set
#define shoal_list_compare_swap shoal_tsan_list_compare_swap
#define shoal_list_swap shoal_tsan_list_swap
#define shoal_list_splice shoal_tsan_list_splice
#define shoal_list_get_many shoal_tsan_list_get_many
#define shoal_list_sort shoal_tsan_list_sort
#define shoal_list_reverse shoal_tsan_list_reverse
#define shoal_list_len shoal_tsan_list_len
#define shoal_list_clear shoal_tsan_list_clear
#define shoal_array_open shoal_tsan_array_open
#define shoal_array_free shoal_tsan_array_free
#define shoal_array_stat shoal_tsan_array_stat
#define shoal_array_data shoal_tsan_array_data
#define shoal_array_lock shoal_tsan_array_lock
#define shoal_array_unlock shoal_tsan_array_unlock
#define shoal_lock_open shoal_tsan_lock_open
#define shoal_lock_free shoal_tsan_lock_free
#define shoal_lock_stat shoal_tsan_lock_stat
#define shoal_lock_lock shoal_tsan_lock_lock
#define shoal_lock_unlock shoal_tsan_lock_unlock
#define shoal_rwlock_open shoal_tsan_rwlock_open
#define shoal_rwlock_free shoal_tsan_rwlock_free
#define shoal_rwlock_stat shoal_tsan_rwlock_stat
#define shoal_rwlock_lock_read shoal_tsan_rwlock_lock_read
#define shoal_rwlock_lock_write shoal_tsan_rwlock_lock_write
#define shoal_rwlock_unlock_read shoal_tsan_rwlock_unlock_read
#define shoal_rwlock_unlock_write shoal_tsan_rwlock_unlock_write
#define shoal_semaphore_open shoal_tsan_semaphore_open
#define shoal_semaphore_free shoal_tsan_semaphore_free
#define shoal_semaphore_stat shoal_tsan_semaphore_stat
#define shoal_semaphore_acquire shoal_tsan_semaphore_acquire
#define shoal_semaphore_release shoal_tsan_semaphore_release
#define shoal_event_open shoal_tsan_event_open
#define shoal_event_free shoal_tsan_event_free
#define shoal_event_set shoal_tsan_event_set
#define shoal_event_clear shoal_tsan_event_clear
#define shoal_event_is_set shoal_tsan_event_is_set
#define shoal_event_wait shoal_tsan_event_wait
#define shoal_condition_open shoal_tsan_condition_open
#define shoal_condition_free shoal_tsan_condition_free
#define shoal_condition_stat shoal_tsan_condition_stat
#define shoal_condition_wait shoal_tsan_condition_wait
#define shoal_condition_notify shoal_tsan_condition_notify
#define shoal_barrier_open shoal_tsan_barrier_open
#define shoal_barrier_free shoal_tsan_barrier_free
#define shoal_barrier_stat shoal_tsan_barrier_stat
#define shoal_barrier_wait shoal_tsan_barrier_wait
#define shoal_barrier_abort shoal_tsan_barrier_abort
#define shoal_barrier_reset shoal_tsan_barrier_reset
#define shoal_wait_any shoal_tsan_wait_any
#define shoal_device_resolve shoal_tsan_device_resolve
#define shoal_device_environment shoal_tsan_device_environment
#define shoal_device_visible shoal_tsan_device_visible
#define shoal_device_discover shoal_tsan_device_discover
#define shoal_device_set_visible shoal_tsan_device_set_visible
#define shoal_lease_acquire shoal_tsan_lease_acquire
#define shoal_lease_request shoal_tsan_lease_request
#define shoal_lease_wait shoal_tsan_lease_wait
#define shoal_lease_mask shoal_tsan_lease_mask
#define shoal_lease_id shoal_tsan_lease_id
#define shoal_lease_devices shoal_tsan_lease_devices
#define shoal_lease_environment shoal_tsan_lease_environment
#define shoal_lease_fd shoal_tsan_lease_fd
#define shoal_lease_keep_on_exec shoal_tsan_lease_keep_on_exec
#define shoal_lease_holders shoal_tsan_lease_holders
#define shoal_lease_free shoal_tsan_lease_free
#define shoal_process_spawn shoal_tsan_process_spawn
#define shoal_process_join shoal_tsan_process_join
#define shoal_process_pid shoal_tsan_process_pid
#define shoal_process_fd shoal_tsan_process_fd
#define shoal_process_signal shoal_tsan_process_signal
#define shoal_process_stdio shoal_tsan_process_stdio
#define shoal_process_free shoal_tsan_process_free
#define shoal_supervisor_start shoal_tsan_supervisor_start
#define shoal_supervisor_wait shoal_tsan_supervisor_wait
#define shoal_supervisor_stop shoal_tsan_supervisor_stop
#define shoal_supervisor_begin_stop shoal_tsan_supervisor_begin_stop
#define shoal_supervisor_signal shoal_tsan_supervisor_signal
#define shoal_supervisor_worker shoal_tsan_supervisor_worker
#define shoal_supervisor_event shoal_tsan_supervisor_event
#define shoal_supervisor_free shoal_tsan_supervisor_free
#define shoal_lease_pass_to_forks shoal_tsan_lease_pass_to_forks
#define shoal_pipe_hold shoal_tsan_pipe_hold
#define shoal_pipe_drop_hold shoal_tsan_pipe_drop_hold
#define shoal_map_get_watched shoal_tsan_map_get_watched
#define shoal_map_last_key shoal_tsan_map_last_key
#define shoal_list_splice_if shoal_tsan_list_splice_if
#define shoal_list_rearrange_if shoal_tsan_list_rearrange_if
#define shoal_list_rearrange_same shoal_tsan_list_rearrange_same
#define shoal_lock_try shoal_tsan_lock_try
#define shoal_lock_unlock_any shoal_tsan_lock_unlock_any
#define shoal_lock_depth shoal_tsan_lock_depth
#define shoal_semaphore_try_acquire shoal_tsan_semaphore_try_acquire
#define shoal_semaphore_try_release shoal_tsan_semaphore_try_release
#define shoal_semaphore_try_value shoal_tsan_semaphore_try_value
#define shoal_semaphore_keep shoal_tsan_semaphore_keep
#define shoal_condition_enlist shoal_tsan_condition_enlist
#define shoal_condition_sleep shoal_tsan_condition_sleep
#define shoal_condition_leave shoal_tsan_condition_leave
#define shoal_barrier_arrive shoal_tsan_barrier_arrive
#define shoal_barrier_pass shoal_tsan_barrier_pass
#define shoal_barrier_sleep shoal_tsan_barrier_sleep
#define shoal_barrier_leave shoal_tsan_barrier_leave
#define shoal_barrier_give_up shoal_tsan_barrier_give_up
#define shoal_queue_try_put shoal_tsan_queue_try_put
#define shoal_queue_try_get shoal_tsan_queue_try_get

#endif /* SHOAL_TSAN_H */
