/* The promises of the functions of discovery and of leases. */

#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static char text[4096];
static size_t len;

static shoal_lease_options want(size_t count)
{
    shoal_lease_options options;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.count = count;
    return options;
}

static int lines(void)
{
    int count = 0;
    const char *at;

    OK(shoal_lease_holders(text, sizeof text, &len));
    for (at = text; (at = strchr(at, '\n')) != NULL; at++)
        count++;
    return count;
}

static void discovery(void)
{
    OK(shoal_device_discover("cuda", text, sizeof text, &len));
    CHECK(len == strlen(text));
    CHECK(strstr(text, "GPU-fa4e0000-0000-4000-8000-000000000003\tcuda\t3\tfake cuda device\t"
                       "25769803776\t21474836480\t15\n") != NULL);
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_device_discover("abacus", text, sizeof text, &len));
    GIVES(SHOAL_ERR_BUFFER_TOO_SMALL, shoal_device_discover(NULL, text, 8, &len));
    CHECK(len > 8);
    GIVES(SHOAL_ERR_INVALID, shoal_device_discover(NULL, NULL, 8, &len));
    GIVES(SHOAL_ERR_INVALID, shoal_device_discover(NULL, text, sizeof text, NULL));
}

static void a_lease_is_had_by_one(void)
{
    shoal_lease_options options = want(3);
    shoal_lease *lease, *other = (shoal_lease *)&len;

    options.order = "2,1,0";
    options.command = "the test";
    OK(shoal_lease_acquire(&options, SHOAL_NOWAIT, &lease));
    OK(shoal_lease_mask(lease, text, sizeof text, &len));
    CHECK(strcmp(text, "2,1,0") == 0 && len == 5);
    OK(shoal_lease_devices(lease, text, sizeof text, &len));
    CHECK(strstr(text, "\t2\t1\nGPU-") != NULL);
    OK(shoal_lease_id(lease, text, sizeof text, &len));
    CHECK(len == 12);
    CHECK(lines() == 1 && strstr(text, "\theld\t") != NULL && strstr(text, "\tthe test\n") != NULL);
    options = want(2);
    GIVES(SHOAL_ERR_TIMEOUT, shoal_lease_acquire(&options, SHOAL_NOWAIT, &other));
    CHECK(other == NULL);
    GIVES(SHOAL_ERR_TIMEOUT, shoal_lease_acquire(&options, 1000000, &other));
    GIVES(SHOAL_ERR_INVALID, shoal_lease_acquire(&options, SHOAL_NOWAIT, NULL));
    GIVES(SHOAL_ERR_BUFFER_TOO_SMALL, shoal_lease_mask(lease, text, 5, &len));
    CHECK(len == 6);
    shoal_lease_free(lease);
    shoal_lease_free(NULL);
    CHECK(lines() == 0);
}

static void options_are_checked(void)
{
    shoal_lease_options options = want(5);
    shoal_lease *lease;

    GIVES(SHOAL_ERR_TOO_LARGE, shoal_lease_acquire(&options, SHOAL_FOREVER, &lease));
    CHECK(lease == NULL);
    options = want(1);
    options.min_free = UINT64_MAX;
    SAYS(SHOAL_ERR_INVALID, "25769803776", shoal_lease_acquire(&options, SHOAL_FOREVER, &lease));
    options = want(1);
    options.share_slots = 2;
    SAYS(SHOAL_ERR_INVALID, "2/0", shoal_lease_request(&options, &lease));
    options.share_memory = 1;
    SAYS(SHOAL_ERR_INVALID, "slots", shoal_lease_request(&options, &lease));
    options = want(1);
    options.min_idle = 101;
    SAYS(SHOAL_ERR_INVALID, "min_idle", shoal_lease_request(&options, &lease));
    options.min_idle = 0;
    options.reserved = 1;
    SAYS(SHOAL_ERR_INVALID, "reserved", shoal_lease_request(&options, &lease));
    options = want(1);
    options.family = "abacus";
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_lease_request(&options, &lease));
    options = want(1);
    options.order = "9";
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_lease_request(&options, &lease));
    options.size = 8;
    SAYS(SHOAL_ERR_INVALID, "size", shoal_lease_request(&options, &lease));
    /* NULL asks for one device. */
    OK(shoal_lease_acquire(NULL, SHOAL_NOWAIT, &lease));
    shoal_lease_free(lease);
}

