/*
 * One poll() for a queue, a pipe and a process: how Shoal fits into an event loop.
 *
 *     cargo build --release
 *     cc -std=c99 -Iinclude examples/c/events.c target/release/libshoal.a -pthread -ldl -lm
 *
 * With the library installed, -lshoal replaces the last four arguments.
 */

#define _POSIX_C_SOURCE 200809L

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <shoal.h>

/* Every call can fail; this program prints the error then, and ends. */
#define TRY(call)                                                                \
    do {                                                                         \
        if ((call) != SHOAL_OK) {                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, shoal_last_error()); \
            exit(1);                                                             \
        }                                                                        \
    } while (0)

/* Runs in a child. The parent's handles work here too. */
static int count_to_ten(void *arg)
{
    shoal_queue *numbers = arg;
    for (long number = 1; number <= 10; number++)
        TRY(shoal_queue_put(numbers, &number, sizeof number, SHOAL_FOREVER));
    return 0;
}

/* Takes the messages that are there, without waiting: another consumer might be faster. */
static long sum_of(shoal_queue *numbers)
{
    long number, sum = 0;
    size_t len;
    shoal_status status;

    while ((status = shoal_queue_get(numbers, SHOAL_NOWAIT, &number, sizeof number, &len)) ==
           SHOAL_OK)
        sum += number;
    if (status != SHOAL_ERR_TIMEOUT)
        TRY(status);
    return sum;
}

int main(void)
{
    const char *argv[] = {"echo", "hello", NULL};
    shoal_spawn_options options = {0};
    shoal_process *counter, *echo;
    shoal_queue *numbers;
    struct pollfd polled[3] = {{0, POLLIN, 0}, {0, POLLIN, 0}, {0, POLLIN, 0}};
    char said[64];
    long sum = 0, letters = 0;

    TRY(shoal_queue_open(NULL, NULL, &numbers, NULL));
    TRY(shoal_process_fork(count_to_ten, numbers, NULL, &counter));
    options.size = sizeof options;
    options.argv = argv;
    options.stdio[1] = SHOAL_STDIO_PIPE;
    TRY(shoal_process_spawn(&options, &echo));

    /* The first and the last descriptor are their handles'; the pipe's is the caller's to close. */
    TRY(shoal_queue_fd(numbers, &polled[0].fd));
    TRY(shoal_process_stdio(echo, 1, &polled[1].fd));
    TRY(shoal_process_fd(counter, &polled[2].fd));
    while (polled[1].fd >= 0 || polled[2].fd >= 0) {
        if (poll(polled, 3, -1) < 0)
            return perror("poll"), 1;
        if (polled[0].revents != 0)
            sum += sum_of(numbers);
        if (polled[1].revents != 0) {
            ssize_t n = read(polled[1].fd, said, sizeof said);
            if (n <= 0) {
                close(polled[1].fd);
                polled[1].fd = -1; /* poll() skips a negative one */
            } else {
                letters += n;
            }
        }
        if (polled[2].revents != 0)
            polled[2].fd = -1;
    }
    sum += sum_of(numbers); /* messages that were put just before the end */
    printf("the numbers add up to %ld, and %ld letters were said\n", sum, letters);

    shoal_process_free(counter);
    shoal_process_free(echo);
    shoal_queue_free(numbers);
    return 0;
}
