// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Shoal for C++17 and later: shoal.h with destructors, exceptions and standard types. Header-only; link
// with -lshoal.
//
//     auto jobs = shoal::queue::create("jobs");
//     jobs.put("resize 17.png");
//     while (auto job = jobs.next())          // until the queue is closed
//         work_on(*job);
//
// This header brings everything; each part under shoal/ can be included by itself. What shoal.h says of
// opening, freeing, blocking, threads, fork and death holds here too. Comments say what is particular.
//
// Opening: `open` opens what exists; `create` opens it too, or creates it if there is none of that name;
// `anonymous` creates an object under a name of its own. `created()` tells whether this object did. Options
// count for the process that creates. `unlink` removes a name.
//
// Ownership: an object owns its handle. It can be moved, not copied: open by name, or share a reference, to
// use one in several places. A moved-from one fails with SHOAL_ERR_INVALID. `handle()` lends the handle to
// functions of shoal.h; the constructor from a handle takes one over. What is of an object (a message in
// place, a view, a lock of a key) must not outlive it; iterators of a map may.
//
// Threads: all members of an object may be called from any thread at any time, except destructors and
// moves. Messages in place, views, locks of keys and iterators serve one thread at a time.
//
// Blocking: a function that waits has a timeout as its last parameter, any std::chrono duration or
// `shoal::until(time_point)`; see shoal/duration.hpp. The default is `forever`, and `nowait` for `try_X`.
//
// Errors: what fails throws `shoal::error`, SHOAL_ERR_TIMEOUT among it. What is an answer rather than a
// failure is a bool, a std::optional or an empty vector: `try_X` is X that has nothing to give when its
// time is over; `next` gives nothing once the queue or pipe is closed and drained; a key or an element may
// not be there; a wait for a change may see none in time.
// A signal handler that runs during a wait makes it throw with SHOAL_ERR_INTERRUPTED, except while it takes
// a lock: that goes on, as with std::mutex.
//
// Data is a std::string_view going in and a std::string coming out: any bytes, NUL too.
//
// Without exceptions (-fno-exceptions; -fno-rtti too): what would throw calls the function that was given
// to `shoal::set_failure_handler`, or prints the error, and then aborts. No wait is interrupted. Where a
// failure can be expected, call the function of shoal.h, which returns a status:
//
//     shoal_queue *handle = nullptr;
//     if (shoal_queue_open("jobs", nullptr, &handle, nullptr) != SHOAL_OK)
//         return no_jobs_today(shoal_last_error());
//     shoal::queue jobs(handle);
//     if (shoal_queue_put(jobs.handle(), data, size, SHOAL_FOREVER) == SHOAL_ERR_CLOSED) ...
//
// Files of one program may be compiled with and without exceptions. Their types are not the same (they are
// in an inline namespace, and cannot be declared without their header): an object is passed from one kind
// of file to the other by its handle.

#ifndef SHOAL_HPP
#define SHOAL_HPP

#include "shoal/array.hpp"
#include "shoal/device.hpp"
#include "shoal/duration.hpp"
#include "shoal/error.hpp"
#include "shoal/general.hpp"
#include "shoal/lease.hpp"
#include "shoal/list.hpp"
#include "shoal/map.hpp"
#include "shoal/mutex.hpp"
#include "shoal/pipe.hpp"
#include "shoal/process.hpp"
#include "shoal/queue.hpp"
#include "shoal/supervisor.hpp"
#include "shoal/sync.hpp"
#include "shoal/wait.hpp"

#endif
