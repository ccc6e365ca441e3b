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
 */

#ifndef SHOAL_TSAN_H
#define SHOAL_TSAN_H

#ifdef __cplusplus
#define SHOAL_TSAN_INLINE inline
extern \"C\" {
#else
#define SHOAL_TSAN_INLINE static inline __attribute__((unused))
#endif

void __tsan_acquire(void *address);
void __tsan_release(void *address);

";

/// The header, from the text of shoal.h.
pub(crate) fn header(shoal_h: &str) -> String {
    let header = Header::parse("shoal.h", "General", shoal_h);
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

/// The wrapper of a function that returns a status and has a handle.
fn wrapper(item: &Item, opaque: &[String]) -> Option<String> {
    let parameters = item.code.strip_prefix("shoal_status ")?.split_once('(')?.1;
    let parameters = parameters.strip_suffix(");")?;
    // Parameters that are functions contain commas. Functions with such parameters order no data.
    if parameters.contains("(*") {
        return None;
    }
    let names: Vec<&str> = parameters
        .split(", ")
        .filter_map(|it| it.rsplit([' ', '*']).next())
        .collect();
    let is_handle = |it: &&str| {
        opaque.iter().any(|start| {
            it.strip_prefix(&**start)
                .is_some_and(|name| !name.contains('*'))
        })
    };
    let handles = parameters.split(", ").filter(is_handle);
    let handles: Vec<&str> = handles.filter_map(|it| it.rsplit('*').next()).collect();
    if handles.is_empty() {
        return None;
    }
    let each = |call: &str| {
        handles
            .iter()
            .map(|it| format!("    {call}({it});\n"))
            .collect::<String>()
    };
    Some(format!(
        "SHOAL_TSAN_INLINE shoal_status {}({parameters})\n{{\n    shoal_status status;\n{}    status = {}({});\n{}    return status;\n}}\n\n",
        wrapped(item),
        each("__tsan_release"),
        item.name,
        names.join(", "),
        each("__tsan_acquire"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_through_a_handle_orders_the_accesses_before_and_after_it() {
        let text = "/** T. */\n/** A. */\ntypedef struct shoal_a shoal_a;\n\
            /** O. */\nSHOAL_API shoal_status shoal_a_open(const char *name, shoal_a **out);\n\
            /** W. */\nSHOAL_API shoal_status shoal_a_wait(shoal_a *a, shoal_a *b, int64_t timeout_ns);\n";
        let header = header(text);
        assert!(!header.contains("shoal_tsan_a_open"), "{header}");
        assert!(
            header.contains("#define shoal_a_wait shoal_tsan_a_wait\n"),
            "{header}"
        );
        let body = "    __tsan_release(a);\n    __tsan_release(b);\n    \
            status = shoal_a_wait(a, b, timeout_ns);\n    __tsan_acquire(a);\n    __tsan_acquire(b);\n";
        assert!(header.contains(body), "{header}");
    }
}
