/* The promises of the functions of a list. */

#include "check.h"

#include <stdlib.h>

static int by_length(const void *a, size_t a_len, const void *b, size_t b_len, void *arg)
{
    (void)a, (void)b;
    ++*(int *)arg;
    return (a_len > b_len) - (a_len < b_len);
}

static int after(const void *a, size_t a_len, const void *b, size_t b_len, void *arg)
{
    (void)a, (void)a_len, (void)b, (void)b_len, (void)arg;
    return 1;
}

static shoal_list *new_list(void)
{
    shoal_list_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
    shoal_list *l;

    OK(shoal_list_open(NULL, &options, &l, NULL));
    return l;
}

/* The elements, each followed by a comma. */
static const char *all(shoal_list *l)
{
    static char text[200];
    char buf[200];
    size_t lens[20], count, at = 0, to = 0;

    OK(shoal_list_get_many(l, 0, buf, sizeof buf, lens, 20, &count, NULL));
    for (size_t i = 0; i < count; i++) {
        memcpy(text + to, buf + at, lens[i]);
        at += lens[i];
        to += lens[i];
        text[to++] = ',';
    }
    text[to] = 0;
    return text;
}

int main(void)
{
    shoal_list *l = new_list(), *same;
    char buf[64];
    size_t len = 0, lens[4], count;
    uint64_t version, later, n;
    bool yes;
    int calls = 0;
    shoal_slice items[2] = {{"x", 1}, {"yy", 2}};
    uint64_t order[3] = {2, 0, 0};

    OK(shoal_list_open(shoal_name(l), NULL, &same, NULL));
    OK(shoal_list_append(l, "two", 3));
    OK(shoal_list_insert(l, 0, "one", 3));
    OK(shoal_list_insert(l, INT64_MAX, "", 0));
    OK(shoal_list_insert(same, -1, "a longer one", 12));
    CHECK(strcmp(all(l), "one,two,a longer one,,") == 0);
    OK(shoal_list_len(l, &n));
    CHECK(n == 4);

    /* An index below 0 counts from the end. */
    OK(shoal_list_get(l, -2, buf, sizeof buf, &len));
    CHECK(len == 12 && memcmp(buf, "a longer one", 12) == 0);
    SAYS(SHOAL_ERR_NOT_FOUND, "-5", shoal_list_get(l, -5, buf, sizeof buf, &len));
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_list_get(l, 4, buf, sizeof buf, &len));
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_list_get(l, INT64_MIN, buf, sizeof buf, &len));
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_list_set(l, 4, "x", 1));
    SAYS(SHOAL_ERR_NOT_FOUND, "\"4\"", shoal_list_swap(l, 0, 4));
    SAYS(SHOAL_ERR_NOT_FOUND, "\"4\"", shoal_list_swap(l, 4, 0));
    SAYS(SHOAL_ERR_NOT_FOUND, "\"-5\"", shoal_list_swap(l, 3, -5));

    /* With a buffer that is too small the size is returned, and nothing is taken. */
    len = 0;
    GIVES(SHOAL_ERR_BUFFER_TOO_SMALL, shoal_list_pop(l, 2, buf, 4, &len));
    CHECK(len == 12);
    OK(shoal_list_pop(l, 2, buf, 12, &len));
    OK(shoal_list_pop(l, -1, NULL, 0, &len));
    CHECK(len == 0 && strcmp(all(l), "one,two,") == 0);

    OK(shoal_list_set(l, -1, "2", 1));
    OK(shoal_list_swap(l, 0, -1));
    OK(shoal_list_compare_swap(l, 0, "3", 1, "x", 1, &yes));
    CHECK(!yes);
    OK(shoal_list_compare_swap(l, 0, "2", 1, "3", 1, &yes));
    CHECK(yes && strcmp(all(l), "3,one,") == 0);
    OK(shoal_list_splice(l, INT64_MAX, INT64_MAX, items, 2));
    CHECK(strcmp(all(l), "3,one,x,yy,") == 0);
    OK(shoal_list_splice(l, -3, 3, items, 1));
    CHECK(strcmp(all(l), "3,x,yy,") == 0);

    /* A version shows whether another process was faster. */
    OK(shoal_list_get_many(l, 1, buf, 2, lens, 4, &count, &version));
    CHECK(count == 1 && lens[0] == 1 && lens[1] == 2);
    OK(shoal_list_get_many(l, 1, buf, sizeof buf, lens, 4, &count, NULL));
    CHECK(count == 2 && lens[2] == SIZE_MAX);
    GIVES(SHOAL_ERR_BUFFER_TOO_SMALL, shoal_list_get_many(l, 2, buf, 1, lens, 4, &count, NULL));
    CHECK(count == 0 && lens[0] == 2);
    OK(shoal_list_get_many(l, 3, buf, 1, lens, 4, &count, &later));
    CHECK(count == 0 && later == version);
    OK(shoal_list_rearrange_if(l, version, order, 2, &yes));
    CHECK(yes && strcmp(all(l), "yy,3,") == 0);
    OK(shoal_list_rearrange_if(l, version, order, 2, &yes));
    CHECK(!yes);
    /* The first elements are those that were read: what was added behind them does not count. */
    const shoal_slice front[2] = {{"yy", 2}, {"3", 1}}, other[2] = {{"yy", 2}, {"4", 1}};
    const uint64_t turned[2] = {1, 0}, twice[2] = {1, 1}, first[1] = {0}, outside[1] = {2};
    OK(shoal_list_append(l, "z", 1));
    OK(shoal_list_rearrange_same(l, other, 2, turned, 2, &yes));
    CHECK(!yes);
    OK(shoal_list_rearrange_same(l, front, 2, turned, 2, &yes));
    CHECK(yes && strcmp(all(l), "3,yy,z,") == 0);
    OK(shoal_list_rearrange_same(l, front, 2, turned, 2, &yes));
    CHECK(!yes);
    GIVES(SHOAL_ERR_INVALID, shoal_list_rearrange_same(l, NULL, 0, twice, 2, &yes));
    GIVES(SHOAL_ERR_INVALID, shoal_list_rearrange_same(l, NULL, 0, outside, 1, &yes));
    OK(shoal_list_reverse(l));
    OK(shoal_list_rearrange_same(l, (const shoal_slice[]){{"z", 1}, {"yy", 2}}, 2, first, 0, &yes));
    CHECK(yes && strcmp(all(l), "3,") == 0);
    OK(shoal_list_insert(l, 0, "yy", 2));
    OK(shoal_list_splice_if(l, version, 0, 1, NULL, 0, &yes));
    CHECK(!yes && strcmp(all(l), "yy,3,") == 0);
    OK(shoal_list_get_many(l, 0, NULL, 0, NULL, 0, &count, &version));
    GIVES(SHOAL_ERR_INVALID, shoal_list_rearrange_if(l, version, order + 1, 2, &yes));
    OK(shoal_list_splice_if(l, version, 0, 1, items, 1, &yes));
    CHECK(yes && strcmp(all(l), "x,3,") == 0);

    OK(shoal_list_append(l, "aaa", 3));
    OK(shoal_list_sort(l, NULL, NULL));
    CHECK(strcmp(all(l), "3,aaa,x,") == 0);
    OK(shoal_list_sort(l, by_length, &calls));
    CHECK(calls > 0 && strcmp(all(l), "3,x,aaa,") == 0);
    OK(shoal_list_reverse(l));
    CHECK(strcmp(all(same), "aaa,x,3,") == 0);
    /* Each comes after each other: some order of the same elements. */
    OK(shoal_list_sort(l, after, NULL));
    CHECK(strlen(all(l)) == 8 && strchr(all(l), 'x') != NULL && strstr(all(l), "aaa,") != NULL);
    CHECK(strchr(all(l), '3') != NULL);
    OK(shoal_list_clear(l));
    CHECK(strcmp(all(same), "") == 0);

    GIVES(SHOAL_ERR_INVALID, shoal_list_append(NULL, "x", 1));
    GIVES(SHOAL_ERR_INVALID, shoal_list_append(l, NULL, 1));
    GIVES(SHOAL_ERR_INVALID, shoal_list_get(l, 0, buf, sizeof buf, NULL));
    GIVES(SHOAL_ERR_INVALID, shoal_list_splice(l, 0, 0, NULL, 1));
    shoal_list_free(same);
    shoal_list_free(l);
    GIVES(SHOAL_ERR_INVALID, shoal_list_append(l, "x", 1));
    shoal_list_free(NULL);
    puts("list: ok");
    return 0;
}
