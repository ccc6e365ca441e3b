/*
 * A cache that worker processes share, whose entries expire. A process that finds a number missing
 * computes it under that number's lock: none is computed twice, unless the first process is killed.
 *
 *     cargo build --release
 *     cc -std=c99 -Iinclude examples/c/cache.c target/release/libshoal.a -pthread -ldl -lm
 *
 * With the library installed, -lshoal replaces the last four arguments.
 */

#define _POSIX_C_SOURCE 200809L

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <shoal.h>

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
#define LIFE (60 * SECOND) /* time to live of an entry */

enum { WORKERS = 4, NUMBERS = 20, UNLUCKY = 13 };

struct shared {
    shoal_map *cache;
    shoal_map *counts;
};

static int64_t count(struct shared *shared, const char *what, int64_t by)
{
    int64_t sum;
    TRY(shoal_map_add(shared->counts, what, strlen(what), by, &sum));
    return sum;
}

/* Slow enough to be worth a cache. The first process to try the unlucky number is killed. */
static int64_t slow_square(struct shared *shared, int64_t number)
{
    int64_t square = 0;
    for (int64_t i = 0; i < number; i++)
        square += number;
    if (number == UNLUCKY && count(shared, "tried", 1) == 1)
        kill(getpid(), SIGKILL);
    return square;
}

/* Keys and values are bytes: numbers are stored as they are in memory. */
static bool is_cached(struct shared *shared, int64_t number, int64_t *square)
{
    size_t len;
    shoal_status status =
        shoal_map_get(shared->cache, &number, sizeof number, square, sizeof *square, &len, NULL);

    if (status != SHOAL_ERR_NOT_FOUND)
        TRY(status);
    return status == SHOAL_OK;
}

static int64_t square_of(struct shared *shared, int64_t number)
{
    shoal_map *cache = shared->cache;
    bool owner_died;
    int64_t square;

    if (is_cached(shared, number, &square))
        return square;
    /* The lock of a dead process is free: the next process gets it, and owner_died is true. */
    TRY(shoal_map_lock_key(cache, &number, sizeof number, SHOAL_FOREVER, &owner_died));
    if (owner_died)
        count(shared, "inherited", 1);
    if (!is_cached(shared, number, &square)) { /* no other process was faster */
        square = slow_square(shared, number);
        TRY(shoal_map_set_for(cache, &number, sizeof number, &square, sizeof square, LIFE));
        count(shared, "computed", 1);
    }
    TRY(shoal_map_unlock_key(cache, &number, sizeof number));
    return square;
}

static int work(void *arg)
{
    for (int64_t number = 0; number < NUMBERS; number++)
        CLAIM(square_of(arg, number) == number * number);
    return 0;
}

int main(void)
{
    struct shared shared;
    shoal_process *workers[WORKERS];
    int64_t number = 7, left;
    uint64_t version;
    int killed = 0;

    TRY(shoal_map_open(NULL, NULL, &shared.cache, NULL));
    TRY(shoal_map_open(NULL, NULL, &shared.counts, NULL));
    for (int i = 0; i < WORKERS; i++)
        TRY(shoal_process_fork(work, &shared, NULL, &workers[i]));
    for (int i = 0; i < WORKERS; i++) {
        shoal_exit end;
        TRY(shoal_process_join(workers[i], SHOAL_FOREVER, &end));
        CLAIM(end.kind == SHOAL_EXIT_SIGNALED || end.code == 0);
        killed += end.kind == SHOAL_EXIT_SIGNALED && end.code == SIGKILL;
        shoal_process_free(workers[i]);
    }
    CLAIM(killed == 1 && count(&shared, "inherited", 0) == 1);
    CLAIM(count(&shared, "computed", 0) == NUMBERS);
    printf("%d workers wanted %d squares each, and %d was killed\n", WORKERS, NUMBERS, killed);
    printf("each square was worked out once\n");

    /* An entry expires after its time, here a shorter one. A wait for its key ends then. */
    TRY(shoal_map_time_left(shared.cache, &number, sizeof number, &left));
    CLAIM(left > 0 && left <= LIFE);
    TRY(shoal_map_expire(shared.cache, &number, sizeof number, SECOND / 100));
    TRY(shoal_map_version(shared.cache, &number, sizeof number, &version));
    while (version != 0)
        TRY(shoal_map_wait_key(shared.cache, &number, sizeof number, version, LIFE, &version));
    CLAIM(square_of(&shared, number) == number * number);
    CLAIM(count(&shared, "computed", 0) == NUMBERS + 1);
    printf("the square of %lld was forgotten, and worked out again\n", (long long)number);

    shoal_map_free(shared.cache);
    shoal_map_free(shared.counts);
    return 0;
}
