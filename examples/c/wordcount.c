/*
 * Counts the words of a text with several processes: this one puts lines into a queue, and the
 * workers count the words in a map.
 *
 *     wordcount <file> [workers]
 */

#include <ctype.h>
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

enum { LINE = 4096, WORKERS = 64 };

struct shared {
    shoal_queue *lines;
    shoal_map *counts;
};

/* Adds one for each word of the line, in small letters. A word is a run of letters. */
static void count(shoal_map *counts, char *line, size_t len)
{
    size_t end, start = 0;

    while (start < len) {
        while (start < len && !isalpha((unsigned char)line[start]))
            start++;
        for (end = start; end < len && isalpha((unsigned char)line[end]); end++)
            line[end] = (char)tolower((unsigned char)line[end]);
        /* Many processes may add to one word at once: no addition is lost. */
        if (end > start)
            TRY(shoal_map_add(counts, line + start, end - start, 1, NULL));
        start = end;
    }
}

static int work(void *arg)
{
    struct shared *shared = arg;
    char line[LINE];
    size_t len;
    shoal_status status;

    while ((status = shoal_queue_get(shared->lines, SHOAL_FOREVER, line, sizeof line, &len)) == SHOAL_OK)
        count(shared->counts, line, len);
    return status == SHOAL_ERR_CLOSED ? 0 : 1;
}

/* Prints the most frequent word and how many there are. */
static void report(shoal_map *counts)
{
    shoal_map_iter *it;
    const void *word, *value;
    size_t word_len, value_len, words = 0;
    int64_t times, most = 0, total = 0;
    char name[LINE] = "";
    shoal_status status;

    TRY(shoal_map_iter_new(counts, &it));
    while ((status = shoal_map_iter_next(it, &word, &word_len, &value, &value_len)) == SHOAL_OK) {
        memcpy(&times, value, sizeof times); /* a counter has 8 bytes, of any alignment */
        words++;
        total += times;
        if (times > most) {
            most = times;
            snprintf(name, sizeof name, "%.*s", (int)word_len, (const char *)word);
        }
    }
    shoal_map_iter_free(it);
    if (status != SHOAL_ERR_END)
        TRY(status);
    printf("%lld words, %zu different; \"%s\" comes %lld times\n", (long long)total, words, name,
           (long long)most);
}

int main(int argc, char **argv)
{
    struct shared shared;
    shoal_process *workers[WORKERS];
    int n = argc > 2 ? atoi(argv[2]) : 4;
    char line[LINE];
    FILE *file;

    if (argc < 2 || n < 1 || n > WORKERS) {
        fprintf(stderr, "usage: wordcount <file> [workers, 1 to %d]\n", WORKERS);
        return 2;
    }
    if ((file = fopen(argv[1], "r")) == NULL) {
        perror(argv[1]);
        return 1;
    }
    TRY(shoal_queue_open(NULL, NULL, &shared.lines, NULL));
    TRY(shoal_map_open(NULL, NULL, &shared.counts, NULL));
    for (int i = 0; i < n; i++)
        TRY(shoal_process_fork(work, &shared, NULL, &workers[i]));

    while (fgets(line, sizeof line, file) != NULL)
        TRY(shoal_queue_put(shared.lines, line, strlen(line), SHOAL_FOREVER));
    fclose(file);
    TRY(shoal_queue_close(shared.lines)); /* the workers end once it is empty */

    for (int i = 0; i < n; i++) {
        shoal_exit end;
        TRY(shoal_process_join(workers[i], SHOAL_FOREVER, &end));
        shoal_process_free(workers[i]);
        if (end.kind != SHOAL_EXIT_EXITED || end.code != 0) {
            fprintf(stderr, "worker %d failed\n", i);
            return 1;
        }
    }
    report(shared.counts);
    shoal_queue_free(shared.lines);
    shoal_map_free(shared.counts);
    return 0;
}
