/*
 * Two processes and two queues: the child squares the numbers that it gets.
 *
 *     cargo build --release
 *     cc -std=c99 -Iinclude examples/c/queue.c target/release/libshoal.a -pthread -ldl -lm
 *
 * With the library installed, -lshoal replaces the last four arguments.
 */

#include <stdio.h>
#include <stdlib.h>

#include <shoal.h>

/* Every call can fail; this program prints the error then, and ends. */
#define TRY(call)                                                                \
    do {                                                                         \
        if ((call) != SHOAL_OK) {                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, shoal_last_error()); \
            exit(1);                                                             \
        }                                                                        \
    } while (0)

struct queues {
    shoal_queue *numbers, *squares;
};

/* Runs in the child. The parent's handles work here too. */
static int square(void *arg)
{
    struct queues *q = arg;
    long number;
    size_t len;
    shoal_status status;

    while ((status = shoal_queue_get(q->numbers, SHOAL_FOREVER, &number, sizeof number, &len)) == SHOAL_OK) {
        long result = number * number;
        TRY(shoal_queue_put(q->squares, &result, sizeof result, SHOAL_FOREVER));
    }
    /* The parent closed the queue, and the queue is empty. */
    return status == SHOAL_ERR_CLOSED ? 0 : 1;
}

int main(void)
{
    struct queues q;
    shoal_process *child;
    shoal_exit end;
    size_t len;

    /* Without a name each queue gets one of its own. To share a queue with a program that is not
       forked from this one, give it a name, and SHOAL_CREATE in the options. */
    TRY(shoal_queue_open(NULL, NULL, &q.numbers, NULL));
    TRY(shoal_queue_open(NULL, NULL, &q.squares, NULL));
    TRY(shoal_process_fork(square, &q, NULL, &child));

    for (long number = 1; number <= 5; number++)
        TRY(shoal_queue_put(q.numbers, &number, sizeof number, SHOAL_FOREVER));
    TRY(shoal_queue_close(q.numbers));

    for (long number = 1; number <= 5; number++) {
        long result;
        /* At most ten seconds: the child could be dead. */
        TRY(shoal_queue_get(q.squares, 10000000000, &result, sizeof result, &len));
        printf("%ld squared is %ld\n", number, result);
    }

    TRY(shoal_process_join(child, SHOAL_FOREVER, &end));
    printf("the child exited with %d\n", (int)end.code);

    /* The last handle of all processes removes the queue. */
    shoal_process_free(child);
    shoal_queue_free(q.numbers);
    shoal_queue_free(q.squares);
    return 0;
}
