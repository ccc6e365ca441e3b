/* A process that ends by _exit, which runs no exit handlers, and leaves nothing behind. */

#include <pthread.h>
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
    /* There is nothing left to give up, and handles may be freed. */
    OK(shoal_leave());
    shoal_map_free(m);
    _exit(7);
}

int main(void)
{
    char names[2][64], path[128];
    int ends[2], status, round, i;
    shoal_queue *q = new_queue();
    uint64_t len;
    pid_t pid;

    CHECK(pipe(ends) == 0);
    for (round = 0; round < 2; round++) {
        pid = fork();
        if (pid == 0)
            child(ends[1], round);
        CHECK(read(ends[0], names, sizeof names) == sizeof names);
        CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7);
        for (i = 0; i < 2; i++) {
            snprintf(path, sizeof path, "/dev/shm/shoal.%s", names[i]);
            CHECK(access(path, F_OK) != 0);
        }
    }
    /* What its parent had too is still there. */
    OK(shoal_queue_put(q, "x", 1, SHOAL_NOWAIT));
    OK(shoal_queue_len(q, &len));
    CHECK(len == 1);
    snprintf(path, sizeof path, "/dev/shm/shoal.%s", shoal_name(q));
    CHECK(access(path, F_OK) == 0);
    shoal_queue_free(q);
    puts("leave: ok");
    return 0;
}
