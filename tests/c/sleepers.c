/* A sleeper is woken only by another process's change or by its timeout. */

#define _POSIX_C_SOURCE 200809L

#include "other.h"

#define MOMENT INT64_C(20000000)

static shoal_sync_options made = {sizeof made, SHOAL_CREATE, 0};

struct watcher {
    shoal_map *map;
    uint64_t seen;
    uint64_t map_seen;
};

static int waits_for_the_key_to_be_set(void *arg)
{
    struct watcher *w = arg;
    char value[8];
    size_t len;
    uint64_t now = 0, version = 0;

    OK(shoal_map_wait_key(w->map, "k", 1, w->seen, LONG, &now));
    CHECK(now > w->seen);
    OK(shoal_map_get(w->map, "k", 1, value, sizeof value, &len, &version));
    CHECK(version == now && len == 3 && memcmp(value, "new", 3) == 0);
    return 0;
}

static int waits_for_the_key_to_go(void *arg)
{
    struct watcher *w = arg;
    uint64_t now = 1;

    OK(shoal_map_wait_key(w->map, "k", 1, w->seen, LONG, &now));
    CHECK(now == 0);
    return 0;
}

static int waits_for_any_change(void *arg)
{
    struct watcher *w = arg;
    uint64_t now = 0;

    OK(shoal_map_wait_change(w->map, w->map_seen, LONG, &now));
    CHECK(now > w->map_seen);
    return 0;
}

static struct watcher watch(shoal_map *m)
{
    struct watcher w = {m, 0, 0};
    OK(shoal_map_version(m, "k", 1, &w.seen));
    w.map_seen = map_stats(m).changes;
    return w;
}

static void a_key_that_is_set_wakes_who_waits_for_it(void)
{
    shoal_map *m = new_map();
    OK(shoal_map_set(m, "k", 1, "old", 3));

    /* Changes of other keys do not wake it: it still sleeps when the key is set. */
    struct watcher w = watch(m);
    shoal_process *sleeper = another(waits_for_the_key_to_be_set, &w);
    falls_asleep(sleeper);
    for (int i = 0; i < 500; i++)
        OK(shoal_map_set(m, &i, sizeof i, "x", 1));
    OK(shoal_map_add(m, "other", 5, 1, NULL));
    falls_asleep(sleeper);
    GIVES(SHOAL_ERR_TIMEOUT, shoal_process_join(sleeper, MOMENT, NULL));
    OK(shoal_map_set(m, "k", 1, "new", 3));
    succeeds(sleeper);

    /* A new key counts too. */
    OK(shoal_map_remove(m, "k", 1));
    w = watch(m);
    CHECK(w.seen == 0);
    sleeper = another(waits_for_the_key_to_be_set, &w);
    falls_asleep(sleeper);
    OK(shoal_map_set(m, "k", 1, "new", 3));
    succeeds(sleeper);
    shoal_map_free(m);
}

static void a_key_that_goes_wakes_who_waits_for_it(void)
{
    shoal_map *m = new_map();
    OK(shoal_map_set(m, "k", 1, "old", 3));
    struct watcher w = watch(m);
    shoal_process *sleeper = another(waits_for_the_key_to_go, &w);
    falls_asleep(sleeper);
    OK(shoal_map_remove(m, "k", 1));
    succeeds(sleeper);

    /* By its expiry too, of which no process notifies the sleeper. */
    OK(shoal_map_set_for(m, "k", 1, "old", 3, LONG));
    w = watch(m);
    sleeper = another(waits_for_the_key_to_go, &w);
    falls_asleep(sleeper);
    OK(shoal_map_expire(m, "k", 1, MOMENT));
    succeeds(sleeper);
    shoal_map_free(m);
}

static void every_change_wakes_who_waits_for_any(void)
{
    shoal_map *m = new_map();
    struct watcher w = watch(m);
    shoal_process *sleeper = another(waits_for_any_change, &w);
    falls_asleep(sleeper);
    OK(shoal_map_set(m, "whatever", 8, "", 0));
    succeeds(sleeper);

    w = watch(m);
    sleeper = another(waits_for_any_change, &w);
    falls_asleep(sleeper);
    OK(shoal_map_remove(m, "whatever", 8));
    succeeds(sleeper);
    shoal_map_free(m);
}

static int set_k(void *m)
{
    OK(shoal_map_set(m, "k", 1, "new", 3));
    return 0;
}

static void a_deadline_ends_a_wait_and_changes_nothing(void)
{
    shoal_map *m = new_map();
    struct watcher w;
    uint64_t now = 77;

    OK(shoal_map_set(m, "k", 1, "old", 3));
    w = watch(m);
    OK(shoal_map_set(m, "other", 5, "x", 1));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_map_wait_key(m, "k", 1, w.seen, MOMENT, &now));
    w = watch(m);
    GIVES(SHOAL_ERR_TIMEOUT, shoal_map_wait_change(m, w.map_seen, MOMENT, &now));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_map_wait_key(m, "none", 4, 0, MOMENT, &now));
    CHECK(now == 77);

    /* A change before the wait began ends the wait at once. */
    succeeds(another(set_k, m));
    OK(shoal_map_wait_key(m, "k", 1, w.seen, SHOAL_NOWAIT, &now));
    CHECK(now > w.seen && now != 77);
    OK(shoal_map_wait_change(m, w.map_seen, SHOAL_NOWAIT, &now));
    CHECK(now > w.map_seen);
    shoal_map_free(m);
}

