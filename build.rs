//! Names the C library by its ABI: what is linked against version 0 of it goes on finding
//! version 0 when there is a later one beside it. And keeps it loaded.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // As SHOAL_ABI_VERSION in src/ffi/general.rs; tests/docs/header.rs compares the two.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libshoal.so.0");
    // It has threads that never end: a program that unloads it would unmap what they execute.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
