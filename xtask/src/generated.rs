//! The files that are generated from src/ffi: the C headers, the declarations of the Python package, and the versions
//! of the library's symbols.

use crate::abi;
use crate::header;
use crate::symbols;

/// Writes them, or with `check` only checks that they are up to date.
pub(crate) fn run(check: bool) -> Result<(), String> {
    header::headers(check)?;
    abi::declarations(check)?;
    symbols::run(check)
}
