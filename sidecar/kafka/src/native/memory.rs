//! Memory that was freed, back to the kernel: librdkafka's and everybody's, since the C library keeps one heap for all.

use std::ffi::c_int;

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    fn malloc_trim(pad: usize) -> c_int;
}

/// Gives back what lies free in whole pages. The C library does so only at the ends of its heaps, and what a crowd of
/// clients took would be kept for ever.
#[cfg(target_env = "gnu")]
pub fn trim() {
    // SAFETY: it takes no pointer, and may be called at any time from any thread.
    unsafe { malloc_trim(0) };
}

/// Other C libraries have no such call.
#[cfg(not(target_env = "gnu"))]
pub fn trim() {}
