/* The remains of a process that ends by _exit, which runs no exit handlers; that opens objects in an
 * exit handler; or that was made without the handlers of fork. */

#define _GNU_SOURCE

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static void *sleeper(void *q)
{
    char buf[8];
    size_t len;

    if (shoal_queue_get(q, SHOAL_FOREVER, buf, sizeof buf, &len) != SHOAL_OK)
        puts("a thread came back after the end");
    return NULL;
}

/* Makes a queue and a map in a child that ends by _exit, and writes their names. */
static void child(int to, int with_thread)
{
    pthread_t thread;
    char names[2][64];
    shoal_queue *q = new_queue();
    shoal_map *m = new_map();

    memset(names, 0, sizeof names);
    strcpy(names[0], shoal_name(q));
    strcpy(names[1], shoal_name(m));
    CHECK(write(to, names, sizeof names) == sizeof names);
    if (with_thread) {
        CHECK(pthread_create(&thread, NULL, sleeper, q) == 0);
        shoal_leave_and_exit(7);
    }
    OK(shoal_leave());
    /* Everything is detached already, and handles may be freed. */
    OK(shoal_leave());
    shoal_map_free(m);
    _exit(7);
}

static bool has_file(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "/dev/shm/shoal.%s", name);
    return access(path, F_OK) == 0;
}

static void ends_with(pid_t pid, int code)
{
    int status;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == code);
}

/* The pipe for the names of objects that a child opens at exit. */
static int late = -1;

/* Runs after the library's own handler: it was registered first. */
static void opens_at_exit(void)
{
    char name[64] = "";
    if (late < 0)
        return;
    strcpy(name, shoal_name(new_queue()));
    if (write(late, name, sizeof name) != sizeof name)
        abort();
}

static void what_is_opened_in_exit_handlers_does_not_stay(const int ends[2])
{
    char name[64];
    int round;
    pid_t pid = fork();
    if (pid == 0) {
        late = ends[1];
        exit(7);
    }
    ends_with(pid, 7);
    for (round = 0; round < 2; round++) {
        CHECK(read(ends[0], name, sizeof name) == sizeof name);
        CHECK(!has_file(name));
    }
}

/* As _Fork and raw calls of clone do. */
static pid_t fork_without_handlers(void)
{
    return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static void a_child_without_the_handlers_of_fork_leaves_its_parents_objects(const int ends[2])
{
    char name[64] = "", own[64] = "";
    shoal_queue *q = new_queue(), *again;
    size_t removed;
    int round;

    strcpy(name, shoal_name(q));
    for (round = 0; round < 4; round++) {
        pid_t pid = fork_without_handlers();
        if (pid == 0) {
            if (round == 1)
                shoal_queue_free(q);
            if (round == 2)
                OK(shoal_leave());
            if (round == 3) {
                OK(shoal_queue_open(name, NULL, &again, NULL));
                strcpy(own, shoal_name(new_queue()));
                CHECK(write(ends[1], own, sizeof own) == sizeof own);
            }
            exit(7);
        }
        ends_with(pid, 7);
        CHECK(has_file(name));
        /* According to the kernel this process lives. */
        pid = fork();
        if (pid == 0) {
            OK(shoal_queue_put(q, "x", 1, SHOAL_NOWAIT));
            OK(shoal_gc(&removed));
            _exit(7);
        }
        ends_with(pid, 7);
        CHECK(has_file(name));
    }
    CHECK(read(ends[0], own, sizeof own) == sizeof own);
    CHECK(!has_file(own));
    shoal_queue_free(q);
    CHECK(!has_file(name));
}

int main(void)
{
    char names[2][64];
    int ends[2], round, i;
    shoal_queue *q;
    uint64_t len;
    pid_t pid;

    CHECK(atexit(opens_at_exit) == 0 && atexit(opens_at_exit) == 0);
    q = new_queue();
    CHECK(pipe(ends) == 0);
    for (round = 0; round < 2; round++) {
        pid = fork();
        if (pid == 0)
            child(ends[1], round);
        CHECK(read(ends[0], names, sizeof names) == sizeof names);
        ends_with(pid, 7);
        for (i = 0; i < 2; i++)
            CHECK(!has_file(names[i]));
    }
    /* Objects that its parent also has still exist. */
    OK(shoal_queue_put(q, "x", 1, SHOAL_NOWAIT));
    OK(shoal_queue_len(q, &len));
    CHECK(len == 1);
    CHECK(has_file(shoal_name(q)));
    shoal_queue_free(q);
    what_is_opened_in_exit_handlers_does_not_stay(ends);
    a_child_without_the_handlers_of_fork_leaves_its_parents_objects(ends);
    puts("leave: ok");
    return 0;
}
