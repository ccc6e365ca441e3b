/*
 * One small function for each thing that leases of devices and supervised workers do, and a main that runs them
 * all. The pages of the manual show them: a title, and the function under it.
 *
 *     cc -std=c99 examples/c/manual_workers.c $(pkg-config --cflags --libs shoal)
 */

#define _POSIX_C_SOURCE 200809L

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <shoal_bindings.h>

#define CLAIM(condition)                                                         \
    do {                                                                         \
        if (!(condition)) {                                                      \
            fprintf(stderr, "%s:%d: false: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                             \
        }                                                                        \
    } while (0)

#define TRY(call)                                                                \
    do {                                                                         \
        if ((call) != SHOAL_OK) {                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, shoal_last_error()); \
            exit(1);                                                             \
        }                                                                        \
    } while (0)

#define SECOND INT64_C(1000000000)

/* The devices of this machine, and the leases that programs have on them. */
static void list_devices_and_leases(void)
{
    char lines[65536];
    size_t len;
    TRY(shoal_device_discover(NULL, lines, sizeof lines, &len));
    printf("%s\n", lines);
    TRY(shoal_lease_holders(lines, sizeof lines, &len));
    printf("%s\n", lines);
}

/* A position in the queue for devices, with other work between two polls. */
static shoal_lease *wait_in_steps(void)
{
    shoal_lease_options options = {.size = sizeof options, .count = 2};
    shoal_lease *lease;
    TRY(shoal_lease_request(&options, &lease));
    while (shoal_lease_wait(lease, SECOND) == SHOAL_ERR_TIMEOUT)
        puts("other programs have the devices");
    return lease;
}

/* The parts of a lease, as text. */
static void describe_lease(shoal_lease *lease)
{
    char id[256], mask[256], devices[4096];
    size_t len;
    TRY(shoal_lease_id(lease, id, sizeof id, &len));
    TRY(shoal_lease_mask(lease, mask, sizeof mask, &len));
    TRY(shoal_lease_devices(lease, devices, sizeof devices, &len));
    printf("lease %s has %s:\n%s\n", id, mask, devices);
}

/* For a program that starts its children itself: what they need for the lease. */
static void give_to_own_children(shoal_lease *lease)
{
    char changes[4096];
    size_t len;
    int fd;
    TRY(shoal_lease_environment(lease, SHOAL_LEASE_EXCLUSIVE, 0, 1, changes, sizeof changes, &len));
    TRY(shoal_lease_fd(lease, &fd));             /* a copy of it in the child */
    TRY(shoal_lease_keep_on_exec(lease, true));  /* or: this process becomes the program */
    TRY(shoal_lease_keep_on_exec(lease, false));
}

/* Whether children that are forked from now on have the lease as well. */
static void give_to_forks(shoal_lease *lease)
{
    TRY(shoal_lease_pass_to_forks(lease, true));
}

/* The events of workers, until all of them have ended. */
static void follow(shoal_supervisor *s)
{
    shoal_worker_event event = {.size = sizeof event};
    while (shoal_supervisor_event(s, SHOAL_FOREVER, &event) == SHOAL_OK)
        printf("worker %lld: %s\n", (long long)event.worker, event.text);
}

/* Workers that run until they are told to end. */
static void run_and_stop(void)
{
    const char *argv[] = {"sleep", "60", NULL};
    shoal_spawn_options program = {.size = sizeof program, .argv = argv};
    shoal_supervisor_options options = {.size = sizeof options, .program = &program, .workers = 2};
    shoal_worker_status status = {.size = sizeof status};
    shoal_supervisor *s;
    shoal_outcome outcome;
    TRY(shoal_supervisor_start(&options, &s));
    TRY(shoal_supervisor_worker(s, 0, &status));
    CLAIM(status.state == SHOAL_WORKER_RUNNING);
    TRY(shoal_supervisor_signal(s, SHOAL_EVERY_WORKER, SIGCONT));
    TRY(shoal_supervisor_begin_stop(s, SIGINT, 10 * SECOND)); /* returns at once */
    TRY(shoal_supervisor_stop(s, 0));                         /* now: none gets more time */
    TRY(shoal_supervisor_wait(s, SHOAL_FOREVER, &outcome));
    CLAIM(outcome.kind == SHOAL_OUTCOME_STOPPED);
    follow(s);
    shoal_supervisor_free(s);
}

int main(void)
{
    shoal_lease *lease;

    /* Devices that this machine may lack. */
    if (setenv("SHOAL_FAKE_DEVICES", "cuda:4:24G:20G:15", 1) != 0)
        return 1;
    list_devices_and_leases();
    lease = wait_in_steps();
    describe_lease(lease);
    give_to_own_children(lease);
    give_to_forks(lease);
    shoal_lease_free(lease);
    run_and_stop();
    puts("all of it works");
    return 0;
}
