//! Whether the tools of a backend will run here: what is installed, and one
//! sentence for each thing that is wrong, with what to do.
//!
//! The deciding is pure. What is found is the machine's below its root and the
//! runtime's own Python packages by the names of their metadata; nothing is run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jetpack::Sample;

use crate::planning::Backend;

/// What is installed; `None` and absent packages were not found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    pub kernel: Option<String>,
    /// Whether `/etc/nv_tegra_release` could be read.
    pub l4t: bool,
    pub cuda: Option<String>,
    pub tensorrt: Option<String>,
    /// Of the runtime, for example `3.10`.
    pub python: Option<String>,
    /// The runtime's packages in lower case, with their versions.
    pub packages: BTreeMap<String, String>,
    /// Whether `import pynvml` would find something.
    pub pynvml: bool,
}

impl Found {
    /// What the machine of `sample` and the runtime in `runtime` have.
    #[must_use]
    pub fn read(sample: &Sample, runtime: &Path) -> Self {
        let versions = &sample.facts.versions;
        Self {
            kernel: sample.board.kernel.clone(),
            l4t: sample.board.l4t.is_some(),
            cuda: versions.cuda.clone(),
            tensorrt: versions.tensorrt.clone(),
            ..Self::of_runtime(runtime)
        }
    }

    /// What the Python of the runtime in `runtime` has; nothing of the machine.
    #[must_use]
    pub fn of_runtime(runtime: &Path) -> Self {
        let mut found = Self::default();
        for library in names(&runtime.join("lib")) {
            let Some(version) = library.strip_prefix("python") else { continue };
            if !version.starts_with("3.") {
                continue;
            }
            found.python = Some(version.to_owned());
            for name in names(&runtime.join("lib").join(&library).join("site-packages")) {
                found.pynvml |= name == "pynvml" || name == "pynvml.py";
                let package = name.strip_suffix(".dist-info").and_then(|name| name.split_once('-'));
                if let Some((package, version)) = package {
                    let package = package.to_lowercase().replace('_', "-");
                    found.packages.insert(package, version.to_owned());
                }
            }
        }
        found
    }
}

/// What is wrong for `backend` in the release `version`.
#[must_use]
pub fn faults(backend: Backend, version: &str, found: &Found) -> Vec<String> {
    let mut faults = Faults { found, said: Vec::new() };
    match (backend, version) {
        (Backend::TensorrtLlm, _) => {
            faults.tegra();
            faults.libraries("12.6", "10.3");
            faults.python("3.10");
            faults.package("tensorrt-llm", "0.12", (0, 12, 0), (0, 13, 0));
            faults.package("numpy", "1.26.1", (1, 0, 0), (2, 0, 0));
            faults.package("transformers", "4.38.2 to 4.42.4", (4, 38, 2), (4, 42, 5));
            faults.package("mpi4py", "any version, with openmpi", (0, 0, 0), (u32::MAX, 0, 0));
            if found.pynvml {
                faults.say(
                    "pynvml is installed, which this runtime cannot live with on Jetson: \
                     uninstall it",
                );
            }
        }
        (Backend::TensorrtEdgeLlm, "0.8.0") => {
            faults.libraries("12.6", "10.3");
            faults.python("3.12");
        }
        (Backend::TensorrtEdgeLlm, _) => {
            faults.libraries("13", "10.16");
            faults.python("3.12");
        }
        (Backend::LlamaCpp, _) => {}
    }
    faults.said
}

/// What is wrong for llama.cpp's converter of checkpoints. Its makers ask for torch
/// 2.11.0, transformers 4.57.6 and numpy 2.2.6, with which it was tried.
#[must_use]
pub fn converter_faults(found: &Found) -> Vec<String> {
    let mut faults = Faults { found, said: Vec::new() };
    let any = ((0, 0, 0), (u32::MAX, 0, 0));
    faults.python_from((3, 10));
    faults.package("torch", "2.11.0", (2, 6, 0), (3, 0, 0));
    faults.package("transformers", "4.57.6", (4, 57, 0), (5, 0, 0));
    faults.package("numpy", "2.2.6", (2, 0, 0), (3, 0, 0));
    faults.package("sentencepiece", "0.2.1", (0, 1, 98), (0, 3, 0));
    faults.package("safetensors", "any version", any.0, any.1);
    faults.package("pyyaml", "any version", any.0, any.1);
    faults.said
}

struct Faults<'a> {
    found: &'a Found,
    said: Vec<String>,
}

