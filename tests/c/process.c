/* The promises of the functions of processes and device masks. */

#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

static shoal_spawn_options shell(const char *const *argv)
{
    shoal_spawn_options options;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.argv = argv;
    return options;
}

/* Runs a shell command with these options and returns what it printed. */
static const char *said(shoal_spawn_options options, const char *command)
{
    static char text[256];
    const char *argv[] = {"sh", "-c", command, NULL};
    shoal_process *p;
    shoal_exit end;
    size_t got = 0;
    ssize_t n;
    int fd;

    options.argv = argv;
    options.stdio[1] = SHOAL_STDIO_PIPE;
    OK(shoal_process_spawn(&options, &p));
    OK(shoal_process_stdio(p, 1, &fd));
    while ((n = read(fd, text + got, sizeof text - 1 - got)) > 0)
        got += (size_t)n;
    text[got] = '\0';
    close(fd);
    OK(shoal_process_join(p, SHOAL_FOREVER, &end));
    CHECK(end.kind == SHOAL_EXIT_EXITED && end.code == 0);
    SAYS(SHOAL_ERR_NOT_FOUND, "\"stdout\"", shoal_process_stdio(p, 1, &fd));
    shoal_process_free(p);
    return text;
}

static void options_arrive(void)
{
    shoal_spawn_options options = shell(NULL);
    const char *set[] = {"A=1", "B=two words", "C=x=y", NULL}, *unset[] = {"B", NULL};
    const char *whole[] = {"PATH=/bin:/usr/bin", "ONLY=this", NULL};
    int pipe_fds[2];
    char buf[8];

    options.env_set = set;
    options.env_unset = unset;
    options.cwd = "/";
    CHECK(strcmp(said(options, "echo $A,$B,$C,$PWD"), "1,,x=y,/\n") == 0);
    options.envp = whole;
    CHECK(strcmp(said(options, "echo $ONLY,$A,$HOME"), "this,1,\n") == 0);

    /* Its argv[0]. */
    const char *argv[] = {"another-name", "-c", "test \"$0\" = another-name", NULL};
    shoal_process *p;
    shoal_exit end;
    options = shell(argv);
    options.file = "sh";
    OK(shoal_process_spawn(&options, &p));
    OK(shoal_process_join(p, SHOAL_FOREVER, &end));
    CHECK(end.kind == SHOAL_EXIT_EXITED && end.code == 0);
    shoal_process_free(p);

    /* Descriptors: standard ones, and others. */
    CHECK(pipe(pipe_fds) == 0);
    shoal_fd_map fd = {pipe_fds[1], 9};
    options = shell(NULL);
    options.n_fds = 1;
    options.fds = &fd;
    options.stdio[0] = SHOAL_STDIO_NULL;
    options.stdio[2] = SHOAL_STDIO_FD(pipe_fds[1]);
    CHECK(strcmp(said(options, "cat; echo nine >&9; echo two >&2; echo one"), "one\n") == 0);
    CHECK(read(pipe_fds[0], buf, 5) == 5 && memcmp(buf, "nine\n", 5) == 0);
    CHECK(read(pipe_fds[0], buf, 4) == 4 && memcmp(buf, "two\n", 4) == 0);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

/* A stream that is kept from programs, and one that is closed. */
static void inherited_streams(void)
{
    const char *argv[] = {"sh", "-c", "readlink /proc/$$/fd/0 && echo here", NULL};
    const char seen[] = "/dev/null\nhere\n";
    shoal_spawn_options options = shell(argv);
    uint64_t flags[] = {0, SHOAL_SPAWN_DIE_WITH_PARENT};
    int pipe_fds[2], own[2] = {dup(0), dup(1)}, i;
    char buf[32];
    shoal_process *p;
    shoal_exit end;

    for (i = 0; i < 2; i++) {
        CHECK(pipe(pipe_fds) == 0);
        CHECK(dup2(pipe_fds[1], 1) == 1 && fcntl(1, F_SETFD, FD_CLOEXEC) == 0 && close(0) == 0);
        options.flags = flags[i];
        OK(shoal_process_spawn(&options, &p));
        OK(shoal_process_join(p, SHOAL_FOREVER, &end));
        CHECK(dup2(own[0], 0) == 0 && dup2(own[1], 1) == 1);
        CHECK(end.kind == SHOAL_EXIT_EXITED && end.code == 0);
        CHECK(read(pipe_fds[0], buf, sizeof buf) == (ssize_t)strlen(seen));
        CHECK(memcmp(buf, seen, strlen(seen)) == 0);
        close(pipe_fds[0]);
        close(pipe_fds[1]);
        shoal_process_free(p);
    }
    close(own[0]);
    close(own[1]);
}

static void bad_options(void)
{
    const char *argv[] = {"sh", "-c", "true", NULL}, *none[] = {NULL}, *no_equals[] = {"A", NULL};
    shoal_spawn_options options = shell(argv);
    shoal_process *p = (shoal_process *)&options;
    char name[64];
    int fd;

    SAYS(SHOAL_ERR_INVALID, "options", shoal_process_spawn(NULL, &p));
    CHECK(p == NULL);
    SAYS(SHOAL_ERR_INVALID, "out", shoal_process_spawn(&options, NULL));
    options.size = 8;
    SAYS(SHOAL_ERR_INVALID, "shoal_spawn_options.size", shoal_process_spawn(&options, &p));
    options = shell(none);
    SAYS(SHOAL_ERR_INVALID, "file", shoal_process_spawn(&options, &p));
    options = shell(argv);
    options.flags = UINT64_C(1) << 40;
    SAYS(SHOAL_ERR_INVALID, "flags", shoal_process_spawn(&options, &p));
    options = shell(argv);
    options.stdio[1] = -77;
    SAYS(SHOAL_ERR_INVALID, "stdio[1]", shoal_process_spawn(&options, &p));
    options.stdio[1] = 5;
    SAYS(SHOAL_ERR_INVALID, "SHOAL_STDIO_FD(5)", shoal_process_spawn(&options, &p));
    options.stdio[1] = SHOAL_STDIO_FD(999);
    SAYS(SHOAL_ERR_INVALID, "stdout", shoal_process_spawn(&options, &p));
    /* A descriptor that another call failed to open is not one of the other streams. */
    for (fd = -3; fd < 0; fd++) {
        options.stdio[1] = SHOAL_STDIO_FD(fd);
        sprintf(name, "descriptor %d is not open", fd);
        SAYS(SHOAL_ERR_INVALID, name, shoal_process_spawn(&options, &p));
    }
    options.stdio[1] = SHOAL_STDIO_FD(INT_MAX);
    SAYS(SHOAL_ERR_INVALID, "descriptor 2147483647", shoal_process_spawn(&options, &p));
    options = shell(argv);
    options.n_fds = 1;
    SAYS(SHOAL_ERR_INVALID, "fds", shoal_process_spawn(&options, &p));
    options = shell(argv);
    options.reserved = 1;
    SAYS(SHOAL_ERR_INVALID, "reserved", shoal_process_spawn(&options, &p));
    options = shell(argv);
    options.workers = 2;
    SAYS(SHOAL_ERR_INVALID, "invalid workers", shoal_process_spawn(&options, &p));
    options = shell(argv);
    options.env_set = no_equals;
    SAYS(SHOAL_ERR_INVALID, "env_set", shoal_process_spawn(&options, &p));
    options = shell(argv);
    options.device_family = "cuda";
    SAYS(SHOAL_ERR_INVALID, "device_mask", shoal_process_spawn(&options, &p));
    options.device_mask = "0,0";
    GIVES(SHOAL_ERR_INVALID, shoal_process_spawn(&options, &p));
    options.device_family = "abacus";
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_process_spawn(&options, &p));
    options = shell(argv);
    options.file = "no-such-program";
    SAYS(SHOAL_ERR_NOT_FOUND, "no-such-program", shoal_process_spawn(&options, &p));
    options.file = "/dev/null";
    GIVES(SHOAL_ERR_PERMISSION, shoal_process_spawn(&options, &p));
    CHECK(p == NULL);
}

