/*
 * Counters that several processes add to at once, while one of them is killed. No addition whose
 * call had returned is lost; at most the one that the kill interrupted is counted as well.
 *
 *     cargo build --release
 *     cc -std=c99 -Iinclude examples/c/counters.c target/release/libshoal.a -pthread -ldl -lm
 *
 * With the library installed, -lshoal replaces the last four arguments.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

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

enum { WORKERS = 4, COLOURS = 3, ROUNDS = 30000 };

static const char colours[COLOURS] = {'r', 'g', 'b'};

struct worker {
    shoal_map *counters;
    volatile int64_t *added; /* the calls of this worker that returned: its item of an array */
    shoal_event *midway;     /* NULL for those that are not killed */
};

/* The worker with an event to set continues until it is killed; the others stop by themselves. */
static int work(void *arg)
{
    struct worker *me = arg;

    for (int round = 0; me->midway != NULL || round < ROUNDS; round++) {
        for (int i = 0; i < COLOURS; i++) {
            TRY(shoal_map_add(me->counters, &colours[i], 1, 1, NULL));
            ++*me->added;
        }
        if (round == ROUNDS / 2 && me->midway != NULL)
            TRY(shoal_event_set(me->midway));
    }
    return 0;
}

int main(void)
{
    shoal_array_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
    struct worker shared = {NULL, NULL, NULL}, worker;
    shoal_process *workers[WORKERS];
    shoal_event *midway;
    shoal_array *array;
    void *data;
    size_t bytes;
    int64_t known = 0, counted = 0, sum;

    options.item_size = sizeof(int64_t);
    options.count = WORKERS;
    TRY(shoal_array_open(NULL, &options, &array, NULL));
    TRY(shoal_array_data(array, &data, &bytes));
    TRY(shoal_map_open(NULL, NULL, &shared.counters, NULL));
    TRY(shoal_event_open(NULL, NULL, &midway, NULL));

    /* A forked child has a copy of `worker`, so that the next one may have another. */
    for (int i = 0; i < WORKERS; i++) {
        worker = shared;
        worker.added = (int64_t *)data + i;
        worker.midway = i == 0 ? midway : NULL;
        TRY(shoal_process_fork(work, &worker, NULL, &workers[i]));
    }

    TRY(shoal_event_wait(midway, SHOAL_FOREVER));
    TRY(shoal_process_signal(workers[0], SIGKILL, false)); /* at any instruction */
    for (int i = 0; i < WORKERS; i++) {
        shoal_exit end;
        TRY(shoal_process_join(workers[i], SHOAL_FOREVER, &end));
        if (i == 0)
            CLAIM(end.kind == SHOAL_EXIT_SIGNALED && end.code == SIGKILL);
        else
            CLAIM(end.kind == SHOAL_EXIT_EXITED && end.code == 0);
        shoal_process_free(workers[i]);
        known += ((int64_t *)data)[i];
    }

    for (int i = 0; i < COLOURS; i++) {
        TRY(shoal_map_add(shared.counters, &colours[i], 1, 0, &sum));
        CLAIM(sum > (WORKERS - 1) * ROUNDS);
        counted += sum;
    }
    printf("the workers know of %lld additions, the counters of %lld\n", (long long)known,
           (long long)counted);
    CLAIM(counted == known || counted == known + 1);
    printf("one worker was killed, and no addition is missing\n");

    shoal_event_free(midway);
    shoal_map_free(shared.counters);
    shoal_array_free(array);
    return 0;
}
