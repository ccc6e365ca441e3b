/* The promises of the functions of a queue. */

#define _POSIX_C_SOURCE 200809L
#define _XOPEN_SOURCE 700

#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

static void one_by_one(shoal_queue *q)
{
    char buf[8];
    size_t len = 0;
    uint64_t number;

    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_get(q, SHOAL_NOWAIT, buf, sizeof buf, &len));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_get(q, 1000000, buf, sizeof buf, &len));
    OK(shoal_queue_put(q, "a long message", 14, SHOAL_NOWAIT));
    OK(shoal_queue_put(q, "short", 5, SHOAL_FOREVER));
    OK(shoal_queue_len(q, &number));
    CHECK(number == 2);
    number = queue_stats(q).bytes;
    CHECK(number == 19);

    /* With a buffer that is too small the size is returned, and the message stays. */
    SAYS(SHOAL_ERR_BUFFER_TOO_SMALL, "14",
         shoal_queue_get(q, SHOAL_NOWAIT, buf, sizeof buf, &len));
    CHECK(len == 14);
    SAYS(SHOAL_ERR_BUFFER_TOO_SMALL, "14", shoal_queue_get(q, SHOAL_NOWAIT, NULL, 0, &len));
    char large[14];
    OK(shoal_queue_get(q, SHOAL_NOWAIT, large, sizeof large, &len));
    CHECK(len == 14 && memcmp(large, "a long message", 14) == 0);
    OK(shoal_queue_get(q, SHOAL_NOWAIT, buf, sizeof buf, &len));
    CHECK(len == 5 && memcmp(buf, "short", 5) == 0);
}

static void tries(void)
{
    shoal_queue_options options = {sizeof options, SHOAL_CREATE, 4096, 4096, 2, 0};
    static char large[8192];
    shoal_queue *q;
    char buf[8];
    size_t len = 99;

    OK(shoal_queue_open(NULL, &options, &q, NULL));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_try_get(q, buf, sizeof buf, &len));
    CHECK(len == 0);
    OK(shoal_queue_try_put(q, "a long message", 14));
    OK(shoal_queue_try_put(q, NULL, 0));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_try_put(q, "third", 5));
    SAYS(SHOAL_ERR_BUFFER_TOO_SMALL, "14", shoal_queue_try_get(q, buf, sizeof buf, &len));
    CHECK(len == 14);
    OK(shoal_queue_try_get(q, large, sizeof large, &len));
    CHECK(len == 14 && memcmp(large, "a long message", 14) == 0);
    OK(shoal_queue_try_get(q, NULL, 0, &len));
    CHECK(len == 0);
    GIVES(SHOAL_ERR_TOO_LARGE, shoal_queue_try_put(q, large, sizeof large));
    GIVES(SHOAL_ERR_INVALID, shoal_queue_try_put(q, NULL, 1));
    GIVES(SHOAL_ERR_INVALID, shoal_queue_try_put(NULL, "message", 7));
    GIVES(SHOAL_ERR_INVALID, shoal_queue_try_get(q, NULL, 1, &len));
    GIVES(SHOAL_ERR_INVALID, shoal_queue_try_get(NULL, buf, sizeof buf, &len));
    OK(shoal_queue_try_put(q, "last", 4));
    OK(shoal_queue_close(q));
    GIVES(SHOAL_ERR_CLOSED, shoal_queue_try_put(q, "late", 4));
    SAYS(SHOAL_ERR_INVALID, "len", shoal_queue_try_get(q, buf, sizeof buf, NULL));
    OK(shoal_queue_try_get(q, buf, sizeof buf, &len));
    GIVES(SHOAL_ERR_CLOSED, shoal_queue_try_get(q, buf, sizeof buf, &len));
    shoal_queue_free(q);
}

