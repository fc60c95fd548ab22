//! Compiles the shim against TensorRT-LLM's headers and links its libraries,
//! where the feature `executor` asks for them; else does nothing.
//!
//! The two places are named by the person who builds: NVIDIA's wheel has
//! libraries and no headers, so there is nothing to be guessed.

#![forbid(unsafe_code)]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "executor")]
    if let Err(reason) = executor::build() {
        // How cargo is told, without the noise of a panic.
        println!("cargo::error={reason}");
    }
}

#[cfg(feature = "executor")]
mod executor {
    use std::env;
    use std::path::PathBuf;

    /// Directories with `tensorrt_llm/executor/executor.h`, and with the headers
    /// of TensorRT and CUDA that it includes.
    const HEADERS: &str = "TENSORRT_LLM_INCLUDE";
    /// Directories with the libraries.
    const LIBRARIES: &str = "TENSORRT_LLM_LIB";
    /// 0 if the libraries have the old C++ ABI, where `std::string` is another type.
    const ABI: &str = "TENSORRT_LLM_CXX11_ABI";
    /// More flags for the compiler, separated by spaces: tests ask for sanitizers.
    const FLAGS: &str = "TENSORRT_LLM_CXXFLAGS";

    const EXECUTOR: &str = "tensorrt_llm/executor/executor.h";
    const LINKED: [&str; 2] = ["tensorrt_llm", "nvinfer_plugin_tensorrt_llm"];

    pub(super) fn build() -> Result<(), String> {
        for variable in [HEADERS, LIBRARIES, ABI, FLAGS] {
            println!("cargo::rerun-if-env-changed={variable}");
        }
        println!("cargo::rerun-if-changed=shim");
        let headers =
            directories(HEADERS, EXECUTOR, "the headers of TensorRT-LLM 0.12, TensorRT and CUDA")?;
        let library = format!("lib{}.so", LINKED[0]);
        let libraries = directories(LIBRARIES, &library, "TensorRT-LLM's libraries")?;

        let mut shim = cc::Build::new();
        shim.cpp(true).std("c++17").file("shim/shim.cpp").warnings(true).extra_warnings(true);
        for directory in &headers {
            // As the system's, so that warnings are about our code.
            shim.flag("-isystem").flag(directory);
        }
        if let Ok(abi) = env::var(ABI) {
            shim.define("_GLIBCXX_USE_CXX11_ABI", abi.as_str());
        }
        for flag in env::var(FLAGS).unwrap_or_default().split_whitespace() {
            shim.flag(flag);
        }
        shim.try_compile("tensorrt_llm_shim").map_err(|error| error.to_string())?;

        for directory in libraries {
            println!("cargo::rustc-link-search=native={}", directory.display());
        }
        for name in LINKED {
            println!("cargo::rustc-link-lib=dylib={name}");
        }
        Ok(())
    }

    /// The directories that `variable` names, one of which has `file` in it.
    fn directories(variable: &str, file: &str, what: &str) -> Result<Vec<PathBuf>, String> {
        let Some(value) = env::var_os(variable) else {
            return Err(format!(
                "set {variable} to the directories of {what}, separated by colons, or build \
                 without the feature `tensorrt-llm`"
            ));
        };
        let directories: Vec<PathBuf> = env::split_paths(&value).collect();
        for directory in &directories {
            println!("cargo::rerun-if-changed={}", directory.join(file).display());
        }
        if directories.iter().any(|directory| directory.join(file).is_file()) {
            return Ok(directories);
        }
        Err(format!("{variable} is {value:?}, but none of these directories has {file}"))
    }
}
