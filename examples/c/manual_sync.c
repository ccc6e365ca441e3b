/*
 * One small function for each thing that arrays, locks, processes and devices do, and a main that runs them all. The
 * pages of the manual show them: a title, and the function under it.
 *
 *     cc -std=c99 examples/c/manual_sync.c $(pkg-config --cflags --libs shoal)
 */

#define _POSIX_C_SOURCE 200809L

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <shoal_bindings.h>

#define CLAIM(condition)                                                         \
    do {                                                                         \
        if (!(condition)) {                                                      \
            fprintf(stderr, "%s:%d: false: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                             \
        }                                                                        \
    } while (0)

#define TRY(call)                                                                \
    do {                                                                         \
        if ((call) != SHOAL_OK) {                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, shoal_last_error()); \
            exit(1);                                                             \
        }                                                                        \
    } while (0)

#define SECOND INT64_C(1000000000)

/* The format of an array, as its creator set it. */
static void describe(shoal_array *a)
{
    shoal_array_stats stats = {.size = sizeof stats};
    TRY(shoal_array_stat(a, &stats));
    printf("%llu items of %llu bytes, \"%s\"\n", (unsigned long long)stats.count,
           (unsigned long long)stats.item_size, stats.format);
}

/* A lock that is taken only if it is free. */
static void lock_if_free(shoal_lock *l)
{
    shoal_lock_stats stats = {.size = sizeof stats};
    TRY(shoal_lock_stat(l, &stats));
    uint32_t levels = 0;
    TRY(shoal_lock_depth(l, &levels));
    printf("this thread has %u levels of it\n", (unsigned)levels);
    if (shoal_lock_try(l, NULL) == SHOAL_OK || shoal_lock_lock(l, SHOAL_NOWAIT, NULL) == SHOAL_OK)
        shoal_lock_unlock(l);
    else
        puts("it is taken");
}

/* A binding of a language whose locks any process may release. */
static void unlock_for_the_owner(shoal_lock *l)
{
    shoal_lock_stats stats = {.size = sizeof stats};
    TRY(shoal_lock_stat(l, &stats));
    if (stats.held)
        TRY(shoal_lock_unlock_any(l));
}

/* Locks and other primitives are opened, or created if none has the name, and freed. */
static void open_and_free(void)
{
    shoal_sync_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
    shoal_sync_options counted = {.size = sizeof counted, .flags = SHOAL_CREATE, .count = 4};
    shoal_lock *lock;
    shoal_rwlock *table;
    shoal_semaphore *slots;
    shoal_event *ready;
    shoal_condition *changed;
    shoal_barrier *start;
    TRY(shoal_lock_open("manual-lock", &options, &lock, NULL));
    TRY(shoal_rwlock_open("manual-table", &options, &table, NULL));
    TRY(shoal_semaphore_open("manual-slots", &counted, &slots, NULL));
    TRY(shoal_event_open("manual-ready", &options, &ready, NULL));
    TRY(shoal_condition_open("manual-changed", &options, &changed, NULL));
    TRY(shoal_barrier_open("manual-start", &counted, &start, NULL));
    shoal_barrier_free(start);
    shoal_condition_free(changed);
    shoal_event_free(ready);
    shoal_semaphore_free(slots);
    shoal_rwlock_free(table);
    shoal_lock_free(lock);
}

/* A list and an array for this program alone. */
static void use_and_free(void)
{
    shoal_array_options items = {.size = sizeof items, .item_size = sizeof(double), .count = 3};
    shoal_list *names;
    shoal_array *cells;
    TRY(shoal_list_open(NULL, NULL, &names, NULL));
    TRY(shoal_array_open(NULL, &items, &cells, NULL));
    shoal_array_free(cells);
    shoal_list_free(names);
}

/* One process writes what many read. */
static void write_the_table(shoal_rwlock *table)
{
    shoal_rwlock_stats stats = {.size = sizeof stats};
    bool owner_died;
    TRY(shoal_rwlock_lock_write(table, SHOAL_FOREVER, &owner_died));
    TRY(shoal_rwlock_stat(table, &stats));
    TRY(shoal_rwlock_unlock_write(table));
}

/* Permits of a semaphore that counts items: an item stays taken when the process ends. */
static void take_an_item(shoal_semaphore *items)
{
    shoal_semaphore_stats stats = {.size = sizeof stats};
    TRY(shoal_semaphore_acquire(items, SHOAL_FOREVER));
    TRY(shoal_semaphore_stat(items, &stats));
    printf("%llu are left\n", (unsigned long long)stats.value);
    TRY(shoal_semaphore_keep(items));
}

/* A permit for a moment. A program that must not sleep in a critical section can leave it between the two calls. */
static void borrow_a_permit(shoal_semaphore *permits)
{
    if (shoal_semaphore_try_acquire(permits) != SHOAL_OK)
        TRY(shoal_semaphore_acquire(permits, SHOAL_FOREVER));
    uint64_t free_now = 0;
    if (shoal_semaphore_try_value(permits, &free_now) == SHOAL_OK)
        printf("%llu permits are free\n", (unsigned long long)free_now);
    if (shoal_semaphore_try_release(permits, 1) != SHOAL_OK)
        TRY(shoal_semaphore_release(permits, 1));
}

/* An event as a switch. */
static void switch_on_and_off(shoal_event *e)
{
    bool on;
    TRY(shoal_event_set(e));
    TRY(shoal_event_wait(e, SHOAL_FOREVER)); /* returns at once */
    TRY(shoal_event_clear(e));
    TRY(shoal_event_is_set(e, &on));
    CLAIM(!on);
}

/* The process that makes the change notifies those that wait for it. */
static void notify_all(shoal_condition *changed, shoal_lock *lock, bool *ready)
{
    shoal_condition_stats stats = {.size = sizeof stats};
    TRY(shoal_lock_lock(lock, SHOAL_FOREVER, NULL));
    *ready = true;
    TRY(shoal_condition_notify(changed, SHOAL_ALL));
    TRY(shoal_lock_unlock(lock));
    TRY(shoal_condition_stat(changed, &stats));
}

/* In a binding: a wait in pieces, between which signal handlers of the language run. */
static void wait_in_pieces(shoal_condition *changed, shoal_lock *lock)
{
    uint32_t place;
    bool notified;
    TRY(shoal_lock_lock(lock, SHOAL_FOREVER, NULL));
    TRY(shoal_condition_enlist(changed, &place));
    TRY(shoal_lock_unlock(lock));
    if (shoal_condition_sleep(changed, place, SECOND / 100) == SHOAL_ERR_TIMEOUT)
        puts("handlers may run, and then it sleeps again");
    TRY(shoal_lock_lock(lock, SHOAL_FOREVER, NULL));
    TRY(shoal_condition_leave(changed, place, &notified));
    TRY(shoal_lock_unlock(lock));
}

/* A barrier is broken on purpose, and used again. */
static void break_and_mend(shoal_barrier *start)
{
    shoal_barrier_stats stats = {.size = sizeof stats};
    TRY(shoal_barrier_abort(start));
    CLAIM(shoal_barrier_wait(start, SHOAL_FOREVER, NULL) == SHOAL_ERR_POISONED);
    TRY(shoal_barrier_reset(start));
    TRY(shoal_barrier_stat(start, &stats));
    CLAIM(!stats.broken);
}

/* In a binding: whether the language's handler of a signal has raised an exception. */
static bool has_raised(void)
{
    return false;
}

/* In a binding: the parts of `shoal_barrier_wait`. */
static void arrive_in_pieces(shoal_barrier *start)
{
    uint32_t place;
    bool last;
    shoal_status status;
    TRY(shoal_barrier_arrive(start, SHOAL_FOREVER, &place, NULL, &last));
    if (last) {
        TRY(shoal_barrier_pass(start, place));
        return;
    }
    do
        status = shoal_barrier_sleep(start, place, SECOND / 100);
    while (status == SHOAL_ERR_INTERRUPTED && !has_raised());
    if (status == SHOAL_ERR_INTERRUPTED) /* as if it had not arrived */
        TRY(shoal_barrier_leave(start, place));
    else if (status == SHOAL_ERR_TIMEOUT) /* breaks the barrier for the others */
        (void)shoal_barrier_give_up(start, place);
}

/* The output of a program, and its end. */
static void read_output(void)
{
    const char *argv[] = {"echo", "hello", NULL};
    shoal_spawn_options options = {
        .size = sizeof options, .argv = argv, .stdio = {0, SHOAL_STDIO_PIPE, 0}};
    shoal_process *child;
    shoal_exit end;
    char buf[64];
    int fd;
    TRY(shoal_process_spawn(&options, &child));
    TRY(shoal_process_stdio(child, 1, &fd));
    ssize_t len = read(fd, buf, sizeof buf);
    close(fd);
    TRY(shoal_process_join(child, SHOAL_FOREVER, &end));
    CLAIM(len == 6 && end.kind == SHOAL_EXIT_EXITED && end.code == 0);
    shoal_process_free(child);
}

/* A program that runs for too long is killed. */
static void end_a_program(void)
{
    const char *argv[] = {"sleep", "60", NULL};
    shoal_spawn_options options = {.size = sizeof options, .argv = argv};
    shoal_process *child;
    shoal_exit end;
    int32_t pid;
    int fd; /* readable, for poll, once the program has ended */
    TRY(shoal_process_spawn(&options, &child));
    TRY(shoal_process_pid(child, &pid));
    TRY(shoal_process_fd(child, &fd));
    if (shoal_process_join(child, SECOND / 100, &end) == SHOAL_ERR_TIMEOUT)
        TRY(shoal_process_signal(child, SIGKILL, false));
    TRY(shoal_process_join(child, SHOAL_FOREVER, &end));
    CLAIM(end.kind == SHOAL_EXIT_SIGNALED && end.code == SIGKILL);
    shoal_process_free(child);
}

/* The devices that this process sees, by family. */
static void list_devices(void)
{
    char buf[256];
    size_t len;
    for (size_t i = 0; shoal_device_family(i) != NULL; i++)
        if (shoal_device_visible(shoal_device_family(i), buf, sizeof buf, &len) == SHOAL_OK)
            printf("%s: %s\n", shoal_device_variable(shoal_device_family(i)), buf);
}

/* This process itself sees only the first device: first thing in main. */
static void see_one_device(void)
{
    char changes[256];
    size_t len;
    bool too_late;
    TRY(shoal_device_environment("cuda", "0", changes, sizeof changes, &len)); /* changes nothing */
    TRY(shoal_device_set_visible("cuda", "0", &too_late));
    if (too_late)
        fprintf(stderr, "the runtime was loaded before\n");
}

/* A process whose threads may be in calls ends without waiting for them. */
static int leave_at_once(void *arg)
{
    (void)arg;
    shoal_leave_and_exit(3);
    return 0;
}

int main(void)
{
    shoal_sync_options two = {.size = sizeof two, .flags = SHOAL_CREATE, .count = 2};
    shoal_sync_options one = {.size = sizeof one, .flags = SHOAL_CREATE, .count = 1};
    shoal_array_options items = {.size = sizeof items, .item_size = 8, .count = 3, .format = "d"};
    shoal_array *a;
    shoal_lock *lock;
    shoal_rwlock *table;
    shoal_semaphore *permits;
    shoal_event *e;
    shoal_condition *changed;
    shoal_barrier *start, *alone;
    shoal_process *child;
    shoal_exit end;
    bool ready = false;

    see_one_device();
    list_devices();

    TRY(shoal_array_open(NULL, &items, &a, NULL));
    describe(a);
    shoal_array_free(a);

    open_and_free();
    use_and_free();
    TRY(shoal_lock_open(NULL, NULL, &lock, NULL));
    lock_if_free(lock);
    unlock_for_the_owner(lock);
    TRY(shoal_rwlock_open(NULL, NULL, &table, NULL));
    write_the_table(table);
    shoal_rwlock_free(table);
    TRY(shoal_semaphore_open(NULL, &two, &permits, NULL));
    borrow_a_permit(permits);
    take_an_item(permits);
    shoal_semaphore_free(permits);
    TRY(shoal_event_open(NULL, NULL, &e, NULL));
    switch_on_and_off(e);
    shoal_event_free(e);
    TRY(shoal_condition_open(NULL, NULL, &changed, NULL));
    notify_all(changed, lock, &ready);
    wait_in_pieces(changed, lock);
    shoal_condition_free(changed);
    shoal_lock_free(lock);
    TRY(shoal_barrier_open(NULL, &two, &start, NULL));
    break_and_mend(start);
    arrive_in_pieces(start);
    shoal_barrier_free(start);
    TRY(shoal_barrier_open(NULL, &one, &alone, NULL));
    arrive_in_pieces(alone);
    shoal_barrier_free(alone);

    read_output();
    end_a_program();
    TRY(shoal_process_fork(leave_at_once, NULL, NULL, &child));
    TRY(shoal_process_join(child, SHOAL_FOREVER, &end));
    CLAIM(end.code == 3);
    shoal_process_free(child);
    puts("all of it works");
    return 0;
}