static void ends(void)
{
    const char *argv[] = {"sleep", "600", NULL};
    shoal_spawn_options options = shell(argv);
    shoal_process *p;
    shoal_exit end;
    int32_t pid;
    int fd;

    options.flags = SHOAL_SPAWN_NEW_GROUP | SHOAL_SPAWN_DIE_WITH_PARENT;
    OK(shoal_process_spawn(&options, &p));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_process_join(p, SHOAL_NOWAIT, &end));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_process_join(p, 1000000, NULL));
    OK(shoal_process_pid(p, &pid));
    OK(shoal_process_fd(p, &fd));
    CHECK(pid > 0 && kill(pid, 0) == 0 && fd > 2);
    GIVES(SHOAL_ERR_INVALID, shoal_process_signal(p, 12345, false));
    OK(shoal_process_signal(p, 0, false));
    OK(shoal_process_signal(p, SIGINT, true));
    struct pollfd ready = {fd, POLLIN, 0};
    CHECK(poll(&ready, 1, -1) == 1);
    OK(shoal_process_join(p, SHOAL_FOREVER, &end));
    CHECK(end.kind == SHOAL_EXIT_SIGNALED && end.code == SIGINT);
    OK(shoal_process_join(p, SHOAL_NOWAIT, NULL)); /* any number of times */
    OK(shoal_process_signal(p, SIGTERM, false));
    GIVES(SHOAL_ERR_INVALID, shoal_process_signal(p, SIGINT, true));
    GIVES(SHOAL_ERR_INVALID, shoal_process_stdio(p, 3, &fd));
    GIVES(SHOAL_ERR_INVALID, shoal_process_join(p, SHOAL_NOWAIT, (shoal_exit *)((char *)&end + 1)));
    shoal_process_free(p);

    OK(shoal_process_spawn(&options, &p));
    OK(shoal_process_signal(p, SIGKILL, false));
    OK(shoal_process_join(p, SHOAL_FOREVER, &end));
    CHECK(end.kind == SHOAL_EXIT_SIGNALED && end.code == SIGKILL);
    shoal_process_free(p);
}

