//! How the measuring programs speak: what they print their figures as, and a
//! time left in words.

use std::time::Duration;

/// How the figures are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// Seconds up to a minute and a half, then minutes, rounded up.
#[must_use]
pub fn time_left(left: Duration) -> String {
    match left.as_secs() {
        seconds @ ..90 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_said_too_short() {
        assert_eq!(time_left(Duration::from_secs(89)), "89 s");
        assert_eq!(time_left(Duration::from_secs(91)), "2 min");
    }
}
