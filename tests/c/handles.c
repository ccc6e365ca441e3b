/* Invalid handles: NULL, misaligned, of another kind, freed, and pointers to other memory. */

#include "check.h"

#include <signal.h>

static char buf[64];
static size_t len, n;
static uint64_t number;
static int64_t sum;
static int32_t pid;
static int fd;
static bool flag;
static shoal_exit end;
static shoal_map_iter *new_iter;
static const void *key, *value;
static size_t key_len, value_len;
static const shoal_slice item = {"x", 1};
static shoal_slice found;
static shoal_view view;

/* Every function of a queue, on a handle of no queue. */
static void no_queue(shoal_queue *q, const char *why)
{
    SAYS(SHOAL_ERR_INVALID, why, shoal_queue_put(q, "x", 1, SHOAL_NOWAIT));
    SAYS(SHOAL_ERR_INVALID, why, shoal_queue_put_many(q, &item, 1, SHOAL_NOWAIT, &n));
    SAYS(SHOAL_ERR_INVALID, why, shoal_queue_get(q, SHOAL_NOWAIT, buf, sizeof buf, &len));
    SAYS(SHOAL_ERR_INVALID, why, shoal_queue_peek(q, 0, buf, sizeof buf, &len));
    SAYS(SHOAL_ERR_INVALID, why,
         shoal_queue_get_many(q, SHOAL_NOWAIT, buf, sizeof buf, &len, 1, &n));
    SAYS(SHOAL_ERR_INVALID, why, shoal_queue_len(q, &number));
    SAYS(SHOAL_ERR_INVALID, why, shoal_queue_stat(q, &(shoal_queue_stats){.size = sizeof(shoal_queue_stats)}));
    SAYS(SHOAL_ERR_INVALID, why, shoal_queue_close(q));
    SAYS(SHOAL_ERR_INVALID, why, shoal_queue_fd(q, &fd));
    SAYS(SHOAL_ERR_INVALID, why,
         shoal_wait_any(&(shoal_waitable){.queue = q, .fd = -1}, 1, SHOAL_NOWAIT, &n));
}

static void no_map(shoal_map *m, const char *why)
{
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_set(m, "k", 1, "v", 1));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_get(m, "k", 1, buf, sizeof buf, &len, NULL));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_insert(m, "k", 1, "v", 1, &flag));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_remove(m, "k", 1));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_take(m, "k", 1, buf, sizeof buf, &len));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_contains(m, "k", 1, &flag));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_add(m, "k", 1, 1, &sum));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_compare_swap(m, "k", 1, NULL, 0, "v", 1, &flag));
    SAYS(SHOAL_ERR_INVALID, why,
         shoal_map_get(m, "k", 1, buf, sizeof buf, &len, &number));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_version(m, "k", 1, &number));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_compare_swap_version(m, "k", 1, 0, "v", 1, &flag));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_add_f64(m, "k", 1, 1.0, NULL));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_set_many(m, &item, &item, 1));
    SAYS(SHOAL_ERR_INVALID, why,
         shoal_map_get_many(m, &item, 1, buf, sizeof buf, &len, &found));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_set_for(m, "k", 1, "v", 1, 1));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_expire(m, "k", 1, 1));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_time_left(m, "k", 1, &sum));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_purge(m, NULL));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_lock_key(m, "k", 1, SHOAL_NOWAIT, NULL));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_unlock_key(m, "k", 1));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_stat(m, &(shoal_map_stats){.size = sizeof(shoal_map_stats)}));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_wait_change(m, 0, SHOAL_NOWAIT, &number));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_wait_key(m, "k", 1, 1, SHOAL_NOWAIT, &number));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_view(m, "k", 1, &view));
    view.data = buf;
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_view_end(m, &view));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_len(m, &number));
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_clear(m));
    new_iter = (shoal_map_iter *)&number;
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_iter_new(m, &new_iter));
    CHECK(new_iter == NULL);
}

static void no_iter(shoal_map_iter *it, const char *why)
{
    SAYS(SHOAL_ERR_INVALID, why, shoal_map_iter_next(it, &key, &key_len, &value, &value_len));
}

