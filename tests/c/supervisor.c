/* The promises of the functions of supervisors. */

#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *argv[] = {"sh", "-c", NULL, NULL};
static shoal_spawn_options program;

static shoal_supervisor_options running(const char *script, size_t workers)
{
    shoal_supervisor_options options;
    memset(&options, 0, sizeof options);
    memset(&program, 0, sizeof program);
    argv[2] = script;
    program.size = sizeof program;
    program.argv = argv;
    options.size = sizeof options;
    options.program = &program;
    options.workers = workers;
    return options;
}

static shoal_worker_status status_of(shoal_supervisor *s, int64_t worker)
{
    shoal_worker_status status;
    memset(&status, 0, sizeof status);
    status.size = sizeof status;
    OK(shoal_supervisor_worker(s, worker, &status));
    return status;
}

static void workers_run(void)
{
    shoal_supervisor_options options = running("echo $SHOAL_WORKER $CUDA_VISIBLE_DEVICES", 2);
    shoal_supervisor *s;
    shoal_outcome end;
    char text[64] = "";
    int fds[2];
    size_t got = 0;
    ssize_t n;

    /* The test runs this program with CUDA_VISIBLE_DEVICES=4,5,6. */
    CHECK(pipe(fds) == 0);
    program.device_family = "cuda";
    program.device_mask = "0,2";
    program.stdio[1] = SHOAL_STDIO_FD(fds[1]);
    OK(shoal_supervisor_start(&options, &s));
    close(fds[1]);
    OK(shoal_supervisor_wait(s, SHOAL_FOREVER, &end));
    CHECK(end.kind == SHOAL_OUTCOME_SUCCEEDED && end.worker == -1 && end.exit_code == 0);
    OK(shoal_supervisor_wait(s, SHOAL_NOWAIT, NULL)); /* any number of times */
    CHECK(waitpid(-1, NULL, WNOHANG) == -1); /* they are no children of this process */
    shoal_supervisor_free(s);
    while ((n = read(fds[0], text + got, sizeof text - 1 - got)) > 0)
        got += (size_t)n;
    close(fds[0]);
    CHECK(strstr(text, "[0] 0 4\n") != NULL && strstr(text, "[1] 1 6\n") != NULL && got == 16);
}

static void workers_fail(void)
{
    shoal_supervisor_options options = running("exit 7", 1);
    shoal_supervisor *s;
    shoal_worker_event event;
    shoal_outcome end;
    shoal_status status;
    unsigned kinds = 0;

    options.restart = SHOAL_RESTART_ON_FAILURE;
    options.max_restarts = 2;
    options.backoff_ns = options.max_backoff_ns = 1000000;
    OK(shoal_supervisor_start(&options, &s));
    memset(&event, 0, sizeof event);
    GIVES(SHOAL_ERR_INVALID, shoal_supervisor_event(s, SHOAL_FOREVER, &event));
    event.size = sizeof event;
    while ((status = shoal_supervisor_event(s, SHOAL_FOREVER, &event)) == SHOAL_OK) {
        kinds |= 1u << event.kind;
        if (event.kind == SHOAL_WORKER_EVENT_STARTED)
            CHECK(event.worker == 0 && event.pid > 0 && event.exit_kind == SHOAL_EXIT_UNKNOWN);
        if (event.kind == SHOAL_WORKER_EVENT_EXITED)
            CHECK(event.exit_kind == SHOAL_EXIT_EXITED && event.exit_code == 7);
        if (event.kind == SHOAL_WORKER_EVENT_GAVE_UP)
            CHECK(strstr(event.text, "crash loop") != NULL);
    }
    CHECK(status == SHOAL_ERR_END);
    CHECK(kinds == (1u << SHOAL_WORKER_EVENT_STARTED | 1u << SHOAL_WORKER_EVENT_EXITED
                    | 1u << SHOAL_WORKER_EVENT_RESTARTING | 1u << SHOAL_WORKER_EVENT_GAVE_UP));
    OK(shoal_supervisor_wait(s, SHOAL_FOREVER, &end));
    CHECK(end.kind == SHOAL_OUTCOME_FAILED && end.worker == 0);
    CHECK(end.exit_kind == SHOAL_EXIT_EXITED && end.exit_code == 7);
    CHECK(status_of(s, 0).state == SHOAL_WORKER_FAILED && status_of(s, 0).restarts == 2);
    shoal_supervisor_free(s);
}

