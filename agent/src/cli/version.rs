//! `agent --version`: what this binary is made of.

use std::sync::LazyLock;

/// `0.1.0 (commit 30116b9016d4, x86_64-unknown-linux-gnu, glibc 2.36, static)`
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let linked = if cfg!(target_feature = "crt-static") {
        "static"
    } else {
        "dynamic"
    };
    format!(
        "{} (commit {}, {}, {}, {linked})",
        env!("CARGO_PKG_VERSION"),
        env!("AGENT_COMMIT"),
        env!("AGENT_TARGET"),
        c_library(),
    )
});

pub fn version() -> &'static str {
    VERSION.as_str()
}

/// The C library in use: the one that is linked in, where it is static.
#[cfg(target_env = "gnu")]
fn c_library() -> String {
    // The call takes nothing and gives a constant of the library.
    #[allow(unsafe_code)]
    // SAFETY: gnu_get_libc_version(3) returns a string that lives as long as the process.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    format!("glibc {}", version.to_string_lossy())
}

#[cfg(not(target_env = "gnu"))]
fn c_library() -> String {
    "musl".into()
}
