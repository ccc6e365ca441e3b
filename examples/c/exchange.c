/*
 * Puts a message into a queue that all languages share, and gets one.
 *
 *     cc exchange.c $(pkg-config --cflags --libs shoal) -o exchange
 *     ./exchange [NAME]
 */

#include <stdio.h>

#include <shoal.h>

static int failed(void)
{
    fprintf(stderr, "%s\n", shoal_last_error());
    return 1;
}

int main(int argc, char **argv)
{
    shoal_queue_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
    shoal_queue *queue;
    char message[4096];
    size_t len;

    if (shoal_queue_open(argc > 1 ? argv[1] : "jobs", &options, &queue, NULL) != SHOAL_OK)
        return failed();
    if (shoal_queue_put(queue, "hello from C", 12, SHOAL_FOREVER) != SHOAL_OK ||
        shoal_queue_get(queue, SHOAL_FOREVER, message, sizeof message, &len) != SHOAL_OK)
        return failed();
    printf("C got: %.*s\n", (int)len, message);
    shoal_queue_free(queue);
    return 0;
}
