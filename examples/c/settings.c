/*
 * Settings that worker processes watch. Each of them sleeps until the setting that it needs
 * changes, and acts on it. None of them polls, and each wait has a deadline.
 *
 *     cargo build --release
 *     cc -std=c99 -Iinclude examples/c/settings.c target/release/libshoal.a -pthread -ldl -lm
 *
 * With the library installed, -lshoal replaces the last four arguments.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

#define DEADLINE INT64_C(60000000000) /* a minute, in nanoseconds */

enum { WORKERS = 3 };

struct shared {
    shoal_map *settings;
    shoal_map *acted;     /* how often a level was acted on */
    shoal_barrier *taken; /* all workers and the parent: each change is seen before the next */
};

static int work(void *arg)
{
    struct shared *shared = arg;
    char level[16] = "";
    size_t len;
    uint64_t seen = 0, now;

    while (strcmp(level, "stop") != 0) {
        /* Version 0 is that of a missing key, so the first value is a change too. */
        shoal_status status =
            shoal_map_wait_key(shared->settings, "level", 5, seen, DEADLINE, &now);
        if (status == SHOAL_ERR_TIMEOUT)
            return 2; /* no change for a minute: the parent has ended */
        TRY(status);
        /* The key may have changed again since the wait: this is the version of the value read. */
        TRY(shoal_map_get(shared->settings, "level", 5, level, sizeof level - 1, &len, &seen));
        level[len] = '\0';
        TRY(shoal_map_add(shared->acted, level, len, 1, NULL)); /* a real worker would act here */
        TRY(shoal_barrier_wait(shared->taken, DEADLINE, NULL));
    }
    return 0;
}

int main(void)
{
    const char *levels[] = {"calm", "busy", "stop"};
    shoal_sync_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
    struct shared shared;
    shoal_process *workers[WORKERS];
    uint64_t version, now;

    TRY(shoal_map_open(NULL, NULL, &shared.settings, NULL));
    TRY(shoal_map_open(NULL, NULL, &shared.acted, NULL));
    options.count = WORKERS + 1;
    TRY(shoal_barrier_open(NULL, &options, &shared.taken, NULL));
    for (int i = 0; i < WORKERS; i++)
        TRY(shoal_process_fork(work, &shared, NULL, &workers[i]));

    for (int i = 0; i < 3; i++) {
        int64_t acted;
        /* Another setting changes as well; that ends no wait for the level. */
        TRY(shoal_map_set(shared.settings, "colour", 6, levels[i], strlen(levels[i])));
        TRY(shoal_map_set(shared.settings, "level", 5, levels[i], strlen(levels[i])));
        TRY(shoal_barrier_wait(shared.taken, DEADLINE, NULL));
        TRY(shoal_map_add(shared.acted, levels[i], strlen(levels[i]), 0, &acted));
        CLAIM(acted == WORKERS);
        printf("all %d are %s\n", WORKERS, levels[i]);
    }
    for (int i = 0; i < WORKERS; i++) {
        shoal_exit end;
        TRY(shoal_process_join(workers[i], SHOAL_FOREVER, &end));
        CLAIM(end.kind == SHOAL_EXIT_EXITED && end.code == 0);
        shoal_process_free(workers[i]);
    }

    /* Without a change a wait ends at its deadline. */
    TRY(shoal_map_version(shared.settings, "level", 5, &version));
    CLAIM(shoal_map_wait_key(shared.settings, "level", 5, version, 1000000, &now) ==
          SHOAL_ERR_TIMEOUT);
    printf("nobody changes it any more\n");

    shoal_barrier_free(shared.taken);
    shoal_map_free(shared.acted);
    shoal_map_free(shared.settings);
    return 0;
}
