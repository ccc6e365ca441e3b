/* What the functions of an array promise. */

#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **args)
{
    shoal_array_options o = {.size = sizeof o, .flags = SHOAL_CREATE};
    shoal_array *a, *same;
    void *data = NULL;
    size_t bytes = 0, len = 0;
    uint64_t item_size = 0, items = 0;
    char format[8];
    int status;

    CHECK(count == 2);
    SAYS(SHOAL_ERR_INVALID, "item", shoal_array_open(args[1], &o, &a, NULL));
    o.item_size = sizeof(double);
    o.count = 100;
    o.format = "d";
    OK(shoal_array_open(args[1], &o, &a, NULL));
    CHECK(strcmp(shoal_name(a), args[1]) == 0);
    OK(shoal_array_open(args[1], NULL, &same, NULL));
    o.item_size = 4;
    SAYS(SHOAL_ERR_INVALID, "not 4", shoal_array_open(args[1], &o, &(shoal_array *){NULL}, NULL));
    OK(shoal_array_items(same, &item_size, &items));
    CHECK(item_size == 8 && items == 100);
    OK(shoal_array_format(same, format, sizeof format, &len));
    CHECK(len == 1 && strcmp(format, "d") == 0);
    GIVES(SHOAL_ERR_BUFFER_TOO_SMALL, shoal_array_format(same, format, 1, &len));
    CHECK(len == 2);
    OK(shoal_array_data(a, &data, &bytes));
    CHECK(bytes == 800 && ((double *)data)[99] == 0);

    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        OK(shoal_array_lock(a, SHOAL_FOREVER, NULL));
        ((double *)data)[99] = 1.5;
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    GIVES(SHOAL_ERR_OWNER_DIED, shoal_array_lock(same, SHOAL_FOREVER, NULL));
    OK(shoal_array_lock(same, SHOAL_NOWAIT, NULL));
    GIVES(SHOAL_ERR_TIMEOUT, shoal_array_lock(a, SHOAL_NOWAIT, NULL));
    OK(shoal_array_data(same, &data, &bytes));
    CHECK(((double *)data)[99] == 1.5);
    OK(shoal_array_unlock(same));
    OK(shoal_array_unlock(same));
    SAYS(SHOAL_ERR_INVALID, "not held", shoal_array_unlock(same));
    OK(shoal_unlink(args[1], SHOAL_KIND_ARRAY));
    GIVES(SHOAL_ERR_NOT_FOUND, shoal_array_open(args[1], NULL, &(shoal_array *){NULL}, NULL));
    shoal_array_free(same);
    shoal_array_free(a);
    puts("array: ok");
    return 0;
}
