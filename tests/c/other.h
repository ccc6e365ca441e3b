/* Other processes for the C tests: they end with the test, however it ends. */

#ifndef OTHER_H
#define OTHER_H

#include "check.h"

#include <signal.h>
#include <time.h>

/* Longer than any machine needs; a wait of this length never runs out in a test that passes. */
#define LONG INT64_C(60000000000)

/* Runs `entry(arg)` in another process. Its checks end it with an error, which `succeeds` finds. */
static inline shoal_process *another(int (*entry)(void *arg), void *arg)
{
    shoal_spawn_options options;
    shoal_process *p;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.flags = SHOAL_SPAWN_DIE_WITH_PARENT;
    OK(shoal_process_fork(entry, arg, &options, &p));
    return p;
}

static inline void succeeds(shoal_process *p)
{
    shoal_exit end;
    OK(shoal_process_join(p, LONG, &end));
    CHECK(end.kind == SHOAL_EXIT_EXITED && end.code == 0);
    shoal_process_free(p);
}

/* Kills it, and returns when it has ended. */
static inline void dies(shoal_process *p)
{
    shoal_exit end;
    OK(shoal_process_signal(p, SIGKILL, false));
    OK(shoal_process_join(p, LONG, &end));
    CHECK(end.kind == SHOAL_EXIT_SIGNALED && end.code == SIGKILL);
    shoal_process_free(p);
}

static inline void pause_ms(long ms)
{
    struct timespec time = {0, ms * 1000000};
    nanosleep(&time, NULL);
}

/* Returns once a process sleeps. A page fault sleeps too, but not for as long. */
static inline void falls_asleep(shoal_process *p)
{
    char path[64], line[512];
    int32_t pid;
    OK(shoal_process_pid(p, &pid));
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    for (int quiet = 0; quiet < 3; pause_ms(1)) {
        FILE *stat = fopen(path, "r");
        CHECK(stat != NULL && fgets(line, sizeof line, stat) != NULL);
        fclose(stat);
        const char *state = strrchr(line, ')');
        /* A zombie: it failed, and has printed why. */
        CHECK(state != NULL && state[2] != 'Z');
        quiet = state[2] == 'S' ? quiet + 1 : 0;
    }
}

#endif
