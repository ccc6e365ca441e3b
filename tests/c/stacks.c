/* Every kind of object and a child process, on threads with the smallest stack that the header
   asks for. */

#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <pthread.h>

enum { STACK = 64 * 1024 };

static const char *prefix;

static const char *called(const char *what)
{
    static char name[128];
    CHECK(snprintf(name, sizeof name, "%s-%s", prefix, what) < (int)sizeof name);
    return name;
}

static void *queues(void *unused)
{
    shoal_queue_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
    static char big[64 * 1024];
    shoal_message loan;
    shoal_queue *q, *refused;
    size_t len;
    int i, fd;

    (void)unused;
    options.max_attempts = 3;
    OK(shoal_queue_open(called("queue"), &options, &q, NULL));
    for (i = 0; i < 20; i++)
        OK(shoal_queue_put(q, big, sizeof big, SHOAL_NOWAIT));
    for (i = 0; i < 20; i++)
        OK(shoal_queue_get(q, SHOAL_NOWAIT, big, sizeof big, &len));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_get(q, 1000000, big, sizeof big, &len));
    OK(shoal_queue_reserve(q, 100, SHOAL_NOWAIT, &loan));
    OK(shoal_queue_commit(q, &loan, 100));
    OK(shoal_queue_lease(q, SHOAL_FOREVER, SHOAL_NOWAIT, &loan));
    OK(shoal_queue_ack(q, &loan));
    OK(shoal_queue_fd(q, &fd));
    SAYS(SHOAL_ERR_INVALID, "name", shoal_queue_open("a/b", &options, &refused, NULL));
    shoal_queue_free(q);
    return NULL;
}

static void *maps_and_lists(void *unused)
{
    shoal_list_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
    shoal_map *m = new_map();
    shoal_list *l;
    shoal_map_iter *it;
    const void *k, *v;
    size_t k_len, v_len;
    char key[16];
    int i;

    (void)unused;
    OK(shoal_list_open(called("list"), &options, &l, NULL));
    for (i = 0; i < 5000; i++) {
        int len = snprintf(key, sizeof key, "%d", i * 7919 % 5000);
        OK(shoal_map_set(m, key, (size_t)len, key, (size_t)len));
        OK(shoal_list_append(l, key, (size_t)len));
    }
    OK(shoal_map_iter_new(m, &it));
    OK(shoal_map_iter_next(it, &k, &k_len, &v, &v_len));
    shoal_map_iter_free(it);
    LOCKS(false, shoal_map_lock_key, m, "k", 1, SHOAL_NOWAIT);
    OK(shoal_map_unlock_key(m, "k", 1));
    shoal_map_free(m);
    shoal_list_free(l);
    return NULL;
}

static void *locks(void *unused)
{
    shoal_sync_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
    shoal_lock *lock;
    shoal_event *event;

    (void)unused;
    OK(shoal_lock_open(called("lock"), &options, &lock, NULL));
    LOCKS(false, shoal_lock_lock, lock, SHOAL_FOREVER);
    OK(shoal_lock_unlock(lock));
    OK(shoal_event_open(called("event"), &options, &event, NULL));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_event_wait(event, 1000000));
    shoal_event_free(event);
    shoal_lock_free(lock);
    return NULL;
}

static int seven(void *unused)
{
    (void)unused;
    return 7;
}

static void *children(void *unused)
{
    const char *argv[] = {"true", NULL};
    shoal_spawn_options options = {.size = sizeof options, .argv = argv};
    uint64_t flags[] = {0, SHOAL_SPAWN_DIE_WITH_PARENT};
    shoal_process *p;
    shoal_exit end;
    size_t i, removed;

    (void)unused;
    options.device_family = "cuda";
    options.device_mask = "0";
    options.stdio[1] = SHOAL_STDIO_PIPE;
    for (i = 0; i < 2; i++) {
        options.flags = flags[i];
        OK(shoal_process_spawn(&options, &p));
        OK(shoal_process_join(p, SHOAL_FOREVER, &end));
        CHECK(end.kind == SHOAL_EXIT_EXITED && end.code == 0);
        shoal_process_free(p);
    }
    OK(shoal_process_fork(seven, NULL, NULL, &p));
    OK(shoal_process_join(p, SHOAL_FOREVER, &end));
    CHECK(end.code == 7);
    shoal_process_free(p);
    OK(shoal_gc(&removed));
    return NULL;
}

int main(int argc, char **argv)
{
    void *(*const all[])(void *) = {queues, maps_and_lists, locks, children};
    pthread_attr_t attr;
    pthread_t thread;
    size_t i;

    CHECK(argc == 2);
    prefix = argv[1];
    CHECK(pthread_attr_init(&attr) == 0);
    CHECK(pthread_attr_setstacksize(&attr, STACK) == 0);
    for (i = 0; i < sizeof all / sizeof *all; i++) {
        CHECK(pthread_create(&thread, &attr, all[i], NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    puts("stacks: ok");
    return 0;
}
