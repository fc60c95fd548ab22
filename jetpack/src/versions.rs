//! NVIDIA's software and its versions: JetPack, CUDA, cuDNN, TensorRT.
//!
//! JetPack is a set of packages, and the package of that name is often not
//! installed; the release of Jetson Linux says which JetPack it belongs to.

use serde::Serialize;

use crate::{L4t, Root};

const PACKAGES: &str = "var/lib/dpkg/status";
const CUDA: &str = "usr/local/cuda/version.json";

/// What is installed; `None` is not, or not told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Versions {
    /// The JetPack that the release belongs to.
    pub jetpack: Option<&'static str>,
    pub cuda: Option<String>,
    pub cudnn: Option<String>,
    pub tensorrt: Option<String>,
}

impl Versions {
    pub(crate) fn read(root: &Root, l4t: Option<L4t>) -> Self {
        let mut packages = Packages::default();
        root.each_line(PACKAGES, |line| {
            packages.line(line);
            false
        });
        packages.end();
        let Packages { cuda, cudnn, tensorrt, .. } = packages;
        let toolkit = root.read(CUDA).ok().and_then(|text| cuda_of(&text));
        Self { jetpack: l4t.and_then(jetpack), cuda: toolkit.or(cuda), cudnn, tensorrt }
    }
}

/// Which JetPack a release belongs to. A patch release that is not listed
/// belongs to the newest before it of the same minor release.
fn jetpack(l4t: L4t) -> Option<&'static str> {
    const TABLE: [((u32, u32, u32), &str); 15] = [
        ((36, 2, 0), "6.0 DP"),
        ((36, 3, 0), "6.0"),
        ((36, 4, 0), "6.1"),
        ((36, 4, 3), "6.2"),
        ((36, 4, 4), "6.2.1"),
        ((36, 5, 0), "6.2.2"),
        ((36, 5, 2), "6.2.3"),
        ((38, 2, 0), "7.0"),
        ((38, 4, 0), "7.1"),
        ((39, 0, 0), "7.2 EA"),
        ((39, 2, 0), "7.2"),
        ((39, 2, 1), "7.2.1"),
        ((35, 3, 1), "5.1.1"),
        ((35, 4, 1), "5.1.2"),
        ((35, 5, 0), "5.1.3"),
    ];
    let release = (l4t.major, l4t.minor, l4t.patch);
    TABLE
        .iter()
        .filter(|((major, minor, patch), _)| {
            (*major, *minor) == (l4t.major, l4t.minor) && *patch <= release.2
        })
        .max_by_key(|(known, _)| *known)
        .map(|(_, name)| *name)
}

/// The version of the first entry, which is the whole: an object with names and
/// versions, of which only this one matters.
fn cuda_of(json: &str) -> Option<String> {
    let (_, entry) = json.split_once("\"cuda\"")?;
    let (_, version) = entry.split_once("\"version\"")?;
    let version = version.split('"').nth(1)?;
    is_version(version).then(|| version.to_owned())
}

/// What the list of packages says, paragraph after paragraph.
#[derive(Debug, Default)]
struct Packages {
    name: String,
    version: String,
    installed: bool,
    cuda: Option<String>,
    cudnn: Option<String>,
    tensorrt: Option<String>,
}

impl Packages {
    fn line(&mut self, line: &str) {
        if line.is_empty() {
            self.end();
        } else if let Some(name) = line.strip_prefix("Package: ") {
            name.clone_into(&mut self.name);
        } else if let Some(status) = line.strip_prefix("Status: ") {
            self.installed = status.ends_with(" installed");
        } else if let Some(version) = line.strip_prefix("Version: ") {
            version.clone_into(&mut self.version);
        }
    }

    /// Of `libnvinfer10` and `libnvinfer-bin` only the first is the library.
    fn end(&mut self) {
        let numbered = |prefix: &str| {
            self.name
                .strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        let place = if numbered("libnvinfer") {
            Some(&mut self.tensorrt)
        } else if numbered("libcudnn") && !self.name.contains("-dev") {
            Some(&mut self.cudnn)
        } else if numbered("cuda-cudart-") {
            Some(&mut self.cuda)
        } else {
            None
        };
        if let Some(place) = place.filter(|_| self.installed && is_version(&self.version)) {
            *place = Some(std::mem::take(&mut self.version));
        }
        self.name.clear();
        self.version.clear();
        self.installed = false;
    }
}

fn is_version(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".+-~:".contains(c);
    (1..=64).contains(&text.len()) && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Board, tree};
    use proptest::prelude::*;

    fn versions(tree: &tree::Tree) -> Versions {
        let root = tree.root();
        Versions::read(&root, Board::read(&root).l4t)
    }

    #[test]
    fn jetpack_6_and_7_are_read() {
        let six = versions(&tree::orin_nano());
        assert_eq!((six.jetpack, six.cuda.as_deref()), (Some("6.2.2"), Some("12.6.11")));
        assert_eq!(six.cudnn.as_deref(), Some("9.3.0.75-1"));
        assert_eq!(six.tensorrt.as_deref(), Some("10.3.0.30-1+cuda12.5"));
        let seven = versions(&tree::orin_nano_jetpack_7());
        assert_eq!((seven.jetpack, seven.cuda.as_deref()), (Some("7.2"), Some("13.2.0")));
        assert_eq!((seven.cudnn, seven.tensorrt), (None, None));
        assert_eq!(versions(&tree::pc()), Versions::default());
    }

    #[test]
    fn a_patch_release_belongs_to_the_one_before_it() {
        let jetpack = |major, minor, patch| jetpack(L4t { major, minor, patch });
        assert_eq!(jetpack(36, 4, 7), Some("6.2.1"));
        assert_eq!(jetpack(36, 4, 2), Some("6.1"));
        assert_eq!((jetpack(36, 6, 0), jetpack(32, 7, 1)), (None, None));
    }

    #[test]
    fn a_package_that_was_removed_is_not_installed() {
        let tree = tree::of(&[(
            PACKAGES,
            "Package: libnvinfer10\nStatus: deinstall ok config-files\nVersion: 10.3.0\n\n\
             Package: libnvinfer-bin\nStatus: install ok installed\nVersion: 10.3.0\n\n\
             Package: cuda-cudart-12-6\nStatus: install ok installed\nVersion: 12.6.68-1\n",
        )]);
        let found = versions(&tree);
        assert_eq!((found.tensorrt, found.cuda.as_deref()), (None, Some("12.6.68-1")));
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(
            lines in prop::collection::vec("(Package: |Status: |Version: |libnvinfer|installed|[0-9.x ]|é){0,6}", 0..10),
            json in "(\"|cuda|version|:|\\{|[0-9.]){0,30}",
        ) {
            let mut packages = Packages::default();
            for line in &lines {
                packages.line(line);
            }
            packages.end();
            let _ = cuda_of(&json);
        }
    }
}
