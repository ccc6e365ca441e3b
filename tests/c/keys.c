/* The promises of the functions of a map about versions, expiry, locks, views and changes. */

#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

static void versions(shoal_map *m)
{
    char buf[16];
    size_t len = 0;
    uint64_t first = 0, second = 0, none = 1;
    double sum = 0;
    bool yes;

    OK(shoal_map_version(m, "k", 1, &none));
    CHECK(none == 0);
    SAYS(SHOAL_ERR_NOT_FOUND, "\"k\"",
         shoal_map_get(m, "k", 1, buf, sizeof buf, &len, &first));
    OK(shoal_map_compare_swap_version(m, "k", 1, 0, "one", 3, &yes));
    CHECK(yes);
    OK(shoal_map_get(m, "k", 1, buf, sizeof buf, &len, &first));
    CHECK(len == 3 && memcmp(buf, "one", 3) == 0 && first > 0);
    GIVES(SHOAL_ERR_BUFFER_TOO_SMALL,
          shoal_map_get(m, "k", 1, buf, 1, &len, &second));
    CHECK(len == 3);
    OK(shoal_map_set(m, "k", 1, "one", 3));
    OK(shoal_map_version(m, "k", 1, &second));
    CHECK(second > first);
    OK(shoal_map_compare_swap_version(m, "k", 1, first, "two", 3, &yes));
    CHECK(!yes);
    OK(shoal_map_compare_swap_version(m, "k", 1, second, NULL, 0, &yes));
    CHECK(yes);
    OK(shoal_map_contains(m, "k", 1, &yes));
    CHECK(!yes);

    OK(shoal_map_add_f64(m, "x", 1, 1.5, NULL));
    OK(shoal_map_add_f64(m, "x", 1, 1.0, &sum));
    CHECK(sum == 2.5);
    OK(shoal_map_set(m, "x", 1, "text", 4));
    SAYS(SHOAL_ERR_INVALID, "8", shoal_map_add_f64(m, "x", 1, 1.0, &sum));
}

static void many(shoal_map *m)
{
    shoal_slice keys[4] = {{"a", 1}, {"b", 1}, {"none", 4}, {"empty", 5}};
    shoal_slice values[4] = {{"first", 5}, {"second", 6}, {"", 0}, {"", 0}};
    shoal_slice found[4];
    char buf[64];
    size_t len = 0;

    OK(shoal_map_set_many(m, keys, values, 2));
    OK(shoal_map_set_many(m, keys + 3, values + 3, 1));
    OK(shoal_map_set_many(m, NULL, NULL, 0));
    GIVES(SHOAL_ERR_BUFFER_TOO_SMALL, shoal_map_get_many(m, keys, 4, buf, 10, &len, found));
    CHECK(len == 11);
    OK(shoal_map_get_many(m, keys, 4, buf, sizeof buf, &len, found));
    CHECK(len == 11);
    CHECK(found[0].len == 5 && memcmp(found[0].data, "first", 5) == 0);
    CHECK(found[1].len == 6 && memcmp(found[1].data, "second", 6) == 0);
    CHECK(found[2].data == NULL && found[2].len == 0);
    CHECK(found[3].data != NULL && found[3].len == 0);
    GIVES(SHOAL_ERR_INVALID, shoal_map_set_many(m, keys, NULL, 2));
}

static void times(shoal_map *m)
{
    int64_t left = 0;
    uint64_t purged = 9;
    bool yes;

    OK(shoal_map_set_for(m, "t", 1, "v", 1, 1000 * SECOND));
    OK(shoal_map_time_left(m, "t", 1, &left));
    CHECK(left > 500 * SECOND && left <= 1000 * SECOND);
    OK(shoal_map_expire(m, "t", 1, SHOAL_FOREVER));
    OK(shoal_map_time_left(m, "t", 1, &left));
    CHECK(left == SHOAL_FOREVER);
    OK(shoal_map_expire(m, "t", 1, 0));
    OK(shoal_map_contains(m, "t", 1, &yes));
    CHECK(!yes);
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_map_expire(m, "t", 1, SECOND));
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_map_time_left(m, "t", 1, &left));
    OK(shoal_map_purge(m, &purged));
    /* Changes of nearby keys may have removed it already. */
    CHECK(purged <= 1);
    OK(shoal_map_purge(m, NULL));
}

static void locks(shoal_map *m)
{
    int status;

    LOCKS(false, shoal_map_lock_key, m, "l", 1, SHOAL_FOREVER);
    SAYS(SHOAL_ERR_INVALID, "already", shoal_map_lock_key(m, "l", 1, SHOAL_FOREVER, NULL));
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        GIVES(SHOAL_ERR_TIMEOUT, shoal_map_lock_key(m, "l", 1, SHOAL_NOWAIT, NULL));
        GIVES(SHOAL_ERR_INVALID, shoal_map_unlock_key(m, "l", 1));
        LOCKS(false, shoal_map_lock_key, m, "left", 4, SHOAL_NOWAIT);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    OK(shoal_map_unlock_key(m, "l", 1));
    SAYS(SHOAL_ERR_INVALID, "not locked", shoal_map_unlock_key(m, "l", 1));
    LOCKS(true, shoal_map_lock_key, m, "left", 4, SHOAL_FOREVER);
    OK(shoal_map_unlock_key(m, "left", 4));
    LOCKS(false, shoal_map_lock_key, m, "left", 4, SHOAL_NOWAIT);
    OK(shoal_map_unlock_key(m, "left", 4));
}

