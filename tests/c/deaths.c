/* Everything that a killed process held is released, and its waiters are woken. */

#define _POSIX_C_SOURCE 200809L

#include "other.h"

#include <unistd.h>

static shoal_sync_options made = {sizeof made, SHOAL_CREATE, 0};

/* The shared objects of a test. */
struct shared {
    shoal_event *ready; /* the process to kill holds its objects */
    shoal_map *map;
    shoal_lock *lock;
    shoal_condition *condition;
    shoal_semaphore *semaphore;
    shoal_barrier *barrier;
    shoal_rwlock *rwlock;
};

static struct shared new_shared(void)
{
    struct shared s;
    memset(&s, 0, sizeof s);
    OK(shoal_event_open(NULL, NULL, &s.ready, NULL));
    return s;
}

/* Reports that it is ready, and waits for its kill. */
static int until_killed(struct shared *s)
{
    OK(shoal_event_set(s->ready));
    return pause(); /* never: no signal is handled here */
}

/* Starts the process to kill, and returns when it is ready. */
static shoal_process *victim(int (*entry)(void *), struct shared *s)
{
    shoal_process *p = another(entry, s);
    OK(shoal_event_wait(s->ready, LONG));
    return p;
}

static int takes_every_view(void *arg)
{
    struct shared *s = arg;
    shoal_view view;
    shoal_status status;

    while ((status = shoal_map_view(s->map, "v", 1, &view)) == SHOAL_OK)
        OK(shoal_map_add(s->map, "views", 5, 1, NULL));
    GIVES(SHOAL_ERR_EXHAUSTED, status);
    return until_killed(s);
}

static void the_views_of_the_dead_are_free_again(void)
{
    struct shared s = new_shared();
    shoal_view views[16];
    int64_t taken = 0;

    s.map = new_map();
    OK(shoal_map_set(s.map, "v", 1, "in place", 8));
    shoal_process *holder = victim(takes_every_view, &s);
    OK(shoal_map_add(s.map, "views", 5, 0, &taken));
    CHECK(taken >= 12 && taken <= 16);
    GIVES(SHOAL_ERR_EXHAUSTED, shoal_map_view(s.map, "v", 1, &views[0]));
    dies(holder);
    for (int64_t i = 0; i < taken; i++) {
        OK(shoal_map_view(s.map, "v", 1, &views[i]));
        CHECK(views[i].len == 8 && memcmp(views[i].data, "in place", 8) == 0);
    }
    for (int64_t i = 0; i < taken; i++)
        OK(shoal_map_view_end(s.map, &views[i]));
    shoal_map_free(s.map);
    shoal_event_free(s.ready);
}

static int looks_at_v(void *arg)
{
    struct shared *s = arg;
    shoal_view view;
    OK(shoal_map_view(s->map, "v", 1, &view));
    return until_killed(s);
}

static void the_memory_that_the_dead_looked_at_is_used_again(void)
{
    enum { LARGE = 400 * 1024 }; /* twice, not three times, in 1 MiB */
    static char value[LARGE];
    struct shared s = new_shared();
    shoal_map_options options = {.size = sizeof options, .flags = SHOAL_CREATE};

    options.max_capacity = 1 << 20;
    OK(shoal_map_open(NULL, &options, &s.map, NULL));
    for (int i = 0; i < 3; i++)
        OK(shoal_map_set(s.map, "v", 1, value, LARGE));
    shoal_process *holder = victim(looks_at_v, &s);
    OK(shoal_map_set(s.map, "v", 1, value, LARGE));
    GIVES(SHOAL_ERR_NO_SPACE, shoal_map_set(s.map, "v", 1, value, LARGE));
    dies(holder);
    for (int i = 0; i < 3; i++)
        OK(shoal_map_set(s.map, "v", 1, value, LARGE));
    shoal_map_free(s.map);
    shoal_event_free(s.ready);
}

static int takes_two_permits(void *arg)
{
    struct shared *s = arg;
    OK(shoal_semaphore_acquire(s->semaphore, LONG));
    OK(shoal_semaphore_acquire(s->semaphore, LONG));
    return until_killed(s);
}