static void looks_take_nothing(void)
{
    shoal_queue *q = new_queue();
    char buf[8];
    size_t len = 99;

    GIVES(SHOAL_ERR_NOT_FOUND, shoal_queue_peek(q, 0, buf, sizeof buf, &len));
    CHECK(len == 0);
    OK(shoal_queue_put(q, "one", 3, SHOAL_NOWAIT));
    OK(shoal_queue_put(q, "a long message", 14, SHOAL_NOWAIT));
    OK(shoal_queue_peek(q, 0, buf, sizeof buf, &len));
    CHECK(len == 3 && memcmp(buf, "one", 3) == 0);
    SAYS(SHOAL_ERR_BUFFER_TOO_SMALL, "14", shoal_queue_peek(q, 1, buf, sizeof buf, &len));
    CHECK(len == 14);
    SAYS(SHOAL_ERR_NOT_FOUND, "2", shoal_queue_peek(q, 2, buf, sizeof buf, &len));
    OK(shoal_queue_get(q, SHOAL_NOWAIT, buf, sizeof buf, &len));

    shoal_queue_stats stats = queue_stats(q);
    CHECK(stats.len == 1 && stats.put == 2 && stats.put_bytes == 17);
    CHECK(stats.taken == 1 && stats.taken_bytes == 3 && stats.waiting == 0);
    shoal_message message;
    OK(shoal_queue_lease(q, SHOAL_FOREVER, SHOAL_NOWAIT, &message));
    OK(shoal_queue_nack(q, &message, 0));
    stats = queue_stats(q);
    CHECK(stats.len == 1 && stats.waiting == 1 && stats.taken == 2);
    shoal_queue_free(q);
}

static void batches(shoal_queue *q)
{
    const shoal_slice items[] = {{"one", 3}, {NULL, 0}, {"three", 5}};
    char buf[64];
    size_t lens[8], n = 99;

    OK(shoal_queue_put_many(q, items, 3, SHOAL_NOWAIT, &n));
    CHECK(n == 3);
    OK(shoal_queue_put_many(q, items, 0, SHOAL_NOWAIT, &n));
    CHECK(n == 0);
    GIVES(SHOAL_ERR_BUFFER_TOO_SMALL, shoal_queue_get_many(q, SHOAL_NOWAIT, buf, 2, lens, 8, &n));
    CHECK(n == 0 && lens[0] == 3);
    OK(shoal_queue_get_many(q, SHOAL_NOWAIT, buf, 5, lens, 8, &n)); /* the third does not fit */
    CHECK(n == 2 && lens[0] == 3 && lens[1] == 0 && memcmp(buf, "one", 3) == 0);
    OK(shoal_queue_put_many(q, items, 3, SHOAL_NOWAIT, &n));
    OK(shoal_queue_get_many(q, SHOAL_FOREVER, buf, sizeof buf, lens, 2, &n));
    CHECK(n == 2 && lens[0] == 5 && lens[1] == 3 && memcmp(buf, "threeone", 8) == 0);
    OK(shoal_queue_get_many(q, SHOAL_NOWAIT, buf, sizeof buf, lens, 8, &n));
    CHECK(n == 2 && lens[0] == 0 && lens[1] == 5);
    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_get_many(q, SHOAL_NOWAIT, buf, sizeof buf, lens, 8, &n));
    CHECK(n == 0);
}

static void limits(void)
{
    shoal_queue_options options = {sizeof options, SHOAL_CREATE, 4096, 4096, 0, 0};
    static char message[4096];
    shoal_queue *q;
    uint64_t capacity, most, max;
    size_t n;
    shoal_slice items[8];

    OK(shoal_queue_open(NULL, &options, &q, NULL));
    capacity = queue_stats(q).capacity;
    max = queue_stats(q).max_capacity;
    most = queue_stats(q).max_message;
    CHECK(capacity == 4096 && max == 4096 && most < 4096 && most > 4000);
    SAYS(SHOAL_ERR_TOO_LARGE, "message of 4096 bytes",
         shoal_queue_put(q, message, sizeof message, SHOAL_FOREVER));
    OK(shoal_queue_put(q, message, (size_t)most, SHOAL_NOWAIT));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_put(q, message, 1, SHOAL_NOWAIT));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_put(q, message, 1, 1000000));
    OK(shoal_queue_get(q, SHOAL_NOWAIT, message, sizeof message, &n));

    /* As many of a batch as fit. */
    for (int i = 0; i < 8; i++)
        items[i] = (shoal_slice){message, 1000};
    OK(shoal_queue_put_many(q, items, 8, SHOAL_NOWAIT, &n));
    CHECK(n >= 2 && n < 5);
    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_put_many(q, items, 8, SHOAL_NOWAIT, &n));
    CHECK(n == 0);
    shoal_queue_free(q);
}

