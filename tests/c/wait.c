/* The promises of a queue's descriptor, and of a wait for several objects. */

#define _POSIX_C_SOURCE 200809L
#define _XOPEN_SOURCE 700

#include "check.h"

#include <poll.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

static bool readable(int fd, int wait_ms)
{
    struct pollfd polled = {fd, POLLIN, 0};
    return poll(&polled, 1, wait_ms) == 1;
}

static int put_one(void *q)
{
    OK(shoal_queue_put(q, "x", 1, SHOAL_FOREVER));
    return 0;
}

static void a_descriptor_tells_of_messages(void)
{
    shoal_queue *q = new_queue();
    shoal_process *putter;
    char buf[8];
    size_t len;
    int fd = -1, same = -1;

    SAYS(SHOAL_ERR_INVALID, "out", shoal_queue_fd(q, NULL));
    OK(shoal_queue_fd(q, &fd));
    OK(shoal_queue_fd(q, &same));
    CHECK(fd > 2 && same == fd);
    for (int i = 0; i < 10; i++) {
        CHECK(!readable(fd, 0));
        OK(shoal_process_fork(put_one, q, NULL, &putter));
        CHECK(readable(fd, -1));
        OK(shoal_queue_get(q, SHOAL_NOWAIT, buf, sizeof buf, &len));
        CHECK(len == 1 && !readable(fd, 0));
        GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_get(q, SHOAL_NOWAIT, buf, sizeof buf, &len));
        OK(shoal_process_join(putter, SHOAL_FOREVER, NULL));
        shoal_process_free(putter);
    }
    OK(shoal_queue_close(q));
    CHECK(readable(fd, -1));
    shoal_queue_free(q);
}

static void the_first_that_is_ready_ends_the_wait(void)
{
    shoal_queue *a = new_queue(), *b = new_queue();
    shoal_process *p;
    char buf[8];
    size_t len, ready = 99;

    OK(shoal_process_fork(put_one, b, NULL, &p));
    shoal_waitable things[] = {{.queue = a}, {.queue = b}, {.process = p}};
    OK(shoal_wait_any(things, 2, SHOAL_FOREVER, &ready));
    CHECK(ready == 1);
    OK(shoal_queue_get(b, SHOAL_NOWAIT, buf, sizeof buf, &len));
    OK(shoal_wait_any(things, 3, SHOAL_FOREVER, &ready));
    CHECK(ready == 2);
    OK(shoal_process_join(p, SHOAL_NOWAIT, NULL));
    OK(shoal_wait_any(things, 3, SHOAL_NOWAIT, &ready));
    CHECK(ready == 2);
    OK(shoal_queue_put(a, "x", 1, SHOAL_NOWAIT));
    OK(shoal_wait_any(things, 3, SHOAL_NOWAIT, &ready));
    CHECK(ready == 0);
    OK(shoal_queue_get(a, SHOAL_NOWAIT, buf, sizeof buf, &len));
    OK(shoal_queue_close(b));
    OK(shoal_wait_any(things, 3, SHOAL_FOREVER, &ready));
    CHECK(ready == 1);

    ready = 99;
    GIVES(SHOAL_ERR_TIMEOUT, shoal_wait_any(things, 1, SHOAL_NOWAIT, &ready));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_wait_any(things, 1, 1000000, &ready));
    CHECK(ready == 99);
    shoal_process_free(p);
    shoal_queue_free(a);
    shoal_queue_free(b);
}

