/* Holds a queue while programs use it: puts a first message, and prints the last one at the end of its input. */

#include <stdio.h>

#include <shoal.h>

int main(int argc, char **argv)
{
    shoal_queue_options options = {.size = sizeof options, .flags = SHOAL_CREATE | SHOAL_EXCLUSIVE};
    shoal_queue *queue;
    char message[4096];
    size_t len;

    if (argc != 2 || shoal_queue_open(argv[1], &options, &queue, NULL) != SHOAL_OK ||
        shoal_queue_put(queue, "hello from the test", 19, SHOAL_FOREVER) != SHOAL_OK) {
        fprintf(stderr, "%s\n", shoal_last_error());
        return 1;
    }
    puts("ready");
    fflush(stdout);
    while (getchar() != EOF)
        continue;
    if (shoal_queue_get(queue, SHOAL_NOWAIT, message, sizeof message, &len) != SHOAL_OK)
        return 1;
    printf("last: %.*s\n", (int)len, message);
    shoal_queue_free(queue);
    return 0;
}
