//! llama.cpp's converter as it is installed: which release it is, and whether it will
//! run.
//!
//! ```text
//! <runtimes>/llama.cpp/       what scripts/converter leaves
//! ├── convert_hf_to_gguf.py   with conversion/ and gguf-py/, of one release
//! └── bin/python3             a Python of its own, with what the converter imports
//! ```
//!
//! Nothing of it is run to find out. Its release is known by a hash of all its modules.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::foreign::environment::{self, Found};
use crate::foreign::record;
use crate::hash::Sha256Hex;

/// Below the directory of the runtimes.
pub const RUNTIME: &str = "llama.cpp";

pub(super) const PYTHON: &str = "bin/python3";
pub(super) const SCRIPT: &str = "convert_hf_to_gguf.py";

/// Where its modules are, beside the script.
const MODULES: [&str; 2] = ["conversion", "gguf-py/gguf"];

/// The release that checkpoints were converted with, by the hash of its modules: that
/// of llama.cpp at 0c1e57098, as the source package of llama-cpp-python 0.3.36 has it.
pub const SHA256: &str = "6cace709ce796b5985463ecd150925b350654c1f0b04cb4bb62e5896a658befc";

/// What to do about all that is wrong with it.
const INSTALL: &str = "install it with scripts/converter";

/// The installed converter.
#[derive(Debug, Clone)]
pub struct Converter {
    pub runtime: PathBuf,
    /// What its modules must hash to.
    pub sha256: Sha256Hex,
}

impl Converter {
    /// The one below `runtimes`.
    #[must_use]
    pub fn below(runtimes: &Path, sha256: Sha256Hex) -> Self {
        Self { runtime: runtimes.join(RUNTIME), sha256 }
    }

    /// Whether it can be run.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with all that is missing, and what to do.
    pub fn check(&self) -> Result<(), Error> {
        let faults = self.faults();
        if faults.is_empty() {
            return Ok(());
        }
        let what = format!(
            "llama.cpp's converter cannot make a GGUF of a checkpoint here: {}; {INSTALL}",
            faults.join("; ")
        );
        Err(Error::Unsupported(what))
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for name in [PYTHON, SCRIPT] {
            let path = self.runtime.join(name);
            if !path.is_file() {
                faults.push(format!("{} is not there", path.display()));
            }
        }
        if faults.is_empty() {
            match sha256(&self.runtime) {
                Err(error) => faults.push(format!("its modules cannot be read: {error}")),
                Ok(found) if found != self.sha256 => faults.push(format!(
                    "{} is another release than the one that was tried: its modules hash to \
                     {found}, not {} (STOKER_CONVERTER_SHA256 takes another one)",
                    self.runtime.display(),
                    self.sha256
                )),
                Ok(_) => {}
            }
            faults.extend(environment::converter_faults(&Found::of_runtime(&self.runtime)));
        }
        faults
    }
}

/// The hash of a converter's modules and their names.
///
/// # Errors
/// One of them cannot be read.
pub fn sha256(runtime: &Path) -> io::Result<Sha256Hex> {
    let mut modules = vec![PathBuf::from(SCRIPT)];
    for dir in MODULES {
        let found = record::files(&runtime.join(dir))?.into_iter().map(|(name, _)| name);
        let python = found.filter(|name| name.extension().is_some_and(|ending| ending == "py"));
        modules.extend(python.map(|name| Path::new(dir).join(name)));
    }
    modules.sort();
    let mut text = String::new();
    for name in modules {
        let sha256 = Sha256Hex::of(&std::fs::read(runtime.join(&name))?);
        text.push_str(&format!("{sha256}  {}\n", name.display()));
    }
    Ok(Sha256Hex::of(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A converter of nothing, in a Python that has what it needs.
    fn installed() -> (tempfile::TempDir, Converter) {
        let dir = tempfile::tempdir().unwrap();
        let runtime = dir.path().join(RUNTIME);
        for name in [PYTHON, SCRIPT, "conversion/base.py", "gguf-py/gguf/scripts/a.py"] {
            fs::create_dir_all(runtime.join(name).parent().unwrap()).unwrap();
            fs::write(runtime.join(name), name).unwrap();
        }
        let packages = ["numpy-2.2.6", "torch-2.11.0", "transformers-4.57.6"];
        let more = ["safetensors-0.7.0", "sentencepiece-0.2.1", "pyyaml-6.0"];
        for package in packages.into_iter().chain(more) {
            let info = format!("lib/python3.11/site-packages/{package}.dist-info");
            fs::create_dir_all(runtime.join(info)).unwrap();
        }
        let sha256 = sha256(&runtime).unwrap();
        (dir, Converter { runtime, sha256 })
    }

    #[test]
    fn the_pinned_release_is_a_hash() {
        assert!(Sha256Hex::try_from(SHA256.to_owned()).is_ok());
    }

    #[test]
    fn a_whole_converter_has_no_fault_and_compiled_modules_change_nothing() {
        let (_dir, converter) = installed();
        converter.check().unwrap();
        fs::write(converter.runtime.join("conversion/base.cpython-311.pyc"), "x").unwrap();
        converter.check().unwrap();
    }

    #[test]
    fn what_is_missing_or_other_is_said_with_what_to_do() {
        let said = |change: &dyn Fn(&Path)| {
            let (_dir, converter) = installed();
            change(&converter.runtime);
            converter.check().unwrap_err().to_string()
        };
        let site = "lib/python3.11/site-packages";
        let script = said(&|runtime| fs::remove_file(runtime.join(SCRIPT)).unwrap());
        assert!(script.contains("convert_hf_to_gguf.py is not there"), "{script}");
        assert!(script.ends_with("install it with scripts/converter"), "{script}");
        let other = said(&|runtime| fs::write(runtime.join("conversion/base.py"), "x").unwrap());
        assert!(other.contains("another release than the one that was tried"), "{other}");
        let torch = format!("{site}/torch-2.11.0.dist-info");
        let missing = said(&|runtime| fs::remove_dir(runtime.join(&torch)).unwrap());
        assert!(missing.contains("torch is missing in the runtime's Python: install"), "{missing}");
        let old = said(&|runtime| {
            let python = runtime.join("lib/python3.9");
            fs::rename(runtime.join("lib/python3.11"), python).unwrap();
        });
        assert!(old.contains("Python is 3.9 and must be 3.10 or later"), "{old}");
    }
}