static int in_child(void *arg)
{
    shoal_queue *q = arg;
    const char *mask = getenv("CUDA_VISIBLE_DEVICES");
    if (shoal_queue_put(q, mask, strlen(mask), SHOAL_FOREVER) != SHOAL_OK)
        return 1;
    return 300; /* the low 8 bits: 44 */
}

static void forks(void)
{
    const char *argv[] = {"sh", NULL};
    shoal_spawn_options options = shell(NULL);
    shoal_queue *q = new_queue();
    shoal_process *p = (shoal_process *)&options;
    shoal_exit end;
    char buf[32];
    size_t len;

    SAYS(SHOAL_ERR_INVALID, "entry", shoal_process_fork(NULL, q, NULL, &p));
    CHECK(p == NULL);
    SAYS(SHOAL_ERR_INVALID, "out", shoal_process_fork(in_child, q, NULL, NULL));
    options.argv = argv;
    SAYS(SHOAL_ERR_INVALID, "forked child", shoal_process_fork(in_child, q, &options, &p));
    options = shell(NULL);
    options.flags = SHOAL_SPAWN_NEW_SESSION;
    SAYS(SHOAL_ERR_INVALID, "flags", shoal_process_fork(in_child, q, &options, &p));
    options.flags = SHOAL_SPAWN_NEW_GROUP | SHOAL_SPAWN_DIE_WITH_PARENT;
    options.device_family = "cuda";
    options.device_mask = "1";
    OK(shoal_process_fork(in_child, q, &options, &p));
    OK(shoal_queue_get(q, SHOAL_FOREVER, buf, sizeof buf, &len));
    CHECK(len == 1 && buf[0] == '5'); /* the second of those that this process sees */
    OK(shoal_process_join(p, SHOAL_FOREVER, &end));
    CHECK(end.kind == SHOAL_EXIT_EXITED && end.code == 44);
    shoal_process_free(p);
    shoal_queue_free(q);
}

static void devices(void)
{
    shoal_spawn_options options = shell(NULL);
    char buf[64];
    size_t len = 0;
    bool late;

    CHECK(strcmp(shoal_device_family(0), "cuda") == 0);
    CHECK(shoal_device_family(1000) == NULL);
    CHECK(strcmp(shoal_device_variable("rocm"), "ROCR_VISIBLE_DEVICES") == 0);
    CHECK(shoal_device_variable("gpu") == NULL);

    OK(shoal_device_resolve("cuda", "2,3", "1", buf, sizeof buf, &len));
    CHECK(strcmp(buf, "3") == 0 && len == 1);
    GIVES(SHOAL_ERR_INVALID, shoal_device_resolve("cuda", "2,3", "2", buf, sizeof buf, &len));
    GIVES(SHOAL_ERR_INVALID, shoal_device_resolve("cuda", NULL, NULL, buf, sizeof buf, &len));
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_device_resolve("gpu", NULL, "0", buf, sizeof buf, &len));
    GIVES(SHOAL_ERR_INVALID, shoal_device_resolve(NULL, NULL, "0", buf, sizeof buf, &len));
    GIVES(SHOAL_ERR_INVALID, shoal_device_resolve("cuda", NULL, "0", NULL, 9, &len));
    GIVES(SHOAL_ERR_INVALID, shoal_device_resolve("cuda", NULL, "0", buf, 9, NULL));

    /* The test runs this program with CUDA_VISIBLE_DEVICES=4,5,6. */
    OK(shoal_device_visible("cuda", buf, sizeof buf, &len));
    CHECK(strcmp(buf, "4,5,6") == 0);
    OK(shoal_device_resolve("cuda", NULL, "2,0", buf, sizeof buf, &len));
    CHECK(strcmp(buf, "6,4") == 0);
    OK(shoal_device_environment("cuda", "2", buf, sizeof buf, &len));
    CHECK(strcmp(buf, "CUDA_VISIBLE_DEVICES=6") == 0);
    CHECK(len > strlen(buf) && buf[len] == '\0' && buf[len - 1] == '\0');
    options.device_family = "cuda";
    options.device_mask = "1";
    CHECK(strcmp(said(options, "echo $CUDA_VISIBLE_DEVICES"), "5\n") == 0);

    OK(shoal_device_set_visible("cuda", "0,1", &late));
    CHECK(!late && strcmp(getenv("CUDA_VISIBLE_DEVICES"), "4,5") == 0);
    OK(shoal_device_set_visible("cuda", "1", NULL));
    CHECK(strcmp(getenv("CUDA_VISIBLE_DEVICES"), "5") == 0);
    GIVES(SHOAL_ERR_INVALID, shoal_device_set_visible("cuda", "1", NULL));
    CHECK(strcmp(getenv("CUDA_VISIBLE_DEVICES"), "5") == 0);
}

int main(void)
{
    options_arrive();
    inherited_streams();
    bad_options();
    ends();
    forks();
    devices();
    puts("process: ok");
    return 0;
}
