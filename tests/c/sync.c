/* The promises of locks and other primitives. */

#include "check.h"

static shoal_sync_options made = {sizeof made, SHOAL_CREATE, 0};

static int take_and_die(void *l)
{
    return shoal_lock_lock(l, SHOAL_FOREVER, NULL) == SHOAL_OK ? 0 : 1;
}

static int refused_and_end(void *l)
{
    shoal_condition *c;
    if (shoal_condition_open(NULL, NULL, &c, NULL) != SHOAL_OK)
        return 1;
    bool waits = shoal_condition_wait(c, l, SHOAL_NOWAIT, NULL) != SHOAL_ERR_INVALID;
    shoal_condition_free(c);
    return waits || shoal_lock_unlock(l) != SHOAL_ERR_INVALID ? 1 : 0;
}

static int write_and_die(void *l)
{
    return shoal_rwlock_lock_write(l, SHOAL_FOREVER, NULL) == SHOAL_OK ? 0 : 1;
}

static void in_child(int (*entry)(void *), void *arg)
{
    shoal_process *p;
    shoal_exit end;
    OK(shoal_process_fork(entry, arg, NULL, &p));
    OK(shoal_process_join(p, SHOAL_FOREVER, &end));
    CHECK(end.kind == SHOAL_EXIT_EXITED && end.code == 0);
    shoal_process_free(p);
}

static void locks(void)
{
    shoal_sync_options recursive = made;
    shoal_lock *l, *r, *same;
    uint32_t depth;
    bool yes;

    OK(shoal_lock_open(NULL, NULL, &l, NULL));
    LOCKS(false, shoal_lock_lock, l, SHOAL_NOWAIT);
    GIVES(SHOAL_ERR_TIMEOUT, shoal_lock_lock(l, SHOAL_NOWAIT, NULL));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_lock_try(l, NULL));
    yes = lock_stats(l).held;
    CHECK(yes);
    /* A forked child does not have what its parent has locked. */
    in_child(refused_and_end, l);
    OK(shoal_lock_unlock(l));
    SAYS(SHOAL_ERR_INVALID, "not held", shoal_lock_unlock(l));

    /* The lock of a dead process goes to the next, which is told of the death. */
    in_child(take_and_die, l);
    LOCKS(true, shoal_lock_lock, l, SHOAL_FOREVER);
    depth = lock_stats(l).depth;
    CHECK(depth == 1);
    OK(shoal_lock_unlock(l));
    LOCKS(false, shoal_lock_try, l);
    OK(shoal_lock_unlock(l));

    recursive.flags |= SHOAL_RECURSIVE;
    OK(shoal_lock_open(NULL, &recursive, &r, NULL));
    yes = lock_stats(r).recursive;
    CHECK(yes);
    LOCKS(false, shoal_lock_try, r);
    LOCKS(false, shoal_lock_lock, r, SHOAL_NOWAIT);
    depth = lock_stats(r).depth;
    CHECK(depth == 2);
    OK(shoal_lock_open(shoal_name(r), NULL, &same, NULL));
    SAYS(SHOAL_ERR_INVALID, "another handle holds it", shoal_lock_unlock(same));
    shoal_lock_free(same);
    OK(shoal_lock_unlock(r));
    OK(shoal_lock_unlock(r));
    GIVES(SHOAL_ERR_INVALID, shoal_lock_unlock(r));
    SAYS(SHOAL_ERR_INVALID, "lock handle", shoal_event_set((shoal_event *)r));
    shoal_lock_free(r);
    shoal_lock_free(l);
    shoal_lock_free(NULL);
}

static void semaphores(const char *name)
{
    shoal_sync_options options = made, counted = made;
    shoal_semaphore *s, *same;
    shoal_event *e;
    shoal_lock *l;
    uint64_t value;
    uint32_t held;

    options.flags |= SHOAL_BOUNDED;
    options.count = 2;
    OK(shoal_semaphore_open(name, &options, &s, NULL));
    OK(shoal_semaphore_open(name, NULL, &same, NULL));
    CHECK(strcmp(shoal_name(same), name) == 0);
    SAYS(SHOAL_ERR_WRONG_KIND, "is a semaphore, not a lock", shoal_lock_open(name, NULL, &l, NULL));
    SAYS(SHOAL_ERR_WRONG_KIND, "not an event", shoal_event_open(name, NULL, &e, NULL));
    counted.count = 2;
    SAYS(SHOAL_ERR_INVALID, "count", shoal_lock_open(NULL, &counted, &l, NULL));
    SAYS(SHOAL_ERR_INVALID, "count", shoal_event_open(NULL, &counted, &e, NULL));
    OK(shoal_semaphore_acquire(s, SHOAL_FOREVER));
    OK(shoal_semaphore_acquire(same, SHOAL_FOREVER));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_semaphore_acquire(s, SHOAL_NOWAIT));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_semaphore_try_acquire(s));
    OK(shoal_semaphore_release(s, 2));
    GIVES(SHOAL_ERR_INVALID, shoal_semaphore_release(s, 1));
    GIVES(SHOAL_ERR_INVALID, shoal_semaphore_try_release(s, 1));
    OK(shoal_semaphore_try_acquire(s));
    CHECK(semaphore_stats(s).held == 1);
    OK(shoal_semaphore_try_release(s, 1));
    GIVES(SHOAL_ERR_INVALID, shoal_semaphore_try_acquire(NULL));
    GIVES(SHOAL_ERR_INVALID, shoal_semaphore_try_release((shoal_semaphore *)name, 1));
    value = semaphore_stats(s).value;
    CHECK(value == 2);
    OK(shoal_semaphore_acquire(same, SHOAL_FOREVER));
    held = (uint32_t)semaphore_stats(same).held;
    CHECK(held == 1);
    OK(shoal_semaphore_keep(same));
    held = (uint32_t)semaphore_stats(same).held;
    CHECK(held == 0);
    OK(shoal_unlink(name, SHOAL_KIND_SEMAPHORE));
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_unlink(name, SHOAL_KIND_SEMAPHORE));
    shoal_semaphore_free(same);
    value = semaphore_stats(s).value;
    CHECK(value == 1);
    shoal_semaphore_free(s);
}

