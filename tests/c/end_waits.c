/* The waits of threads end when their handle is freed or shoal_end_waits is called. */

#define _GNU_SOURCE

#include "other.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static shoal_sync_options creates = {sizeof creates, SHOAL_CREATE, 0};

/* The call in which a thread waits, and its result. */
struct wait {
    shoal_status (*call)(void *handle);
    void *handle;
    shoal_status status;
    pthread_t thread;
    volatile pid_t id;
};

static void *waits(void *arg)
{
    struct wait *w = arg;
    w->id = gettid();
    w->status = w->call(w->handle);
    return NULL;
}

/* Starts it, and returns once it sleeps. */
static void begins(struct wait *w, shoal_status (*call)(void *), void *handle)
{
    int asleep = 0;
    w->call = call;
    w->handle = handle;
    w->id = 0;
    w->status = SHOAL_OK;
    CHECK(pthread_create(&w->thread, NULL, waits, w) == 0);
    /* Asleep several times in a row: a thread that spins or has a page fault is not. */
    while (asleep < 5) {
        char path[64], line[256] = "";
        FILE *stat;
        pause_ms(1);
        snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)w->id);
        stat = fopen(path, "r");
        if (stat != NULL) {
            CHECK(fgets(line, sizeof line, stat) != NULL);
            fclose(stat);
        }
        asleep = strstr(line, ") S ") != NULL ? asleep + 1 : 0;
    }
}

static void ends(struct wait *w)
{
    CHECK(pthread_join(w->thread, NULL) == 0);
    if (w->status == SHOAL_ERR_CLOSED)
        return;
    fprintf(stderr, "gave %s\n", shoal_status_name(w->status));
    exit(1);
}

/* The calls. */

static shoal_status gets(void *q)
{
    char buf[8];
    size_t len;
    return shoal_queue_get(q, SHOAL_FOREVER, buf, sizeof buf, &len);
}

static shoal_status puts_more(void *q)
{
    return shoal_queue_put(q, "more", 4, SHOAL_FOREVER);
}

static shoal_status leases(void *q)
{
    shoal_message loan;
    return shoal_queue_lease(q, SHOAL_FOREVER, SHOAL_FOREVER, &loan);
}

static shoal_status joins(void *q)
{
    return shoal_queue_join(q, SHOAL_FOREVER);
}

static shoal_status waits_for_any(void *q)
{
    shoal_waitable thing = {.queue = q};
    size_t ready;
    return shoal_wait_any(&thing, 1, LONG, &ready);
}

static shoal_status receives(void *p)
{
    char buf[8];
    size_t len;
    return shoal_pipe_recv(p, SHOAL_FOREVER, buf, sizeof buf, &len);
}

static shoal_status locks(void *l)
{
    return shoal_lock_lock(l, SHOAL_FOREVER, NULL);
}

static shoal_status locks_the_array(void *a)
{
    return shoal_array_lock(a, SHOAL_FOREVER, NULL);
}

static shoal_status locks_the_key(void *m)
{
    return shoal_map_lock_key(m, "k", 1, SHOAL_FOREVER, NULL);
}

static shoal_status waits_for_the_key(void *m)
{
    uint64_t now;
    return shoal_map_wait_key(m, "other", 5, 0, SHOAL_FOREVER, &now);
}

static shoal_status waits_for_a_change(void *m)
{
    uint64_t seen, now;
    seen = map_stats(m).changes;
    return shoal_map_wait_change(m, seen, SHOAL_FOREVER, &now);
}

static shoal_status acquires(void *s)
{
    return shoal_semaphore_acquire(s, SHOAL_FOREVER);
}

static shoal_status waits_for_the_event(void *e)
{
    return shoal_event_wait(e, SHOAL_FOREVER);
}

static shoal_status reads(void *l)
{
    return shoal_rwlock_lock_read(l, SHOAL_FOREVER, NULL);
}

static shoal_status writes(void *l)
{
    return shoal_rwlock_lock_write(l, SHOAL_FOREVER, NULL);
}

static shoal_status comes_to_the_barrier(void *b)
{
    uint32_t index;
    return shoal_barrier_wait(b, SHOAL_FOREVER, &index);
}

static shoal_status joins_the_process(void *p)
{
    shoal_exit end;
    return shoal_process_join(p, SHOAL_FOREVER, &end);
}

static shoal_lock *of_the_condition;

static shoal_status waits_for_the_condition(void *c)
{
    shoal_status status;
    LOCKS(false, shoal_lock_lock, of_the_condition, SHOAL_FOREVER);
    status = shoal_condition_wait(c, of_the_condition, SHOAL_FOREVER, NULL);
    OK(shoal_lock_unlock(of_the_condition));
    return status;
}

static shoal_condition *of_the_lock;

static shoal_status waits_with_the_lock(void *l)
{
    LOCKS(false, shoal_lock_lock, l, SHOAL_FOREVER);
    return shoal_condition_wait(of_the_lock, l, SHOAL_FOREVER, NULL);
}

/* The objects, on each of which the calls wait. */