static void pipes_and_descriptors_end_the_wait_too(void)
{
    shoal_pipe_options simplex = {.size = sizeof simplex, .flags = SHOAL_SIMPLEX};
    shoal_pipe *first, *second;
    int fds[2];
    char buf[8];
    size_t len, ready = 99;

    OK(shoal_pipe_pair(&simplex, &first, &second));
    CHECK(pipe(fds) == 0);
    shoal_waitable things[] = {{.pipe = first}, {.fd = fds[0]}}, sends = {.pipe = second};
    GIVES(SHOAL_ERR_TIMEOUT, shoal_wait_any(things, 2, 20000000, &ready));
    OK(shoal_pipe_send(second, "x", 1, SHOAL_NOWAIT));
    OK(shoal_wait_any(things, 2, SHOAL_FOREVER, &ready));
    CHECK(ready == 0);
    OK(shoal_pipe_recv(first, SHOAL_NOWAIT, buf, sizeof buf, &len));
    CHECK(write(fds[1], "y", 1) == 1);
    OK(shoal_wait_any(things, 2, SHOAL_FOREVER, &ready));
    CHECK(ready == 1 && read(fds[0], buf, sizeof buf) == 1);
    GIVES(SHOAL_ERR_TIMEOUT, shoal_wait_any(things, 2, SHOAL_NOWAIT, &ready));
    GIVES(SHOAL_ERR_UNSUPPORTED, shoal_wait_any(&sends, 1, SHOAL_NOWAIT, &ready));
    /* The end of each is an end of the wait. */
    close(fds[1]);
    OK(shoal_wait_any(things, 2, SHOAL_FOREVER, &ready));
    CHECK(ready == 1);
    shoal_pipe_free(second);
    OK(shoal_wait_any(things, 2, SHOAL_FOREVER, &ready));
    CHECK(ready == 0);
    OK(shoal_end_waits(first));
    close(fds[0]);
    shoal_pipe_free(first);
}

static void what_cannot_be_waited_for_is_refused(void)
{
    shoal_queue *q = new_queue();
    shoal_process *p;
    size_t ready = 99;

    OK(shoal_process_fork(put_one, q, NULL, &p));
    shoal_waitable both = {.queue = q, .process = p}, none = {.fd = -1};
    shoal_waitable good[2] = {{.queue = q}, {.process = p}};
    SAYS(SHOAL_ERR_INVALID, "things", shoal_wait_any(NULL, 1, SHOAL_NOWAIT, &ready));
    SAYS(SHOAL_ERR_INVALID, "things", shoal_wait_any(NULL, 0, SHOAL_NOWAIT, &ready));
    SAYS(SHOAL_ERR_INVALID, "none", shoal_wait_any(good, 0, SHOAL_FOREVER, &ready));
    SAYS(SHOAL_ERR_INVALID, "things", shoal_wait_any(good, SIZE_MAX / 8, SHOAL_NOWAIT, &ready));
    SAYS(SHOAL_ERR_INVALID, "aligned",
         shoal_wait_any((shoal_waitable *)((char *)good + 1), 1, SHOAL_NOWAIT, &ready));
    SAYS(SHOAL_ERR_INVALID, "more than one", shoal_wait_any(&both, 1, SHOAL_NOWAIT, &ready));
    SAYS(SHOAL_ERR_INVALID, "NULL", shoal_wait_any(&none, 1, SHOAL_NOWAIT, &ready));
    SAYS(SHOAL_ERR_INVALID, "out", shoal_wait_any(good, 2, SHOAL_NOWAIT, NULL));
    CHECK(ready == 99);
    OK(shoal_process_join(p, SHOAL_FOREVER, NULL));
    shoal_process_free(p);
    shoal_queue_free(q);
}

static void ignore(int signal)
{
    (void)signal;
}

static void a_signal_ends_the_wait(void)
{
    struct sigaction action, old;
    /* Repeatedly: the first may come before the wait begins. */
    struct itimerval often = {{0, 5000}, {0, 5000}}, never = {{0, 0}, {0, 0}};
    shoal_queue *q = new_queue();
    shoal_waitable thing = {.queue = q};
    size_t ready;

    memset(&action, 0, sizeof action);
    action.sa_handler = ignore;
    action.sa_flags = SA_RESTART;
    CHECK(sigaction(SIGALRM, &action, &old) == 0);
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
    GIVES(SHOAL_ERR_INTERRUPTED, shoal_wait_any(&thing, 1, SHOAL_FOREVER, &ready));
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
    CHECK(sigaction(SIGALRM, &old, NULL) == 0);
    shoal_queue_free(q);
}

int main(void)
{
    a_descriptor_tells_of_messages();
    the_first_that_is_ready_ends_the_wait();
    pipes_and_descriptors_end_the_wait_too();
    what_cannot_be_waited_for_is_refused();
    a_signal_ends_the_wait();
    puts("wait: ok");
    return 0;
}