impl Faults<'_> {
    fn say(&mut self, fault: impl Into<String>) {
        self.said.push(fault.into());
    }

    fn tegra(&mut self) {
        match &self.found.kernel {
            Some(kernel) if kernel.contains("tegra") => {}
            Some(kernel) => self.say(format!(
                "the kernel's release {kernel} has no \"tegra\" in it, by which the runtime knows \
                 a Jetson: boot NVIDIA's kernel, or name a kernel of your own so"
            )),
            None => self.say("the kernel's release cannot be read"),
        }
        if !self.found.l4t {
            self.say(
                "/etc/nv_tegra_release cannot be read, by which the runtime knows a Jetson: in a \
                 container mount it",
            );
        }
    }

    fn libraries(&mut self, cuda: &str, tensorrt: &str) {
        for (name, wanted, found) in [
            ("CUDA", cuda, self.found.cuda.clone()),
            ("TensorRT", tensorrt, self.found.tensorrt.clone()),
        ] {
            match found {
                Some(found) if is_of(&found, wanted) => {}
                Some(found) => self.say(format!(
                    "{name} is {found} and the runtime is built for {wanted}: install JetPack's own"
                )),
                None => self.say(format!(
                    "{name} {wanted} is not installed: install the package nvidia-jetpack"
                )),
            }
        }
    }

    fn python(&mut self, wanted: &str) {
        match self.found.python.as_deref() {
            Some(found) if found == wanted => {}
            Some(found) => self.say(format!(
                "the runtime's Python is {found} and must be {wanted}: install the runtime \
                 anew with it"
            )),
            None => self.say(format!(
                "the runtime has no Python {wanted} of its own: install it as the plan's needs say"
            )),
        }
    }

    /// A Python of its own, from `least` on.
    fn python_from(&mut self, least: (u32, u32)) {
        let (major, minor) = least;
        match self.found.python.as_deref() {
            Some(found) if (version(found).0, version(found).1) >= least => {}
            Some(found) => self.say(format!(
                "the runtime's Python is {found} and must be {major}.{minor} or later"
            )),
            None => {
                self.say(format!("the runtime has no Python {major}.{minor} or later of its own"))
            }
        }
    }

    /// A package from `least` to below `below`.
    fn package(&mut self, name: &str, words: &str, least: Version, below: Version) {
        match self.found.packages.get(name) {
            Some(found) if (least..below).contains(&version(found)) => {}
            Some(found) => {
                self.say(format!("{name} is {found} in the runtime's Python: install {words}"))
            }
            None => self.say(format!("{name} is missing in the runtime's Python: install {words}")),
        }
    }
}

type Version = (u32, u32, u32);

/// The three first numbers; what is no number is 0.
fn version(text: &str) -> Version {
    let mut parts = text.split('.').map(|part| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    });
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

/// Whether `found` is `wanted` or has more parts.
fn is_of(found: &str, wanted: &str) -> bool {
    found.strip_prefix(wanted).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The names in a directory; none if it cannot be read.
fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Found {
        let packages = [
            ("tensorrt-llm", "0.12.0"),
            ("numpy", "1.26.1"),
            ("transformers", "4.42.4"),
            ("mpi4py", "4.0.0"),
        ];
        Found {
            kernel: Some("5.15.148-tegra".into()),
            l4t: true,
            cuda: Some("12.6.68".into()),
            tensorrt: Some("10.3.0.30".into()),
            python: Some("3.10".into()),
            packages: packages.map(|(name, is)| (name.into(), is.into())).into(),
            pynvml: false,
        }
    }

    fn only_fault(change: impl FnOnce(&mut Found)) -> String {
        let mut found = good();
        change(&mut found);
        let faults = faults(Backend::TensorrtLlm, "0.12.0-jetson", &found);
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults.concat()
    }

    #[test]
    fn what_goes_together_has_no_fault() {
        assert!(faults(Backend::TensorrtLlm, "0.12.0-jetson", &good()).is_empty());
        assert!(faults(Backend::LlamaCpp, "", &Found::default()).is_empty());
    }

    #[test]
    fn each_thing_that_is_wrong_has_its_sentence() {
        let package = |name: &str, version: &str| {
            only_fault(|found| {
                found.packages.insert(name.into(), version.into());
            })
        };
        assert!(package("numpy", "2.1.0").contains("numpy is 2.1.0"));
        assert!(package("transformers", "4.43.0").contains("install 4.38.2 to 4.42.4"));
        assert!(package("tensorrt-llm", "0.15.0").contains("install 0.12"));
        let missing = only_fault(|found| {
            found.packages.remove("mpi4py");
        });
        assert!(missing.contains("mpi4py is missing"));
        assert!(only_fault(|found| found.pynvml = true).contains("uninstall"));
        assert!(only_fault(|found| found.l4t = false).contains("container"));
        assert!(only_fault(|found| found.python = Some("3.12".into())).contains("must be 3.10"));
        assert!(only_fault(|found| found.tensorrt = Some("10.30".into())).contains("is 10.30"));
        assert!(only_fault(|found| found.cuda = None).contains("CUDA 12.6 is not installed"));
        let kernel = only_fault(|found| found.kernel = Some("6.8.0-generic".into()));
        assert!(kernel.contains("6.8.0-generic"));
    }

    #[test]
    fn packages_are_known_by_their_metadata() {
        let runtime = tempfile::tempdir().unwrap();
        let packages = runtime.path().join("lib/python3.10/site-packages");
        for name in ["numpy-1.26.1.dist-info", "tensorrt_llm-0.12.0.dist-info", "pynvml", "numpy"] {
            fs::create_dir_all(packages.join(name)).unwrap();
        }
        let sample = jetpack::Machine::open(jetpack::Root::new(runtime.path())).sample();
        let found = Found::read(&sample, runtime.path());
        assert_eq!(found.python.as_deref(), Some("3.10"));
        assert!(found.pynvml);
        assert_eq!(found.packages["numpy"], "1.26.1");
        assert_eq!(found.packages["tensorrt-llm"], "0.12.0");
    }
}
