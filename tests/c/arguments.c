/* Invalid arguments: NULL outputs and inputs, sizes, flags, names. */

#include "check.h"

static shoal_queue *q;
static shoal_map *m;

static void outputs(void)
{
    char buf[8];
    size_t len = 99, lens[2], n;
    uint64_t words[2];
    bool flag;
    void *odd = (char *)words + 1;

    SAYS(SHOAL_ERR_INVALID, "out", shoal_queue_open(NULL, NULL, NULL, NULL));
    SAYS(SHOAL_ERR_INVALID, "out", shoal_map_open(NULL, NULL, NULL, NULL));
    SAYS(SHOAL_ERR_INVALID, "out", shoal_map_iter_new(m, NULL));
    SAYS(SHOAL_ERR_INVALID, "len", shoal_queue_get(q, SHOAL_NOWAIT, buf, sizeof buf, NULL));
    SAYS(SHOAL_ERR_INVALID, "aligned", shoal_queue_get(q, SHOAL_NOWAIT, buf, sizeof buf, odd));
    SAYS(SHOAL_ERR_INVALID, "buf", shoal_queue_get(q, SHOAL_NOWAIT, NULL, 8, &len));
    SAYS(SHOAL_ERR_INVALID, "len", shoal_queue_peek(q, 0, buf, sizeof buf, NULL));
    SAYS(SHOAL_ERR_INVALID, "buf", shoal_queue_peek(q, 0, NULL, 8, &len));
    SAYS(SHOAL_ERR_INVALID, "n",
         shoal_queue_get_many(q, SHOAL_NOWAIT, buf, sizeof buf, lens, 2, NULL));
    SAYS(SHOAL_ERR_INVALID, "lens",
         shoal_queue_get_many(q, SHOAL_NOWAIT, buf, sizeof buf, NULL, 2, &n));
    SAYS(SHOAL_ERR_INVALID, "done", shoal_queue_put_many(q, NULL, 0, SHOAL_NOWAIT, NULL));
    SAYS(SHOAL_ERR_INVALID, "out", shoal_queue_len(q, NULL));
    SAYS(SHOAL_ERR_INVALID, "aligned", shoal_queue_len(q, odd));
    SAYS(SHOAL_ERR_INVALID, "out", shoal_queue_stat(q, NULL));
    SAYS(SHOAL_ERR_INVALID, "len", shoal_map_get(m, "k", 1, buf, sizeof buf, NULL, NULL));
    SAYS(SHOAL_ERR_INVALID, "aligned", shoal_map_get(m, "k", 1, buf, sizeof buf, &len, odd));
    SAYS(SHOAL_ERR_INVALID, "out", shoal_map_contains(m, "k", 1, NULL));
    SAYS(SHOAL_ERR_INVALID, "aligned", shoal_map_add(m, "k", 1, 1, odd));
    SAYS(SHOAL_ERR_INVALID, "aligned", shoal_gc(odd));
    /* None of these calls changed anything. */
    OK(shoal_map_contains(m, "k", 1, &flag));
    CHECK(!flag && len == 0);
}

static void inputs(void)
{
    shoal_slice items[2] = {{"x", 1}, {NULL, 5}};
    size_t n = 99;
    uint64_t count;

    SAYS(SHOAL_ERR_INVALID, "data", shoal_queue_put(q, NULL, 1, SHOAL_NOWAIT));
    SAYS(SHOAL_ERR_INVALID, "more than memory can have", shoal_queue_put(q, "x", SIZE_MAX, SHOAL_NOWAIT));
    SAYS(SHOAL_ERR_INVALID, "items", shoal_queue_put_many(q, items, 2, SHOAL_NOWAIT, &n));
    CHECK(n == 0);
    SAYS(SHOAL_ERR_INVALID, "items", shoal_queue_put_many(q, NULL, 1, SHOAL_NOWAIT, &n));
    SAYS(SHOAL_ERR_INVALID, "items", shoal_queue_put_many(q, items, SIZE_MAX / 8, 0, &n));
    SAYS(SHOAL_ERR_INVALID, "key", shoal_map_set(m, NULL, 1, "v", 1));
    SAYS(SHOAL_ERR_INVALID, "value", shoal_map_set(m, "k", 1, NULL, 1));
    SAYS(SHOAL_ERR_INVALID, "expected",
         shoal_map_compare_swap(m, "k", 1, NULL, 1, "v", 1, &(bool){false}));
    OK(shoal_queue_len(q, &count));
    CHECK(count == 0);
    /* NULL is valid where nothing is read. */
    OK(shoal_queue_put(q, NULL, 0, SHOAL_NOWAIT));
    OK(shoal_queue_get(q, SHOAL_NOWAIT, NULL, 0, &n));
    CHECK(n == 0);
    OK(shoal_map_set(m, NULL, 0, NULL, 0));
    OK(shoal_map_remove(m, NULL, 0));
}

