//! Keeps glibc's name service switch out of a static binary.
//!
//! A static glibc program that calls one of the four functions below loads the
//! host's NSS plugins, and with them a second libc; where nsswitch.conf names a
//! plugin of another glibc (Flatcar: `resolve`), that ends in SIGFPE. The
//! functions are defined here instead, so the linker never takes libc's, and a
//! call that slips in through a dependency fails cleanly. Names are resolved by
//! [`crate::dns`]; users and groups are not looked up at all.
//!
//! `packaging/build` checks the linked binary for `__nss_` symbols. Nothing of
//! this exists in dynamic or musl builds, where libc's own functions are safe.

#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
mod guard {
    // The linker finds these by name in place of libc's. That is the one thing
    // `unsafe(no_mangle)` can break, and here it is the purpose: signatures are
    // those of netdb.h, pwd.h and grp.h, and no function keeps a pointer.
    #![allow(unsafe_code)]

    use std::ffi::{c_char, c_int, c_uint, c_void};
    use std::ptr;

    /// netdb.h: non-recoverable failure in name resolution.
    const EAI_FAIL: c_int = -4;

    /// getaddrinfo(3): always fails, as if no server could ever be asked.
    #[unsafe(no_mangle)]
    extern "C" fn getaddrinfo(
        _node: *const c_char,
        _service: *const c_char,
        _hints: *const c_void,
        _result: *mut *mut c_void,
    ) -> c_int {
        EAI_FAIL
    }

    /// freeaddrinfo(3): there is never anything to free.
    #[unsafe(no_mangle)]
    extern "C" fn freeaddrinfo(_list: *mut c_void) {}

    /// getpwuid_r(3): success with a null result, which means "no such user".
    ///
    /// # Safety
    /// `result` must be valid for a write, as getpwuid_r(3) demands.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn getpwuid_r(
        _uid: c_uint,
        _entry: *mut c_void,
        _buffer: *mut c_char,
        _length: usize,
        result: *mut *mut c_void,
    ) -> c_int {
        // SAFETY: the caller gives a valid pointer, see above.
        unsafe { *result = ptr::null_mut() };
        0
    }

    /// getgrouplist(3): "the list does not fit", with the count untouched.
    #[unsafe(no_mangle)]
    extern "C" fn getgrouplist(
        _user: *const c_char,
        _group: c_uint,
        _groups: *mut c_uint,
        _count: *mut c_int,
    ) -> c_int {
        -1
    }
}
