/* What a thread calls in its last destructors, which run after those of the library's own variables. */

#include "check.h"

#include <pthread.h>

/* In nanoseconds: longer than a spin, so that the thread is counted at the handle. */
#define SHORT 2000000

static pthread_key_t key;

static void *runs(void *q)
{
    char buf[8];
    size_t len;
    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_get(q, SHORT, buf, sizeof buf, &len));
    CHECK(pthread_setspecific(key, q) == 0);
    return NULL;
}

/* Runs `last` in the last destructors of a thread that has waited, and failed. */
static void at_the_end(void (*last)(void *), shoal_queue *q)
{
    pthread_t thread;
    CHECK(pthread_key_create(&key, last) == 0);
    CHECK(pthread_create(&thread, NULL, runs, q) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(pthread_key_delete(key) == 0);
}

static void waits(void *q)
{
    char buf[8];
    size_t len;
    GIVES(SHOAL_ERR_TIMEOUT, shoal_queue_get(q, SHORT, buf, sizeof buf, &len));
}

static void a_wait_does_not_keep_the_object(void)
{
    char name[256];
    shoal_queue *q = new_queue(), *again;
    snprintf(name, sizeof name, "%s", shoal_name(q));
    at_the_end(waits, q);
    shoal_queue_free(q);
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_queue_open(name, NULL, &again, NULL));
}

static void fails(void *q)
{
    shoal_queue *none;
    (void)q;
    check_says(__FILE__, __LINE__, "timed out");
    SAYS(SHOAL_ERR_NOT_FOUND, "no-such-queue", shoal_queue_open("no-such-queue", NULL, &none, NULL));
    SAYS(SHOAL_ERR_INVALID, "NULL", shoal_queue_put(NULL, "", 0, SHOAL_NOWAIT));
    CHECK(strstr(shoal_last_error(), "no-such-queue") == NULL);
}

static void a_failure_has_its_sentence(void)
{
    shoal_queue *q = new_queue();
    at_the_end(fails, q);
    shoal_queue_free(q);
}

int main(void)
{
    a_wait_does_not_keep_the_object();
    a_failure_has_its_sentence();
    puts("destructors: ok");
    return 0;
}