static void workers_are_stopped(void)
{
    shoal_supervisor_options options = running("exec sleep 600", 3);
    shoal_worker_status status;
    shoal_supervisor *s;
    shoal_outcome end;

    options.flags = SHOAL_SUPERVISOR_KEEP_GOING | SHOAL_SUPERVISOR_PLAIN;
    OK(shoal_supervisor_start(&options, &s));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_supervisor_wait(s, SHOAL_NOWAIT, &end));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_supervisor_wait(s, 1000000, NULL));
    status = status_of(s, 2);
    CHECK(status.state == SHOAL_WORKER_RUNNING && kill(status.pid, 0) == 0);
    SAYS(SHOAL_ERR_INVALID, "no worker 3", shoal_supervisor_signal(s, 3, SIGTERM));
    SAYS(SHOAL_ERR_INVALID, "no worker -2", shoal_supervisor_signal(s, -2, SIGTERM));
    SAYS(SHOAL_ERR_INVALID, "no worker 3", shoal_supervisor_worker(s, 3, &status));
    SAYS(SHOAL_ERR_INVALID, "no signal 99", shoal_supervisor_signal(s, SHOAL_EVERY_WORKER, 99));
    GIVES(SHOAL_ERR_INVALID, shoal_supervisor_begin_stop(s, 0, SHOAL_NOWAIT));
    OK(shoal_supervisor_signal(s, 1, SIGUSR1));
    while (status_of(s, 1).state == SHOAL_WORKER_RUNNING)
        continue;
    CHECK(status_of(s, 1).exit_kind == SHOAL_EXIT_SIGNALED && status_of(s, 1).exit_code == SIGUSR1);
    OK(shoal_supervisor_begin_stop(s, SIGINT, SHOAL_FOREVER));
    OK(shoal_supervisor_stop(s, SHOAL_NOWAIT));
    OK(shoal_supervisor_wait(s, SHOAL_NOWAIT, &end));
    CHECK(end.kind == SHOAL_OUTCOME_FAILED && end.worker == 1 && end.exit_code == SIGUSR1);
    shoal_supervisor_free(s);

    options = running("exec sleep 600", 2);
    OK(shoal_supervisor_start(&options, &s));
    OK(shoal_end_waits(s));
    GIVES(SHOAL_ERR_CLOSED, shoal_supervisor_wait(s, SHOAL_FOREVER, NULL));
    shoal_supervisor_free(s); /* ends them */
}

static void bad_options(void)
{
    shoal_supervisor_options options = running("true", 1);
    shoal_supervisor *s = (shoal_supervisor *)&options;

    SAYS(SHOAL_ERR_INVALID, "options", shoal_supervisor_start(NULL, &s));
    CHECK(s == NULL);
    SAYS(SHOAL_ERR_INVALID, "out", shoal_supervisor_start(&options, NULL));
    options.size = 8;
    SAYS(SHOAL_ERR_INVALID, "shoal_supervisor_options.size", shoal_supervisor_start(&options, &s));
    options = running("true", 1);
    options.program = NULL;
    SAYS(SHOAL_ERR_INVALID, "program", shoal_supervisor_start(&options, &s));
    options = running("true", 0);
    SAYS(SHOAL_ERR_INVALID, "at least one", shoal_supervisor_start(&options, &s));
    options = running("true", 5000);
    SAYS(SHOAL_ERR_TOO_LARGE, "4096", shoal_supervisor_start(&options, &s));
    options = running("true", 1);
    options.restart = 9;
    SAYS(SHOAL_ERR_INVALID, "restart", shoal_supervisor_start(&options, &s));
    options = running("true", 1);
    options.flags = UINT64_C(1) << 40;
    SAYS(SHOAL_ERR_INVALID, "flags", shoal_supervisor_start(&options, &s));
    options = running("true", 1);
    program.stdio[0] = SHOAL_STDIO_PIPE;
    SAYS(SHOAL_ERR_INVALID, "pipe", shoal_supervisor_start(&options, &s));
    options = running("true", 2);
    program.file = "no-such-program";
    SAYS(SHOAL_ERR_NOT_FOUND, "no-such-program", shoal_supervisor_start(&options, &s));
    CHECK(s == NULL);
}

int main(void)
{
    workers_run();
    workers_fail();
    workers_are_stopped();
    bad_options();
    puts("supervisor: ok");
    return 0;
}