static void sizes_and_flags(void)
{
    struct {
        shoal_queue_options known;
        uint64_t later[2];
    } newer = {{sizeof newer, SHOAL_CREATE, 0, 0, 0, 0}, {0, 0}};
    shoal_queue_options options = {0, SHOAL_CREATE, 0, 0, 0, 0};
    shoal_map_options map_options = {12345, SHOAL_CREATE, 0, 0};
    shoal_queue *out = q;
    shoal_map *map_out = m;

    SAYS(SHOAL_ERR_INVALID, "shoal_queue_options.size", shoal_queue_open(NULL, &options, &out, NULL));
    CHECK(out == NULL);
    options.size = sizeof options - 1;
    SAYS(SHOAL_ERR_INVALID, "set it to", shoal_queue_open(NULL, &options, &out, NULL));
    SAYS(SHOAL_ERR_INVALID, "shoal_map_options.size",
         shoal_map_open(NULL, &map_options, &map_out, NULL));
    CHECK(map_out == NULL);
    SAYS(SHOAL_ERR_INVALID, "aligned",
         shoal_queue_open(NULL, (void *)((char *)&newer + 1), &out, NULL));

    /* A newer program may use a longer struct, but not fields that only newer libraries know. */
    OK(shoal_queue_open(NULL, &newer.known, &out, NULL));
    shoal_queue_free(out);
    newer.later[1] = 1;
    SAYS(SHOAL_ERR_INVALID, "not zero", shoal_queue_open(NULL, &newer.known, &out, NULL));

    options.size = sizeof options;
    options.flags = 0x80 | SHOAL_CREATE;
    SAYS(SHOAL_ERR_INVALID, "0x80", shoal_queue_open(NULL, &options, &out, NULL));
    options.flags = SHOAL_CREATE;
    options.capacity = 1 << 20;
    options.max_capacity = 1 << 10;
    SAYS(SHOAL_ERR_INVALID, "max_capacity", shoal_queue_open(NULL, &options, &out, NULL));
    options.max_capacity = UINT64_MAX;
    SAYS(SHOAL_ERR_TOO_LARGE, "max_capacity of 1844", shoal_queue_open(NULL, &options, &out, NULL));
}

static void names(const char *unused)
{
    shoal_queue_options create = {sizeof create, SHOAL_CREATE, 0, 0, 0, 0};
    shoal_map_options create_map = {sizeof create_map, SHOAL_CREATE, 0, 0};
    const char *bad[] = {"", "a/b", "../a", "a b", "~a", "\xff\xfe", "caf\xc3\xa9"};
    char text[300];
    shoal_queue *out, *again;
    shoal_map *map_out;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        SAYS(SHOAL_ERR_INVALID, "name", shoal_queue_open(bad[i], &create, &out, NULL));
        SAYS(SHOAL_ERR_INVALID, "name", shoal_map_open(bad[i], &create_map, &map_out, NULL));
        SAYS(SHOAL_ERR_INVALID, "name", shoal_unlink(bad[i], SHOAL_KIND_QUEUE));
    }
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    SAYS(SHOAL_ERR_INVALID, "name", shoal_queue_open(text, &create, &out, NULL));
    SAYS(SHOAL_ERR_INVALID, "NULL", shoal_unlink(NULL, SHOAL_KIND_QUEUE));
    SAYS(SHOAL_ERR_INVALID, "NULL", shoal_unlink(NULL, SHOAL_KIND_MAP));

    SAYS(SHOAL_ERR_NOT_FOUND, unused, shoal_queue_open(unused, NULL, &out, NULL));
    CHECK(out == NULL);
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_unlink(unused, SHOAL_KIND_MAP));

    bool created = false;
    OK(shoal_queue_open(unused, &create, &out, &created));
    CHECK(created);
    CHECK(strcmp(shoal_name(out), unused) == 0);
    SAYS(SHOAL_ERR_WRONG_KIND, "queue", shoal_map_open(unused, NULL, &map_out, NULL));
    GIVES(SHOAL_ERR_WRONG_KIND, shoal_map_open(unused, &create_map, &map_out, NULL));
    GIVES(SHOAL_ERR_WRONG_KIND, shoal_unlink(unused, SHOAL_KIND_MAP));
    SAYS(SHOAL_ERR_INVALID, "7", shoal_unlink(unused, (shoal_kind)7));
    create.flags = SHOAL_EXCLUSIVE;
    GIVES(SHOAL_ERR_EXISTS, shoal_queue_open(unused, &create, &again, NULL));
    OK(shoal_queue_open(unused, NULL, &again, &created));
    CHECK(!created);
    shoal_queue_free(again);
    OK(shoal_unlink(unused, SHOAL_KIND_QUEUE));
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_queue_open(unused, NULL, &again, NULL));
    shoal_queue_free(out);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2); /* a name that is not in use */
    CHECK(strcmp(shoal_last_error(), "") == 0);
    q = new_queue();
    m = new_map();
    outputs();
    inputs();
    sizes_and_flags();
    names(argv[1]);
    shoal_queue_free(q);
    shoal_map_free(m);
    shoal_queue_free(NULL);
    shoal_map_free(NULL);
    shoal_map_iter_free(NULL);
    shoal_process_free(NULL);
    puts("arguments: ok");
    return 0;
}