static shoal_queue *one_message(uint64_t most)
{
    shoal_queue_options options = {0};
    shoal_queue *q;
    options.size = sizeof options;
    options.flags = SHOAL_CREATE;
    options.max_items = most;
    OK(shoal_queue_open(NULL, &options, &q, NULL));
    OK(shoal_queue_put(q, "first", 5, SHOAL_NOWAIT));
    return q;
}

static void *a_queue(void) { return new_queue(); }
static void *a_full_queue(void) { return one_message(1); }

static void *a_pipe(void)
{
    shoal_pipe_options options = {0};
    shoal_pipe *p;
    options.size = sizeof options;
    options.flags = SHOAL_CREATE;
    OK(shoal_pipe_open(NULL, 0, &options, &p, NULL));
    return p;
}

static void *a_map(void) { return new_map(); }

static void *holds_the_key(void *m)
{
    LOCKS(false, shoal_map_lock_key, m, "k", 1, SHOAL_NOWAIT);
    return NULL;
}

static void *holds_the_lock(void *l)
{
    LOCKS(false, shoal_lock_lock, l, SHOAL_NOWAIT);
    return NULL;
}

/* By a thread that ends with it, which leaves it taken. */
static void *taken(void *(*take)(void *), void *handle)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, take, handle) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    return handle;
}

static void *a_map_with_a_locked_key(void) { return taken(holds_the_key, new_map()); }

static void *a_lock(void)
{
    shoal_lock *l;
    OK(shoal_lock_open(NULL, &creates, &l, NULL));
    return l;
}

static void *a_taken_lock(void) { return taken(holds_the_lock, a_lock()); }

static void *an_array(void)
{
    shoal_array_options options = {0};
    shoal_array *a;
    options.size = sizeof options;
    options.flags = SHOAL_CREATE;
    options.item_size = 8;
    options.count = 4;
    OK(shoal_array_open(NULL, &options, &a, NULL));
    LOCKS(false, shoal_array_lock, a, SHOAL_NOWAIT); /* recursive: by a thread that stays */
    return a;
}

static void *a_semaphore(void)
{
    shoal_semaphore *s;
    OK(shoal_semaphore_open(NULL, &creates, &s, NULL));
    return s;
}

static void *an_event(void)
{
    shoal_event *e;
    OK(shoal_event_open(NULL, &creates, &e, NULL));
    return e;
}

static void *a_condition(void)
{
    shoal_condition *c;
    OK(shoal_condition_open(NULL, &creates, &c, NULL));
    return c;
}

static void *a_barrier(void)
{
    shoal_sync_options two = {sizeof two, SHOAL_CREATE, 2};
    shoal_barrier *b;
    OK(shoal_barrier_open(NULL, &two, &b, NULL));
    return b;
}

static void *a_read_lock(void)
{
    shoal_rwlock *l;
    OK(shoal_rwlock_open(NULL, &creates, &l, NULL));
    LOCKS(false, shoal_rwlock_lock_read, l, SHOAL_NOWAIT);
    return l;
}

static void *a_written_lock(void)
{
    shoal_rwlock *l;
    OK(shoal_rwlock_open(NULL, &creates, &l, NULL));
    LOCKS(false, shoal_rwlock_lock_write, l, SHOAL_NOWAIT);
    return l;
}

static void *a_process(void)
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

#define FREES(type)                                                            \
    static void frees_##type(void *handle) { shoal_##type##_free(handle); }
FREES(queue)
FREES(pipe)
FREES(map)
FREES(lock)
FREES(array)
FREES(semaphore)
FREES(event)
FREES(condition)
FREES(barrier)
FREES(rwlock)
/* It runs until this program ends: if it was killed first, the join would report that correctly. */
FREES(process)

static const struct {
    void *(*makes)(void);
    shoal_status (*calls)(void *);
    void (*frees)(void *);
} cases[] = {
    {a_queue, gets, frees_queue},
    {a_queue, leases, frees_queue},
    {a_queue, waits_for_any, frees_queue},
    {a_full_queue, puts_more, frees_queue},
    {a_full_queue, joins, frees_queue},
    {a_pipe, receives, frees_pipe},
    {a_map_with_a_locked_key, locks_the_key, frees_map},
    {a_map, waits_for_the_key, frees_map},
    {a_map, waits_for_a_change, frees_map},
    {a_taken_lock, locks, frees_lock},
    {a_lock, waits_with_the_lock, frees_lock},
    {an_array, locks_the_array, frees_array},
    {a_semaphore, acquires, frees_semaphore},
    {an_event, waits_for_the_event, frees_event},
    {a_condition, waits_for_the_condition, frees_condition},
    {a_barrier, comes_to_the_barrier, frees_barrier},
    {a_read_lock, writes, frees_rwlock},
    {a_written_lock, reads, frees_rwlock},
    {a_process, joins_the_process, frees_process},
};

