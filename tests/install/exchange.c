/*
 * Two threads exchange data through each object that holds data, change data that a lock guards, and open objects
 * and start programs at the same time.
 */

#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <shoal.h>
#include <shoal_bindings.h>

#define CHECKED(call)                                                           \
    do {                                                                        \
        if ((call) != SHOAL_OK) {                                               \
            fprintf(stderr, "%d: %s\n", __LINE__, shoal_last_error());          \
            exit(1);                                                            \
        }                                                                       \
    } while (0)

/* Long enough that the compiler copies it by a call. */
static const char value[] = "a value that takes more room than an entry has in its own line of memory";

static shoal_queue *queue;
static shoal_pipe *here, *there;
static shoal_map *map;
static shoal_list *list;
static shoal_lock *lock;
static int guarded;

static int by_bytes(const void *a, size_t a_len, const void *b, size_t b_len, void *nothing)
{
    (void)nothing;
    return memcmp(a, b, a_len < b_len ? a_len : b_len);
}

static void write_all(void)
{
    uint64_t version = 0;
    bool done;
    int i;
    for (i = 0; i < 300; i++) {
        CHECKED(shoal_map_set(map, "key", 3, value, sizeof value));
        CHECKED(shoal_list_append(list, value, sizeof value));
        CHECKED(shoal_list_sort(list, by_bytes, NULL));
        CHECKED(shoal_list_splice_if(list, version, 0, 0, NULL, 0, &done));
        CHECKED(shoal_queue_put(queue, value, sizeof value, SHOAL_FOREVER));
        CHECKED(shoal_pipe_send(there, value, sizeof value, SHOAL_FOREVER));
    }
}

static void read_all(void)
{
    char buf[sizeof value];
    shoal_watched word;
    size_t len;
    int i;
    for (i = 0; i < 300; i++) {
        CHECKED(shoal_queue_get(queue, SHOAL_FOREVER, buf, sizeof buf, &len));
        CHECKED(shoal_pipe_recv(here, SHOAL_FOREVER, buf, sizeof buf, &len));
        CHECKED(shoal_map_get(map, "key", 3, buf, sizeof buf, &len, NULL));
        CHECKED(shoal_map_get_watched(map, "key", 3, buf, sizeof buf, &len, &word));
        CHECKED(shoal_list_get(list, 0, buf, sizeof buf, &len));
        CHECKED(shoal_list_sort(list, by_bytes, NULL));
    }
}

static void open_and_start(void)
{
    static const char *const argv[] = {"true", NULL};
    shoal_spawn_options options = {0};
    shoal_process *process;
    shoal_queue *own;
    shoal_exit end;
    char buf[8];
    size_t len;
    int i, fd;
    for (i = 0; i < 20; i++) {
        CHECKED(shoal_queue_open(NULL, NULL, &own, NULL));
        CHECKED(shoal_queue_fd(own, &fd));
        CHECKED(shoal_queue_put(own, "x", 1, SHOAL_NOWAIT));
        CHECKED(shoal_queue_get(own, SHOAL_NOWAIT, buf, sizeof buf, &len));
        shoal_queue_free(own);
    }
    options.size = sizeof options;
    options.argv = argv;
    CHECKED(shoal_process_spawn(&options, &process));
    CHECKED(shoal_process_join(process, SHOAL_FOREVER, &end));
    shoal_process_free(process);
}

static void add(void)
{
    int i;
    for (i = 0; i < 500; i++) {
        CHECKED(shoal_lock_lock(lock, SHOAL_FOREVER, NULL));
        guarded++;
        CHECKED(shoal_lock_unlock(lock));
    }
}

static void *other_thread(void *nothing)
{
    write_all();
    open_and_start();
    add();
    return nothing;
}

int main(void)
{
    pthread_t thread;
    char buf[64];
    size_t len = 0;
    int round;

    CHECKED(shoal_queue_open(NULL, NULL, &queue, NULL));
    CHECKED(shoal_queue_put(queue, "resize 17.png", 13, SHOAL_FOREVER));
    CHECKED(shoal_queue_get(queue, SHOAL_FOREVER, buf, sizeof buf, &len));
    CHECKED(shoal_pipe_pair(NULL, &here, &there));
    CHECKED(shoal_map_open(NULL, NULL, &map, NULL));
    CHECKED(shoal_list_open(NULL, NULL, &list, NULL));
    CHECKED(shoal_lock_open(NULL, NULL, &lock, NULL));
    /* The second round begins a thread after the start of programs. */
    for (round = 0; round < 2; round++) {
        if (pthread_create(&thread, NULL, other_thread, NULL) != 0)
            return 1;
        read_all();
        open_and_start();
        add();
        pthread_join(thread, NULL);
    }
    printf("%.*s, %d\n", (int)len, buf, guarded);
    shoal_lock_free(lock);
    shoal_list_free(list);
    shoal_map_free(map);
    shoal_pipe_free(there);
    shoal_pipe_free(here);
    shoal_queue_free(queue);
    return 0;
}
