//! Lets the binary and its tests find libtorch without `LD_LIBRARY_PATH`.
//!
//! torch-sys links libtorch, but a linker flag of a dependency does not reach
//! the final binary; one of this package does. torch-sys hands on where it
//! found the libraries (`links = "tch"`, key `libtorch_lib`).

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let Some(lib) = std::env::var_os("DEP_TCH_LIBTORCH_LIB") else {
        return;
    };
    // LIBTORCH may be a link inside a checkout; what it names outlives it.
    let lib = Path::new(&lib);
    let lib = lib.canonicalize().unwrap_or_else(|_| lib.to_path_buf());
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