static void views(shoal_map *m)
{
    shoal_view view, twice;
    uint64_t version = 0;

    OK(shoal_map_set(m, "v", 1, "in place", 8));
    OK(shoal_map_version(m, "v", 1, &version));
    OK(shoal_map_view(m, "v", 1, &view));
    CHECK(view.len == 8 && view.version == version);
    OK(shoal_map_set(m, "v", 1, "replaced", 8));
    CHECK(memcmp(view.data, "in place", 8) == 0);
    twice = view;
    OK(shoal_map_view_end(m, &view));
    CHECK(view.data == NULL && view.len == 0);
    SAYS(SHOAL_ERR_INVALID, "ended before", shoal_map_view_end(m, &view));
    GIVES(SHOAL_ERR_INVALID, shoal_map_view_end(m, &twice));
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_map_view(m, "none", 4, &view));
    CHECK(view.data == NULL);
}

/* Ended through a copy, the view of the same value that began later would be overwritten by the next sets. */
static void a_copy_of_an_ended_view_ends_no_later_one(shoal_map *m)
{
    shoal_view view, copy, later;

    OK(shoal_map_set(m, "v", 1, "in place", 8));
    OK(shoal_map_view(m, "v", 1, &view));
    copy = view;
    OK(shoal_map_view_end(m, &view));
    OK(shoal_map_view(m, "v", 1, &later));
    SAYS(SHOAL_ERR_INVALID, "ended before", shoal_map_view_end(m, &copy));
    for (int i = 0; i < 20; i++)
        OK(shoal_map_set(m, "v", 1, "replaced", 8));
    CHECK(memcmp(later.data, "in place", 8) == 0);
    OK(shoal_map_view_end(m, &later));
    OK(shoal_map_remove(m, "v", 1));
}

static void changes(shoal_map *m)
{
    uint64_t before = 0, now = 0;

    before = map_stats(m).changes;
    GIVES(SHOAL_ERR_TIMEOUT, shoal_map_wait_change(m, before, 1000, &now));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_map_wait_key(m, "w", 1, 0, SHOAL_NOWAIT, &now));
    OK(shoal_map_set(m, "w", 1, "v", 1));
    OK(shoal_map_wait_change(m, before, SHOAL_NOWAIT, &now));
    CHECK(now > before);
    OK(shoal_map_wait_key(m, "w", 1, 0, SHOAL_FOREVER, &now));
    OK(shoal_map_version(m, "w", 1, &before));
    CHECK(now == before);
    OK(shoal_map_remove(m, "w", 1));
    OK(shoal_map_wait_key(m, "w", 1, before, SHOAL_FOREVER, &now));
    CHECK(now == 0);
}

static void copies(shoal_map *m)
{
    shoal_watched limit;
    char value[8];
    size_t len = 0;

    SAYS(SHOAL_ERR_NOT_FOUND, "limit",
         shoal_map_get_watched(m, "limit", 5, value, sizeof value, &len, &limit));
    CHECK(limit.word == NULL);
    OK(shoal_map_set(m, "limit", 5, "7", 1));
    GIVES(SHOAL_ERR_BUFFER_TOO_SMALL, shoal_map_get_watched(m, "limit", 5, NULL, 0, &len, &limit));
    CHECK(len == 1 && limit.word == NULL);
    OK(shoal_map_get_watched(m, "limit", 5, value, sizeof value, &len, &limit));
    CHECK(len == 1 && value[0] == '7' && *limit.word == limit.seen);
    OK(shoal_map_get(m, "limit", 5, value, sizeof value, &len, NULL));
    CHECK(*limit.word == limit.seen);
    OK(shoal_map_set(m, "limit", 5, "8", 1));
    CHECK(*limit.word != limit.seen);
    OK(shoal_map_set_for(m, "limit", 5, "9", 1, 1000000000000));
    OK(shoal_map_get_watched(m, "limit", 5, value, sizeof value, &len, &limit));
    CHECK(value[0] == '9' && limit.word == NULL);
    GIVES(SHOAL_ERR_INVALID, shoal_map_get_watched(m, "limit", 5, value, 8, &len, NULL));
    OK(shoal_map_remove(m, "limit", 5));
}

int main(void)
{
    shoal_map *m = new_map();
    versions(m);
    copies(m);
    many(m);
    times(m);
    locks(m);
    views(m);
    a_copy_of_an_ended_view_ends_no_later_one(m);
    changes(m);
    shoal_map_free(m);
    puts("keys: ok");
    return 0;
}