static void no_process(shoal_process *p, const char *why)
{
    SAYS(SHOAL_ERR_INVALID, why, shoal_process_join(p, SHOAL_NOWAIT, &end));
    SAYS(SHOAL_ERR_INVALID, why, shoal_process_pid(p, &pid));
    SAYS(SHOAL_ERR_INVALID, why, shoal_process_fd(p, &fd));
    SAYS(SHOAL_ERR_INVALID, why, shoal_process_signal(p, 0, false));
    SAYS(SHOAL_ERR_INVALID, why, shoal_process_signal(p, 0, true));
    SAYS(SHOAL_ERR_INVALID, why, shoal_process_signal(p, SIGTERM, false));
    SAYS(SHOAL_ERR_INVALID, why, shoal_process_signal(p, SIGKILL, false));
    SAYS(SHOAL_ERR_INVALID, why, shoal_process_stdio(p, 0, &fd));
    SAYS(SHOAL_ERR_INVALID, why,
         shoal_wait_any(&(shoal_waitable){.process = p, .fd = -1}, 1, SHOAL_NOWAIT, &n));
}

/* A pointer to other memory, as each kind of handle. Freeing it does nothing. */
static void nothing(void *p, const char *why)
{
    no_queue(p, why);
    no_map(p, why);
    no_iter(p, why);
    no_process(p, why);
    CHECK(shoal_name(p) == NULL);
    SAYS(SHOAL_ERR_INVALID, why, shoal_end_waits(p));
    shoal_queue_free(p);
    shoal_map_free(p);
    shoal_map_iter_free(p);
    shoal_process_free(p);
}

static int quit(void *arg)
{
    (void)arg;
    return 7;
}

int main(void)
{
    uint64_t zeros[32] = {0};
    shoal_queue *q = new_queue(), *later[10];
    shoal_map *m = new_map();
    shoal_map_iter *it;
    shoal_process *p;
    shoal_list_options how = {.size = sizeof how, .flags = SHOAL_CREATE};
    shoal_list *l;

    OK(shoal_map_iter_new(m, &it));
    OK(shoal_list_open(NULL, &how, &l, NULL));
    OK(shoal_process_fork(quit, NULL, NULL, &p));

    CHECK(strncmp(shoal_name(q), shoal_name(m), 1) == 0 && shoal_name(l) != NULL);
    CHECK(shoal_name(p) == NULL && shoal_name(it) == NULL);
    nothing(NULL, "NULL");
    nothing((char *)zeros + 1, "not aligned");
    nothing((char *)q + 4, "not aligned");
    nothing(zeros, "no handle of this library");

    /* One kind of handle as another. */
    no_map((shoal_map *)q, "it is a queue handle");
    no_iter((shoal_map_iter *)q, "it is a queue handle");
    no_process((shoal_process *)q, "it is a queue handle");
    no_queue((shoal_queue *)m, "it is a map handle");
    no_queue((shoal_queue *)it, "it is a map iterator handle");
    no_map((shoal_map *)p, "it is a process handle");
    no_queue((shoal_queue *)l, "it is a list handle");
    shoal_list_free(l);
    shoal_map_free((shoal_map *)q); /* no effect */
    OK(shoal_queue_put(q, "still here", 10, SHOAL_NOWAIT));

    /* An iterator outlives the handle of its map. */
    OK(shoal_map_set(m, "k", 1, "v", 1));
    shoal_map_free(m);
    no_map(m, "it was freed");
    OK(shoal_map_iter_next(it, &key, &key_len, &value, &value_len));
    CHECK(key_len == 1 && *(const char *)key == 'k');
    GIVES(SHOAL_ERR_END, shoal_map_iter_next(it, &key, &key_len, &value, &value_len));
    shoal_map_iter_free(it);
    no_iter(it, "it was freed");

    OK(shoal_process_join(p, SHOAL_FOREVER, &end));
    CHECK(end.kind == SHOAL_EXIT_EXITED && end.code == 7);
    shoal_process_free(p);
    no_process(p, "it was freed");

    /* Freed handles are recognised for a while, whatever is opened meanwhile; and freeing twice
       does nothing then. Later the place is used again: that cannot be told. */
    shoal_queue_free(q);
    no_queue(q, "it was freed");
    for (int i = 0; i < 10; i++)
        later[i] = new_queue();
    shoal_queue_free(q);
    no_queue(q, "it was freed");
    for (int i = 0; i < 10; i++) {
        OK(shoal_queue_put(later[i], "x", 1, SHOAL_NOWAIT));
        shoal_queue_free(later[i]);
    }
    /* Slots are reused, so that repeated opening and freeing takes no memory. */
    shoal_queue *first = q;
    bool again = false;
    for (int i = 0; i < 200 && !again; i++) {
        q = new_queue();
        again = q == first;
        shoal_queue_free(q);
    }
    CHECK(again);
    puts("handles: ok");
    return 0;
}