static int waits_for_a_permit(void *arg)
{
    struct shared *s = arg;
    OK(shoal_semaphore_acquire(s->semaphore, LONG));
    OK(shoal_semaphore_release(s->semaphore, 1));
    return 0;
}

static void the_permits_of_the_dead_return(void)
{
    struct shared s = new_shared();
    shoal_sync_options options = made;
    uint64_t value = 9;

    options.count = 3;
    OK(shoal_semaphore_open(NULL, &options, &s.semaphore, NULL));
    OK(shoal_semaphore_acquire(s.semaphore, LONG));
    shoal_process *holder = victim(takes_two_permits, &s);
    GIVES(SHOAL_ERR_TIMEOUT, shoal_semaphore_acquire(s.semaphore, SHOAL_NOWAIT));
    shoal_process *sleeper = another(waits_for_a_permit, &s);
    falls_asleep(sleeper);
    dies(holder);
    succeeds(sleeper);
    /* Both are there, and no third one: this process holds it. */
    OK(shoal_semaphore_acquire(s.semaphore, LONG));
    OK(shoal_semaphore_acquire(s.semaphore, LONG));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_semaphore_acquire(s.semaphore, SHOAL_NOWAIT));
    OK(shoal_semaphore_release(s.semaphore, 3));
    value = semaphore_stats(s.semaphore).value;
    CHECK(value == 3);
    shoal_semaphore_free(s.semaphore);
    shoal_event_free(s.ready);
}

static int takes_the_locks(void *arg)
{
    struct shared *s = arg;
    LOCKS(false, shoal_lock_lock, s->lock, LONG);
    LOCKS(false, shoal_map_lock_key, s->map, "ledger", 6, LONG);
    LOCKS(false, shoal_rwlock_lock_write, s->rwlock, LONG);
    return until_killed(s);
}

static int waits_for_the_lock(void *arg)
{
    struct shared *s = arg;
    LOCKS(true, shoal_lock_lock, s->lock, LONG);
    OK(shoal_lock_unlock(s->lock));
    return 0;
}

static int waits_for_the_locked_key(void *arg)
{
    struct shared *s = arg;
    LOCKS(true, shoal_map_lock_key, s->map, "ledger", 6, LONG);
    OK(shoal_map_unlock_key(s->map, "ledger", 6));
    return 0;
}

static int waits_to_write(void *arg)
{
    struct shared *s = arg;
    LOCKS(true, shoal_rwlock_lock_write, s->rwlock, LONG);
    OK(shoal_rwlock_unlock_write(s->rwlock));
    return 0;
}

static void who_waits_for_the_locks_of_the_dead_has_them_and_is_told(void)
{
    int (*const entries[3])(void *) = {waits_for_the_lock, waits_for_the_locked_key,
                                       waits_to_write};
    struct shared s = new_shared();
    shoal_process *sleepers[3];

    s.map = new_map();
    OK(shoal_lock_open(NULL, NULL, &s.lock, NULL));
    OK(shoal_rwlock_open(NULL, NULL, &s.rwlock, NULL));
    shoal_process *holder = victim(takes_the_locks, &s);
    for (int i = 0; i < 3; i++)
        sleepers[i] = another(entries[i], &s);
    for (int i = 0; i < 3; i++)
        falls_asleep(sleepers[i]);
    dies(holder);
    for (int i = 0; i < 3; i++)
        succeeds(sleepers[i]);
    /* One process was told of the death; the next one is not. */
    LOCKS(false, shoal_lock_lock, s.lock, SHOAL_NOWAIT);
    LOCKS(false, shoal_map_lock_key, s.map, "ledger", 6, SHOAL_NOWAIT);
    LOCKS(false, shoal_rwlock_lock_write, s.rwlock, SHOAL_NOWAIT);
    shoal_rwlock_free(s.rwlock);
    shoal_lock_free(s.lock);
    shoal_map_free(s.map);
    shoal_event_free(s.ready);
}

