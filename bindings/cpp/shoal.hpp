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
// This header includes everything; each part under shoal/ can be included by itself. The rules of shoal.h
// for opening, freeing, blocking, threads, fork and death hold here too. Comments say what differs.
//
// Opening: `open` opens an existing object; `create` opens it, or creates it if there is none of that name;
// `anonymous` creates an object with a generated name. `created()` tells whether the call created it.
// Options apply only when an object is created. `unlink` removes a name.
//
// Ownership: an object owns its handle. It can be moved but not copied. To use it in several places, open
// it by its name or share a reference. A moved-from object fails with SHOAL_ERR_INVALID. `handle()` returns
// the handle for functions of shoal.h; the constructor from a handle takes ownership. A message in place, a
// view, and a lock of a key must not outlive their object; iterators of a map may.
//
// Threads: all members of an object may be called from any thread at any time, except destructors and
// moves. Messages in place, views, locks of keys and iterators serve one thread at a time.
//
// Blocking: a function that waits has a timeout as its last parameter, any std::chrono duration or
// `shoal::until(time_point)`; see shoal/duration.hpp. The default is `forever`, and `nowait` for `try_X`.
//
// Errors: a call that fails throws `shoal::error`, also for SHOAL_ERR_TIMEOUT. An expected outcome is no
// error but a bool, a std::optional or an empty vector: `try_X` is X and returns nothing after its timeout;
// `next` returns nothing once the queue or pipe is closed and empty; a key or an element may be absent; a
// wait for a change may see none in time.
// A signal handler that runs during a wait makes it throw with SHOAL_ERR_INTERRUPTED. A wait for a lock
// continues instead, as with std::mutex.
//
// Data is passed as std::string_view and returned as std::string: any bytes, including NUL.
//
// Without exceptions (-fno-exceptions, with or without -fno-rtti): a call that would throw calls the
// function that was passed to `shoal::set_failure_handler`, or prints the error, and then aborts. No wait
// is interrupted. Where a failure is expected, call the function of shoal.h, which returns a status:
//
//     shoal_queue *handle = nullptr;
//     if (shoal_queue_open("jobs", nullptr, &handle, nullptr) != SHOAL_OK)
//         return no_jobs_today(shoal_last_error());
//     shoal::queue jobs(handle);
//     if (shoal_queue_put(jobs.handle(), data, size, SHOAL_FOREVER) == SHOAL_ERR_CLOSED) ...
//
// Files of one program may be compiled with and without exceptions. Their types differ (they are in an
// inline namespace, and cannot be declared without their header), so pass an object between the two kinds
// of files by its handle.

#ifndef SHOAL_HPP
#define SHOAL_HPP

// The first, because it checks the standard.
#include "shoal/error.hpp"

#include "shoal/array.hpp"
#include "shoal/device.hpp"
#include "shoal/duration.hpp"
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