static void events_and_conditions(void)
{
    shoal_event *e;
    shoal_condition *c;
    shoal_lock *l;
    uint32_t place;
    uint64_t waiting;
    bool yes;

    OK(shoal_event_open(NULL, NULL, &e, NULL));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_event_wait(e, 1000));
    OK(shoal_event_set(e));
    OK(shoal_event_wait(e, SHOAL_NOWAIT));
    OK(shoal_event_clear(e));
    OK(shoal_event_is_set(e, &yes));
    CHECK(!yes);
    shoal_event_free(e);

    OK(shoal_condition_open(NULL, NULL, &c, NULL));
    OK(shoal_lock_open(NULL, NULL, &l, NULL));
    GIVES(SHOAL_ERR_INVALID, shoal_condition_wait(c, l, SHOAL_NOWAIT, NULL));
    LOCKS(false, shoal_lock_lock, l, SHOAL_FOREVER);
    GIVES(SHOAL_ERR_TIMEOUT, shoal_condition_wait(c, l, 1000, NULL));
    yes = lock_stats(l).held;
    CHECK(yes);
    OK(shoal_condition_enlist(c, &place));
    waiting = condition_stats(c).waiting;
    CHECK(waiting == 1);
    OK(shoal_condition_notify(c, 1));
    OK(shoal_condition_sleep(c, place, SHOAL_FOREVER));
    OK(shoal_condition_leave(c, place, &yes));
    CHECK(yes);
    OK(shoal_condition_notify(c, SHOAL_ALL));
    SAYS(SHOAL_ERR_INVALID, "given up before", shoal_condition_sleep(c, place, SHOAL_FOREVER));
    SAYS(SHOAL_ERR_INVALID, "never taken", shoal_condition_sleep(c, UINT32_MAX, SHOAL_NOWAIT));
    shoal_lock_free(l);
    shoal_condition_free(c);
}

static void barriers(void)
{
    shoal_sync_options options = made;
    shoal_barrier *b;
    uint32_t place, index;
    uint64_t number;
    bool yes;

    SAYS(SHOAL_ERR_INVALID, "parties", shoal_barrier_open(NULL, &options, &b, NULL));
    options.count = 2;
    OK(shoal_barrier_open(NULL, &options, &b, NULL));
    number = barrier_stats(b).parties;
    CHECK(number == 2);
    OK(shoal_barrier_arrive(b, SHOAL_NOWAIT, &place, &index, &yes));
    CHECK(index == 0 && !yes);
    GIVES(SHOAL_ERR_TIMEOUT, shoal_barrier_sleep(b, place, 1000));
    OK(shoal_barrier_wait(b, SHOAL_FOREVER, &index));
    CHECK(index == 1);
    OK(shoal_barrier_sleep(b, place, SHOAL_FOREVER));

    GIVES(SHOAL_ERR_POISONED, shoal_barrier_wait(b, 1000, &index));
    yes = barrier_stats(b).broken;
    CHECK(yes);
    OK(shoal_barrier_reset(b));
    OK(shoal_barrier_arrive(b, SHOAL_NOWAIT, &place, &index, &yes));
    OK(shoal_barrier_leave(b, place));
    SAYS(SHOAL_ERR_INVALID, "given up before", shoal_barrier_leave(b, place));
    SAYS(SHOAL_ERR_INVALID, "never taken", shoal_barrier_sleep(b, UINT32_MAX, SHOAL_NOWAIT));
    OK(shoal_barrier_arrive(b, SHOAL_NOWAIT, &place, &index, &yes));
    CHECK(index == 0 && !yes);
    OK(shoal_barrier_abort(b));
    GIVES(SHOAL_ERR_POISONED, shoal_barrier_give_up(b, place));
    number = barrier_stats(b).waiting;
    CHECK(number == 0);
    shoal_barrier_free(b);
}

static void rwlocks(void)
{
    shoal_rwlock *l;

    OK(shoal_rwlock_open(NULL, NULL, &l, NULL));
    LOCKS(false, shoal_rwlock_lock_read, l, SHOAL_FOREVER);
    LOCKS(false, shoal_rwlock_lock_read, l, SHOAL_FOREVER);
    GIVES(SHOAL_ERR_TIMEOUT, shoal_rwlock_lock_write(l, SHOAL_NOWAIT, NULL));
    CHECK(rwlock_stats(l).readers == 2 && !rwlock_stats(l).writer);
    OK(shoal_rwlock_unlock_read(l));
    OK(shoal_rwlock_unlock_read(l));
    GIVES(SHOAL_ERR_INVALID, shoal_rwlock_unlock_read(l));
    in_child(write_and_die, l);
    LOCKS(true, shoal_rwlock_lock_read, l, SHOAL_FOREVER);
    OK(shoal_rwlock_unlock_read(l));
    LOCKS(true, shoal_rwlock_lock_write, l, SHOAL_FOREVER);
    OK(shoal_rwlock_unlock_write(l));
    LOCKS(false, shoal_rwlock_lock_write, l, SHOAL_FOREVER);
    OK(shoal_rwlock_unlock_write(l));
    shoal_rwlock_free(l);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    locks();
    semaphores(argv[1]);
    events_and_conditions();
    barriers();
    rwlocks();
    puts("sync: ok");
    return 0;
}
