//! include/shoal_tsan.h: annotations for ThreadSanitizer, which does not see the library's own atomic operations.
//!
//! These operations order data that a lock of the library guards or that a message hands over. The library is not
//! built with the sanitizer. So a wrapper around each function tells the sanitizer that calls through the same
//! handle are ordered.

use crate::cheader::{Header, Item, Kind};

const INTRODUCTION: &str = "/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 * Generated from shoal.h by `cargo xtask header`.
 */

/**
 * For ThreadSanitizer, which does not see what the library does: a program that is compiled with
 * -fsanitize=thread gets this header by shoal.h. Calls through the same handle count as ordered, so that what
 * a lock guards, or a message hands over, is no race. Two handles on one object are not known to be related.
 *
 * What happens inside a call is not checked. The sanitizer does see the library's calls of memcpy, but not
 * that they are ordered. This holds for the comparison of `shoal_list_sort` too, which runs inside the call.
 */

#ifndef SHOAL_TSAN_H
#define SHOAL_TSAN_H

#include \"shoal_bindings.h\"

#ifdef __cplusplus
#define SHOAL_TSAN_INLINE inline
extern \"C\" {
#else
#define SHOAL_TSAN_INLINE static inline __attribute__((unused))
#endif

void __tsan_acquire(void *address);
void __tsan_release(void *address);
void __tsan_ignore_thread_begin(void);
void __tsan_ignore_thread_end(void);

";

const BEGIN: &str = "    __tsan_ignore_thread_begin();\n";
const END: &str = "    __tsan_ignore_thread_end();\n";

/// The header, from the texts of shoal.h and shoal_bindings.h.
pub(crate) fn header(shoal_h: &str, bindings_h: &str) -> String {
    let header = Header::parse("shoal.h", "General", &[shoal_h, bindings_h].concat());
    let opaque = header
        .items()
        .filter(|(_, it)| it.kind == Kind::Struct && it.members.is_empty());
    let opaque: Vec<String> = opaque.map(|(_, it)| format!("{} *", it.name)).collect();
    let mut wrappers = String::new();
    let mut names = String::new();
    for (_, item) in header.functions() {
        if let Some(wrapper) = wrapper(item, &opaque) {
            wrappers += &wrapper;
            names += &format!("#define {} {}\n", item.name, wrapped(item));
        }
    }
    format!(
        "{INTRODUCTION}{wrappers}#ifdef __cplusplus\n}}\n#endif\n\n{names}\n#endif /* SHOAL_TSAN_H */\n"
    )
}

fn wrapped(item: &Item) -> String {
    item.name.replacen("shoal_", "shoal_tsan_", 1)
}

/// The wrapper of a function that returns a status, or frees a handle.
fn wrapper(item: &Item, opaque: &[String]) -> Option<String> {
    let (head, list) = item.code.strip_suffix(");")?.split_once('(')?;
    let result = head.split(' ').next()?;
    let parameters = split(list);
    let names: Vec<&str> = parameters.iter().filter_map(|it| name(it)).collect();
    let handles = parameters.iter().filter_map(|it| {
        let mut names = opaque.iter().filter_map(|start| it.strip_prefix(&**start));
        names.find(|name| !name.contains('*'))
    });
    let handles: Vec<&str> = handles.collect();
    let each = |call: &str| {
        let calls = handles.iter().map(|it| format!("    {call}({it});\n"));
        calls.collect::<String>()
    };
    let call = format!("{}({});\n", item.name, names.join(", "));
    let lines = match result {
        // In `shoal_process_fork` the program itself runs, and is checked.
        "shoal_status" if handles.is_empty() && list.contains("(*") => return None,
        "shoal_status" => [
            "    shoal_status status;\n",
            &each("__tsan_release"),
            BEGIN,
            "    status = ",
            &call,
            END,
            &each("__tsan_acquire"),
            "    return status;\n",
        ]
        .concat(),
        "void" if !handles.is_empty() => [BEGIN, "    ", &call, END].concat(),
        _ => return None,
    };
    Some(format!(
        "SHOAL_TSAN_INLINE {result} {}({list})\n{{\n{lines}}}\n\n",
        wrapped(item)
    ))
}

/// The parameters of a list. One that is a function contains commas in parentheses.
fn split(list: &str) -> Vec<&str> {
    let (mut parameters, mut start, mut depth) = (Vec::new(), 0, 0);
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b',' if depth == 0 => {
                parameters.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parameters.push(list[start..].trim());
    parameters
}

/// The name of a parameter; none for `void`.
fn name(parameter: &str) -> Option<&str> {
    match parameter.split_once("(*") {
        Some((_, function)) => Some(function.split_once(')')?.0),
        None => Some(parameter.rsplit_once([' ', '*'])?.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_through_a_handle_orders_the_accesses_before_and_after_it() {
        let text = "/** T. */\n/** A. */\ntypedef struct shoal_a shoal_a;\n\
            /** O. */\nSHOAL_API shoal_status shoal_a_open(const char *name, shoal_a **out);\n\
            /** F. */\nSHOAL_API void shoal_a_free(shoal_a *a);\n\
            /** L. */\nSHOAL_API shoal_status shoal_leave(void);\n\
            /** K. */\nSHOAL_API shoal_status shoal_fork(int (*entry)(void *arg), void *arg);\n\
            /** V. */\nSHOAL_API const char *shoal_version(void);\n\
            /** W. */\nSHOAL_API shoal_status shoal_a_wait(shoal_a *a, shoal_a *b, int64_t timeout_ns);\n";
        let bindings = "/** S. */\nSHOAL_API shoal_status shoal_a_sort(shoal_a *a, \
            int (*compare)(const void *x, size_t n), void *arg);\n";
        let header = header(text, bindings);
        for unchanged in ["shoal_tsan_fork", "shoal_tsan_version"] {
            assert!(!header.contains(unchanged), "{header}");
        }
        assert!(
            header.contains("#define shoal_a_wait shoal_tsan_a_wait\n"),
            "{header}"
        );
        let body = "    __tsan_release(a);\n    __tsan_release(b);\n    \
            __tsan_ignore_thread_begin();\n    status = shoal_a_wait(a, b, timeout_ns);\n    \
            __tsan_ignore_thread_end();\n    __tsan_acquire(a);\n    __tsan_acquire(b);\n";
        assert!(header.contains(body), "{header}");
        for call in [
            "status = shoal_a_sort(a, compare, arg);\n",
            "status = shoal_a_open(name, out);\n",
            "status = shoal_leave();\n",
            "{\n    __tsan_ignore_thread_begin();\n    shoal_a_free(a);\n",
        ] {
            assert!(header.contains(call), "{call}: {header}");
        }
    }
}