static void closing(void)
{
    shoal_queue *q = new_queue();
    char buf[8];
    size_t len;
    bool closed = true;

    closed = queue_stats(q).closed;
    CHECK(!closed);
    OK(shoal_queue_put(q, "last", 4, SHOAL_NOWAIT));
    OK(shoal_queue_close(q));
    OK(shoal_queue_close(q));
    closed = queue_stats(q).closed;
    CHECK(closed);
    GIVES(SHOAL_ERR_CLOSED, shoal_queue_put(q, "x", 1, SHOAL_FOREVER));
    OK(shoal_queue_get(q, SHOAL_FOREVER, buf, sizeof buf, &len));
    GIVES(SHOAL_ERR_CLOSED, shoal_queue_get(q, SHOAL_FOREVER, buf, sizeof buf, &len));
    shoal_queue_free(q);
}

static void *fail_elsewhere(void *q)
{
    CHECK(strcmp(shoal_last_error(), "") == 0);
    SAYS(SHOAL_ERR_INVALID, "data", shoal_queue_put(q, NULL, 1, SHOAL_NOWAIT));
    return NULL;
}

static void each_thread_has_its_own_error(shoal_queue *q)
{
    pthread_t thread;
    size_t len;

    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_get(q, SHOAL_NOWAIT, NULL, 0, &len));
    const char *before = shoal_last_error();
    CHECK(strcmp(before, "timed out") == 0);
    CHECK(pthread_create(&thread, NULL, fail_elsewhere, q) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(shoal_last_error() == before && strcmp(before, "timed out") == 0);
    /* A call that succeeds does not change it. */
    OK(shoal_queue_put(q, "x", 1, SHOAL_NOWAIT));
    CHECK(shoal_last_error() == before && strcmp(before, "timed out") == 0);
    /* The next one that fails overwrites it. */
    SAYS(SHOAL_ERR_INVALID, "data", shoal_queue_put(q, NULL, 1, SHOAL_NOWAIT));
    CHECK(shoal_last_error() == before);
}

static void bounded_by_messages(void)
{
    shoal_queue_options options = {sizeof options, SHOAL_CREATE, 0, 0, 2, 0};
    shoal_message loan;
    shoal_queue *q;
    uint64_t bound;
    size_t len;
    char c;

    OK(shoal_queue_open(NULL, &options, &q, NULL));
    bound = queue_stats(q).max_items;
    CHECK(bound == 2);
    OK(shoal_queue_put(q, "a", 1, SHOAL_NOWAIT));
    OK(shoal_queue_put(q, "b", 1, SHOAL_NOWAIT));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_put(q, "c", 1, SHOAL_NOWAIT));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_put(q, "c", 1, 1000000));
    OK(shoal_queue_get(q, SHOAL_NOWAIT, &c, 1, &len));
    OK(shoal_queue_put(q, "c", 1, SHOAL_NOWAIT));
    OK(shoal_queue_get(q, SHOAL_NOWAIT, &c, 1, &len));
    /* A reservation counts as a message. */
    OK(shoal_queue_reserve(q, 1, SHOAL_NOWAIT, &loan));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_put(q, "d", 1, SHOAL_NOWAIT));
    OK(shoal_queue_discard(q, &loan));
    shoal_queue_free(q);
}