static void *waiter(void *lease)
{
    GIVES(SHOAL_ERR_CLOSED, shoal_lease_wait(lease, SHOAL_FOREVER));
    return NULL;
}

static void a_request_waits_and_can_be_told_to_stop(void)
{
    shoal_lease_options options = want(4);
    shoal_lease *all, *first, *second;
    pthread_t thread;
    int fd;

    OK(shoal_lease_acquire(&options, SHOAL_FOREVER, &all));
    OK(shoal_lease_request(NULL, &first));
    OK(shoal_lease_request(NULL, &second));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_lease_wait(first, SHOAL_NOWAIT));
    SAYS(SHOAL_ERR_INVALID, "waits", shoal_lease_mask(first, text, sizeof text, &len));
    SAYS(SHOAL_ERR_INVALID, "waits", shoal_lease_fd(first, &fd));
    CHECK(lines() == 3 && strstr(text, "\twaiting\t") != NULL);
    CHECK(pthread_create(&thread, NULL, waiter, first) == 0);
    OK(shoal_end_waits(first));
    CHECK(pthread_join(thread, NULL) == 0);
    shoal_lease_free(first);
    shoal_lease_free(all);
    OK(shoal_lease_wait(second, SHOAL_FOREVER));
    OK(shoal_lease_wait(second, SHOAL_NOWAIT));
    shoal_lease_free(second);
    CHECK(lines() == 0);
}

static int has_it(void *lease)
{
    int fd;
    return shoal_lease_fd(lease, &fd) == SHOAL_OK ? 7 : 8;
}

static void children_have_it_if_they_are_given_it(void)
{
    shoal_lease_options options = want(2);
    shoal_spawn_options child, fork_options;
    const char *argv[] = {"sh", "-c", "test \"$CUDA_VISIBLE_DEVICES\" = 1 || exit 3; read line", NULL};
    shoal_lease *lease;
    shoal_process *p, *copy;
    shoal_exit end;
    char edits[512];
    pid_t pid;
    int fd, status;

    OK(shoal_lease_acquire(&options, SHOAL_FOREVER, &lease));
    OK(shoal_lease_environment(lease, SHOAL_LEASE_EXCLUSIVE, 1, 2, edits, sizeof edits, &len));
    CHECK(strcmp(edits, "CUDA_VISIBLE_DEVICES=1") == 0);
    OK(shoal_lease_environment(lease, SHOAL_LEASE_ROTATE, 1, 2, edits, sizeof edits, &len));
    CHECK(strcmp(edits, "CUDA_VISIBLE_DEVICES=1,0") == 0);
    OK(shoal_lease_environment(lease, SHOAL_LEASE_INDEX_ONLY, 1, 2, edits, sizeof edits, &len));
    CHECK(strcmp(edits, "SHOAL_DEVICE_INDEX=1") == 0);
    SAYS(SHOAL_ERR_INVALID, "worker 2",
         shoal_lease_environment(lease, 0, 2, 2, edits, sizeof edits, &len));
    SAYS(SHOAL_ERR_INVALID, "lease_mode",
         shoal_lease_environment(lease, 3, 0, 1, edits, sizeof edits, &len));

    memset(&fork_options, 0, sizeof fork_options);
    fork_options.size = sizeof fork_options;
    OK(shoal_process_fork(has_it, lease, &fork_options, &copy));
    OK(shoal_process_join(copy, SHOAL_FOREVER, &end));
    CHECK(end.code == 8);
    shoal_process_free(copy);
    fork_options.lease = lease;
    OK(shoal_process_fork(has_it, lease, &fork_options, &copy));
    OK(shoal_process_join(copy, SHOAL_FOREVER, &end));
    CHECK(end.code == 7);
    shoal_process_free(copy);
    OK(shoal_lease_pass_to_forks(lease, true));
    if ((pid = fork()) == 0)
        _exit(has_it(lease));
    CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7);
    OK(shoal_lease_pass_to_forks(lease, false));
    if ((pid = fork()) == 0)
        _exit(has_it(lease));
    CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 8);
    OK(shoal_lease_keep_on_exec(lease, true));
    OK(shoal_lease_keep_on_exec(lease, false));

    memset(&child, 0, sizeof child);
    child.size = sizeof child;
    child.argv = argv;
    child.stdio[0] = SHOAL_STDIO_PIPE;
    child.worker = 1;
    SAYS(SHOAL_ERR_INVALID, "lease", shoal_process_spawn(&child, &p));
    child.workers = 2;
    child.lease = lease;
    OK(shoal_process_spawn(&child, &p));
    OK(shoal_process_stdio(p, 0, &fd));
    shoal_lease_free(lease);
    CHECK(lines() == 1);
    options = want(4);
    GIVES(SHOAL_ERR_TIMEOUT, shoal_lease_acquire(&options, SHOAL_NOWAIT, &lease));
    OK(shoal_lease_request(&options, &lease));
    close(fd);
    OK(shoal_process_join(p, SHOAL_FOREVER, &end));
    CHECK(end.kind == SHOAL_EXIT_EXITED && end.code == 1);
    shoal_process_free(p);
    OK(shoal_lease_wait(lease, SHOAL_FOREVER));
    shoal_lease_free(lease);
}

