/*
 * One small function for each thing that queues, pipes, maps and lists do, and a main that runs them all. The
 * pages of the manual show them: a title, and the function under it.
 *
 *     cc -std=c99 examples/c/manual_objects.c $(pkg-config --cflags --libs shoal)
 */

#define _POSIX_C_SOURCE 200809L

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <shoal_bindings.h>

#define CLAIM(condition)                                                         \
    do {                                                                         \
        if (!(condition)) {                                                      \
            fprintf(stderr, "%s:%d: false: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                             \
        }                                                                        \
    } while (0)

#define TRY(call)                                                                \
    do {                                                                         \
        if ((call) != SHOAL_OK) {                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, shoal_last_error()); \
            exit(1);                                                             \
        }                                                                        \
    } while (0)

#define SECOND INT64_C(1000000000)

/* The versions of the header and of the library that is loaded, and the name of a status. */
static void tell_versions(void)
{
    printf("built with %s, runs with %s\n", SHOAL_VERSION, shoal_version());
    if (shoal_abi_version() != SHOAL_ABI_VERSION)
        fprintf(stderr, "this program needs another libshoal\n");
    printf("status 8 is %s\n", shoal_status_name(8));
}

/* A queue with a name, which another process opens. */
static void pass_a_name(void)
{
    shoal_queue *mine, *theirs;
    TRY(shoal_queue_open(NULL, NULL, &mine, NULL));
    const char *name = shoal_name(mine);
    TRY(shoal_queue_open(name, NULL, &theirs, NULL)); /* in the other process */
    TRY(shoal_unlink(name, SHOAL_KIND_QUEUE));        /* from now on no process finds it */
    shoal_queue_free(theirs);
    shoal_queue_free(mine);
}

/* Objects of killed processes are removed now, not when memory runs out. */
static void clean_up(void)
{
    size_t removed;
    TRY(shoal_gc(&removed));
    printf("%zu objects of dead processes\n", removed);
}

/* No more messages can be put; those that are there can still be got. */
static void close_a_queue(void)
{
    shoal_queue *q;
    char buf[64];
    size_t len;
    TRY(shoal_queue_open(NULL, NULL, &q, NULL));
    TRY(shoal_queue_put(q, "last", 4, SHOAL_FOREVER));
    TRY(shoal_queue_close(q));
    TRY(shoal_queue_get(q, SHOAL_FOREVER, buf, sizeof buf, &len));
    CLAIM(shoal_queue_get(q, SHOAL_FOREVER, buf, sizeof buf, &len) == SHOAL_ERR_CLOSED);
    shoal_queue_free(q);
}

/* Many messages with one call for each side. */
static void put_and_get_many(shoal_queue *q)
{
    shoal_slice items[2] = {{"resize", 6}, {"rotate", 6}};
    char buf[64];
    size_t done, n, lens[8];
    uint64_t waiting;
    TRY(shoal_queue_put_many(q, items, 2, SHOAL_FOREVER, &done));
    TRY(shoal_queue_len(q, &waiting));
    TRY(shoal_queue_get_many(q, SHOAL_FOREVER, buf, sizeof buf, lens, 8, &n));
    for (size_t i = 0, at = 0; i < n; at += lens[i++])
        printf("%.*s\n", (int)lens[i], buf + at);
}

/* The next message, without taking it, and the number of those behind it. */
static void look_into(shoal_queue *q)
{
    shoal_queue_stats stats = {.size = sizeof stats};
    char buf[64];
    size_t len;
    if (shoal_queue_peek(q, 0, buf, sizeof buf, &len) == SHOAL_OK)
        printf("next is %.*s\n", (int)len, buf);
    TRY(shoal_queue_stat(q, &stats));
    printf("%llu messages wait, %llu bytes\n", (unsigned long long)stats.len,
           (unsigned long long)stats.bytes);
}

/* A reservation that is discarded. */
static void discard_a_reservation(shoal_queue *q)
{
    shoal_message frame;
    TRY(shoal_queue_reserve(q, 1 << 20, SHOAL_FOREVER, &frame));
    TRY(shoal_queue_discard(q, &frame));
}

/* Work that takes longer than expected; the producer waits until all of it is done. */
static void take_longer(shoal_queue *q)
{
    shoal_message job;
    TRY(shoal_queue_put(q, "long", 4, SHOAL_FOREVER));
    TRY(shoal_queue_lease(q, 10 * SECOND, SHOAL_FOREVER, &job));
    TRY(shoal_queue_extend(q, &job, 60 * SECOND));
    TRY(shoal_queue_ack(q, &job));
    TRY(shoal_queue_join(q, SHOAL_FOREVER));
}

/* A message that no worker can process ends in the queue of dead letters. */
static void reach_the_dead_letters(void)
{
    shoal_queue_options options = {.size = sizeof options, .flags = SHOAL_CREATE, .max_attempts = 1};
    shoal_queue *jobs, *dead;
    shoal_message job;
    char buf[64];
    size_t len;
    TRY(shoal_queue_open(NULL, &options, &jobs, NULL));
    TRY(shoal_queue_put(jobs, "poison", 6, SHOAL_FOREVER));
    TRY(shoal_queue_lease(jobs, SHOAL_FOREVER, SHOAL_FOREVER, &job));
    TRY(shoal_queue_nack(jobs, &job, 0));
    CLAIM(shoal_queue_lease(jobs, SHOAL_FOREVER, SHOAL_NOWAIT, &job) == SHOAL_ERR_TIMEOUT);
    TRY(shoal_queue_dead_letters(jobs, &dead));
    TRY(shoal_queue_get(dead, SHOAL_NOWAIT, buf, sizeof buf, &len));
    shoal_queue_free(dead);
    shoal_queue_free(jobs);
}

/* In a binding: try with the GIL held, and wait only without it. */
static void without_waiting(shoal_queue *q)
{
    char buf[64];
    size_t len;
    if (shoal_queue_try_put(q, "tick", 4) == SHOAL_ERR_TIMEOUT)
        TRY(shoal_queue_put(q, "tick", 4, SHOAL_FOREVER));
    if (shoal_queue_try_get(q, buf, sizeof buf, &len) == SHOAL_ERR_TIMEOUT)
        TRY(shoal_queue_get(q, SHOAL_FOREVER, buf, sizeof buf, &len));
}

/* A question and its answer between a parent and the child that it forks. */
static int answer(void *end)
{
    char buf[64];
    size_t len;
    TRY(shoal_pipe_recv(end, SHOAL_FOREVER, buf, sizeof buf, &len));
    TRY(shoal_pipe_send(end, "42", 2, SHOAL_FOREVER));
    shoal_pipe_free(end);
    return 0;
}

/* A pipe to a forked child; each side frees the end of the other. */
static void ask_a_child(void)
{
    shoal_pipe *mine, *theirs;
    shoal_process *child;
    shoal_exit end;
    char buf[64];
    size_t len;
    bool ready;
    TRY(shoal_pipe_pair(NULL, &mine, &theirs));
    TRY(shoal_process_fork(answer, theirs, NULL, &child));
    shoal_pipe_free(theirs);
    TRY(shoal_pipe_send(mine, "?", 1, SHOAL_FOREVER));
    TRY(shoal_pipe_poll(mine, 10 * SECOND, &ready));
    if (ready)
        TRY(shoal_pipe_recv(mine, SHOAL_FOREVER, buf, sizeof buf, &len));
    TRY(shoal_process_join(child, SHOAL_FOREVER, &end));
    CLAIM(end.code == 0 && len == 2);
    shoal_process_free(child);
    shoal_pipe_free(mine);
}

/* Messages of a pipe that are written and read in place. */
static void send_in_place(shoal_pipe *first, shoal_pipe *second)
{
    shoal_pipe_stats stats = {.size = sizeof stats};
    shoal_message message;
    int fd;
    TRY(shoal_pipe_reserve(second, 4096, SHOAL_FOREVER, &message));
    TRY(shoal_pipe_discard(second, &message));
    TRY(shoal_pipe_reserve(second, 4096, SHOAL_FOREVER, &message));
    memset(message.data, 0, message.len);
    TRY(shoal_pipe_commit(second, &message, 100));
    TRY(shoal_pipe_fd(first, &fd)); /* readable now, for poll */
    TRY(shoal_pipe_stat(first, &stats));
    CLAIM(stats.len == 1 && stats.bytes == 100);
    TRY(shoal_pipe_lease(first, SHOAL_FOREVER, &message));
    TRY(shoal_pipe_nack(first, &message, 0)); /* it is delivered again */
    TRY(shoal_pipe_lease(first, SHOAL_FOREVER, &message));
    TRY(shoal_pipe_ack(first, &message));
}

/* An end on its way to a process that has not opened it yet stays held by a descriptor. */
static void pass_an_end(shoal_pipe *p)
{
    int fd;
    TRY(shoal_pipe_hold(p, &fd)); /* send it by SCM_RIGHTS */
    TRY(shoal_pipe_drop_hold(shoal_name(p), fd));
}

/* A map as a dictionary. */
static void use_as_dictionary(shoal_map *m)
{
    char buf[64];
    size_t len;
    bool inserted, there;
    uint64_t keys;
    TRY(shoal_map_set(m, "ada", 3, "1815", 4));
    TRY(shoal_map_insert(m, "ada", 3, "1816", 4, &inserted)); /* keeps a present value */
    TRY(shoal_map_contains(m, "bea", 3, &there));
    TRY(shoal_map_get(m, "ada", 3, buf, sizeof buf, &len, NULL));
    CLAIM(!inserted && !there && memcmp(buf, "1815", 4) == 0);
    TRY(shoal_map_take(m, "ada", 3, buf, sizeof buf, &len)); /* get and remove in one */
    if (shoal_map_remove(m, "ada", 3) == SHOAL_ERR_NOT_FOUND)
        puts("removed already");
    TRY(shoal_map_len(m, &keys));
    CLAIM(keys == 0);
}

/* A change that counts only if no other process made one in between. */
static void change_by_value(shoal_map *m)
{
    bool swapped;
    TRY(shoal_map_set(m, "state", 5, "idle", 4));
    TRY(shoal_map_compare_swap(m, "state", 5, "idle", 4, "busy", 4, &swapped));
    if (!swapped)
        puts("another process was faster");
}

/* The same by version: also for a large value, and for one that was changed and changed back. */
static void change_by_version(shoal_map *m)
{
    char value[64];
    size_t len;
    uint64_t version;
    bool swapped;
    do {
        TRY(shoal_map_get(m, "state", 5, value, sizeof value, &len, &version));
        value[0] = '+';
        TRY(shoal_map_compare_swap_version(m, "state", 5, version, value, len, &swapped));
    } while (!swapped);
}

/* A sum of doubles that several processes add to. */
static void add_doubles(shoal_map *m)
{
    double sum;
    TRY(shoal_map_add_f64(m, "seconds", 7, 0.25, &sum));
    printf("%g seconds in all\n", sum);
}

/* Many keys with one call. */
static void set_and_get_many(shoal_map *m)
{
    shoal_slice keys[2] = {{"a", 1}, {"b", 1}}, values[2] = {{"one", 3}, {"two", 3}};
    char buf[64];
    size_t len;
    TRY(shoal_map_set_many(m, keys, values, 2));
    TRY(shoal_map_get_many(m, keys, 2, buf, sizeof buf, &len, values));
    for (int i = 0; i < 2; i++)
        if (values[i].data != NULL)
            printf("%.*s\n", (int)values[i].len, (const char *)values[i].data);
}

/* Keys that live for a while, and a map that is emptied. */
static void let_keys_expire(shoal_map *m)
{
    shoal_map_stats stats = {.size = sizeof stats};
    int64_t left;
    uint64_t removed, version;
    TRY(shoal_map_set_for(m, "visitor", 7, "1", 1, 60 * SECOND));
    TRY(shoal_map_time_left(m, "visitor", 7, &left));
    TRY(shoal_map_expire(m, "visitor", 7, 1)); /* in a nanosecond */
    TRY(shoal_map_version(m, "visitor", 7, &version));
    while (version != 0)
        TRY(shoal_map_wait_key(m, "visitor", 7, version, SHOAL_FOREVER, &version));
    TRY(shoal_map_purge(m, &removed));
    TRY(shoal_map_clear(m));
    TRY(shoal_map_stat(m, &stats));
    CLAIM(stats.len == 0);
}

/* Waiting for any change of a map: read it, then wait for a later change. */
static void watch(shoal_map *m)
{
    shoal_map_stats stats = {.size = sizeof stats};
    uint64_t now;
    TRY(shoal_map_stat(m, &stats));
    if (shoal_map_wait_change(m, stats.changes, SECOND / 100, &now) == SHOAL_ERR_TIMEOUT)
        puts("nothing changed");
}

/* In a binding: removes the keys of a map in the order opposite to that of their insertion. */
static void pop_items(void)
{
    shoal_map_options options = {.size = sizeof options, .flags = SHOAL_ORDERED};
    char key[64];
    size_t len;
    shoal_map *m;
    TRY(shoal_map_open(NULL, &options, &m, NULL));
    TRY(shoal_map_set(m, "ada", 3, "1815", 4));
    TRY(shoal_map_set(m, "bea", 3, "1820", 4));
    while (shoal_map_last_key(m, key, sizeof key, &len) == SHOAL_OK)
        TRY(shoal_map_remove(m, key, len));
    shoal_map_free(m);
}

/* A list as an array of strings. */
static void edit_a_list(shoal_list *l)
{
    char buf[64];
    size_t len;
    uint64_t n;
    bool swapped;
    TRY(shoal_list_append(l, "bea", 3));
    TRY(shoal_list_insert(l, 0, "ada", 3));
    TRY(shoal_list_set(l, -1, "cleo", 4));
    TRY(shoal_list_compare_swap(l, 1, "cleo", 4, "dora", 4, &swapped));
    TRY(shoal_list_swap(l, 0, 1));
    TRY(shoal_list_len(l, &n));
    TRY(shoal_list_get(l, 0, buf, sizeof buf, &len));
    CLAIM(n == 2 && swapped && memcmp(buf, "dora", 4) == 0);
    TRY(shoal_list_pop(l, -1, buf, sizeof buf, &len));
    TRY(shoal_list_clear(l));
}

/* Longer elements first. */
static int by_length(const void *a, size_t a_len, const void *b, size_t b_len, void *arg)
{
    (void)a, (void)b, (void)arg;
    return a_len < b_len ? 1 : a_len > b_len ? -1 : 0;
}

/* Several elements at once: replaced, sorted, reversed, and read at one moment. */
static void rearrange_a_list(shoal_list *l)
{
    shoal_slice items[3] = {{"a", 1}, {"ccc", 3}, {"bb", 2}};
    shoal_list_stats stats = {.size = sizeof stats};
    char buf[64];
    size_t lens[8], n;
    uint64_t version;
    TRY(shoal_list_splice(l, 0, INT64_MAX, items, 3)); /* the whole list */
    TRY(shoal_list_sort(l, by_length, NULL));
    TRY(shoal_list_reverse(l));
    TRY(shoal_list_get_many(l, 0, buf, sizeof buf, lens, 8, &n, &version));
    CLAIM(n == 3 && memcmp(buf, "abbccc", 6) == 0);
    TRY(shoal_list_stat(l, &stats));
    CLAIM(stats.version == version);
}

/* A change of many elements that fails if the list was changed since it was read. */
static void rearrange_if_unchanged(shoal_list *l)
{
    const uint64_t order[2] = {1, 0};
    shoal_slice item = {"end", 3};
    char buf[64];
    size_t lens[8], n;
    uint64_t version;
    bool done;
    TRY(shoal_list_get_many(l, 0, buf, sizeof buf, lens, 8, &n, &version));
    TRY(shoal_list_rearrange_if(l, version, order, 2, &done)); /* keeps the first two */
    CLAIM(done);
    TRY(shoal_list_splice_if(l, version, INT64_MAX, INT64_MAX, &item, 1, &done));
    CLAIM(!done); /* the list has another version now */
    const shoal_slice last = {buf + lens[0], lens[1]}; /* the second element is the first one now */
    const uint64_t none[1] = {0};
    TRY(shoal_list_rearrange_same(l, &last, 1, none, 0, &done)); /* removes it, if it still is the first */
    CLAIM(done);
}

int main(void)
{
    shoal_queue *q;
    shoal_pipe *first, *second;
    shoal_map *m;
    shoal_list *l;

    tell_versions();
    pass_a_name();
    clean_up();

    TRY(shoal_queue_open(NULL, NULL, &q, NULL));
    close_a_queue();
    put_and_get_many(q);
    without_waiting(q);
    look_into(q);
    discard_a_reservation(q);
    take_longer(q);
    reach_the_dead_letters();
    shoal_queue_free(q);

    ask_a_child();
    TRY(shoal_pipe_pair(NULL, &first, &second));
    send_in_place(first, second);
    pass_an_end(first);
    shoal_pipe_free(second);
    shoal_pipe_free(first);

    TRY(shoal_map_open(NULL, NULL, &m, NULL));
    use_as_dictionary(m);
    change_by_value(m);
    change_by_version(m);
    add_doubles(m);
    set_and_get_many(m);
    let_keys_expire(m);
    watch(m);
    shoal_map_free(m);
    pop_items();

    TRY(shoal_list_open(NULL, NULL, &l, NULL));
    edit_a_list(l);
    rearrange_a_list(l);
    rearrange_if_unchanged(l);
    shoal_list_free(l);

    puts("all of it works");
    return 0;
}