static void in_place(shoal_queue *q)
{
    shoal_message first, second, spent;
    uint64_t many;
    char buf[64];
    size_t len;

    OK(shoal_queue_reserve(q, 5, SHOAL_NOWAIT, &first));
    CHECK(first.len == 5 && first.data != NULL && (uintptr_t)first.data % 16 == 0);
    OK(shoal_queue_reserve(q, 1000, SHOAL_NOWAIT, &second));
    memcpy(second.data, "later", 5);
    SAYS(SHOAL_ERR_TOO_LARGE, "message of 1001 bytes", shoal_queue_commit(q, &second, 1001));
    spent = second;
    OK(shoal_queue_commit(q, &second, 5));
    CHECK(second.data == NULL && second.len == 0);
    GIVES(SHOAL_ERR_INVALID, shoal_queue_commit(q, &second, 5));
    GIVES(SHOAL_ERR_INVALID, shoal_queue_discard(q, &second));
    /* An earlier copy of the struct is refused too. */
    GIVES(SHOAL_ERR_INVALID, shoal_queue_commit(q, &spent, 5));
    GIVES(SHOAL_ERR_INVALID, shoal_queue_discard(q, &spent));
    /* Messages are in the order of their commits. */
    memcpy(first.data, "first", 5);
    OK(shoal_queue_commit(q, &first, 5));
    OK(shoal_queue_len(q, &many));
    CHECK(many == 2);
    OK(shoal_queue_get(q, SHOAL_NOWAIT, buf, sizeof buf, &len));
    CHECK(len == 5 && memcmp(buf, "later", 5) == 0);
    OK(shoal_queue_get(q, SHOAL_NOWAIT, buf, sizeof buf, &len));
    CHECK(len == 5 && memcmp(buf, "first", 5) == 0);

    OK(shoal_queue_reserve(q, 10, SHOAL_NOWAIT, &first));
    OK(shoal_queue_discard(q, &first));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_get(q, SHOAL_NOWAIT, buf, sizeof buf, &len));
    GIVES(SHOAL_ERR_INVALID, shoal_queue_reserve(q, 10, SHOAL_NOWAIT, NULL));
    GIVES(SHOAL_ERR_TOO_LARGE, shoal_queue_reserve(q, SIZE_MAX, SHOAL_NOWAIT, &first));
    CHECK(first.data == NULL);
    GIVES(SHOAL_ERR_INVALID, shoal_queue_commit(q, NULL, 0));
    memset(&first, 0x5a, sizeof first);
    GIVES(SHOAL_ERR_INVALID, shoal_queue_commit(q, &first, 0));
}

static void leases(void)
{
    shoal_queue_options options;
    shoal_queue *q, *dead, *none;
    shoal_message job, spent;
    char buf[64];
    size_t len;
    uint64_t attempt;

    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.flags = SHOAL_CREATE;
    options.max_attempts = 256;
    SAYS(SHOAL_ERR_TOO_LARGE, "max_attempts of 256 is above the limit of 255",
         shoal_queue_open(NULL, &options, &q, NULL));
    options.max_attempts = 3;
    OK(shoal_queue_open(NULL, &options, &q, NULL));
    CHECK(queue_stats(q).max_attempts == 3);
    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_lease(q, SHOAL_FOREVER, SHOAL_NOWAIT, &job));
    CHECK(job.data == NULL && job.len == 0);
    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_lease(q, SHOAL_FOREVER, 1000000, &job));
    OK(shoal_queue_put(q, "job", 3, SHOAL_NOWAIT));
    OK(shoal_queue_put(q, "next", 4, SHOAL_NOWAIT));

    for (attempt = 1; attempt <= 3; attempt++) {
        OK(shoal_queue_lease(q, SHOAL_FOREVER, SHOAL_NOWAIT, &job));
        CHECK(job.len == 3 && memcmp(job.data, "job", 3) == 0 && job.attempts == attempt);
        CHECK(queue_stats(q).leased == 1 && queue_stats(q).unfinished == 2);
        spent = job;
        OK(shoal_queue_nack(q, &job, 0));
        CHECK(job.data == NULL && job.len == 0);
        GIVES(SHOAL_ERR_INVALID, shoal_queue_ack(q, &job));
        GIVES(SHOAL_ERR_INVALID, shoal_queue_ack(q, &spent));
        GIVES(SHOAL_ERR_INVALID, shoal_queue_commit(q, &spent, 1));
    }
    OK(shoal_queue_lease(q, SHOAL_FOREVER, SHOAL_NOWAIT, &job));
    CHECK(job.len == 4 && memcmp(job.data, "next", 4) == 0 && job.attempts == 1);
    OK(shoal_queue_dead_letters(q, &dead));
    OK(shoal_queue_get(dead, SHOAL_NOWAIT, buf, sizeof buf, &len));
    CHECK(len == 3 && memcmp(buf, "job", 3) == 0);
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_queue_dead_letters(dead, &none));
    CHECK(none == NULL);
    shoal_queue_free(dead);

    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_join(q, SHOAL_NOWAIT));
    OK(shoal_queue_extend(q, &job, SHOAL_FOREVER));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_lease(q, SHOAL_FOREVER, 20000000, &spent));
    OK(shoal_queue_extend(q, &job, 1000000));
    OK(shoal_queue_lease(q, 1000000000, SHOAL_FOREVER, &spent));
    CHECK(spent.attempts == 2 && spent.len == 4);
    GIVES(SHOAL_ERR_EXPIRED, shoal_queue_extend(q, &job, 1000000));
    CHECK(memcmp(job.data, "next", 4) == 0);
    GIVES(SHOAL_ERR_EXPIRED, shoal_queue_ack(q, &job));
    CHECK(job.data == NULL);
    OK(shoal_queue_ack(q, &spent));
    OK(shoal_queue_join(q, SHOAL_FOREVER));
    /* Returned with the longest delay: it is not delivered again. */
    OK(shoal_queue_put(q, "never", 5, SHOAL_NOWAIT));
    OK(shoal_queue_lease(q, SHOAL_FOREVER, SHOAL_NOWAIT, &job));
    OK(shoal_queue_nack(q, &job, SHOAL_FOREVER));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_lease(q, SHOAL_FOREVER, 20000000, &job));
    CHECK(queue_stats(q).unfinished == 1);
    GIVES(SHOAL_ERR_INVALID, shoal_queue_lease(q, 0, SHOAL_NOWAIT, NULL));
    GIVES(SHOAL_ERR_INVALID, shoal_queue_ack(q, NULL));
    memset(&job, 0x5a, sizeof job);
    GIVES(SHOAL_ERR_INVALID, shoal_queue_ack(q, &job));
    shoal_queue_free(q);
}

