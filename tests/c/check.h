/* The checks of the C tests: each prints where it failed, and ends the program. */

#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shoal_bindings.h"

#define CHECK(condition)                                                       \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                           \
        }                                                                      \
    } while (0)

/* The call returns this status. */
#define GIVES(expected, call) check_status(__FILE__, __LINE__, #call, (expected), (call))

/* The call succeeds. */
#define OK(call) GIVES(SHOAL_OK, call)

/* The call returns this status, and the thread's error mentions this. */
#define SAYS(expected, text, call)                                             \
    do {                                                                       \
        GIVES(expected, call);                                                 \
        check_says(__FILE__, __LINE__, (text));                                \
    } while (0)

static inline void check_status(const char *file, int line, const char *call,
                                shoal_status expected, shoal_status status)
{
    if (status == expected)
        return;
    fprintf(stderr, "%s:%d: %s\n  gave %s instead of %s: %s\n", file, line, call,
            shoal_status_name(status), shoal_status_name(expected), shoal_last_error());
    exit(1);
}

static inline void check_says(const char *file, int line, const char *text)
{
    if (strstr(shoal_last_error(), text) != NULL)
        return;
    fprintf(stderr, "%s:%d: \"%s\" does not mention \"%s\"\n", file, line, shoal_last_error(),
            text);
    exit(1);
}

/* The call takes a lock, and reports whether its last owner died. */
#define LOCKS(expected, function, ...)                                         \
    do {                                                                       \
        bool owner_died = !(expected);                                         \
        OK(function(__VA_ARGS__, &owner_died));                                \
        CHECK(owner_died == (expected));                                       \
    } while (0)

/* queue_stats(q), and so on: the statistics of an object. */
#define STATS(object)                                                          \
    static inline shoal_##object##_stats object##_stats(shoal_##object *it)    \
    {                                                                          \
        shoal_##object##_stats stats;                                          \
        memset(&stats, 0, sizeof stats);                                       \
        stats.size = sizeof stats;                                             \
        OK(shoal_##object##_stat(it, &stats));                                 \
        return stats;                                                          \
    }

STATS(queue)
STATS(pipe)
STATS(map)
STATS(list)
STATS(array)
STATS(lock)
STATS(rwlock)
STATS(semaphore)
STATS(condition)
STATS(barrier)

static inline shoal_queue *new_queue(void)
{
    shoal_queue *q;
    OK(shoal_queue_open(NULL, NULL, &q, NULL));
    return q;
}

static inline shoal_map *new_map(void)
{
    shoal_map *m;
    OK(shoal_map_open(NULL, NULL, &m, NULL));
    return m;
}

#endif