static void shares(void)
{
    shoal_lease_options quarter = want(1), memory = want(1);
    shoal_lease *a, *b, *c;

    quarter.share_slots = 1;
    quarter.share_of = 4;
    quarter.order = memory.order = "3";
    memory.share_memory = UINT64_C(18) << 30;
    OK(shoal_lease_acquire(&quarter, SHOAL_NOWAIT, &a));
    OK(shoal_lease_devices(a, text, sizeof text, &len));
    CHECK(strstr(text, "\t3\t0.25\n") != NULL);
    OK(shoal_lease_acquire(&memory, SHOAL_NOWAIT, &b));
    OK(shoal_lease_mask(b, text, sizeof text, &len));
    CHECK(strcmp(text, "3") == 0);
    OK(shoal_lease_acquire(&memory, SHOAL_NOWAIT, &c));
    OK(shoal_lease_mask(c, text, sizeof text, &len));
    CHECK(strcmp(text, "0") == 0);
    shoal_lease_free(a);
    shoal_lease_free(b);
    shoal_lease_free(c);
}

static void no_lease(void *it, const char *why)
{
    shoal_lease *lease = it;
    int fd;

    SAYS(SHOAL_ERR_INVALID, why, shoal_lease_wait(lease, SHOAL_NOWAIT));
    SAYS(SHOAL_ERR_INVALID, why, shoal_lease_mask(lease, text, sizeof text, &len));
    SAYS(SHOAL_ERR_INVALID, why, shoal_lease_id(lease, text, sizeof text, &len));
    SAYS(SHOAL_ERR_INVALID, why, shoal_lease_devices(lease, text, sizeof text, &len));
    SAYS(SHOAL_ERR_INVALID, why,
         shoal_lease_environment(lease, 0, 0, 1, text, sizeof text, &len));
    SAYS(SHOAL_ERR_INVALID, why, shoal_lease_fd(lease, &fd));
    SAYS(SHOAL_ERR_INVALID, why, shoal_lease_keep_on_exec(lease, true));
    SAYS(SHOAL_ERR_INVALID, why, shoal_lease_pass_to_forks(lease, true));
}

static void handles(void)
{
    shoal_lease *lease;
    uint64_t junk[4] = {1, 2, 3, 4};

    no_lease(NULL, "NULL");
    no_lease(junk, "no handle");
    OK(shoal_lease_acquire(NULL, SHOAL_NOWAIT, &lease));
    shoal_lease_free(lease);
    no_lease(lease, "freed");
}

int main(void)
{
    discovery();
    a_lease_is_had_by_one();
    options_are_checked();
    a_request_waits_and_can_be_told_to_stop();
    children_have_it_if_they_are_given_it();
    shares();
    handles();
    puts("lease: ok");
    return 0;
}
