/* A thread that is cancelled in a call ends after the call, and no change is left incomplete. */

#define _GNU_SOURCE

#include "other.h"

#include <pthread.h>

struct call {
    shoal_status (*function)(void *handle);
    void *handle;
    shoal_status status;
};

static void *calls(void *arg)
{
    struct call *call = arg;
    call->status = call->function(call->handle);
    pthread_testcancel();
    call->status = SHOAL_ERR_INTERNAL; /* it was not cancelled */
    return NULL;
}

/* Cancels a thread in this call, which `ends(handle)` then ends. */
static shoal_status cancelled(shoal_status (*function)(void *), void *handle,
                              shoal_status (*ends)(void *))
{
    struct call call = {function, handle, SHOAL_OK};
    pthread_t thread;
    void *result;
    CHECK(pthread_create(&thread, NULL, calls, &call) == 0);
    CHECK(pthread_cancel(thread) == 0);
    if (ends != NULL) {
        pause_ms(30);
        OK(ends(handle));
    }
    CHECK(pthread_join(thread, &result) == 0);
    CHECK(result == PTHREAD_CANCELED);
    return call.status;
}

static shoal_status gets(void *q)
{
    char buf[8];
    size_t len;
    return shoal_queue_get(q, SHOAL_FOREVER, buf, sizeof buf, &len);
}

static shoal_status waits_for_any(void *q)
{
    shoal_waitable thing = {.queue = q};
    size_t ready;
    return shoal_wait_any(&thing, 1, SHOAL_FOREVER, &ready);
}

static shoal_status locks(void *l)
{
    return shoal_lock_lock(l, SHOAL_FOREVER, NULL);
}

static shoal_status joins(void *p)
{
    shoal_exit end;
    return shoal_process_join(p, SHOAL_FOREVER, &end);
}

static shoal_process *sleeper(void)
{
    const char *argv[] = {"sleep", "600", NULL};
    shoal_spawn_options options = {0};
    shoal_process *p;
    options.size = sizeof options;
    options.argv = argv;
    options.flags = SHOAL_SPAWN_DIE_WITH_PARENT;
    OK(shoal_process_spawn(&options, &p));
    return p;
}

static void a_wait_goes_on_until_it_is_ended(void)
{
    shoal_sync_options options = {sizeof options, SHOAL_CREATE, 0};
    shoal_queue *q = new_queue();
    shoal_process *p = sleeper();
    shoal_lock *l;
    OK(shoal_lock_open(NULL, &options, &l, NULL));
    LOCKS(false, shoal_lock_lock, l, SHOAL_NOWAIT);
    GIVES(SHOAL_ERR_CLOSED, cancelled(gets, q, shoal_end_waits));
    GIVES(SHOAL_ERR_CLOSED, cancelled(waits_for_any, q, shoal_end_waits));
    GIVES(SHOAL_ERR_CLOSED, cancelled(joins, p, shoal_end_waits));
    GIVES(SHOAL_ERR_CLOSED, cancelled(locks, l, shoal_end_waits));
    OK(shoal_process_signal(p, SIGKILL, false));
    shoal_process_free(p);
    shoal_queue_free(q);
    shoal_lock_free(l);
}

/* Commits, opens, spawns, polls and closes: all calls with cancellation points of the system. */
static shoal_status works(void *unused)
{
    static char large[1 << 20];
    size_t len, removed;
    shoal_queue *q = new_queue();
    shoal_map *m = new_map();
    shoal_process *p = sleeper();
    shoal_exit end;
    int fd;
    (void)unused;
    OK(shoal_queue_put(q, large, sizeof large, SHOAL_NOWAIT));
    OK(shoal_queue_fd(q, &fd));
    OK(shoal_queue_get(q, SHOAL_NOWAIT, large, sizeof large, &len));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_get(q, SHOAL_NOWAIT, large, sizeof large, &len));
    OK(shoal_map_set(m, "k", 1, large, sizeof large));
    OK(shoal_process_signal(p, SIGKILL, false));
    OK(shoal_process_join(p, LONG, &end));
    OK(shoal_gc(&removed));
    shoal_process_free(p);
    shoal_queue_free(q);
    shoal_map_free(m);
    return SHOAL_OK;
}

int main(void)
{
    a_wait_goes_on_until_it_is_ended();
    OK(cancelled(works, NULL, NULL));
    puts("cancel: ok");
    return 0;
}
