// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Shoal for C++17: shoal.h with destructors, exceptions and standard types. Header-only; link
// with -lshoal.
//
//     auto jobs = shoal::queue::create("jobs");
//     jobs.put("resize 17.png");
//     while (auto job = jobs.next())          // until somebody closes the queue
//         work_on(*job);
//
// What holds for shoal.h holds here too: its introduction tells about threads, fork and what
// a crash can and cannot do. Beyond that:
//
// - A `queue`, a `map`, a `process`, a `mutex` owns its handle and can be moved, not copied.
//   Open by name, or share a reference, to use one in several places. Using a moved-from one
//   throws `shoal::error` with SHOAL_ERR_INVALID.
// - Whatever fails throws `shoal::error`, which has the status and the library's sentence. What
//   is an answer rather than a failure (nothing there yet, no such key) is a std::optional or
//   a bool.
// - Data is a std::string_view going in and a std::string coming out: any bytes, NUL too.

#ifndef SHOAL_HPP
#define SHOAL_HPP

#include "shoal/array.hpp"
#include "shoal/device.hpp"
#include "shoal/error.hpp"
#include "shoal/list.hpp"
#include "shoal/map.hpp"
#include "shoal/pipe.hpp"
#include "shoal/process.hpp"
#include "shoal/queue.hpp"
#include "shoal/sync.hpp"
#include "shoal/wait.hpp"

#endif