static void waits_that_are_ended_end(size_t i)
{
    struct wait w[2];
    void *handle = cases[i].makes();
    begins(&w[0], cases[i].calls, handle);
    if (cases[i].calls != comes_to_the_barrier)
        begins(&w[1], cases[i].calls, handle);
    OK(shoal_end_waits(handle));
    ends(&w[0]);
    if (cases[i].calls != comes_to_the_barrier) {
        ends(&w[1]);
        if (cases[i].calls != locks_the_array)
            GIVES(SHOAL_ERR_CLOSED, cases[i].calls(handle));
    }
    OK(shoal_end_waits(handle));
    cases[i].frees(handle);
    SAYS(SHOAL_ERR_INVALID, "freed", shoal_end_waits(handle));
}

static void a_handle_can_be_freed_while_threads_sleep_in_it(size_t i)
{
    struct wait w;
    void *handle = cases[i].makes();
    begins(&w, cases[i].calls, handle);
    if (cases[i].calls == joins_the_process)
        shoal_process_free(handle); /* the process continues */
    else
        cases[i].frees(handle);
    ends(&w);
}

static void one_that_is_held_up_keeps_the_object(void)
{
    struct wait w;
    shoal_condition *c = a_condition();
    begins(&w, waits_for_the_condition, c);
    /* It cannot leave without this lock, although the condition is freed. */
    LOCKS(false, shoal_lock_lock, of_the_condition, SHOAL_FOREVER);
    shoal_condition_free(c);
    OK(shoal_lock_unlock(of_the_condition));
    ends(&w);
}

/* The word of an object's own lock; `at`: where in its data. */
static void set_lock(const void *handle, long at, uint64_t word)
{
    char path[300];
    snprintf(path, sizeof path, "/dev/shm/shoal.%s", shoal_name(handle));
    FILE *file = fopen(path, "r+b");
    CHECK(file != NULL && fseek(file, 36864 + at, SEEK_SET) == 0);
    CHECK(fwrite(&word, sizeof word, 1, file) == 1 && fclose(file) == 0);
}

static shoal_status counts(void *handle)
{
    shoal_semaphore_stats stats = {.size = sizeof stats};
    return shoal_semaphore_stat(handle, &stats);
}

static shoal_status looks(void *handle)
{
    char buf[8];
    size_t len;
    return shoal_queue_peek(handle, 0, buf, sizeof buf, &len);
}

/* A process that is stopped in a call has the object's own lock: another handle stands for it. */
static void one_that_waits_for_a_stopped_process_keeps_the_object(void)
{
    const uint64_t second = UINT64_C(0x5ba1000100000001);
    struct wait w;
    shoal_semaphore *s, *other;
    shoal_queue *q, *again;

    OK(shoal_semaphore_open(NULL, NULL, &s, NULL));
    OK(shoal_semaphore_open(shoal_name(s), NULL, &other, NULL));
    set_lock(s, 0, second);
    begins(&w, counts, s);
    shoal_semaphore_free(s);
    set_lock(other, 0, 0);
    CHECK(pthread_join(w.thread, NULL) == 0 && w.status == SHOAL_OK);
    shoal_semaphore_free(other);

    q = new_queue();
    OK(shoal_queue_put(q, "x", 1, SHOAL_NOWAIT));
    OK(shoal_queue_open(shoal_name(q), NULL, &again, NULL));
    set_lock(q, 384, second);
    begins(&w, looks, q);
    shoal_queue_free(q);
    set_lock(again, 384, 0);
    CHECK(pthread_join(w.thread, NULL) == 0 && w.status == SHOAL_OK);
    shoal_queue_free(again);
}

static void a_childs_free_does_not_wait_for_its_parents_threads(void)
{
    struct wait w;
    pid_t child;
    int status;
    shoal_queue *q = new_queue();
    begins(&w, gets, q);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        shoal_queue_free(q);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    OK(shoal_queue_put(q, "on", 2, SHOAL_NOWAIT));
    CHECK(pthread_join(w.thread, NULL) == 0 && w.status == SHOAL_OK);
    shoal_queue_free(q);
}

static void what_is_no_handle_has_no_waits(void)
{
    uint64_t nothing[8] = {0};
    SAYS(SHOAL_ERR_INVALID, "NULL", shoal_end_waits(NULL));
    SAYS(SHOAL_ERR_INVALID, "no handle", shoal_end_waits(nothing));
    GIVES(SHOAL_ERR_INVALID, shoal_end_waits((char *)nothing + 1));
}

int main(void)
{
    size_t i;
    OK(shoal_lock_open(NULL, &creates, &of_the_condition, NULL));
    OK(shoal_condition_open(NULL, &creates, &of_the_lock, NULL));
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        waits_that_are_ended_end(i);
        a_handle_can_be_freed_while_threads_sleep_in_it(i);
    }
    one_that_is_held_up_keeps_the_object();
    one_that_waits_for_a_stopped_process_keeps_the_object();
    a_childs_free_does_not_wait_for_its_parents_threads();
    what_is_no_handle_has_no_waits();
    shoal_lock_free(of_the_condition);
    shoal_condition_free(of_the_lock);
    puts("end_waits: ok");
    return 0;
}
