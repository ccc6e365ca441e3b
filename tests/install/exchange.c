/* A message goes through a queue, and data that a lock guards is changed by two threads. */

#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <shoal.h>

static shoal_lock *lock;
static int guarded;

static void *add(void *nothing)
{
    int i;
    for (i = 0; i < 1000; i++) {
        if (shoal_lock_lock(lock, SHOAL_FOREVER, NULL) != SHOAL_OK)
            return NULL;
        guarded++;
        shoal_lock_unlock(lock);
    }
    return nothing;
}

int main(void)
{
    shoal_queue *queue;
    pthread_t thread;
    char buf[64];
    size_t len = 0;

    if (shoal_queue_open(NULL, NULL, &queue, NULL) != SHOAL_OK ||
        shoal_queue_put(queue, "resize 17.png", 13, SHOAL_FOREVER) != SHOAL_OK ||
        shoal_queue_get(queue, SHOAL_FOREVER, buf, sizeof buf, &len) != SHOAL_OK ||
        shoal_lock_open(NULL, NULL, &lock, NULL) != SHOAL_OK) {
        fprintf(stderr, "%s\n", shoal_last_error());
        return 1;
    }
    if (pthread_create(&thread, NULL, add, NULL) != 0)
        return 1;
    add(NULL);
    pthread_join(thread, NULL);
    printf("%.*s, %d\n", (int)len, buf, guarded);
    shoal_lock_free(lock);
    shoal_queue_free(queue);
    return 0;
}
