//! Whether the clock on the wall can be right.
//!
//! A board without a battery wakes up in 1970, or where its file system was
//! left, until somebody tells it the time.

use serde::Serialize;

use crate::Root;

/// Times in seconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Calendar {
    /// When the machine was started, by its own clock as it is now.
    pub booted_at: Option<u64>,
    /// When its Jetson Linux was released. It cannot be earlier than that.
    pub released_at: Option<u64>,
}

/// 2024-01-01: no machine that runs this program was started before.
const NO_EARLIER: u64 = 1_704_067_200;

impl Calendar {
    /// Whether the machine can have been started when it says; `None` if it does not.
    #[must_use]
    pub fn is_plausible(&self) -> Option<bool> {
        self.booted_at.map(|booted| booted >= self.released_at.unwrap_or(NO_EARLIER))
    }

    pub(crate) fn read(root: &Root) -> Self {
        let mut booted_at = None;
        root.each_line("proc/stat", |line| {
            booted_at = line.strip_prefix("btime ").and_then(|seconds| seconds.parse().ok());
            booted_at.is_some()
        });
        let released_at = root.read("etc/nv_tegra_release").ok().and_then(|text| date(&text));
        Self { booted_at, released_at }
    }
}

/// The release's `DATE: Fri Jan 16 03:50:45 UTC 2026`, to the day.
fn date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, date) = text.lines().next()?.split_once("DATE: ")?;
    let mut words = date.split_whitespace().skip(1);
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64;
    let day: u64 = words.next()?.parse().ok().filter(|day| (1..=31).contains(day))?;
    let year: u64 = words.nth(2)?.parse().ok().filter(|year| (1970..=9999).contains(year))?;
    // Years begin in March here, so that a leap day is a year's last.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    // Days from the first of March of the year 0 to the first of 1970.
    Some(days.checked_sub(719_468)? * 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;
    use proptest::prelude::*;

    #[test]
    fn a_release_s_date_is_read_to_the_day() {
        let at =
            |day: &str, year: &str| date(&format!("# R36, DATE: Fri {day} 03:50:45 UTC {year}"));
        assert_eq!(at("Jan 16", "2026"), Some(1_768_521_600));
        assert_eq!(at("Jan  8", "2025"), Some(1_736_294_400));
        assert_eq!(at("Feb 29", "2024"), Some(1_709_164_800));
        assert_eq!(at("Jan  1", "1970"), Some(0));
        assert_eq!((at("Foo 1", "2026"), at("Jan 0", "2026")), (None, None));
    }

    #[test]
    fn a_board_is_younger_than_its_release() {
        let calendar = Calendar::read(&tree::orin_nano().root());
        assert!(calendar.booted_at.unwrap() > calendar.released_at.unwrap());
        assert_eq!(Calendar::read(&tree::pc().root()), Calendar::default());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(DATE: |Jan|Feb|[0-9]{1,22}| |UTC|\n){0,12}") {
            let _ = date(&text);
            let _ = date(&format!("DATE: x {text}"));
        }
    }
}
