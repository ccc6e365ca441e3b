/* The promises of the functions of a pipe. */

#include "check.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **args)
{
    shoal_pipe_options o = {.size = sizeof o, .flags = SHOAL_CREATE};
    shoal_pipe *first, *second;
    char buf[16];
    shoal_message loan;
    size_t len = 0;
    bool ready = true;
    int status, hold = -1;
    struct pollfd polled = {.events = POLLIN};

    CHECK(count == 2);
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_pipe_open(args[1], SHOAL_FIRST_END, NULL, &first, NULL));
    SAYS(SHOAL_ERR_INVALID, "neither end", shoal_pipe_open(args[1], 2, &o, &first, NULL));
    OK(shoal_pipe_open(args[1], SHOAL_FIRST_END, &o, &first, NULL));
    CHECK(strcmp(shoal_name(first), args[1]) == 0);
    OK(shoal_pipe_poll(first, SHOAL_NOWAIT, &ready));
    CHECK(!ready);
    OK(shoal_pipe_open(args[1], SHOAL_SECOND_END, NULL, &second, NULL));
    OK(shoal_pipe_send(second, "hello", 5, SHOAL_NOWAIT));
    OK(shoal_pipe_poll(first, SHOAL_NOWAIT, &ready));
    CHECK(ready);
    GIVES(SHOAL_ERR_BUFFER_TOO_SMALL, shoal_pipe_recv(first, SHOAL_NOWAIT, buf, 4, &len));
    CHECK(len == 5);
    OK(shoal_pipe_recv(first, SHOAL_NOWAIT, buf, sizeof buf, &len));
    CHECK(len == 5 && memcmp(buf, "hello", 5) == 0);
    GIVES(SHOAL_ERR_TIMEOUT, shoal_pipe_recv(first, SHOAL_NOWAIT, buf, sizeof buf, &len));
    OK(shoal_pipe_reserve(second, 100, SHOAL_NOWAIT, &loan));
    memcpy(loan.data, "in place", 8);
    SAYS(SHOAL_ERR_TOO_LARGE, "101", shoal_pipe_commit(second, &loan, 101));
    OK(shoal_pipe_commit(second, &loan, 8));
    GIVES(SHOAL_ERR_INVALID, shoal_pipe_commit(second, &loan, 8));
    GIVES(SHOAL_ERR_INVALID, shoal_pipe_discard(second, &loan));
    OK(shoal_pipe_recv(first, SHOAL_NOWAIT, buf, sizeof buf, &len));
    CHECK(len == 8 && memcmp(buf, "in place", 8) == 0);
    OK(shoal_pipe_reserve(second, 100, SHOAL_NOWAIT, &loan));
    OK(shoal_pipe_discard(second, &loan));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_pipe_recv(first, SHOAL_NOWAIT, buf, sizeof buf, &len));
    GIVES(SHOAL_ERR_INVALID, shoal_pipe_reserve(second, 1, SHOAL_NOWAIT, NULL));

    OK(shoal_pipe_send(second, "look", 4, SHOAL_NOWAIT));
    OK(shoal_pipe_lease(first, SHOAL_NOWAIT, &loan));
    CHECK(loan.len == 4 && memcmp(loan.data, "look", 4) == 0);
    OK(shoal_pipe_nack(first, &loan, 0));
    GIVES(SHOAL_ERR_INVALID, shoal_pipe_nack(first, &loan, 0));
    OK(shoal_pipe_lease(first, SHOAL_NOWAIT, &loan));
    CHECK(loan.attempts == 2);
    GIVES(SHOAL_ERR_INVALID, shoal_pipe_ack(second, &loan));
    OK(shoal_pipe_ack(first, &loan));
    GIVES(SHOAL_ERR_INVALID, shoal_pipe_ack(first, &loan));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_pipe_lease(first, SHOAL_NOWAIT, &loan));
    CHECK(pipe_stats(second).receives && pipe_stats(second).sends);
    OK(shoal_pipe_hold(second, &hold));
    shoal_pipe_free(second);
    OK(shoal_pipe_send(first, "held", 4, SHOAL_NOWAIT));
    OK(shoal_pipe_drop_hold(args[1], hold));
    GIVES(SHOAL_ERR_INVALID, shoal_pipe_drop_hold(args[1], -1));
    GIVES(SHOAL_ERR_CLOSED, shoal_pipe_recv(first, SHOAL_FOREVER, buf, sizeof buf, &len));
    GIVES(SHOAL_ERR_CLOSED, shoal_pipe_send(first, "gone", 4, SHOAL_NOWAIT));
    OK(shoal_unlink(args[1], SHOAL_KIND_PIPE));
    shoal_pipe_free(first);

    o.flags = SHOAL_SIMPLEX;
    OK(shoal_pipe_pair(&o, &first, &second));
    CHECK(pipe_stats(first).receives && !pipe_stats(first).sends);
    GIVES(SHOAL_ERR_UNSUPPORTED, shoal_pipe_send(first, "x", 1, SHOAL_NOWAIT));
    GIVES(SHOAL_ERR_UNSUPPORTED, shoal_pipe_reserve(first, 1, SHOAL_NOWAIT, &loan));
    GIVES(SHOAL_ERR_UNSUPPORTED, shoal_pipe_recv(second, SHOAL_NOWAIT, buf, 1, &len));
    GIVES(SHOAL_ERR_UNSUPPORTED, shoal_pipe_lease(second, SHOAL_NOWAIT, &loan));
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        shoal_pipe_free(first);
        OK(shoal_pipe_send(second, "from afar", 9, SHOAL_FOREVER));
        for (;;)
            pause();
    }
    shoal_pipe_free(second);
    OK(shoal_pipe_fd(first, &polled.fd));
    CHECK(poll(&polled, 1, -1) == 1);
    OK(shoal_pipe_recv(first, SHOAL_NOWAIT, buf, sizeof buf, &len));
    CHECK(len == 9 && memcmp(buf, "from afar", 9) == 0);
    GIVES(SHOAL_ERR_TIMEOUT, shoal_pipe_recv(first, SHOAL_NOWAIT, buf, sizeof buf, &len));
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child);
    CHECK(poll(&polled, 1, -1) == 1);
    GIVES(SHOAL_ERR_CLOSED, shoal_pipe_recv(first, SHOAL_NOWAIT, buf, sizeof buf, &len));
    shoal_pipe_free(first);
    puts("pipe: ok");
    return 0;
}
