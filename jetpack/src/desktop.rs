//! Whether a desktop takes memory that a headless appliance could use.

use serde::Serialize;

use crate::Root;

/// Signs of a desktop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Desktop {
    /// What systemd starts, for example `graphical.target`.
    pub default_target: Option<String>,
    /// Whether a program that shows the log-in screen is to be started.
    pub display_manager: bool,
    /// Whether a display is there now.
    pub display: bool,
}

impl Desktop {
    pub(crate) fn read(root: &Root) -> Self {
        let places = ["etc/systemd/system/default.target", "usr/lib/systemd/system/default.target"];
        let target = places.into_iter().find(|place| root.has_link(place)).and_then(|place| {
            // A link to a link is an alias; the last name is the target's own.
            Some(root.follow(place).file_name()?.to_str()?.to_owned())
        });
        Self {
            default_target: target.filter(|name| name.ends_with(".target")),
            display_manager: root.has_link("etc/systemd/system/display-manager.service"),
            display: root.has("tmp/.X11-unix/X0") || root.has("tmp/.X11-unix/X1"),
        }
    }

    /// Whether one runs or will after the next boot.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        let graphical = self.default_target.as_deref() == Some("graphical.target");
        self.display || (graphical && self.display_manager)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    #[test]
    fn a_headless_board_starts_for_many_users() {
        let desktop = Desktop::read(&tree::orin_nano().root());
        assert_eq!(desktop.default_target.as_deref(), Some("multi-user.target"));
        assert!(!desktop.is_wanted());
        assert!(!Desktop::read(&tree::of(&[]).root()).is_wanted());
    }

    #[test]
    fn a_graphical_target_alone_is_no_desktop() {
        let tree = tree::of(&[]);
        tree.link("usr/lib/systemd/system/default.target", "graphical.target");
        assert!(!Desktop::read(&tree.root()).is_wanted());
        tree.link(
            "etc/systemd/system/display-manager.service",
            "/usr/lib/systemd/system/gdm.service",
        );
        assert!(Desktop::read(&tree.root()).is_wanted());
    }

    #[test]
    fn a_ring_of_links_ends() {
        let tree = tree::of(&[]);
        tree.link("etc/systemd/system/default.target", "default.target");
        assert_eq!(Desktop::read(&tree.root()).default_target.as_deref(), Some("default.target"));
    }
}