static int waits_for_the_event(void *e)
{
    OK(shoal_event_wait(e, LONG));
    return 0;
}

static void an_event_wakes_all_its_sleepers(void)
{
    shoal_process *sleepers[3];
    shoal_event *e;

    OK(shoal_event_open(NULL, NULL, &e, NULL));
    for (int i = 0; i < 3; i++)
        sleepers[i] = another(waits_for_the_event, e);
    for (int i = 0; i < 3; i++)
        falls_asleep(sleepers[i]);
    OK(shoal_event_set(e));
    /* A process that slept then is woken, although the event is cleared at once. */
    OK(shoal_event_clear(e));
    for (int i = 0; i < 3; i++)
        succeeds(sleepers[i]);
    GIVES(SHOAL_ERR_TIMEOUT, shoal_event_wait(e, MOMENT));
    shoal_event_free(e);
}

struct meeting {
    shoal_condition *c;
    shoal_lock *l;
    shoal_map *places; /* the waiters wait for "free" */
};

/* How to wait for a condition: with the lock, and with a check after each wait. */
static int takes_a_place(void *arg)
{
    struct meeting *m = arg;
    bool yes = false;
    int64_t left;

    LOCKS(false, shoal_lock_lock, m->l, LONG);
    for (;;) {
        OK(shoal_map_add(m->places, "free", 4, 0, &left));
        if (left > 0)
            break;
        LOCKS(false, shoal_condition_wait, m->c, m->l, LONG);
        yes = lock_stats(m->l).held;
        CHECK(yes);
    }
    OK(shoal_map_add(m->places, "free", 4, -1, NULL));
    OK(shoal_lock_unlock(m->l));
    return 0;
}

static void wait_until_waiting(shoal_condition *c, uint64_t many)
{
    uint64_t waiting = 0;
    for (int i = 0; i < 60000; i++) {
        waiting = condition_stats(c).waiting;
        if (waiting == many)
            return;
        pause_ms(1);
    }
    CHECK(waiting == many);
}

static void offer(struct meeting *m, int64_t places, uint32_t notified)
{
    LOCKS(false, shoal_lock_lock, m->l, LONG);
    OK(shoal_map_add(m->places, "free", 4, places, NULL));
    OK(shoal_condition_notify(m->c, notified));
    OK(shoal_lock_unlock(m->l));
}

static void a_condition_wakes_as_many_as_are_notified(void)
{
    struct meeting m = {NULL, NULL, new_map()};
    shoal_process *sleepers[3];
    uint64_t waiting;

    OK(shoal_condition_open(NULL, NULL, &m.c, NULL));
    OK(shoal_lock_open(NULL, NULL, &m.l, NULL));
    for (uint64_t i = 0; i < 3; i++) {
        sleepers[i] = another(takes_a_place, &m);
        wait_until_waiting(m.c, i + 1);
    }
    /* Three waiters, one notification: it goes to the one that waits longest. */
    offer(&m, 3, 1);
    succeeds(sleepers[0]);
    waiting = condition_stats(m.c).waiting;
    CHECK(waiting == 2);
    /* Dead waiters are skipped. */
    dies(sleepers[1]);
    offer(&m, 0, 1);
    succeeds(sleepers[2]);
    shoal_lock_free(m.l);
    shoal_condition_free(m.c);
    shoal_map_free(m.places);
}

static int comes_to_the_barrier(void *b)
{
    uint32_t index = 9;
    OK(shoal_barrier_wait(b, LONG, &index));
    CHECK(index == 0);
    return 0;
}

static void the_last_to_come_opens_a_barrier(void)
{
    shoal_sync_options options = made;
    shoal_barrier *b;
    uint32_t index = 9;

    options.count = 2;
    OK(shoal_barrier_open(NULL, &options, &b, NULL));
    for (int i = 0; i < 3; i++) {
        shoal_process *sleeper = another(comes_to_the_barrier, b);
        falls_asleep(sleeper);
        OK(shoal_barrier_wait(b, LONG, &index));
        CHECK(index == 1);
        succeeds(sleeper);
    }
    shoal_barrier_free(b);
}

int main(void)
{
    a_key_that_is_set_wakes_who_waits_for_it();
    a_key_that_goes_wakes_who_waits_for_it();
    every_change_wakes_who_waits_for_any();
    a_deadline_ends_a_wait_and_changes_nothing();
    an_event_wakes_all_its_sleepers();
    a_condition_wakes_as_many_as_are_notified();
    the_last_to_come_opens_a_barrier();
    puts("sleepers: ok");
    return 0;
}
