//! Apt on an appliance: what of NVIDIA's release rewrites firmware and kernel stays as it
//! is, whatever a newer release has, and everything else is upgraded.

use tests::engine::Engine;
use tests::machine::Machine;

const HELD: [&str; 4] =
    ["nvidia-l4t-bootloader", "nvidia-l4t-core", "nvidia-l4t-kernel", "nvidia-l4t-kernel-dtbs"];
const NOT_HELD: &str = "nvidia-l4t-multimedia";

/// Installs a package of that name, and has a newer one in a repository of this machine,
/// whose files nobody fetches.
const RELEASE: &str = r#"name=$1
mkdir --parents /srv/apt /srv/tree/DEBIAN && cd /srv
cat >tree/DEBIAN/control <<END
Package: $name
Version: 36.4.3
Architecture: all
Maintainer: Ada <ada@example>
Description: a part of a release
END
dpkg-deb --build tree one.deb
dpkg --install one.deb
{
    sed 's/36\.4\.3/36.5.0/' tree/DEBIAN/control
    printf 'Filename: ./%s.deb\nSize: 1000\nSHA256: %064d\n\n' "$name" 0
} >>apt/Packages
echo 'deb [trusted=yes] file:/srv/apt ./' >/srv/sources.list"#;

/// What an upgrade that may take away packages would install.
const UPGRADE: &str = r"set -- -o Dir::Etc::SourceList=/srv/sources.list -o Dir::Etc::SourceParts=-
apt-get --quiet=2 $* update
apt-get $* --simulate full-upgrade | sed -n 's/^Inst \(nvidia[^ ]*\).*/\1/p' | LC_ALL=C sort";

fn upgraded(machine: &Machine) -> Vec<String> {
    let said = machine.must(&["sh", "-euc", UPGRADE]);
    said.lines().map(str::to_owned).collect()
}

#[test]
fn apt_leaves_firmware_and_kernel_alone_for_as_long_as_we_are_there() {
    let machine = Machine::boot_bare(&Engine::echo(), None);
    let all = [&HELD[..], &[NOT_HELD]].concat();
    for name in &all {
        let _ = machine.must(&["sh", "-euc", RELEASE, "release", name]);
    }
    assert_eq!(upgraded(&machine), all);
    let _ = machine.install(&["--appliance"]);
    assert_eq!(upgraded(&machine), [NOT_HELD]);
    let _ = machine.install(&["--uninstall"]);
    assert_eq!(upgraded(&machine), all);
}