static int waits_for_the_condition(void *arg)
{
    struct shared *s = arg;
    bool yes = false;

    LOCKS(false, shoal_lock_lock, s->lock, LONG);
    LOCKS(true, shoal_condition_wait, s->condition, s->lock, LONG);
    yes = lock_stats(s->lock).held;
    CHECK(yes);
    OK(shoal_lock_unlock(s->lock));
    return 0;
}

static int notifies_with_the_lock(void *arg)
{
    struct shared *s = arg;
    LOCKS(false, shoal_lock_lock, s->lock, LONG);
    OK(shoal_condition_notify(s->condition, 1));
    return until_killed(s);
}

static void a_condition_tells_that_the_one_who_notified_died_with_the_lock(void)
{
    struct shared s = new_shared();
    uint64_t waiting = 0;

    OK(shoal_lock_open(NULL, NULL, &s.lock, NULL));
    OK(shoal_condition_open(NULL, NULL, &s.condition, NULL));
    shoal_process *sleeper = another(waits_for_the_condition, &s);
    while (waiting == 0) {
        pause_ms(1);
        waiting = condition_stats(s.condition).waiting;
        GIVES(SHOAL_ERR_TIMEOUT, shoal_process_join(sleeper, SHOAL_NOWAIT, NULL));
    }
    shoal_process *holder = victim(notifies_with_the_lock, &s);
    /* Notified, it waits for the lock. */
    falls_asleep(sleeper);
    dies(holder);
    succeeds(sleeper);
    LOCKS(false, shoal_lock_lock, s.lock, SHOAL_NOWAIT);
    OK(shoal_lock_unlock(s.lock));
    shoal_condition_free(s.condition);
    shoal_lock_free(s.lock);
    shoal_event_free(s.ready);
}

static int finds_the_barrier_broken(void *arg)
{
    struct shared *s = arg;
    uint32_t index;
    GIVES(SHOAL_ERR_POISONED, shoal_barrier_wait(s->barrier, LONG, &index));
    return 0;
}

static int passes_the_barrier(void *arg)
{
    struct shared *s = arg;
    uint32_t index;
    OK(shoal_barrier_wait(s->barrier, LONG, &index));
    return 0;
}

static void a_death_breaks_the_barrier_for_all(void)
{
    struct shared s = new_shared();
    shoal_sync_options options = made;
    shoal_process *sleepers[2];
    uint32_t index;
    bool broken = true;

    options.count = 3;
    OK(shoal_barrier_open(NULL, &options, &s.barrier, NULL));
    sleepers[0] = another(finds_the_barrier_broken, &s);
    sleepers[1] = another(passes_the_barrier, &s);
    /* A sleeping process may not have arrived yet: it may wait for the lock of the barrier. */
    while (barrier_stats(s.barrier).waiting < 2)
        pause_ms(1);
    for (int i = 0; i < 2; i++)
        falls_asleep(sleepers[i]);
    broken = barrier_stats(s.barrier).broken;
    CHECK(!broken);
    dies(sleepers[1]);
    succeeds(sleepers[0]);
    broken = barrier_stats(s.barrier).broken;
    CHECK(broken);
    GIVES(SHOAL_ERR_POISONED, shoal_barrier_wait(s.barrier, SHOAL_NOWAIT, &index));

    /* After a repair it works as before. */
    OK(shoal_barrier_reset(s.barrier));
    for (int i = 0; i < 2; i++)
        sleepers[i] = another(passes_the_barrier, &s);
    OK(shoal_barrier_wait(s.barrier, LONG, &index));
    for (int i = 0; i < 2; i++)
        succeeds(sleepers[i]);
    shoal_barrier_free(s.barrier);
    shoal_event_free(s.ready);
}

int main(void)
{
    the_views_of_the_dead_are_free_again();
    the_memory_that_the_dead_looked_at_is_used_again();
    the_permits_of_the_dead_return();
    who_waits_for_the_locks_of_the_dead_has_them_and_is_told();
    a_condition_tells_that_the_one_who_notified_died_with_the_lock();
    a_death_breaks_the_barrier_for_all();
    puts("deaths: ok");
    return 0;
}