static void only_the_handle_that_got_a_message_ends_it(shoal_queue *q)
{
    shoal_queue *same;
    shoal_message job;

    OK(shoal_queue_open(shoal_name(q), NULL, &same, NULL));
    OK(shoal_queue_put(q, "job", 3, SHOAL_NOWAIT));
    OK(shoal_queue_lease(q, SHOAL_FOREVER, SHOAL_NOWAIT, &job));
    SAYS(SHOAL_ERR_INVALID, "through another handle", shoal_queue_ack(same, &job));
    OK(shoal_queue_ack(q, &job));
    OK(shoal_queue_reserve(q, 3, SHOAL_NOWAIT, &job));
    SAYS(SHOAL_ERR_INVALID, "through another handle", shoal_queue_discard(same, &job));
    OK(shoal_queue_discard(q, &job));
    shoal_queue_free(same);
}

static void ignore(int signal)
{
    (void)signal;
}

static void a_signal_ends_a_wait(void)
{
    shoal_queue_options options = {sizeof options, SHOAL_CREATE, 4096, 4096, 0, 0};
    struct sigaction action, old;
    /* Repeatedly: the first may come before the wait begins. */
    struct itimerval often = {{0, 5000}, {0, 5000}}, never = {{0, 0}, {0, 0}};
    char message[4000] = {0};
    shoal_queue *q;
    size_t len;

    OK(shoal_queue_open(NULL, &options, &q, NULL));
    memset(&action, 0, sizeof action);
    action.sa_handler = ignore;
    action.sa_flags = SA_RESTART; /* what signal() and Python set */
    CHECK(sigaction(SIGALRM, &action, &old) == 0);
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
    GIVES(SHOAL_ERR_INTERRUPTED, shoal_queue_get(q, SHOAL_FOREVER, message, 1, &len));
    OK(shoal_queue_put(q, message, sizeof message, SHOAL_NOWAIT));
    GIVES(SHOAL_ERR_INTERRUPTED, shoal_queue_put(q, message, 1000, SHOAL_FOREVER));
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
    CHECK(sigaction(SIGALRM, &old, NULL) == 0);
    /* Nothing was taken, nothing was put. */
    OK(shoal_queue_get(q, SHOAL_NOWAIT, message, sizeof message, &len));
    CHECK(len == sizeof message);
    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_get(q, SHOAL_NOWAIT, message, sizeof message, &len));
    shoal_queue_free(q);
}

int main(void)
{
    shoal_queue *q = new_queue();
    one_by_one(q);
    tries();
    looks_take_nothing();
    batches(q);
    in_place(q);
    leases();
    only_the_handle_that_got_a_message_ends_it(q);
    bounded_by_messages();
    limits();
    closing();
    each_thread_has_its_own_error(q);
    a_signal_ends_a_wait();
    shoal_queue_free(q);
    puts("queue: ok");
    return 0;
}
