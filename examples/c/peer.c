/*
 * One of several processes, in any language, that share a queue and a map.
 *
 *     peer <queue-in> <queue-out> <map> <name> <count>
 *
 * puts `count` messages "<name>:<i>" into the second queue, gets `count` messages from the first,
 * and for each of them adds one to the counter "from:<sender>" of the map.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <shoal.h>

#define TRY(call)                                                                \
    do {                                                                         \
        if ((call) != SHOAL_OK) {                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, shoal_last_error()); \
            exit(1);                                                             \
        }                                                                        \
    } while (0)

int main(int argc, char **argv)
{
    shoal_queue *in, *out;
    shoal_map *map;
    char message[256], key[300];
    size_t len;

    if (argc != 6) {
        fprintf(stderr, "usage: peer <queue-in> <queue-out> <map> <name> <count>\n");
        return 2;
    }
    const char *name = argv[4];
    long count = atol(argv[5]);

    TRY(shoal_queue_open(argv[1], NULL, &in, NULL));
    TRY(shoal_queue_open(argv[2], NULL, &out, NULL));
    TRY(shoal_map_open(argv[3], NULL, &map, NULL));

    for (long i = 0; i < count; i++) {
        int n = snprintf(message, sizeof message, "%s:%ld", name, i);
        TRY(shoal_queue_put(out, message, (size_t)n, SHOAL_FOREVER));
    }
    for (long i = 0; i < count; i++) {
        TRY(shoal_queue_get(in, SHOAL_FOREVER, message, sizeof message, &len));
        const char *colon = memchr(message, ':', len);
        int sender = colon != NULL ? (int)(colon - message) : (int)len;
        int n = snprintf(key, sizeof key, "from:%.*s", sender, message);
        TRY(shoal_map_add(map, key, (size_t)n, 1, NULL));
    }
    printf("%s (C) put %ld messages and took %ld\n", name, count, count);

    shoal_map_free(map);
    shoal_queue_free(out);
    shoal_queue_free(in);
    return 0;
}
