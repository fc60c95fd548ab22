//! A staged board of 64 GB with stand-ins for the tools of TensorRT-LLM and
//! Edge-LLM, and a model that was fetched. The package `tests` includes this file,
//! too, where a worker is that can run what these tools leave.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// The model that is there.
pub(crate) const MODEL: &str = "qwen2.5-coder-0.5b-instruct";

const PACKAGES: &str = "Package: libnvinfer10\nStatus: install ok installed\nVersion: \
    10.3.0.30-1+cuda12.5\n\n";

/// Fills `root`, `runtimes` and `cache` in `dir`. All tools are the program `tool`.
pub(crate) fn stage(dir: &Path, tool: &Path) {
    let put = |name: &str, content: &[u8]| put(&dir.join(name), content);
    let compatible = b"nvidia,p3737-0000+p3701-0005\0nvidia,p3701-0005\0nvidia,tegra234\0";
    put("root/proc/device-tree/compatible", compatible);
    put(
        "root/etc/nv_tegra_release",
        b"# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    );
    put("root/proc/sys/kernel/osrelease", b"5.15.148-tegra\n");
    put(
        "root/proc/meminfo",
        b"MemTotal:       64349908 kB\nMemFree:        60000000 kB\nMemAvailable:   61000000 kB\n\
          Buffers:          100000 kB\nCached:           900000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
    );
    put("root/usr/local/cuda/version.json", br#"{"cuda": {"version": "12.6.68"}}"#);
    put("root/var/lib/dpkg/status", PACKAGES.as_bytes());
    for (runtime, python, tools) in [
        ("tensorrt-llm-0.12.0", "3.10", &["python3", "trtllm-build"][..]),
        ("tensorrt-edge-llm-0.8.0", "3.12", &["tensorrt-edgellm-export", "llm_build"]),
    ] {
        let packages = format!("runtimes/{runtime}/lib/python{python}/site-packages");
        for package in
            ["tensorrt_llm-0.12.0", "numpy-1.26.1", "transformers-4.42.4", "mpi4py-4.0.0"]
        {
            put(&format!("{packages}/{package}.dist-info/METADATA"), b"");
        }
        let programs = dir.join(format!("runtimes/{runtime}/bin"));
        fs::create_dir_all(&programs).unwrap();
        for name in tools {
            symlink(tool, programs.join(name)).unwrap();
        }
    }
    put("runtimes/tensorrt-llm-0.12.0/examples/qwen/convert_checkpoint.py", b"");
    for form in ["gptq", "awq", "checkpoint"] {
        put(&format!("cache/stoker/models/{MODEL}/{form}/config.json"), b"{}");
    }
}

fn put(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}
